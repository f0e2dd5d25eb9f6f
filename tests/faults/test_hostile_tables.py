"""Tables made to hurt: bombs, endless lines, lying headers and quotes that are never closed."""

import bz2
import gzip
import io
import json
import struct
import time
import zipfile
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from benchmarks.faults.readers.streams import ANY, NUMBERS, read_table
from experiments.command_line import UsageError
from vae_jax.data import unpacking
from vae_jax.data.errors import DataError
from vae_jax.tables import files
from vae_jax.tables.cells import cells_of
from vae_jax.tables.csv_file import read_header
from vae_jax.tables.files import read_frame
from vae_jax.tables.transactions import read_csv

SECONDS = 20  # what takes a tenth of one takes ten on a busy machine; what is refused here took minutes or never ended


@pytest.fixture(autouse=True)
def in_time():
    start = time.process_time()
    yield
    assert time.process_time() - start < SECONDS


def zipped(content: bytes, kind: int = zipfile.ZIP_DEFLATED, name: str = "table.csv") -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", kind) as archive:
        archive.writestr(name, content)
    return file.getvalue()


def with_sheet(sheet: str) -> bytes:
    """An Excel file whose first sheet is replaced."""
    file, copy = io.BytesIO(), io.BytesIO()
    pd.DataFrame({"a": [1]}).to_excel(file, index=False)
    start = '<worksheet xmlns="http://schemas.openxmlformats.org/spreadsheetml/2006/main"><sheetData>'
    with zipfile.ZipFile(file) as archive, zipfile.ZipFile(copy, "w", zipfile.ZIP_DEFLATED) as changed:
        for name in archive.namelist():
            found = f"{start}{sheet}</sheetData></worksheet>".encode() if "sheet1" in name else archive.read(name)
            changed.writestr(name, found)
    return copy.getvalue()


@pytest.mark.parametrize("read", [read_frame, read_csv])
@pytest.mark.parametrize("pack", [gzip.compress, zipped, lambda data: zipped(data, zipfile.ZIP_BZIP2)])
def test_a_decompression_bomb_is_refused(read, pack, tmp_path, monkeypatch):
    monkeypatch.setattr(unpacking, "MOST_BYTES", 100_000)
    (tmp_path / "bomb.csv").write_bytes(pack(b"a,b\n" + b"1,2\n" * 200_000))
    with pytest.raises(DataError, match=r"bomb\.csv: unpacked, it has more than .* bytes and 200 times its size"):
        read(tmp_path / "bomb.csv")


