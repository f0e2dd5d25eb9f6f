"""The score command: tables in, scores out. The model is a stand-in whose scores are known; real ones are in
tests/detector/test_model_folder.py."""

import csv
import datetime
import gzip
import io
import json
import math
import os
import subprocess
import sys
import threading
from decimal import Decimal
from itertools import islice
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from run_helpers import ROOT, refused

import experiments.score.__main__ as score
from experiments.command_line import Interrupted, run
from experiments.runs.progress import WorkProgress, console
from experiments.score import reader as table_reader
from experiments.score import scoring
from experiments.score import text as table_text
from experiments.score import writer as table_writer
from experiments.score.csv_parser import CsvParser
from experiments.score.json_parser import JsonParser
from experiments.score.tables import NO_CELL, Block, Columns
from vae_jax import VAEDetector
from vae_jax.tables.packed_sizes import chunks, pages
from vae_jax.tables.scaling import Scaler
from vae_jax.tables.schema import Schema
from vae_jax.tables.text_numbers import NumberFormat

FEATURES = ("a", "b", "c")
BOUNDARY = -100.0
TEXTS = ("plain", "x, y", "x; y", 'say "hi"', "two\nlines", "é", "", '"', "\n")
COUNT = 40


class Unchanged(Scaler):
    """Numbers as they are."""

    def transform(self, features: np.ndarray) -> np.ndarray:
        return features


class StandIn:
    """Has of a detector what the command uses. A row's score is minus the sum of its squares."""

    features_ = Unchanged(np.zeros(3), np.ones(3), FEATURES)
    offset_ = BOUNDARY

    def __init__(self):
        self.lengths: list[int] = []

    def score_encoded(self, x: np.ndarray) -> np.ndarray:
        self.lengths.append(len(x))
        return -np.nansum(np.square(x), axis=1)

    def shares_encoded(self, x: np.ndarray) -> np.ndarray:
        return np.square(x)

    most_suspicious = VAEDetector.most_suspicious
    schema_ = None


@pytest.fixture
def detector(monkeypatch) -> StandIn:
    """The model that --model names, whatever it names."""
    found = StandIn()
    monkeypatch.setattr(scoring, "load", lambda folder: found)
    return found


@pytest.fixture(params=["large", "small"])
def sizes(request, monkeypatch) -> str:
    """Small ones make many pieces, chunks and row groups of few rows."""
    if request.param == "small":
        monkeypatch.setattr(table_text, "PIECE", 100)
        monkeypatch.setattr(table_text, "SEARCHED", 60)
        monkeypatch.setattr(table_reader, "PARQUET_ROWS", 4)
        monkeypatch.setattr(table_writer, "ROW_GROUP", 8)
        monkeypatch.setattr(score, "CHUNK", 7)
    return request.param


@pytest.fixture
def rows(rng) -> list[dict]:
    """Rows with a text and with numbers of every size, as a table has them."""
    numbers = rng.standard_normal((COUNT, 3)) * 10.0 ** rng.integers(-3, 3, (COUNT, 3))
    return [
        {"id": TEXTS[i % len(TEXTS)], "c": c, "a": a, "unused": i, "b": b}
        for i, (a, b, c) in enumerate(numbers.tolist())
    ]


def expected(rows: list[dict], keep: tuple[str, ...] = ()) -> list[dict]:
    found = []
    for number, row in enumerate(rows):
        log_prob = -sum(row[name] ** 2 for name in FEATURES)
        kept = {name: row[name] for name in keep}
        decision = "anomaly" if log_prob < BOUNDARY else "normal"
        found.append({"row": number, **kept, scoring.SCORE: float(f"{log_prob:.9g}"), "decision": decision})
    return found


def as_csv(rows: list[dict], separator: str = ",", line_end: str = "\n") -> bytes:
    text = io.StringIO()
    writer = csv.DictWriter(text, rows[0].keys(), delimiter=separator, lineterminator=line_end)
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue().encode()


def as_jsonl(rows: list[dict], line_end: str = "\n") -> bytes:
    return "".join(json.dumps(row, ensure_ascii=False) + line_end for row in rows).encode()


def as_parquet(rows: list[dict]) -> bytes:
    content = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(rows), content, row_group_size=15)
    return content.getvalue()


def as_excel(rows: list[dict]) -> bytes:
    content = io.BytesIO()
    pd.DataFrame(rows).to_excel(content, index=False, engine="openpyxl")
    return content.getvalue()


BOM = b"\xef\xbb\xbf"
INPUTS = {
    "plain.csv": as_csv,
    "CAPITALS.CSV": as_csv,
    "semicolons.csv": lambda rows: as_csv(rows, ";"),
    "windows.csv": lambda rows: BOM + as_csv(rows, ";", "\r\n"),
    "tabs.csv": lambda rows: as_csv(rows, "\t"),
    "pipes.csv": lambda rows: as_csv(rows, "|"),
    "commas_in_names.csv": lambda rows: as_csv([{'x, "y", z': 1, **row, "s, t, u, v, w, x": 2} for row in rows], ";"),
    "separators_at_line_ends.csv": lambda rows: as_csv([{**row, "": None} for row in rows]),
    "spaces_in_the_header.csv": lambda rows: as_csv(rows).replace(b"id,c,a,", b'id, "c", "a", ', 1),
    "no_last_line_end.csv": lambda rows: as_csv(rows)[:-1],
    "blank_lines_at_the_end.csv": lambda rows: as_csv(rows) + b"\n\n",
    "packed.csv.gz": lambda rows: gzip.compress(as_csv(rows)),
    "packed_in_spite_of_its_name.csv": lambda rows: gzip.compress(as_csv(rows)),
    "two_members.csv.gz": lambda rows: gzip.compress(as_csv(rows)[:777]) + gzip.compress(as_csv(rows)[777:]),
    "plain.jsonl": as_jsonl,
    "plain.ndjson": as_jsonl,
    "macintosh.csv": lambda rows: as_csv(rows, ",", "\r"),
    "windows.jsonl": lambda rows: BOM + as_jsonl(rows, "\r\n") + b"\r\n",
    "packed.jsonl.gz": lambda rows: gzip.compress(as_jsonl(rows)),
    "plain.parquet": as_parquet,
    "plain.xlsx": as_excel,
}


def read_back(path: Path) -> list[dict]:
    """What a table holds, with numbers where there were some."""
    content = path.read_bytes()
    if path.suffix == ".gz":
        content = gzip.decompress(content)
    if path.suffix == ".parquet":
        return pq.read_table(path).to_pylist()
    if ".jsonl" in path.name:
        return [json.loads(line) for line in content.decode().splitlines()]
    reader = csv.DictReader(io.StringIO(content.decode(), newline=""))
    return [{name: _cell(name, cell) for name, cell in row.items()} for row in reader]


def _cell(name: str, cell: str) -> object:
    if name in ("row", "line"):
        return int(cell)
    return float(cell) if name in (scoring.SCORE, *FEATURES) or name.startswith("share_") else cell


def call(path: Path | str, output: Path | str, *options: str) -> int:
    """Runs the command."""
    return run(score.main, ["--model", "model", "--input", str(path), "--output", str(output), *options])


def scored(content: bytes, folder: Path, *options: str, name: str = "input.csv") -> list[dict]:
    """Runs the command on a file, and returns what it wrote."""
    (folder / name).write_bytes(content)
    assert call(folder / name, folder / "output.csv", *options) == 0
    return read_back(folder / "output.csv")


