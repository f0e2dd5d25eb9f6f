import datetime as dt
from decimal import Decimal

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from vae_jax.data.errors import CellError, DataError
from vae_jax.tables.cells import LARGEST_EXACT, as_frame, cells_of, is_numbers

BERLIN = dt.timezone(dt.timedelta(hours=2))
MORNING = dt.datetime(2024, 6, 1, 10, tzinfo=BERLIN)
BIG = LARGEST_EXACT + 1
NAN = float("nan")


def arrow(values, kind) -> pd.Series:
    return pd.Series(values, dtype=pd.ArrowDtype(kind))


@pytest.mark.parametrize(
    ("column", "expected"),
    [
        (pd.Series([1.5, None]), [1.5, NAN]),
        (pd.Series([1.5, 2], dtype="float16"), [1.5, 2]),
        (pd.Series([1, 2], dtype="int8"), [1, 2]),
        (pd.Series([1, 2], dtype="uint64"), [1, 2]),
        (pd.Series([-(LARGEST_EXACT - 1), 2]), [-(LARGEST_EXACT - 1), 2]),
        (pd.Series([1, None], dtype="Int64"), [1, NAN]),
        (pd.Series([None, None], dtype="Int64"), [NAN, NAN]),
        (pd.Series([1, None], dtype="UInt8"), [1, NAN]),
        (pd.Series([1.5, None], dtype="Float64"), [1.5, NAN]),
        (pd.Series(pd.arrays.SparseArray([0.0, 1.0])), [0, 1]),
        (pd.Series([], dtype=float), []),
        (pd.Series([1, None, 3], dtype=object), [1, NAN, 3]),
        (pd.Series([1, NAN, pd.NA], dtype=object), [1, NAN, NAN]),
        (pd.Series([np.int64(1), 2.5, None], dtype=object), [1, 2.5, NAN]),
        (pd.Series([Decimal("1.50"), None, Decimal("NaN")]), [1.5, NAN, NAN]),
        (pd.Series(pd.Categorical([3, None, 1])), [3, NAN, 1]),
        (pd.Series(pd.to_timedelta(["1 day", None])), [86400, NAN]),
        (pd.Series([dt.timedelta(minutes=1), None], dtype=object), [60, NAN]),
        (arrow([1, None], pa.int64()), [1, NAN]),
        (arrow([Decimal("1.50"), None], pa.decimal128(5, 2)), [1.5, NAN]),
        (arrow([dt.timedelta(days=1), None], pa.duration("us")), [86400, NAN]),
    ],
)
def test_numbers(column, expected):
    found = cells_of(column)
    assert found.dtype == np.float64
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize(
    ("column", "expected"),
    [
        (pd.Series(pd.to_datetime(["2024-01-31 10:30", None])), ["2024-01-31T10:30", "NaT"]),
        (pd.Series(np.array(["2024-01-31"], "datetime64[s]")), ["2024-01-31"]),
        (pd.Series([pd.NaT, pd.NaT]), ["NaT", "NaT"]),
        (pd.Series([dt.date(2024, 1, 31), None], dtype=object), ["2024-01-31", "NaT"]),
        (pd.Series([dt.date(9999, 12, 31)], dtype=object), ["9999-12-31"]),
        (pd.Series([dt.datetime(2024, 1, 31, 10), pd.NaT], dtype=object), ["2024-01-31T10", "NaT"]),
        (
            pd.Series([dt.date(2024, 1, 31), dt.datetime(2024, 1, 31, 10)], dtype=object),
            ["2024-01-31", "2024-01-31T10"],
        ),
        # In UTC, as dates in text.
        (pd.Series([MORNING, None]), ["2024-06-01T08", "NaT"]),
        (pd.Series(pd.to_datetime(["2024-06-01 10:00"]).tz_localize("Europe/Berlin")), ["2024-06-01T08"]),
        (pd.Series([MORNING, MORNING.astimezone(dt.UTC)], dtype=object), ["2024-06-01T08"] * 2),
        (pd.Series(pd.Categorical([MORNING, None])), ["2024-06-01T08", "NaT"]),
        (pd.Series(pd.PeriodIndex(["2024-02", None], freq="M")), ["2024-02-01", "NaT"]),
        (arrow([dt.date(2024, 1, 31), None], pa.date32()), ["2024-01-31", "NaT"]),
        (arrow([dt.datetime(2024, 1, 31), None], pa.timestamp("ns")), ["2024-01-31", "NaT"]),
        (arrow([MORNING, None], pa.timestamp("us", "Europe/Berlin")), ["2024-06-01T08", "NaT"]),
    ],
)
def test_dates(column, expected):
    found = cells_of(column)
    assert found.dtype == "datetime64[us]"
    np.testing.assert_array_equal(found, np.array(expected, "datetime64[us]"))


