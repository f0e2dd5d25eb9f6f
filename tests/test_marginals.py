"""Densities and frequencies of single features, beside SciPy's."""

import numpy as np
import pytest
from scipy.stats import norm

from vae_jax.marginals import BACKGROUND_SD, Frequencies, Marginals


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


def categories(rng: np.random.Generator) -> np.ndarray:
    rows = rng.integers([3, 5], size=(200, 2)).astype(np.float32)
    rows[rng.random(rows.shape) < 0.2] = np.nan
    return rows


def test_frequencies_are_shares_and_a_little_for_every_level(rng):
    rows, weights = categories(rng), rng.uniform(0, 2, 200)
    weights /= weights.sum()
    frequencies = Frequencies.fit(rows, weights, [3, 8])  # of 8 levels the last three are in no row
    np.testing.assert_allclose(frequencies.shares.sum(1), 1)
    given = ~np.isnan(rows[:, 1])
    share = weights[given & (rows[:, 1] == 2)].sum() / weights[given].sum()
    more = frequencies.background
    assert 1 / 201 <= more < 1 / 100
    np.testing.assert_allclose(frequencies.shares[1, 2], (1 - more) * share + more / 8)
    np.testing.assert_allclose(frequencies.shares[1, 7], more / 8)
    found = frequencies.log_prob(np.array([[np.nan, 7.0]]))
    np.testing.assert_allclose(found, [[0, np.log(more / 8)]])


def test_a_row_can_be_scored_without_itself_among_levels(rng):
    rows, weights = categories(rng), np.full(200, 1 / 200)
    frequencies = Frequencies.fit(rows, weights, [3, 5])
    own = np.array([1 / 200])
    for row in rows[~np.isnan(rows).any(1)][:3]:
        others = np.delete(rows, np.flatnonzero((rows == row).all(1))[0], 0)
        count, more = (others == row).sum(0) / (~np.isnan(others)).sum(0), frequencies.background
        expected = np.log((1 - more) * count + more / np.array([3, 5]))
        np.testing.assert_allclose(frequencies.log_prob(row[None], own)[0], expected, atol=1e-2)


def test_numbers_and_levels_side_by_side(rng):
    both = np.concatenate([rng.normal(size=(200, 1)), categories(rng)], 1).astype(np.float32)
    both[::7, 0] = np.nan
    weights = np.full(200, 1 / 200)
    found = Marginals.fit(both, weights, [3, 5]).log_density(both, weights)
    numbers = Marginals.fit(both[:, :1], weights).log_density(both[:, :1], weights)
    levels = Frequencies.fit(both[:, 1:], weights, [3, 5]).log_prob(both[:, 1:], weights)
    np.testing.assert_array_equal(found, np.concatenate([numbers, levels], 1))
    alone = Marginals.fit(both[:, 1:], weights, [3, 5])
    np.testing.assert_array_equal(alone.log_density(both[:, 1:], weights), levels)


def test_gaps_in_training_tell_nothing(rng):
    rows = rng.normal(size=(200, 1)).astype(np.float32)
    with_gaps = np.concatenate([rows, np.full((100, 1), np.nan, np.float32)])
    x = np.linspace(-2, 2, 20, dtype=np.float32)[:, None]
    marginals = Marginals.fit(with_gaps, np.full(300, 1 / 300))
    of_given = expected(rows, np.full(200, 1 / 200), x, marginals)
    np.testing.assert_allclose(marginals.log_density(x), of_given, atol=0.02)
