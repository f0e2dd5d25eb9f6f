"""Rows out of text: CSV and JSON lines, plain or gzip.

Arrow parses the text, a piece at a time. Only a piece that it refuses is read line by line, to find the broken rows and
what is wrong with them. Both ways round numbers correctly, so they give the same bits.
"""

from __future__ import annotations

import codecs
import csv
import gzip
import json
import math
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from io import BufferedReader
from typing import IO, Any, NamedTuple, Protocol

import numpy as np
import pyarrow as pa
import pyarrow.csv as arrow_csv
import pyarrow.json as arrow_json

from experiments.command_line import UsageError
from experiments.score.tables import Block, BrokenRow, Columns, OnBroken, describe_number, make_block
from vae_jax.tables.csv_file import LARGEST_CELL

PIECE = 4 << 20  # bytes that are read and parsed at once
LONGEST_ROW = 8 << 20  # bytes in which a row must end, so that memory is bounded
SEARCHED = 64 << 10  # bytes that are read line by line to find a broken row
GZIP = b"\x1f\x8b"
NOT_CLOSED = "a quote is not closed"
QUOTE, LINE_END = ord('"'), ord("\n")

Bytes = IO[bytes] | gzip.GzipFile


class Record(NamedTuple):
    """A row as it was read line by line.

    Attributes:
      line: the line that it begins in, 0 = first line of its piece.
      text: as it is in the file.
      cells: by column; empty if there is a problem.
      problem: what is wrong with the row as a whole, in words.
    """

    line: int
    text: str
    cells: dict[str, Any]
    problem: str = ""


class Parser(Protocol):
    """What differs between the formats."""

    def last_row_end(self, text: bytes) -> int:
        """Returns where the last whole row ends; 0 if there is none."""
        ...

    def parse(self, text: bytes) -> pa.Table:
        """Parses whole rows at once; raises pa.ArrowInvalid or a ValueError where any is in doubt."""
        ...

    def records(self, text: str) -> Iterator[Record]:
        """Reads rows one by one."""
        ...

    def number(self, cell: Any) -> float:
        """Converts a cell; raises ValueError or OverflowError where that can't be."""
        ...


class CsvParser:
    """Rows of CSV, with quotes as in RFC 4180."""

    def __init__(self, names: Sequence[str], separator: str, columns: Columns):
        self._names, self._separator = list(names), separator
        types = {name: pa.float64() for name in columns.features} | {name: pa.string() for name in columns.copied}
        # No word stands for a missing number: whatever is not a number must be refused.
        self._convert = arrow_csv.ConvertOptions(column_types=types, include_columns=list(types), null_values=[])

    def last_row_end(self, text: bytes) -> int:
        """A row ends at a line end that is not within quotes."""
        end = text.rfind(b"\n") + 1
        if text.find(b'"', 0, end) < 0:
            return end
        characters = np.frombuffer(text, np.uint8, end)
        # A count that wraps around at 256 is as odd or even as it would be.
        outside = np.cumsum(characters == QUOTE, dtype=np.uint8) % 2 == 0
        ends = np.flatnonzero((characters == LINE_END) & outside)
        found = int(ends[-1]) + 1 if len(ends) else 0
        return found if found and self._well_quoted(text[:found]) else self._search_row_end(text[:end])

    def _search_row_end(self, text: bytes) -> int:
        """Where quotes are in wrong places, their number says nothing."""
        characters = text.decode("latin-1")  # one for each byte
        for record in self.records(characters):
            if record.problem == NOT_CLOSED:
                return sum(len(line) + 1 for line in characters.split("\n")[: record.line])
        return len(text)

    def parse(self, text: bytes) -> pa.Table:
        """Arrow takes quotes in wrong places as it can, which is refused here."""
        quoted = b'"' in text
        if quoted and not self._well_quoted(text):
            raise ValueError("quotes in wrong places")
        return arrow_csv.read_csv(
            pa.BufferReader(text),
            arrow_csv.ReadOptions(column_names=self._names),
            arrow_csv.ParseOptions(delimiter=self._separator, newlines_in_values=quoted),
            self._convert,
        )

    def _well_quoted(self, text: bytes) -> bool:
        """Whether cells are quoted as a whole or not at all."""
        characters = np.frombuffer(b"\n" + text + b"\n", np.uint8)
        quotes = np.flatnonzero(characters == QUOTE)
        # A quote within quotes is doubled, which looks like one that closes and one that opens.
        beside = [QUOTE, LINE_END, ord(self._separator)]
        opening, closing = characters[quotes[::2] - 1], characters[quotes[1::2] + 1]
        return len(quotes) % 2 == 0 and bool(np.isin(opening, beside).all() and np.isin(closing, beside).all())

    def records(self, text: str) -> Iterator[Record]:
        """After a quote in a wrong place, which may have taken in other rows, it goes on with the next line."""
        csv.field_size_limit(2 * LONGEST_ROW)  # no cell is longer
        lines = text.split("\n")
        start = 0
        while start < len(lines):
            try:
                for end, cells in self._read(lines, start):
                    if cells:  # a blank line is no row
                        yield Record(start, "\n".join(lines[start:end]), dict(zip(self._names, cells, strict=True)))
                    start = end
            except csv.Error as error:
                problem = NOT_CLOSED if "end of data" in str(error) else str(error)
                yield Record(start, lines[start], {}, problem)
                start += 1

    def _read(self, lines: list[str], start: int) -> Iterator[tuple[int, list[str]]]:
        """Yields where each row ends, and its cells; raises csv.Error for a row that can't be right."""
        following = (f"{lines[i]}\n" for i in range(start, len(lines)))
        reader = csv.reader(following, delimiter=self._separator, strict=True)
        for cells in reader:
            if cells and len(cells) != len(self._names):
                raise csv.Error(f"{len(cells)} cells, expected {len(self._names)}")
            yield start + reader.line_num, cells

    def number(self, cell: str) -> float:
        """As Arrow reads it, which knows neither the digits of other scripts nor 1_000."""
        if "_" in cell or not cell.isascii():
            raise ValueError
        return float(cell)


