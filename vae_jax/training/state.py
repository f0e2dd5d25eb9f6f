"""The training state of a model, and the keys of its random numbers.

Every random number is a function of (run key, stream name, step), never of how often something was called. A run can
therefore be stopped anywhere, saved, and resumed with exactly the same result.
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import optax
from flax import struct

from vae_jax.networks import VAE

if TYPE_CHECKING:
    from jaxtyping import Array, Int, PRNGKeyArray


class TrainState(struct.PyTreeNode):
    """Everything that changes in training, and the three static objects that define the training.

    Attributes:
      step: number of optimiser steps taken, int32 scalar.
      params: the VAE's parameters.
      opt_state: the optimiser's state.
      key: the run's key; never consumed, only folded with a stream and a step.
      vae: the module (static).
      objective: the loss, an [`Objective`][] or a [`SampledBound`][] (static).
      optimizer: the optax transformation (static).

    Examples:
      >>> import jax
      >>> import optax
      >>> import vae_jax
      >>> vae = vae_jax.dense_vae(feature_dim=3, hidden_dims=(8,))
      >>> state = vae_jax.create_train_state(jax.random.key(0), vae, vae_jax.Objective(), optax.adam(1e-3), (3,))
      >>> int(state.step), int(state.replace(step=state.step + 1).step)
      (0, 1)
    """

    step: Int[Array, ""]
    params: Any
    opt_state: Any
    key: PRNGKeyArray
    vae: VAE = struct.field(pytree_node=False)
    objective: Any = struct.field(pytree_node=False)
    optimizer: optax.GradientTransformation = struct.field(pytree_node=False)


def stream_key(key: PRNGKeyArray, stream: str, step: int | Int[Array, ""] = 0) -> PRNGKeyArray:
    """Derives the key for one use of randomness.

    Args:
      key: the run's key.
      stream: what the numbers are for, e.g. "noise".
      step: the step or epoch they are for.

    Returns:
      A key that depends only on these three.

    Examples:
      >>> import jax
      >>> import vae_jax
      >>> key = jax.random.key(0)
      >>> bool(vae_jax.stream_key(key, "noise", 7) == vae_jax.stream_key(key, "noise", 7))
      True
      >>> bool(vae_jax.stream_key(key, "noise", 7) == vae_jax.stream_key(key, "shuffle", 7))
      False
    """
    # crc32, because Python salts hash() differently in each process.
    return jax.random.fold_in(jax.random.fold_in(key, zlib.crc32(stream.encode())), step)


def create_train_state(
    key: PRNGKeyArray,
    vae: VAE,
    objective: Any,
    optimizer: optax.GradientTransformation,
    event_shape: Sequence[int],
) -> TrainState:
    """Initialises a model and its optimiser.

    Args:
      key: the run's key; equal keys give equal states.
      vae: the module.
      objective: the loss, an [`Objective`][] or a [`SampledBound`][].
      optimizer: the optax transformation.
      event_shape: shape of one example, e.g. (29,).

    Returns:
      The state at step 0.

    Examples:
      >>> import jax
      >>> import optax
      >>> import vae_jax
      >>> vae = vae_jax.dense_vae(feature_dim=3, hidden_dims=(8,), learned_variance=True)
      >>> objective = vae_jax.Objective(vae_jax.gaussian)
      >>> state = vae_jax.create_train_state(jax.random.key(0), vae, objective, optax.nadam(1e-3), event_shape=(3,))
      >>> int(state.step)
      0
    """
    params = _init(vae, stream_key(key, "init"), tuple(event_shape))
    return TrainState(
        step=jnp.zeros((), jnp.int32),
        params=params,
        opt_state=optimizer.init(params),
        key=jnp.copy(key),  # a step that the state is donated to would delete the caller's
        vae=vae,
        objective=objective,
        optimizer=optimizer,
    )


@partial(jax.jit, static_argnums=(0, 2))  # one program instead of dozens of small ones
def _init(vae: VAE, key: PRNGKeyArray, event_shape: tuple[int, ...]) -> Any:
    return vae.init(key, jnp.zeros((1, *event_shape)), jnp.zeros((1, vae.latent_dim)))
