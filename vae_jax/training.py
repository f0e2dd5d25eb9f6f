"""Training as pure functions: a frozen state, one step, and an epoch as a single compiled scan.

Every random number is a function of (key of the run, stream name, step), never of how often something was called. A
run can therefore be cut anywhere, saved, and continued to exactly the same result.

The same `train_step` runs on one device (`jax.jit`), under `jax.vmap` (several models at once), and under `jax.pmap`
or `jax.shard_map` with the mapped axis's name (several devices).
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple, cast

import jax
import jax.numpy as jnp
import optax
from flax import struct
from jax.flatten_util import ravel_pytree

from vae_jax.networks import VAE, Gaussian, Observation
from vae_jax.objectives import Objective, Terms
from vae_jax.permutation import random_permutation

if TYPE_CHECKING:
    from jaxtyping import Array, Bool, Float, Int, PRNGKeyArray

# A latent counts as active where its posterior mean varies by more than this over the data (Burda et al. 2015).
ACTIVE_LATENT_VARIANCE = 0.01
# Steps whose noise is drawn at once.
NOISE_BLOCK = 8


class TrainState(struct.PyTreeNode):
    """Everything that changes while a model is trained, and the three things that say how.

    Attributes:
      step: number of optimiser steps taken, int32 scalar.
      params: the VAE's parameters.
      opt_state: the optimiser's state.
      key: the run's key; never consumed, only folded with a stream and a step.
      vae: the module (static).
      objective: the loss (static).
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
    objective: Objective = struct.field(pytree_node=False)
    optimizer: optax.GradientTransformation = struct.field(pytree_node=False)


def stream_key(key: PRNGKeyArray, stream: str, step: int | Int[Array, ""] = 0) -> PRNGKeyArray:
    """Derives the key of one use of randomness.

    Args:
      key: the run's key.
      stream: what the numbers are for, e.g. "noise".
      step: which step or epoch they are for.

    Returns:
      A key that depends on nothing but these three.

    Examples:
      >>> import jax
      >>> import vae_jax
      >>> key = jax.random.key(0)
      >>> bool(vae_jax.stream_key(key, "noise", 7) == vae_jax.stream_key(key, "noise", 7))
      True
      >>> bool(vae_jax.stream_key(key, "noise", 7) == vae_jax.stream_key(key, "shuffle", 7))
      False
    """
    # crc32, not hash(): Python salts hash() anew in each process.
    return jax.random.fold_in(jax.random.fold_in(key, zlib.crc32(stream.encode())), step)


