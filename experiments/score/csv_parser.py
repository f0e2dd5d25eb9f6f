"""CSV: many rows at once with Arrow, or row by row."""

from __future__ import annotations

import csv
import re
from collections.abc import Iterator, Sequence

import numpy as np
import pandas as pd
import pyarrow as pa

from experiments.command_line import UsageError
from experiments.score.parsers import LINE_END, LONGEST_ROW, Parsed, Record, check_columns, floats, read_csv, rows_but
from experiments.score.tables import Columns
from vae_jax.tables.files import SEPARATORS
from vae_jax.tables.text_numbers import MISSING_WORDS, PLAIN

MOST_LINES = 1_000  # of a broken row; in the other lines of a longer one, only rows of one line are looked for
NOT_CLOSED, NOT_CLOSED_IN_LINE = "a quote is not closed", "a quote is not closed in its line"

QUOTE = ord('"')
OTHER_FILES = {  # how files that are no CSV begin
    b"PK\x03\x04": "looks like Excel or a zip rather than CSV; say --input-format xlsx, or unpack it",
    b"PAR1": "looks like Parquet rather than CSV; say --input-format parquet",
}


class CsvParser:
    """CSV rows, quoted as in RFC 4180."""

    def __init__(self, names: Sequence[str], separator: str, columns: Columns):
        self._names, self._separator, self._columns = list(names), separator, columns
        self._texts = dict.fromkeys(columns.all, pa.string())
        self._numbers = self._texts | dict.fromkeys(columns.features, pa.float64())
        self._plain = True  # whether all cells of features have been finite numbers so far

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
        sound = found and self._well_quoted(text[:found]) and self._whole_rows(characters, outside, ends)
        return found if sound else self._search_row_end(text[:end])

    def _whole_rows(self, characters: np.ndarray, outside: np.ndarray, ends: np.ndarray) -> bool:
        """Whether rows of several lines have as many cells as the header; of others each line is read as a row."""
        inner = (characters == LINE_END) & ~outside
        if not inner.any():
            return True
        several = np.diff(np.cumsum(inner)[ends], prepend=0) > 0
        cells = np.diff(np.cumsum((characters == ord(self._separator)) & outside)[ends], prepend=0) + 1
        return bool((cells[several] == len(self._names)).all())

    def _search_row_end(self, text: bytes) -> int:
        """Goes row by row: with misplaced quotes, counting them says nothing."""
        lines = text.decode("latin-1").split("\n")  # a character for each byte
        # What has no quotes has no say in it.
        for record in self.records("\n".join(line if '"' in line else "" for line in lines)):
            if record.problem == NOT_CLOSED:
                return sum(len(line) + 1 for line in lines[: record.line])
        return len(text)

    def lines(self, text: bytes) -> list[bytes] | None:
        """With quotes in the right places, a row of one line has an even number of them."""
        lines = text.split(b"\n")
        return None if b'"' in text and any(line.count(b'"') % 2 for line in lines) else lines

    def parse(self, text: bytes) -> Parsed:
        """Converts all cells at once, or if a file has any that are no numbers, column by column to find those."""
        if self._columns.number_format.decimal != ".":
            raise ValueError("decimal commas")
        if self._plain:
            try:
                table, left = self._table(text, self._numbers)
                features = np.stack([table[name].to_numpy() for name in self._columns.features], 1)
                if np.isfinite(features).all():
                    return self._parsed(table, left, features)
            except pa.ArrowInvalid:
                pass
            self._plain = False
        table, left = self._table(text, self._texts)
        features = np.stack([floats(table[name], PLAIN, MISSING_WORDS) for name in self._columns.features], 1)
        return self._parsed(table, left, features)

    def _parsed(self, table: pa.Table, left: np.ndarray, features: np.ndarray) -> Parsed:
        copied = {name: table[name].to_pylist() for name in self._columns.copied}
        return Parsed(rows_but(left, len(table)), left, features, copied)

    def parse_cells(self, text: bytes) -> tuple[pd.DataFrame, np.ndarray]:
        """All cells as text."""
        table, left = self._table(text, self._texts)
        return table.to_pandas(), left

    def _table(self, text: bytes, types: dict[str, pa.DataType]) -> tuple[pa.Table, np.ndarray]:
        """Returns the rows with the right number of cells, and the numbers of the others.

        Rejects misplaced quotes, which Arrow would accept.
        """
        quoted = b'"' in text
        if quoted and not self._well_quoted(text):
            raise ValueError("quotes in wrong places")
        return read_csv(self, text, self._names, types, delimiter=self._separator, newlines_in_values=quoted)

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
        begin = start
        try:
            for cells in reader:
                end = start + reader.line_num
                if cells and (problem := self._problem(cells, lines[begin:end])):
                    raise csv.Error(problem)
                yield end, cells
                begin = end
        except csv.Error as error:
            problem = str(error)
            if "end of data" in problem:
                problem = NOT_CLOSED if stop == len(lines) else NOT_CLOSED_IN_LINE
            raise _BrokenError(problem, start + reader.line_num) from None

    def _problem(self, cells: list[str], lines: list[str]) -> str:
        """What is wrong with a row whose quotes are closed; "" if nothing is."""
        # Training takes such a quote for one; a cell that only holds the like is in a well quoted row.
        spaced = any(cell[:1] == " " and cell.lstrip(" ")[:1] == '"' for cell in cells)
        if spaced and not self._well_quoted("\n".join(lines).encode("utf-8", "surrogateescape")):
            return "a space before a quote; remove it"
        expected = len(self._names)
        if len(cells) == expected:
            return ""
        ends = len(cells) == expected + 1 and not cells[-1].strip()
        advice = f"; if each row ends with {self._separator!r}, let the header end with it too" if ends else ""
        return f"{len(cells)} cells, expected {expected}{advice}"


