"""JSON lines: many rows at once with Arrow, or row by row."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterator
from functools import partial
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.json as arrow_json

from experiments.score.parsers import Parsed, Record, cells_frame, floats, read_csv, rows_but
from experiments.score.tables import Columns
from vae_jax.tables.arrow import pc, use_threads

# A name and the colon, with the brace before the first; a value follows.
NAME = re.compile(rb'[ \t]*(\{?)[ \t]*("(?:[^"\\]|\\.)*")[ \t]*:[ \t]*')
# Without -0, which Python reads as an integer, that has no sign.
NUMBER = r"^(0|-?[1-9][0-9]*|-?(0|[1-9][0-9]*)(\.[0-9]+([eE][-+]?[0-9]+)?|[eE][-+]?[0-9]+))$"
GAPS = ("null", "NaN")
ARROWS_OWN = re.compile(rb"[:,[][ \t\r]*(-NaN|-?Inf)[ \t\r]*[],}]")
END = 1 << 31  # beyond any cell
MOST_NAMES = 100  # beyond which reading column by column is no longer faster


class JsonParser:
    """Objects, one per line."""

    def __init__(self, columns: Columns):
        types = {name: columns.copied_type(name) for name in columns.all}
        self._options = arrow_json.ParseOptions(explicit_schema=pa.schema(types), unexpected_field_behavior="ignore")
        self._columns = columns
        self._before: dict[str, bytes] = {}  # what stands before each value of a row

    def last_row_end(self, text: bytes) -> int:
        """A JSON text contains no line end."""
        return text.rfind(b"\n") + 1

    def lines(self, text: bytes) -> list[bytes]:
        """White space is blank."""
        return [line if line.strip() else b"" for line in text.split(b"\n")]

    def parse(self, text: bytes) -> Parsed:
        """Reads rows that are written like the first one as CSV, and others, more slowly, as JSON."""
        self._before = self._before or _before_values(text.lstrip().partition(b"\n")[0])
        if self._before:
            try:
                found = self._parse_alike(text)
                if len(found.rows) >= len(found.left):
                    return found
            except ValueError:
                pass
            self._before = {}
        return self._parse_any(text)

    def _parse_alike(self, text: bytes) -> Parsed:
        """Cuts rows at commas. Those that have the same text before each value, and JSON for each value, are JSON."""
        names = list(self._before)
        table, left = read_csv(self, text, names, dict.fromkeys(names, pa.string()), quote_char=False)
        rows = rows_but(left, len(table))
        last = pc.utf8_rtrim(table[names[-1]], " \t")
        table = table.set_column(len(names) - 1, names[-1], last)
        alike = [pc.starts_with(table[name], before.decode()) for name, before in self._before.items()]
        alike.append(pc.ends_with(last, "}"))
        if not all(pc.all(of).as_py() for of in alike):
            odd = ~np.all(alike, 0)
            table, left, rows = table.filter(pa.array(~odd)).combine_chunks(), np.union1d(left, rows[odd]), rows[~odd]

        found = {name: self._column(table, name) for name in names}
        gaps, nothing = np.full(len(table), np.nan), [None] * len(table)
        features = np.stack([found[name][0] if name in found else gaps for name in self._columns.features], 1)
        copied: Any = {name: found[name][0] if name in found else nothing for name in self._columns.copied}
        return Parsed(rows, left, features, copied).without(np.any([odd for _, odd in found.values()], 0))

    def _column(self, table: pa.Table, name: str) -> tuple[np.ndarray | list, np.ndarray]:
        """The values of a column, as numbers where those suffice; and which of them are odd."""
        cells, before = table[name], self._before[name]
        values = pc.binary_replace_slice(cells, 0, len(before), "")
        if name == table.column_names[-1]:
            values = pc.binary_replace_slice(values, -1, END, "")
        if name not in self._columns.copied:
            numbers = floats(values, NUMBER, GAPS, partial(_are_numbers, cells, before))
            odd = np.isinf(numbers)
            if name in self._columns.features or not odd.any():
                return numbers, odd
        return _read_values(values.to_pylist())

    def _parse_any(self, text: bytes) -> Parsed:
        """Rejects several objects in a line and one over several, which Arrow would accept."""
        if (b"-NaN" in text or b"Inf" in text) and ARROWS_OWN.search(text):  # which alone takes six times as long
            raise ValueError("a value that Arrow reads, and Python does not")
        starts = [line[:1] for line in map(bytes.strip, text.split(b"\n")) if line]
        if any(start != b"{" for start in starts):
            raise ValueError("null for a row, which Arrow takes for one of gaps, and does not survive as the first")
        read = arrow_json.ReadOptions(use_threads=use_threads(text))
        table = arrow_json.read_json(pa.BufferReader(text), read, self._options)
        if table.num_rows != len(starts):
            raise ValueError("objects and lines differ in number")
        features = np.stack([table[name].to_numpy() for name in self._columns.features], 1)
        if (np.signbit(features) & (features == 0)).any() and re.search(rb"-0(?![.0-9eE])", text):
            raise ValueError("-0, which Python reads as an integer, that has no sign")
        copied = {name: table[name].to_pylist() for name in self._columns.copied}
        return Parsed(np.arange(len(table)), np.arange(0), features, copied)

    def parse_cells(self, text: bytes) -> tuple[pd.DataFrame, np.ndarray]:
        """Numbers, text, yes and no as they are."""
        records = list(self.records(text.decode("utf-8")))
        left = np.array([bool(of.problem) or _may_be_half(of.text) for of in records], bool)
        whole = [records[i] for i in np.flatnonzero(~left)]
        return cells_frame(whole, self._columns), np.flatnonzero(left)

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


def _before_values(row: bytes) -> dict[str, bytes]:
    """What stands before each value in a row, by name; empty for other rows, and if a value has a comma."""
    before = {}
    cells = row.split(b",")
    for i, cell in enumerate(cells):
        found = NAME.match(cell)
        if found is None or bool(found[1]) != (i == 0):
            return {}
        try:
            before[json.loads(found[2])] = found[0]
        except ValueError:
            return {}
    return before if len(before) == len(cells) <= MOST_NAMES else {}


def _are_numbers(cells: pa.ChunkedArray, before: bytes) -> bool:
    """Whether what Arrow takes for a number behind `before` is one in JSON: no +1, .5, 01 or 1., and no -0."""
    (chunk,) = cells.chunks
    _, offsets, data = chunk.buffers()
    offsets = np.frombuffer(offsets, np.int32)[chunk.offset :][: len(chunk) + 1]
    text = np.frombuffer(data, np.uint8)[: offsets[-1]]
    text = np.append(text, np.zeros(2, np.uint8))  # so that there is something behind the last cell
    negative = text[offsets[:-1] + len(before)] == ord("-")
    first = offsets[:-1] + len(before) + negative
    after = text[first + 1]
    no_integer = (after == ord(".")) | (after == ord("e")) | (after == ord("E"))
    zeros = (text[first] == ord("0")) & (_digit(after) | (negative & ~no_integer))
    return bool(
        _digit(text[first]).all()
        and not zeros.any()
        and _bare_dots(text) == len(chunk) * _bare_dots(np.frombuffer(before, np.uint8))
    )


def _digit(text: np.ndarray) -> np.ndarray:
    return text - np.uint8(ord("0")) < 10


def _bare_dots(text: np.ndarray) -> int:
    """How many dots have no digit behind them."""
    return int(np.count_nonzero((text[:-1] == ord(".")) > _digit(text[1:])))


def _read_values(cells: list[str]) -> tuple[list, np.ndarray]:
    """Reads a value without commas from each cell; True for one that is none, or may have half a surrogate pair."""
    odd = np.array([_may_be_half(cell) for cell in cells], bool)
    try:
        values = _DECODER.decode(f"[{','.join(cells)}]")
        if len(values) == len(cells):
            return values, odd
    except (ValueError, RecursionError):
        pass
    values = []
    for i, cell in enumerate(cells):
        try:
            values.append(_DECODER.decode(cell))
        except (ValueError, RecursionError):
            values.append(None)
            odd[i] = True
    return values, odd


def _may_be_half(text: str) -> bool:
    return "\\" in text and "\\ud" in text.lower()
