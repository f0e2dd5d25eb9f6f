from dataclasses import asdict

import numpy as np
import pandas as pd
import pytest
from real_data import real_data

from vae_jax.data.errors import DataError
from vae_jax.tables.files import read_frame
from vae_jax.tables.text_numbers import MISSING_WORDS, NumberFormat, is_missing, recognise, to_numbers, unit_of

POINT = NumberFormat(".", ",")
COMMA = NumberFormat(",", ".")


def cells(*values) -> np.ndarray:
    column = np.empty(len(values), object)
    column[:] = values
    return column


def test_missing_cells():
    assert is_missing(cells(None, np.nan, pd.NA, pd.NaT, *MISSING_WORDS)).all()
    assert not is_missing(cells("none", "0", "x", 0, "--", "inf")).any()
    assert is_missing(np.array([1.0, np.nan])).tolist() == [False, True]


@pytest.mark.parametrize(
    ("column", "decimal", "thousands"),
    [
        (["1", "22"], ".", ""),
        (["1.5", "1.234"], ".", ""),
        (["1,5"], ",", ""),
        (["0,125", "1,234"], ",", ""),
        (["-0,125", "1,234"], ",", ""),
        (["1,234", "1,2345"], ",", ""),
        (["1,234"], ".", ","),
        (["1,234", "12", "1,234,567"], ".", ","),
        (["1,234.5", "0.25"], ".", ","),
        (["$1,234", "($1,200)"], ".", ","),
        (["1.234.567"], ",", "."),
        (["1.234", "1,5"], ",", "."),
        (["1.234,5"], ",", "."),
        (["1 234", "5"], ".", " "),
        (["1\u202f234,5"], ",", " "),
        (["1\u00a0234.5"], ".", " "),
        (["1'234.5"], ".", "'"),
        (["1’234"], ".", "'"),
        # The first rows say nothing, the last does.
        (["1,234"] * 1_000 + ["1,5"], ",", ""),
        # No numbers.
        (["31.12.2020", "1.2.3.4", "1,2,3"], ".", ""),
        (["a, b", "1,5", "c"], ".", ""),
        ([None, "?"], ".", ""),
    ],
)
def test_format_is_recognised_from_all_cells(column, decimal, thousands):
    columns = {"text": cells("x", "y, z"), "column": cells(*column, None, "NA")}
    assert asdict(recognise(columns)) == {"decimal": decimal, "thousands": thousands}


def test_format_is_recognised_from_all_columns():
    assert recognise({"a": cells("1,234"), "b": cells("2,5")}) == NumberFormat(",", "")
    assert recognise({"a": cells("1,234"), "b": cells("2.5")}) == POINT


def test_what_is_said_is_taken():
    column = {"a": cells("1,234")}
    assert recognise(column, decimal=",") == NumberFormat(",", "")
    assert recognise(column, thousands=",") == POINT
    assert recognise(column, thousands="") == NumberFormat(",", "")
    assert recognise(column, ".", "\u202f") == NumberFormat(".", " ")
    for decimal, thousands in ((";", None), (None, "_"), (",", ",")):
        with pytest.raises(DataError, match=r"--decimal|--thousands"):
            recognise(column, decimal, thousands)


