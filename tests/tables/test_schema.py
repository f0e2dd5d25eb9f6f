import dataclasses
import io
import json

import numpy as np
import pandas as pd
import pytest
from real_data import real_data

from vae_jax.data.errors import CellError, DataError
from vae_jax.networks.columns import UNKNOWN
from vae_jax.tables.files import read_frame
from vae_jax.tables.parts import FEWEST_RARE, MOST_LEVELS, MOST_RARE
from vae_jax.tables.scaling import LARGEST
from vae_jax.tables.schema import Schema
from vae_jax.tables.text_numbers import NumberFormat

ROWS = 400


@pytest.fixture
def table(rng) -> pd.DataFrame:
    """A column of each kind, with gaps."""
    frame = pd.DataFrame(
        {
            "key": [f"K{i}" for i in range(ROWS)],
            "height": rng.normal(170, 10, ROWS).round(2),
            "paid": (np.exp(2 * rng.normal(size=ROWS)) + 0.01).round(2),
            "visits": rng.poisson(30, ROWS),
            "calls": np.floor(np.exp(1.5 * rng.normal(size=ROWS)) * 40),
            "member": rng.choice([True, False], ROWS),
            "grade": rng.choice([1, 2, 3], ROWS),
            "city": rng.choice(["Rome", "Oslo", "Lima", "Bern", "Riga"], ROWS),
            "when": pd.Timestamp("2024-01-01") + pd.to_timedelta(rng.integers(0, 300 * 24, ROWS), "h"),
            "version": 7,
        }
    )
    frame.loc[5:9, "height"] = np.nan
    frame.loc[[6, 9], "city"] = None
    frame.loc[[7], "when"] = pd.NaT
    return frame


def as_text(frame: pd.DataFrame) -> pd.DataFrame:
    """The same rows as they are read from a CSV file."""
    text = frame.to_csv(index=False)
    return pd.read_csv(io.StringIO(text), dtype=object, keep_default_na=False).replace({"": None})


def part(schema: Schema, rows: np.ndarray, name: str, what: str = "") -> np.ndarray:
    """The column of `rows` that holds a part."""
    places = [i for i, (column, of) in enumerate(schema.order) if (column.name, of.what) == (name, what)]
    assert len(places) == 1
    return rows[:, places[0]]


def test_kinds_and_what_is_made_of_them(table):
    schema = Schema.fit(table)
    assert [(name, kind, made) for name, kind, _, made in schema.describe()] == [
        ("key", "id", "left out"),
        ("height", "real", "Gaussian; 1.2 % missing"),
        ("paid", "positive", "Gaussian of the logarithm"),
        ("visits", "count", "logistic in bins"),
        ("calls", "count", "logistic in bins of the logarithm"),
        ("member", "yes-no", "True or False, Bernoulli"),
        ("grade", "category", "3 levels and the rare, categorical"),
        ("city", "category", "5 levels and the rare, categorical; 0.5 % missing"),
        ("when", "date", "hour, weekday, month, elapsed; 0.25 % missing"),
        ("version", "constant", "1 levels and the rare, categorical"),
    ]
    assert schema.feature_names == tuple(table.columns)
    assert schema.modelled == tuple(table.columns[1:])
    layout = schema.layout
    assert (layout.numbers, layout.counts, layout.answers) == (3, 2, 1)
    assert layout.levels == (4, 4, 8, 8, 16, 32)


def test_notices_name_what_is_left_out_or_constant(table):
    assert Schema.fit(table, columns={"visits": "dropped", "calls": "id"}).notices() == [
        "Left out: key (id: all different), calls (id: said so).",
        "Constant in the training rows: version. Any other value looks like an anomaly.",
    ]
    assert Schema.fit(table[["height"]]).notices() == []


