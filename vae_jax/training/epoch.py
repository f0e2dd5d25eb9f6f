"""A whole or partial epoch as a single compiled scan."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from operator import itemgetter
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp

from vae_jax.training.noise import Noise, draw_noise
from vae_jax.training.permutation import random_permutation
from vae_jax.training.state import TrainState, stream_key
from vae_jax.training.step import step_with_noise

if TYPE_CHECKING:
    from jaxtyping import Array, Float, Int, PRNGKeyArray

# Steps whose noise is drawn at once: one is too few to draw fast, and all are too many for a CPU's cache.
NOISE_BLOCK = 8


def epoch_order(key: PRNGKeyArray, epoch: int | Int[Array, ""], num_examples: int) -> Int[Array, " N"]:
    """Draws the order in which an epoch visits the examples.

    Args:
      key: the run's key.
      epoch: epoch number, from 0.
      num_examples: number of examples N.

    Returns:
      A permutation of 0..N-1.

    Examples:
      >>> import jax
      >>> import vae_jax
      >>> order = vae_jax.epoch_order(jax.random.key(0), epoch=3, num_examples=5)
      >>> sorted(order.tolist())
      [0, 1, 2, 3, 4]
    """
    return random_permutation(stream_key(key, "shuffle", epoch), num_examples)


def epoch_batches(
    key: PRNGKeyArray, epoch: int | Int[Array, ""], num_examples: int, batch_size: int
) -> Int[Array, "steps batch"]:
    """Returns the examples of each step of an epoch: `epoch_order` without the remaining ones, cut into batches.

    Raises ValueError if `batch_size` is below 1 or above `num_examples`.
    """
    steps = _steps_per_epoch(num_examples, batch_size)
    return epoch_order(key, epoch, num_examples)[: steps * batch_size].reshape(steps, batch_size)


def _steps_per_epoch(num_examples: int, batch_size: int) -> int:
    if batch_size < 1:
        raise ValueError(f"batch_size={batch_size}: expected at least 1")
    if batch_size > num_examples:
        raise ValueError(f"batch_size={batch_size}: expected at most {num_examples}, the number of examples")
    return num_examples // batch_size


def train_epoch(
    state: TrainState, data: Float[Array, "N *event"], batch_size: int, axis_name: str | None = None
) -> tuple[TrainState, dict[str, Float[Array, " steps"]]]:
    """Makes one pass over the data in a new random order, as one scan.

    Args:
      state: a state at the start of an epoch.
      data: all training examples on the device, float, or uint8 for pixels.
      batch_size: global batch size, at most N; with a mapped axis, a multiple of its size.
      axis_name: mapped axis over devices, if any; `data` is then replicated on every device.

    Returns:
      The state after `N // batch_size` steps, and the info of each. The remaining rows of the order are dropped, so
      that every step has the same shape.

    Raises:
      ValueError: if `batch_size` is below 1, or above N, which leaves no step, or does not divide evenly among the
        devices.

    Examples:
      >>> import jax
      >>> import jax.numpy as jnp
      >>> import optax
      >>> import vae_jax
      >>> vae = vae_jax.dense_vae(feature_dim=3, hidden_dims=(8,))
      >>> state = vae_jax.create_train_state(jax.random.key(0), vae, vae_jax.Objective(), optax.adam(1e-3), (3,))
      >>> train_epoch = jax.jit(vae_jax.train_epoch, static_argnames="batch_size")
      >>> state, info = train_epoch(state, jnp.ones((100, 3)), batch_size=32)
      >>> info["loss"].shape  # 100 // 32 steps
      (3,)
    """
    return train_steps(state, data, batch_size, _steps_per_epoch(data.shape[0], batch_size), axis_name)


def train_steps(
    state: TrainState, data: Float[Array, "N *event"], batch_size: int, num_steps: int, axis_name: str | None = None
) -> tuple[TrainState, dict[str, Float[Array, " steps"]]]:
    """Takes part of an epoch as one scan, with the same steps and results as [`train_epoch`][].

    To the last bit, save that from JAX 0.12 on a part of one step may be rounded in another way.

    Args:
      state: a state with at least `num_steps` steps of its epoch left.
      data: as for [`train_epoch`][].
      batch_size: as for [`train_epoch`][].
      num_steps: number of steps.
      axis_name: as for [`train_epoch`][].

    Returns:
      The state after the steps, and the info of each step.

    Raises:
      ValueError: as [`train_epoch`][] does, or if an epoch has fewer than `num_steps` steps.

    Examples:
      >>> import jax
      >>> import jax.numpy as jnp
      >>> import optax
      >>> import vae_jax
      >>> vae = vae_jax.dense_vae(feature_dim=3, hidden_dims=(8,))
      >>> state = vae_jax.create_train_state(jax.random.key(0), vae, vae_jax.Objective(), optax.adam(1e-3), (3,))
      >>> train_steps = jax.jit(vae_jax.train_steps, static_argnames=("batch_size", "num_steps"))
      >>> state, info = train_steps(state, jnp.ones((100, 3)), batch_size=32, num_steps=2)
      >>> int(state.step)
      2
    """
    data = jnp.asarray(data)  # without `jax.jit` a traced index takes no rows of NumPy's arrays
    per_epoch = _steps_per_epoch(data.shape[0], batch_size)
    if num_steps > per_epoch:
        raise ValueError(f"num_steps={num_steps}: expected at most {per_epoch}, the steps of an epoch")
    batches = epoch_batches(state.key, state.step // per_epoch, data.shape[0], batch_size)
    batches = _own_part(jax.lax.dynamic_slice_in_dim(batches, state.step % per_epoch, num_steps), axis_name)
    return _scan(state, batches, lambda rows: data[rows], data.shape[1:], axis_name)


def train_in_order(
    state: TrainState,
    data: Float[Array, "N *event"],
    batches: Int[Array, "S batch"],
    num_steps: int | Int[Array, ""],
    axis_name: str | None = None,
) -> tuple[TrainState, dict[str, Float[Array, " S"]]]:
    """Takes the first of S given steps; their number is an argument, so that another one needs no new program.

    Given [`epoch_batches`][vae_jax.training.epoch.epoch_batches] the results are those of [`train_epoch`][]. `data` may
    have more rows than `batches` name, and the objective's numbers may be traced.

    Args:
      state: a state at the start of an epoch.
      data: as for [`train_epoch`][].
      batches: the examples of each step.
      num_steps: number of steps, at most S.
      axis_name: as for [`train_epoch`][].

    Returns:
      The state after the steps, and the info of each; zeros for those that are not taken.
    """
    batches = _own_part(batches, axis_name)

    def changing(state: TrainState) -> dict[str, Any]:
        return {"step": state.step, "params": state.params, "opt_state": state.opt_state}

    def block(number: Array, carried: tuple[dict[str, Any], dict[str, Array]]):
        first = number * NOISE_BLOCK
        shape = (batches.shape[1], *data.shape[1:])
        noise = _noise_of_steps(state.replace(**carried[0]), NOISE_BLOCK, shape, axis_name)

        def take(i: Array, carried: tuple[dict[str, Any], dict[str, Array]]):
            before, infos = carried
            drawn = jax.tree.map(itemgetter(i), noise)
            after, info = step_with_noise(state.replace(**before), data[batches[first + i]], drawn, axis_name)
            return changing(after), {name: infos[name].at[first + i].set(value) for name, value in info.items()}

        return jax.lax.fori_loop(0, jnp.minimum(NOISE_BLOCK, num_steps - first), take, carried)

    infos = dict.fromkeys(("loss", "reconstruction", "kl"), jnp.zeros(len(batches)))
    after, infos = jax.lax.fori_loop(0, -(-num_steps // NOISE_BLOCK), block, (changing(state), infos))
    return state.replace(**after), infos


def _own_part(batches: Int[Array, "S batch"], axis_name: str | None) -> Int[Array, "S local"]:
    """This device's part of each batch."""
    if axis_name is None:
        return batches
    devices = jax.lax.axis_size(axis_name)
    local, left = divmod(batches.shape[1], devices)
    if left:
        raise ValueError(f"batch_size={batches.shape[1]}: expected a multiple of {devices}, the number of devices")
    return jax.lax.dynamic_slice_in_dim(batches, jax.lax.axis_index(axis_name) * local, local, axis=1)