class _BrokenError(Exception):
    """A broken row, with the line where it ends."""

    def __init__(self, problem: str, end: int):
        super().__init__(problem)
        self.end = end


def csv_parser(name: str, header: bytes, columns: Columns) -> CsvParser:
    """Reads a CSV file's header, and returns the parser of the rows below.

    Of the separators that training knows, takes the one by which the header has most of the columns. Raises UsageError
    if it is no header, lacks one of `columns` (in any order, among others) or repeats a column.
    """
    if kind := next((kind for start, kind in OTHER_FILES.items() if header.startswith(start)), None):
        raise UsageError(f"{name}: {kind}")
    wrong = f"{name}: the first line is not a header of a CSV in UTF-8"
    try:
        text = header.decode("utf-8")
    except UnicodeDecodeError as error:
        raise UsageError(f"{wrong}; say its encoding, for example --encoding latin-1 ({error})") from None
    if re.match(r'\s*\{\s*"', text):
        raise UsageError(f"{name}: looks like JSON lines rather than CSV; say --input-format jsonl")
    found = {separator: names for separator in SEPARATORS if (names := _names(text, separator)) is not None}
    separator = max(found, key=lambda of: (len({*found[of]} & {*columns.all}), len(found[of])), default="")
    if len(found) < len(SEPARATORS) and len(found.get(separator, "")) < 2:
        raise UsageError(f"{wrong} (a quote is misplaced or not closed)")
    check_columns(name, found[separator], columns)
    return CsvParser(found[separator], separator, columns)


def _names(header: str, separator: str) -> list[str] | None:
    """Divides a header outside of quotes; None if the quotes are in wrong places."""
    csv.field_size_limit(2 * LONGEST_ROW)  # longer than any name
    try:
        cells = next(csv.reader([header], delimiter=separator, skipinitialspace=True, strict=True), [])
    except csv.Error:
        return None
    return [cell.strip() for cell in cells]
