"""Rows from text: CSV and JSON lines, plain or gzip.

Arrow parses the text piece by piece: plain numbers at once, other cells as text that the model's schema reads. Rows
that it can't tell to be sound are read one by one, which says what is wrong with them. Only where a misplaced quote or
wrong UTF-8 leaves unclear what is a row, a piece is cut in halves until the one with the broken row is small. All ways
round numbers correctly, so they give the same bits.
"""

from __future__ import annotations

import codecs
import gzip
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from io import BufferedReader
from typing import IO

import numpy as np
import pandas as pd

from experiments.command_line import UsageError
from experiments.score.parsers import LINE_END, LONGEST_ROW, Parser, Record, cells_frame, rows_but, sizes_of
from experiments.score.tables import (
    NO_CELL,
    Block,
    BrokenRow,
    Columns,
    OnBroken,
    describe_number,
    is_sound,
    join,
    make_block,
)
from vae_jax.data.errors import CellError
from vae_jax.tables.cells import to_float
from vae_jax.tables.text_numbers import NumberFormat, to_numbers

PIECE = 4 << 20  # bytes read and parsed at once
SEARCHED = 64 << 10  # bytes read line by line to find a broken row
GZIP = b"\x1f\x8b"


class Recoded:
    """A text in another encoding, to be read as UTF-8."""

    def __init__(self, text: IO[bytes] | gzip.GzipFile, encoding: str):
        self._text, self._decoder = text, codecs.getincrementaldecoder(encoding)()

    def read(self, size: int) -> bytes:
        """Reads about as much; nothing only at the end. Raises UnicodeDecodeError."""
        while True:
            read = self._text.read(size)
            found = self._decoder.decode(read, final=not read)
            if found or not read:
                return found.encode()


Bytes = IO[bytes] | gzip.GzipFile | Recoded


def open_text(name: str, file: IO[bytes], encoding: str | None = None) -> tuple[Bytes, bytes]:
    """Starts reading a text; gzip and UTF-16 with a byte order mark are recognised by content.

    Returns:
      The rest of the text, and its beginning without a byte order mark.
    """
    buffered = file if isinstance(file, BufferedReader) else BufferedReader(file)  # pyright: ignore[reportArgumentType]
    packed = buffered.peek(2)[:2] == GZIP
    plain = BufferedReader(gzip.GzipFile(fileobj=buffered)) if packed else buffered  # pyright: ignore[reportArgumentType]
    try:
        beginning = plain.peek(2)[:2]
    except (EOFError, zlib.error, OSError):
        beginning = b""  # reading it says what is wrong
    if beginning in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE):
        encoding = "utf-16"
    text = Recoded(plain, encoding) if encoding else plain
    return text, _read(name, text).removeprefix(codecs.BOM_UTF8)


def cut_line(name: str, text: Bytes, read: bytes) -> tuple[bytes, bytes]:
    """Returns a text's first line, and what has been read after it; `read` is its beginning. Raises UsageError."""
    while b"\n" not in read and len(read) <= LONGEST_ROW and (more := _read(name, text)):
        read += more
    line, _, rest = read.partition(b"\n")
    if len(line) > LONGEST_ROW:
        raise _no_rows(name)
    return line, rest


def read_pieces(name: str, text: Bytes, rest: bytes, row_end: Callable[[bytes], int]) -> Iterator[bytes]:
    """Cuts a text, of which `rest` has been read already, into pieces of whole rows with Unix line ends.

    `row_end` returns where the last whole row of its argument ends; 0 if there is none. Raises UsageError if the file
    can't be read or is not made of rows.
    """
    lines = 1
    while True:
        end = row_end(rest)
        if end:
            lines = 1
        elif len(rest) > LONGEST_ROW:
            end = _end_of(lines, rest)  # an unclosed quote, which must spoil only its own line
            lines *= 16  # but if there is one in line after line, they would have to be searched from each
            if not end:
                raise _no_rows(name)
        if end:
            yield rest[:end]
            rest = rest[end:]
        if len(rest) <= LONGEST_ROW:
            more = _read(name, text)
            rest += more
            if not more:
                break
    if rest:
        yield rest