def test_numbers_are_standardised_by_the_training_rows(table):
    schema = Schema.fit(table)
    rows = schema.transform(table)
    assert rows.dtype == np.float32
    assert rows.shape == (ROWS, schema.layout.parts)
    expected = {
        "height": table["height"],
        "paid": np.log(table["paid"]),
        "visits": table["visits"],
        "calls": np.log1p(table["calls"]),
        ("when", "elapsed"): (table["when"] - pd.Timestamp("1970-01-01")) / pd.Timedelta("1D"),
    }
    for name, values in expected.items():
        found = part(schema, rows, *((name,) if isinstance(name, str) else name))
        np.testing.assert_allclose(found, (values - values.mean()) / values.std(ddof=0), atol=1e-5)
    constants = schema.constants(np.zeros(5))
    np.testing.assert_allclose(
        constants.count_mean, [table["visits"].mean(), np.log1p(table["calls"]).mean()], rtol=1e-6
    )
    np.testing.assert_allclose(constants.count_log, [0, 1])
    visits = part(schema, rows, "visits") * float(constants.count_sd[0]) + float(constants.count_mean[0])
    np.testing.assert_allclose(visits, table["visits"], atol=1e-4)


def test_levels_and_answers_have_numbers(table):
    schema = Schema.fit(table)
    rows = schema.transform(table)
    assert part(schema, rows, "member").tolist() == table["member"].astype(float).tolist()
    for name, expected in (("city", "Oslo"), ("grade", 2), ("version", 7)):
        (of,) = schema[name].parts
        codes = part(schema, rows, name)
        assert (codes == of.levels.index(str(expected))).tolist() == (table[name] == expected).tolist()
        assert codes[~np.isnan(codes)].max() < len(of.levels)
        assert list(of.shares[:-1]) == sorted(of.shares[:-1], reverse=True)
        np.testing.assert_allclose(sum(of.shares), 1)
        given = table[name].notna().sum()
        count = (table[name] == expected).sum()
        np.testing.assert_allclose(
            of.shares[of.levels.index(str(expected))], (count + 1) / (given + len(of.levels) + 1)
        )
    assert len(schema.constants(np.zeros(5)).frequencies) == schema.layout.logits


def test_gaps_are_nan_and_nothing_else(table):
    schema = Schema.fit(table)
    gaps = np.isnan(schema.transform(table))
    for place, (column, _) in enumerate(schema.order):
        assert gaps[:, place].tolist() == table[column.name].isna().tolist()


def test_what_was_never_seen_has_a_place(table):
    schema = Schema.fit(table)
    other = table.head(3).assign(city=["Bonn", "rome", "Rome"], grade=[4, 1, 2], member=["perhaps", "True", "False"])
    other["when"] = pd.Timestamp("2025-01-01")
    rows = schema.transform(other)
    assert part(schema, rows, "city")[:2].tolist() == [5, 5]
    assert part(schema, rows, "city")[2] < 5
    assert part(schema, rows, "grade")[0] == 3
    assert part(schema, rows, "member").tolist() == [UNKNOWN, 1, 0]
    assert part(schema, schema.transform(other.assign(grade="one")), "grade").tolist() == [3, 3, 3]
    assert part(schema, schema.transform(other.assign(version=8)), "version").tolist() == [1, 1, 1]


def test_columns_may_have_any_order_and_others_beside_them(table):
    schema = Schema.fit(table)
    expected = schema.transform(table)
    np.testing.assert_array_equal(schema.transform(table[table.columns[::-1]].assign(more="x")), expected)
    np.testing.assert_array_equal(schema.transform(table.drop(columns="key")), expected)
    np.testing.assert_array_equal(schema.transform(table.to_numpy(object)), expected)
    np.testing.assert_array_equal(schema.transform(table.iloc[[3, 1]]), expected[[3, 1]])
    assert schema.transform(table.head(0)).shape == (0, schema.layout.parts)


