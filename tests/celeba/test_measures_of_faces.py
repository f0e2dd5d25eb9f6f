"""What a run of the faces experiment warns of."""

import pytest

from experiments.celeba.measures import FEW_STEPS, warnings

GOOD = {"active_latents": 7, "rmse": 0.1, "mean_picture_rmse": 0.3, "training_rmse": 0.1}


@pytest.mark.parametrize(
    ("change", "steps", "begins"),
    [
        ({}, 5000, []),
        ({"active_latents": 0}, 5000, ["POSTERIOR COLLAPSE"]),
        ({"active_latents": 0}, FEW_STEPS - 1, ["HARDLY TRAINED"]),
        ({"rmse": 0.29}, 5000, ["BLURRED TO THE MEAN", "MEMORISED"]),
        ({"rmse": 0.2}, 5000, ["MEMORISED"]),
    ],
)
def test_warnings_say_what_is_wrong(change: dict, steps: int, begins: list[str]) -> None:
    found = warnings(GOOD | change, steps)
    assert [warning.partition(":")[0] for warning in found] == begins


@pytest.mark.parametrize(("rmse", "closer"), [(0.29, "hardly closer"), (0.31, "no closer")])
def test_a_mean_picture_that_is_closer_is_not_called_farther(rmse: float, closer: str) -> None:
    blurred, *_ = warnings(GOOD | {"rmse": rmse, "mean_picture_rmse": 0.3}, 5000)
    assert f"(RMSE {rmse:.3f}) are {closer} to the held-out pictures than the mean picture is (0.300)" in blurred
