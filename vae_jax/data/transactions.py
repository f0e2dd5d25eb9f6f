"""The ULB credit card transactions: a checked reader of their CSV, and the sources it may come from.

The set (Dal Pozzolo et al. 2015, https://www.kaggle.com/datasets/mlg-ulb/creditcardfraud) has the columns Time
(seconds since the first transaction), V1..V28 (principal components), Amount (euros) and Class (1 = fraud).
"""

from __future__ import annotations

import csv
import gzip
import io
import os
import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from vae_jax.data.downloads import download_from_kaggle, network_answers
from vae_jax.data.errors import DataError
from vae_jax.data.synthetic import simulate_transactions

if TYPE_CHECKING:
    import pandas as pd

TIME, AMOUNT, LABEL = "Time", "Amount", "Class"
FEATURES = (*(f"V{i}" for i in range(1, 29)), AMOUNT)
COLUMNS = (TIME, *FEATURES, LABEL)

FILE_NAME = "creditcard.csv"
KAGGLE_SET = "mlg-ulb/creditcardfraud"
LARGEST_CELL = 1e30  # the square of a larger number is infinite in float32, and its standard deviation in float64


@dataclass(frozen=True)
class Transactions:
    """A table of transactions.

    Attributes:
      features: shape (N, D), float64, in the file's units.
      labels: shape (N,), int64, 1 = fraud, 0 = genuine.
      time: shape (N,), float64, seconds since the first transaction.
      feature_names: the D names.
      source: where the rows come from, in words for a person.
      synthetic: whether they are simulated.

    Examples:
      >>> import numpy as np
      >>> from vae_jax.data.transactions import Transactions
      >>> mine = Transactions(
      ...     features=np.zeros((4, 2)),
      ...     labels=np.array([0, 0, 0, 1]),
      ...     time=np.arange(4.0),
      ...     feature_names=("amount", "age"),
      ...     source="made up",
      ... )
      >>> len(mine)
      4
    """

    features: np.ndarray
    labels: np.ndarray
    time: np.ndarray
    feature_names: tuple[str, ...]
    source: str
    synthetic: bool = False

    def __len__(self) -> int:
        return len(self.labels)


def load_transactions(source: str = "auto", keep_time: bool = False, seed: int = 0) -> Transactions:
    """Finds and reads the transactions.

    Args:
      source: `auto`, `kaggle`, `synthetic`, or the path of a CSV file (plain, gzip or zip). `auto` takes the first of
        `$VAE_JAX_DATA/creditcard/creditcard.csv`, `data/creditcard/creditcard.csv`, a download from Kaggle, and, where
        no network answers within some seconds, the simulated set.
      keep_time: whether Time is one of the features.
      seed: seed of the simulated set.

    Returns:
      The table.

    Raises:
      DataError: if the source is missing or can't be used.

    Examples:
      >>> from vae_jax.data.transactions import load_transactions
      >>> transactions = load_transactions("synthetic")
      >>> transactions.features.shape, transactions.feature_names[-1]
      ((50000, 29), 'Amount')
    """
    if source == "synthetic":
        return _from_frame(simulate_transactions(seed), "the built-in simulated set", keep_time, synthetic=True)
    if source == "kaggle":
        return _read(_download(), keep_time, "Kaggle: ")
    if source != "auto":
        return _read(Path(source), keep_time)
    folders = [Path(os.environ["VAE_JAX_DATA"])] if os.environ.get("VAE_JAX_DATA") else []
    for folder in [*folders, Path("data")]:
        path = folder / "creditcard" / FILE_NAME
        if path.exists():
            return _read(path, keep_time)
    if network_answers():
        return _read(_download(), keep_time, "Kaggle: ")
    return load_transactions("synthetic", keep_time, seed)


def _read(path: Path, keep_time: bool, prefix: str = "") -> Transactions:
    return _from_frame(read_csv(path), f"{prefix}{path}", keep_time)


def _from_frame(frame: pd.DataFrame, source: str, keep_time: bool, synthetic: bool = False) -> Transactions:
    names = (TIME, *FEATURES) if keep_time else FEATURES
    return Transactions(
        features=frame[list(names)].to_numpy("float64"),
        labels=frame[LABEL].to_numpy("int64"),
        time=frame[TIME].to_numpy("float64"),
        feature_names=names,
        source=source,
        synthetic=synthetic,
    )


def _download() -> Path:
    return download_from_kaggle(KAGGLE_SET, f"PATH/{FILE_NAME}") / FILE_NAME