def test_a_row_is_the_same_alone(table):
    schema = Schema.fit(table)
    expected = schema.transform(table)
    for row in range(0, 20):
        np.testing.assert_array_equal(schema.transform(table.iloc[[row]])[0], expected[row])
        np.testing.assert_array_equal(schema.transform(as_text(table.iloc[[row]]))[0], expected[row])


def test_text_and_typed_cells_are_the_same_rows(table):
    text = as_text(table)
    typed_schema, text_schema = Schema.fit(table), Schema.fit(text)
    assert [(c.name, c.kind, c.parts) for c in typed_schema.columns] == [
        (c.name, c.kind, c.parts) for c in text_schema.columns
    ]
    expected = typed_schema.transform(table)
    for schema in (typed_schema, text_schema):
        for rows in (table, text, table.convert_dtypes(), table.astype({"city": "category", "grade": "category"})):
            np.testing.assert_array_equal(schema.transform(rows), expected)


@pytest.mark.parametrize("library", ["pyarrow", "polars"])
def test_frames_of_other_libraries_are_the_same_rows(table, library):
    schema = Schema.fit(table)
    other = pytest.importorskip(library)
    rows = other.Table.from_pandas(table) if library == "pyarrow" else other.from_pandas(table)
    np.testing.assert_array_equal(schema.transform(rows), schema.transform(table))
    assert Schema.fit(rows) == schema


def test_a_frame_without_names_is_read_back():
    frame = pd.DataFrame([[1.5, "a"], [2.5, "b"]] * 10)
    schema = Schema.fit(frame, columns={0: "real"})
    assert schema.feature_names == ("0", "1")
    assert schema.transform(frame).shape == (20, 2)


@pytest.mark.parametrize("missing", ["ignore", "informative"])
def test_json_gives_the_schema_back(table, missing):
    schema = Schema.fit(table, missing=missing, limit=8.0)
    record = schema.to_json()
    assert json.loads(json.dumps(record, allow_nan=False)) == record
    again = Schema.from_json(json.loads(json.dumps(record)))
    assert again == schema
    assert again.layout == schema.layout
    np.testing.assert_array_equal(again.transform(table), schema.transform(table))
    np.testing.assert_array_equal(again.constants(np.zeros(5)).frequencies, schema.constants(np.zeros(5)).frequencies)


def test_parts_add_up_by_column(table):
    schema = Schema.fit(table, missing="informative")
    parts = np.random.default_rng(1).normal(size=(4, 3, schema.layout.parts))
    found = schema.by_column(parts)
    assert found.shape == (4, 3, len(schema.modelled))
    for i, name in enumerate(schema.modelled):
        of = [p for p, (column, _) in enumerate(schema.order) if column.name == name]
        np.testing.assert_allclose(found[..., i], parts[..., of].sum(-1))
    assert len([column for column, _ in schema.order if column.name == "when"]) == 5


def test_informative_gaps_are_answers(table):
    schema = Schema.fit(table, missing="informative")
    rows = schema.transform(table)
    with_gaps = [name for name in table.columns if table[name].isna().any()]
    assert schema.layout.answers == 1 + len(with_gaps)
    for name in with_gaps:
        assert part(schema, rows, name, "gap").tolist() == table[name].isna().astype(float).tolist()
        share = next(of for of in schema[name].parts if of.what == "gap").shares[1]
        np.testing.assert_allclose(share, (table[name].isna().sum() + 1) / (ROWS + 2))
    assert schema.describe()[1][3] == "Gaussian; 1.2 % missing, which is modelled"
    assert not any(of.what == "gap" for column in Schema.fit(table).columns for of in column.parts)


def test_gaps_where_training_had_none_are_counted(table):
    for missing in ("ignore", "informative"):
        schema = Schema.fit(table, missing=missing)
        other = table.copy()
        other.loc[:2, "paid"] = np.nan
        other.loc[:0, "height"] = np.nan
        other["version"] = None
        assert schema.new_gaps(schema.transform(table)) == {}
        assert schema.new_gaps(schema.transform(other)) == {"paid": 3, "version": ROWS}


