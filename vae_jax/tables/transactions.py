"""The ULB credit card transactions, or a table of the user's own, and their sources.

The set (Dal Pozzolo et al. 2015, https://www.kaggle.com/datasets/mlg-ulb/creditcardfraud) has the columns Time
(seconds since the first transaction), V1..V28 (principal components), Amount (euros) and Class (1 = fraud).
"""

from __future__ import annotations

import hashlib
import shlex
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from vae_jax.data.downloads import download_from_kaggle, earlier_download, local_data, network_answers
from vae_jax.data.errors import DataError
from vae_jax.tables.cells import as_texts, cells_of, typed_cells_of
from vae_jax.tables.csv_file import Places, as_numbers, parse, place_of, read_header, read_text
from vae_jax.tables.files import read_with_places
from vae_jax.tables.kinds import infer
from vae_jax.tables.own_table import OPTIONS, Reading, from_frame, without_ids
from vae_jax.tables.synthetic import simulate_transactions
from vae_jax.tables.text_numbers import NumberFormat, to_numbers

if TYPE_CHECKING:
    import pandas as pd
    from jaxtyping import Float, Int

TIME, AMOUNT, LABEL = "Time", "Amount", "Class"
FEATURES = (*(f"V{i}" for i in range(1, 29)), AMOUNT)
COLUMNS = (TIME, *FEATURES, LABEL)
FILE_NAME = "creditcard.csv"
KAGGLE_SET = "mlg-ulb/creditcardfraud"


@dataclass(frozen=True)
class Transactions:
    """A table of transactions.

    Attributes:
      features: shape (N, D), float64, in the file's units; for a table that is not all finite numbers, a frame of its
        cells as they are.
      labels: shape (N,), int64, 1 = fraud, 0 = genuine; all 0 for a table without labels.
      time: shape (N,), float64, seconds since the first transaction, NaN where there is none; the row number for a
        table of other columns.
      feature_names: the D names.
      source: description of where the rows come from.
      synthetic: whether they are simulated.
      number_format: how numbers in text are written.
      notices: sentences about the table that its user should see.
      places: where its rows are in its file; None if each line is a row.

    Examples:
      >>> import numpy as np
      >>> from vae_jax.tables.transactions import Transactions
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

    features: np.ndarray | pd.DataFrame
    labels: np.ndarray
    time: np.ndarray
    feature_names: tuple[str, ...]
    source: str
    synthetic: bool = False
    number_format: NumberFormat = field(default_factory=NumberFormat)
    notices: tuple[str, ...] = ()
    places: Places | None = None

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def in_file_order(self) -> bool:
        """Whether `time` is the row number."""
        return np.array_equal(self.time, np.arange(len(self)))

    @property
    def row_numbers(self) -> Int[np.ndarray, " N"]:
        """The rows' numbers in their file, 0 = first data row."""
        return np.arange(len(self)) if self.places is None else np.asarray(self.places.rows)

    @property
    def fingerprint(self) -> str:
        """Changes when a cell or a label does; does not depend on versions of libraries."""
        digest = hashlib.sha256()
        if isinstance(self.features, np.ndarray):
            digest.update(np.asarray(self.features, np.float64).tobytes())
        else:
            for name in self.features.columns:
                digest.update(repr([name, cells_of(self.features[name]).tolist()]).encode())
        digest.update(self.labels.tobytes())
        return digest.hexdigest()

    def codes(self) -> Float[np.ndarray, "N C"]:
        """Numbers that are equal where two rows have equal cells, without columns that only tell rows apart."""
        if isinstance(self.features, np.ndarray):
            return self.features
        from pandas import factorize

        cells = {name: typed_cells_of(self.features[name]) for name in self.features.columns}
        kept = [of for name, of in cells.items() if infer(str(name), of, self.number_format).kind != "id"]
        equal = [as_texts(of) if of.dtype == object else of for of in kept or cells.values()]
        return np.column_stack([factorize(of)[0] for of in equal]).astype(np.float64)