@pytest.mark.parametrize(
    ("column", "expected"),
    [
        (pd.Series([True, False]), ["True", "False"]),
        (pd.Series([True, None], dtype="boolean"), ["True", None]),
        (pd.Series([True, None], dtype=object), ["True", None]),
        (pd.Series([" a ", "?", None, "none", "NaN "], dtype=object), ["a", None, None, "none", None]),
        (pd.Series(["a", None], dtype="str"), ["a", None]),
        (pd.Series(["a", None], dtype="string"), ["a", None]),
        (pd.Series(pd.Categorical([" a", None, "NA", "b"])), ["a", None, None, "b"]),
        (pd.Series(pd.Categorical([True, None])), ["True", None]),
        (pd.Series([BIG, 1]), [str(BIG), "1"]),
        (pd.Series([-(2**63), 1]), [str(-(2**63)), "1"]),
        (pd.Series([2**63 + 1, 1], dtype="uint64"), [str(2**63 + 1), "1"]),
        (pd.Series([BIG, None], dtype="Int64"), [str(BIG), None]),
        (pd.Series([BIG, None], dtype=object), [str(BIG), None]),
        (pd.Series([10**400, 1], dtype=object), [str(10**400), "1"]),
        (pd.Series(["a", 1, 2.5, None, True], dtype=object), ["a", "1", "2.5", None, "1"]),
        (pd.Series([dt.date(2024, 1, 31), "soon"], dtype=object), ["2024-01-31", "soon"]),
        (pd.Series([dt.time(10, 30)], dtype=object), ["10:30:00"]),
        (pd.Series([None, None], dtype=object), [None, None]),
        (pd.Series([], dtype=object), []),
        (pd.cut(pd.Series([1.0, 4.0]), [0, 2, 5]), ["(0, 2]", "(2, 5]"]),
        (arrow(["a", None], pa.string()), ["a", None]),
        (arrow(["a", None], pa.dictionary(pa.int8(), pa.string())), ["a", None]),
        (arrow([True, None], pa.bool_()), ["True", None]),
        (arrow([None], pa.null()), [None]),
    ],
)
def test_text(column, expected):
    found = cells_of(column)
    assert found.dtype == object
    assert found.tolist() == expected


@pytest.mark.parametrize(
    "column",
    [
        pd.Series([1.0, np.inf]),
        pd.Series([1.0, -np.inf], dtype="Float64"),
        pd.Series([1, np.inf], dtype=object),
        pd.Series([Decimal(1), Decimal("Infinity")]),
        pd.Series(pd.Categorical([2.0, np.inf, 1.0, 2.0])),
    ],
)
def test_infinity_is_refused(column):
    with pytest.raises(CellError, match=r"^row 1, column paid: infinity is no number$"):
        cells_of(column.rename("paid"))


def test_lists_are_refused():
    with pytest.raises(
        TypeError, match=r"^row 0, column tags: argument must be a string, a number or a date, not list$"
    ):
        cells_of(pd.Series([["a"], ["b"]], name="tags"))


def test_cells_are_read_whatever_the_index_is():
    for column in (pd.Series(["a", "b"]), pd.Series([1.0, 2.0]), pd.Series(pd.Categorical(["a", "b"]))):
        np.testing.assert_array_equal(cells_of(column.set_axis([7, 7])), cells_of(column))


def arrow_table() -> pa.Table:
    return pa.table(
        {
            "word": pa.array(["a", None]).dictionary_encode(),
            "long": pa.array([BIG, None]),
            "whole": pa.array([1, None], pa.int32()),
            "yes": pa.array([True, None]),
            "price": pa.array([Decimal("1.50"), None]),
            "number": pa.array([1.5, NAN]),
            "when": pa.array([MORNING, None], pa.timestamp("us", "UTC")),
            "day": pa.array([dt.date(2024, 1, 31), None]),
            "time": pa.array([dt.timedelta(days=1), None]),
        }
    )


@pytest.mark.parametrize("library", ["pyarrow", "polars"])
def test_frames_of_other_libraries_keep_their_types(library):
    table = arrow_table() if library == "pyarrow" else pytest.importorskip("polars").from_arrow(arrow_table())
    frame = as_frame(table)
    found = {name: cells_of(frame[name]) for name in frame.columns}
    assert found["word"].tolist() == ["a", None]
    assert found["long"].tolist() == [str(BIG), None]
    assert found["yes"].tolist() == ["True", None]
    np.testing.assert_array_equal(found["whole"], [1, NAN])
    np.testing.assert_array_equal(found["price"], [1.5, NAN])
    np.testing.assert_array_equal(found["number"], [1.5, NAN])
    np.testing.assert_array_equal(found["time"], [86400, NAN])
    np.testing.assert_array_equal(found["when"], np.array(["2024-06-01T08", "NaT"], "datetime64[us]"))
    np.testing.assert_array_equal(found["day"], np.array(["2024-01-31", "NaT"], "datetime64[us]"))