def test_a_missing_column_is_named(table):
    schema = Schema.fit(table)
    with pytest.raises(DataError, match=r"^column city is missing$"):
        schema.transform(table.drop(columns="city"))
    with pytest.raises(ValueError, match="rows of 9 cells: expected 10"):
        schema.transform(table.to_numpy(object)[:, :9])


@pytest.mark.parametrize(
    ("column", "cell", "message"),
    [
        ("height", "tall", "'tall' is not a number, as in the training rows"),
        ("visits", True, "'True' is not a number, as in the training rows"),
        ("paid", pd.Timestamp("2024-01-31"), "'2024-01-31T00:00:00.000000' is not a number, as in the training rows"),
        ("grade", pd.Timestamp("2024-01-31"), "'2024-01-31T00:00:00.000000' is not a number, as in the training rows"),
        ("city", pd.Timestamp("2024-01-31"), "'2024-01-31T00:00:00.000000' is not a word, as in the training rows"),
        ("when", 17, "'17.0' is not a date, as in the training rows"),
        ("when", "soon", "'soon' is not a date, as in the training rows"),
        ("height", np.inf, "'inf' is not a number, as in the training rows"),
    ],
)
def test_a_cell_of_another_kind_is_named(table, column, cell, message):
    schema = Schema.fit(table)
    other = table.head(3).set_axis([10, 20, 30])
    other[column] = pd.Series([None, cell, cell], index=other.index, dtype=object)
    with pytest.raises(CellError) as error:
        schema.transform(other)
    assert str(error.value) == f"row 20, column {column}: {message}"


def test_wrong_cells_may_be_gaps(table):
    schema = Schema.fit(table)
    other = table.head(4).astype({"height": object, "when": object})
    other.loc[1, "height"] = "tall"
    other.loc[2, "visits"] = None
    wrong = {}
    rows = schema.transform(other, wrong)
    assert {row: str(error) for row, error in wrong.items()} == {
        1: "row 1, column height: 'tall' is not a number, as in the training rows"
    }
    assert np.isnan(part(schema, rows, "height")).tolist() == [False, True, False, False]


@pytest.mark.parametrize(("empty"), [np.nan, None, pd.NaT, pd.NA, "", "?"])
def test_an_empty_column_is_gaps(table, empty):
    schema = Schema.fit(table)
    rows = schema.transform(pd.DataFrame({name: [empty] * 2 for name in table.columns}))
    assert np.isnan(rows).all()


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"town": "category"}, "column town: not in the table; there are key, height, paid"),
        ({"city": "real"}, "row 0, column city: .* is not a number"),
        ({"city": "yes-no"}, "column city: 5 values, so it is no yes or no"),
        ({"height": "date"}, "column height: not all of its cells are dates of one format"),
    ],
)
def test_a_kind_that_does_not_fit_is_refused(table, columns, message):
    with pytest.raises(DataError, match=message):
        Schema.fit(table, columns)


def test_a_table_of_which_nothing_is_left_is_refused(table):
    why = "no column is left to be a feature; left out: key "
    with pytest.raises(DataError, match=rf"^{why}\(id: all different\)$"):
        Schema.fit(table[["key"]])
    with pytest.raises(DataError, match=rf"^{why}\(empty: no cell is given\), "):
        Schema.fit(table.head(0))


def test_said_kinds_are_kept(table):
    said = {"grade": "count", "visits": "category", "paid": "real", "calls": "positive", "when": "category"}
    schema = Schema.fit(table, said)
    assert {name: schema[name].kind for name in said} == said
    assert {name: schema[name].reason for name in said} == dict.fromkeys(said, "said so")
    rows = schema.transform(table)
    assert np.isnan(rows).sum() == table.isna().sum().sum()
    codes = part(schema, rows, "when")
    assert len(np.unique(codes[~np.isnan(codes)])) == len(schema["when"].parts[0].levels) + 1


