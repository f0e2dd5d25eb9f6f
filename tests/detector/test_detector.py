"""The estimator: scikit-learn's own checks, what it computes, and how it is explained, continued and used."""

import dataclasses
import inspect
import os
import signal
import subprocess
import sys
import warnings
from pathlib import Path

import jax
import numpy as np
import pandas as pd
import pytest
from helpers import assert_same
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.metrics import average_precision_score
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import RobustScaler

from vae_jax import VAEDetector
from vae_jax.detector import exemplar, passes, recipes
from vae_jax.detector.settings import Settings
from vae_jax.scoring import reconstruction_probability

ROOT = Path(__file__).parents[2]
FEATURES = ["amount", "hour", "distance"]
SMALL = {
    "hidden_dims": (6,),
    "num_samples": 16,
    "epochs": 60,
    "batch_size": 32,
    "learning_rate": 0.01,
    "kl_warmup": 0.5,
    "input_noise": 0.1,
}
# In a process of its own, because SciPy reads the variable when it is first imported.
CHECKS = """
from sklearn.utils.estimator_checks import check_estimator
from vae_jax import VAEDetector
detector = VAEDetector(hidden_dims=(4,), num_samples=8, epochs=3)
# Rows are drawn at random in proportion to their weights, as in scikit-learn's own IsolationForest.
drawn = {"check_sample_weight_equivalence_on_dense_data": "rows are drawn"}
done = check_estimator(detector, on_skip=None, expected_failed_checks=drawn)
assert {check["status"] for check in done if check["check_name"] not in drawn} == {"passed"}, done
print(len(done))
"""


