"""The estimator on tables of words, counts, dates and gaps."""

import numpy as np
import pandas as pd
import pytest
from helpers import assert_same, compilations
from sklearn.base import clone
from sklearn.compose import make_column_transformer
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from vae_jax import VAEDetector
from vae_jax.detector.settings import SettingError

SMALL = {"hidden_dims": (8,), "num_samples": 16, "epochs": 60, "batch_size": 32, "learning_rate": 0.01}


def mixed(rows: int, seed: int = 0) -> pd.DataFrame:
    """A city, a currency and a language that go together, a skewed price, a count, a date and an id."""
    rng = np.random.default_rng(seed)
    abroad = rng.random(rows) < 0.4
    return pd.DataFrame(
        {
            "id": [f"row {seed} {i}" for i in range(rows)],
            "city": np.where(abroad, rng.choice(["Rome", "Lyon"], rows), rng.choice(["Oslo", "Bergen"], rows)),
            "currency": np.where(abroad, "EUR", "NOK"),
            "language": np.where(abroad, "it", "no"),
            "price": np.exp(rng.normal(3, 1, rows)).round(2),
            "items": rng.poisson(30, rows),
            "night": rng.random(rows) < 0.1,
            "bought": pd.Timestamp("2026-01-01") + pd.to_timedelta(rng.integers(0, 50, rows), "D"),
        }
    )


@pytest.fixture(scope="module")
def table() -> pd.DataFrame:
    return mixed(400)


@pytest.fixture(scope="module", params=["exemplar", "gaussian"])
def recipe(request) -> str:
    return request.param


@pytest.fixture(scope="module")
def detector(table, recipe) -> VAEDetector:
    return VAEDetector(recipe, **SMALL, num_models=2).fit(table)


def test_exemplar_is_the_default(table):
    assert VAEDetector(**SMALL).fit(table).settings_.recipe == "exemplar"


def test_numbers_compile_nothing_anew(detector, table, recipe):
    detector.score_samples(table)
    before = compilations()
    other = {**SMALL, "num_models": 2, "epochs": 31, "learning_rate": 1e-3}
    other = VAEDetector(recipe, **other, kl_warmup=0.4, input_noise=0.1, seed=4, false_alarm_rate=0.05).fit(table)
    other.score_samples(table[:300])
    assert compilations() == before
    # The order in which its rows are visited, and the number of their steps.
    VAEDetector(recipe, **SMALL, num_models=2).fit(table[:390])
    assert compilations() - before <= 5


def test_kinds_are_inferred(detector):
    assert {column.name: column.kind for column in detector.schema_.columns} == {
        "id": "id",
        "city": "category",
        "currency": "yes-no",
        "language": "yes-no",
        "price": "positive",
        "items": "count",
        "night": "yes-no",
        "bought": "date",
    }
    assert detector.scaler_ is None
    assert detector.n_features_in_ == 8


def test_what_does_not_go_together_is_an_anomaly_and_its_cells_are_the_reason(detector):
    odd = mixed(20, seed=1).assign(city="Rome", currency="NOK", language="it")
    new = mixed(200, seed=2)
    assert np.median(detector.score_samples(odd)) < np.quantile(detector.score_samples(new), 0.1)
    assert (detector.predict(new) == 1).mean() > 0.9
    shares = detector.explain(odd)
    assert shares.columns.tolist() == list(detector.schema_.modelled)
    assert shares["currency"].median() > 5 * detector.explain(new)["currency"].median()
    np.testing.assert_allclose(shares.sum(axis=1), -detector.expected_log_prob(odd), rtol=1e-4)
    reasons = [sentence for row in detector.reasons(odd, strongest=1) for sentence in row]
    assert all(" nats; " in reason and " % of training rows" in reason for reason in reasons)
    assert sum(reason.startswith("currency = NOK: ") for reason in reasons) > len(reasons) / 2


def test_an_unseen_value_is_unlikely_but_not_impossible(detector, table):
    unseen = table.head(50).assign(city="Lima")
    found = detector.explain(unseen)["city"]
    assert (found > 3).all()
    assert (found < 15).all()


def test_a_gap_is_left_out_and_said(detector, table):
    gaps = table.head(50).astype({"price": object})
    gaps.loc[gaps.index[::2], "price"] = None
    with pytest.warns(UserWarning, match=r"gaps in columns that had none in training: price \(25 rows\)"):
        shares = detector.explain(gaps)
    assert (shares["price"].iloc[::2] == 0).all()
    assert (shares["price"].iloc[1::2] != 0).all()
    with pytest.warns(UserWarning, match="gaps in columns"):
        scores = detector.score_samples(gaps)
    np.testing.assert_array_equal(scores[1::2], detector.score_samples(table.head(50))[1::2])


def test_gaps_in_numbers_alone_are_scored_and_other_rows_keep_their_bits():
    x = np.random.default_rng(0).normal(size=(300, 3))
    detector = VAEDetector(**SMALL).fit(x)
    gaps = x[:40].copy()
    gaps[::4, 1] = np.nan
    with pytest.warns(UserWarning, match=r"x1 \(10 rows\)"):
        scores, whole = detector.score_samples(gaps), detector.score_samples(x[:40])
    assert np.isfinite(scores).all()
    complete = ~np.isnan(gaps).any(1)
    np.testing.assert_array_equal(scores[complete], whole[complete])
    assert (scores[~complete] != whole[~complete]).all()