@pytest.mark.parametrize("kind", ["positive", "count", "real"])
@pytest.mark.parametrize("values", [[0.0] * 30, [0.0, 5.0] * 15, [1e300, 3e300] * 15, [1e-300, 3e-300] * 15])
def test_numbers_of_any_size_are_standardised(kind, values):
    schema = Schema.fit(pd.DataFrame({"n": values}), {"n": kind})
    assert all(np.isfinite([of.mean, of.sd, of.shift]).all() for of in schema["n"].parts)
    rows = schema.transform(pd.DataFrame({"n": values}))
    assert np.isfinite(rows).all()
    if len(set(values)) == 2 and not (kind == "count" and max(values) < 1):
        np.testing.assert_allclose(np.abs(rows), 1, rtol=1e-5)
    other = schema.transform(pd.DataFrame({"n": [-1.7e308, 1.7e308, 0.0]}))
    assert (np.abs(other) <= LARGEST).all()


def test_standardised_numbers_are_within_the_limit(table):
    schema = Schema.fit(table, limit=4.0)
    other = table.head(2).assign(height=[1e9, -1e9], paid=[1e300, 0.0], visits=[10**9, 0])
    rows = schema.transform(other)
    assert part(schema, rows, "height").tolist() == [4, -4]
    assert part(schema, rows, "paid").tolist() == [4, -4]
    assert np.abs(rows[:, : schema.layout.measured]).max() == 4
    assert Schema.fit(table, limit=np.inf).limit == LARGEST


@pytest.mark.parametrize("cells", [["1", "2"], [1, 2], [1.0, 2.0], ["1.0", "2.0"], ["$1", "$2.00"], [" 1 ", "2"]])
@pytest.mark.parametrize("kind", ["category", "yes-no"])
def test_one_number_is_one_level_however_written(cells, kind):
    schema = Schema.fit(pd.DataFrame({"n": cells * 20}), {"n": kind})
    assert set(schema["n"].parts[0].levels) == {"1", "2"}
    expected = schema.transform(pd.DataFrame({"n": cells}))
    for same in (["1", "2"], [1, 2], [1.0, 2.0], ["1.0", "2.0"], ["1.00", "€2"]):
        np.testing.assert_array_equal(schema.transform(pd.DataFrame({"n": same})), expected)


@pytest.mark.parametrize("values", [[1 / 3, 2 / 3], [0.1 + 0.2, 0.7], [4000123412341234.0, 4000123412341235.0]])
@pytest.mark.parametrize("kind", ["yes-no", "category"])
def test_levels_that_are_long_numbers_are_told_apart(values, kind):
    schema = Schema.fit(pd.DataFrame({"n": values * 20}), {"n": kind})
    rows = schema.transform(pd.DataFrame({"n": values}))
    assert sorted(rows[:, 0].tolist()) == [0, 1]
    np.testing.assert_array_equal(schema.transform(pd.DataFrame({"n": [repr(value) for value in values]})), rows)


def test_long_names_are_the_same_level_whatever_other_rows_have():
    cards = [2**53 + 1, 4000123412341234]
    table = pd.DataFrame({"card": cards * 20})
    schema = Schema.fit(table, {"card": "category"})
    rows = schema.transform(table)
    assert sorted(set(rows[:, 0])) == [0, 1]
    np.testing.assert_array_equal(schema.transform(table.iloc[[1]]), rows[[1]])


def test_dates_that_are_a_category_are_read_back():
    table = pd.DataFrame({"when": pd.to_datetime(["2024-01-31 00:00", "2024-02-29 10:30", None]).repeat(10)})
    schema = Schema.fit(table, {"when": "category"})
    rows = schema.transform(table)
    assert np.unique(rows[:20]).tolist() == [0, 1]
    assert np.isnan(rows[20:]).all()
    np.testing.assert_array_equal(
        schema.transform(pd.DataFrame({"when": ["2024-01-31", "2024-02-29 10:30:00"]})), rows[[0, 10]]
    )