def refuse(content: bytes, folder: Path, capsys, *options: str, name: str = "input.csv") -> str:
    """Runs the command on a file that it must refuse; returns its line. Nothing is left behind."""
    (folder / name).write_bytes(content)
    before = set(folder.iterdir())
    arguments = ["--model", "m", "--input", folder / name, "--output", folder / "output.csv", *options]
    line = refused(score.main, arguments, capsys)
    assert set(folder.iterdir()) == before
    return line.removeprefix(f"error: {folder / name}: ")


@pytest.mark.parametrize("name", INPUTS)
def test_every_input_gives_the_same_rows(name, rows, detector, sizes, tmp_path):
    if name == "macintosh.csv":
        rows = [{**row, "id": row["id"].replace("\n", " ")} for row in rows]
    if name == "plain.xlsx":  # Excel keeps 15 digits; cells of it are stripped
        numbers = ({feature: float(f"{row[feature]:.15g}") for feature in FEATURES} for row in rows)
        rows = [{**row, **of, "id": row["id"].strip()} for row, of in zip(rows, numbers, strict=True)]
    assert scored(INPUTS[name](rows), tmp_path, "--keep", "id", "a", name=name) == expected(rows, ("id", "a"))


@pytest.mark.parametrize("name", ["out.csv", "out.csv.gz", "out.jsonl", "out.jsonl.gz", "out.parquet"])
def test_every_output_holds_the_same_rows(name, rows, detector, sizes, tmp_path):
    (tmp_path / "in.csv").write_bytes(as_csv(rows))
    assert call(tmp_path / "in.csv", tmp_path / name, "--keep", "id", "a") == 0
    assert read_back(tmp_path / name) == expected(rows, ("id", "a"))
    assert {path.name for path in tmp_path.iterdir()} == {"in.csv", name}


def test_cells_of_csv_look_the_same_beside_ones_that_need_quotes(detector, tmp_path):
    table = pa.table(
        {
            "a": [1e20, 1.5, 2e-8, -0.0],
            "b": [0.0, 1.0, 2.0, 3.0],
            "c": [3.0] * 4,
            "day": [datetime.date(2020, 1, 31)] * 4,
            "time": [datetime.datetime(2020, 1, 31, 1, 2, 3), None, None, None],
            "amount": [Decimal("1.50"), None, Decimal("0.00"), Decimal("-12.34")],
            "yes": [True, False, None, True],
            "text": [""] * 4,
        }
    )
    kept = table.column_names
    found = []
    for text in ("plain", 'b, "c"\n'):
        changed = table.set_column(7, "text", pa.array(["a", "", None, text]))
        pq.write_table(changed, tmp_path / "in.parquet")
        assert call(tmp_path / "in.parquet", tmp_path / "out.csv", "--keep", *kept) == 0
        found.append((tmp_path / "out.csv").read_text())
    plain, quoted = found
    assert '"' not in plain
    assert quoted == plain.replace("plain", '"b, ""c""\n"')


def test_formats_by_option(rows, detector, tmp_path):
    (tmp_path / "rows").write_bytes(as_jsonl(rows))
    assert call(tmp_path / "rows", tmp_path / "scores", "--input-format", "jsonl", "--format", "parquet") == 0
    assert pq.read_table(tmp_path / "scores").to_pylist() == expected(rows)


def test_chunks_are_of_one_size(rows, detector, monkeypatch, tmp_path):
    monkeypatch.setattr(score, "CHUNK", 16)
    monkeypatch.setattr(table_text, "PIECE", 300)
    scored(as_csv(rows), tmp_path)
    assert detector.lengths == [16, 16, 8]


@pytest.mark.parametrize("size", [1, 3, 4, 100])
def test_chunks_cut_anew_what_comes_in_any_length(size):
    lengths = [3, 1, 8, 2, 2]
    numbers = np.arange(sum(lengths))
    cuts = np.split(numbers, np.cumsum(lengths)[:-1])
    blocks = [Block(cut, cut[:, None] / 2, {"id": [str(n) for n in cut]}) for cut in cuts]
    found = list(scoring.chunks(blocks, size))
    assert all(len(block) == size for block in found[:-1])
    assert 0 < len(found[-1]) <= size
    assert np.concatenate([block.rows for block in found]).tolist() == numbers.tolist()
    for block in found:
        assert block.features[:, 0].tolist() == (block.rows / 2).tolist()
        assert block.kept == {"id": [str(n) for n in block.rows]}


def test_scores_have_the_nine_digits_of_a_runs_own(rng):
    numbers = rng.standard_normal(1000) * 10.0 ** rng.integers(-20, 20, 1000)
    assert [f"{n:.9g}" for n in scoring.nine_digits(numbers)] == [f"{n:.9g}" for n in numbers]
    single = numbers.astype(np.float32)
    assert np.array(scoring.nine_digits(single), np.float32).tolist() == single.tolist()


# Explanations.


def test_strongest_features_and_their_shares(rows, detector, sizes, tmp_path):
    found = scored(as_csv(rows), tmp_path, "--explain", "2")
    for row, line in zip(rows, found, strict=True):
        squares = sorted(((float(f"{row[name] ** 2:.9g}"), name) for name in FEATURES), reverse=True)
        strongest = {}
        for i, (share, name) in enumerate(squares[:2], 1):
            strongest |= {f"feature_{i}": name, f"share_{i}": share}
        assert {name: line[name] for name in strongest} == strongest


def test_strongest_features_are_objects_in_json(rows, detector, tmp_path):
    flat = scored(as_csv(rows), tmp_path, "--explain", "3")
    assert call(tmp_path / "input.csv", tmp_path / "out.jsonl", "--explain", "3") == 0
    for line, objects in zip(flat, read_back(tmp_path / "out.jsonl"), strict=True):
        names = [f"{i}" for i in (1, 2, 3)]
        assert objects.pop("strongest") == [
            {"feature": line.pop(f"feature_{i}"), "share": line.pop(f"share_{i}")} for i in names
        ]
        assert objects == line


@pytest.mark.parametrize("count", ["-1", "4"])
def test_more_features_than_there_are(count, rows, detector, capsys, tmp_path):
    assert refuse(as_csv(rows), tmp_path, capsys, "--explain", count) == (
        f"error: --explain {count}: expected 0 to 3, the model's features"
    )


# Kept columns.


def test_kept_columns_have_their_types_in_parquet(detector, tmp_path):
    day = datetime.date(2020, 1, 31)
    table = pa.table(
        {
            "a": pa.array([1, 2], pa.int32()),
            "b": pa.array([0.5, 0.25], pa.float16()),
            "c": pa.array([Decimal("1.10"), Decimal("-2.35")]),
            "day": [day, None],
            "amount": [math.nan, 2.5],
        }
    )
    pq.write_table(table, tmp_path / "in.parquet")
    options = ["--keep", "day", "amount", "c"]
    kept = {}
    for name in ("out.parquet", "out.jsonl", "out.csv"):
        assert call(tmp_path / "in.parquet", tmp_path / name, *options) == 0
        kept[name] = [[row[column] for column in options[1:]] for row in read_back(tmp_path / name)]
    assert pq.read_schema(tmp_path / "out.parquet").field("day").type == pa.date32()
    assert str(kept["out.parquet"]) == str([[day, math.nan, 1.1], [None, 2.5, -2.35]])
    assert kept["out.jsonl"] == [["2020-01-31", None, 1.1], [None, 2.5, -2.35]]
    assert kept["out.csv"] == [["2020-01-31", "nan", 1.1], ["", "2.5", -2.35]]