def test_numbers_with_gaps_in_training_are_all_real(recipe):
    x = np.random.default_rng(0).normal(size=(300, 3))
    x[::5, 0] = np.nan
    detector = VAEDetector(recipe, **SMALL).fit(x)
    assert [column.kind for column in detector.schema_.columns] == ["real"] * 3
    assert np.isfinite(detector.score_samples(x)).all()


def test_a_gap_may_count(recipe):
    rng = np.random.default_rng(0)
    table = pd.DataFrame(
        {"a": rng.normal(size=400), "b": np.where(rng.random(400) < 0.02, np.nan, 1.5 * rng.normal(size=400))}
    )
    gap = pd.DataFrame({"a": [0.0], "b": [np.nan]})
    ignored, informative = (
        VAEDetector(recipe, **SMALL, missing=missing).fit(table).explain(gap)["b"].item()
        for missing in ("ignore", "informative")
    )
    assert ignored == 0
    assert informative > 2


def test_kinds_can_be_said(table):
    detector = VAEDetector(**SMALL, columns={"items": "category", "bought": "dropped"}).fit(table)
    assert detector.schema_["items"].kind == "category"
    assert "bought" not in detector.schema_.modelled
    with pytest.raises(ValueError, match="column cost: not in the table"):
        VAEDetector(**SMALL, columns={"cost": "count"}).fit(table)
    with pytest.raises(SettingError, match="expected kinds among real, positive, count"):
        VAEDetector(**SMALL, columns={"items": "integer"}).fit(table)


def test_the_report_recipe_is_for_numbers_alone(table):
    with pytest.raises(
        SettingError, match="recipe='report': expected exemplar or gaussian, for a table that is not all"
    ):
        VAEDetector(**SMALL, recipe="report").fit(table)


def test_a_saved_detector_scores_trains_on_and_explains_the_same(detector, table, tmp_path):
    detector.save(tmp_path / "model")
    loaded = VAEDetector.load(tmp_path / "model")
    new = mixed(100, seed=3)
    assert_same(loaded.score_samples(new), detector.score_samples(new))
    assert loaded.reasons(new.head(3)) == detector.reasons(new.head(3))
    assert loaded.schema_ == detector.schema_
    card = (tmp_path / "model" / "README.md").read_text()
    assert "| city | category | 4 different words | 4 levels and the rare, categorical |" in card
    again = VAEDetector.load(tmp_path / "model").partial_fit(table)
    assert_same(again.score_samples(new), loaded.partial_fit(table).score_samples(new))


def test_a_column_that_vanished_or_changed_its_kind_is_one_line(detector, table):
    with pytest.raises(ValueError, match="Feature names") as refused:
        detector.score_samples(table.drop(columns="city"))
    with pytest.raises(
        ValueError, match=r"^row 0, column price: 'cheap' is not a number, as in the training rows$"
    ) as refused:
        detector.score_samples(table.assign(price="cheap"))
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("cell", "error"),
    [(np.inf, "infinity is no number"), ([1], "argument must be a string, a number or a date, not list")],
)
def test_a_cell_that_can_not_be_learned_is_named_by_its_row_in_the_table(table, cell, error):
    # Training rows are only some of all, so their own numbers would be others.
    prices = table["price"].astype(object)
    prices[390] = cell
    with pytest.raises((ValueError, TypeError), match=f"^row 390, column price: {error}$"):
        VAEDetector(seed=1).fit(table.assign(price=prices))


def test_pipelines_clones_and_searches_take_mixed_frames(table):
    columns = make_column_transformer(
        (StandardScaler(), ["price"]), remainder="passthrough", verbose_feature_names_out=False
    )
    pipeline = make_pipeline(columns.set_output(transform="pandas"), VAEDetector(**{**SMALL, "epochs": 2}))
    assert pipeline.fit(table).predict(table).shape == (400,)
    original = VAEDetector(**{**SMALL, "epochs": 2}, columns={"items": "real"})
    copy = clone(original)
    assert copy.get_params() == original.get_params()
    grid = {"columns": [{"items": "real"}, {"items": "count"}]}
    mean_score = lambda estimator, x, y=None: estimator.score_samples(x).mean()  # noqa: E731
    search = GridSearchCV(original, grid, cv=2, scoring=mean_score, refit=False)
    assert (search.fit(table).cv_results_["mean_test_score"] > -100).all()


def test_polars_frames_are_taken_as_they_are(detector, table):
    polars = pytest.importorskip("polars")
    frame = polars.from_pandas(table)
    np.testing.assert_array_equal(detector.score_samples(frame), detector.score_samples(table))
    again = VAEDetector(detector.recipe, **SMALL, num_models=2).fit(frame)
    assert_same(again.score_samples(table), detector.score_samples(table))


def test_rows_of_lists_have_columns_by_their_place(table):
    rows = table.drop(columns="bought").to_numpy(object).tolist()
    detector = VAEDetector(**{**SMALL, "epochs": 2}).fit(rows)
    assert detector.schema_.feature_names == tuple(f"x{i}" for i in range(7))
    assert np.isfinite(detector.score_samples(rows[:5])).all()
