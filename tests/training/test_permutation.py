"""The permutation is one to one at every size, depends on its key alone, and is as random as a shuffle."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vae_jax.training.permutation import random_permutation

pytestmark = pytest.mark.usefixtures("compiled_well")

draw = random_permutation
KEYS = jax.random.split(jax.random.key(3), 24_000)


@pytest.mark.parametrize("size", [1, 2, 12, 1000])
def test_every_number_comes_once(size):
    assert sorted(draw(jax.random.key(0), size).tolist()) == list(range(size))


def test_the_key_decides():
    first = draw(jax.random.key(0), 1000)
    assert first.dtype == jnp.int32
    np.testing.assert_array_equal(first, draw(jax.random.key(0), 1000))
    # Two random permutations agree in one place on average.
    assert (first == draw(jax.random.key(1), 1000)).sum() < 10


@pytest.fixture(scope="module")
def many():
    """Permutations of 12 numbers by 24,000 keys."""
    return np.asarray(jax.jit(jax.vmap(lambda key: random_permutation(key, 12)))(KEYS))


def test_under_vmap_it_is_that_of_each_key(many):
    for i in (0, 1, 100):
        np.testing.assert_array_equal(many[i], draw(KEYS[i], 12))


def chi_square_is_plausible(counts, expected):
    """Whether counts of independent draws differ from what is expected by no more than 5 standard deviations."""
    freedom = counts.size - 1
    return abs(np.square(counts - expected).sum() / expected - freedom) < 5 * np.sqrt(2 * freedom)


def test_every_number_is_as_often_in_every_place(many):
    counts = np.array([np.bincount(place, minlength=12) for place in many.T])
    for place in counts:
        assert chi_square_is_plausible(place, len(many) / 12)


def test_every_pair_of_neighbours_is_as_frequent(many):
    pairs = np.bincount(many[:, 4] * 12 + many[:, 5], minlength=144).reshape(12, 12)
    assert np.trace(pairs) == 0
    assert chi_square_is_plausible(pairs[~np.eye(12, dtype=bool)], len(many) / 132)


def test_even_and_odd_permutations_are_as_frequent(many):
    # A single move along an axis has a parity of its own; six of them must not.
    inversions = sum((many[:, [i]] > many[:, i + 1 :]).sum(1) for i in range(11))
    assert abs((inversions % 2).mean() - 0.5) < 5 * 0.5 / np.sqrt(len(many))


def test_numbers_that_were_close_are_not_close_afterwards():
    # The distance between two places drawn at random is a third of the length on average.
    size = 10_000
    place = np.argsort(draw(jax.random.key(4), size))
    for step in (1, 2, 99, 100, 101):  # 100 is the table's width
        distance = np.abs(place[step:] - place[:-step]).mean() / size
        assert abs(distance - 1 / 3) < 5 * np.sqrt(1 / 18 / size)
