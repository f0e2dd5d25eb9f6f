"""What the parsers of the text formats share: many rows at once with Arrow, or row by row."""

from __future__ import annotations

import codecs
import math
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from typing import Any, NamedTuple, Protocol

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.csv as arrow_csv

from experiments.command_line import UsageError
from experiments.score.tables import Columns
from vae_jax.tables.arrow import pc, use_threads

LINE_END = ord("\n")
MOST_SKIPPED = 1_000  # rows of another number of cells, each of which takes time; a text with more is cut in halves
LONGEST_ROW = 8 << 20  # largest size of a row in bytes, so that memory is bounded


class Record(NamedTuple):
    """A row read on its own.

    Attributes:
      line: where it begins, 0 = first line of its piece.
      text: as in the file.
      cells: by column; empty if there is a problem.
      problem: what is wrong with the row as a whole.
    """

    line: int
    text: str
    cells: dict[str, Any]
    problem: str = ""


class Parsed(NamedTuple):
    """Rows parsed at once, N of them.

    Attributes:
      rows: their numbers, 0 = first row of the text, shape (N,), int64.
      left: numbers of the other rows, which have to be read on their own, rising, int64.
      features: shape (N, D), float64, NaN for a gap, and infinity for what is no number.
      copied: the N values of each copied column.
    """

    rows: np.ndarray
    left: np.ndarray
    features: np.ndarray
    copied: dict[str, list]

    def without(self, odd: np.ndarray) -> Parsed:
        """Leaves more rows: those for which `odd`, bool of shape (N,), is True."""
        if not odd.any():
            return self
        kept = np.flatnonzero(~odd)
        copied = {name: [values[i] for i in kept] for name, values in self.copied.items()}
        return Parsed(self.rows[kept], np.union1d(self.left, self.rows[odd]), self.features[kept], copied)


class Parser(Protocol):
    """What differs between the formats."""

    def last_row_end(self, text: bytes) -> int:
        """Returns where the last whole row ends; 0 if there is none."""
        ...

    def lines(self, text: bytes) -> list[bytes] | None:
        """Splits a text into lines of one row each, b"" for blank ones; None if a row may have several lines."""
        ...

    def parse(self, text: bytes) -> Parsed:
        """Parses rows of plain numbers at once; raises ValueError (pa.ArrowInvalid is one) if it can't."""
        ...

    def parse_cells(self, text: bytes) -> tuple[pd.DataFrame, np.ndarray]:
        """Parses rows at once without converting features; raises as `parse` does.

        Returns their cells, and the numbers of the rows left.
        """
        ...

    def records(self, text: str) -> Iterator[Record]:
        """Reads rows one by one."""
        ...


def read_csv(
    parser: Parser, text: bytes, names: Sequence[str], types: Mapping[str, pa.DataType], **options: Any
) -> tuple[pa.Table, np.ndarray]:
    """Reads rows that have a cell for each name, only columns with types; also returns the numbers of the other rows.

    Text must be UTF-8. No word stands for a missing cell.

    Raises ValueError, or pa.ArrowInvalid, which is one, if it can't be read, has too many others or none but those.
    """
    skipped: list[bytes] = []

    def skip(row: Any) -> str:
        skipped.append(row.text.encode())
        return "skip" if len(skipped) <= MOST_SKIPPED else "error"

    if text.startswith(codecs.BOM_UTF8):  # not the file's, and Arrow drops one
        text = codecs.BOM_UTF8 + text
    table = arrow_csv.read_csv(
        pa.BufferReader(text),
        arrow_csv.ReadOptions(column_names=names, use_threads=use_threads(text)),
        arrow_csv.ParseOptions(invalid_row_handler=skip, **options),
        arrow_csv.ConvertOptions(column_types=types, include_columns=list(types), null_values=[], check_utf8=False),
    )
    if not len(table):
        raise ValueError("no row with a cell for each name")
    table = table.combine_chunks()
    if not skipped:
        return table, np.arange(0)
    lines = parser.lines(text) or []
    sizes = sizes_of(lines)
    alike = np.isin(sizes, sizes_of(skipped)).nonzero()[0]  # comparing sizes first is faster
    texts = set(skipped)
    left = np.array([i for i in alike if lines[i] in texts], np.int64)
    if len(left) != len(skipped):
        raise ValueError("some rows are not lines")
    return table, np.searchsorted(sizes.nonzero()[0], left)


def sizes_of(lines: Sequence[bytes]) -> np.ndarray:
    """Number of bytes of each line."""
    return np.fromiter(map(len, lines), np.int64, len(lines))


def rows_but(left: np.ndarray, others: int) -> np.ndarray:
    """Numbers of so many rows, other than those left."""
    return np.delete(np.arange(others + len(left)), left)


def floats(
    cells: pa.ChunkedArray, number: str, gaps: Collection[str], sure: Callable[[], bool] = lambda: True
) -> np.ndarray:
    """Converts text to numbers.

    Args:
      cells: N of them.
      number: a regular expression of a number.
      gaps: words for a missing one.
      sure: tells whether all that Arrow takes for numbers are some; False if that is not sure.

    Returns:
      float64 of shape (N,): NaN for a gap, and infinity for what is neither that nor a number.
    """
    if sure():
        try:
            numbers = cells.cast(pa.float64()).to_numpy()
            if np.isfinite(numbers).all():
                return numbers
        except pa.ArrowInvalid:
            pass
    cells = pc.utf8_trim(cells, " \t")
    plain = pc.match_substring_regex(cells, number)
    gap = pc.is_in(cells, pa.array(gaps, pa.string())).to_numpy()
    numbers = pc.if_else(plain, cells, None).cast(pa.float64()).to_numpy().copy()
    numbers[~plain.to_numpy() & ~gap] = np.inf
    return numbers


def cells_frame(records: Sequence[Record], columns: Columns) -> pd.DataFrame:
    """The cells of rows as they are."""
    shape = len(records), len(columns.all)
    cells = np.fromiter(
        (record.cells.get(name) for record in records for name in columns.all), object, math.prod(shape)
    )
    return pd.DataFrame(cells.reshape(shape), columns=list(columns.all), dtype=object)


def check_columns(name: str, names: Sequence[str], columns: Columns) -> None:
    """Refuses a file that lacks or repeats a column, in one line that names the file and some of the columns."""
    there = set(names)
    if not there & set(columns.features):
        raise UsageError(f"{name}: none of the model's columns {_listed(columns.features)}")
    missing = [column for column in columns.all if column not in there]
    # Several may have no name, such as those behind a separator at the end of each line.
    repeated = [column for column, count in Counter(names).items() if column and count > 1]
    for word, found in (("missing", missing), ("repeated", repeated)):
        if found:
            raise UsageError(f"{name}: column {word}: {_listed(found)}")


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")
