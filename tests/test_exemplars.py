"""Densities under kernels at training rows, beside SciPy's."""

import numpy as np
import pytest
from helpers import random_params
from scipy.special import logsumexp
from scipy.stats import norm

from vae_jax import exemplars
from vae_jax.exemplars import Kernels, log_densities, log_density, reconstruct, shares
from vae_jax.networks import dense_vae


@pytest.fixture
def kernels(rng) -> Kernels:
    weights = rng.uniform(0.5, 1.5, 150)
    return Kernels(
        rng.normal(size=(150, 3)).astype(np.float32),
        rng.uniform(-2, 1, (150, 3)).astype(np.float32),
        np.log(weights / weights.sum()).astype(np.float32),
    )


@pytest.fixture(autouse=True)
def several_blocks(monkeypatch):
    monkeypatch.setattr(exemplars, "EXEMPLARS_AT_ONCE", 64)
    monkeypatch.setattr(exemplars, "ROWS_AT_ONCE", 16)


def of_features(kernels: Kernels, rows: np.ndarray) -> np.ndarray:
    """Log densities of each feature under each kernel, shape (N, E, D), 0 for gaps."""
    sd = np.exp(kernels.log_var.astype(np.float64) / 2)
    return np.nan_to_num(norm.logpdf(rows[:, None].astype(np.float64), kernels.centres, sd))


@pytest.mark.parametrize("gaps", [False, True])
def test_densities_and_shares_are_scipys(kernels, rng, gaps):
    rows = (2 * rng.normal(size=(200, 3))).astype(np.float32)
    if gaps:
        rows[rng.random(rows.shape) < 0.3] = np.nan
    each = of_features(kernels, rows)
    joint = each.sum(-1) + kernels.log_weights
    expected = logsumexp(joint, axis=1)
    np.testing.assert_allclose(log_density(kernels, rows), expected, atol=1e-4)
    without_each = logsumexp(joint[..., None] - each, axis=1)
    np.testing.assert_allclose(shares(kernels, rows), expected[:, None] - without_each, atol=1e-5, rtol=1e-6)


def test_shares_of_a_narrow_kernel_far_from_zero_keep_their_digits():
    centres, log_var = np.full((1, 1), 50, np.float32), np.full((1, 1), np.log(0.01), np.float32)
    narrow = Kernels(centres, log_var, np.zeros(1, np.float32))
    rows = np.array([[50.0], [50.05], [49.9]], np.float32)
    np.testing.assert_allclose(shares(narrow, rows), norm.logpdf(rows.astype(np.float64), 50, 0.1), atol=1e-4)


def test_shares_keep_their_digits_beside_a_feature_that_is_far_away(kernels):
    rows = np.array([[1e5, 0.3, -0.2]], np.float32)
    each = of_features(kernels, rows)
    nearest = (each.sum(-1) + kernels.log_weights).argmax()  # by the first feature, so far ahead that it counts alone
    np.testing.assert_allclose(shares(kernels, rows)[0, 1:], each[0, nearest, 1:], rtol=1e-5)


def test_a_row_that_is_an_exemplar_can_be_scored_without_itself(kernels):
    own = np.array([-1, 3, 100])
    rows = kernels.centres[[3, 3, 100]]
    joint = of_features(kernels, rows).sum(-1) + kernels.log_weights
    for row, mine in ((1, 3), (2, 100)):
        rest = np.delete(joint[row], mine)
        expected = logsumexp(rest) - np.log(np.delete(np.exp(kernels.log_weights), mine).sum())
        np.testing.assert_allclose(log_density(kernels, rows, own)[row], expected, atol=1e-4)
    np.testing.assert_allclose(log_density(kernels, rows, own)[0], logsumexp(joint[0]), atol=1e-4)


def test_gaps_elsewhere_change_no_bit(kernels, rng):
    rows = rng.normal(size=(20, 3)).astype(np.float32)
    with_gap = np.concatenate([rows, np.full((1, 3), np.nan, np.float32)])
    found = log_density(kernels, with_gap)
    np.testing.assert_array_equal(found[:-1], log_density(kernels, rows))
    np.testing.assert_allclose(found[-1], 0, atol=1e-5)  # of a row of gaps nothing is known


def test_far_rows_have_finite_densities(kernels):
    far = np.full((1, 3), 1e3, np.float32)
    assert -1e8 < log_density(kernels, far)[0] < -1e4


def test_no_rows_have_no_densities(kernels):
    assert log_density(kernels, np.zeros((0, 3), np.float32)).shape == (0,)
    assert shares(kernels, np.zeros((0, 3), np.float32)).shape == (0, 3)


def test_no_rows_have_no_reconstructions():
    vae = dense_vae(3, (4,), learned_variance=True)
    params = random_params(vae, 3)
    means, log_var = reconstruct(vae, params, np.zeros((0, 3), np.float32), np.zeros((0, 2), np.float32))
    assert (means.shape, log_var.shape) == ((0, 2), (0, 3))


def test_the_error_far_from_zero_is_that_of_the_docstring(rng):
    for distance in (1e2, 1e3, 1e4):  # in standard deviations
        centres = np.float32(distance * 0.1 * rng.uniform(0.9, 1.1, (50, 1)))
        narrow = Kernels(centres, np.full((50, 1), np.log(0.01), np.float32), np.full(50, -np.log(50), np.float32))
        rows = centres + np.float32(0.1)
        each = norm.logpdf(rows.astype(np.float64), centres[:, 0].astype(np.float64), 0.1)
        error = abs(log_density(narrow, rows) - logsumexp(each, axis=1) + np.log(50))
        assert error.max() < 3e-7 * distance**2


def test_widened_kernels_are_wider(kernels):
    np.testing.assert_allclose(kernels.widened(2.0).log_var, kernels.log_var + np.log(4), rtol=1e-6)


def test_bandwidths_widen_the_kernels(kernels, rng):
    rows = rng.normal(size=(40, 3)).astype(np.float32)
    rows[::4, 1] = np.nan
    found = log_densities(kernels, (0.5, 2.0), rows)
    for bandwidth, log_density_then in zip((0.5, 2.0), found, strict=True):
        np.testing.assert_allclose(log_density_then, log_density(kernels.widened(bandwidth), rows), atol=1e-3)