def load_transactions(
    source: str = "auto",
    keep_time: bool = False,
    seed: int = 0,
    label: str | None = None,
    drop: Sequence[str] = (),
    reading: Reading | None = None,
) -> Transactions:
    """Finds and reads transactions.

    A file without the ULB set's columns, or with some of them dropped, is a table of the user's own: every column is a
    feature except the label and the dropped ones.

    Args:
      source: `auto`, `kaggle`, `synthetic`, or the path of a file, see `files.read_frame`. `auto` takes the first of
        `$VAE_JAX_DATA/creditcard/creditcard.csv`, `data/creditcard/creditcard.csv`, a download from Kaggle and, if no
        network answers within a few seconds, the simulated set.
      keep_time: whether the ULB set's Time is one of the features.
      seed: seed of the simulated set.
      label: label column of a file; None for the ULB set's or for no labels.
      drop: columns of a file to leave out.
      reading: how to read a file; `label` and `drop` go first.

    Returns:
      The table.

    Raises:
      DataError: if the source is missing or can't be used.

    Examples:
      >>> from vae_jax.tables.transactions import load_transactions
      >>> transactions = load_transactions("synthetic")
      >>> transactions.features.shape, transactions.feature_names[-1]
      ((50000, 29), 'Amount')
    """
    reading = reading or Reading()
    reading = replace(reading, label=reading.label if label is None else label, drop=(*drop, *reading.drop))
    if source in ("auto", "kaggle", "synthetic"):
        _refuse_reading(reading)
    if source == "synthetic":
        return _from_frame(simulate_transactions(seed), "the built-in simulated set", keep_time, synthetic=True)
    if source == "kaggle":
        return _read(_download(), keep_time, "Kaggle: ")
    if source != "auto":
        return _read(Path(source), keep_time, reading=reading)
    if path := local_data(f"creditcard/{FILE_NAME}"):
        return _read(path, keep_time)
    if earlier_download(KAGGLE_SET) or network_answers():
        return _read(_download(), keep_time, "Kaggle: ")
    return load_transactions("synthetic", keep_time, seed)


def _read(path: Path, keep_time: bool, prefix: str = "", reading: Reading | None = None) -> Transactions:
    reading = reading or Reading()
    if reading == Reading(label=reading.label, drop=reading.drop):
        found = _read_numbers(path, keep_time, prefix, reading)
        if found is not None:
            return found
    frame, notices, places = read_with_places(path, reading.encoding, reading.drop)
    times = None
    if _is_ulb((*frame.columns, *reading.drop)):
        reading = _as_ulb(reading, frame.columns)
        if TIME in frame.columns:
            times = frame[TIME]
            frame = frame if keep_time else frame.drop(columns=TIME)
    elif keep_time:
        raise DataError(f"--keep-time: {path} has other columns than the credit card set; all of them are kept anyway")
    found = from_frame(path, frame, reading, places)
    if times is None:
        seconds = np.arange(len(frame), dtype="float64")
    else:
        seconds = _seconds(typed_cells_of(times, finite=False), found.number_format)
    return Transactions(
        found.features,
        found.labels,
        seconds,
        found.names,
        f"{prefix}{path}",
        number_format=found.number_format,
        notices=(*notices, *found.notices),
        places=places,
    )


def _seconds(cells: np.ndarray, number_format: NumberFormat) -> np.ndarray:
    """Cells as points in time, NaN where there is none."""
    if cells.dtype == object:
        return to_numbers(cells, number_format)[0]
    return np.where(np.isnan(cells), np.nan, cells.astype("float64"))


def _read_numbers(path: Path, keep_time: bool, prefix: str, reading: Reading) -> Transactions | None:
    """Reads a CSV file of finite numbers alone, which is fast; None for any other."""
    try:
        text = read_text(path)
        names = read_header(path, text)[0]
        if _is_ulb(names):
            is_exactly = set(names) == set(COLUMNS)
            if reading == Reading() or (reading == Reading(label=LABEL) and is_exactly):
                return _from_frame(_ulb_frame(path, text), f"{prefix}{path}", keep_time)
            reading = _as_ulb(reading, names)
        elif keep_time:
            return None
        frame, labels = _table(path, text, reading.label, reading.drop)
    except _ColumnsError:
        raise
    except DataError:
        return None
    columns = {str(name): column.to_numpy("float64") for name, column in frame.items()}
    time = np.arange(len(labels), dtype="float64")
    if _is_ulb(names) and TIME in columns:
        time = columns[TIME] if keep_time else columns.pop(TIME)
    numbers, notices = without_ids(columns)
    features = np.column_stack(list(numbers.values()))
    return Transactions(features, labels, time, tuple(numbers), f"{prefix}{path}", notices=notices)


def _as_ulb(reading: Reading, names: Iterable[str]) -> Reading:
    """The ULB set's label, for a file with some of its columns dropped or with other cells."""
    label = LABEL if reading.label is None and LABEL in names and LABEL not in reading.drop else reading.label
    return replace(reading, label=label)


