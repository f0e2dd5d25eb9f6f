"""Tables in: CSV and JSON lines, plain or gzip, and Parquet, as a stream of blocks of rows."""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from experiments.command_line import UsageError
from experiments.score.parsers import JsonParser, check_columns, csv_parser
from experiments.score.tables import PIPE, Block, BrokenRow, Columns, Format, OnBroken, describe_number, make_block
from experiments.score.text import open_text, read_pieces, read_rows
from vae_jax.tables.csv_file import LARGEST_CELL

PARQUET_ROWS = 16_384  # read at once
PARQUET_BUFFER = 1 << 20  # bytes of a column read at once; without it, a whole row group's


@dataclass(frozen=True)
class Source:
    """An open file or pipe; `name` is for messages."""

    name: str
    file: IO[bytes]

    def share_read(self) -> float | None:
        """Share of the file read so far; None for a pipe, whose length is unknown."""
        if not self.file.seekable():
            return None
        return self.file.tell() / max(os.fstat(self.file.fileno()).st_size, 1)


@dataclass(frozen=True)
class Table:
    """A table whose header has been read.

    Attributes:
      kept_types: Arrow type of each copied column.
      blocks: its rows in order, to be iterated once.
      count: number of rows, if the file tells.
    """

    kept_types: dict[str, pa.DataType]
    blocks: Iterator[Block]
    count: int | None = None


@contextmanager
def open_source(path: str) -> Iterator[Source]:
    """Opens a file, or standard input for `-`; raises UsageError if it can't."""
    if path == PIPE:
        yield Source("standard input", sys.stdin.buffer)
        return
    try:
        file = Path(path).open("rb")  # noqa: SIM115 (closed below)
    except OSError as error:
        raise UsageError(f"{path}: can't be read ({error.strerror})") from None
    with file:
        yield Source(path, file)


def open_table(source: Source, file_format: Format, columns: Columns, on_broken: OnBroken) -> Table:
    """Reads a table's header.

    Args:
      file_format: gzip is recognised by content for csv and jsonl.
      columns: the ones to read; the file may have others, in any order.
      on_broken: called with broken rows, in order, while the blocks are iterated.

    Raises:
      UsageError: if the file as a whole is unusable; also while the blocks are iterated.
    """
    if file_format == "parquet":
        return _open_parquet(source, columns, on_broken)
    types = {name: pa.float64() if name in columns.features else pa.string() for name in columns.kept}
    text, first = open_text(source.name, source.file)
    if file_format == "csv":
        header, _, first = first.partition(b"\n")
        parser, line = csv_parser(source.name, header, columns), 2
    else:
        parser, line = JsonParser(columns), 1
    pieces = read_pieces(source.name, text, first, parser.last_row_end)
    return Table(types, read_rows(pieces, line, parser, columns, on_broken))


def _open_parquet(source: Source, columns: Columns, on_broken: OnBroken) -> Table:
    try:
        file = pq.ParquetFile(_seekable(source.file), buffer_size=PARQUET_BUFFER, pre_buffer=False)
    except (pa.ArrowException, OSError) as error:
        raise UsageError(f"{source.name}: not a Parquet file, or a damaged one ({_first_line(error)})") from None
    schema = file.schema_arrow
    check_columns(source.name, schema.names, columns)
    for name in columns.features:
        if not _is_number(schema.field(name).type):
            raise UsageError(f"{source.name}: column {name} is of type {schema.field(name).type}, expected numbers")
    for name in columns.copied:
        if _has_no_text(schema.field(name).type):
            raise UsageError(f"{source.name}: column {name} is of type {schema.field(name).type}, which is not copied")
    types = {name: pa.float64() if name in columns.features else schema.field(name).type for name in columns.kept}
    return Table(types, _parquet_blocks(source.name, file, columns, on_broken), file.metadata.num_rows)


def _seekable(file: IO[bytes]) -> IO[bytes]:
    """Spools a pipe into a temporary file, because Parquet has its directory at the end."""
    if file.seekable():
        return file
    spooled = tempfile.TemporaryFile()  # noqa: SIM115 (open until the process ends)
    shutil.copyfileobj(file, spooled)
    return spooled


def _is_number(kind: pa.DataType) -> bool:
    return pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind)


def _has_no_text(kind: pa.DataType) -> bool:
    binary = (pa.types.is_binary, pa.types.is_large_binary, pa.types.is_fixed_size_binary, pa.types.is_binary_view)
    return pa.types.is_nested(kind) or any(is_kind(kind) for is_kind in binary)


def _parquet_blocks(name: str, file: pq.ParquetFile, columns: Columns, on_broken: OnBroken) -> Iterator[Block]:
    row = 0
    batches = file.iter_batches(PARQUET_ROWS, columns=list(columns.all))
    while True:
        try:
            batch = next(batches, None)
        except (pa.ArrowException, OSError) as error:
            raise UsageError(f"{name}: damaged after row {row} ({_first_line(error)})") from None
        if batch is None:
            return
        features = np.column_stack([_floats(batch[column]) for column in columns.features])
        sound: np.ndarray = np.abs(features) <= LARGEST_CELL  # False also for NaN, which stands for null
        whole = np.asarray(sound.all(1))
        if not whole.all():
            on_broken([_broken(batch, columns, row, i, sound[i]) for i in np.flatnonzero(~whole).tolist()])
            batch = batch.filter(pa.array(whole))
        copied = {column: batch[column].to_pylist() for column in columns.copied}
        if whole.any():
            yield make_block(columns, row + np.flatnonzero(whole), features[whole], copied)
        row += len(whole)


def _floats(column: pa.Array) -> np.ndarray:
    if pa.types.is_decimal(column.type):
        column = column.cast(pa.string())  # Arrow rounds text to a float correctly, but not decimals
    return column.cast(pa.float64(), safe=False).to_numpy(zero_copy_only=False)


def _broken(batch: pa.RecordBatch, columns: Columns, first: int, i: int, sound: np.ndarray) -> BrokenRow:
    name = columns.features[int(np.argmin(sound))]
    cell = batch[name][i]
    number = float(_floats(batch[name].slice(i, 1))[0])
    return BrokenRow(first + i, None, describe_number(name, cell.as_py(), number), None)


def _first_line(error: Exception) -> str:
    return str(error).partition("\n")[0][:120]
