"""The exemplar recipe: what it finds, what it keeps, contamination and weights."""

import jax
import numpy as np
import pandas as pd
import pytest
from helpers import compilations
from sklearn.metrics import roc_auc_score

from vae_jax import VAEDetector
from vae_jax.detector import exemplar
from vae_jax.detector.estimator import _divide
from vae_jax.detector.model_folder import ModelError
from vae_jax.detector.settings import SettingError


@pytest.fixture(scope="module")
def x() -> np.ndarray:
    """Rows on a curved surface, with a heavy-tailed feature."""
    rng = np.random.default_rng(0)
    z = rng.normal(size=(900, 2))
    noise = 0.1 * rng.normal(size=(900, 4))
    return np.stack([z[:, 0], z[:, 1], z[:, 0] * z[:, 1], np.exp(2 * z[:, 0])], axis=1) + noise


@pytest.fixture(scope="module")
def odd(x) -> np.ndarray:
    """The same numbers, but those of different rows do not go together."""
    rng = np.random.default_rng(1)
    return np.stack([rng.permutation(column) for column in x[:300].T], axis=1)


@pytest.fixture(scope="module")
def fitted(x) -> VAEDetector:
    return VAEDetector().fit(x[:600])


def test_it_is_the_default_for_numbers_and_finds_what_does_not_go_together(fitted, x, odd):
    assert fitted.settings_.recipe == "exemplar"
    assert (fitted.settings_.hidden_dims, fitted.settings_.latent_dim, fitted.settings_.num_models) == ((64, 32), 4, 3)
    labels = np.repeat([0, 1], 300)
    assert roc_auc_score(labels, -fitted.score_samples(np.concatenate([x[600:], odd]))) > 0.8
    assert (fitted.predict(x[600:]) == 1).mean() > 0.95


def test_exemplars_are_the_training_rows_and_their_number_is_bounded(fitted, x, monkeypatch):
    assert len(fitted.exemplars_.rows) == 540
    monkeypatch.setattr(exemplar, "MOST_EXEMPLARS", 100)
    fewer = VAEDetector(epochs=5).fit(x)
    assert fewer.exemplars_.rows.shape == (100, 4)
    assert np.isfinite(fewer.score_samples(x)).all()


def test_numbers_compile_nothing_anew(fitted, x):
    before = compilations()
    other = VAEDetector(
        epochs=7, learning_rate=1e-3, kl_warmup=0.9, input_noise=0.2, validation_share=0.3, limit=5.0, seed=3,
        false_alarm_rate=0.05,
    )  # fmt: skip
    other.fit(x[:777]).score_samples(x[:5])
    assert compilations() == before


def test_equal_seeds_give_equal_models(fitted, x):
    again = VAEDetector(random_state=0).fit(x[:600])
    np.testing.assert_array_equal(again.score_samples(x), fitted.score_samples(x))
    other = VAEDetector(random_state=np.random.RandomState(5)).fit(x[:600])
    assert (other.score_samples(x) != fitted.score_samples(x)).any()


def test_contamination_leaves_out_the_anomalies_and_sets_the_boundary(x, rng):
    scattered = rng.uniform(-8, 8, (200, 4))
    rows = np.concatenate([x, scattered[:100]])
    labels = np.repeat([0, 1], [900, 100])
    detector = VAEDetector(contamination=0.1).fit(rows)
    assert detector.labels_.sum() == 100
    assert detector.labels_[labels == 1].mean() > 0.8
    np.testing.assert_array_equal(detector.labels_ == 1, detector.predict(rows) == -1)
    np.testing.assert_array_equal(detector.decision_scores_, -detector.score_samples(rows))
    assert detector.threshold_ == -detector.offset_
    trusting = VAEDetector().fit(rows)
    found = [(one.predict(scattered[100:]) == -1).mean() for one in (detector, trusting)]
    assert found[0] > 0.9 > found[1]


def test_rows_without_weight_are_as_if_they_were_not_there(x):
    far = np.concatenate([x, np.full((300, 4), 20.0)])
    weights = np.repeat([1.0, 0.0], [900, 300])
    weighted = VAEDetector().fit(far, sample_weight=weights)
    assert (weighted.predict(np.full((5, 4), 20.0)) == -1).all()
    assert (VAEDetector().fit(far).predict(np.full((5, 4), 20.0)) == 1).all()
    with pytest.raises(ValueError, match="at least one non-zero"):
        VAEDetector().fit(x, sample_weight=np.zeros(900))
    with pytest.raises(ValueError, match="sample_weight: the sum is beyond the largest number"):
        VAEDetector().fit(x, sample_weight=np.full(900, 1e308))
    with pytest.raises(ValueError, match="the gaussian recipe takes none"):
        VAEDetector(recipe="gaussian", epochs=1).fit(x, sample_weight=np.ones(900))