def _refuse_reading(reading: Reading) -> None:
    """Refuses options about a file where there is none."""
    options = {"drop": reading.drop, "label": reading.label, "anomaly": reading.anomaly, "encoding": reading.encoding}
    options |= {"decimal": reading.decimal, "thousands": reading.thousands}
    options |= {OPTIONS.get(kind, kind): name for name, kind in reading.columns.items()}
    for name, value in options.items():
        if value:
            shown = value[0] if isinstance(value, tuple) else value
            raise DataError(f"--{name} {shown}: for a file of one's own; name it by --data")


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

    Args:
      path: the file, separated by commas, semicolons or tabs, quoted or not; gzip and zip are detected by content.

    Returns:
      A frame with the columns `COLUMNS` in that order, all numbers finite, Class 0 or 1.

    Raises:
      DataError: for anything else; names the file and, for a bad cell, its row (0 = first row of data) and column.

    Examples:
      >>> import tempfile
      >>> from pathlib import Path
      >>> from vae_jax.tables.synthetic import simulate_transactions
      >>> from vae_jax.tables.transactions import read_csv
      >>> with tempfile.TemporaryDirectory() as folder:
      ...     path = Path(folder, "mine.csv")
      ...     simulate_transactions(rows=10).to_csv(path, index=False)
      ...     frame = read_csv(path)
      >>> frame.shape
      (10, 31)
    """
    return _ulb_frame(Path(path), read_text(Path(path)))


def _ulb_frame(path: Path, text: str) -> pd.DataFrame:
    import pandas as pd

    names, separator = read_header(path, text)
    _check_columns(path, names)
    frame = parse(path, text, names, separator)
    frame = pd.DataFrame({name: as_numbers(path, frame[name]) for name in COLUMNS})
    _check_labels(path, pd.Series(frame[LABEL], name=LABEL))
    return frame


def read_table(
    path: str | Path, label: str | None = None, drop: Sequence[str] = ()
) -> tuple[pd.DataFrame, Int[np.ndarray, " N"]]:
    """Reads numeric features and int64 labels (1 = fraud, 0 = genuine) from a file in the formats of `read_csv`.

    `label` names the label column; without one all labels are 0. Columns in `drop` are left out. DataError names the
    file and the column, and says what to do about a column that is not numeric.
    """
    return _table(Path(path), read_text(Path(path)), label, drop)


def _table(path: Path, text: str, label: str | None, drop: Sequence[str]) -> tuple[pd.DataFrame, np.ndarray]:
    import pandas as pd

    names, separator = read_header(path, text)
    left_out = [*drop, *([label] if label is not None else [])]
    for option, wanted in (("--label", left_out[len(drop) :]), ("--drop", drop)):
        if unknown := [name for name in wanted if name not in names]:
            raise DataError(f"{path}: {option} {unknown[0]}: no such column; there are {', '.join(names[:40])}")
    features = [name for name in names if name not in left_out]
    if not features:
        raise DataError(f"{path}: no column is left to be a feature")
    if "" in features:
        place = names.index("") + 1
        raise DataError(f"{path}: column {place} of {len(names)} has no name; name it, or leave it out with --drop ''")
    frame = parse(path, text, names, separator)
    advice = "; turn it into numbers, for example a column of 0 and 1 for each value, or leave it out with --drop"
    numbers = pd.DataFrame({name: as_numbers(path, frame[name], f"{advice} {shlex.quote(name)}") for name in features})
    if label is None:
        return numbers, np.zeros(len(frame), np.int64)
    converted = frame[label].replace({"True": 1, "true": 1, "False": 0, "false": 0, True: 1, False: 0})
    labels = pd.Series(as_numbers(path, converted), name=label)
    _check_labels(path, labels)
    return numbers, labels.to_numpy("int64")


def _check_labels(path: Path, column: pd.Series) -> None:
    labels = column.to_numpy()
    bad = (labels != 0) & (labels != 1)
    if bad.any():
        row = int(bad.argmax())
        raise DataError(f"{path}: {place_of(row, column.name)}: {labels[row]:g} is neither 0 (genuine) nor 1 (fraud)")


def _is_ulb(names: Iterable[str]) -> bool:
    """Whether a file is meant to be the ULB set, perhaps with columns missing, rather than another table."""
    return len(set(names) & set(COLUMNS)) > len(COLUMNS) / 2


class _ColumnsError(DataError):
    """A file that is meant to be the ULB set, but has other columns."""


def _check_columns(path: Path, names: list[str]) -> None:
    missing = [name for name in COLUMNS if name not in names]
    extra = [name for name in names if name not in COLUMNS]
    problems = [
        f"{word} {', '.join(repr(name) for name in found[:5])}{' …' if len(found) > 5 else ''}"
        for word, found in (("missing", missing), ("unexpected", extra))
        if found
    ]
    if problems:
        label = LABEL if LABEL in names else "COLUMN"
        raise _ColumnsError(f"{path}: column {', '.join(problems)}; as a table of its own: --label {label}")
