"""Densities of single features, beside SciPy's."""

import numpy as np
import pytest
from scipy.stats import norm

from vae_jax.marginals import BACKGROUND_SD, Marginals


@pytest.fixture
def rows(rng) -> np.ndarray:
    return np.stack([rng.normal(size=300), rng.choice([0.0, 1.0], 300)], axis=1).astype(np.float32)


def expected(rows: np.ndarray, weights: np.ndarray, x: np.ndarray, marginals: Marginals) -> np.ndarray:
    """The sums of all kernels, and the wide Gaussian."""
    kernels = norm.pdf(x[:, None].astype(np.float64), rows, marginals.bandwidth)
    density = np.einsum("ned,e->nd", kernels, weights)
    wide = norm.pdf(x, 0, BACKGROUND_SD)
    return np.log((1 - marginals.background) * density + marginals.background * wide)


def test_densities_are_those_of_all_kernels(rows, rng):
    weights = rng.uniform(0, 2, 300)
    weights /= weights.sum()
    marginals = Marginals.fit(rows, weights)
    x = (2 * rng.normal(size=(100, 2))).astype(np.float32)
    x[0] = 100  # beyond the grid
    assert 0.3 < marginals.bandwidth < 0.5
    np.testing.assert_allclose(marginals.log_density(x), expected(rows, weights, x, marginals), atol=0.02)


def test_gaps_are_left_out(rows):
    marginals = Marginals.fit(rows, np.full(300, 1 / 300))
    found = marginals.log_density(np.array([[np.nan, 0.5], [0.0, np.nan]], np.float32))
    assert found[0, 0] == found[1, 1] == 0
    assert found[0, 1] != 0


def test_a_row_can_be_scored_without_itself(rows):
    rows[7, 0] = 9.0
    weights = np.full(300, 1 / 300)
    marginals = Marginals.fit(rows, weights)
    found = marginals.log_density(rows, weights)
    others = np.delete(rows, 7, axis=0)
    np.testing.assert_allclose(found[7], expected(others, np.full(299, 1 / 299), rows[7:8], marginals)[0], atol=0.02)
    assert found[7, 0] < marginals.log_density(rows)[7, 0] - 1


def test_very_far_values_need_no_grid(rows):
    rows[7, 0] = 1e6
    marginals = Marginals.fit(rows, np.full(300, 1 / 300))
    assert marginals.densities.nbytes < 1e6
    found = marginals.log_density(np.array([[1e6, 0.0], [0.0, 0.0]], np.float32))
    assert np.isfinite(found).all()
    at_zero = expected(rows, np.full(300, 1 / 300), np.zeros((1, 2)), marginals)[0]
    np.testing.assert_allclose(found[1], at_zero, atol=0.02)
