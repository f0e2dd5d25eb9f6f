"""Tables out: CSV, JSON lines and Parquet, some rows at a time; a file appears under its name once it is complete."""

from __future__ import annotations

import csv
import gzip
import io
import json
import math
import os
import secrets
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
from pyarrow import fs

from experiments.command_line import UsageError
from experiments.runs.run_folder import PARTIAL, disk_errors
from experiments.score.tables import PIPE, BrokenRow, Format

ROW_GROUP = 1 << 17  # smallest row group of a Parquet file; each group has a cost
GZIP_LEVEL = 6  # gzip's own default; Python's takes twice as long for little

REJECTS: dict[str, pa.DataType] = {
    "line": pa.int64(),
    "row": pa.int64(),
    "reason": pa.string(),
    "text": pa.string(),
}

Bytes = IO[bytes] | gzip.GzipFile
Write = Callable[[Mapping[str, list]], None]  # appends rows: equally many values of each column


@contextmanager
def open_writer(path: str, file_format: Format, types: Mapping[str, pa.DataType]) -> Iterator[Write]:
    """Opens a table to write; yields a function that appends rows.

    CSV and JSON lines on standard output are flushed at once. Everything else appears when the block ends, and not at
    all if it fails. The block and the function raise RunError if the disk is full, or the like.

    Args:
      path: a file, gzip if its name ends in .gz, or `-` for standard output.
      types: Arrow type of each column.
    """
    if path == PIPE:
        destination = _spool() if file_format == "parquet" else nullcontext(sys.stdout.buffer)
        with destination as file, WRITERS[file_format](file, types) as write:
            yield write
        return
    folder = Path(os.path.realpath(path)).parent

    def guarded(values: Mapping[str, list]) -> None:
        with disk_errors(folder):
            write(values)

    with disk_errors(folder), _file(Path(path)) as file, WRITERS[file_format](file, types) as write:
        yield guarded


@contextmanager
def open_part(
    store: fs.FileSystem, path: str, file_format: Format, types: Mapping[str, pa.DataType]
) -> Iterator[Write]:
    """The same for a file in any store, whose name is hidden, by a dot, until the block ends."""
    folder, _, name = path.rpartition("/")
    hidden = f"{folder}/.{name}"
    with store.open_output_stream(hidden) as file, WRITERS[file_format](file, types) as write:
        yield write
    store.move(hidden, path)


@contextmanager
def _spool() -> Iterator[IO[bytes]]:
    """A temporary file that is copied to standard output once it is complete."""
    with tempfile.TemporaryFile() as file:
        yield file
        file.seek(0)
        shutil.copyfileobj(file, sys.stdout.buffer)


@contextmanager
def _file(path: Path) -> Iterator[Bytes]:
    """A file that gets its name once it is complete; one that it replaces leaves it its permissions."""
    if path.exists() and not path.is_file():  # a device or named pipe, which must not be replaced
        with path.open("wb") as file:
            yield file
        return
    target = Path(os.path.realpath(path))
    mode = target.stat().st_mode & 0o777 if target.exists() else None
    created = 0o666 if mode is None else mode
    # Of a name of its own, because another command may write to the same place.
    partial = target.with_name(f".{target.name}.{secrets.token_hex(4)}{PARTIAL}")
    try:
        with open(partial, "xb", opener=lambda name, flags: os.open(name, flags, created)) as file:
            if mode is not None:
                os.fchmod(file.fileno(), mode)  # also what the umask took away
            if target.suffix.lower() == ".gz":
                # No name or time, so that equal rows give equal files.
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
    """A header, then a line per row. Numbers have enough digits to read the same number back."""

    def write(values: Mapping[str, list]) -> None:
        file.write(_csv_lines(_arrow_table(values, types)))
        file.flush()

    header = io.StringIO()
    csv.writer(header, lineterminator="\n").writerow(types)
    file.write(header.getvalue().encode())
    yield write


def _csv_lines(table: pa.Table) -> bytes:
    """Quotes only the cells that need it; Arrow is fast, but quotes all texts or none."""
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
    """One object per row and line. Values without a JSON form become text, NaN becomes null."""

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
    """Row groups."""
    pending: list[pa.Table] = []
    # Closed even after a failure, when the file is discarded; otherwise the writer would try again when deleted.
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
    """In a column of text, JSON values that are not text become JSON."""
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


class Rejects:
    """Writes broken rows, with the columns `REJECTS`, or without `write` raises UsageError; `count` is their number."""

    def __init__(self, source: str, write: Write | None):
        self.count = 0
        self._source, self._write = source, write

    def __call__(self, broken: list[BrokenRow]) -> None:
        """Takes broken rows."""
        self.count += len(broken)
        if self._write is not None:
            self._write({name: [getattr(row, name) for row in broken] for name in REJECTS})
            return
        row = broken[0]
        place = f"row {row.row}" + (f" (line {row.line})" if row.line is not None else "")
        raise UsageError(f"{self._source}: {place}: {row.reason}; --rejects FILE sets such rows apart")
