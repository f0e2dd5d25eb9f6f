import codecs
import datetime
import decimal
import gzip
import io
import sys
import zipfile
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.feather as feather
import pyarrow.parquet as pq
import pytest
from real_data import real_data

from vae_jax.data.errors import DataError
from vae_jax.tables.files import read_frame

PLAIN = "name,amount\nZoë,1.5\n Ann , \n"
EXPECTED = {"name": ["Zoë", "Ann"], "amount": ["1.5", None]}


def read(folder: Path, content: str | bytes, **options) -> dict[str, list]:
    """The columns of a file with this content."""
    return read_with_notices(folder, content, **options)[0]


def read_with_notices(folder: Path, content: str | bytes, **options) -> tuple[dict[str, list], list[str]]:
    path = folder / "file"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    frame, notices = read_frame(path, **options)
    return frame.to_dict("list"), [notice.removeprefix(f"{path}: ") for notice in notices]


def refusal(folder: Path, content: str | bytes, **options) -> str:
    """The message without the file's name."""
    with pytest.raises(DataError) as caught:
        read(folder, content, **options)
    message = str(caught.value)
    assert "\n" not in message
    return message.removeprefix(f"{folder / 'file'}: ")


def zipped(*names: str) -> bytes:
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        for name in names:
            archive.writestr(name, PLAIN)
    return content.getvalue()


def workbook(**sheets: list[list]) -> bytes:
    content = io.BytesIO()
    with pd.ExcelWriter(content, engine="openpyxl") as writer:
        for name, rows in sheets.items():
            pd.DataFrame(rows).to_excel(writer, sheet_name=name, header=False, index=False)
    return content.getvalue()


def parquet(columns: dict | pa.Table | pd.DataFrame) -> bytes:
    content = io.BytesIO()
    if isinstance(columns, pd.DataFrame):
        columns.to_parquet(content)
    else:
        pq.write_table(columns if isinstance(columns, pa.Table) else pa.table(columns), content)
    return content.getvalue()


def short(value) -> str:
    """A test's name."""
    return repr(value)[:30]


@pytest.mark.parametrize(
    ("content", "encoding"),
    [
        (PLAIN.encode(), None),
        (PLAIN.encode("utf-8-sig"), None),
        (PLAIN.encode("utf-8-sig"), "latin-1"),
        (codecs.BOM_UTF16_LE + PLAIN.encode("utf-16-le"), None),
        (codecs.BOM_UTF16_BE + PLAIN.encode("utf-16-be"), None),
        (PLAIN.encode("latin-1"), "latin-1"),
        (PLAIN.encode("cp1252"), "cp1252"),
        (PLAIN.encode("utf-16-le"), "utf-16-le"),
        (gzip.compress(PLAIN.encode(), mtime=0), None),
        (zipped("a.csv"), None),
        (zipped("a.CSV", "__MACOSX/a.csv", "readme.txt"), None),
        (zipped("a.tsv"), None),
        (PLAIN.replace("\n", "\r\n").encode(), None),
        (PLAIN.replace("\n", "\r").encode(), None),
        (PLAIN.replace(",", ";").encode(), None),
        (PLAIN.replace(",", "\t").encode(), None),
        (PLAIN.replace(",", "|").encode(), None),
        (PLAIN.replace("Zoë", '"Zoë"').encode(), None),
        (PLAIN.rstrip("\n").encode(), None),
        (f"{PLAIN}\n , \n\n".encode(), None),
        (PLAIN.replace("\n", ",\n").encode(), None),
        (PLAIN.replace("\n", ',""\n').encode(), None),
        ("name,amount\nZoë,1.5,\nAnn,,\n".encode(), None),
    ],
    ids=short,
)
def test_text_in_any_dress_is_the_same_table(tmp_path, content, encoding):
    assert read_with_notices(tmp_path, content, encoding=encoding) == (EXPECTED, [])