def test_rare_levels_are_pooled():
    def levels(words):
        (of,) = Schema.fit(pd.DataFrame({"w": words}), {"w": "category"})["w"].parts
        return of

    few = levels(["a"] * 50 + ["b"] * FEWEST_RARE + ["c"] * (FEWEST_RARE - 1))
    assert few.levels == ("a", "b")
    np.testing.assert_allclose(few.shares, np.array([51, 3, 2]) / (53 + 3))
    many = levels(["a"] * 20_000 + ["b"] * MOST_RARE + ["c"] * (MOST_RARE - 1))
    assert many.levels == ("a", "b")
    share = levels(["a"] * 4990 + ["b"] * 5 + ["c"] * 5 + ["d"] * 4)
    assert share.levels == ("a",)  # a thousandth of 5,004 rows is more than 5
    crowd = levels([f"w{i:03d}" for i in range(300)] * 12)
    assert crowd.levels == tuple(f"w{i:03d}" for i in range(MOST_LEVELS))
    np.testing.assert_allclose(crowd.shares[-1], (45 * 12 + 1) / (3600 + MOST_LEVELS + 1))


def test_the_yes_is_what_sounds_like_one():
    for words, expected in (
        (("yes", "no"), ("no", "yes")),
        (("N", "Y"), ("N", "Y")),
        (("True", "False"), ("False", "True")),
        (("0", "1"), ("0", "1")),
        (("1", "2"), ("2", "1")),
        (("male", "female"), ("female", "male")),
    ):
        table = pd.DataFrame({"w": [*words] * 9 + [words[0]], "city": ["Rome", "Oslo", "Lima"] * 6 + ["Rome"]})
        (of,) = Schema.fit(table)["w"].parts
        assert of.levels == expected
        np.testing.assert_allclose(of.shares[expected.index(words[0])], (10 + 1) / (19 + 2))
        np.testing.assert_allclose(of.unknown, 1 / 22)


def test_a_dates_parts(table):
    schema = Schema.fit(table)
    rows = schema.transform(table)
    for what, expected in (
        ("hour", table["when"].dt.hour),
        ("weekday", table["when"].dt.day_of_week + 1),
        ("month", table["when"].dt.month),
    ):
        (of,) = (of for of in schema["when"].parts if of.what == what)
        codes = part(schema, rows, "when", what)
        given = ~np.isnan(codes)
        assert given.tolist() == table["when"].notna().tolist()
        found = np.array([*of.levels, "-1"]).astype(float)[codes[given].astype(int)]
        assert (found == expected[given]).mean() > 0.99  # others are rare


def test_dates_beyond_training_are_as_late_as_its_last(table):
    schema = Schema.fit(table)
    ends = schema.transform(table.loc[[table["when"].idxmin(), table["when"].idxmax()]])
    years = pd.DateOffset(years=9)
    other = table.head(2).assign(when=[table["when"].min() - years, table["when"].max() + years])
    np.testing.assert_array_equal(
        part(schema, schema.transform(other), "when", "elapsed"), part(schema, ends, "when", "elapsed")
    )


def test_dates_that_are_mistakes_are_far_away(table):
    schema = Schema.fit(table)
    other = table.head(2).assign(when=[pd.Timestamp("1900-01-01"), pd.Timestamp("2999-12-31")])
    found = part(schema, schema.transform(other), "when", "elapsed")
    early, late = found  # standard deviations of the training rows
    assert early < -100
    assert late > 100


