"""Readers of the score command, which read a table piece by piece: CSV, JSON lines and Parquet."""

from __future__ import annotations

import csv
import gzip
import io
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from benchmarks.faults.readers.reader import Reader, WrongError
from benchmarks.faults.readers.tables import WORDS
from experiments.command_line import UsageError
from experiments.score import text
from experiments.score.reader import Source, open_table
from experiments.score.tables import BrokenRow, Columns, InputFormat
from vae_jax.tables.files import SEPARATORS
from vae_jax.tables.schema import Schema

NUMBERS = Columns(("a", "b"), ("id",))
ROWS = {"a": ["1", "2", "3.5", None], "b": ["x", "y", "x", "x"]}
ANY = Columns(("a", "b"), ("id",), Schema.fit(pd.DataFrame(ROWS), {"a": "real", "b": "category"}))
SIZES = (text.PIECE, text.SEARCHED)
LONGEST = 512  # bytes of a text: longer ones are slow, and cut where shorter ones are
Read = tuple[list[int], list[list[float]], list[Any], list[BrokenRow]]


def read_table(data: bytes, file_format: InputFormat, columns: Columns, sizes: tuple[int, int] = SIZES) -> Read:
    """Reads all blocks: numbers of the rows, their features, what is copied of them, and the broken rows."""
    broken: list[BrokenRow] = []
    text.PIECE, text.SEARCHED = sizes
    blocks = list(open_table(Source("stream", io.BytesIO(data)), file_format, columns, broken.extend).blocks)
    rows = [row for block in blocks for row in block.rows.tolist()]
    features = [numbers for block in blocks for numbers in block.features.tolist()]
    return rows, features, [cell for block in blocks for cell in block.kept["id"]], broken


