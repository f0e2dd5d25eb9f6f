"""A compiled function applied to many rows, a chunk at a time, from the host: memory does not grow with the rows."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import numpy as np


def in_chunks(function: Callable[..., Any], *arrays: np.ndarray, size: int) -> Any:
    """Applies a function to the rows of arrays, `size` at a time, and concatenates the results, a tree."""
    found = []
    for start in range(0, len(arrays[0]), size):
        taken = [array[start : start + size] for array in arrays]
        count = len(taken[0])
        # The last chunk is padded with its first row, so that one program serves all.
        filled = [np.concatenate([rows, np.repeat(rows[:1], size - count, axis=0)]) for rows in taken]
        found.append(jax.tree.map(lambda leaf: leaf[:count], jax.device_get(function(*filled))))  # noqa: B023 (at once)
    return jax.tree.map(lambda *leaves: np.concatenate(leaves), *found)