def create_train_state(
    key: PRNGKeyArray,
    vae: VAE,
    objective: Objective,
    optimizer: optax.GradientTransformation,
    event_shape: Sequence[int],
) -> TrainState:
    """Initialises a model and its optimiser.

    Args:
      key: the run's key; two states made with the same key are equal.
      vae: the module.
      objective: the loss.
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
        key=key,
        vae=vae,
        objective=objective,
        optimizer=optimizer,
    )


@partial(jax.jit, static_argnums=(0, 2))  # one program, where dozens of small ones would be compiled
def _init(vae: VAE, key: PRNGKeyArray, event_shape: tuple[int, ...]) -> Any:
    return vae.init(key, jnp.zeros((1, *event_shape)), jnp.zeros((1, vae.latent_dim)))


def as_float(x: Array) -> Float[Array, "*any"]:
    """Turns pixels 0..255 of dtype uint8 into float32 in [0, 1]; anything else stays as it is."""
    return x.astype(jnp.float32) / 255 if x.dtype == jnp.uint8 else x


def evaluate(
    state: TrainState,
    x: Float[Array, "B *event"],
    noise: Float[Array, "B L"],
    params: Any = None,
    encoder_input: Float[Array, "B *event"] | None = None,
) -> tuple[Terms, Gaussian, Observation]:
    """Runs the model on a batch.

    Args:
      state: the model.
      x: a batch of inputs, float, or uint8 for pixels.
      noise: draws from N(0, I), float.
      params: other parameters to use instead of the state's, e.g. those to differentiate by.
      encoder_input: what the encoder sees, if that is not `x` itself.

    Returns:
      The loss's terms of each example, the posterior q(z|x), and the observation model p(x|z).

    Examples:
      >>> import jax
      >>> import jax.numpy as jnp
      >>> import optax
      >>> import vae_jax
      >>> vae = vae_jax.dense_vae(feature_dim=3, hidden_dims=(8,), latent_dim=2)
      >>> state = vae_jax.create_train_state(jax.random.key(0), vae, vae_jax.Objective(), optax.adam(1e-3), (3,))
      >>> terms, posterior, observation = vae_jax.evaluate(state, jnp.ones((5, 3)), noise=jnp.zeros((5, 2)))
      >>> terms.kl.shape, posterior.mean.shape, observation.mean.shape
      ((5,), (5, 2), (5, 3))
    """
    params = state.params if params is None else params
    x = as_float(x)
    posterior, observation = cast(
        tuple[Gaussian, Observation], state.vae.apply(params, x if encoder_input is None else encoder_input, noise)
    )
    return state.objective.terms(x, posterior, observation), posterior, observation


def batch_noise(
    key: PRNGKeyArray, local_batch: int, event_shape: Sequence[int], axis_name: str | None = None
) -> Float[Array, "B *event"]:
    """Draws noise for a batch, the same on any number of devices.

    Args:
      key: a key, the same on every device; consumed.
      local_batch: number of examples on this device.
      event_shape: shape of the noise of one example.
      axis_name: the mapped axis over devices, if any.

    Returns:
      Draws from N(0, I). With a mapped axis these are this device's rows of the global batch's noise.
    """
    if axis_name is None:
        return jax.random.normal(key, (local_batch, *event_shape))
    noise = jax.random.normal(key, (local_batch * jax.lax.axis_size(axis_name), *event_shape))
    return jax.lax.dynamic_slice_in_dim(noise, jax.lax.axis_index(axis_name) * local_batch, local_batch)


class Noise(NamedTuple):
    """Draws from N(0, I) for a batch.

    Attributes:
      latent: for the reparameterisation, shape (B, L).
      input: for what the encoder sees, shape (B, *event); None where the objective has no input noise.
    """

    latent: Float[Array, "B L"]
    input: Float[Array, "B *event"] | None


def draw_noise(state: TrainState, key: PRNGKeyArray, batch_shape: Sequence[int], axis_name: str | None = None) -> Noise:
    """Draws all that one step needs.

    Args:
      state: the model.
      key: key of the step, the same on every device; consumed.
      batch_shape: (B, *event); with a mapped axis, of this device's part.
      axis_name: the mapped axis over devices, if any.

    Returns:
      The noise, the same on any number of devices.
    """
    latent_key, input_key = jax.random.split(key)
    local_batch, *event_shape = batch_shape
    return Noise(
        batch_noise(latent_key, local_batch, (state.vae.latent_dim,), axis_name),
        batch_noise(input_key, local_batch, event_shape, axis_name) if state.objective.input_noise > 0 else None,
    )


def train_step(
    state: TrainState, batch: Float[Array, "B *event"], key: PRNGKeyArray, axis_name: str | None = None
) -> tuple[TrainState, dict[str, Float[Array, ""]]]:
    """Takes one optimiser step. Pure: the same arguments give the same result.

    Args:
      state: the state before the step.
      batch: a batch of inputs, float, or uint8 for pixels; with a mapped axis, this device's part of it.
      key: key of this step, the same on every device; consumed.
      axis_name: the mapped axis to average gradients over, if any.

    Returns:
      The state after the step, and the batch's mean `loss` (without KL warm-up, so that steps compare),
      `reconstruction` (unweighted) and `kl` (nats).

    References:
      Kingma & Welling 2013, algorithm 1.

    Examples:
      >>> import jax
      >>> import jax.numpy as jnp
      >>> import optax
      >>> import vae_jax
      >>> vae = vae_jax.dense_vae(feature_dim=3, hidden_dims=(8,))
      >>> state = vae_jax.create_train_state(jax.random.key(0), vae, vae_jax.Objective(), optax.adam(1e-3), (3,))
      >>> step = jax.jit(vae_jax.train_step)
      >>> for i in range(2):
      ...     state, info = step(state, jnp.ones((4, 3)), vae_jax.stream_key(state.key, "noise", i))
      >>> int(state.step), sorted(info)
      (2, ['kl', 'loss', 'reconstruction'])
    """
    return _train_step(state, batch, draw_noise(state, key, batch.shape, axis_name), axis_name)


def _train_step(state: TrainState, batch: Array, noise: Noise, axis_name: str | None):
    encoder_input = batch = as_float(batch)
    if noise.input is not None:
        encoder_input += state.objective.input_noise * noise.input

    def mean_loss(params):
        terms, _, _ = evaluate(state, batch, noise.latent, params, encoder_input)
        info = {"loss": state.objective.loss(terms), "reconstruction": terms.reconstruction, "kl": terms.kl}
        minimised = state.objective.loss(terms, state.step).mean()
        return minimised, {name: value.mean() for name, value in info.items()}

    grads, info = jax.grad(mean_loss, has_aux=True)(state.params)
    if axis_name is not None:
        # As one array: devices wait for each other at every collective, and a network has dozens of small arrays.
        flat, unravel = ravel_pytree((grads, info))
        grads, info = unravel(jax.lax.pmean(flat, axis_name))
    updates, opt_state = state.optimizer.update(grads, state.opt_state, state.params)
    params = optax.apply_updates(state.params, updates)
    return state.replace(step=state.step + 1, params=params, opt_state=opt_state), info


def epoch_order(key: PRNGKeyArray, epoch: int | Int[Array, ""], num_examples: int) -> Int[Array, " N"]:
    """Draws the order in which an epoch visits the examples.

    Args:
      key: the run's key.
      epoch: number of the epoch, from 0.
      num_examples: N.

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