class JsonParser:
    """Objects, one a line."""

    def __init__(self, columns: Columns):
        types = {name: pa.float64() for name in columns.features} | {name: pa.string() for name in columns.copied}
        self._options = arrow_json.ParseOptions(explicit_schema=pa.schema(types), unexpected_field_behavior="ignore")

    def last_row_end(self, text: bytes) -> int:
        """A line end is no part of a JSON text."""
        return text.rfind(b"\n") + 1

    def parse(self, text: bytes) -> pa.Table:
        """Arrow takes any number of objects in a line, and one in several, which is refused here."""
        table = arrow_json.read_json(pa.BufferReader(text), parse_options=self._options)
        if table.num_rows != sum(1 for line in text.split(b"\n") if line.strip()):
            raise ValueError("objects and lines differ in number")
        return table

    def records(self, text: str) -> Iterator[Record]:
        """A line's own; blank lines are no rows."""
        for i, line in enumerate(text.split("\n")):
            if line.strip():
                yield self._record(i, line)

    def _record(self, line: int, text: str) -> Record:
        try:
            cells = json.loads(text)
        except (ValueError, RecursionError) as error:
            return Record(line, text, {}, f"not JSON ({str(error)[:60]})")
        if not isinstance(cells, dict):
            return Record(line, text, {}, "not a JSON object")
        return Record(line, text, cells)

    def number(self, cell: Any) -> float:
        """A text is no number, even if it looks like one."""
        if type(cell) not in (int, float):
            raise ValueError
        return float(cell)


def csv_parser(name: str, header: bytes, columns: Columns) -> CsvParser:
    """Reads a CSV's header.

    Args:
      name: the file's, for messages.
      header: its first line.
      columns: that it must have, in any order, beside others.

    Returns:
      The parser of the rows below.

    Raises:
      UsageError: if that is no header, lacks a column or has one twice.
    """
    try:
        text = header.decode("utf-8")
        separator = max(",;\t", key=text.count)
        names = [cell.strip() for cell in next(csv.reader([text], delimiter=separator, strict=True), [])]
    except (UnicodeDecodeError, csv.Error) as error:
        raise UsageError(f"{name}: the first line is not a header of a CSV in UTF-8 ({error})") from None
    check_columns(name, names, columns)
    return CsvParser(names, separator, columns)