def test_kept_columns_of_json_may_hold_anything(detector, tmp_path):
    values = ["text", 7, 2.5, None, True, [1, {"x": "é"}]]
    content = as_jsonl([{"a": 1, "b": 2, "c": i, "id": value} for i, value in enumerate(values)])
    content += b'{"a": 1, "b": 2, "c": 3}\n'
    (tmp_path / "in.jsonl").write_bytes(content)
    assert call(tmp_path / "in.jsonl", tmp_path / "out.jsonl", "--keep", "id", "c") == 0
    found = read_back(tmp_path / "out.jsonl")
    assert [row["id"] for row in found] == [*values, None]
    assert [row["c"] for row in found] == [0, 1, 2, 3, 4, 5, 3]
    assert call(tmp_path / "in.jsonl", tmp_path / "out.parquet", "--keep", "id") == 0
    texts = ["text", "7", "2.5", None, "true", '[1, {"x": "\\u00e9"}]', None]
    assert [row["id"] for row in read_back(tmp_path / "out.parquet")] == texts


@pytest.mark.parametrize("name", ["row", "decision", "share_1", "strongest", scoring.SCORE])
def test_kept_columns_may_not_be_named_like_the_outputs_own(name, rows, detector, capsys, tmp_path):
    line = refuse(as_csv(rows), tmp_path, capsys, "--keep", name, "--explain", "1")
    assert line == f"error: --keep {name}: the output has a column of this name"


def test_kept_twice(rows, detector, capsys, tmp_path):
    line = refuse(as_csv(rows), tmp_path, capsys, "--keep", "id", "id")
    assert line == "error: --keep id id: id is there twice"


@pytest.mark.parametrize(("value", "kind"), [([1, 2], "list<"), (b"\xff", "binary")])
def test_columns_that_have_no_text_are_not_kept(value, kind, detector, capsys, tmp_path):
    content = as_parquet([{"a": 1.0, "b": 2.0, "c": 3.0, "id": value}])
    line = refuse(content, tmp_path, capsys, "--keep", "id", name="in.parquet")
    assert line.startswith(f"column id is of type {kind}")


# Broken rows.

CSV_TEXT = """id,a,b,c
x,1,2,3
"two
lines",4,5,6

{broken}
z,7,8,9
"""


@pytest.mark.parametrize(
    ("broken", "reason"),
    [
        ("y,1,2", "3 cells, expected 4"),
        ("y,, ,NA", NO_CELL),
        ("y,1,2,3,4", "5 cells, expected 4"),
        (" ", "1 cells, expected 4"),
        ("y,1,2,3,", "5 cells, expected 4; if each row ends with ',', let the header end with it too"),
        ('"y", "1",2,3', "a space before a quote; remove it"),
        ('y,1,2, "3, 4"', "a space before a quote; remove it"),
        ("y,1,two,3", "column b: 'two' is not a finite number"),
        ("y,1,2_0,3", "column b: '2_0' is not a finite number"),
        ("y,1,\N{FULLWIDTH DIGIT TWO},3", "column b: '\N{FULLWIDTH DIGIT TWO}' is not a finite number"),
        ("y,1,0x2,3", "column b: '0x2' is not a finite number"),
        ("y,1,2,-inf", "column c: '-inf' is not a finite number"),
        ("y,1,1e400,3", "column b: '1e400' is not a finite number"),
        ("y,1,1.1e30,3", "column b: '1.1e30' is beyond ±1e+30"),
        ("y,1,-1e31,3", "column b: '-1e31' is beyond ±1e+30"),
        ("y,1," + 50 * "v" + ",3", f"column b: '{40 * 'v'}' is not a finite number"),
        ('"y,1,2,3', "a quote is not closed"),
        ('"y"s,1,2,3', "',' expected after '\"'"),
        ('y,1,2,"3', "a quote is not closed"),
    ],
)
def test_broken_rows_of_csv(broken, reason, detector, sizes, capsys, tmp_path):
    content = CSV_TEXT.format(broken=broken).encode()
    line = refuse(content, tmp_path, capsys)
    assert line == f"row 2 (line 6): {reason}; --rejects FILE sets such rows apart"
    found = scored(content, tmp_path, "--keep", "id", "--rejects", str(tmp_path / "rejects.csv"))
    assert [(row["row"], row["id"]) for row in found] == [(0, "x"), (1, "two\nlines"), (3, "z")]
    assert read_back(tmp_path / "rejects.csv") == [{"line": 6, "row": 2, "reason": reason, "text": broken}]
    assert "1 broken row in" in capsys.readouterr().err


GAPS = [
    {"a": 1.0, "b": None, "c": 3.0},
    {"a": None, "b": 2.0, "c": 3.0},
    {"a": 1.0, "b": 2.0, "c": math.nan},
    {"a": 1.0, "b": 2.0, "c": 3.0},
]


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("in.csv", b"a,b,c\n1,,3\nNA,2,3\n1,2,?\n1,2,3\n"),
        (
            "in.jsonl",
            b'{"a": 1, "c": 3}\n{"a": null, "b": "2", "c": 3}\n{"a": 1, "b": 2, "c": NaN}\n{"a": 1, "b": 2, "c": 3}\n',
        ),
        ("in.parquet", as_parquet(GAPS)),
    ],
)
def test_gaps_are_scored_with_a_notice(name, content, detector, sizes, capsys, tmp_path):
    found = scored(content, tmp_path, name=name)
    assert [row["log_reconstruction_probability"] for row in found] == [-10, -13, -5, -14]
    assert "gaps in columns that had none in training: a (1 row), b (1 row), c (1 row)" in capsys.readouterr().err


def test_rows_that_only_look_broken(detector, sizes, tmp_path):
    lines = ["x, +1 ,2.,.5", 'a 5" screen,1,2,3', 'x,"1"," 2 ","3"', "x\x0by,1e-400,-0,1E3", '" ""x""",1,2,3']
    found = scored(("id,a,b,c\n" + "\n".join(lines) + "\n").encode(), tmp_path, "--keep", "id", "a", "b", "c")
    numbers = [[1, 2, 0.5], [1, 2, 3], [1, 2, 3], [0, 0, 1000], [1, 2, 3]]
    assert [[row[name] for name in FEATURES] for row in found] == numbers
    assert [row["id"] for row in found] == ["x", 'a 5" screen', "x", "x\x0by", ' "x"']


@pytest.mark.parametrize(
    ("encoding", "options"), [("utf-16", ()), ("latin-1", ("--encoding", "latin-1")), ("utf-8-sig", ())]
)
@pytest.mark.parametrize("pack", [bytes, gzip.compress])
@pytest.mark.parametrize("line_end", ["\n", "\r\n"])
def test_other_encodings(encoding, options, pack, line_end, detector, sizes, tmp_path):
    lines = ["id;a;b;c", *(f"é{i};{i};2;3" for i in range(30)), ""]
    found = scored(pack(line_end.join(lines).encode(encoding)), tmp_path, "--keep", "id", *options)
    assert [row["id"] for row in found] == [f"é{i}" for i in range(30)]
    assert [row["log_reconstruction_probability"] for row in found] == [-(i**2) - 13 for i in range(30)]


def test_a_wrong_encoding_is_one_line(rows, detector, capsys, tmp_path):
    assert (
        refuse(b"a,b,c\n1,2,\xff\n", tmp_path, capsys, "--encoding", "ascii") == "not ascii (ordinal not in range(128))"
    )
    line = refuse(as_csv(rows), tmp_path, capsys, "--encoding", "base64")
    assert line == "error: --encoding base64: no such encoding"