@pytest.mark.parametrize(
    ("dates", "parts"),
    [
        (pd.date_range("2024-01-01", periods=60), ["weekday", "elapsed"]),  # 59 days
        (pd.date_range("2024-01-01", periods=61), ["weekday", "month", "elapsed"]),
        (pd.date_range("2024-01-01", periods=30, freq="h"), ["hour", "weekday", "elapsed"]),
        (pd.date_range("2024-01-01", periods=10, freq="7D"), ["month", "elapsed"]),
        (pd.DatetimeIndex(["2024-01-01"] * 5), ["elapsed"]),
        (pd.date_range("1960-01-01", periods=30, freq="h"), ["hour", "weekday", "elapsed"]),
    ],
)
def test_only_parts_that_vary_are_made(dates, parts):
    table = pd.DataFrame({"when": dates.append(pd.DatetimeIndex([pd.NaT]))})
    schema = Schema.fit(table)
    assert [of.what for of in schema["when"].parts] == parts
    rows = schema.transform(table)
    assert np.isnan(rows).any(1).tolist() == [False] * len(dates) + [True]
    assert np.isfinite(rows[:-1]).all()


def test_remarks_say_what_is_known_of_a_cell(table):
    schema = Schema.fit(table, columns={"paid": "positive"})
    share = {name: (table[name] == value).mean() for name, value in (("city", "Oslo"), ("grade", 2))}
    low, high = np.quantile(table["visits"], [0.01, 0.99], method="nearest")
    assert schema.remark("visits", 1000) == f"98 % of training rows have {low:g} to {high:g}"
    assert schema.remark("visits", None) == schema.remark("city", "?") == schema.remark("when", pd.NaT) == ""
    for name, value in (("city", "Oslo"), ("grade", 2)):
        percent = float(schema.remark(name, value).removesuffix(" % of training rows"))
        assert abs(percent - 100 * share[name]) < 1.5  # the rule of succession, and rounding
    assert schema.remark("grade", "2.0") == schema.remark("grade", 2)
    assert schema.remark("city", "Bonn") == schema.remark("member", "perhaps") == "not seen in training"
    assert schema.remark("grade", np.inf) == schema.remark("grade", "A")
    remark = schema.remark("when", pd.Timestamp("2030-01-01 05:00"))
    assert remark.startswith("hour 5: ")
    assert ", weekday 2: " in remark
    assert ", month 1: " in remark
    first, last = (str(end)[:10] for end in (table["when"].min(), table["when"].max()))
    assert remark.endswith(f"training rows from {first} to {last}")


def test_remarks_on_rare_values_and_on_a_single_value():
    rows = pd.DataFrame({"city": ["Rome"] * 60 + ["Oslo"] * 38 + ["Lima", "Bern"], "rate": 0.05})
    schema = Schema.fit(rows, columns={"rate": "real"})
    assert schema.remark("city", "Bern") == schema.remark("city", "Bonn")
    assert schema.remark("city", "Bern") == "2.9 % of training rows have such a rare or unseen value"  # 3 of 103
    assert schema.remark("rate", 7) == "98 % of training rows have 0.05"


def test_units_are_told():
    table = pd.DataFrame({"paid": ["€ 1.234,50", "€ 7,25", "€ 17"] * 10})
    schema = Schema.fit(table)
    assert schema.describe() == [("paid", "real", "among numbers alone", "Gaussian in €")]
    np.testing.assert_allclose(schema["paid"].parts[0].mean, (1234.5 + 7.25 + 17) / 3)


def test_a_constant_column_among_numbers_and_an_id_stays_constant():
    schema = Schema.fit(pd.DataFrame({"id": np.arange(40.0), "rate": 0.05, "size": np.arange(40) / 7}))
    assert [column.kind for column in schema.columns] == ["id", "constant", "real"]
    assert "Constant in the training rows: rate. Any other value looks like an anomaly." in schema.notices()


@pytest.mark.parametrize("kind", ["real", "positive"])
def test_another_value_in_a_constant_column_that_is_said_to_be_numbers_is_cut_at_the_limit(kind):
    table = pd.DataFrame({"a": [5.0] * 40, "b": ["x", "y"] * 20})
    schema = Schema.fit(table, columns={"a": kind}, limit=10.0)
    np.testing.assert_array_equal(schema.transform(table)[:, 0], 0)
    np.testing.assert_array_equal(schema.transform(table.assign(a=5.01))[:, 0], 10)


