"""Tables out: CSV, JSON lines and Parquet, some rows at a time; a file appears under its name when it is whole."""

from __future__ import annotations

import csv
import gzip
import io
import json
import math
import os
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import IO, Any

import pyarrow as pa
import pyarrow.csv as arrow_csv
import pyarrow.parquet as pq

from experiments.runs.run_folder import disk_errors
from experiments.score.tables import PIPE, Format

ROW_GROUP = 1 << 17  # rows of a Parquet file that lie together, at least; each group has a cost
GZIP_LEVEL = 6  # gzip's own default; Python's takes twice as long for little

Bytes = IO[bytes] | gzip.GzipFile
Write = Callable[[Mapping[str, list]], None]  # appends rows: the values of each column, equally many


@contextmanager
def open_writer(path: str, file_format: Format, types: Mapping[str, pa.DataType]) -> Iterator[Write]:
    """Opens a table to write.

    Args:
      path: a file, gzip if its name ends in .gz, or `-` for standard output.
      file_format: csv, jsonl or parquet.
      types: Arrow's type of each column.

    Yields:
      A function that appends rows. CSV and JSON lines on standard output are there at once. Everything else is there
      when the block ends, and not at all if it fails.

    Raises:
      RunError: if the disk is full, or the like; also by the function.
    """
    if path == PIPE:
        destination = _spool() if file_format == "parquet" else nullcontext(sys.stdout.buffer)
        with destination as file, WRITERS[file_format](file, types) as write:
            yield write
        return
    target = Path(os.path.realpath(path))

    def guarded(values: Mapping[str, list]) -> None:
        with disk_errors(target.parent):
            write(values)

    with disk_errors(target.parent), _file(target) as file, WRITERS[file_format](file, types) as write:
        yield guarded


@contextmanager
def _spool() -> Iterator[IO[bytes]]:
    """A temporary file that is copied to standard output when it is whole."""
    with tempfile.TemporaryFile() as file:
        yield file
        file.seek(0)
        shutil.copyfileobj(file, sys.stdout.buffer)


@contextmanager
def _file(target: Path) -> Iterator[Bytes]:
    """A file that gets its name when it is whole."""
    if target.exists() and not target.is_file():  # a device or a named pipe, which must stay what it is
        with target.open("wb") as file:
            yield file
        return
    partial = target.with_name(target.name + ".partial")
    try:
        with partial.open("wb") as file:
            if target.suffix.lower() == ".gz":
                # Without name and time, so that equal rows give equal files.
                with gzip.GzipFile("", "wb", GZIP_LEVEL, file, mtime=0) as packed:
                    yield packed
            else:
                yield file
        os.replace(partial, target)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise


@contextmanager
def _csv(file: Bytes, types: Mapping[str, pa.DataType]) -> Iterator[Write]:
    """A header, then a line for each row. Numbers have the digits that it takes to read the same number back."""

    def write(values: Mapping[str, list]) -> None:
        file.write(_csv_lines(_arrow_table(values, types)))
        file.flush()

    header = io.StringIO()
    csv.writer(header, lineterminator="\n").writerow(types)
    file.write(header.getvalue().encode())
    yield write


def _csv_lines(table: pa.Table) -> bytes:
    """Only cells that need quotes have them. Arrow, which is fast, knows no such middle way."""
    lines = io.BytesIO()
    try:
        arrow_csv.write_csv(table, lines, arrow_csv.WriteOptions(include_header=False, quoting_style="none"))
        return lines.getvalue()
    except pa.ArrowInvalid:
        text = io.StringIO()
        columns = [column.cast(pa.string()).to_pylist() for column in table.columns]
        csv.writer(text, lineterminator="\n").writerows(zip(*columns, strict=True))
        return text.getvalue().encode()


@contextmanager
def _jsonl(file: Bytes, types: Mapping[str, pa.DataType]) -> Iterator[Write]:
    """A line with an object for each row. What JSON has no form for is written as text, NaN as null."""

    def write(values: Mapping[str, list]) -> None:
        columns = [[_finite(value) for value in column] for column in values.values()]
        rows = (dict(zip(values, row, strict=True)) for row in zip(*columns, strict=True))
        file.write("".join(f"{json.dumps(row, default=str)}\n" for row in rows).encode())
        file.flush()

    yield write


def _finite(value: Any) -> Any:
    return None if isinstance(value, float) and not math.isfinite(value) else value


@contextmanager
def _parquet(file: Bytes, types: Mapping[str, pa.DataType]) -> Iterator[Write]:
    """Rows in groups."""
    pending: list[pa.Table] = []
    # It is closed also after a failure, when the file is thrown away: else it would try once more when it is deleted.
    with pq.ParquetWriter(file, pa.schema(list(types.items()))) as writer:

        def write(values: Mapping[str, list]) -> None:
            pending.append(_arrow_table(values, types))
            if sum(map(len, pending)) >= ROW_GROUP:
                write_group()

        def write_group() -> None:
            writer.write_table(pa.concat_tables(pending))
            pending.clear()

        yield write
        if pending:
            write_group()


def _arrow_table(values: Mapping[str, list], types: Mapping[str, pa.DataType]) -> pa.Table:
    """What JSON lines have in a column of texts, but is none, becomes JSON."""
    return pa.table(
        {
            name: pa.array(map(_text, values[name]) if kind == pa.string() else values[name], kind)
            for name, kind in types.items()
        }
    )


def _text(value: Any) -> str | None:
    return value if value is None or isinstance(value, str) else json.dumps(value)


WRITERS: dict[Format, Callable[[Bytes, Mapping[str, pa.DataType]], AbstractContextManager[Write]]] = {
    "csv": _csv,
    "jsonl": _jsonl,
    "parquet": _parquet,
}
