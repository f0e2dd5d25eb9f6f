"""Tables in: CSV and JSON lines, plain or gzip, Parquet, and Excel, as a stream of blocks of rows."""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import IO, Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from experiments.command_line import UsageError
from experiments.score.csv_parser import csv_parser
from experiments.score.json_parser import JsonParser
from experiments.score.parsers import check_columns
from experiments.score.tables import PIPE, Block, BrokenRow, Columns, InputFormat, OnBroken, is_sound, make_block
from experiments.score.text import as_numbers, cut_line, open_text, read_features, read_pieces, read_rows, wrong_rows
from vae_jax.data.errors import DataError, first_line
from vae_jax.data.unpacking import MOST_BYTES, MOST_TIMES
from vae_jax.tables.files import read_frame
from vae_jax.tables.packed_sizes import chunks, pages
from vae_jax.tables.text_numbers import NumberFormat

PARQUET_ROWS = 16_384  # read at once
# Whole numbers with gaps stay whole.
NULLABLE = {
    pa.int8(): pd.Int8Dtype(),
    pa.int16(): pd.Int16Dtype(),
    pa.int32(): pd.Int32Dtype(),
    pa.int64(): pd.Int64Dtype(),
}
ARROW_DAMAGE = (pa.ArrowException, OSError, ValueError, KeyError)  # a name that is not UTF-8 is a ValueError
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


def open_table(
    source: Source,
    file_format: InputFormat,
    columns: Columns,
    on_broken: OnBroken,
    encoding: str | None = None,
    groups: range | None = None,
) -> Table:
    """Reads a table's header.

    Args:
      file_format: gzip is recognised by content for csv and jsonl.
      columns: the ones to read; the file may have others, in any order.
      on_broken: called with broken rows, in order, while the blocks are iterated.
      encoding: of a text that is neither UTF-8 nor UTF-16 with a byte order mark.
      groups: row groups of a Parquet file to read; by default all. Rows keep their numbers in the file.

    Raises:
      UsageError: if the file as a whole is unusable; also while the blocks are iterated.
    """
    if file_format == "parquet":
        return _open_parquet(source, columns, on_broken, groups)
    if file_format == "xlsx":
        return _open_excel(source, columns, on_broken)
    types = {name: columns.copied_type(name) for name in columns.kept}
    text, first = open_text(source.name, source.file, encoding)
    if file_format == "csv":
        header, first = cut_line(source.name, text, first)
        if not header.strip() and not first.strip():
            raise UsageError(f"{source.name}: empty; expected a header and rows")
        parser, line = csv_parser(source.name, header, columns), 2
    else:
        parser, line = JsonParser(columns), 1
    pieces = read_pieces(source.name, text, first, parser.last_row_end)
    return Table(types, read_rows(pieces, line, parser, columns, on_broken))


def _open_parquet(source: Source, columns: Columns, on_broken: OnBroken, groups: range | None) -> Table:
    raw, file, schema = _parquet_file(source)
    check_columns(source.name, schema.names, columns)
    _check_types(source.name, schema, columns)
    groups = range(file.num_row_groups) if groups is None else groups
    _refuse_bombs(source.name, raw, groups)
    rows = [file.metadata.row_group(i).num_rows for i in range(groups.stop)]
    batches = file.iter_batches(PARQUET_ROWS, row_groups=list(groups), columns=list(columns.all))
    first = sum(rows[: groups.start])
    return _typed_table(source.name, schema, batches, sum(rows) - first, columns, on_broken, first)


def _refuse_bombs(source: str, file: IO[bytes], groups: range) -> None:
    """Arrow makes ready as much memory as a page says that it takes.

    All columns are looked at, because Arrow doesn't know them by the names that stand beside their pages.
    """
    name = ""
    try:
        for chunk in chunks(file):
            if chunk.group not in groups:
                continue
            name = chunk.column
            largest = max((size for _, packed, size in pages(file, chunk) if size > MOST_TIMES * packed), default=0)
            if largest > MOST_BYTES:
                most = f"more than {MOST_BYTES:,} and {MOST_TIMES} times its size"
                raise UsageError(f"{source}: a page of column {name} has {largest:,} bytes when unpacked, {most}")
    except ARROW_DAMAGE as error:
        what = f"column {name} is damaged" if name else "not a Parquet file, or a damaged one"
        raise UsageError(f"{source}: {what} ({first_line(error)[:120]})") from None


def row_groups(source: Source, rows: int) -> list[tuple[int, int]]:
    """Cuts a Parquet file: first row group and that after the last of each part, of so many rows or somewhat more."""
    _, file, _ = _parquet_file(source)
    cuts, count = [0], 0
    for i in range(file.num_row_groups):
        count += file.metadata.row_group(i).num_rows
        if count >= rows:
            cuts.append(i + 1)
            count = 0
    if count or len(cuts) == 1:
        cuts.append(file.num_row_groups)
    return list(pairwise(cuts))


def _parquet_file(source: Source) -> tuple[IO[bytes], pq.ParquetFile, pa.Schema]:
    raw = _seekable(source.file)
    try:
        file = pq.ParquetFile(raw, buffer_size=PARQUET_BUFFER, pre_buffer=False)
        schema = file.schema_arrow
        schema.names  # noqa: B018 (a name that is not UTF-8 is noticed here)
        return raw, file, schema
    except ARROW_DAMAGE as error:
        raise UsageError(f"{source.name}: not a Parquet file, or a damaged one ({first_line(error)[:120]})") from None