def check_real(table: pd.DataFrame, kinds: dict[str, str]) -> Schema:
    schema = Schema.fit(table)
    assert {name: schema[name].kind for name in kinds} == kinds
    rows = schema.transform(table)
    assert rows.shape == (len(table), schema.layout.parts)
    assert Schema.from_json(json.loads(json.dumps(schema.to_json()))) == schema
    typed = pd.read_csv(io.StringIO(table.to_csv(index=False)), na_values="?", keep_default_na=False)
    np.testing.assert_array_equal(schema.transform(typed), rows)
    of_fewer = Schema.fit(table.sample(frac=0.9, random_state=0))
    assert {name: of_fewer[name].kind for name in kinds} == kinds
    return schema


def test_numbers_beside_words_are_not_read_as_text_with_a_decimal_comma():
    weight = [f"{i},{i:03}" for i in range(1, 60)]
    schema = Schema.fit(pd.DataFrame({"weight": weight, "level": ["1,5", "2,5", "2,5"] * 19 + ["1,5"] * 2}))
    assert schema.number_format == NumberFormat(",", "")
    schema = dataclasses.replace(schema, number_format=NumberFormat(",", "."))
    assert schema["level"].numeric
    typed = pd.DataFrame({"weight": [1.234, 7.5, 2.0], "level": [1.5, 2.5, 1.5]})
    mixed = typed.astype(object)
    mixed.loc[2] = ["NA", "2,5"]
    np.testing.assert_array_equal(schema.transform(mixed)[:2], schema.transform(typed)[:2])
    assert np.isnan(schema.transform(mixed)[2]).sum() == 1


def test_real_claims():
    kinds = {
        "Month": "category",
        "Age": "count",
        "Sex": "yes-no",
        "Fault": "yes-no",
        "PolicyNumber": "id",
        "RepNumber": "category",
        "VehiclePrice": "category",
        "Year": "category",
    }
    schema = check_real(read_frame(real_data("claims/fraud_oracle.csv"))[0], kinds)
    assert schema.layout.numbers == 0


def test_real_census():
    kinds = {
        "age": "count",
        "workclass": "category",
        "fnlwgt": "real",
        "education-num": "category",
        "sex": "yes-no",
        "capital-gain": "positive",
        "capital-loss": "count",
        "native-country": "category",
        "Salary": "yes-no",
    }
    schema = check_real(read_frame(real_data("adult/adult.csv"))[0], kinds)
    assert schema["occupation"].gaps > 0.05
    assert schema["age"].gaps == 0


def test_typed_numbers_keep_their_value_beside_words_with_a_decimal_comma(rng):
    """As Excel gives them: most cells are numbers, some are text, and another column is text alone."""
    numbers, others = rng.uniform(1, 9, (2, ROWS)).round(3)
    paid = numbers.astype(object)
    paid[[3, 50]] = None, "1.234,5"
    numbers[[3, 50]] = np.nan, 1234.5
    as_text = [str(number).replace(".", ",") for number in others]
    schema = Schema.fit(pd.DataFrame({"paid": paid, "more": as_text}))
    assert schema.number_format == NumberFormat(",", ".")
    expected = Schema.fit(pd.DataFrame({"paid": numbers, "more": others}))
    assert [column.parts for column in schema.columns] == [column.parts for column in expected.columns]


def test_typed_numbers_among_names_are_names():
    places = pd.Series([8001, "CH-8002", 3000.5, None] * 50, name="place", dtype=object)
    column = Schema.fit(pd.DataFrame({"place": places, "paid": ["1,5", "2,5"] * 100}))["place"]
    assert (column.kind, column.parts[0].levels) == ("category", ("3000.5", "8001", "CH-8002"))
