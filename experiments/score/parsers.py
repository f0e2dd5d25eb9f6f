"""Parsers of the text formats, CSV and JSON lines: many rows at once with Arrow, or row by row."""

from __future__ import annotations

import csv
import json
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple, Protocol

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.csv as arrow_csv
import pyarrow.json as arrow_json

from experiments.command_line import UsageError
from experiments.score.tables import Columns

LONGEST_ROW = 8 << 20  # largest size of a row in bytes, so that memory is bounded
MOST_LINES = 1_000  # of a broken row, beyond which rows are no longer looked for in its other lines, save of one line
NOT_CLOSED = "a quote is not closed"

QUOTE, LINE_END = ord('"'), ord("\n")


class Record(NamedTuple):
    """A row read on its own.

    Attributes:
      line: where it begins, 0 = first line of its piece.
      text: as in the file.
      cells: by column; empty if there is a problem.
      problem: what is wrong with the row as a whole.
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
        """Parses whole rows at once; raises pa.ArrowInvalid or ValueError if any may be broken."""
        ...

    def records(self, text: str) -> Iterator[Record]:
        """Reads rows one by one."""
        ...

    def parse_cells(self, text: bytes) -> pd.DataFrame:
        """Parses whole rows at once without converting features; raises as `parse` does."""
        ...


class CsvParser:
    """CSV rows, quoted as in RFC 4180."""

    def __init__(self, names: Sequence[str], separator: str, columns: Columns):
        self._names, self._separator = list(names), separator
        texts = dict.fromkeys(columns.all, pa.string())
        types = texts | dict.fromkeys(columns.features, pa.float64())
        # No word stands for a missing number: those that do are found by `parse_cells`.
        self._numbers, self._texts = (
            arrow_csv.ConvertOptions(column_types=of, include_columns=list(of), null_values=[]) for of in (types, texts)
        )

    def last_row_end(self, text: bytes) -> int:
        """A row ends at a line end outside quotes."""
        end = text.rfind(b"\n") + 1
        if text.find(b'"', 0, end) < 0:
            return end
        characters = np.frombuffer(text, np.uint8, end)
        # Wrapping around at 256 does not change whether a count is odd or even.
        outside = np.cumsum(characters == QUOTE, dtype=np.uint8) % 2 == 0
        ends = np.flatnonzero((characters == LINE_END) & outside)
        found = int(ends[-1]) + 1 if len(ends) else 0
        return found if found and self._well_quoted(text[:found]) else self._search_row_end(text[:end])

    def _search_row_end(self, text: bytes) -> int:
        """Goes row by row: with misplaced quotes, counting them says nothing."""
        characters = text.decode("latin-1")  # one for each byte
        for record in self.records(characters):
            if record.problem == NOT_CLOSED:
                return sum(len(line) + 1 for line in characters.split("\n")[: record.line])
        return len(text)

    def parse(self, text: bytes) -> pa.Table:
        """Rejects misplaced quotes, which Arrow would accept."""
        return self._parse(text, self._numbers)

    def parse_cells(self, text: bytes) -> pd.DataFrame:
        """All cells as text."""
        return self._parse(text, self._texts).to_pandas()

    def _parse(self, text: bytes, convert: arrow_csv.ConvertOptions) -> pa.Table:
        quoted = b'"' in text
        if quoted and not self._well_quoted(text):
            raise ValueError("quotes in wrong places")
        return arrow_csv.read_csv(
            pa.BufferReader(text),
            arrow_csv.ReadOptions(column_names=self._names),
            arrow_csv.ParseOptions(delimiter=self._separator, newlines_in_values=quoted),
            convert,
        )

    def _well_quoted(self, text: bytes) -> bool:
        """Whether every cell is quoted entirely or not at all."""
        characters = np.frombuffer(b"\n" + text + b"\n", np.uint8)
        quotes = np.flatnonzero(characters == QUOTE)
        # A quote within quotes is doubled, which looks like a closing and an opening quote.
        beside = [QUOTE, LINE_END, ord(self._separator)]
        opening, closing = characters[quotes[::2] - 1], characters[quotes[1::2] + 1]
        return len(quotes) % 2 == 0 and bool(np.isin(opening, beside).all() and np.isin(closing, beside).all())

    def records(self, text: str) -> Iterator[Record]:
        """After a misplaced quote, which may have swallowed other rows, it goes on with the next line."""
        csv.field_size_limit(2 * LONGEST_ROW)  # longer than any cell
        lines = text.split("\n")
        start = single = 0  # before line `single`, rows are of one line: to read all again from each would never end
        while start < len(lines):
            stop = start + 1 if start < single else len(lines)
            try:
                for end, cells in self._read(lines, start, stop):
                    if cells:  # blank lines are not rows
                        yield Record(start, "\n".join(lines[start:end]), dict(zip(self._names, cells, strict=True)))
                    start = end
            except _BrokenError as error:
                yield Record(start, lines[start], {}, str(error))
                if error.end - start > MOST_LINES:
                    single = error.end
                start += 1

    def _read(self, lines: list[str], start: int, stop: int) -> Iterator[tuple[int, list[str]]]:
        """Yields each row's end and cells."""
        following = (f"{lines[i]}\n" for i in range(start, stop))
        reader = csv.reader(following, delimiter=self._separator, strict=True)
        try:
            for cells in reader:
                if cells and len(cells) != len(self._names):
                    raise csv.Error(f"{len(cells)} cells, expected {len(self._names)}")
                yield start + reader.line_num, cells
        except csv.Error as error:
            problem = NOT_CLOSED if "end of data" in str(error) else str(error)
            raise _BrokenError(problem, start + reader.line_num) from None