def test_a_zip_whose_directory_lies_about_the_size_is_refused_without_unpacking_it(tmp_path):
    size = 1 << 20
    content = zipped(b"a\n" * (size // 2))
    (tmp_path / "t.zip").write_bytes(content.replace(struct.pack("<I", size), struct.pack("<I", 10)))
    with pytest.raises(DataError, match=r"t\.zip: damaged, truncated or unsupported archive \(Bad CRC-32"):
        read_frame(tmp_path / "t.zip")


@pytest.mark.parametrize("kind", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_a_zip_that_is_packed_otherwise_and_damaged_is_refused(kind, tmp_path):
    content = bytearray(zipped(b"a,b\n1,2\n" * 99, kind))
    content[45:60] = b"\xff" * 15
    (tmp_path / "t.zip").write_bytes(content)
    with pytest.raises(DataError, match="damaged, truncated or unsupported archive"):
        read_frame(tmp_path / "t.zip")


@pytest.mark.parametrize(
    ("header", "message"),
    [
        (b"9" * 130_000 + b"x", "no header"),
        (b"a" + b" " * 130_000 + b"b", "no header"),
        (b"9" * 9_999 + b"x,b", "1 cells, the header names 2"),
    ],
)
def test_a_header_that_is_long_or_odd_is_refused_at_once(header, message, tmp_path):
    (tmp_path / "t.csv").write_bytes(header + b"\n1\n2\n")
    with pytest.raises(DataError, match=message):
        read_frame(tmp_path / "t.csv")


def test_a_name_gives_no_orders_to_the_terminal(tmp_path):
    (tmp_path / "t.csv").write_text("a\x1b[2J\x0b,b\n1,2\n")
    with pytest.raises(DataError, match="--drop c: no such column") as error:
        read_frame(tmp_path / "t.csv", drop=["c"])
    assert str(error.value).isprintable()


def test_a_name_repeated_among_a_hundred_thousand_is_found(tmp_path):
    names = [f"c{i}" for i in range(100_000)]
    assert read_header(tmp_path, ",".join(names))[0] == names
    with pytest.raises(DataError, match="column repeated 'c7'"):
        read_header(tmp_path, ",".join([*names, "c7"]))


@pytest.mark.parametrize("data", [b"a,b\n1,\xed\xa0\x80\n", b"\xff\xfea\0,\0b\0\n\0\x00\xd8", b"a\0b,c\n1,2\n"])
def test_half_characters_and_nul_are_refused(data, tmp_path):
    (tmp_path / "t.csv").write_bytes(data)
    with pytest.raises(DataError, match=r"not UTF-8|not a text file"):
        read_frame(tmp_path / "t.csv")


def test_a_line_of_spaces_is_a_blank_line(tmp_path):
    (tmp_path / "t.csv").write_text("a\n1\n \t \n2\n")
    frame, notices = read_frame(tmp_path / "t.csv")
    assert frame["a"].tolist() == ["1", "2"]
    assert "blank lines are skipped: 3" in notices[0]


FIRST = '<row r="1"><c r="A1" t="str"><v>a</v></c></row>'


@pytest.mark.parametrize(
    ("sheet", "message"),
    [
        (FIRST + '<row r="99999999999"><c r="A99999999999"><v>1</v></c></row>', "more than 1,000 rows"),
        ("".join(f'<row r="{i}"><c r="XFD{i}"><v>1</v></c></row>' for i in range(1, 10)), "all but 7 are blank"),
        ("<row><c><v>1</v></c></row>" * 2, "no header"),
    ],
)
def test_a_sheet_that_lies_about_its_size_is_refused(sheet, message, tmp_path, monkeypatch):
    monkeypatch.setattr(files, "EXCEL_ROWS", 1_000)
    monkeypatch.setattr(files, "MANY_CELLS", 100_000)
    (tmp_path / "t.xlsx").write_bytes(with_sheet(sheet))
    with pytest.raises(DataError, match=message):
        read_frame(tmp_path / "t.xlsx")


def test_a_cell_far_away_makes_a_table_of_two_rows(tmp_path):
    (tmp_path / "t.xlsx").write_bytes(with_sheet(FIRST + '<row r="20000"><c r="A20000"><v>5</v></c></row>'))
    assert read_frame(tmp_path / "t.xlsx")[0].to_dict("list") == {"a": [5]}


def test_entities_that_grow_are_refused(tmp_path):
    grown = "".join(f'<!ENTITY {c} "{f"&{p};" * 10}">' for p, c in zip("abcdefghi", "bcdefghij", strict=True))
    sheet = with_sheet('<row r="1"><c r="A1" t="str"><v>&j;</v></c></row>')
    with zipfile.ZipFile(io.BytesIO(sheet)) as archive:
        text = archive.read("xl/worksheets/sheet1.xml").decode()
    changed = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(sheet)) as archive, zipfile.ZipFile(changed, "w") as copy:
        for name in archive.namelist():
            entities = f'<!DOCTYPE x [<!ENTITY a "{"a" * 1000}">{grown}]>{text}'
            copy.writestr(name, entities if "sheet1" in name else archive.read(name))
    (tmp_path / "t.xlsx").write_bytes(changed.getvalue())
    with pytest.raises(DataError, match="damaged or unsupported Excel file"):
        read_frame(tmp_path / "t.xlsx")


def test_an_excel_bomb_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(unpacking, "MOST_BYTES", 100_000)
    (tmp_path / "t.xlsx").write_bytes(with_sheet("<row><c><v>1</v></c></row>" * 100_000))
    with pytest.raises(DataError, match="unpacked, it has more than"):
        read_frame(tmp_path / "t.xlsx")


# The score command


@pytest.mark.parametrize("sizes", [(20_000, 1_000), (1 << 20, 64 << 10)])
def test_quotes_that_are_never_closed_do_not_take_for_ever(sizes):
    lines = 20_000
    data = b"id,a,b\n" + b'x","y\n' * lines + b"z,1,2\n"
    rows, features, _, broken = read_table(data, "csv", NUMBERS, sizes)
    assert len(broken) == lines
    assert (rows, features) == ([lines], [[1.0, 2.0]])


def test_rows_after_a_long_one_that_is_broken_are_read():
    data = b'id,a,b\n"' + b"x\n" * 3_000 + b'",1\nz,1,2\n"two\nlines",3,4\n'
    _, features, ids, broken = read_table(data, "csv", NUMBERS)
    assert features == [[1.0, 2.0], [3.0, 4.0]]
    assert ids == ["z", "two\nlines"]
    assert len(broken) == 3_001
    assert broken[0].reason == "2 cells, expected 3"


def test_deep_nesting_is_a_broken_row():
    rows = [b'{"a": 1, "b": 2}', b'{"a": 1, "b": ' + b"[" * 100_000, b'{"b": ' + b"[" * 900 + b"]" * 900 + b"}"]
    for columns in (NUMBERS, ANY):
        read = read_table(b"\n".join(rows), "jsonl", columns)
        assert read[0][0] == 0
        assert read[3][0].reason.startswith("not JSON (")


def test_a_name_given_twice_is_a_broken_row():
    read = read_table(b'{"a": 1, "b": 2, "a": 3}\n{"a": 4, "c": 1, "b": 5, "c": 2}', "jsonl", NUMBERS)
    assert read[1] == [[4.0, 5.0]]
    assert read[3][0].reason == "column a: twice in the row"


@pytest.mark.parametrize("number", ["1" + "0" * 400, "1" + "0" * 5_000, "1e400", "-Infinity", "Infinity"])
def test_numbers_beyond_all_bounds_are_broken_rows(number):
    text = "".join(json.dumps({"a": a, "b": 1}) + "\n" for a in (1.5, 2)) + f'{{"a": {number}, "b": 1}}\n'
    read = read_table(text.encode(), "jsonl", NUMBERS)
    assert read[0] == [0, 1]
    assert [row.row for row in read[3]] == [2]


def test_a_header_that_is_longer_than_a_piece_is_read_whole():
    text = f"{'c' * 500};id;a;b\n1;x;2;3\n".encode()
    assert read_table(text, "csv", NUMBERS, (64, 32)) == ([0], [[2.0, 3.0]], ["x"], [])
    with pytest.raises(UsageError, match="no line end in 8,388,608 bytes"):
        read_table(b"a,b," + b"c" * (9 << 20), "csv", NUMBERS)


@pytest.mark.parametrize(
    ("text", "read", "broken"),
    [
        ('null\n{"a": 1, "b": 2, "c": "x,y"}\n', [1], [0]),
        ('{"a": 1, "b": 2, "c": "x,y"}\nnull\n', [0], [1]),
        ('{"a": 1, "b": 2, "c": "x,y"}\n \tnull\r\n{"a": 1, "b": 2}', [0, 2], [1]),
        ('null 1,"b"', [], [0]),
        ('[1]\n"a"\n1\ntrue\n{"a": 1, "b": 2}', [4], [0, 1, 2, 3]),
    ],
)
def test_rows_of_json_that_are_no_objects_are_broken(text, read, broken):
    """Arrow takes null for a row of gaps, and as the first row it ends the process."""
    found = read_table(text.encode(), "jsonl", NUMBERS)
    assert (found[0], [row.row for row in found[3]]) == (read, broken)


def test_whole_numbers_beyond_float64_are_infinite_among_fractions():
    cells = cells_of(pd.Series([1.5, 10**400, -(10**400)], dtype=object), finite=False)
    assert cells.tolist() == [1.5, np.inf, -np.inf]


def test_columns_of_parquet_that_are_not_utf_8_are_refused():
    table = pd.DataFrame({"id": ["x"], "a": [1.0], "b": [2.0], "qqqqqqqq": [1]})
    file = io.BytesIO()
    table.to_parquet(file)
    with pytest.raises(UsageError, match="not a Parquet file, or a damaged one"):
        read_table(file.getvalue().replace(b"qqqqqqqq", b"\xff\xfe\xfd\xfc\xff\xff\xff\xff"), "parquet", NUMBERS)


def test_a_parquet_bomb_is_refused(tmp_path, monkeypatch):
    path = tmp_path / "bomb.parquet"
    pd.DataFrame({"a": np.zeros(1_000_000)}).to_parquet(path)
    assert path.stat().st_size < 20_000
    assert len(read_frame(path)[0]) == 1_000_000
    monkeypatch.setattr(files, "MOST_BYTES", 1_000)
    monkeypatch.setattr(files, "MOST_TIMES", 20)
    with pytest.raises(
        DataError, match=r"bomb\.parquet: 1,000,000 rows of 1 columns, more than 1,000 cells and 20 for"
    ):
        read_frame(path)


REPEATED = pa.DictionaryArray.from_arrays(pa.array([0] * 20_000, pa.int32()), pa.array(["x" * 100_000]))


def as_parquet(table: pa.Table, path: Path) -> None:
    pq.write_table(table, path, compression="zstd", store_schema=False)


def as_arrow(table: pa.Table, path: Path) -> None:
    with pa.ipc.new_file(path, table.schema, options=pa.ipc.IpcWriteOptions(compression="zstd")) as file:
        file.write_table(table)


def views(text: str, cells: int) -> pa.Array:
    """Cells that all show the same long text."""
    buffers = pa.array([text], pa.string_view()).buffers()
    return pa.Array.from_buffers(
        pa.string_view(), cells, [None, pa.py_buffer(buffers[1].to_pybytes() * cells), buffers[2]]
    )


@pytest.mark.parametrize(
    ("write", "column"),
    [
        (as_parquet, REPEATED),
        (as_arrow, REPEATED),
        (as_arrow, views("x" * 100_000, 20_000)),
        (as_arrow, pa.DictionaryArray.from_arrays(pa.array([0] * 20_000), views("x" * 100_000, 1))),
    ],
    ids=["parquet", "arrow", "views", "categories of views"],
)
def test_one_long_text_in_many_cells_is_refused(write, column, tmp_path):
    path = tmp_path / "bomb.table"
    write(pa.table({"a": column}), path)
    assert path.stat().st_size < 20_000
    with pytest.raises(
        DataError, match=r"bomb\.table: 2,000,000,000 bytes when unpacked, more than 1,000,000,000 and 200 times"
    ):
        read_frame(path)
    write(pa.table({"a": column.slice(7, 3)}), path)
    assert read_frame(path)[0].a.str.len().tolist() == [100_000] * 3


def varint(number: int) -> bytes:
    """A whole number as a Parquet file's footer has it."""
    bits = 2 * number
    groups = [bits >> shift & 127 for shift in range(0, bits.bit_length(), 7)]
    return bytes([*(group | 128 for group in groups[:-1]), groups[-1]])


@pytest.mark.parametrize("kind", ["parquet", "parquet whose footer lies", "arrow", "arrow in one batch"])
def test_a_table_that_unpacks_to_too_much_is_refused_before_it_is_unpacked(kind, tmp_path, monkeypatch):
    monkeypatch.setattr(files, "MOST_TABLE", 1_000_000)
    path, table = tmp_path / "bomb.table", pa.table({"a": ["y" * 100_000] * 10, "b": ["z" * 4_000] * 10})
    if kind.startswith("parquet"):
        pq.write_table(table, path, compression="zstd", use_dictionary=False, write_statistics=False)
        content, of_all = path.read_bytes(), pq.read_metadata(path).row_group(0).total_byte_size
        if kind == "parquet whose footer lies":
            of_a = pq.read_metadata(path).row_group(0).column(0).total_uncompressed_size
            for size in (of_a, of_all):
                assert varint(size) in content
                content = content.replace(varint(size), varint(20_000))
            path.write_bytes(content)
            assert pq.read_metadata(path).row_group(0).total_byte_size == 20_000
            assert pq.read_table(path).equals(table)
    else:
        with pa.ipc.new_file(path, table.schema, options=pa.ipc.IpcWriteOptions(compression="zstd")) as file:
            file.write_table(table, max_chunksize=1 if kind == "arrow" else 10)
    monkeypatch.setattr(pa.ipc.RecordBatchFileReader, "read_all", None)
    monkeypatch.setattr(pq.ParquetFile, "read", None)
    assert 100 * path.stat().st_size < 1_000_000
    monkeypatch.setattr(files, "MOST_TIMES", 100)
    with pytest.raises(
        DataError, match=r"bomb\.table: 1,04\d,\d+ bytes when unpacked, more than 1,000,000 and 100 times"
    ):
        read_frame(path)


def test_a_footer_whose_statistics_do_not_fit_does_not_end_the_process(tmp_path):
    """Arrow aborts where it is asked for the columns of its footer, but not where it reads them."""
    file = io.BytesIO()
    pq.write_table(pa.table({"a": [1.5, None, 3.0], "b": [1.0, 2.0, None], "id": ["x", None, "y"]}), file)
    optional, required = b"\x25\x02", b"\x25\x00"
    assert file.getvalue().count(optional) == 3
    content = file.getvalue().replace(optional, required)
    (tmp_path / "table.parquet").write_bytes(content)
    with pytest.raises(DataError, match="histogram size mismatch"):
        read_frame(tmp_path / "table.parquet")
    with pytest.raises(UsageError, match="histogram size mismatch"):
        read_table(content, "parquet", NUMBERS)


def test_bzip2_of_a_bomb_is_as_small_as_it_is_said_to_be():
    """Why so few bytes are unpacked at once."""
    assert len(bz2.compress(b"0" * 10_000_000)) < 1_000
