"""Whether training has stayed finite."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np

from vae_jax.training.state import TrainState

if TYPE_CHECKING:
    from jaxtyping import Array, Bool

TERMS = ("reconstruction", "kl", "loss")


def first_not_finite(info: Mapping[str, Any]) -> tuple[int, str] | None:
    """Finds the first step with a term that is NaN or infinite.

    Args:
      info: the info of each step, as `train_steps` returns it: arrays of shape (..., steps).

    Returns:
      The step, counted from 0, and the first such term of it: reconstruction, kl or loss; None if all are finite.
    """
    failures = {term: ~np.isfinite(np.asarray(info[term])) for term in TERMS if term in info}
    first = {term: int(np.argmax(failed.reshape(-1, failed.shape[-1]).any(0))) for term, failed in failures.items()}
    return min(
        ((first[term], term) for term in failures if failures[term].any()), key=lambda failure: failure[0], default=None
    )


@jax.jit
def is_finite(state: TrainState) -> Bool[Array, ""]:
    """Whether all parameters and all numbers of the optimiser's state are finite."""
    leaves = jax.tree.leaves((state.params, state.opt_state))
    numbers = [leaf for leaf in leaves if jnp.issubdtype(leaf.dtype, jnp.inexact)]
    return jnp.all(jnp.array([jnp.isfinite(leaf).all() for leaf in numbers]))
