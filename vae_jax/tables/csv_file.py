"""Reads CSV files and checks their text, header and cells."""

from __future__ import annotations

import csv
import io
import zipfile
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from vae_jax.data.errors import DataError, first_line
from vae_jax.data.unpacking import DAMAGE, check_size, gunzip, unzip

if TYPE_CHECKING:
    import pandas as pd

LARGEST_CELL = 1e30  # a larger number is taken for damage; its square would overflow float32
LONGEST_NAME = 10_000  # characters; a longer name of a column is no name


class Places(NamedTuple):
    """Where the rows of a table are in its file, if they are not one in each line below the header.

    Attributes:
      rows: their numbers, 0 = first data row. As in `score` and in pandas, lines of separators alone count, and blank
        ones don't.
      lines: the lines where they begin, 1 = the first of the file or sheet; empty if it has no lines.
    """

    rows: Sequence[int]
    lines: Sequence[int]


def read_text(path: Path) -> str:
    """Returns a file's text, decompressing gzip and zip."""
    content = unpack(path, read_bytes(path), (".csv",))
    if not content.strip():
        raise DataError(f"{path}: the file is empty")
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError:
        text = "\0"
    if "\0" in text:
        raise DataError(f"{path}: not a text file")
    # Trailing blank lines are harmless; line ends may be those of Windows or the old Macintosh.
    return text.replace("\r\n", "\n").replace("\r", "\n").rstrip("\n") + "\n"


def read_bytes(path: Path) -> bytes:
    """Returns a file's content; raises DataError if it can't be read."""
    try:
        return path.read_bytes()
    except FileNotFoundError:
        raise DataError(f"{path}: no such file") from None
    except OSError as error:
        raise DataError(f"{path}: can't be read ({error.strerror})") from None


def unpack(path: Path, content: bytes, suffixes: tuple[str, ...], kept: str = "") -> bytes:
    """Decompresses gzip and the only table in a zip, which has one of `suffixes`; a zip with `kept` in it stays."""
    try:
        if content[:2] == b"\x1f\x8b":
            return gunzip(content)
        if content[:2] == b"PK":
            with zipfile.ZipFile(io.BytesIO(content)) as archive:
                if kept in archive.namelist():
                    check_size(content, archive)
                    return content
                return unzip(content, archive, _only_table(archive.namelist(), suffixes))
    except DataError as error:
        raise DataError(f"{path}: {error}") from None
    except DAMAGE as error:
        raise DataError(f"{path}: damaged, truncated or unsupported archive ({error})") from None
    return content


def _only_table(names: list[str], suffixes: tuple[str, ...]) -> str:
    members = [name for name in names if name.lower().endswith(suffixes) and "__MACOSX" not in name]
    members = [name for name in members if name.lower().endswith(".csv")] or members  # there may be a readme.txt
    if len(members) != 1:
        raise DataError(f"expected one .csv file in the zip, found {len(members)}")
    return members[0]


def read_header(path: Path, text: str) -> tuple[list[str], str]:
    """Returns the column names and the separator: the most frequent of comma, semicolon and tab."""
    header = text.partition("\n")[0]
    separator = max(",;\t", key=header.count)
    try:
        names = [name.strip() for name in next(csv.reader([header], delimiter=separator), [])]
    except csv.Error:
        names = []
    if not any(names) or all(map(is_number, names)) or max(map(len, names)) > LONGEST_NAME:
        raise DataError(f"{path}: no header with the names of the columns in the first line")
    if found := repeated(names):
        raise DataError(f"{path}: column repeated {', '.join(map(repr, found[:5]))}")
    return names, separator


def repeated(names: Sequence[str]) -> list[str]:
    """The names that are there more than once, in order."""
    return sorted(name for name, count in Counter(names).items() if count > 1)


def is_number(word: str) -> bool:
    """Whether Python reads a word as a number, also as infinity or NaN."""
    try:
        float(word)
    except ValueError:
        return False
    return True


def parse(path: Path, text: str, names: list[str], separator: str) -> pd.DataFrame:
    """Parses all cells, keeping those that are not numbers as text."""
    import pandas as pd

    rows = text.partition("\n")[2]
    # Before 3.1, pandas got last digits of long numbers wrong unless asked; since then, asking is deprecated.
    older = tuple(map(int, pd.__version__.split(".")[:2])) < (3, 1)
    exact: dict[str, Any] = {"float_precision": "round_trip"} if older else {}
    try:
        frame = pd.read_csv(
            io.StringIO(text),
            sep=separator,
            header=None,
            skiprows=1,
            skip_blank_lines=False,  # so that a row's number is its place in the file
            keep_default_na=False,
            low_memory=False,
            **exact,
        )
    except pd.errors.EmptyDataError:
        raise DataError(
            f"{path}: {place_of(0, names[0]) + ': blank' if rows.strip() else 'a header, but no rows'}"
        ) from None
    except (pd.errors.ParserError, ValueError) as error:
        raise DataError(f"{path}: {first_line(error)}") from None
    if frame.shape[1] != len(names):
        raise DataError(f"{path}: the header names {len(names)} columns, the rows have {frame.shape[1]}")
    return frame.set_axis(names, axis="columns")


def as_numbers(path: Path, column: Any, advice: str = "") -> np.ndarray:
    """Returns a column as float64; raises DataError for its first bad cell, with `advice` if it is not a number."""
    import pandas as pd

    numbers = np.asarray(pd.to_numeric(column, errors="coerce"), np.float64)
    bad = ~(np.abs(numbers) <= LARGEST_CELL)  # also true for NaN
    if bad.any():
        row = int(bad.argmax())
        cell: Any = column.iloc[row]
        blank = pd.isna(cell) or not str(cell).strip()
        hint = "blank (is the file truncated?)" if blank and row == len(column) - 1 else "blank"
        beyond = np.isfinite(numbers[row])
        wrong = f"is beyond ±{LARGEST_CELL:g}" if beyond else f"is not a finite number{advice}"
        what = hint if blank else f"{str(cell)[:40]!r} {wrong}"
        raise DataError(f"{path}: {place_of(row, column.name)}: {what}")
    return numbers


def place_of(row: int, column: Any, places: Places | None = None) -> str:
    """Describes a cell's position; without `places`, each line is a row."""
    if places is None:
        return f"row {row} (line {row + 2}), column {column}"
    line = f" (line {places.lines[row]})" if len(places.lines) else ""
    return f"row {places.rows[row]}{line}, column {column}"
