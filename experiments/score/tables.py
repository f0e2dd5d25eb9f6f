"""What reading and writing tables share: formats, columns and blocks of rows."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np

from experiments.command_line import UsageError
from vae_jax.tables.csv_file import LARGEST_CELL

Format = Literal["csv", "parquet", "jsonl"]

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


def format_of(option: str, path: str, chosen: Format | None, remedy: str) -> Format:
    """Returns the format `chosen`, or else the one that the file name implies; csv for a pipe.

    Raises UsageError, with `option` and `remedy` in it, if the name implies none.
    """
    if chosen or path == PIPE:
        return chosen or "csv"
    for suffix, named in SUFFIXES.items():
        if Path(path).name.lower().endswith(suffix):
            return named
    raise UsageError(f"{option} {path}: its name ends in none of {', '.join(SUFFIXES)}; {remedy}")


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
    """Which columns are read: D numeric `features`, and `kept` ones to copy. A kept feature is copied as its number."""

    features: tuple[str, ...]
    kept: tuple[str, ...] = ()

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
      features: shape (N, D), float64, finite.
      kept: the N values of each copied column.
    """

    rows: np.ndarray
    features: np.ndarray
    kept: dict[str, list]

    def __len__(self) -> int:
        return len(self.rows)

    def part(self, start: int, stop: int) -> Block:
        """Returns a slice of the rows."""
        kept = {name: values[start:stop] for name, values in self.kept.items()}
        return Block(self.rows[start:stop], self.features[start:stop], kept)


def make_block(columns: Columns, rows: np.ndarray, features: np.ndarray, copied: dict[str, list]) -> Block:
    """Makes a block whose kept columns are those copied unchanged, and kept features."""
    kept = {
        name: copied[name] if name in copied else features[:, columns.features.index(name)].tolist()
        for name in columns.kept
    }
    return Block(rows, features, kept)


def join(blocks: list[Block]) -> Block:
    """Concatenates one or more blocks."""
    kept = {name: [value for block in blocks for value in block.kept[name]] for name in blocks[0].kept}
    rows, features = (np.concatenate([getattr(block, name) for block in blocks]) for name in ("rows", "features"))
    return Block(rows, features, kept)


def describe_number(name: str, value: object, number: float) -> str:
    """Says why a cell can't be scored; `number` is what `value` was converted to, NaN if it can't be."""
    if value is None or not str(value).strip():
        return f"column {name}: blank"
    wrong = f"is beyond ±{LARGEST_CELL:g}" if np.isfinite(number) else "is not a finite number"
    return f"column {name}: {str(value)[:40]!r} {wrong}"
