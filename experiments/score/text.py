"""Rows from text: CSV and JSON lines, plain or gzip.

Arrow parses the text piece by piece. Only a piece that it rejects is read line by line, to find the broken rows and
what is wrong with them. Both ways round numbers correctly, so they give the same bits.
"""

from __future__ import annotations

import codecs
import gzip
import math
import zlib
from collections.abc import Callable, Iterable, Iterator
from io import BufferedReader
from typing import IO, Any

import numpy as np

from experiments.command_line import UsageError
from experiments.score.parsers import LONGEST_ROW, Parser, Record
from experiments.score.tables import Block, BrokenRow, Columns, OnBroken, describe_number, make_block
from vae_jax.tables.csv_file import LARGEST_CELL

PIECE = 4 << 20  # bytes read and parsed at once
SEARCHED = 64 << 10  # bytes read line by line to find a broken row
GZIP = b"\x1f\x8b"

Bytes = IO[bytes] | gzip.GzipFile


def open_text(name: str, file: IO[bytes]) -> tuple[Bytes, bytes]:
    """Starts reading a text; gzip is recognised by content.

    Returns:
      The rest of the text, and its beginning without a byte order mark.
    """
    buffered = file if isinstance(file, BufferedReader) else BufferedReader(file)  # pyright: ignore[reportArgumentType]
    text = gzip.GzipFile(fileobj=buffered) if buffered.peek(2)[:2] == GZIP else buffered
    return text, _read(name, text).removeprefix(codecs.BOM_UTF8)


def read_pieces(name: str, text: Bytes, rest: bytes, row_end: Callable[[bytes], int]) -> Iterator[bytes]:
    """Cuts a text, of which `rest` has been read already, into pieces of whole rows with Unix line ends.

    `row_end` returns where the last whole row of its argument ends; 0 if there is none. Raises UsageError if the file
    can't be read or is not made of rows.
    """
    while True:
        end = row_end(rest)
        if not end and len(rest) > LONGEST_ROW:
            end = rest.find(b"\n") + 1  # an unclosed quote, which must spoil only its own line
            if not end:
                raise UsageError(f"{name}: no line end in {LONGEST_ROW:,} bytes, so these are no rows of text")
        if end:
            yield rest[:end]
        more = _read(name, text)
        rest = rest[end:] + more
        if not more:
            break
    if rest:
        yield rest


def _read(name: str, text: Bytes) -> bytes:
    """Reads some more, with Unix line ends."""
    try:
        read = text.read(PIECE)
        while read.endswith(b"\r") and (following := text.read(1)):  # a line end may be split
            read += following
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise UsageError(f"{name}: damaged or truncated gzip ({error})") from None
    except OSError as error:
        raise UsageError(f"{name}: can't be read ({error.strerror})") from None
    return read.replace(b"\r\n", b"\n").replace(b"\r", b"\n") if b"\r" in read else read


def read_rows(
    pieces: Iterable[bytes], line: int, parser: Parser, columns: Columns, on_broken: OnBroken
) -> Iterator[Block]:
    """Parses pieces of whole rows, the first of which begins at `line` (1 = first line of the file).

    Calls `on_broken` with broken rows, and yields the others, in order.
    """
    row = 0
    for piece in pieces:
        waiting = [piece]
        while waiting:
            text = waiting.pop()
            block = _parse(text, row, parser, columns)
            if block is None and (half := _half(text, parser)):
                waiting += [text[half:], text[:half]]
                continue
            if block is not None:
                row += len(block)
            else:
                block, broken = _search(text, row, line, parser, columns)
                if broken:
                    on_broken(broken)
                row += len(block) + len(broken)
            line += text.count(b"\n")
            if len(block):
                yield block


def _parse(text: bytes, row: int, parser: Parser, columns: Columns) -> Block | None:
    """Returns all rows of a text, or None if any may be broken."""
    try:
        if not text.isascii():
            text.decode("utf-8")  # Arrow checks only the columns it reads
        table = parser.parse(text)
    except ValueError:  # includes pa.ArrowInvalid and UnicodeDecodeError
        return None
    features = np.empty((table.num_rows, len(columns.features)))
    for i, name in enumerate(columns.features):
        features[:, i] = table[name].to_numpy()
    if not (np.abs(features) <= LARGEST_CELL).all():  # False also for NaN, which stands for null
        return None
    copied = {name: table[name].to_pylist() for name in columns.copied}
    return make_block(columns, np.arange(row, row + len(features)), features, copied)


def _half(text: bytes, parser: Parser) -> int:
    """Where to cut a text that contains a broken row; 0 to search it line by line."""
    return parser.last_row_end(text[: len(text) // 2]) if len(text) > SEARCHED else 0


def _search(text: bytes, row: int, line: int, parser: Parser, columns: Columns) -> tuple[Block, list[BrokenRow]]:
    """Separates sound rows from broken ones."""
    rows, features, copied, broken = [], [], [], []
    # Invalid UTF-8 becomes surrogates, which can't be encoded.
    for number, record in enumerate(parser.records(text.decode("utf-8", "surrogateescape")), row):
        try:
            sound = _sound_cells(record, parser, columns)
        except _BrokenError as error:
            raw = record.text.encode("utf-8", "surrogateescape").decode("utf-8", "replace")
            broken.append(BrokenRow(number, line + record.line, str(error), raw))
        else:
            rows.append(number)
            features.append(sound[0])
            copied.append(sound[1])
    kept = {name: [cells[i] for cells in copied] for i, name in enumerate(columns.copied)}
    numbers = np.array(features, np.float64).reshape(len(rows), len(columns.features))
    return make_block(columns, np.array(rows, np.int64), numbers, kept), broken


class _BrokenError(Exception):
    """Why a row is broken."""


def _sound_cells(record: Record, parser: Parser, columns: Columns) -> tuple[list[float], list]:
    """Returns a row's features and copied cells."""
    if record.problem:
        raise _BrokenError(record.problem)
    if not _encodable(record.text):
        raise _BrokenError("not UTF-8")
    numbers = [_number(name, record.cells.get(name), parser) for name in columns.features]
    copied = [record.cells.get(name) for name in columns.copied]
    for name, cell in zip(columns.copied, copied, strict=True):
        if isinstance(cell, str) and not _encodable(cell):  # JSON can encode half a surrogate pair
            raise _BrokenError(f"column {name}: not Unicode")
    return numbers, copied


def _encodable(text: str) -> bool:
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True


def _number(name: str, cell: Any, parser: Parser) -> float:
    try:
        number = parser.number(cell) if cell is not None else math.nan
    except OverflowError:  # an integer in JSON may be larger than any float
        number = math.inf
    except ValueError:
        number = math.nan
    if not abs(number) <= LARGEST_CELL:
        raise _BrokenError(describe_number(name, cell, number))
    return number