def train_epoch(
    state: TrainState, data: Float[Array, "N *event"], batch_size: int, axis_name: str | None = None
) -> tuple[TrainState, dict[str, Float[Array, " steps"]]]:
    """Takes one pass over the data in a new random order, as one scan.

    The last `N % batch_size` rows of the order are left out of this epoch, so that every step has the same shape.

    Args:
      state: a state at the beginning of an epoch.
      data: all training examples on the device, float, or uint8 for pixels.
      batch_size: the global batch: with a mapped axis, a multiple of its size.
      axis_name: the mapped axis over devices, if any; then `data` is whole on every device.

    Returns:
      The state after `N // batch_size` steps, and the info of each step.

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
    return train_steps(state, data, batch_size, data.shape[0] // batch_size, axis_name)


def train_steps(
    state: TrainState, data: Float[Array, "N *event"], batch_size: int, num_steps: int, axis_name: str | None = None
) -> tuple[TrainState, dict[str, Float[Array, " steps"]]]:
    """Takes a part of an epoch as one scan: the same steps, with the same result, as [`train_epoch`][] would take.

    Args:
      state: a state with at least `num_steps` steps of its epoch left.
      data: as for [`train_epoch`][].
      batch_size: as for [`train_epoch`][].
      num_steps: how many steps.
      axis_name: as for [`train_epoch`][].

    Returns:
      The state after the steps, and the info of each.

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
    per_epoch = data.shape[0] // batch_size
    order = epoch_order(state.key, state.step // per_epoch, data.shape[0])
    batches = order[: per_epoch * batch_size].reshape(per_epoch, batch_size)
    batches = jax.lax.dynamic_slice_in_dim(batches, state.step % per_epoch, num_steps)
    if axis_name is not None:
        local = batch_size // jax.lax.axis_size(axis_name)
        batches = jax.lax.dynamic_slice_in_dim(batches, jax.lax.axis_index(axis_name) * local, local, axis=1)
    return _scan(state, batches, lambda rows: data[rows], data.shape[1:], axis_name)


def train_batches(
    state: TrainState, batches: Float[Array, "steps B *event"], axis_name: str | None = None
) -> tuple[TrainState, dict[str, Float[Array, " steps"]]]:
    """Takes a step for each of the given batches, as one scan: for data that do not fit on the device.

    Given the rows of [`epoch_order`][] in turn, the result is that of [`train_steps`][].

    Args:
      state: the state before the steps.
      batches: float, or uint8 for pixels; with a mapped axis, this device's part of them.
      axis_name: the mapped axis over devices, if any.

    Returns:
      The state after the steps, and the info of each.

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
    """Draws the noise of the next steps, a block of them at a time.

    A batch alone is too small to draw numbers fast, and all steps together are too many for a processor's cache. Always
    in whole blocks, so that each number is computed alike however many steps are asked for.
    """

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
        return _train_step(state, load(batch), noise, axis_name)

    noise = _noise_of_steps(state, batches.shape[0], (batches.shape[1], *event_shape), axis_name)
    return jax.lax.scan(body, state, (batches, noise))


def validate(state: TrainState, data: Float[Array, "N *event"]) -> dict[str, Array]:
    """Measures the model on held-out examples, with the same noise at every call so that epochs compare.

    Args:
      state: the model.
      data: held-out examples, float.

    Returns:
      The mean `loss`, `reconstruction` and `kl` (nats), and `active_latents`, the number of latents in use.

    Examples:
      >>> import jax
      >>> import jax.numpy as jnp
      >>> import optax
      >>> import vae_jax
      >>> vae = vae_jax.dense_vae(feature_dim=3, hidden_dims=(8,))
      >>> state = vae_jax.create_train_state(jax.random.key(0), vae, vae_jax.Objective(), optax.adam(1e-3), (3,))
      >>> measured = jax.jit(vae_jax.validate)(state, jnp.ones((10, 3)))
      >>> sorted(measured)
      ['active_latents', 'kl', 'loss', 'reconstruction']
      >>> int(measured["active_latents"])  # equal rows have equal latents
      0
    """
    noise = batch_noise(stream_key(state.key, "validation"), data.shape[0], (state.vae.latent_dim,))
    terms, posterior, _ = evaluate(state, data, noise)
    return {
        "loss": state.objective.loss(terms).mean(),
        "reconstruction": terms.reconstruction.mean(),
        "kl": terms.kl.mean(),
        "active_latents": active_latents(posterior.mean).sum(),
    }


def active_latents(posterior_mean: Float[Array, "N L"]) -> Bool[Array, " L"]:
    """Tells which latents the model uses. None is posterior collapse: the decoder ignores its input.

    Args:
      posterior_mean: means of q(z|x) over a data set, float.

    Returns:
      True for each latent whose mean has a variance above 0.01.

    References:
      Burda et al. 2015 (https://arxiv.org/abs/1509.00519), section 5.2.

    Examples:
      >>> import jax.numpy as jnp
      >>> import vae_jax
      >>> print(vae_jax.active_latents(jnp.array([[-1.0, 0.01], [0.5, 0.0], [1.0, 0.02]])))
      [ True False]
    """
    return posterior_mean.var(0) > ACTIVE_LATENT_VARIANCE
