"""Functions applied to many rows, a chunk at a time, so that memory does not grow with the rows."""

from __future__ import annotations

from collections.abc import Callable
from operator import itemgetter
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np


def in_chunks(function: Callable[..., Any], *arrays: np.ndarray, size: int) -> Any:
    """Applies a compiled function, from the host, to `size` rows at a time, and concatenates the results, a tree."""
    found = []
    for start in range(0, max(len(arrays[0]), 1), size):  # once where there are no rows, for the shapes
        taken = [array[start : start + size] for array in arrays]
        count = len(taken[0])
        # The last chunk is padded, so that one program serves all.
        filled = [np.concatenate([rows, np.zeros((size - count, *rows.shape[1:]), rows.dtype)]) for rows in taken]
        found.append(jax.tree.map(itemgetter(slice(count)), jax.device_get(function(*filled))))
    return jax.tree.map(lambda *leaves: np.concatenate(leaves), *found)


def map_chunks(function: Callable[[Any], Any], rows: Any, chunk: int) -> Any:
    """Applies a function, within a program, to chunks of rows, the last one padded: other shapes could reorder sums."""
    count = jax.tree.leaves(rows)[0].shape[0]

    def cut(array: jax.Array) -> jax.Array:
        filled = jnp.pad(array, [(0, -count % chunk)] + [(0, 0)] * (array.ndim - 1))
        return filled.reshape(-1, chunk, *array.shape[1:])

    results = jax.lax.map(function, jax.tree.map(cut, rows))
    return jax.tree.map(lambda array: array.reshape(-1, *array.shape[2:])[:count], results)
