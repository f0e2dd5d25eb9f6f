import numpy as np
import pytest

from vae_jax.data.errors import CellError, DataError
from vae_jax.tables.kinds import (
    DENSE,
    FEW,
    FEWEST_DIFFERENT,
    LARGEST_COUNT,
    LONG_NUMBER,
    ROWS_PER_VALUE,
    are_names,
    date_words,
    infer,
    read_as,
    skewness,
)
from vae_jax.tables.text_numbers import NumberFormat

POINT = NumberFormat()
NAN = float("nan")


def texts(values) -> np.ndarray:
    values = list(values)
    column = np.empty(len(values), object)
    column[:] = values
    return column


def numbers(values) -> np.ndarray:
    return np.array(list(values), np.float64)


def dates(*values) -> np.ndarray:
    return np.array(values, "datetime64[us]")


@pytest.mark.parametrize(
    ("cells", "kind", "reason"),
    [
        (numbers([0.5, -1.5, NAN, 2]), "real", "numbers, -1.5 to 2"),
        (numbers([-5, 3, 4] * 5), "real", "numbers, -5 to 4"),
        (numbers([0.1] * 50 + [0.2, 100.5]), "positive", "skewed, 0.1 to 100.5"),
        (numbers([0, 1, 30]), "count", "whole numbers, 0 to 30"),
        (numbers([0, 1] * 5 + [NAN]), "yes-no", "2 values"),
        (numbers([0.25, 0.5]), "yes-no", "2 values"),
        (numbers([1, 2, 3] * 10), "category", "3 different whole numbers"),
        (numbers([-1, 0, 1] * 10), "category", "3 different whole numbers"),
        (numbers([7, 7, NAN]), "constant", "only 7"),
        (numbers([NAN, NAN]), "empty", "no cell is given"),
        (numbers([]), "empty", "no cell is given"),
        (texts([None, None]), "empty", "no cell is given"),
        (texts([]), "empty", "no cell is given"),
        (texts(["a", "b", "c", None] * 9), "category", "3 different words"),
        (texts(["a", "1", "2"] * 9), "category", "3 different words"),
        (texts(["True", "False", None]), "yes-no", "2 values"),
        (texts(["red", None, "red"]), "constant", "only 'red'"),
        (texts(["1.5", "-2", None, "3"]), "real", "numbers, -2 to 3"),
        (texts(["1", "2", "1.0"] * 5), "yes-no", "2 values"),
        (texts(["1", "1.0"]), "constant", "only 1"),
        (texts(["2024-01-31", None, "2024-02-01"]), "date", "dates as %Y-%m-%d"),
        (texts(["31.01.2024 10:30"]), "date", "dates as %d.%m.%Y %H:%M:%S"),
        (dates("2024-01-31", "NaT"), "date", "dates"),
        (dates("NaT", "NaT"), "empty", "no cell is given"),
        (texts(["007", "012", "100"] * 9), "category", "numbers with zeros in front: 3 different words"),
        (texts(["00", "01"] * 9), "yes-no", "numbers with zeros in front: 2 values"),
        (texts(["4000000001", "4000000002"] * 9), "yes-no", "numbers of 10 digits: 2 values"),
        (texts(str(10**15 + i) for i in range(30)), "id", "numbers of 16 digits: all different"),
        (texts(f"C{i}" for i in range(30)), "id", "all different"),
        (texts(f"C{i // 3 * 2}" for i in range(30)), "category", "10 different words"),
        (texts([*(f"C{i}" for i in range(30)), "C0"]), "id", "most of them different"),
    ],
)
def test_kind_and_reason(cells, kind, reason):
    assert infer("column", cells, POINT)[:2] == (kind, reason)


def test_amounts_with_a_unit_are_no_ids():
    thousands = NumberFormat(".", ",")
    large = [f"{10**10 + 7 * i:,}" for i in range(30)]
    assert infer("cap", texts(f"${amount}" for amount in large), thousands).kind == "real"
    assert infer("cap", texts(large), thousands).kind == "id"
    assert infer("no", texts(f"{i} €" for i in range(30)), POINT).kind == "count"


def test_fewer_rows_than_that_may_all_differ():
    words = [f"w{i}" for i in range(FEWEST_DIFFERENT)]
    assert infer("name", texts(words), POINT).kind == "id"
    assert infer("name", texts(words[1:]), POINT).kind == "category"
    assert infer("n", numbers(range(FEWEST_DIFFERENT)), POINT).kind == "id"
    assert infer("n", numbers(range(FEWEST_DIFFERENT - 1)), POINT).kind == "count"


def test_half_the_words_may_differ():
    words = [f"w{i}" for i in range(20)]
    assert infer("name", texts(words * 2), POINT).kind == "category"
    assert infer("name", texts([*words * 2][:-1]), POINT).kind == "id"