class _BrokenError(Exception):
    """A broken row, with the line where it ends."""

    def __init__(self, problem: str, end: int):
        super().__init__(problem)
        self.end = end


class JsonParser:
    """Objects, one per line."""

    def __init__(self, columns: Columns):
        types = {name: columns.copied_type(name) for name in columns.all}
        self._options = arrow_json.ParseOptions(explicit_schema=pa.schema(types), unexpected_field_behavior="ignore")
        self._columns = columns

    def last_row_end(self, text: bytes) -> int:
        """A JSON text contains no line end."""
        return text.rfind(b"\n") + 1

    def parse(self, text: bytes) -> pa.Table:
        """Rejects several objects in a line and one over several, which Arrow would accept."""
        table = arrow_json.read_json(pa.BufferReader(text), parse_options=self._options)
        if table.num_rows != sum(1 for line in text.split(b"\n") if line.strip()):
            raise ValueError("objects and lines differ in number")
        return table

    def parse_cells(self, text: bytes) -> pd.DataFrame:
        """Numbers, text, yes and no as they are."""
        if b"\\ud" in text.lower():
            raise ValueError("perhaps half a surrogate pair")
        records = list(self.records(text.decode("utf-8")))
        if any(record.problem for record in records):
            raise ValueError("a broken line")
        return cells_frame(records, self._columns)

    def records(self, text: str) -> Iterator[Record]:
        """One per line; blank lines are not rows."""
        for i, line in enumerate(text.split("\n")):
            if line.strip():
                yield self._record(i, line)

    def _record(self, line: int, text: str) -> Record:
        """A list or object among the features becomes text."""
        try:
            cells = _DECODER.decode(text)
            if not isinstance(cells, _Object):
                return Record(line, text, {}, "not a JSON object")
            nested = [name for name in self._columns.features if isinstance(cells.get(name), list | dict)]
            cells |= {name: str(cells[name]) for name in nested}
        except (ValueError, RecursionError) as error:
            return Record(line, text, {}, f"not JSON ({str(error)[:60]})")
        if twice := cells.twice & set(self._columns.all):
            return Record(line, text, {}, f"column {min(twice)}: twice in the row")
        return Record(line, text, cells)


class _Object(dict):
    """An object of JSON that knows which names it was given twice."""

    def __init__(self, pairs: list[tuple[str, Any]]):
        super().__init__(pairs)
        names = Counter(name for name, _ in pairs) if len(self) < len(pairs) else {}
        self.twice = {name for name, count in names.items() if count > 1}


_DECODER = json.JSONDecoder(object_pairs_hook=_Object)


def cells_frame(records: Sequence[Record], columns: Columns) -> pd.DataFrame:
    """The cells of rows as they are."""
    cells = {name: [record.cells.get(name) for record in records] for name in columns.all}
    return pd.DataFrame({name: pd.Series(values, dtype=object) for name, values in cells.items()})


def csv_parser(name: str, header: bytes, columns: Columns) -> CsvParser:
    """Reads a CSV file's header, and returns the parser of the rows below.

    Raises UsageError if it is no header, lacks one of `columns` (in any order, among others) or repeats a column.
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
    """Refuses a file that lacks or repeats a column, in one line that names the file and some of the columns."""
    there = set(names)
    if not there & set(columns.features):
        raise UsageError(f"{name}: none of the model's columns {_listed(columns.features)}")
    missing = [column for column in columns.all if column not in there]
    # Several may have no name, such as those behind a separator at the end of each line.
    repeated = [column for column, count in Counter(names).items() if column and count > 1]
    for word, found in (("missing", missing), ("repeated", repeated)):
        if found:
            raise UsageError(f"{name}: column {word}: {_listed(found)}")


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")