def _no_rows(name: str) -> UsageError:
    return UsageError(f"{name}: no line end in {LONGEST_ROW:,} bytes, so these are no rows of text")


def _end_of(lines: int, text: bytes) -> int:
    """Where so many lines end, or as many as there are; 0 if there is none."""
    end = 0
    for _ in range(lines):
        following = text.find(b"\n", end) + 1
        if not following:
            break
        end = following
    return end


def _read(name: str, text: Bytes) -> bytes:
    """Reads some more, with Unix line ends."""
    try:
        read = text.read(PIECE)
        while read.endswith(b"\r") and (following := text.read(1)):  # a line end may be split
            read += following
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise UsageError(f"{name}: damaged or truncated gzip ({error})") from None
    except UnicodeDecodeError as error:
        raise UsageError(f"{name}: not {error.encoding} ({error.reason})") from None
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
            read = _parse(text, row, line, parser, columns)
            if read is None and (half := _half(text, parser)):
                waiting += [text[half:], text[:half]]
                continue
            block, broken = read or _search(text, row, line, parser, columns)
            if broken:
                on_broken(broken)
            row += len(block) + len(broken)
            line += int(np.count_nonzero(np.frombuffer(text, np.uint8) == LINE_END))  # faster than bytes.count
            if len(block):
                yield block


def _parse(text: bytes, row: int, line: int, parser: Parser, columns: Columns) -> tuple[Block, list[BrokenRow]] | None:
    """Reads most rows of a text at once, the others line by line; None if it has to be cut or searched as a whole."""
    try:
        if not text.isascii():
            text.decode("utf-8")  # Arrow checks only the columns it reads
        block, left = _numbers(text, parser, columns) or _cells(text, parser, columns)
    except ValueError:  # includes pa.ArrowInvalid and UnicodeDecodeError
        return None
    if not len(left):
        return replace(block, rows=row + block.rows), []
    lines = parser.lines(text) or []
    places = sizes_of(lines).nonzero()[0]
    if len(places) != len(block) + len(left):
        return None
    blocks, broken = [block], []
    for some in _portions(left, [len(lines[places[i]]) for i in left]):
        found, bad = _search(b"\n".join(lines[places[i]] for i in some), 0, 0, parser, columns)
        blocks.append(replace(found, rows=some[found.rows]))
        broken += [of._replace(row=row + int(some[of.row]), line=line + int(places[some[of.row]])) for of in bad]
    whole = join([of for of in blocks if len(of)] or [block])
    whole = whole.take(np.argsort(whole.rows))
    return replace(whole, rows=row + whole.rows), broken