def test_few_whole_numbers_of_many_rows_are_levels():
    few = np.arange(FEW)
    assert infer("n", numbers(np.tile(few, ROWS_PER_VALUE)), POINT).kind == "category"
    assert infer("n", numbers(np.tile(few, ROWS_PER_VALUE)[1:]), POINT).kind == "count"
    assert infer("n", numbers(np.tile(np.arange(FEW + 1), ROWS_PER_VALUE)), POINT).kind == "count"
    assert infer("n", numbers(np.tile(few + 0.5, ROWS_PER_VALUE)), POINT).kind == "real"


def test_large_whole_numbers_are_no_counts():
    assert infer("n", numbers([0, 5, LARGEST_COUNT]), POINT).kind == "count"
    assert infer("n", numbers([0, 5, LARGEST_COUNT + 1]), POINT).kind == "real"
    assert infer("n", numbers([-1, 5, 9]), POINT).kind == "real"


def test_only_numbers_that_are_not_negative_are_seen_by_their_logarithm(rng):
    skewed = np.exp(2 * rng.normal(size=500))
    assert skewness(skewed) > 2
    assert infer("n", skewed, POINT).kind == "positive"
    assert infer("n", np.append(skewed, 0), POINT).kind == "positive"
    assert infer("n", np.append(skewed, -0.1), POINT).kind == "real"


def test_skewness_by_hand():
    # Mean 1, deviations -1, -1, 2: third moment 2, variance 2.
    np.testing.assert_allclose(skewness(np.array([0, NAN, 0, 3])), 2 / 2**1.5)
    assert skewness(np.full(5, 0.1)) == 0
    np.testing.assert_allclose(skewness(np.array([0, 0, 3e300])), 2 / 2**1.5)
    np.testing.assert_allclose(skewness(np.array([0, 0, 3e-300])), 2 / 2**1.5)


def test_numbers_that_count_the_rows_are_ids(rng):
    counted = rng.permutation(200).astype(float)
    assert infer("n", counted, POINT)[:2] == ("id", "counts the rows")
    assert infer("n", counted[:150], POINT)[:2] == ("id", "counts the rows")  # as training rows among all
    spread = np.arange(100) / DENSE
    assert infer("n", spread, POINT).kind == "id"
    assert infer("n", np.append(spread[1:], spread[-1] + 5), POINT).kind == "count"
    assert infer("n", np.append(counted, 5), POINT).kind == "count"
    assert infer("n", counted + 0.5, POINT).kind == "real"


@pytest.mark.parametrize(
    "name", ["id", "ID", "customer_id", "customerId", "Row No", "PolicyNumber", "order-key", "uuid"]
)
def test_different_whole_numbers_are_ids_by_their_name(name):
    cells = numbers(range(0, 3000, 100))
    assert infer(name, cells, POINT)[:2] == ("id", "all different")
    assert infer(name, np.append(cells, 0), POINT).kind == "count"


@pytest.mark.parametrize("name", ["paid", "casino", "monkey", "rapid", "piano", "numbers", "idle", "bid"])
def test_a_name_that_only_ends_so_makes_no_id(name):
    assert infer(name, numbers(range(0, 3000, 100)), POINT).kind == "count"


def test_long_whole_numbers_are_ids_if_nearly_all_differ(rng):
    start = 10.0 ** (LONG_NUMBER - 1)
    cells = start + 1000.0 * rng.permutation(40)
    assert infer("n", cells, POINT)[:2] == ("id", "numbers of 10 digits, most of them different")
    assert infer("n", cells - 1e6, POINT).kind == "real"
    assert infer("n", np.tile(cells[:20], 2), POINT).kind == "real"
    assert infer("n", cells[:19], POINT).kind == "real"
    assert infer("n", cells + 0.5, POINT).kind == "real"


def test_what_numbers_are_names():
    assert are_names(texts(["007", None, "12"]))
    assert are_names(texts(["9" * LONG_NUMBER]))
    assert not are_names(texts(["9" * (LONG_NUMBER - 1), "0"]))
    assert not are_names(texts(["007", "A"]))
    assert not are_names(texts(["0.5", "9" * LONG_NUMBER]))
    assert not are_names(texts(["²²²²²²²²²²²"]))
    assert not are_names(texts([None]))


def test_a_word_among_many_numbers_is_a_mistake():
    column = [f"{i / 7:.3f}" for i in range(100)]
    column[40] = "old"
    with pytest.raises(CellError, match=r"^row 40, column age: 'old' is not a number, as the others are$"):
        infer("age", texts(column), POINT)
    column[50:55] = ["older"] * 5  # no longer few
    assert infer("age", texts(column), POINT).kind == "id"
    assert infer("age", texts(["1", "2", "3"] * 30 + ["old"]), POINT).kind == "category"