def test_what_is_not_utf8_is_broken_even_in_a_column_that_is_not_read(detector, sizes, capsys, tmp_path):
    content = CSV_TEXT.format(broken="\xff,1,2,3").encode("latin-1")
    assert refuse(content, tmp_path, capsys).startswith("row 2 (line 6): not UTF-8;")
    scored(content, tmp_path, "--rejects", str(tmp_path / "rejects.csv"))
    assert read_back(tmp_path / "rejects.csv")[0]["text"] == "\N{REPLACEMENT CHARACTER},1,2,3"


@pytest.mark.parametrize(
    ("broken", "reason"),
    [
        ('{"a": 1, "b": 2', "not JSON (Expecting ',' delimiter: line 1 column 16 (char 15))"),
        ('{"a": 1, "b": 2, "c": 3} {"a": 1, "b": 2, "c": 3}', "not JSON (Extra data: line 1 column 26 (char 25))"),
        ("[1, 2, 3]", "not a JSON object"),
        pytest.param("[" * 100_000, "not JSON (maximum recursion depth exceeded", id="nested too deeply"),
        ('{"id": "y", "d": 4}', NO_CELL),
        ('{"a": 1, "b": "two", "c": 3}', "column b: 'two' is not a finite number"),
        ('{"a": 1, "b": true, "c": 3}', "column b: 'True' is not a finite number"),
        ('{"a": 1, "b": [2], "c": 3}', "column b: '[2]' is not a finite number"),
        ('{"a": 1e31, "b": 2, "c": 3}', "column a: '1e+31' is beyond ±1e+30"),
        ('{"a": 1, "b": 2, "c": 1' + 400 * "0" + "}", f"column c: '1{39 * '0'}' is not a finite number"),
        ('{"a": 1, "b": 2, "c": 3, "id": "\\ud800"}', "column id: not Unicode"),
        ('{"a": 1, "b": 2, "c": 3, "other": "\udcff"}', "not UTF-8"),
    ],
)
def test_broken_rows_of_json(broken, reason, detector, sizes, tmp_path):
    sound = ['{"a": 1, "b": 2, "c": 3, "id": "x"}', "", '{"c": 3, "b": {0}, "a": 1}'.replace("{0}", "2e0")]
    content = "\n".join([*sound, broken, sound[0]]).encode("utf-8", "surrogateescape")
    rejects = tmp_path / "rejects.jsonl"
    found = scored(content, tmp_path, "--keep", "id", "--rejects", str(rejects), name="in.jsonl")
    assert [(row["row"], row["id"]) for row in found] == [(0, "x"), (1, ""), (3, "x")]
    (reject,) = read_back(rejects)
    assert (reject["line"], reject["row"]) == (4, 2)
    assert reject["reason"].startswith(reason)
    assert reject["text"] == broken.replace("\udcff", "\N{REPLACEMENT CHARACTER}")


def test_an_object_over_two_lines_is_two_broken_rows(detector, tmp_path):
    content = b'{"a": 1, "b": 2,\n"c": 3}\n{"a": 1, "b": 2, "c": 3}\n'
    found = scored(content, tmp_path, "--rejects", str(tmp_path / "rejects.csv"), name="in.jsonl")
    assert [row["row"] for row in found] == [2]
    assert [(row["line"], row["row"]) for row in read_back(tmp_path / "rejects.csv")] == [(1, 0), (2, 1)]


@pytest.mark.parametrize(
    ("cell", "reason"),
    [
        (math.inf, "column b: 'inf' is not a finite number"),
        (-2e30, "column b: '-2e+30' is beyond ±1e+30"),
    ],
)
def test_broken_rows_of_parquet(cell, reason, detector, sizes, capsys, tmp_path):
    content = as_parquet([{"a": 1.0, "b": cell if i == 5 else 2.0, "c": 3.0, "id": f"n{i}"} for i in range(9)])
    line = refuse(content, tmp_path, capsys, name="in.parquet")
    assert line == f"row 5: {reason}; --rejects FILE sets such rows apart"
    rejects = tmp_path / "rejects.parquet"
    found = scored(content, tmp_path, "--keep", "id", "--rejects", str(rejects), name="in.parquet")
    assert [(row["row"], row["id"]) for row in found] == [(i, f"n{i}") for i in range(9) if i != 5]
    assert read_back(rejects) == [{"line": None, "row": 5, "reason": reason, "text": None}]


@pytest.mark.parametrize(("name", "write"), [("in.parquet", as_parquet), ("in.xlsx", as_excel), ("in.jsonl", as_jsonl)])
@pytest.mark.parametrize("decimal", [".", ","])
def test_numbers_in_text_gaps_and_words_in_typed_tables_are_read_as_in_csv(name, write, decimal, detector, tmp_path):
    detector.features_ = Unchanged(np.zeros(3), np.ones(3), FEATURES, number_format=NumberFormat(decimal, ""))
    cells = {0: f"1{decimal}234", 1: "NA", 2: "n/a", 3: "word", 4: None, 5: f"{decimal}5 EUR"}
    if name != "in.parquet":  # its columns are of one type
        cells |= {6: 1.234, 7: 2, 8: 1e-5}
    rows = [{"a": 1.5, "b": b, "c": None} for b in cells.values()]  # c is blank
    found = scored(write(rows), tmp_path, "--rejects", str(tmp_path / "rejects.parquet"), name=name)
    numbers = {0: 1.234, 1: 0.0, 2: 0.0, 4: 0.0, 5: 0.5, 6: 1.234, 7: 2.0, 8: 1e-5}
    wanted = {row: -(1.5**2) - numbers[row] ** 2 for row in cells if row in numbers}
    assert {row["row"]: row[scoring.SCORE] for row in found} == pytest.approx(wanted, rel=1e-8)
    (rejected,) = read_back(tmp_path / "rejects.parquet")
    assert (rejected["row"], rejected["reason"]) == (3, "column b: 'word' is not a finite number")


@pytest.mark.parametrize(("name", "write"), [("in.parquet", as_parquet), ("in.xlsx", as_excel)])
def test_typed_cells_are_told_of_as_those_in_text(name, write, tmp_path):
    """Training rows had decimal commas, and dates as people write them."""
    texts = pd.DataFrame({"day": ["31.01.2024", "01.02.2024"] * 9, "rate": ["1,5", "2,5"] * 9, "stars": ["1", "2"] * 9})
    schema = Schema.fit(texts.astype(object), {"rate": "category"}, number_format=NumberFormat(",", "."))
    cells = {"day": datetime.datetime(2024, 1, 31), "rate": 1.5, "stars": 1.0}
    (tmp_path / name).write_bytes(write([cells, {**cells, "stars": None}]))
    columns = Columns(schema.modelled, ("day", "rate"), schema)
    with table_reader.open_source(str(tmp_path / name)) as source:
        (block,) = table_reader.open_table(source, name.removeprefix("in."), columns, print).blocks
    for column in schema.modelled:
        assert schema.remark(column, block.cells[column].iat[0]) == schema.remark(column, texts[column].iat[0])
    assert block.kept == {"day": ["2024-01-31 00:00:00"] * 2, "rate": ["1.5"] * 2}