def train_batches(
    state: TrainState, batches: Float[Array, "steps B *event"], axis_name: str | None = None
) -> tuple[TrainState, dict[str, Float[Array, " steps"]]]:
    """Takes one step per given batch, as one scan, for data that do not fit on the device.

    Given the rows of [`epoch_order`][] in turn, the result is that of [`train_steps`][].

    Args:
      state: the state before the steps.
      batches: float, or uint8 for pixels; with a mapped axis, this device's shard.
      axis_name: mapped axis over devices, if any.

    Returns:
      The state after the steps, and the info of each step.

    Examples:
      >>> import jax
      >>> import jax.numpy as jnp
      >>> import optax
      >>> import vae_jax
      >>> vae = vae_jax.dense_vae(feature_dim=3, hidden_dims=(8,))
      >>> state = vae_jax.create_train_state(jax.random.key(0), vae, vae_jax.Objective(), optax.adam(1e-3), (3,))
      >>> state, info = jax.jit(vae_jax.train_batches)(state, jnp.ones((2, 32, 3)))
      >>> int(state.step), info["loss"].shape
      (2, (2,))
    """
    return _scan(state, batches, lambda batch: batch, batches.shape[2:], axis_name)


def _noise_of_steps(state: TrainState, num_steps: int, batch_shape: Sequence[int], axis_name: str | None) -> Noise:
    """Draws the noise of the next steps in whole blocks, so that each number is the same for any `num_steps`."""

    def one(step: Array) -> Noise:
        return draw_noise(state, stream_key(state.key, "noise", step), batch_shape, axis_name)

    num_blocks = -(-num_steps // NOISE_BLOCK)
    steps = state.step + jnp.arange(num_blocks * NOISE_BLOCK).reshape(num_blocks, NOISE_BLOCK)
    noise = jax.lax.map(jax.vmap(one), steps)
    return jax.tree.map(lambda array: array.reshape(-1, *array.shape[2:])[:num_steps], noise)


def _scan(
    state: TrainState,
    batches: Array,
    load: Callable[[Array], Array],
    event_shape: Sequence[int],
    axis_name: str | None,
):
    def body(state, batch_and_noise):
        batch, noise = batch_and_noise
        return step_with_noise(state, load(batch), noise, axis_name)

    noise = _noise_of_steps(state, batches.shape[0], (batches.shape[1], *event_shape), axis_name)
    return jax.lax.scan(body, state, (batches, noise))