def _portions(rows: np.ndarray, sizes: Sequence[int]) -> list[np.ndarray]:
    """Cuts rows of so many bytes into portions that are searched at once."""
    return np.split(rows, np.flatnonzero(np.diff(np.cumsum(sizes) // SEARCHED)) + 1)


def _numbers(text: bytes, parser: Parser, columns: Columns) -> tuple[Block, np.ndarray] | None:
    """Reads rows of plain numbers and gaps, the fast way; also returns which rows are left. None if those are many."""
    if columns.schema:
        return None
    try:
        found = parser.parse(text)
    except ValueError:
        return None
    unsound = ~is_sound(found.features)
    found = found.without(np.any(unsound, 1) | np.all(np.isnan(found.features), 1))
    if len(found.left) > len(found.rows):
        return None
    return make_block(columns, found.rows, found.features, found.copied), found.left


def _cells(text: bytes, parser: Parser, columns: Columns) -> tuple[Block, np.ndarray]:
    """Reads rows of any cells; also returns which rows are left."""
    frame, left = parser.parse_cells(text)
    rows = rows_but(left, len(frame))
    block, wrong = _sound_rows(frame, rows, columns)
    return block, np.union1d(left, rows[list(wrong)])


def _sound_rows(frame: pd.DataFrame, rows: np.ndarray, columns: Columns) -> tuple[Block, dict[int, str]]:
    """Reads rows, of these numbers, that can be scored; the second value is that of `read_features`."""
    features, wrong = read_features(frame, columns)
    sound = np.array([i not in wrong for i in range(len(frame))], bool)
    cells = frame[sound].reset_index(drop=True) if wrong else frame
    copied = {name: cells[name].tolist() for name in columns.copied}
    return make_block(columns, rows[sound], features[sound], copied, cells if columns.schema else None), wrong


def read_features(frame: pd.DataFrame, columns: Columns) -> tuple[np.ndarray, dict[int, str]]:
    """Turns cells into numbers; the second value says what is wrong with a row, by its place in the frame."""
    if columns.schema:
        errors: dict[int, CellError] = {}
        rows = columns.schema.transform(frame.reset_index(drop=True), errors)
        wrong = {i: f"column {error.column}: {error.wrong}" for i, error in errors.items()}
        empty = np.flatnonzero(columns.schema.gaps(rows).all(1)).tolist()
        return rows, {**dict.fromkeys(empty, NO_CELL), **wrong}
    cells = frame.to_numpy(object)[:, : len(columns.features)]
    numbers, bad = as_numbers(cells.ravel(), columns.number_format)
    features, bad = numbers.reshape(cells.shape), bad.reshape(cells.shape)
    return features, wrong_rows(columns, features, bad, lambda i, j: str(cells[i, j]).strip())


def wrong_rows(
    columns: Columns, features: np.ndarray, bad: np.ndarray, cell: Callable[[int, int], object]
) -> dict[int, str]:
    """What is wrong with rows of numbers, by place: the first bad cell, read by `cell`, or that all are gaps."""
    wrong = dict.fromkeys(np.flatnonzero(np.isnan(features).all(1)).tolist(), NO_CELL)
    for i in np.flatnonzero(bad.any(1)).tolist():
        j = int(bad[i].argmax())
        wrong[i] = describe_number(columns.features[j], cell(i, j), features[i, j])
    return wrong


def as_numbers(cells: np.ndarray, number_format: NumberFormat) -> tuple[np.ndarray, np.ndarray]:
    """Turns each cell into a number on its own, NaN for a gap; True for one that is not sound."""
    typed = np.array([type(cell) in (int, float) for cell in cells], bool)
    texts = np.array([None if cell is None else str(cell).strip() for cell in cells[~typed]], object)
    numbers, bad = np.empty(len(cells)), np.zeros(len(cells), bool)
    numbers[typed] = [to_float(cell) for cell in cells[typed]]
    numbers[~typed], bad[~typed] = to_numbers(texts, number_format)
    return numbers, bad | ~is_sound(numbers)


def _half(text: bytes, parser: Parser) -> int:
    """Where to cut a text that contains a broken row; 0 to search it line by line."""
    return parser.last_row_end(text[: len(text) // 2]) if len(text) > SEARCHED else 0


def _search(text: bytes, row: int, line: int, parser: Parser, columns: Columns) -> tuple[Block, list[BrokenRow]]:
    """Separates sound rows from broken ones."""
    # Invalid UTF-8 becomes surrogates, which can't be encoded.
    records = list(parser.records(text.decode("utf-8", "surrogateescape")))
    problems = {i: problem for i, record in enumerate(records) if (problem := _problem(record, columns))}
    whole = [i for i in range(len(records)) if i not in problems]
    frame = cells_frame([records[i] for i in whole], columns)
    block, wrong = _sound_rows(frame, row + np.array(whole, np.int64), columns)
    problems |= {whole[i]: what for i, what in wrong.items()}
    broken = [
        BrokenRow(row + i, line + records[i].line, problem, _printable(records[i].text))
        for i, problem in sorted(problems.items())
    ]
    return block, broken


def _problem(record: Record, columns: Columns) -> str:
    """What is wrong with a row as a whole; "" if nothing is."""
    if record.problem:
        return record.problem
    if not _encodable(record.text):
        return "not UTF-8; if the whole file is not, say its encoding, for example --encoding latin-1"
    for name in columns.all if "\\u" in record.text else ():  # JSON can encode half a surrogate pair
        cell = record.cells.get(name)
        if isinstance(cell, str) and not _encodable(cell):
            return f"column {name}: not Unicode"
    return ""


def _encodable(text: str) -> bool:
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True


def _printable(text: str) -> str:
    return text.encode("utf-8", "surrogateescape").decode("utf-8", "replace")