@pytest.mark.parametrize("name", ["in.csv", "in.jsonl"])
def test_any_mixture_of_rows_is_told_apart_whatever_the_sizes(name, rng, detector, monkeypatch, tmp_path):
    make, broken = {
        "in.csv": (
            lambda i: f'"{i}{TEXTS[i % 5].replace(chr(34), chr(34) * 2)}",{i},2,3',
            ['"', "x,1", 'x,"1,2,3', ""],
        ),
        "in.jsonl": (lambda i: json.dumps({"a": i, "b": 2, "c": 3}), ["{", "[]", '{"a": 1, "b": "x"}', ""]),
    }[name]
    kinds = rng.integers(-40, 4, 300)
    lines = [make(i) if kind < 0 else broken[kind] for i, kind in enumerate(kinds)]
    content = ("id,a,b,c\n" * name.endswith("csv") + "\n".join(lines)).encode()
    number, line, numbers, rejected = 0, 1 + name.endswith("csv"), [], []
    for text, kind in zip(lines, kinds, strict=True):
        (numbers if kind < 0 else rejected).extend([(number, line)] if text else [])
        number, line = number + bool(text), line + 1 + text.count("\n")
    for piece, searched, chunk in [(1 << 20, 1 << 20, 1000), (1 << 20, 50, 1000), (40, 20, 3), (333, 100, 50)]:
        monkeypatch.setattr(table_text, "PIECE", piece)
        monkeypatch.setattr(table_text, "SEARCHED", searched)
        monkeypatch.setattr(score, "CHUNK", chunk)
        found = scored(content, tmp_path, "--rejects", str(tmp_path / "rejects.csv"), name=name)
        assert [row["row"] for row in found] == [number for number, _ in numbers]
        assert [(row["row"], row["line"]) for row in read_back(tmp_path / "rejects.csv")] == rejected


def test_all_rows_broken(detector, sizes, tmp_path):
    content = b"a,b,c\n" + b"1,2,x\n" * 30
    assert scored(content, tmp_path, "--rejects", str(tmp_path / "rejects.csv")) == []
    assert [row["line"] for row in read_back(tmp_path / "rejects.csv")] == list(range(2, 32))


def test_more_rows_of_too_few_cells_than_are_skipped_at_once(detector, tmp_path):
    content = b"a,b,c\n" + b"x\n1,2,3\n" * 3_000
    found = scored(content, tmp_path, "--rejects", str(tmp_path / "rejects.csv"))
    assert [row["row"] for row in found] == list(range(1, 6_000, 2))
    assert [row["line"] for row in read_back(tmp_path / "rejects.csv")] == list(range(2, 6_002, 2))


def test_no_row_broken_leaves_a_header(rows, detector, tmp_path):
    scored(as_csv(rows), tmp_path, "--rejects", str(tmp_path / "rejects.csv"))
    assert (tmp_path / "rejects.csv").read_text() == "line,row,reason,text\n"


@pytest.mark.parametrize("kind", ["csv", "jsonl"])
def test_both_ways_of_reading_give_the_same_bits(kind, rng):
    columns = Columns(FEATURES, ("id", "b"))
    numbers = [f"{n:.{d}g}" for n, d in zip(rng.standard_normal(3000) * 1e3, rng.integers(1, 21, 3000), strict=True)]
    triples = [numbers[i : i + 3] for i in range(0, 3000, 3)]
    if kind == "csv":
        parser = CsvParser(["id", *FEATURES], ",", columns)
        text = "".join(f'"{i}",{",".join(cells)}\n' for i, cells in enumerate(triples))
    else:
        parser = JsonParser(columns)
        text = "".join(f'{{"id": "{i}", "a": {a}, "b": {b}, "c": {c}}}\n' for i, (a, b, c) in enumerate(triples))
    fast, none = table_text._parse(text.encode(), 7, 1, parser, columns)
    assert none == []
    slow, broken = table_text._search(text.encode(), 7, 1, parser, columns)
    assert broken == []
    assert fast.rows.tolist() == slow.rows.tolist() == list(range(7, 1007))
    assert fast.features.tobytes() == slow.features.tobytes()
    assert fast.kept == slow.kept
    assert fast.features.tolist() == [[float(cell) for cell in cells] for cells in triples]


def test_numbers_are_those_that_a_run_reads(real_transactions):
    from vae_jax.tables.transactions import FEATURES, load_transactions

    with table_reader.open_source(str(real_transactions)) as source:
        blocks = list(table_reader.open_table(source, "csv", Columns(FEATURES), pytest.fail).blocks)
    table = load_transactions(str(real_transactions))
    assert np.concatenate([block.features for block in blocks]).tobytes() == table.features.tobytes()
    assert np.concatenate([block.rows for block in blocks]).tolist() == list(range(len(table)))


# Files that can't be used.


@pytest.mark.parametrize(
    ("name", "content", "expected"),
    [
        ("in.csv", b"", "empty; expected a header and rows"),
        ("in.csv", BOM + b"\n \n", "empty; expected a header and rows"),
        ("in.csv.gz", gzip.compress(b""), "empty; expected a header and rows"),
        ("in.csv", b'{"a": 1, "b": 2, "c": 3}\n', "looks like JSON lines rather than CSV; say --input-format jsonl"),
        ("in.csv", b' { "a": 1}\n', "looks like JSON lines rather than CSV; say --input-format jsonl"),
        ("in.csv", b"1,2,3\n4,5,6\n", "none of the model's columns a, b, c"),
        ("in.csv", b"a,id\n1,2\n", "column missing: b, c"),
        ("in.csv", b"a,b,c,a\n1,2,3,4\n", "column repeated: a"),
        ("in.csv", b"a,b,c,x,x\n1,2,3,4,5\n", "column repeated: x"),
        ("in.csv", 'a,b,c,é\n1,2,3,4\n'.encode("utf-16-be"), "the first line is not a header of a CSV in UTF-8"),
        ("in.csv", b'a,b,c,"x\n1,2,3,4\n', "the first line is not a header of a CSV in UTF-8"),
        ("in.csv", b'"a, b";"c, d"\n1;2\n', "none of the model's columns a, b, c"),
        ("in.csv", "a,b,c,é\n1,2,3,4\n".encode("latin-1"), "the first line is not a header of a CSV in UTF-8; say its"),
        ("in.csv", b"PAR1" * 10, "looks like Parquet rather than CSV; say --input-format parquet"),
        ("in.csv", as_excel([{"a": 1.0}]), "looks like Excel or a zip rather than CSV; say --input-format xlsx"),
        ("in.csv.gz", gzip.compress(b"a,b,c\n" + b"1,2,3\n" * 1000)[:-9], "damaged or truncated gzip"),
        ("in.csv.gz", gzip.compress(b"a,b,c\n")[:-8] + b"\0" * 8, "damaged or truncated gzip"),
        ("in.parquet", b"a,b,c\n1,2,3\n", "not a Parquet file, or a damaged one"),
        ("in.parquet", b"", "not a Parquet file, or a damaged one"),
        ("in.parquet", as_parquet([{"a": 1.0, "b": 2.0}]), "column missing: c"),
        ("in.parquet", as_parquet([{"a": 1.0, "b": True, "c": 3.0}]), "column b is of type bool, expected numbers"),
        ("in.xlsx", as_excel([{"a": 1.0, "b": 2.0}]), "column missing: c"),
        ("in.xlsx", as_excel([{"a": 1.0, "b": True, "c": 3.0}]), "column b is of type bool, expected numbers"),
        ("in.xlsx", as_excel([{"a": 1.0, "b": 2.0, "c": 3.0}])[:-99], "damaged, truncated or unsupported archive"),
    ],
    # Contents are no names: gzip has the time in it, and two processes of one session must find the same names.
    ids=lambda value: value if isinstance(value, str) else "content",
)  # fmt: skip
def test_files_that_cannot_be_used(name, content, expected, detector, capsys, tmp_path):
    assert refuse(content, tmp_path, capsys, name=name).startswith(expected)


