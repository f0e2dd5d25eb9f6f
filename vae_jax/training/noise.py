"""Noise that does not depend on the number of devices: each draws its own rows of one draw for all, and no others."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import TYPE_CHECKING, NamedTuple, NoReturn

import jax
import jax.numpy as jnp
from jax.extend.random import define_prng_impl, threefry2x32_p

from vae_jax.training.state import TrainState

if TYPE_CHECKING:
    from jaxtyping import Array, Float, Int, PRNGKeyArray, UInt, UInt32


class Noise(NamedTuple):
    """Draws from N(0, I) for a batch: for the latents, and for the encoder's input if the objective adds noise."""

    latent: Float[Array, "B *K L"]
    input: Float[Array, "B *event"] | None


def draw_noise(state: TrainState, key: PRNGKeyArray, batch_shape: Sequence[int], axis_name: str | None = None) -> Noise:
    """Draws the noise of one step, as `batch_noise` does, for this device's batch of shape (B, *event)."""
    local_batch, *event_shape = batch_shape
    if local_batch == 0:  # the mean loss would be NaN, and then all parameters
        raise ValueError(f"a batch of shape {tuple(batch_shape)}: expected at least one example")
    latent_key, input_key = jax.random.split(key)
    return Noise(
        batch_noise(latent_key, local_batch, state.objective.noise_shape(state.vae.latent_dim), axis_name),
        batch_noise(input_key, local_batch, event_shape, axis_name) if state.objective.adds_noise else None,
    )


def batch_noise(
    key: PRNGKeyArray, local_batch: int, event_shape: Sequence[int], axis_name: str | None = None
) -> Float[Array, "B *event"]:
    """Draws N(0, I) noise from a key that all devices share: each device gets its rows of the global batch's noise."""
    if axis_name is None:
        return jax.random.normal(key, (local_batch, *event_shape))
    batch = local_batch * jax.lax.axis_size(axis_name)
    first = jax.lax.axis_index(axis_name) * local_batch
    if _has_numbered_bits(key, batch * prod(event_shape)):
        return _rows(key, first, local_batch, event_shape)
    return jax.lax.dynamic_slice_in_dim(jax.random.normal(key, (batch, *event_shape)), first, local_batch)


def _has_numbered_bits(key: PRNGKeyArray, size: int) -> bool:
    """Whether the i-th bits of a draw are a function of the key and i alone, a number of 32 bits."""
    partitionable = jax.config.jax_threefry_partitionable  # pyright: ignore[reportAttributeAccessIssue]
    return str(jax.random.key_impl(key)) == "threefry2x32" and partitionable and size < 2**32


def _rows(key: PRNGKeyArray, first: Int[Array, ""], rows: int, event_shape: Sequence[int]) -> Float[Array, "B *event"]:
    """What `jax.random.normal(key, (N, *event))[first : first + rows]` is, for any N."""
    start = first.astype(jnp.uint32) * prod(event_shape)
    data = jnp.append(jax.random.key_data(key), start)
    return jax.random.normal(jax.random.wrap_key_data(data, impl=_FROM), (rows, *event_shape))


def _bits(key: UInt32[Array, "3"], bit_width: int, shape: tuple[int, ...]) -> UInt[Array, "*shape"]:
    """The bits of a threefry key from a number on: JAX's own are the hash of the key and of 0, 1, 2, ..."""
    low = key[2] + jnp.arange(prod(shape), dtype=jnp.uint32).reshape(shape)
    first, second = threefry2x32_p.bind(key[0], key[1], jnp.zeros_like(low), low)
    if bit_width == 64:
        return first.astype(jnp.uint64) << 32 | second.astype(jnp.uint64)
    return (first ^ second).astype(f"uint{bit_width}")


def _only_drawn_from(*_) -> NoReturn:
    raise TypeError("a key that begins later can only be drawn from")


# A key with a third number, where to begin, so that the rest of `jax.random.normal` is JAX's own.
_FROM = define_prng_impl(
    key_shape=(3,),
    seed=_only_drawn_from,
    split=_only_drawn_from,
    random_bits=_bits,
    fold_in=_only_drawn_from,
    name="threefry2x32_from",
    tag="from",
)