@pytest.mark.parametrize(
    ("cell", "value"),
    [
        ("12", 12),
        ("+12", 12),
        ("-.5", -0.5),
        ("5.", 5),
        ("−5", -5),
        ("1e3", 1000),
        ("1.5E-3", 0.0015),
        ("1,234,567.5", 1234567.5),
        ("1234567.5", 1234567.5),
        ("12 %", 12),
        ("-3.5%", -3.5),
        ("$5", 5),
        ("-$5", -5),
        ("$-5", -5),
        ("$ 1,234.50", 1234.5),
        ("US$5", 5),
        ("$5.00 USD", 5),
        ("5 EUR", 5),
        ("5€", 5),
        ("EUR5", 5),
        ("CHF 1,000", 1000),
        ("5 kr", 5),
        ("kr. 5", 5),
        ("£\u00a05", 5),
        ("(1,234)", -1234),
        ("(12.50)", -12.5),
        ("($12)", -12),
        ("$(12)", None),
        ("(12)", None),
        ("(-12.5)", None),
        ("(12.5", None),
        ("1,2,3", None),
        ("12,34", None),
        ("1234,567", None),
        ("0,123", None),
        ("1.2.3.4", None),
        ("1 234", None),
        ("--5", None),
        ("-$-5", None),
        ("inf", None),
        ("-Infinity", None),
        ("0x10", None),
        ("1_000", None),
        ("1e999", None),
        ("٣", None),
        ("$", None),
        ("%", None),
        ("5 apples", None),
        ("E5", None),
    ],
)
def test_cells_to_numbers(cell, value):
    numbers, bad = to_numbers(cells(cell, None, "NA", cell), POINT)
    expected = np.nan if value is None else value
    np.testing.assert_array_equal(numbers, [expected, np.nan, np.nan, expected])
    assert bad.tolist() == [value is None, False, False, value is None]


def test_other_formats():
    assert to_numbers(cells("1.234,5", "€ 7", "1.5"), COMMA)[0].tolist()[:2] == [1234.5, 7]
    assert to_numbers(cells("1.5"), COMMA)[1].all()  # no group of three
    assert to_numbers(cells("1 234,5", "1\u202f234"), NumberFormat(",", " "))[0].tolist() == [1234.5, 1234]
    assert to_numbers(cells("1'234.5", "1’234"), NumberFormat(".", "'"))[0].tolist() == [1234.5, 1234]


def test_typed_cells():
    numbers, bad = to_numbers(cells(1, 2.5, np.int64(3), True, "4", pd.Timestamp(2024, 1, 1), np.inf, 10**400), POINT)
    np.testing.assert_array_equal(numbers, [1, 2.5, 3, 1, 4, np.nan, np.nan, np.nan])
    assert bad.tolist() == [False] * 5 + [True] * 3
    numbers, bad = to_numbers(np.array([1.0, np.nan, np.inf]), POINT)
    np.testing.assert_array_equal(numbers, [1, np.nan, np.nan])
    assert bad.tolist() == [False, False, True]
    assert to_numbers(cells(), POINT)[0].shape == (0,)
    assert to_numbers(cells(None), POINT)[1].tolist() == [False]


@pytest.mark.parametrize(
    ("column", "unit"),
    [
        (["$5", "-$1,200.50", "($3)", "unknown", None], "$"),
        (["5 %", "7,5%"], "%"),
        (["5 EUR", "EUR 7"], "EUR"),
        (["$5", "5"], ""),
        (["$5", "€5"], ""),
        (["5", "x"], ""),
        (["x", None], ""),
    ],
)
def test_unit(column, unit):
    assert unit_of(cells(*column)) == unit


@pytest.mark.parametrize("write", ["{}", "$ {:,.2f}", "€{:,.2f}", "about {}, or so"])
def test_long_columns_are_read_to_the_last_bit(rng, write):
    values = rng.normal(size=100_000) * 1_000
    column = cells(*(write.format(value) for value in values.tolist()))
    number_format = recognise({"a": column})
    numbers, bad = to_numbers(column, number_format)
    assert bad.all() if "about" in write else not bad.any()
    if write == "{}":
        np.testing.assert_array_equal(numbers, values)  # to the last bit


@pytest.mark.parametrize("decimal", [".", ","])
def test_real_transactions(decimal):
    frame = read_frame(real_data("creditcard/creditcard.csv"))[0].head(5_000)
    columns = {name: frame[name].str.replace(".", decimal).to_numpy(object) for name in frame}
    number_format = recognise(columns)
    assert number_format == NumberFormat(decimal, "")
    for name in frame:
        numbers, bad = to_numbers(columns[name], number_format)
        assert not bad.any()
        np.testing.assert_array_equal(numbers, frame[name].astype(float))


def test_real_census():
    frame = read_frame(real_data("adult/adult.csv"))[0]
    assert recognise({name: frame[name].to_numpy(object) for name in frame}) == NumberFormat()
    assert is_missing(frame["workclass"].to_numpy(object)).sum() == (frame["workclass"] == "?").sum() > 0