@pytest.mark.parametrize(
    ("column", "unit"),
    [(["$5.50", "$1,200"], "$"), (["5 %", "7.5 %", None], "%"), (["5", "$7"], ""), (["5.5", "7"], "")],
)
def test_units_are_found(column, unit):
    number_format = NumberFormat(".", ",")
    assert infer("price", texts(column * 3), number_format).unit == unit
    assert read_as("real", "price", texts(column * 3), number_format).unit == unit


def test_values_are_as_the_kind_needs_them():
    found = infer("n", texts(["1,5", None, "-2", "7"]), NumberFormat(","))
    np.testing.assert_array_equal(found.values, [1.5, NAN, -2, 7])
    assert found.numeric
    found = infer("when", texts(["31.01.2024", None]), POINT)
    np.testing.assert_array_equal(found.values, dates("2024-01-31", "NaT"))
    assert found.date_format == "%d.%m.%Y"
    found = infer("zip", texts(["007", "012", "012"]), POINT)
    assert found.values.tolist() == ["007", "012", "012"]
    assert not found.numeric


@pytest.mark.parametrize("kind", ["real", "positive", "count"])
@pytest.mark.parametrize("cells", [numbers([0, 1, NAN, 2]), texts(["0", "1.0", None, "2"])], ids=["numbers", "text"])
def test_numbers_are_read_as_said(kind, cells):
    found = read_as(kind, "n", cells, POINT)
    assert found[:2] == (kind, "said so")
    np.testing.assert_array_equal(found.values, [0, 1, NAN, 2])


@pytest.mark.parametrize("kind", ["category", "yes-no"])
def test_levels_are_read_as_numbers_if_all_are(kind):
    for cells in (numbers([1, NAN, 2]), texts(["1", None, "2.0"])):
        found = read_as(kind, "n", cells, POINT)
        assert found[:2] == (kind, "said so")
        assert found.numeric is True
        np.testing.assert_array_equal(found.values, [1, NAN, 2])
    for words in (["1", None, "x"], ["007", None, "012"]):
        found = read_as(kind, "n", texts(words), POINT)
        assert found.numeric is False
        assert found.values.tolist() == words


def test_dates_are_read_as_said():
    for cells in (texts(["31.01.2024", None]), dates("2024-01-31", "NaT")):
        found = read_as("date", "when", cells, POINT)
        assert found[:2] == ("date", "said so")
        np.testing.assert_array_equal(found.values, dates("2024-01-31", "NaT"))


def test_dates_said_to_be_a_category_are_words():
    found = read_as("category", "when", dates("2024-01-31", "NaT", "2024-01-31T10:30"), POINT)
    assert found.values.tolist() == ["2024-01-31", None, "2024-01-31 10:30:00"]
    assert found.numeric is False
    assert date_words(dates()).tolist() == []


@pytest.mark.parametrize("kind", ["real", "positive", "count", "category", "yes-no", "date", "constant"])
@pytest.mark.parametrize("cells", [numbers([NAN]), texts([None]), dates("NaT")], ids=["numbers", "text", "dates"])
def test_a_column_without_cells_is_empty_whatever_is_said(kind, cells):
    assert read_as(kind, "n", cells, POINT)[:2] == ("empty", "no cell is given")


def test_a_yes_or_no_of_one_value_is_constant():
    assert read_as("yes-no", "n", texts(["yes", None, "yes"]), POINT).kind == "constant"


@pytest.mark.parametrize(
    ("kind", "cells", "message"),
    [
        ("real", texts([None, "1", "old"]), "row 2, column n: 'old' is not a number"),
        ("count", texts(["1", "x" * 50]), f"row 1, column n: '{'x' * 40}' is not a number"),
        ("real", dates("NaT", "2024-01-31"), "row 1, column n: '2024-01-31T00:00:00.000000' is not a number"),
        ("count", numbers([1, NAN, -2]), "row 2, column n: -2 is below 0, so it is no count number"),
        ("positive", texts(["1", "-2"]), "row 1, column n: -2 is below 0, so it is no positive number"),
        ("date", texts(["2024-01-31", "soon"]), "column n: not all of its cells are dates of one format"),
        ("date", numbers([1, 2]), "column n: not all of its cells are dates of one format"),
        ("yes-no", texts(["yes", "no", "maybe"]), "column n: 3 values, so it is no yes or no"),
        ("yes-no", numbers([0, 1, 2, NAN]), "column n: 3 values, so it is no yes or no"),
        ("constant", numbers([0, 1, NAN]), "column n: 2 values, so it is not constant"),
    ],
)
def test_cells_that_do_not_fit_are_named(kind, cells, message):
    with pytest.raises(DataError) as error:
        read_as(kind, "n", cells, POINT)
    assert str(error.value) == message