def read_csv(path: str | Path) -> pd.DataFrame:
    """Reads and checks a file of transactions.

    Commas or semicolons, quoted or not; gzip and zip are recognised by content.

    Args:
      path: the file.

    Returns:
      A frame with the columns `COLUMNS` in that order, all numbers finite, Class 0 or 1.

    Raises:
      DataError: for anything else; names the file and, for a bad cell, its row (0 = first row of data) and column.

    Examples:
      >>> import tempfile
      >>> from pathlib import Path
      >>> from vae_jax.data.synthetic import simulate_transactions
      >>> from vae_jax.data.transactions import read_csv
      >>> with tempfile.TemporaryDirectory() as folder:
      ...     path = Path(folder, "mine.csv")
      ...     simulate_transactions(rows=10).to_csv(path, index=False)
      ...     frame = read_csv(path)
      >>> frame.shape
      (10, 31)
    """
    import pandas as pd

    path = Path(path)
    text = _text(path)
    header = text.partition("\n")[0]
    separator = ";" if header.count(";") > header.count(",") else ","
    try:
        names = [name.strip() for name in next(csv.reader([header], delimiter=separator), [])]
    except csv.Error:
        names = []
    _check_columns(path, names)
    frame = _parse(path, text, names, separator)
    frame = pd.DataFrame({name: _numbers(path, frame[name]) for name in COLUMNS})
    labels = frame[LABEL].to_numpy()
    bad_class = (labels != 0) & (labels != 1)
    if bad_class.any():
        row = int(bad_class.argmax())
        raise DataError(f"{path}: {_where(row, LABEL)}: {labels[row]:g} is neither 0 (genuine) nor 1 (fraud)")
    return frame


def _text(path: Path) -> str:
    """Returns a file's text, unpacked where it is a gzip or a zip."""
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        raise DataError(f"{path}: no such file") from None
    except OSError as error:
        raise DataError(f"{path}: can't be read ({error.strerror})") from None
    try:
        if content[:2] == b"\x1f\x8b":
            content = gzip.decompress(content)
        elif content[:2] == b"PK":
            content = _only_csv(path, content)
    except DataError:
        raise
    except (OSError, EOFError, ValueError, RuntimeError, zlib.error, zipfile.BadZipFile) as error:
        raise DataError(f"{path}: damaged, truncated or unsupported archive ({error})") from None
    if not content.strip():
        raise DataError(f"{path}: the file is empty")
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError:
        text = "\0"
    if "\0" in text:
        raise DataError(f"{path}: not a text file")
    # Blank lines at the end are harmless; line ends may be Windows's or the old Macintosh's.
    return text.replace("\r\n", "\n").replace("\r", "\n").rstrip("\n") + "\n"


def _only_csv(path: Path, content: bytes) -> bytes:
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        members = [name for name in archive.namelist() if name.lower().endswith(".csv") and "__MACOSX" not in name]
        if len(members) != 1:
            raise DataError(f"{path}: expected one .csv file in the zip, found {len(members)}")
        return archive.read(members[0])


def _check_columns(path: Path, names: list[str]) -> None:
    repeated = sorted({name for name in names if names.count(name) > 1})
    missing = [name for name in COLUMNS if name not in names]
    extra = [name for name in names if name not in COLUMNS]
    if len(missing) == len(COLUMNS):
        raise DataError(
            f"{path}: no header with the columns {COLUMNS[0]}, V1..V28, {AMOUNT}, {LABEL} in the first line"
        )
    problems = [
        f"{word} {', '.join(repr(name) for name in found[:5])}{' …' if len(found) > 5 else ''}"
        for word, found in (("repeated", repeated), ("missing", missing), ("unexpected", extra))
        if found
    ]
    if problems:
        raise DataError(f"{path}: column {', '.join(problems)}")


def _parse(path: Path, text: str, names: list[str], separator: str) -> pd.DataFrame:
    import pandas as pd

    rows = text.partition("\n")[2]
    try:
        frame = pd.read_csv(
            io.StringIO(text),
            sep=separator,
            header=None,
            skiprows=1,
            skip_blank_lines=False,  # so that a row's number is also its place in the file
            keep_default_na=False,
            low_memory=False,
        )
    except pd.errors.EmptyDataError:
        raise DataError(
            f"{path}: {_where(0, names[0]) + ': blank' if rows.strip() else 'a header, but no rows'}"
        ) from None
    except (pd.errors.ParserError, ValueError) as error:
        raise DataError(f"{path}: {str(error).splitlines()[0]}") from None
    if frame.shape[1] != len(names):
        raise DataError(f"{path}: the header names {len(names)} columns, the rows have {frame.shape[1]}")
    return frame.set_axis(names, axis="columns")


def _numbers(path: Path, column: Any) -> np.ndarray:
    """Returns a column as float64 within bounds, or names its first bad cell."""
    import pandas as pd

    numbers = np.asarray(pd.to_numeric(column, errors="coerce"), np.float64)
    bad = ~(np.abs(numbers) <= LARGEST_CELL)  # true for NaN, too
    if bad.any():
        row = int(bad.argmax())
        cell: Any = column.iloc[row]
        blank = pd.isna(cell) or not str(cell).strip()
        hint = "blank (is the file truncated?)" if blank and row == len(column) - 1 else "blank"
        wrong = f"is beyond ±{LARGEST_CELL:g}" if np.isfinite(numbers[row]) else "is not a finite number"
        what = hint if blank else f"{str(cell)[:40]!r} {wrong}"
        raise DataError(f"{path}: {_where(row, column.name)}: {what}")
    return numbers


def _where(row: int, column: Any) -> str:
    return f"row {row} (line {row + 2}), column {column}"