def check_columns(name: str, names: Sequence[str], columns: Columns) -> None:
    """Refuses a file that lacks a column or has one twice, in one line that names the file and some of the columns."""
    if not set(names) & set(columns.features):
        raise UsageError(f"{name}: none of the model's columns {_listed(columns.features)}")
    missing = [column for column in columns.all if column not in names]
    repeated = [column for column in dict.fromkeys(names) if names.count(column) > 1]
    for word, found in (("missing", missing), ("repeated", repeated)):
        if found:
            raise UsageError(f"{name}: column {word}: {_listed(found)}")


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")


def open_text(name: str, file: IO[bytes]) -> tuple[Bytes, bytes]:
    """Begins to read a text.

    Args:
      name: the file's, for messages.
      file: its bytes; gzip is recognised by content.

    Returns:
      The text as it goes on, and how it begins, without a byte order mark.
    """
    buffered = file if isinstance(file, BufferedReader) else BufferedReader(file)  # pyright: ignore[reportArgumentType]
    text = gzip.GzipFile(fileobj=buffered) if buffered.peek(2)[:2] == GZIP else buffered
    return text, _read(name, text).removeprefix(codecs.BOM_UTF8)


def read_pieces(name: str, text: Bytes, rest: bytes, row_end: Callable[[bytes], int]) -> Iterator[bytes]:
    """Cuts a text into pieces of whole rows.

    Args:
      name: the file's, for messages.
      text: what goes on.
      rest: what has been read already.
      row_end: returns where the last whole row of its argument ends; 0 if there is none.

    Yields:
      The pieces in order, their line ends as on Unix.

    Raises:
      UsageError: if the file can't be read, or has no rows.
    """
    while True:
        end = row_end(rest)
        if not end and len(rest) > LONGEST_ROW:
            end = rest.find(b"\n") + 1  # a quote is not closed; it shall spoil its own line alone
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
    """Reads some more, with line ends as on Unix."""
    try:
        read = text.read(PIECE)
        while read.endswith(b"\r") and (following := text.read(1)):  # a line end may be cut in two
            read += following
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise UsageError(f"{name}: damaged or truncated gzip ({error})") from None
    except OSError as error:
        raise UsageError(f"{name}: can't be read ({error.strerror})") from None
    return read.replace(b"\r\n", b"\n").replace(b"\r", b"\n") if b"\r" in read else read


def read_rows(
    pieces: Iterable[bytes], line: int, parser: Parser, columns: Columns, on_broken: OnBroken
) -> Iterator[Block]:
    """Turns text into rows.

    Args:
      pieces: whole rows each.
      line: the first one's, 1 = first line of the file.
      parser: of their format.
      columns: which to read.
      on_broken: called with broken rows, in order.

    Yields:
      The other rows, in order.
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
    """Returns all rows of a text, or None where any may be broken."""
    try:
        if not text.isascii():
            text.decode("utf-8")  # Arrow looks only at columns that are read
        table = parser.parse(text)
    except ValueError:  # pa.ArrowInvalid and UnicodeDecodeError are that, too
        return None
    features = np.empty((table.num_rows, len(columns.features)))
    for i, name in enumerate(columns.features):
        features[:, i] = table[name].to_numpy()
    if not (np.abs(features) <= LARGEST_CELL).all():  # false for NaN, too, which stands for null
        return None
    copied = {name: table[name].to_pylist() for name in columns.copied}
    return make_block(columns, np.arange(row, row + len(features)), features, copied)


def _half(text: bytes, parser: Parser) -> int:
    """Returns where to cut a text in which a broken row is looked for; 0 to go through it line by line."""
    return parser.last_row_end(text[: len(text) // 2]) if len(text) > SEARCHED else 0


def _search(text: bytes, row: int, line: int, parser: Parser, columns: Columns) -> tuple[Block, list[BrokenRow]]:
    """Tells sound rows from broken ones."""
    rows, features, copied, broken = [], [], [], []
    # What is not UTF-8 becomes surrogates, which can't be encoded.
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
        if isinstance(cell, str) and not _encodable(cell):  # JSON can write half a character
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