def test_many_missing_columns_are_not_all_named(detector, capsys, tmp_path):
    names = tuple(f"V{i}" for i in range(1, 29))
    detector.features_ = Unchanged(np.zeros(28), np.ones(28), names)
    line = refuse(b"V1,id\n1,2\n", tmp_path, capsys, "--keep", "id")
    assert line == "column missing: V2, V3, V4, V5, V6 and 22 more"
    line = refuse(b"V1,id\n1,2\n", tmp_path, capsys, "--keep", "name")
    assert line.endswith("and 23 more")


@pytest.mark.parametrize("size", [1, 15, 100])
def test_row_groups_of_parquet_are_the_rows_of_the_whole(size, rows, tmp_path):
    (tmp_path / "rows.parquet").write_bytes(as_parquet(rows))  # groups of 15, 15 and 10 rows

    def read(groups: range | None) -> list[tuple]:
        with table_reader.open_source(str(tmp_path / "rows.parquet")) as source:
            found = table_reader.open_table(source, "parquet", Columns(FEATURES, ("id",)), pytest.fail, groups=groups)
            blocks = list(found.blocks)
        assert found.count == sum(map(len, blocks))
        return [
            row for block in blocks for row in zip(block.rows, block.features.tolist(), block.kept["id"], strict=True)
        ]

    with table_reader.open_source(str(tmp_path / "rows.parquet")) as source:
        cuts = table_reader.row_groups(source, size)
    assert cuts == {1: [(0, 1), (1, 2), (2, 3)], 15: [(0, 1), (1, 2), (2, 3)], 100: [(0, 3)]}[size]
    assert [row for cut in cuts for row in read(range(*cut))] == read(None)


def test_parquet_whose_directory_is_damaged(rows, detector, capsys, tmp_path):
    content = bytearray(as_parquet(rows))
    content[-60:-20] = b"\xff" * 40
    line = refuse(bytes(content), tmp_path, capsys, name="in.parquet")
    assert line.startswith("not a Parquet file, or a damaged one")


def test_parquet_that_is_damaged_further_on(rows, detector, capsys, tmp_path):
    content = bytearray(as_parquet(rows))
    file = io.BytesIO(content)
    column = list(chunks(file))[2]
    header, size, _ = next(pages(file, column))
    start = column.start + header
    content[start : start + size] = b"\xff" * size
    assert refuse(bytes(content), tmp_path, capsys, name="in.parquet").startswith("damaged after row 0 (")
    content[4:1200] = b"\xff" * 1196
    line = refuse(bytes(content), tmp_path, capsys, name="in.parquet")
    assert line == "column id is damaged (no header where there should be one)"


def test_a_page_of_parquet_that_unpacks_to_too_much_is_refused(detector, capsys, monkeypatch, tmp_path):
    monkeypatch.setattr(table_reader, "MOST_BYTES", 10_000)
    content, table = io.BytesIO(), pa.table({name: np.zeros(2_000) for name in FEATURES})
    options = {"compression": "zstd", "use_dictionary": False}
    pq.write_table(table, content, data_page_size=800, write_batch_size=100, **options)
    assert len(scored(content.getvalue(), tmp_path, name="in.parquet")) == 2_000
    content = io.BytesIO()
    pq.write_table(table, content, **options)
    monkeypatch.setattr(pq.ParquetFile, "iter_batches", None)
    line = refuse(content.getvalue(), tmp_path, capsys, name="in.parquet")
    assert line == "a page of column a has 16,007 bytes when unpacked, more than 10,000 and 200 times its size"


def test_no_memory_is_made_ready_for_a_page_that_is_longer_than_its_file(detector, capsys, monkeypatch, tmp_path):
    file, table = io.BytesIO(), pa.table({name: np.arange(2_000.0) for name in FEATURES})
    pq.write_table(table, file, compression="none", use_dictionary=False, write_statistics=False)
    content = file.getvalue()
    size = b"\x15\x8e\xfa\x01"  # 16,007 bytes, first when unpacked, then as they are
    assert content.count(size * 2) == 3
    content = content.replace(size * 2, size + b"\x15\xfe\xff\x7f", 1)
    monkeypatch.setattr(pq.ParquetFile, "iter_batches", None)
    line = refuse(content, tmp_path, capsys, name="in.parquet")
    assert line == f"column a is damaged (a page of 1,048,575 bytes in a file of {len(content):,})"


def test_a_text_without_line_ends(detector, capsys, monkeypatch, tmp_path):
    monkeypatch.setattr(table_text, "PIECE", 50)
    monkeypatch.setattr(table_text, "LONGEST_ROW", 200)
    line = refuse(b"a,b,c\n" + b"1,2,3" * 100, tmp_path, capsys)
    assert line == "no line end in 200 bytes, so these are no rows of text"


def test_a_quote_that_is_not_closed_spoils_one_row_however_long_the_rest_is(detector, monkeypatch, tmp_path):
    monkeypatch.setattr(table_text, "PIECE", 50)
    monkeypatch.setattr(table_text, "LONGEST_ROW", 200)
    content = b'id,a,b,c\nx,1,2,3\n"y,1,2,3\n' + b"z,1,2,3\n" * 100
    found = scored(content, tmp_path, "--rejects", str(tmp_path / "rejects.csv"))
    assert [row["row"] for row in found] == [0, *range(2, 102)]
    assert [row["line"] for row in read_back(tmp_path / "rejects.csv")] == [3]


@pytest.mark.parametrize(
    ("name", "content"), [("in.csv", b"a,b,c\n"), ("in.csv", b"c,b,a"), ("in.jsonl", b""), ("in.jsonl", b"\n\n")]
)
@pytest.mark.parametrize("output", ["out.csv", "out.jsonl", "out.parquet"])
def test_no_rows_give_no_scores(name, content, output, detector, capsys, tmp_path):
    (tmp_path / name).write_bytes(content)
    assert call(tmp_path / name, tmp_path / output) == 0
    assert read_back(tmp_path / output) == []
    if output == "out.csv":
        assert (tmp_path / output).read_text() == "row,log_reconstruction_probability,decision\n"
    assert detector.lengths == []
    assert "0 rows scored" in capsys.readouterr().err


def test_parquet_without_rows(detector, tmp_path):
    schema = pa.schema([(name, pa.float64()) for name in FEATURES])
    pq.write_table(schema.empty_table(), tmp_path / "in.parquet")
    assert call(tmp_path / "in.parquet", tmp_path / "out.csv") == 0
    assert read_back(tmp_path / "out.csv") == []


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (["--model", "m", "--input", "none.csv"], "none.csv: can't be read (No such file or directory)"),
        (["--model", "m", "--input", ".", "--input-format", "csv"], ".: can't be read (Is a directory)"),
        (["--input", "in.csv"], "--model: expected the folder of a saved model (see bash run.sh score --help)"),
        (["--model", "m", "--input", "in.xls"], "--input in.xls: its name ends in none of .csv, .csv.gz, "),
        (["--model", "m", "--input", "in.parquet.gz"], "--input in.parquet.gz: its name ends in none of "),
        (["--model", "m", "--input-format", "xlsx"], "--input -: an Excel file can't be read from a pipe"),
        (["--model", "m", "--input", "in.csv", "--output", "out"], "--output out: its name ends in none of "),
        (["--model", "m", "--input", "in.csv", "--rejects", "bad.txt"], "--rejects bad.txt: its name ends in none "),
        (["--model", "m", "--input", "in.csv", "--rejects", "-"], "--rejects -: expected a file"),
        (["--model", "m", "--input", "in.csv", "--output", "no/out.csv"], "--output no/out.csv: there is no folder no"),
        (["--model", "m", "--input", "in.csv", "--rejects", "no/x.csv"], "--rejects no/x.csv: there is no folder no"),
        (["--model", "m", "--input", "in.csv", "--output", "f.csv"], "--output f.csv: a folder; expected a file"),
        (["--model", "m", "--input", "in.csv", "--output", "./in.csv"], "--output ./in.csv: the same file as --input"),
        (["--model", "m", "--input", "in.csv", "--output", "link.csv"], "--output link.csv: the same file as --input"),
        (["--model", "m", "--input", "in.csv", "--output", "o.csv", "--rejects", "o.csv"],
         "--rejects o.csv: the same file as --output"),
        (["--model", "m", "--format", "xlsx"], ""),
    ],
)  # fmt: skip
def test_refused_before_anything_is_read(options, expected, detector, capsys, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "in.csv").write_bytes(b"a,b,c\n1,2,3\n")
    (tmp_path / "link.csv").symlink_to("in.csv")
    (tmp_path / "f.csv").mkdir()
    assert refused(score.main, options, capsys).startswith(f"error: {expected}")
    assert detector.lengths == []
    assert {path.name for path in tmp_path.iterdir()} == {"in.csv", "link.csv", "f.csv"}


