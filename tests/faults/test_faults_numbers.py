"""The short form of the part `numbers` of `bash run.sh faults`."""

import math

import numpy as np
import pytest

from benchmarks.faults.numbers import extreme_inputs, is_stopped
from vae_jax.training.finite import first_not_finite

STEPS = {"the first": 0, "the last of an epoch": 5, "the second of another epoch": 7}


@pytest.mark.parametrize(
    ("place", "value", "step"),
    [
        ("data", math.nan, "the first"),
        ("data", math.inf, "the last of an epoch"),
        ("parameters", math.nan, "the second of another epoch"),
        ("optimiser's state", math.nan, "the last of an epoch"),
        ("optimiser's state", math.inf, "the second of another epoch"),
        ("gradient", math.inf, "the last of an epoch"),
    ],
)
def test_a_value_that_is_not_finite_ends_training_within_its_call(place, value, step, tmp_path):
    assert is_stopped(place, value, STEPS[step], tmp_path)


def test_an_undisturbed_run_is_not_stopped(tmp_path):
    assert not is_stopped("data", math.nan, 10_000, tmp_path)


@pytest.mark.parametrize("table", ["numbers", "mixed"])
@pytest.mark.parametrize("recipe", ["gaussian", "exemplar"])
def test_extreme_numbers_have_finite_scores(table, recipe):
    for score in list(extreme_inputs(table, recipe))[::60]:
        assert np.isfinite(score()).all()


def test_the_first_step_that_is_not_finite_is_found_by_term():
    fine = np.zeros((2, 5))
    late, early = fine.copy(), fine.copy()
    late[0, 3], early[1, 2] = np.nan, np.inf
    assert first_not_finite({"loss": fine, "reconstruction": fine, "kl": fine}) is None
    assert first_not_finite({"loss": early, "reconstruction": late, "kl": early}) == (2, "kl")
    assert first_not_finite({"loss": late, "reconstruction": late, "kl": late}) == (3, "reconstruction")
