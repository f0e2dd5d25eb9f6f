"""Kernels at rows of numbers, answers, categories and gaps, term by term."""

import numpy as np
import pytest
from scipy.special import logsumexp
from scipy.stats import norm

from vae_jax import column_kernels, exemplars
from vae_jax.column_kernels import category_levels
from vae_jax.exemplars import Kernels, log_densities, shares
from vae_jax.networks import ColumnLayout

LAYOUT = ColumnLayout(numbers=2, answers=1, levels=(4, 4, 8))  # the last compared column by column
LEVELS = category_levels(LAYOUT)


@pytest.fixture(autouse=True)
def several_blocks(monkeypatch):
    monkeypatch.setattr(exemplars, "EXEMPLARS_AT_ONCE", 64)
    monkeypatch.setattr(exemplars, "ROWS_AT_ONCE", 16)
    monkeypatch.setattr(column_kernels, "MOST_ONE_HOT", 4)


@pytest.fixture
def frequencies(rng) -> list[np.ndarray]:
    return [rng.dirichlet(np.ones(levels)) for levels in LEVELS]


def drawn(rng: np.random.Generator, count: int, gaps: float) -> np.ndarray:
    rows = np.concatenate([rng.normal(size=(count, 2)), rng.integers(LEVELS, size=(count, 4))], 1).astype(np.float32)
    rows[rng.random(rows.shape) < gaps] = np.nan
    return rows


def kernels_at(rng: np.random.Generator, centres: np.ndarray, frequencies: list[np.ndarray]) -> Kernels:
    count = len(centres)
    weights = rng.uniform(0.5, 1.5, count)
    log_var = np.concatenate([rng.uniform(-2, 1, (count, 2)), rng.uniform(-1.5, 1, (count, 4))], 1)
    levels = np.nan_to_num(centres[:, 2:]).astype(int)
    own = np.stack([of[column] for of, column in zip(frequencies, levels.T, strict=True)], 1)
    log_weights = np.log(weights / weights.sum())
    return Kernels(*(of.astype(np.float32) for of in (centres, log_var, log_weights, own)), layout=LAYOUT)


def of_parts(kernels: Kernels, rows: np.ndarray, bandwidth: float, frequencies: list[np.ndarray]) -> np.ndarray:
    """Log densities of each part under each kernel, shape (N, E, P), 0 for gaps of the row."""
    rows, centres, log_vars = (of.astype(np.float64) for of in (rows, kernels.centres, kernels.log_var))
    found = np.zeros((len(rows), *centres.shape))
    for (e, p), centre in np.ndenumerate(centres):
        gap, log_var = np.isnan(centre), log_vars[e, p]
        if p < 2:
            mean, sd = (0, 1) if gap else (centre, bandwidth * np.exp(log_var / 2))
            found[:, e, p] = norm.logpdf(rows[:, p], mean, sd)
            continue
        cost = np.exp(-log_var) / bandwidth**2
        of = frequencies[p - 2]
        weights = of if gap else of * np.where(np.arange(len(of)) == centre, 1, np.exp(-cost))
        of_levels = np.log(weights / weights.sum()) - np.log(of)
        found[:, e, p] = of_levels[np.nan_to_num(rows[:, p]).astype(int)]
    return np.where(np.isnan(rows)[:, None], 0, found)


@pytest.mark.parametrize("gaps", [0.0, 0.3])
def test_densities_and_shares_are_those_of_each_kernel(rng, frequencies, gaps):
    kernels, rows = kernels_at(rng, drawn(rng, 90, gaps), frequencies), drawn(rng, 40, gaps)
    for bandwidth in (0.5, 1.0, 3.0):
        each = of_parts(kernels, rows, bandwidth, frequencies)
        joint = each.sum(-1) + kernels.log_weights
        expected = logsumexp(joint, axis=1)
        np.testing.assert_allclose(log_densities(kernels, (bandwidth,), rows)[0], expected, atol=1e-4)
        without_each = logsumexp(joint[..., None] - each, axis=1)
        found = shares(kernels.widened(bandwidth), rows)
        np.testing.assert_allclose(found, expected[:, None] - without_each, atol=1e-5)


def test_a_row_that_is_an_exemplar_can_be_scored_without_itself(rng, frequencies):
    kernels = kernels_at(rng, drawn(rng, 90, 0.1), frequencies)
    rows, own = kernels.centres[[5, 70]], np.array([5, 70])
    joint = of_parts(kernels, rows, 1.0, frequencies).sum(-1) + kernels.log_weights
    rest = [np.delete(of_row, number) for of_row, number in zip(joint, own, strict=True)]
    lost = [np.log(np.delete(np.exp(kernels.log_weights), number).sum()) for number in own]
    expected = logsumexp(rest, axis=1) - lost
    np.testing.assert_allclose(log_densities(kernels, (1.0,), rows, own)[0], expected, atol=1e-4)


def test_a_wide_kernel_has_the_tables_frequencies_and_a_narrow_one_its_own_level(rng, frequencies):
    centre = np.array([[np.nan, np.nan, 1, 3, 0, 6]], np.float32)
    kernels = kernels_at(rng, centre, frequencies)
    levels = np.repeat(centre, 8, 0)
    levels[:, 5] = np.arange(8)
    levels[:, :5] = np.nan
    wide, narrow = log_densities(kernels, (100.0, 0.1), levels)  # in units of the frequencies
    np.testing.assert_allclose(wide, 0, atol=1e-3)
    np.testing.assert_allclose(narrow[6], -np.log(frequencies[3][6]), atol=1e-4)
    assert (np.delete(narrow, 6) < -20).all()


def test_other_rows_change_no_bit(rng, frequencies):
    kernels, rows = kernels_at(rng, drawn(rng, 90, 0.1), frequencies), drawn(rng, 20, 0.2)
    found = log_densities(kernels, (0.7, 2.0), rows)
    np.testing.assert_array_equal(log_densities(kernels, (0.7, 2.0), rows[7:8]), found[:, 7:8])
    assert log_densities(kernels, (1.0,), rows[:0]).shape == (1, 0)
    assert shares(kernels, rows[:0]).shape == (0, 6)


@pytest.mark.parametrize("layout", [ColumnLayout(numbers=1), ColumnLayout(answers=2), ColumnLayout(levels=(4,))])
def test_kinds_may_be_absent(layout):
    parts, categories = layout.parts, layout.parts - layout.measured
    centre, own = np.zeros((1, parts), np.float32), np.full((1, categories), 0.5, np.float32)
    kernel = Kernels(centre, np.zeros((1, parts), np.float32), np.zeros(1, np.float32), own, layout)
    expected = norm.logpdf(0) if layout.measured else categories * (np.log(2) - np.log1p(np.exp(-1)))
    np.testing.assert_allclose(log_densities(kernel, (1.0,), centre), [[expected]], atol=1e-6)