def _open_excel(source: Source, columns: Columns, on_broken: OnBroken) -> Table:
    """Reads the whole workbook, which has a million rows at most; not from a pipe."""
    try:
        frame, _ = read_frame(source.name)
    except DataError as error:
        raise UsageError(str(error)) from None
    check_columns(source.name, frame.columns.tolist(), columns)
    frame = frame[list(columns.all)]
    mixed = frame.select_dtypes(object)
    texts = {
        str(name): mixed[name].map(partial(_as_text, columns.decimal_of(str(name))), na_action="ignore")
        for name in mixed
    }
    frame = frame.assign(**{name: cells.astype(object) for name, cells in texts.items()})  # Arrow has no mixed columns
    table = pa.Table.from_pandas(frame, preserve_index=False)
    _check_types(source.name, table.schema, columns)
    batches = iter(table.to_batches(PARQUET_ROWS))
    return _typed_table(source.name, table.schema, batches, len(frame), columns, on_broken)


def _as_text(decimal: str, cell: Any) -> str:
    return repr(cell).replace(".", decimal) if isinstance(cell, float) else str(cell)


def _check_types(name: str, schema: pa.Schema, columns: Columns) -> None:
    """Refuses a type that can't be read."""
    for column in columns.features:
        kind = schema.field(column).type
        if not (columns.schema or _is_number(kind) or _is_text(kind)):
            raise UsageError(f"{name}: column {column} is of type {kind}, expected numbers")
    for column in columns.all if columns.schema else columns.copied:
        if _has_no_text(schema.field(column).type):
            raise UsageError(f"{name}: column {column} is of type {schema.field(column).type}, which is not copied")


def _typed_table(
    name: str,
    schema: pa.Schema,
    batches: Iterator[pa.RecordBatch],
    count: int,
    columns: Columns,
    on_broken: OnBroken,
    first: int = 0,
) -> Table:
    typed = {column: schema.field(column).type for column in columns.kept}
    types = {column: columns.copied_type(column) if column in columns.features else typed[column] for column in typed}
    return Table(types, _blocks(name, batches, columns, on_broken, first), count)


def _seekable(file: IO[bytes]) -> IO[bytes]:
    """Spools a pipe into a temporary file, because Parquet has its directory at the end."""
    if file.seekable():
        return file
    spooled = tempfile.TemporaryFile()  # noqa: SIM115 (open until the process ends)
    shutil.copyfileobj(file, spooled)
    return spooled


def _is_number(kind: pa.DataType) -> bool:
    return pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind)


def _is_text(kind: pa.DataType) -> bool:
    """Whether cells may be numbers in text, or are all missing."""
    kind = kind.value_type if pa.types.is_dictionary(kind) else kind
    texts = (pa.types.is_string, pa.types.is_large_string, pa.types.is_string_view, pa.types.is_null)
    return any(is_kind(kind) for is_kind in texts)


def _has_no_text(kind: pa.DataType) -> bool:
    binary = (pa.types.is_binary, pa.types.is_large_binary, pa.types.is_fixed_size_binary, pa.types.is_binary_view)
    return pa.types.is_nested(kind) or any(is_kind(kind) for is_kind in binary)


def _blocks(
    name: str, batches: Iterator[pa.RecordBatch], columns: Columns, on_broken: OnBroken, row: int
) -> Iterator[Block]:
    while True:
        try:
            batch = next(batches, None)
            if batch is not None:
                batch.validate(full=True)
        except ARROW_DAMAGE as error:
            raise UsageError(f"{name}: damaged after row {row} ({first_line(error)[:120]})") from None
        if batch is None:
            return
        features, wrong, cells = _features(batch, columns)
        whole = np.array([i not in wrong for i in range(len(batch))], bool)
        if wrong:
            on_broken([BrokenRow(row + i, None, wrong[i], None) for i in sorted(wrong)])
            batch = batch.filter(pa.array(whole))
        copied = {column: batch[column].to_pylist() for column in columns.copied}
        if whole.any():
            if cells is not None:
                cells = cells[whole].reset_index(drop=True)
                for kept in set(columns.kept) & set(columns.features):
                    copied[kept] = [None if cell is None else str(cell) for cell in cells[kept]]
            yield make_block(columns, row + np.flatnonzero(whole), features[whole], copied, cells)
        row += len(whole)


def _features(batch: pa.RecordBatch, columns: Columns) -> tuple[np.ndarray, dict[int, str], pd.DataFrame | None]:
    """Returns features, what is wrong with broken rows, and with a schema the cells."""
    if columns.schema:
        frame = batch.select(list(columns.features)).to_pandas(types_mapper=NULLABLE.get)
        return *read_features(frame, columns), frame.astype(object).where(frame.notna(), None)
    cells = [batch[column] for column in columns.features]
    features = np.column_stack([_floats(column, columns.number_format) for column in cells])
    return features, wrong_rows(columns, features, ~is_sound(features), lambda i, j: cells[j][i].as_py()), None


def _floats(column: pa.Array, number_format: NumberFormat) -> np.ndarray:
    """Numbers, NaN for a gap, and infinity for text that is no number."""
    if _is_text(column.type):
        numbers, bad = as_numbers(np.array(column.to_pylist(), object), number_format)
        return np.where(bad & np.isnan(numbers), np.inf, numbers)
    if pa.types.is_decimal(column.type):
        column = column.cast(pa.string())  # Arrow rounds text to a float correctly, but not decimals
    return column.cast(pa.float64(), safe=False).to_numpy(zero_copy_only=False)