def test_partial_fit_adds_exemplars(x):
    detector = VAEDetector(epochs=20).partial_fit(x[:400])
    before = len(detector.exemplars_.rows)
    detector.partial_fit(x[400:])
    assert len(detector.exemplars_.rows) == before + 450
    with pytest.raises(SettingError, match=r"contamination=0\.1: expected None in partial_fit"):
        VAEDetector(contamination=0.1).partial_fit(x)


def test_partial_fit_keeps_the_weights_of_earlier_rows(rng):
    rows = np.concatenate([rng.normal(-5, 0.5, (300, 3)), rng.normal(5, 0.5, (300, 3))])
    detector = VAEDetector(num_models=1).fit(rows, sample_weight=np.repeat([1e-6, 1.0], 300))
    low, high = detector.partial_fit(rng.normal(5, 0.5, (20, 3))).score_samples([[-5.0] * 3, [5.0] * 3])
    assert low < high - 5


def test_partial_fit_trains_after_a_fit_too(x):
    detector = VAEDetector(num_models=1, epochs=10).fit(x)
    before = detector.params_
    changes = jax.tree.map(lambda *pair: np.abs(np.subtract(*pair)).max(), before, detector.partial_fit(x + 3).params_)
    assert all(change > 0 for change in jax.tree.leaves(changes))


