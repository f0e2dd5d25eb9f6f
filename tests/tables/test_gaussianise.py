"""Heavy-tailed features made Gaussian."""

import numpy as np
import pytest
from sklearn import config_context
from sklearn.preprocessing import QuantileTransformer

from vae_jax.tables.gaussianise import Gaussianiser


@pytest.fixture
def rows(rng) -> np.ndarray:
    """A Gaussian, a uniform, a log-normal and a mostly zero feature."""
    zeros = np.where(rng.random(2_000) < 0.9, 0.0, rng.exponential(size=2_000))
    x = np.stack([rng.normal(size=2_000), rng.uniform(size=2_000), np.exp(2 * rng.normal(size=2_000)), zeros], axis=1)
    return ((x - x.mean(0)) / x.std(0)).astype(np.float32)


def test_heavy_tails_are_mapped_and_the_others_kept(rows):
    gaussianiser = Gaussianiser.fit(rows)
    assert gaussianiser.heavy.tolist() == [False, False, True, True]
    found = gaussianiser.transform(rows)
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found[:, :2], rows[:, :2])
    np.testing.assert_allclose(found[:, 2:].mean(0), 0, atol=1e-5)
    np.testing.assert_allclose(found[:, 2:].std(0), 1, atol=1e-5)
    order = np.argsort(rows[:, 2])
    assert (np.diff(found[order, 2]) >= 0).all()


def test_within_training_it_is_scikit_learns_map(rows):
    theirs = QuantileTransformer(n_quantiles=500, subsample=None, output_distribution="normal")
    expected = theirs.fit_transform(rows[:, 2:].astype(np.float64))
    expected = (expected - expected.mean(0)) / expected.std(0)
    np.testing.assert_allclose(Gaussianiser.fit(rows).transform(rows)[:, 2:], expected, atol=1e-4)


def test_values_beyond_training_stay_apart(rows):
    gaussianiser = Gaussianiser.fit(rows)
    beyond = np.repeat(rows[:1], 3, axis=0)
    beyond[:, 2] = rows[:, 2].max() + np.array([0, 1, 5])
    found = gaussianiser.transform(beyond)[:, 2]
    np.testing.assert_allclose(np.diff(found) * gaussianiser.sd[0], [1, 4], rtol=1e-4)


@pytest.mark.parametrize("output", ["pandas", "polars"])
def test_frames_as_output_of_scikit_learns_transformers_change_nothing(rows, output):
    expected = Gaussianiser.fit(rows).transform(rows)
    with config_context(transform_output=output):
        np.testing.assert_array_equal(Gaussianiser.fit(rows).transform(rows), expected)


def test_gaps_stay_gaps_and_no_rows_are_fine(rows):
    gaussianiser = Gaussianiser.fit(rows)
    gap = rows[:2].copy()
    gap[0, 3] = np.nan
    found = gaussianiser.transform(gap)
    assert np.isnan(found[0, 3])
    np.testing.assert_array_equal(found[1], gaussianiser.transform(rows[1:2])[0])
    assert gaussianiser.transform(rows[:0]).shape == (0, 4)


def test_without_heavy_tails_nothing_changes(rng):
    rows = rng.normal(size=(100, 2)).astype(np.float32)
    np.testing.assert_array_equal(Gaussianiser.fit(rows).transform(rows), rows)
