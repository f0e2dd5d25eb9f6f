"""Rows read many at once and rows read one by one: the same rows, bits, line numbers and words."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from experiments.score import text as table_text
from experiments.score.csv_parser import CsvParser
from experiments.score.json_parser import JsonParser
from experiments.score.tables import Columns
from vae_jax.tables.scaling import Scaler
from vae_jax.tables.schema import Schema
from vae_jax.tables.text_numbers import NumberFormat

FEATURES = ("a", "b", "c")
NUMBERS = Columns(FEATURES, ("id", "b"))
GERMAN = Columns(FEATURES, ("id",), Scaler(np.zeros(3), np.ones(3), FEATURES, number_format=NumberFormat(",", ".")))
FRAME = pd.DataFrame({"a": ["1", "2.5", None], "b": ["x", "y", "x"], "c": ["3", "4", "5.5"]})
ANY = Columns(FEATURES, ("id",), Schema.fit(FRAME, {"a": "real", "b": "category", "c": "real"}))

FLOATS = st.floats(-1e30, 1e30)
PLAIN = FLOATS.map(repr) | FLOATS.map("{:.17g}".format) | FLOATS.map("{:.25e}".format) | st.integers().map(str)
WORDS = r"""
    +1 1. .5 -.5 01 -01 00 -0 -0.0 -0e1 0.50 1.e5 1e 1e400 -1e400 1e-400 1e31 1E5 1e+5 nan NaN -nan nan(1) inf
    -NaN Inf -Inf
    -Infinity Infinity NA null None ? - -- true false two 0x2 1_0 1,5 1.234 12% €5 (5) ٣ [] [1] {} {"x":1} "2" "two"
    "NA" "x,y" "\u0041" "\ud800" "\ud83d\ude00" "\"" "é"
"""
SPACES = ["", " ", " 1", "1 ", "\t2", "\u00a03", "\x0b4", "9" * 40, "1" * 400, "0" * 400, '"a b"', '"\t"']
CELL = st.one_of(PLAIN, PLAIN, PLAIN, PLAIN, st.sampled_from(WORDS.split() + SPACES))
ODD = [b'x, "1",2,3,y', b'x,1,2,3, "y, z"', b'" ""x, ""y""",1,2,3, z', b' "x",1,2,3,y', b"x,1,2,3,y,", b"x,1,2,3,,"]
DEBRIS = st.binary(max_size=6) | st.sampled_from(
    [b"", b" ", b'"', b'x,"1', b"{", b"}", b"[]", b"\xff", b'"a"b,1,2,3', *ODD]
)


@st.composite
def csv_rows(draw) -> bytes:
    """Mostly rows of five cells."""
    count = draw(st.sampled_from([5] * 8 + [4, 6]))
    return ",".join(draw(st.lists(CELL, min_size=count, max_size=count))).encode()


@st.composite
def json_rows(draw) -> bytes:
    """Mostly objects that are written alike."""
    names = ["id", *FEATURES, "other"]
    usual = draw(st.sampled_from([True] * 8 + [False]))
    if not usual:
        names = draw(st.lists(st.sampled_from([*names, "v.1", "\\u0061"]), max_size=6))
    colon, comma, end = (": ", ", ", "}") if usual else draw(st.sampled_from([(":", ",", "}"), (": ", ", ", " } ")]))
    pairs = (f'"{name}"{colon}{draw(CELL)}' for name in names)
    return ("{" + comma.join(pairs) + end).encode()


def read(text: bytes, kind: str, columns: Columns, fast: bool, piece: int, searched: int) -> tuple:
    """Reads pieces of a text, all as parts of one file."""
    parser = CsvParser(["id", "a", "b", "c", "other"], ",", columns) if kind == "csv" else JsonParser(columns)
    broken = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(table_text, "PIECE", piece)
        patch.setattr(table_text, "SEARCHED", searched)
        if not fast:
            patch.setattr(table_text, "_parse", lambda *_: None)
        pieces = table_text.read_pieces("it", _Text(text), b"", parser.last_row_end)
        blocks = list(table_text.read_rows(pieces, 1, parser, columns, broken.extend))
    rows = [row for block in blocks for row in block.rows.tolist()]
    features = [row.tobytes() for block in blocks for row in block.features]
    kept = [repr(cell) for name in columns.kept for block in blocks for cell in block.kept[name]]
    return rows, features, kept, broken


