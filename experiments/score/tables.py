"""What reading and writing tables share: formats, columns and blocks of rows."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple, TypeVar

import numpy as np
import pandas as pd
import pyarrow as pa

from experiments.command_line import UsageError
from vae_jax.tables.csv_file import LARGEST_CELL
from vae_jax.tables.scaling import Scaler
from vae_jax.tables.schema import Schema
from vae_jax.tables.text_numbers import NumberFormat

Format = Literal["csv", "parquet", "jsonl"]
InputFormat = Literal["csv", "parquet", "jsonl", "xlsx"]
F = TypeVar("F", bound=str)

NO_CELL = "none of the model's columns has a cell"  # whatever a model says of nothing is no score
PIPE = "-"  # stands for standard input and output
SUFFIXES: dict[str, Format] = {
    ".csv": "csv",
    ".csv.gz": "csv",
    ".jsonl": "jsonl",
    ".jsonl.gz": "jsonl",
    ".ndjson": "jsonl",
    ".ndjson.gz": "jsonl",
    ".parquet": "parquet",
}
INPUT_SUFFIXES: dict[str, InputFormat] = {**SUFFIXES, ".xlsx": "xlsx"}


def format_of(option: str, path: str, chosen: F | None, remedy: str, suffixes: Mapping[str, F]) -> F:
    """Returns the format `chosen`, or else the one that the file name implies; csv for a pipe.

    Raises UsageError, with `option` and `remedy` in it, if the name implies none.
    """
    if chosen or path == PIPE:
        return chosen or suffixes[".csv"]
    for suffix, named in suffixes.items():
        if Path(path).name.lower().endswith(suffix):
            return named
    raise UsageError(f"{option} {path}: its name ends in none of {', '.join(suffixes)}; {remedy}")


class BrokenRow(NamedTuple):
    """A row that can't be scored.

    Attributes:
      row: its number, 0 = first row of data.
      line: where it begins, 1 = first line of the file; None in a Parquet file.
      reason: what is wrong with it.
      text: as in the file; None in a Parquet file.
    """

    row: int
    line: int | None
    reason: str
    text: str | None


OnBroken = Callable[[list[BrokenRow]], None]  # called in order; may raise, to stop


@dataclass(frozen=True)
class Columns:
    """Which columns are read, and how features become numbers.

    Attributes:
      features: those that a model sees.
      kept: those to copy; a feature among numbers alone is copied as its number.
      reader: the schema of a table of other columns, or the standardisation of numbers alone, by default plain ones.
    """

    features: tuple[str, ...]
    kept: tuple[str, ...] = ()
    reader: Scaler | Schema | None = None

    @property
    def schema(self) -> Schema | None:
        """None for numbers alone."""
        return self.reader if isinstance(self.reader, Schema) else None

    @property
    def number_format(self) -> NumberFormat:
        """How numbers in text are written."""
        return self.reader.number_format if self.reader else NumberFormat()

    def decimal_of(self, name: str) -> str:
        """The decimal sign of a column's numbers; a point where they are words."""
        reads_numbers = name in self.features and (self.schema is None or self.schema[name].reads_numbers)
        return self.number_format.decimal if reads_numbers else "."

    def copied_type(self, name: str) -> pa.DataType:
        """Arrow type of a copied column that has none of its own."""
        return pa.float64() if name in self.features and not self.schema else pa.string()

    @property
    def copied(self) -> tuple[str, ...]:
        """Names of the columns copied unchanged."""
        return tuple(name for name in self.kept if name not in self.features)

    @property
    def all(self) -> tuple[str, ...]:
        """All names, without duplicates."""
        return (*self.features, *self.copied)


@dataclass(frozen=True)
class Block:
    """Some rows, none of them broken.

    Attributes:
      rows: their numbers, shape (N,), int64; a broken row keeps its number, so there may be gaps.
      features: shape (N, D), float64, NaN for a gap; or shape (N, P), float32, as a schema makes them.
      kept: the N values of each copied column.
      cells: with a schema, a frame of the features' cells as read.
    """

    rows: np.ndarray
    features: np.ndarray
    kept: dict[str, list]
    cells: Any = None

    def __len__(self) -> int:
        return len(self.rows)

    def part(self, start: int, stop: int) -> Block:
        """Returns a slice of the rows."""
        kept = {name: values[start:stop] for name, values in self.kept.items()}
        cells = None if self.cells is None else self.cells.iloc[start:stop]
        return Block(self.rows[start:stop], self.features[start:stop], kept, cells)

    def take(self, order: np.ndarray) -> Block:
        """Returns the rows in another order."""
        kept = {name: [values[i] for i in order] for name, values in self.kept.items()}
        cells = None if self.cells is None else self.cells.iloc[order].reset_index(drop=True)
        return Block(self.rows[order], self.features[order], kept, cells)


def make_block(
    columns: Columns, rows: np.ndarray, features: np.ndarray, copied: dict[str, list], cells: Any = None
) -> Block:
    """Makes a block whose kept columns are those copied unchanged, and kept features."""

    def values(name: str) -> list:
        if name in copied:
            return copied[name]
        return features[:, columns.features.index(name)].tolist() if cells is None else cells[name].tolist()

    return Block(rows, features, {name: values(name) for name in columns.kept}, cells)


def is_sound(numbers: np.ndarray) -> np.ndarray:
    """Tells which numbers can be scored; NaN is a gap, which can."""
    return np.isnan(numbers) | (np.abs(numbers) <= LARGEST_CELL)


def join(blocks: list[Block]) -> Block:
    """Concatenates one or more blocks."""
    kept = {name: [value for block in blocks for value in block.kept[name]] for name in blocks[0].kept}
    rows, features = (np.concatenate([getattr(block, name) for block in blocks]) for name in ("rows", "features"))
    cells = None if blocks[0].cells is None else pd.concat([block.cells for block in blocks], ignore_index=True)
    return Block(rows, features, kept, cells)


def describe_number(name: str, value: object, number: float) -> str:
    """Says why a cell can't be scored; `number` is what `value` was converted to, NaN if it can't be."""
    wrong = f"is beyond ±{LARGEST_CELL:g}" if np.isfinite(number) else "is not a finite number"
    return f"column {name}: {str(value)[:40]!r} {wrong}"