# Whole or not at all.


def fails_at_the_second_chunk(detector: StandIn, error: BaseException) -> None:
    def score_encoded(x: np.ndarray) -> np.ndarray:
        if detector.lengths:
            raise error
        return StandIn.score_encoded(detector, x)

    detector.score_encoded = score_encoded


@pytest.mark.parametrize("name", ["out.csv", "out.csv.gz", "out.jsonl", "out.parquet"])
@pytest.mark.parametrize("number", [2, 15])
def test_a_stopped_command_leaves_nothing(name, number, rows, detector, monkeypatch, tmp_path):
    monkeypatch.setattr(score, "CHUNK", 7)
    fails_at_the_second_chunk(detector, Interrupted(number))
    (tmp_path / "in.csv").write_bytes(as_csv(rows))
    (tmp_path / name).write_text("of yesterday")
    assert call(tmp_path / "in.csv", tmp_path / name, "--rejects", str(tmp_path / "rejects.csv")) == 128 + number
    assert (tmp_path / name).read_text() == "of yesterday"
    assert {path.name for path in tmp_path.iterdir()} == {"in.csv", name}


def test_a_link_to_the_output_stays_one(rows, detector, tmp_path):
    (tmp_path / "real.csv").touch()
    (tmp_path / "output.csv").symlink_to("real.csv")
    assert scored(as_csv(rows), tmp_path) == expected(rows)
    assert (tmp_path / "output.csv").is_symlink()


def test_two_commands_at_one_output_do_not_mix(rows, detector, tmp_path):
    (tmp_path / "in.csv").write_bytes(as_csv(rows))
    types = {"text": pa.string()}
    with table_writer.open_writer(str(tmp_path / "out.csv"), "csv", types) as write:
        write({"text": ["of a first command"]})
        assert call(tmp_path / "in.csv", tmp_path / "out.csv") == 0
        assert read_back(tmp_path / "out.csv") == expected(rows)
    assert (tmp_path / "out.csv").read_text() == "text\nof a first command\n"
    assert {path.name for path in tmp_path.iterdir()} == {"in.csv", "out.csv"}


def test_an_input_may_be_called_partial(rows, detector, tmp_path):
    (tmp_path / "out.csv.partial").write_bytes(as_csv(rows))
    assert call(tmp_path / "out.csv.partial", tmp_path / "out.csv", "--input-format", "csv") == 0
    assert read_back(tmp_path / "out.csv") == expected(rows)
    assert (tmp_path / "out.csv.partial").read_bytes() == as_csv(rows)


@pytest.mark.parametrize("name", ["out.csv", "out.jsonl.gz", "out.parquet"])
@pytest.mark.parametrize(("mode", "then"), [(None, 0o640), (0o600, 0o600), (0o664, 0o664), (0o400, 0o400)])
def test_a_replaced_file_keeps_its_permissions_and_a_new_one_has_the_umasks(name, mode, then, rows, detector, tmp_path):
    (tmp_path / "in.csv").write_bytes(as_csv([{**rows[0], "a": "x"}, *rows]))
    outputs = tmp_path / name, tmp_path / "rejects.csv"
    previous = os.umask(0o027)
    try:
        for path in outputs if mode is not None else ():
            path.touch()
            path.chmod(mode)
        assert call(tmp_path / "in.csv", *outputs[:1], "--rejects", str(outputs[1])) == 0
    finally:
        os.umask(previous)
    assert [path.stat().st_mode & 0o777 for path in outputs] == [then, then]
    assert len(read_back(outputs[0])) == len(rows)


@pytest.mark.parametrize("file_format", ["csv", "jsonl", "parquet"])
def test_a_named_pipe_is_written_to_and_stays(file_format, rows, detector, tmp_path):
    (tmp_path / "in.csv").write_bytes(as_csv(rows))
    pipe, found = tmp_path / f"pipe.{file_format}", tmp_path / f"found.{file_format}"
    os.mkfifo(pipe)
    reader = threading.Thread(target=lambda: found.write_bytes(pipe.read_bytes()))
    reader.start()
    assert call(tmp_path / "in.csv", pipe) == 0
    reader.join()
    assert read_back(found) == expected(rows)
    assert {path.name for path in tmp_path.iterdir()} == {"in.csv", pipe.name, found.name}
    assert pipe.is_fifo()


@pytest.mark.skipif(not Path("/dev/stdout").exists(), reason="there is no /dev/stdout here")
def test_standard_output_by_its_name_may_be_a_pipe():
    process = start_in_pipe("--output", "/dev/stdout", "--format", "csv")
    written, _ = process.communicate(b"a,b,c\n1,2,3\n", timeout=120)
    assert process.returncode == 0
    assert written.splitlines()[0].startswith(b"row,log_reconstruction_probability,decision")
    assert len(written.splitlines()) == 2


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no /dev/full here")
@pytest.mark.parametrize("file_format", ["csv", "jsonl", "parquet"])
def test_a_full_disk_is_one_line(file_format, rows, detector, capsys, tmp_path):
    (tmp_path / "in.csv").write_bytes(as_csv(rows))
    arguments = ["--model", "m", "--input", tmp_path / "in.csv", "--output", "/dev/full", "--format", file_format]
    assert "can't write in /dev: No space left on device" in refused(score.main, arguments, capsys, code=1)


def test_a_full_disk_behind_standard_output_is_one_line(tmp_path):
    # After the imports no file may grow past 20 bytes: a write then fails like on a full disk.
    limit = "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (20, 20))\nsys.exit("
    program = PROGRAM.format(folders=[str(folder) for folder in Path(__file__).parents[:2]]).replace("sys.exit(", limit)
    with open(tmp_path / "out.csv", "wb") as output:
        process = subprocess.run(
            [sys.executable, "-c", program],
            input=b"a,b,c\n1,2,3\n",
            stdout=output,
            stderr=subprocess.PIPE,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            check=False,
        )
    assert process.returncode == 1
    assert process.stderr == b"error: can't write to standard output or a temporary file: File too large\n"


def test_equal_rows_give_equal_packed_files(rows, detector, tmp_path):
    (tmp_path / "in.csv").write_bytes(as_csv(rows))
    for name in ("one.csv.gz", "other.csv.gz"):
        assert call(tmp_path / "in.csv", tmp_path / name) == 0
    assert (tmp_path / "one.csv.gz").read_bytes() == (tmp_path / "other.csv.gz").read_bytes()


# Pipes.