@pytest.mark.parametrize(
    ("content", "columns"),
    [
        ("a;b\n1,5;2,5\n3,5;4,5\n", {"a": ["1,5", "3,5"], "b": ["2,5", "4,5"]}),
        ('"a, m";"b; m"\n1,5;2\n', {"a, m": ["1,5"], "b; m": ["2"]}),
        ('"a;x;y",b\n1;2;3,2\n', {"a;x;y": ["1;2;3"], "b": ["2"]}),
        ("a, m;b, m\n1,5;2,5\n3,5;4,5\n", {"a, m": ["1,5", "3,5"], "b, m": ["2,5", "4,5"]}),
        ("a;b,c\n1,5;2\n3,5;4\n", {"a": ["1,5", "3,5"], "b,c": ["2", "4"]}),
        ("a\tb, c, d\n1\tx, y, z\n", {"a": ["1"], "b, c, d": ["x, y, z"]}),
        ("amount\n1,5\n2,5\n", {"amount": ["1,5", "2,5"]}),
        ('a, "b"\n1, "x, y"\n', {"a": ["1"], "b": ["x, y"]}),
        ('a,b\n1,"x\ny, ""z"""\n', {"a": ["1"], "b": ['x\ny, "z"']}),
        ('"a\n(EUR)",b\n1,5" pipe\n', {"a (EUR)": ["1"], "b": ['5" pipe']}),
        ("a,b\n1,NA\n2,#N/A\n", {"a": ["1", "2"], "b": ["NA", "#N/A"]}),
    ],
    ids=short,
)
def test_separator_and_quotes(tmp_path, content, columns):
    assert read(tmp_path, content) == columns


def test_text_columns_hold_str_and_none(tmp_path):
    (tmp_path / "a.csv").write_text(PLAIN)
    frame = read_frame(tmp_path / "a.csv")[0]
    assert set(frame.dtypes) == {np.dtype(object)}
    assert [type(cell) for cell in frame["amount"]] == [str, type(None)]


@pytest.mark.parametrize("quoted", ["x", '"x"'])
def test_blank_lines_are_skipped_and_named(tmp_path, quoted):
    columns, notices = read_with_notices(tmp_path, f"a,b\n{quoted},1\n\n,\ny,2\n\n")
    assert columns == {"a": ["x", "y"], "b": ["1", "2"]}
    assert notices == ["blank lines are skipped: 3, 4"]


@pytest.mark.parametrize(
    ("content", "left"),
    [
        (",a\n0,x\n1,y\n", ["a"]),
        ("Unnamed: 0,a\n1,x\n2,y\n", ["a"]),
        ("Unnamed: 0,a\n7,x\n2,y\n", ["Unnamed: 0", "a"]),
        ("id,a\n0,x\n1,y\n", ["id", "a"]),
        (",0,1\n0,x,y\n1,y,z\n", None),
    ],
)
def test_row_index_is_left_out(tmp_path, content, left):
    if left is None:  # names that are numbers are no header, with an index or without
        assert "no header" in refusal(tmp_path, content)
        return
    columns, notices = read_with_notices(tmp_path, content)
    assert list(columns) == left
    assert len(notices) == (left == ["a"])


def test_dropped_columns_are_left_out_before_others_are_checked(tmp_path):
    assert read(tmp_path, "a,,b,b\n1,2,3,4\n", drop=["", "b"]) == {"a": ["1"]}
    assert refusal(tmp_path, "a,b\n1,2\n", drop=["c"]) == "--drop c: no such column; there are a, b"
    assert refusal(tmp_path, "a,b\n1,2\n", drop=["a", "b"]) == "no column is left"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "the file is empty"),
        (" \n\n", "the file is empty"),
        ("1,2\n3,4\n", "no header with the names of the columns in the first line"),
        ("1.5,-2e3,\n3,4,\n", "no header"),
        ("\na,b\n1,2\n", "no header"),
        (b"x" * 200_000, "no header"),
        ("a,b\n", "a header, but no rows"),
        ("sep=;\na;b\n1;2\n", "its first line, sep=;, is for Excel alone; remove it"),
        ('{"a": 1}\n{"a": 2}\n', "looks like JSON, which is not read here; save it as CSV or Parquet"),
        ('[\n  {"a": 1}\n]\n', "looks like JSON, which is not read here; save it as CSV or Parquet"),
        ("a,b,a\n1,2,3\n", "column repeated 'a'"),
        ("a,,b\n1,2,3\n", "column 2 of 3 has no name; name it, or leave it out with --drop ''"),
        (",a\n3,x\n", "column 1 of 2 has no name"),
        ("a,b,\n1,2,3\n", "column 3 of 3 has no name"),
        ("a,b\n1,2\n1\n", "row 1 (line 3): 1 cells, the header names 2 columns"),
        ("a,b\n1,2\n\n1,2,3\n", "row 1 (line 4): 3 cells, the header names 2 columns"),
        ('a,b\n"1\n1",2\n1,2,\n', "row 1 (line 4): 3 cells, the header names 2 columns"),
        ("a,b\n1,2,\n1,2,3\n", "row 1 (line 3): 3 cells"),
        ("a,b\n1,2,\n1,2\n", "row 1 (line 3): 2 cells"),
        ('a,b\n1,2\n1,"2\n3,4\n', "line 3: a quote is not closed"),
        ("a,é\n1,2\n".encode("latin-1"), "not UTF-8; say its encoding, for example --encoding latin-1"),
        (b"\x89PNG\0\0\xff\xff", "not a text file"),
        (b"a,b\0\n1,2\n", "not a text file"),
        (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", "an Excel file of the old kind (.xls); save it as .xlsx or CSV"),
        (gzip.compress(PLAIN.encode() * 99, mtime=0)[:-20], "damaged, truncated"),
        (zipped("a.csv", "b.csv"), "expected one .csv file in the zip, found 2"),
        (zipped("a.csv")[:40], "damaged, truncated"),
        (parquet({"a": [1, 2]})[:-9], "damaged, truncated"),
        (b"PAR1", "damaged, truncated"),
        (b"ARROW1\0\0 no Arrow file", "damaged, truncated"),
        (workbook(a=[["x"], [1]])[:-99], "damaged, truncated"),
        (workbook(a=[[None]]), "no sheet with a header and rows"),
        (workbook(a=[["x", "x"], [1, 2]]), "column repeated 'x'"),
        (workbook(a=[["x", None, "y"], [1, 2, 3]]), "column 2 of 3 has no name"),
        (workbook(a=[[1, 2], [3, 4]]), "no header"),
        (parquet({"a": [[1], [2]]}), "column a: list<"),
        (parquet({"a": pa.array([], pa.int64())}), "a header, but no rows"),
    ],
    ids=short,
)
def test_what_is_wrong_is_said_in_one_line(tmp_path, content, message):
    assert refusal(tmp_path, content).startswith(message)