def test_rows_of_all_calls_have_one_chance_to_be_exemplars(rng, monkeypatch):
    monkeypatch.setattr(exemplar, "MOST_EXEMPLARS", 400)
    detector = VAEDetector(num_models=1, hidden_dims=(4,), epochs=20, limit=1e4)
    for call in range(20):
        order = 100 * call + np.arange(100.0)
        detector.partial_fit(np.stack([order, rng.normal(size=100)], axis=1))  # 90 of them in training
    numbers = detector.exemplars_.numbers
    assert (len(numbers), numbers[-1] < 1800, (np.diff(numbers) > 0).all()) == (400, True, True)
    assert (np.diff(detector.exemplars_.rows[:, 0]) > 0).all()  # each row stands where its number does
    kept = np.bincount(numbers // 450, minlength=4)  # by quarters of the calls: 100 each, give or take 9
    assert (np.abs(kept - 100) < 40).all()


def test_a_few_rows_at_a_time_have_their_chance_to_be_exemplars(rng, monkeypatch):
    monkeypatch.setattr(exemplar, "MOST_EXEMPLARS", 40)
    detector = VAEDetector(num_models=1, hidden_dims=(4,), epochs=1).fit(rng.normal(size=(4_000, 2)))
    for _ in range(20):
        detector.partial_fit(rng.normal(size=(40, 2)))
    assert detector.exemplars_.seen.item() == 3_600 + 20 * 36
    numbers = detector.exemplars_.numbers
    assert (len(numbers), (np.diff(numbers) > 0).all()) == (40, True)
    assert 2 <= (numbers >= 3_600).sum() <= 14  # 6.7 expected, give or take 2.4


def test_a_partial_fit_has_no_labels(x):
    detector = VAEDetector(num_models=1, epochs=5, contamination=0.1).fit(x)
    detector.set_params(contamination=None).partial_fit(x)
    assert not {"labels_", "decision_scores_"} & vars(detector).keys()


def test_gaps_in_scored_rows_are_left_out(fitted, x):
    rows = x[600:620].copy()
    rows[3, 1] = np.nan
    with pytest.warns(UserWarning, match="gaps in columns that had none"):
        found = fitted.score_samples(rows)
    with pytest.warns(UserWarning, match="gaps in columns that had none"):
        shares = fitted.explain(rows)
    np.testing.assert_array_equal(np.delete(found, 3), np.delete(fitted.score_samples(x[600:620]), 3))
    assert shares.iloc[3, 1] == 0


def test_shares_and_scores(fitted, x):
    shares = fitted.explain(x[:20])
    expected = fitted.expected_log_prob(x[:20])
    np.testing.assert_allclose(shares.sum(axis=1), -expected, atol=1e-4)


def test_a_share_that_is_hardly_anything_has_no_sign(fitted):
    assert ": 0.0 nats" in fitted.reason("x0", 0.0, -0.01)


def test_a_cell_that_contradicts_its_row_has_the_largest_share(rng):
    size, shape = rng.normal(size=(2, 900, 1))
    rows = np.concatenate([size + 0.1 * rng.normal(size=(900, 3)), shape + 0.1 * rng.normal(size=(900, 3))], 1)
    detector, new = VAEDetector().fit(rows[:800]), rows[800:]
    places = rng.integers(6, size=100)
    new[np.arange(100), places] = -new[np.arange(100), places]
    contradicts = np.abs(new[np.arange(100), places]) > 0.5  # else it hardly changed
    named = detector.explain(new).to_numpy().argmax(1) == places
    assert named[contradicts].mean() > 0.97


def test_patience_counts_after_the_kl_warm_up(x):
    """In which the held-out loss rises, because it has the whole KL."""
    records = []
    detector = VAEDetector(patience=2, epochs=40, num_models=1, callback=records.append).fit(x)
    assert len(records) > 12 + 2
    losses = [record["validation_loss"] for record in records]
    assert detector.n_steps_ == (11 + np.argmin(losses[11:]) + 1) * (len(x) * 9 // 10 // 128)


def test_what_is_reported_of_a_fit_with_contamination_is_of_its_boundary(x, tmp_path):
    weights = np.repeat([1.0, 0.0], [800, 100])
    detector = VAEDetector(contamination=0.2, num_models=1).fit(x, sample_weight=weights)
    assert detector.false_alarm_share_ == pytest.approx(0.2, abs=0.1)
    np.testing.assert_array_equal(detector.decision_scores_, -detector.score_samples(x))
    np.testing.assert_array_equal(detector.labels_, detector.predict(x) == -1)
    detector.save(tmp_path / "model")
    assert "with 0.2 of the training rows below it" in (tmp_path / "model" / "README.md").read_text()


def test_exemplars_are_scored_without_their_own_kernels(x):
    detector = VAEDetector(num_models=1, epochs=2, validation_share=0.5).fit(x[:, :2])
    ready, numbers = exemplar.Ready.of(detector.exemplars_), np.arange(7, 90)
    others = np.setdiff1d(np.arange(len(detector.exemplars_.rows)), [7])
    weights = np.full(len(others), -np.log(len(others)), np.float32)
    without = detector.exemplars_._replace(
        rows=detector.exemplars_.rows[others], log_var=detector.exemplars_.log_var[:, others], log_weights=weights
    )
    expected = exemplar.score(exemplar.Ready.of(without), detector.exemplars_.rows[[7]], np.array([-1]))
    assert not detector.exemplars_.gaussianiser.heavy.any()  # so these rows are those that `score` takes
    np.testing.assert_allclose(exemplar.score_exemplars(ready, numbers)[:1], expected, atol=1e-3)


def test_a_small_table_and_a_stream_of_few_rows_raise_the_false_alarms_asked_for():
    """Of a tenth of them, three or ten rows, no boundary can be told: there were 12 to 38 % of false alarms."""
    new = np.random.default_rng(99).normal(size=(5_000, 3))
    rng = np.random.default_rng(2)
    small = VAEDetector(num_models=1, seed=2).fit(rng.normal(size=(100, 3)))
    stream = VAEDetector(num_models=1, seed=2, epochs=20)
    for _ in range(20):
        stream.partial_fit(rng.normal(size=(30, 3)))
    for detector in (small, stream):
        assert (detector.predict(new) == -1).mean() < 0.05


def test_frames_whose_columns_have_no_names(x):
    fitted = VAEDetector(num_models=1, epochs=2).fit(pd.DataFrame(x))
    expected = fitted.reasons(x[:3])
    assert fitted.reasons(pd.DataFrame(x[:3])) == expected
    fitted = VAEDetector(num_models=1, epochs=2).fit(x)
    with pytest.warns(UserWarning, match="feature names"):
        assert fitted.reasons(pd.DataFrame(x[:3], columns=list("abcd"))) == expected


def test_patience_and_callback_see_held_out_losses(x):
    records = []
    VAEDetector(epochs=500, patience=2, num_models=1, callback=records.append).fit(x)
    assert len(records) < 500
    assert records[-1]["validation_loss"] > min(record["validation_loss"] for record in records)


@pytest.fixture(scope="module")
def mixed() -> pd.DataFrame:
    """A country and a currency that go together, a shop that goes with nothing, a price by currency, and gaps."""
    rng = np.random.default_rng(0)
    abroad = rng.random(900) < 0.4
    frame = pd.DataFrame(
        {
            "country": np.where(abroad, rng.choice(["Italy", "France"], 900), rng.choice(["Norway", "Iceland"], 900)),
            "currency": np.where(abroad, "EUR", "NOK"),
            "shop": rng.choice(list("abcdefgh"), 900),
            "price": np.exp(rng.normal(np.where(abroad, 3, 5), 0.3)).round(2),
        }
    )
    frame.loc[::9, "currency"] = None
    frame.loc[::11, "price"] = None
    return frame


@pytest.fixture(scope="module")
def of_mixed(mixed) -> VAEDetector:
    return VAEDetector(epochs=60).fit(mixed[:600])


def test_cells_that_do_not_go_together_are_found_whatever_their_kind(of_mixed, mixed):
    new = mixed[600:].dropna()
    swapped = new.assign(currency=new["currency"].map({"EUR": "NOK", "NOK": "EUR"}))
    dear = new.assign(price=np.where(new["currency"] == "EUR", 150, 20))
    unseen = new.assign(shop="z")
    normal = of_mixed.score_samples(new)
    for odd in (swapped, dear, unseen):
        scores = of_mixed.score_samples(odd)
        assert roc_auc_score(np.repeat([1, 0], len(new)), np.concatenate([scores, normal])) < 0.05
    more = of_mixed.explain(unseen).mean() - of_mixed.explain(new).mean()
    assert more["shop"] > 0.9 * more.sum()
    assert (of_mixed.predict(new) == 1).mean() > 0.95


def test_gaps_of_training_rows_are_in_the_exemplars_and_cells_are_scored_alone(of_mixed, mixed):
    assert np.isnan(of_mixed.exemplars_.rows).any(0).sum() == 2
    new = mixed[600:]
    np.testing.assert_array_equal(of_mixed.score_samples(new[:7]), of_mixed.score_samples(new)[:7])
    shares = of_mixed.explain(new)
    assert (shares["price"][new["price"].isna()] == 0).all()
    expected = of_mixed.expected_log_prob(new)
    np.testing.assert_allclose(-shares.sum(axis=1), expected, rtol=1e-4, atol=1e-4)


def test_gaps_do_not_make_a_column_s_cells_look_suspicious(of_mixed, mixed):
    _, held_out = _divide(600, of_mixed.settings_)
    shares = of_mixed.explain(mixed[:600].iloc[held_out])
    assert (shares["price"] == 0).sum() > 3
    np.testing.assert_allclose(of_mixed.typical_shares_, shares.where(shares != 0).mean(), atol=1e-6)


def test_saved_exemplars_of_mixed_columns_score_the_same_and_damaged_ones_are_refused(of_mixed, mixed, tmp_path):
    of_mixed.save(tmp_path / "model")
    loaded = VAEDetector.load(tmp_path / "model")
    np.testing.assert_array_equal(loaded.score_samples(mixed), of_mixed.score_samples(mixed))
    rows = of_mixed.exemplars_.rows.copy()
    rows[0, -1] = 99
    damaged = VAEDetector.load(tmp_path / "model")
    damaged.exemplars_ = damaged.exemplars_._replace(rows=rows)
    damaged.save(tmp_path / "damaged")
    with pytest.raises(ModelError, match="exemplars have levels that their columns have not"):
        VAEDetector.load(tmp_path / "damaged")


def test_mixed_columns_train_on_weigh_rows_and_leave_out_contamination(mixed, rng):
    settings = {"epochs": 30, "num_models": 1}
    detector = VAEDetector(**settings).partial_fit(mixed[:300]).partial_fit(mixed[300:600])
    assert len(detector.exemplars_.rows) == 540
    assert np.isfinite(detector.score_samples(mixed)).all()

    weights = np.repeat([1.0, 0.0], [500, 400])
    weighted = VAEDetector(**settings).fit(mixed, sample_weight=weights)
    alone = VAEDetector(**settings).fit(mixed[:500], sample_weight=weights[:500])
    np.testing.assert_array_equal(weighted.score_samples(mixed), alone.score_samples(mixed))

    dirty = mixed.copy()
    wrong = rng.choice(len(mixed), 45, replace=False)
    dirty.loc[wrong, "currency"] = dirty.loc[wrong, "currency"].map({"EUR": "NOK", "NOK": "EUR"})
    dirty.loc[wrong, "price"] = np.exp(rng.uniform(-2, 9, 45))
    found = VAEDetector(**settings, contamination=0.05).fit(dirty)
    assert found.labels_[wrong].mean() > 0.8
    assert found.labels_.sum() == 45