@pytest.mark.parametrize(
    ("options", "make"),
    [
        ([], as_csv),
        ([], lambda rows: gzip.compress(as_csv(rows))),
        (["--input-format", "jsonl"], as_jsonl),
        (["--input-format", "jsonl"], lambda rows: gzip.compress(as_jsonl(rows))),
        (["--input-format", "parquet"], as_parquet),
    ],
)
def test_rows_from_a_pipe(options, make, rows, detector, sizes, capfdbinary, monkeypatch, tmp_path):
    end, start = os.pipe()

    def write() -> None:
        with open(start, "wb") as pipe:
            pipe.write(make(rows))

    thread = threading.Thread(target=write)
    thread.start()
    with open(end) as pipe:
        monkeypatch.setattr(sys, "stdin", pipe)
        assert run(score.main, ["--model", "m", "--keep", "id", *options]) == 0
    thread.join()
    (tmp_path / "out.csv").write_bytes(capfdbinary.readouterr().out)
    assert read_back(tmp_path / "out.csv") == expected(rows, ("id",))


@pytest.mark.parametrize("file_format", ["csv", "jsonl", "parquet"])
def test_results_and_nothing_else_on_standard_output(file_format, rows, detector, sizes, capfdbinary, tmp_path):
    (tmp_path / "in.csv").write_bytes(as_csv(rows))
    assert call(tmp_path / "in.csv", "-", "--format", file_format) == 0
    out, err = capfdbinary.readouterr()
    (tmp_path / f"out.{file_format}").write_bytes(out)
    assert read_back(tmp_path / f"out.{file_format}") == expected(rows)
    assert f"{COUNT} rows scored" in err.decode()


def test_parquet_that_fails_leaves_nothing_on_standard_output(rows, detector, monkeypatch, capfdbinary, tmp_path):
    monkeypatch.setattr(score, "CHUNK", 7)
    fails_at_the_second_chunk(detector, Interrupted(15))
    (tmp_path / "in.csv").write_bytes(as_csv(rows))
    assert call(tmp_path / "in.csv", "-", "--format", "parquet") == 143
    assert capfdbinary.readouterr().out == b""


def test_a_terminal_is_no_table(detector, capsys, monkeypatch):
    class Terminal:
        def isatty(self) -> bool:
            return True

    monkeypatch.setattr(sys, "stdin", Terminal())
    assert "name a file" in refused(score.main, ["--model", "m"], capsys)


PROGRAM = """
import sys
sys.path[:0] = {folders}
import experiments.score.__main__ as score
from experiments.command_line import run
from experiments.score import scoring
from test_score import StandIn
scoring.load = lambda folder: StandIn()
score.CHUNK = 100
sys.exit(run(score.main, ["--model", "m", "--explain", "2", *sys.argv[1:]]))
"""


def start_in_pipe(*options: str) -> subprocess.Popen:
    program = PROGRAM.format(folders=[str(folder) for folder in Path(__file__).parents[:2]])
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    return subprocess.Popen([sys.executable, "-c", program, *options], env=environment, **pipes)


CLOSED = "error: can't write to standard output or a temporary file: Bad file descriptor\n"


@pytest.mark.parametrize(
    ("closed", "options", "code", "said"),
    [
        ("<&-", "", 2, "error: --input -: standard input is closed; name a file\n"),
        (">&-", "--input in.csv", 1, CLOSED),
        (">&-", "--help", 1, CLOSED),
        (">&- <&-", "--input in.csv --output out.csv", 0, "1 row scored in "),
        ("2>&-", "--input in.csv --output out.csv", 0, ""),
        ("2>&- >&- <&-", "--input in.csv --output out.csv", 0, ""),
        ("2>&-", "--no-such-option", 2, ""),
    ],
)
def test_standard_streams_may_be_closed(closed, options, code, said, tmp_path):
    program = PROGRAM.format(folders=[str(folder) for folder in Path(__file__).parents[:2]])
    (tmp_path / "in.csv").write_text("a,b,c\n1,2,3\n")
    shell = f'"$0" -c "$1" {options} {closed}'
    ended = subprocess.run(
        ["bash", "-c", shell, sys.executable, program],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (ended.returncode, ended.stdout) == (code, "")
    assert said in ended.stderr if said else not ended.stderr
    assert "Error" not in ended.stderr
    if "--output" in options:
        assert len(read_back(tmp_path / "out.csv")) == 1


def test_a_reader_that_leaves_gets_no_complaint():
    process = start_in_pipe()
    process.stdout.close()
    _, said = process.communicate(b"a,b,c\n" + b"1,2,3\n" * 100_000, timeout=120)
    assert process.returncode == 1
    assert b"error" not in said
    assert b"Error" not in said


# Streams.


class Endless(io.RawIOBase):
    """Rows without an end, and how many bytes of them were asked for."""

    def __init__(self, first: bytes, row: bytes):
        self._waiting, self._row = first, row
        self.served = 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer) -> int:
        while len(self._waiting) < len(buffer):
            self._waiting += self._row * 100
        buffer[:] = self._waiting[: len(buffer)]
        self._waiting = self._waiting[len(buffer) :]
        self.served += len(buffer)
        return len(buffer)


@pytest.mark.parametrize(
    ("file_format", "first", "row"),
    [
        ("csv", b"a,b,c\n", b"1,2,3\n"),
        ("csv", b"a,b,c,d\n", b'1,2,3,"x\n"\n'),
        ("csv", b"a,b,c\n", b"1,2,3\n4,5,x\n"),
        ("jsonl", b"", b'{"a": 1, "b": 2, "c": 3}\n'),
    ],
)
def test_no_more_is_read_than_is_needed(file_format, first, row, monkeypatch):
    monkeypatch.setattr(table_text, "PIECE", 10_000)
    endless = Endless(first, row)
    source = table_reader.Source("it", io.BufferedReader(endless, 10_000))
    table = table_reader.open_table(source, file_format, Columns(FEATURES), lambda broken: None)
    for block in islice(table.blocks, 50):
        assert endless.served <= 10_000 * (2 + block.rows[-1] * len(row) // 10_000 + 2)
        assert len(block) <= 10_000


def test_progress_of_which_nobody_knows_the_end(monkeypatch):
    now = [0.0]
    monkeypatch.setattr("time.monotonic", lambda: now[0])
    output = console(io.StringIO())
    with WorkProgress("scoring", "rows", output) as progress:
        for seconds, done in [(0, 0), (4, 400), (11, 1_100), (12, 1_200), (30, 3_000)]:
            now[0] = seconds
            progress.show(done, None)
    assert output.file.getvalue() == "scoring  1,100  100 rows/s\nscoring  3,000  100 rows/s\n"


# Models.


def test_a_folder_without_a_model(capsys, tmp_path):
    (tmp_path / "in.csv").write_bytes(b"a,b,c\n1,2,3\n")
    arguments = ["--model", tmp_path, "--input", tmp_path / "in.csv", "--output", tmp_path / "out.csv"]
    line = refused(score.main, arguments, capsys)
    assert line == f"error: --model {tmp_path}: no model there (manifest.json is missing)"
    assert not (tmp_path / "out.csv").exists()


def test_without_ray_it_is_said_what_to_install(monkeypatch, capsys):
    monkeypatch.setattr(score, "find_spec", lambda name: None)
    line = refused(score.main, ["--model", "m", "--engine", "ray"], capsys)
    assert line == "error: --engine ray: needs the package ray: pip install 'ray[data]'"


def test_workers_without_an_engine(capsys):
    arguments = ["--model", "m", "--workers", "2", "--input", "a.csv"]
    assert refused(score.main, arguments, capsys) == "error: --workers 2: only with --engine ray"