def test_encodings_that_do_not_fit(tmp_path):
    assert refusal(tmp_path, PLAIN, encoding="xyz") == "--encoding xyz: no such encoding"
    assert refusal(tmp_path, PLAIN, encoding="base64") == "--encoding base64: no such encoding"
    assert refusal(tmp_path, PLAIN, encoding="ascii") == "not in the encoding of --encoding ascii"
    with pytest.raises(DataError, match="no such file"):
        read_frame(tmp_path / "nowhere.csv")


def test_excel_cells_keep_their_types(tmp_path):
    (tmp_path / "a.xlsx").write_bytes(
        workbook(
            remarks=[["made by hand"], ["do not change"]],
            data=[
                ["count", "gaps", "amount", "day", "word", "flag", "mixed"],
                [1, 1, 1.5, datetime.datetime(2024, 1, 31, 10), " NA ", True, 1],
                [None] * 7,
                [2, None, 2, datetime.datetime(2024, 2, 1), None, False, "two"],
            ],
        )
    )
    frame, notices = read_frame(tmp_path / "a.xlsx")
    assert [str(dtype) for dtype in frame.dtypes] == [
        "int64",
        "float64",
        "float64",
        "datetime64[us]",
        "object",
        "bool",
        "object",
    ]
    assert frame["count"].tolist() == [1, 2]
    assert frame["amount"].tolist() == [1.5, 2.0]
    assert np.isnan(frame["gaps"][1])
    assert frame["day"][0] == pd.Timestamp(2024, 1, 31, 10)
    assert frame["word"].tolist() == ["NA", None]
    assert frame["mixed"].tolist() == [1, "two"]
    assert notices == [f"{tmp_path / 'a.xlsx'}: of 2 sheets, 'data' is read"]


def test_excel_index_and_margins_are_left_out(tmp_path):
    rows = [[None] * 4, [None, None, "a", "b"], [None, 0, "x", 5], [None, 1, "y", 6]]
    columns, notices = read_with_notices(tmp_path, workbook(data=rows))
    assert columns == {"a": ["x", "y"], "b": [5, 6]}
    assert notices == ["the first column (without a name) counts the rows, and is left out"]


def test_excel_without_openpyxl(tmp_path, monkeypatch):
    content = workbook(a=[["x"], [1]])
    monkeypatch.setitem(sys.modules, "openpyxl", None)
    assert refusal(tmp_path, content) == "to read Excel files, install openpyxl: pip install openpyxl"


BERLIN = datetime.timezone(datetime.timedelta(hours=1))


