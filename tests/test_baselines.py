import numpy as np
import pytest

from experiments.baselines import BASELINES, score_baselines

TYPICAL = 50


@pytest.fixture
def train(rng) -> np.ndarray:
    """300 rows of 6 correlated features."""
    mix = np.eye(6) + 0.3 * rng.normal(size=(6, 6))
    return (rng.normal(size=(300, 6)) @ mix).astype(np.float32)


@pytest.fixture
def rows(train) -> np.ndarray:
    """Rows like those of training, and last an outlier in every direction."""
    outlier = 20 * np.array([[1, -1, 1, 1, -1, 1]], dtype=np.float32)
    return np.concatenate([train[:TYPICAL], outlier])


def test_names(train, rows):
    assert list(score_baselines(train, rows, 0)) == ["mahalanobis", "pca", "isolation_forest", "gaussian_mixture"]


@pytest.mark.parametrize("name", BASELINES)
def test_an_obvious_outlier_scores_lowest(train, rows, name):
    scores = np.asarray(BASELINES[name](train, 0)(rows))
    assert scores.shape == (TYPICAL + 1,)
    assert scores.argmin() == TYPICAL


def test_scores_are_finite_float64(train, rows):
    for scores in score_baselines(train, rows, 0).values():
        assert scores.dtype == np.float64
        assert scores.shape == (len(rows),)
        assert np.isfinite(scores).all()


def test_scores_follow_the_seed(train, rows):
    first, again, other = (score_baselines(train, rows, seed) for seed in (0, 0, 1))
    for name in BASELINES:
        np.testing.assert_array_equal(first[name], again[name])
    assert (first["isolation_forest"] != other["isolation_forest"]).any()


def test_a_row_scores_the_same_whatever_rows_are_beside_it(train, rows):
    whole, last = score_baselines(train, rows, 0), score_baselines(train, rows[-1:], 0)
    for name in BASELINES:
        np.testing.assert_allclose(last[name], whole[name][-1:], rtol=1e-9)


def test_mahalanobis_by_hand():
    # Mean 0 and covariance diag(1, 4).
    train = np.array([[1.0, 2.0], [1.0, -2.0], [-1.0, 2.0], [-1.0, -2.0]])
    np.testing.assert_allclose(BASELINES["mahalanobis"](train, 0)(np.array([[3.0, 4.0]])), [-(9 + 4)])


def test_pca_by_hand():
    # Of three directions the one of greatest variance is kept; the error is what lies in the other two.
    train = np.array([[9.0, 0, 0], [-9.0, 0, 0], [0, 2.0, 0], [0, -2.0, 0], [0, 0, 1.0], [0, 0, -1.0]])
    np.testing.assert_allclose(BASELINES["pca"](train, 0)(np.array([[5.0, 3.0, 4.0]])), [-(9 + 16)])


def test_a_constant_feature_breaks_none(train, rows):
    train[:, 3] = 0
    rows[:TYPICAL, 3] = 0
    for name, scores in score_baselines(train, rows, 0).items():
        assert np.isfinite(scores).all(), name
        assert scores.argmin() == TYPICAL, name


@pytest.mark.parametrize("count", [2, 3, 5])
def test_fewer_rows_than_components_breaks_none(train, rows, count):
    for name, scores in score_baselines(train[:count], rows, 0).items():
        assert np.isfinite(scores).all(), name


@pytest.mark.parametrize("features", [1, 2])
def test_few_features_break_none(train, rows, features):
    for name, scores in score_baselines(train[:, :features], rows[:, :features], 0).items():
        assert np.isfinite(scores).all(), name