def test_a_pandas_frame_is_not_copied():
    frame = pd.DataFrame({"a": [1]})
    assert as_frame(frame) is frame


def test_names_are_text_and_differ():
    assert as_frame(pd.DataFrame([[1, 2]])).columns.tolist() == ["0", "1"]
    with pytest.raises(DataError, match=r"^column a: twice in the table$"):
        as_frame(pd.DataFrame([[1, 2]], columns=["a", "a"]))


def test_rows_of_a_list_or_an_array():
    frame = as_frame([["red", 1.5, True], ["blue", None, None]])
    assert frame.columns.tolist() == ["x0", "x1", "x2"]
    assert cells_of(frame["x0"]).tolist() == ["red", "blue"]
    np.testing.assert_array_equal(cells_of(frame["x1"]), [1.5, NAN])
    assert cells_of(frame["x2"]).tolist() == ["True", None]
    named = as_frame(np.array([[1.5, 2.0]]), ["a", "b"])
    assert named.columns.tolist() == ["a", "b"]
    assert cells_of(named["b"]).tolist() == [2.0]
    assert as_frame(np.array([["1", "a"]]))["x1"].tolist() == ["a"]
    assert as_frame(np.empty((0, 2)), ["a", "b"]).shape == (0, 2)


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([1, 2], "Expected 2D array, got 1D array instead"),
        ([[1, 2], [3]], "Expected 2D array, got 1D array instead"),
        (np.zeros((2, 2, 2)), "Expected 2D array, got 3D array instead"),
        ([[1, 2, 3]], "rows of 3 cells: expected 2"),
        ([[1]], "rows of 1 cells: expected 2"),
    ],
)
def test_rows_of_another_shape_are_refused(rows, message):
    with pytest.raises(ValueError, match=message):
        as_frame(rows, ["a", "b"])


@pytest.mark.parametrize(
    ("table", "expected"),
    [
        ([[1, None], [2.5, 3]], True),
        ([[True, 2]], True),
        ([["1", 2]], False),
        ([[dt.date(2024, 1, 31), 2]], False),
        ([[1, 2], [3]], True),  # refused later, as any array of numbers would be
        (np.zeros((2, 2)), True),
        (np.array([["1"]]), False),
        (np.array([["2024-01-31"]], "datetime64[D]"), False),
        (np.array([[1, None]], object), True),
        (np.array([[1, "a"]], object), False),
        (pd.DataFrame({"a": [1], "b": [True], "c": [1.5]}), True),
        (pd.DataFrame({"a": pd.Series([1, None], dtype="Int64")}), True),
        (pd.DataFrame({"a": [Decimal(1), None]}), True),
        (pd.DataFrame({"a": [None, None]}), True),
        (pd.DataFrame({"a": ["1"]}), False),
        (pd.DataFrame({"a": pd.Categorical([1, 2])}), False),
        (pd.DataFrame({"a": pd.to_timedelta(["1 day"])}), False),
        (pd.DataFrame({"a": pd.to_datetime(["2024-01-31"])}), False),
        (pa.table({"a": [1, None]}), True),
        (pa.table({"a": ["1"]}), False),
    ],
)
def test_numbers_alone_are_told(table, expected):
    assert is_numbers(table) is expected


def test_a_sparse_matrix_is_numbers():
    sparse = pytest.importorskip("scipy.sparse")
    assert is_numbers(sparse.csr_array(np.eye(2)))


def test_what_only_looks_like_an_array_is_read_as_one():
    class Tensor:
        dtype = "float32, but not NumPy's"

        def __array__(self, dtype=None, copy=None):
            return np.eye(2, dtype=dtype)

    assert is_numbers(Tensor())


def test_bytes_are_text():
    assert cells_of(pd.Series([b"yes", b" no ", b"NA", None])).tolist() == ["yes", "no", None, None]


@pytest.mark.parametrize(
    ("table", "what"),
    [
        (np.zeros(3, dtype=[("a", float)]), "structured array"),
        ({"a": [1, 2]}, "dict"),
        (pa.RecordBatch.from_pydict({"a": [1]}), "RecordBatch"),
    ],
)
def test_what_is_no_frame_is_said(table, what):
    with pytest.raises(TypeError, match=f"^{what}: expected .*[fF]rame"):
        is_numbers(table)