@pytest.mark.parametrize(
    ("column", "dtype", "values"),
    [
        (pa.array([1, 2]), "int64", [1, 2]),
        (pa.array([1, None], pa.int8()), "Int64", [1, None]),
        (pa.array([2**64 - 1, None], pa.uint64()), "UInt64", [2**64 - 1, None]),
        (pa.array([1.5, None]), "float64", [1.5, None]),
        (pa.array([decimal.Decimal("1.25"), None]), "float64", [1.25, None]),
        (pa.array([True, False]), "bool", [True, False]),
        (pa.array([True, None]), "object", [True, None]),
        (pa.array([" a ", ""], pa.large_string()), "object", ["a", None]),
        (pa.array(["a", None]).dictionary_encode(), "object", ["a", None]),
        (pa.array(["a", None], pa.string_view()), "object", ["a", None]),
        (pa.array([3, 4]).dictionary_encode(), "int64", [3, 4]),
        (pa.array([b"a", b"b"]), "object", ["a", "b"]),
        (pa.nulls(2), "object", [None, None]),
        (pa.array([datetime.date(2024, 1, 31), None]), "datetime64[us]", [pd.Timestamp(2024, 1, 31), None]),
        (
            pa.array([datetime.datetime(2024, 1, 31, 10, tzinfo=BERLIN), None], pa.timestamp("ns", "+01:00")),
            "datetime64[us]",
            [pd.Timestamp(2024, 1, 31, 9), None],
        ),
    ],
)
@pytest.mark.parametrize("kind", ["parquet", "arrow"])
def test_arrow_types_become_ordinary_columns(tmp_path, kind, column, dtype, values):
    write = pq.write_table if kind == "parquet" else feather.write_feather
    write(pa.table({" x ": column}), tmp_path / "file")
    frame, notices = read_frame(tmp_path / "file")
    assert (list(frame), str(frame["x"].dtype), notices) == (["x"], dtype, [])
    assert [None if pd.isna(cell) else cell for cell in frame["x"]] == values


def test_categories_as_polars_writes_them_in_arrow_files(tmp_path):
    words = pa.array(["a", "b"], pa.string_view())
    column = pa.DictionaryArray.from_arrays(pa.array([1, None, 0], pa.uint32()), words)
    feather.write_feather(pa.table({"x": column}), tmp_path / "file")
    assert read_frame(tmp_path / "file")[0]["x"].tolist() == ["b", None, "a"]


def test_parquet_from_pandas(tmp_path):
    frame = pd.DataFrame({"a": pd.array([1, None], dtype="Int64"), "b": pd.Categorical(["x", "y"])}, index=[5, 7])
    assert read_with_notices(tmp_path, parquet(frame)) == (
        {"a": [1, None], "b": ["x", "y"]},
        ["the row index __index_level_0__ is left out"],
    )
    assert list(read(tmp_path, parquet(frame.rename_axis("id")))) == ["a", "b", "id"]
    # What is dropped may have any type.
    assert read(tmp_path, parquet({"a": [[1]], "b": [2]}), drop=["a"]) == {"b": [2]}


@pytest.mark.parametrize("quote", ["", '"'])
def test_large_files_are_read_whole(tmp_path, rng, quote):
    numbers = rng.normal(size=(100_000, 3)).round(6).astype(str)
    text = "a,b,c\n" + "\n".join(f"{quote}{a}{quote},{b},{c}" for a, b, c in numbers)
    columns = read(tmp_path, text)
    assert columns["c"] == numbers[:, 2].tolist()


@pytest.mark.parametrize(
    ("name", "rows", "columns", "cell"),
    [
        ("adult/adult.csv", 32_561, 15, ("workclass", 27, "?")),
        ("claims/fraud_oracle.csv", 15_100, 33, ("Month", 0, "Dec")),
        ("creditcard/creditcard.csv", 27_594, 31, ("V1", 0, "-1.3598071336738")),
    ],
)
def test_real_files(tmp_path, name, rows, columns, cell):
    path = real_data(name)
    frame, notices = read_frame(path)
    assert (frame.shape, notices) == ((rows, columns), [])
    column, row, value = cell
    assert frame[column][row] == value
    # The same rows in other kinds of files are the same table.
    some = frame.head(200)
    some.to_csv(tmp_path / "semicolons.csv", sep=";", encoding="utf-16", quoting=1)
    some.to_excel(tmp_path / "a.xlsx", index=False)
    some.to_parquet(tmp_path / "a.parquet")
    for other in ("semicolons.csv", "a.xlsx", "a.parquet"):
        pd.testing.assert_frame_equal(read_frame(tmp_path / other)[0], some)