class _Text:
    def __init__(self, text: bytes):
        self._text = text

    def read(self, size: int) -> bytes:
        read, self._text = self._text[:size], self._text[size:]
        return read


def same_both_ways(lines: list[bytes], kind: str, columns: Columns) -> None:
    text = b"\n".join(lines)
    slow = read(text, kind, columns, False, 1 << 20, 1 << 20)
    assert read(text, kind, columns, True, 1 << 20, 1 << 20) == slow
    if b'"' not in text or kind == "jsonl":  # where a text is cut decides what a misplaced quote is called
        assert read(text, kind, columns, True, 100, 50) == slow


@pytest.mark.parametrize("columns", [NUMBERS, GERMAN, ANY], ids=["numbers", "decimal comma", "any columns"])
@given(lines=st.lists(st.one_of(csv_rows(), csv_rows(), csv_rows(), DEBRIS), max_size=12))
@settings(max_examples=60, deadline=None)
def test_csv(columns, lines):
    same_both_ways(lines, "csv", columns)


@pytest.mark.parametrize("columns", [NUMBERS, GERMAN], ids=["numbers", "decimal comma"])
@given(lines=st.lists(st.one_of(json_rows(), json_rows(), json_rows(), DEBRIS), max_size=12))
@settings(max_examples=100, deadline=None)
def test_json(columns, lines):
    same_both_ways(lines, "jsonl", columns)


@pytest.mark.parametrize("word", ["-NaN", "Inf", "-Inf", "NaN", "Infinity", "-Infinity"])
@pytest.mark.parametrize("name", ["a", "other"])
def test_json_that_only_arrow_takes_for_numbers(name, word):
    """In rows that are written in several ways, so that Arrow reads them as JSON."""
    same_both_ways([f'{{"c": 3, "{name}":\t{word} }}'.encode(), b'{"b": "x", "c": 5}'], "jsonl", NUMBERS)


def test_a_row_of_several_lines_with_too_few_cells_is_not_where_a_piece_ends():
    """Its second line is read as a row of its own, which goes on in the third."""
    text = b'1,"2\n3,1,2,4,"""\n4"\n8,9,1,2,3\n'
    whole = read(text, "csv", NUMBERS, True, 1 << 20, 1 << 20)
    assert whole[0] == [1, 2]
    for piece in range(1, len(text)):
        assert read(text, "csv", NUMBERS, True, piece, 1)[:3] == whole[:3]


def test_a_byte_order_mark_below_the_header_is_part_of_its_cell_wherever_the_text_is_cut():
    """As where one file was appended to another."""
    text = b"\xef\xbb\xbfx,1,2,3,o\n\xef\xbb\xbfy,1,2,3,o\n"
    for piece in range(1, len(text)):
        assert read(text, "csv", ANY, True, piece, 1)[2][:2] == ["'\\ufeffx'", "'\\ufeffy'"]


@pytest.mark.parametrize("kind", ["csv", "jsonl"])
@given(st.lists(st.tuples(FLOATS, FLOATS, FLOATS), min_size=1), st.sampled_from(["r", ".17e", ".3e", ".30f"]))
@settings(max_examples=100, deadline=None)
def test_numbers_have_the_bits_that_python_reads(kind, rows, style):
    words = [[repr(x) if style == "r" else format(x, style) for x in row] for row in rows]
    shape = "{},{},{}" if kind == "csv" else '{{"a": {}, "b": {}, "c": {}}}'
    columns = Columns(FEATURES)
    parser = CsvParser(FEATURES, ",", columns) if kind == "csv" else JsonParser(columns)
    found = parser.parse("\n".join(shape.format(*row) for row in words).encode())
    assert len(found.left) == 0
    assert found.features.tobytes() == np.array([list(map(float, row)) for row in words]).tobytes()
