"""Splits of transactions into training, validation and test rows."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from vae_jax.data.errors import DataError
from vae_jax.data.parts import TEST, TRAIN, TRAIN_SHARE, VALIDATION, VALIDATION_SHARE

if TYPE_CHECKING:
    from jaxtyping import Float, Int

FRAUD_VALIDATION_SHARE = 0.2


@dataclass(frozen=True)
class Split:
    """Row indices of each part, in ascending order.

    Attributes:
      train: genuine rows to train on.
      validation: genuine rows and some frauds, on which the boundary is set.
      test: the rest, without the frauds of the training period in a `time` split.

    Examples:
      >>> import numpy as np
      >>> from vae_jax.tables.splits import Split
      >>> split = Split(train=np.arange(7), validation=np.array([7]), test=np.array([8, 9]))
      >>> len(split.train), len(split.validation), len(split.test)
      (7, 1, 2)
    """

    train: Int[np.ndarray, " N"]
    validation: Int[np.ndarray, " N"]
    test: Int[np.ndarray, " N"]


def split_rows(
    features: Float[np.ndarray, "N D"],
    labels: Int[np.ndarray, " N"],
    time: Float[np.ndarray, " N"],
    how: str,
    seed: int,
) -> Split:
    """Splits a table so that equal rows fall into the same part. The shares are of distinct rows.

    - `random`: genuine rows 70/10/20 into training, validation and test; frauds 20/80 into validation and test.
    - `time`: the first 70 % of all rows, the next 10 %, the last 20 %; frauds are removed from the first.

    Args:
      features: values that decide which rows are equal, float.
      labels: 1 = fraud, 0 = genuine.
      time: sort key of the `time` split, float, seconds.
      how: `random` or `time`.
      seed: seed of the random split.

    Returns:
      The row indices of each part.

    Raises:
      DataError: if there are too few genuine rows for each part to have one, or a row has no time in a `time` split.
      ValueError: if `how` is unknown.

    Examples:
      >>> import numpy as np
      >>> from vae_jax.tables.splits import split_rows
      >>> features, labels = np.arange(100.0)[:, None], np.repeat([0, 1], [90, 10])
      >>> split = split_rows(features, labels, time=np.arange(100.0), how="random", seed=0)
      >>> len(split.train), len(split.validation), len(split.test)
      (63, 11, 26)
      >>> int(labels[split.train].sum())  # frauds to train on
      0
    """
    if how not in ("random", "time"):
        raise ValueError(f"unknown split '{how}': expected 'random' or 'time'")
    first, group = _groups(features)
    # A group with both labels counts as fraud, to keep a fraud's genuine twin out of training.
    is_fraud = np.zeros(len(first), dtype=bool)
    np.logical_or.at(is_fraud, group, labels == 1)
    part = np.full(len(first), TEST)
    if how == "random":
        rng = np.random.default_rng(seed)
        _assign(part, rng.permutation(np.flatnonzero(~is_fraud)), TRAIN_SHARE, VALIDATION_SHARE)
        _assign(part, rng.permutation(np.flatnonzero(is_fraud)), 0.0, FRAUD_VALIDATION_SHARE)
    else:
        if (missing := np.isnan(time)).any():
            raise DataError(f"--split time: row {int(missing.argmax())} has no time")
        earliest = np.full(len(first), np.inf)
        np.minimum.at(earliest, group, time)
        _assign(part, np.argsort(earliest, kind="stable"), TRAIN_SHARE, VALIDATION_SHARE)
    part = part[group]
    # In a `time` split, frauds in the training period are not used at all.
    split = Split(
        train=np.flatnonzero((part == TRAIN) & ~is_fraud[group]),
        validation=np.flatnonzero(part == VALIDATION),
        test=np.flatnonzero(part == TEST),
    )
    for name in ("train", "validation", "test"):
        if not (labels[getattr(split, name)] == 0).any():
            rows, distinct = int((labels == 0).sum()), len(np.unique(group[labels == 0]))
            which = f" ({distinct} without duplicates)" if distinct < rows else ""
            raise DataError(f"{rows} genuine rows{which} are too few: none is left for the {name} part")
    return split


def _groups(features: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Returns the first row of each group of equal rows (in file order), and each row's group."""
    import pandas as pd

    group = pd.DataFrame(features).groupby(list(range(features.shape[1])), sort=False).ngroup().to_numpy()
    return np.unique(group, return_index=True)[1], group


def _assign(part: np.ndarray, order: np.ndarray, train: float, validation: float) -> None:
    """Assigns the groups in `order` to parts, by shares."""
    train_end = round(train * len(order))
    validation_end = round((train + validation) * len(order))
    part[order[:train_end]] = TRAIN
    part[order[train_end:validation_end]] = VALIDATION
    part[order[validation_end:]] = TEST