def _read_twice(file_format: InputFormat, data: bytes, columns: Columns = NUMBERS) -> None:
    """In one piece and in many, which has to be the same but for the words of what is wrong with a broken row."""
    small = len(data) // 3 + 2  # bytes of a piece; of what is searched line by line, half as many
    whole, cut = (read_table(data, file_format, columns, sizes) for sizes in (SIZES, (small, small // 2)))
    read, in_pieces = _without_reasons(whole), _without_reasons(cut)
    if repr(read) != repr(in_pieces):
        raise WrongError(f"in one piece {read}, in many {in_pieces}")
    numbers = sorted([*read[0], *(row.row for row in read[3])])
    if numbers != list(range(len(numbers))):
        raise WrongError(f"rows {numbers}")
    if columns is NUMBERS and data[:2] not in (b"\x1f\x8b", b"\xff\xfe", b"\xfe\xff"):
        _check_numbers(read, _cells(file_format, data, [row.row for row in read[3]]))


def _without_reasons(read: Read) -> Read:
    """Whether a misplaced quote is called that or not closed depends on where the text was cut."""
    return *read[:3], [row._replace(reason="") for row in read[3]]


def _cells(file_format: InputFormat, data: bytes, broken: Sequence[int]) -> list[tuple[Any, Any]] | None:
    """Columns a and b of the rows that are not broken, by Python's own modules; None if those are of another mind."""
    try:
        content = data.decode("utf-8-sig").replace("\r\n", "\n").replace("\r", "\n")
        if file_format == "jsonl":
            rows = [json.loads(line) if i not in broken else None for i, line in enumerate(_lines(content))]
            return [(row.get("a"), row.get("b")) for row in rows if row is not None]
        header, _, rows = content.partition("\n")
        divided = {separator: _names(header, separator) for separator in SEPARATORS}
        separator = max(SEPARATORS, key=lambda of: len({*divided[of]} & {*NUMBERS.all}))
        body = list(csv.reader(io.StringIO(rows, newline="\n"), delimiter=separator, strict=True))
    except (UnicodeDecodeError, ValueError, csv.Error):
        return None
    if broken:  # a broken row of CSV may take others with it
        return None
    names = divided[separator]
    return [(row[names.index("a")], row[names.index("b")]) for row in body if row]


def _names(header: str, separator: str) -> list[str]:
    try:
        cells = next(csv.reader([header], delimiter=separator, skipinitialspace=True, strict=True), [])
    except csv.Error:
        return []
    return [cell.strip() for cell in cells]


def _lines(content: str) -> list[str]:
    return [line for line in content.split("\n") if line.strip()]


def _check_numbers(read: Read, cells: list[tuple[Any, Any]] | None) -> None:
    """Where Python reads a cell as a finite number, so has the reader."""
    if cells is None:
        return
    if len(cells) != len(read[1]):
        raise WrongError(f"{len(read[1])} rows, expected {len(cells)}")
    for numbers, row in zip(read[1], cells, strict=True):
        for number, cell in zip(numbers, row, strict=True):
            if (expected := _number(cell)) is not None and number != expected:
                raise WrongError(f"{cell!r} was read as {number}")


def _number(cell: Any) -> float | None:
    try:
        number = float(cell)
    except (TypeError, ValueError, OverflowError):
        return None
    plain = not isinstance(cell, str | bool) or (cell.isascii() and "_" not in cell)
    return number if plain and np.isfinite(number) and not isinstance(cell, bool) else None


def _prepare(file_format: InputFormat) -> Callable[[Path], Callable[[bytes], object]]:
    return lambda folder: lambda data: _read_twice(file_format, data)


CSV = b'id,a,b\nx,1,2\n"y, z",3.5,-4e2\nq,,7\n'
OTHER_CSV = b'b;id;more;a\nx;1;"two\nlines";3,5\n"y";"say ""hi""";;2\n'
JSON = (
    b'{"id": "x", "a": 1, "b": 2}\n{"b": -4e2, "a": 3.5, "id": null, "more": [1, {"c": []}]}\n\n{"a": null, "b": "7"}'
)
JSON_WORDS = (
    *b'{ } [ ] : , " \\u0000 \\ud800 \\udc00 null true NaN Infinity "a": "b": "id": 1e400 -0.0 [[[[[[[[['.split(),
    *(b"9" * 20, b"\n", b"\r", b"\0", b"\xff", b"\xed\xa0\x80"),
)
score_csv = Reader(
    "score, CSV", lambda: [CSV, OTHER_CSV, gzip.compress(CSV, mtime=0)], _prepare("csv"), UsageError, WORDS, LONGEST
)
score_json = Reader(
    "score, JSON lines",
    lambda: [JSON, gzip.compress(JSON, mtime=0)],
    _prepare("jsonl"),
    UsageError,
    JSON_WORDS,
    LONGEST,
)


def _parquet_seeds(*columns: list[Any]) -> list[bytes]:
    files = []
    for b in columns:
        table = pa.table({"id": ["q", "r", None], "a": [1.5, None, 3], "b": b})
        for compression in ("snappy", "none"):
            file = io.BytesIO()
            pq.write_table(table, file, compression=compression)
            files.append(file.getvalue())
    return files


FORMATS: tuple[InputFormat, ...] = ("csv", "jsonl", "parquet")


def _read_columns(data: bytes) -> None:
    """By a model of any columns. The first byte of an input tells the format."""
    file_format = FORMATS[data[0] % len(FORMATS)] if data else "csv"
    if file_format == "parquet":
        read_table(data[1:], file_format, ANY)
    else:
        _read_twice(file_format, data[1:], ANY)


score_parquet = Reader(
    "score, Parquet",
    lambda: _parquet_seeds([1.5, 2, None], [1, 2, None]),
    lambda folder: lambda data: read_table(data, "parquet", NUMBERS),
    UsageError,
    (b"PAR1", b"a", b"b", b"id"),
)
score_columns = Reader(
    "score, by a model of any columns",
    lambda: [
        b"\0" + CSV,
        b"\0" + OTHER_CSV,
        b"\1" + JSON,
        *(b"\2" + file for file in _parquet_seeds(["x", "y", None])),
    ],
    lambda folder: _read_columns,
    UsageError,
    (*WORDS, *JSON_WORDS),
    LONGEST,
)