def correlated(rows: int, seed: int = 0) -> pd.DataFrame:
    """Three features that go together."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(rows, 1)) + 0.2 * rng.normal(size=(rows, 3))
    return pd.DataFrame(x * [10, 2, 100] + [50, 12, 0], columns=FEATURES)


@pytest.fixture(scope="module")
def frame() -> pd.DataFrame:
    return correlated(300)


@pytest.fixture(scope="module")
def fitted(frame) -> VAEDetector:
    return VAEDetector(**SMALL, num_models=2, validation_share=0.4).fit(frame)


def test_every_check_of_scikit_learn_passes_and_none_is_skipped():
    environment = os.environ | {"PYTHONPATH": str(ROOT), "SCIPY_ARRAY_API": "1", "JAX_PLATFORMS": "cpu"}
    done = subprocess.run([sys.executable, "-c", CHECKS], env=environment, capture_output=True, text=True, timeout=500)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) > 40


def test_scores_are_the_mean_over_models_of_the_librarys_own(frame):
    fitted = VAEDetector(**SMALL, recipe="gaussian", num_models=2, validation_share=0.4).fit(frame)
    x = fitted.scaler_.transform(frame.to_numpy())
    key = recipes.score_key(fitted)

    def of_one(params):
        return reconstruction_probability(fitted.vae_, params, x, key, fitted.num_samples)

    expected = jax.jit(jax.vmap(of_one))(fitted.params_)
    # float32 carries 7 digits of scores of order 10.
    np.testing.assert_allclose(fitted.score_samples(frame), np.mean(expected.log_reconstruction_prob, 0), atol=1e-4)
    np.testing.assert_allclose(fitted.expected_log_prob(frame), np.mean(expected.mean_log_prob, 0), atol=1e-4)


def test_decision_and_prediction_follow_the_boundary(fitted, frame):
    scores = fitted.score_samples(frame)
    np.testing.assert_array_equal(fitted.decision_function(frame), scores - fitted.offset_)
    np.testing.assert_array_equal(fitted.predict(frame), np.where(scores < fitted.offset_, -1, 1))
    odd = pd.DataFrame([[80, 5, -200]], columns=FEATURES)  # each in its range, but they do not go together
    assert fitted.predict(odd) == [-1]
    assert (fitted.predict(correlated(200, seed=1)) == 1).mean() > 0.9


def test_shares_add_up_to_the_expected_negative_log_probability(fitted, frame):
    shares = fitted.explain(frame.iloc[5:9])
    assert list(shares.columns) == FEATURES
    assert list(shares.index) == [5, 6, 7, 8]
    np.testing.assert_allclose(shares.sum(axis=1), -fitted.expected_log_prob(frame.iloc[5:9]), atol=1e-4)


def test_the_strongest_share_is_that_of_the_odd_feature(fitted, frame):
    odd = frame.head(20).copy()
    odd["hour"] += 30
    assert (fitted.explain(odd).idxmax(axis=1) == "hour").mean() > 0.9


def test_a_score_depends_on_its_row_alone(fitted, frame):
    scores = fitted.score_samples(frame)
    assert_same(fitted.score_samples(frame.iloc[[7]]), scores[[7]])
    assert_same(fitted.score_samples(frame.iloc[::-1]), scores[::-1].copy())


def test_numpy_pandas_and_arrow_give_the_same_scores(fitted, frame):
    scores = fitted.score_samples(frame)
    arrow = frame.convert_dtypes(dtype_backend="pyarrow")
    assert_same(fitted.score_samples(arrow), scores)
    with pytest.warns(UserWarning, match="feature names"):
        assert_same(fitted.score_samples(frame.to_numpy()), scores)


def test_the_boundary_lets_the_asked_share_of_held_out_rows_through(frame):
    detector = VAEDetector(**SMALL, false_alarm_rate=0.2, validation_share=0.5).fit(frame)
    # 150 rows: the quantile falls between two of them.
    assert detector.false_alarm_share_ == pytest.approx(0.2, abs=1 / 150)
    assert 0 < detector.n_steps_ <= 60 * (150 // 32)
    assert detector.active_latents_ >= 1


def test_both_recipes_and_every_rule_give_a_boundary(frame):
    for rule in ("quantile", "tukey", "mad", "mean-sigma", "gpd"):
        detector = VAEDetector(**SMALL, recipe="report", boundary=rule).fit(frame)
        assert np.isfinite(detector.offset_), rule
        assert detector.residual_sd_.shape == (1, 3)


def test_patience_ends_a_training_that_no_longer_improves(frame):
    # With no warm-up, a rate this high stops improving long before the last epoch.
    options = {**SMALL, "kl_warmup": 0.0, "learning_rate": 0.05, "epochs": 400}
    records = []
    VAEDetector(**options, patience=5, callback=records.append).fit(frame)
    losses = [record["validation_loss"] for record in records]
    assert len(losses) < 400
    assert int(np.argmin(losses)) == len(losses) - 1 - 5


def test_patience_counts_from_the_beginning_where_there_is_no_warm_up(frame):
    options = {**SMALL, "recipe": "report", "kl_warmup": 0.8, "learning_rate": 0.2, "epochs": 100}
    records = []
    VAEDetector(**options, patience=2, callback=records.append).fit(frame)
    assert len(records) < 80


def test_a_fit_that_does_not_end_leaves_no_model_behind(frame):
    detector = VAEDetector(**{**SMALL, "epochs": 1}).fit(frame)

    def interrupt(record):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        detector.set_params(callback=interrupt).fit(1000 * frame)
    with pytest.raises(NotFittedError):
        detector.score_samples(frame)


def test_the_callback_gets_a_record_of_each_epoch(frame):
    records = []
    VAEDetector(**{**SMALL, "epochs": 3}, callback=records.append).fit(frame)
    assert [record["epoch"] for record in records] == [1, 2, 3]
    names = {"epoch", "loss", "reconstruction", "kl", "validation_loss", "validation_reconstruction", "validation_kl"}
    assert all(names <= record.keys() and np.isfinite(list(record.values())).all() for record in records)


def test_partial_fit_goes_on_where_fit_ended(frame):
    detector = VAEDetector(**SMALL).fit(frame)
    steps, scaler = detector.n_steps_, detector.scaler_
    assert detector.partial_fit(correlated(300, seed=2)) is detector
    assert detector.n_steps_ == steps + 270 // 32
    assert detector.scaler_ is scaler


def test_partial_fit_from_the_beginning_learns(frame):
    detector = VAEDetector(**{**SMALL, "kl_warmup": 0.0}, recipe="gaussian")
    for _ in range(2):
        detector.partial_fit(frame)
    early = detector.score_samples(frame).mean()
    for _ in range(30):
        detector.partial_fit(frame)
    assert detector.score_samples(frame).mean() > early + 0.5


@pytest.mark.parametrize("recipe", ["exemplar", "gaussian"])
def test_64_bits_elsewhere_in_a_program_change_nothing(recipe, rng, tmp_path):
    def saved(name: str) -> bytes:
        detector = VAEDetector(recipe, epochs=1, num_models=2, hidden_dims=(6,), num_samples=16).fit(rows)
        detector.save(tmp_path / name)
        scores.append([detector.score_samples(rows), VAEDetector.load(tmp_path / name).score_samples(rows)])
        return (tmp_path / name / "arrays.safetensors").read_bytes()

    rows, scores = rng.normal(size=(200, 3)), []
    in_32_bits = saved("in_32_bits")
    jax.config.update("jax_enable_x64", True)  # for all threads, unlike `jax.enable_x64`
    try:
        assert saved("in_64_bits") == in_32_bits
    finally:
        jax.config.update("jax_enable_x64", False)
    assert np.ptp(scores, axis=(0, 1)).max() == 0


def test_the_kind_of_keys_elsewhere_in_a_program_changes_nothing(rng):
    rows = rng.normal(size=(50, 3))

    def scores() -> np.ndarray:
        return VAEDetector("gaussian", epochs=1, hidden_dims=(6,), num_samples=16).fit(rows).score_samples(rows)

    expected = scores()
    with jax.default_prng_impl("rbg"):
        np.testing.assert_array_equal(scores(), expected)


@pytest.mark.filterwarnings("ignore:X does not have valid feature names")
@pytest.mark.parametrize("missing", [pd.NA, pd.NaT, None, np.nan])
def test_gaps_among_objects_are_gaps(missing, fitted, frame):
    cells, numbers = frame.astype(object), frame.copy()
    cells.iloc[2, 1], numbers.iloc[2, 1] = missing, np.nan
    with pytest.warns(UserWarning, match=r"gaps in columns that had none in training: hour \(1 row\)"):
        found = [fitted.score_samples(rows) for rows in (cells, cells.to_numpy(), cells.to_numpy().tolist(), numbers)]
    assert np.ptp(found, axis=0).max() == 0
    assert VAEDetector(**{**SMALL, "epochs": 1}).fit(cells).schema_ is not None


@pytest.mark.parametrize(
    ("cells", "wrong"),
    [
        ("fast", "row 1000, column hour: 'fast' is not a number, as in the training rows"),
        (pd.Timestamp("2024-05-01"), "row 1000, column hour: '2024-05-01T00:00:00.000000' is not a number, .*"),
        (pd.Categorical(["a"] * 300), "row 1000, column hour: 'a' is not a number, as in the training rows"),
        ([1.0] * 7 + [np.inf] * 293, "row 1007, column hour: infinity is no number"),
    ],
)
def test_a_cell_that_is_no_number_is_named(fitted, frame, cells, wrong):
    with pytest.raises(ValueError, match=f"^{wrong}$"):
        fitted.score_samples(frame.set_axis(range(1000, 1300)).assign(hour=cells))


def test_infinity_in_training_is_named(frame):
    cells = frame.to_numpy(copy=True)
    cells[7, 1] = -np.inf
    with pytest.raises(ValueError, match=r"^row 7, column x1: infinity is no number$"):
        VAEDetector().fit(cells)


def test_numbers_as_text_and_sparse_columns_are_numbers(fitted, frame):
    scores = fitted.score_samples(frame)
    for rows in (frame.astype(str), frame.astype(pd.SparseDtype(float, 0.0)), frame.astype({"hour": str})):
        assert_same(fitted.score_samples(rows), scores)
    sparse = VAEDetector(**SMALL, num_models=2, validation_share=0.4).fit(frame.astype(pd.SparseDtype(float, 0.0)))
    assert_same(sparse.score_samples(frame), scores)


@pytest.mark.filterwarnings("ignore:gaps in columns")
def test_rows_without_any_cell_are_told(fitted, frame):
    rows = frame.head(3).copy()
    rows.iloc[1] = np.nan
    with pytest.warns(UserWarning, match=r"^no cell is given in 1 row, first in row 1; the score, 0, tells nothing$"):
        assert fitted.score_samples(rows)[1] == 0
    with pytest.warns(UserWarning, match="no cell"):
        ((reason,),) = fitted.reasons(rows.iloc[[1]], strongest=1)
    assert reason == "amount is missing: 0.0 nats"


def test_reasons_need_a_fitted_detector_and_a_number_of_cells(fitted, frame):
    with pytest.raises(NotFittedError):
        VAEDetector().reasons(frame)
    for strongest in (-1, 1.5):
        with pytest.raises(ValueError, match=f"^strongest={strongest}: expected a whole number, 0 or more$"):
            fitted.reasons(frame, strongest=strongest)


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize(("rows", "contamination", "anomalies"), [(2, 0.5, 1), (3, 0.1, 1), (10, 0.5, 5)])
def test_contamination_of_a_few_rows(rows, contamination, anomalies):
    detector = VAEDetector(epochs=2, hidden_dims=(6,), contamination=contamination).fit(correlated(rows))
    assert detector.labels_.sum() == anomalies
    assert np.isfinite(detector.decision_scores_).all()


def test_a_single_held_out_row_is_no_collapse():
    frame = correlated(12)
    assert VAEDetector(hidden_dims=(8,), num_models=1, epochs=300).fit(frame).active_latents_ > 0


@pytest.mark.parametrize("dtype", [float, int])
def test_cells_that_numpy_masks_are_gaps(dtype, rng):
    rows = (100 * rng.normal(size=(60, 2))).astype(dtype)
    mask = np.zeros(rows.shape, bool)
    mask[::9, 1] = True
    masked, missing = np.ma.masked_array(rows, mask), np.where(mask, np.nan, rows)
    for train in (rows, masked):
        detector = VAEDetector(**{**SMALL, "epochs": 1}).fit(train)
        assert (detector.schema_ is None) == (train is rows)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of gaps in columns that had none
            np.testing.assert_array_equal(detector.score_samples(masked), detector.score_samples(missing))


@pytest.mark.parametrize("recipe", ["exemplar", "gaussian"])
def test_training_does_not_go_on_with_gaps_that_the_models_do_not_know(recipe, rng):
    rows = rng.normal(size=(60, 2))
    detector = VAEDetector(recipe, epochs=1, hidden_dims=(4,)).fit(rows)
    before = detector.score_samples(rows)
    rows[7, 1] = np.nan
    with pytest.raises(ValueError, match=r"^gaps in columns that had none in training: x1 \(1 row\)"):
        detector.partial_fit(rows)
    np.testing.assert_array_equal(detector.score_samples(rows[:7]), before[:7])


def test_ctrl_c_ends_a_fit_at_once(rng, monkeypatch):
    """Else it would go on for an hour."""
    detector = VAEDetector(num_models=2, hidden_dims=(6,), epochs=1_000_000)
    monkeypatch.setattr(exemplar, "_compile_scoring", lambda *_: os.kill(os.getpid(), signal.SIGINT))
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # a script's background jobs ignore the signal
    try:
        with pytest.raises(KeyboardInterrupt):
            detector.fit(rng.normal(size=(200, 3)))
    finally:
        signal.signal(signal.SIGINT, before)
    assert not hasattr(detector, "offset_")


def test_ctrl_c_in_the_second_fit_with_contamination_leaves_no_model_behind(frame):
    """That of the first fit has learned from the anomalies, and has another boundary."""
    records = []

    def interrupt(record):
        records.append(record)
        if len(records) == 4:
            raise KeyboardInterrupt

    detector = VAEDetector(**{**SMALL, "epochs": 3}, contamination=0.1, callback=interrupt)
    with pytest.raises(KeyboardInterrupt):
        detector.fit(frame)
    assert not {"state_", "offset_"} & vars(detector).keys()


def test_random_state_is_the_seed_of_adopted_models_too(frame):
    fitted = VAEDetector(**{**SMALL, "epochs": 1}, recipe="gaussian", random_state=3).fit(frame)
    adopted = VAEDetector(**{**SMALL, "epochs": 1}, recipe="gaussian", random_state=3)
    adopted.describe_features(fitted.features_)
    state = fitted._train_state(fitted.settings_)
    adopted.adopt(state, fitted.scaler_.transform(frame.to_numpy()), np.zeros(len(frame), int))
    np.testing.assert_array_equal(adopted.score_samples(frame), fitted.score_samples(frame))


@pytest.mark.parametrize("recipe", ["exemplar", "gaussian"])
def test_ctrl_c_in_partial_fit_leaves_the_detector_as_it_was(recipe, rng, monkeypatch):
    rows = rng.normal(size=(60, 2))
    detector = VAEDetector(recipe, epochs=1, hidden_dims=(4,)).fit(rows)
    before = detector.score_samples(rows)

    def interrupt(*args, **options):
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(recipes, "posterior_means", interrupt)  # parameters are new by then
        with pytest.raises(KeyboardInterrupt):
            detector.partial_fit(rows + 1)
    np.testing.assert_array_equal(detector.score_samples(rows), before)
    assert (detector.partial_fit(rows + 1).score_samples(rows) != before).any()


def test_other_data_of_the_same_shape_need_no_compilation(fitted):
    from helpers import compilations

    before = compilations()
    clone(fitted).fit(correlated(300, seed=3))
    assert compilations() == before


# On one device, with batches divided among four, and with a model on each.
@pytest.mark.parametrize(("recipe", "num_models"), [("gaussian", 1), ("report", 3), ("gaussian", 4)])
def test_a_short_training_is_a_long_one_but_for_its_program(monkeypatch, recipe, num_models):
    rows = correlated(200)
    short = VAEDetector(**SMALL, recipe=recipe, num_models=num_models).fit(rows)
    monkeypatch.setattr(passes, "SHORT", 0)
    long = VAEDetector(**SMALL, recipe=recipe, num_models=num_models).fit(rows)
    np.testing.assert_allclose(short.score_samples(rows), long.score_samples(rows), rtol=1e-3, atol=1e-3)


def test_a_batch_that_not_all_devices_can_share():
    detector = VAEDetector(**{**SMALL, "batch_size": 30}, recipe="gaussian").fit(correlated(100))  # three of the four
    assert np.isfinite(detector.score_samples(correlated(10))).all()


def test_in_a_pipeline_a_grid_search_and_cross_validation(frame):
    labels = np.zeros(len(frame), int)
    odd = frame.copy()
    odd.loc[::20, "distance"] *= -1  # no longer goes with the others
    labels[::20] = 1

    def ranks_frauds(detector, x, y):
        return average_precision_score(y, -detector.score_samples(x))

    pipeline = make_pipeline(RobustScaler(), VAEDetector(**SMALL))
    assert pipeline.fit(odd).predict(odd).shape == (300,)
    assert (
        cross_val_score(VAEDetector(**SMALL, recipe="gaussian"), odd, labels, scoring=ranks_frauds, cv=2) > 0.2
    ).all()
    search = GridSearchCV(VAEDetector(**SMALL), {"latent_dim": [1, 2]}, scoring=ranks_frauds, cv=2)
    assert search.fit(odd, labels).best_params_["latent_dim"] in (1, 2)


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("recipe", "other"),
        ("hidden_dims", (0,)),
        ("latent_dim", 0),
        ("epochs", 0),
        ("batch_size", -1),
        ("learning_rate", 0.0),
        ("kl_warmup", 1.5),
        ("input_noise", -1.0),
        ("boundary", "guess"),
        ("boundary", "best-f1"),
        ("false_alarm_rate", 0.0),
        ("validation_share", 1.0),
        ("patience", 0),
        ("num_samples", 0),
        ("seed", -1),
        ("seed", None),
        ("hidden_dims", 8),
        ("hidden_dims", (2.5,)),
        ("epochs", 2.5),
        ("num_samples", "10"),
        ("learning_rate", "fast"),
        ("columns", ["amount"]),
        ("columns", "amount"),
        ("columns", {"amount": "money"}),
    ],
)
def test_an_option_that_can_not_be_used_is_named(frame, option, value):
    with pytest.raises(ValueError, match=f"^{option}=.*: expected ") as refused:
        VAEDetector(**{option: value}).fit(frame)
    assert "\n" not in str(refused.value)


def test_a_loss_that_is_not_finite_ends_the_fit(frame):
    with pytest.raises(ValueError, match="the reconstruction is not finite in epoch"):
        VAEDetector(**{**SMALL, "learning_rate": 1e30}).fit(frame)


def test_arguments_are_the_settings_and_a_callback():
    arguments = inspect.signature(VAEDetector).parameters
    defaults = {name: argument.default for name, argument in arguments.items()}
    assert defaults == {
        **{field.name: field.default for field in dataclasses.fields(Settings)},
        "random_state": None,
        "callback": None,
    }


def test_scores_do_not_depend_on_the_units_however_extreme(frame):
    # Powers of two, about 1e298 and 1e-298, by which no digit changes: the scores are the same to the bit.
    units = np.ldexp(1.0, [0, 990, -990])
    options = {**SMALL, "epochs": 3}
    expected = VAEDetector(**options).fit(frame).score_samples(frame)
    assert_same(VAEDetector(**options).fit(frame * units).score_samples(frame * units), expected)


def test_opposite_ends_of_float64_in_a_column_are_no_infinity():
    x = correlated(60).to_numpy(copy=True)
    x[:, 1] = np.where(np.arange(60) % 2, 1.7e308, -1.7e308)
    scores = VAEDetector(**{**SMALL, "epochs": 1}).fit(x).score_samples(x)
    assert np.isfinite(scores).all()


def test_scores_come_from_the_fitted_settings_whatever_is_set_later(frame):
    detector = VAEDetector(**{**SMALL, "epochs": 2}).fit(frame)
    scores, explained = detector.score_samples(frame), detector.explain(frame)
    detector.set_params(latent_dim=5, hidden_dims=(3, 3), num_models=2, num_samples=3, recipe="report", seed=9)
    assert_same(detector.score_samples(frame), scores)
    assert detector.explain(frame).equals(explained)


@pytest.mark.parametrize("change", [{"latent_dim": 5}, {"hidden_dims": (3,)}, {"recipe": "report"}, {"num_models": 2}])
def test_training_does_not_go_on_with_settings_of_other_models(frame, change):
    detector = VAEDetector(**{**SMALL, "epochs": 1}).fit(frame)
    scores = detector.score_samples(frame)
    (name,) = change
    with pytest.raises(ValueError, match=f"^{name}=.*: expected .* `fit` trains others"):
        detector.set_params(**change).partial_fit(frame)
    assert_same(detector.score_samples(frame), scores)


def test_training_goes_on_with_another_learning_rate(frame):
    detector = VAEDetector(**{**SMALL, "epochs": 1}).fit(frame)
    detector.set_params(learning_rate=0.5, batch_size=64).partial_fit(frame)
    assert detector.settings_.learning_rate == 0.5
    assert detector.n_steps_ == 270 // 32 + 270 // 64


@pytest.mark.parametrize("dates", ["datetime64[ns]", "timedelta64[ns]", "datetime64[ns, UTC]"])
def test_a_column_of_dates_or_durations_has_a_likelihood(frame, dates):
    dated = frame.assign(hour=(frame["hour"].astype("int64") * 10**12).astype(dates))
    detector = VAEDetector(**SMALL).fit(dated)
    assert detector.schema_["hour"].kind == ("real" if dates.startswith("timedelta") else "date")
    assert np.isfinite(detector.score_samples(dated)).all()


def test_without_hidden_layers_both_networks_are_linear(frame, tmp_path):
    detector = VAEDetector(**{**SMALL, "hidden_dims": ()}).fit(frame)
    assert set(detector.params_["params"]["encoder"]) == {"mean", "log_var"}
    assert set(detector.params_["params"]["decoder"]) == {"mean", "log_var"}
    odd = pd.DataFrame([[80, 5, -200]], columns=FEATURES)
    assert detector.predict(odd) == [-1]
    detector.save(tmp_path / "model")
    assert_same(VAEDetector.load(tmp_path / "model").score_samples(frame), detector.score_samples(frame))


def test_no_rows_have_no_scores(fitted, frame):
    none = frame.head(0)
    for of_rows in (fitted.score_samples, fitted.expected_log_prob, fitted.decision_function, fitted.predict):
        assert of_rows(none).shape == (0,)
    assert fitted.score_samples(none).dtype == np.float64
    assert fitted.explain(none).shape == (0, 3)


FORKED = """
import os, warnings
import numpy as np
from vae_jax import VAEDetector
warnings.simplefilter("ignore")  # JAX warns of the fork, too
x = np.random.default_rng(0).normal(size=(50, 3))
detector = VAEDetector(hidden_dims=(4,), num_samples=8, epochs=1).fit(x)
for method in ("score_samples", "fit", "partial_fit"):
    child = os.fork()
    if child == 0:
        try:
            getattr(detector, method)(x)
        except RuntimeError as error:
            print(error, flush=True)
            os._exit(3)
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 3, method
"""


def test_a_forked_child_gets_an_error_instead_of_hanging():
    environment = os.environ | {"PYTHONPATH": str(ROOT), "JAX_PLATFORMS": "cpu"}
    command = [sys.executable, "-c", FORKED]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=100)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("get_context('spawn')") == 3


def test_real_frauds_are_found(real_transactions):
    frame = pd.read_csv(real_transactions).drop(columns="Time")
    labels = frame.pop("Class").to_numpy()
    genuine = frame[labels == 0]
    detector = VAEDetector(epochs=10, kl_warmup=0.2).fit(genuine.iloc[::2])
    rows = np.concatenate([np.flatnonzero(labels == 0)[1::2][:5_000], np.flatnonzero(labels == 1)])
    precision = average_precision_score(labels[rows], -detector.score_samples(frame.iloc[rows]))
    assert precision > 0.8  # by chance: 0.09
