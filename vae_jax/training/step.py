"""One optimiser step, and metrics on held-out examples.

`train_step` runs unchanged on one device (`jax.jit`), under `jax.vmap` (several models at once), and under `jax.pmap`
or `jax.shard_map` with the name of the mapped axis (several devices).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import optax
from jax.flatten_util import ravel_pytree

from vae_jax.networks import Gaussian, Observation, as_float
from vae_jax.objectives import Terms
from vae_jax.training.noise import Noise, batch_noise, draw_noise
from vae_jax.training.state import TrainState, stream_key

if TYPE_CHECKING:
    from jaxtyping import Array, Bool, Float, Int, PRNGKeyArray, UInt8

# A latent is active if the variance of its posterior mean over the data is above this (Burda et al. 2016).
ACTIVE_LATENT_VARIANCE = 0.01
LARGE = 1 << 17  # numbers of an array that devices average on its own


def binarise(key: PRNGKeyArray, pixels: UInt8[Array, "*any"]) -> Bool[Array, "*any"]:
    """Draws bits whose probabilities are grey values: a pixel of 255 is always 1, and one of 0 never.

    Drawing anew in each epoch trains on as many pictures as there are epochs (Burda et al. 2016, section 5).

    Args:
      key: a typed key, consumed.
      pixels: grey values, uint8.

    Returns:
      Bits of the same shape, bool; training takes them as 0 and 1.

    Raises:
      ValueError: for floats, whose grey values may be from 0 to 1.

    Examples:
      >>> import jax
      >>> import jax.numpy as jnp
      >>> import vae_jax
      >>> bits = vae_jax.binarise(jax.random.key(0), jnp.full((1000,), 51, jnp.uint8))
      >>> round(float(bits.mean()), 1)
      0.2
    """
    if not jnp.issubdtype(pixels.dtype, jnp.integer):
        raise ValueError(f"pixels of dtype {pixels.dtype}: expected uint8, from 0 to 255")
    return jax.random.bits(key, pixels.shape, jnp.uint16) < pixels.astype(jnp.uint32) * 65536 // 255


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
      params: parameters to use instead of the state's, e.g. to differentiate with respect to them.
      encoder_input: the encoder's input, float or uint8, if not `x` itself.

    Returns:
      The loss terms of each example, the posterior q(z|x), and the observation model p(x|z).

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
    seen = x if encoder_input is None else encoder_input
    return state.objective.evaluate(state.vae, params, x, noise, seen)


def train_step(
    state: TrainState, batch: Float[Array, "B *event"], key: PRNGKeyArray, axis_name: str | None = None
) -> tuple[TrainState, dict[str, Float[Array, ""]]]:
    """Takes one optimiser step. Pure: equal arguments give equal results.

    Args:
      state: the state before the step.
      batch: a batch of inputs, float, or uint8 for pixels; with a mapped axis, this device's shard.
      key: key of this step, the same on every device; consumed.
      axis_name: mapped axis to average gradients over, if any.

    Returns:
      The state after the step, and the batch's mean `loss` (without KL warm-up, so that steps compare),
      `reconstruction` (unweighted) and `kl` (nats).

    Raises:
      ValueError: for a batch without examples, whose mean is NaN.

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
    return step_with_noise(state, batch, draw_noise(state, key, batch.shape, axis_name), axis_name)


def step_with_noise(
    state: TrainState, batch: Float[Array, "B *event"], noise: Noise, axis_name: str | None
) -> tuple[TrainState, dict[str, Float[Array, ""]]]:
    """Takes the step of [`train_step`][] with given noise."""
    encoder_input = batch = as_float(batch)
    if noise.input is not None:
        encoder_input = state.vae.corrupt(batch, noise.input, state.objective.input_noise)

    def mean_loss(params):
        terms, _, _ = evaluate(state, batch, noise.latent, params, encoder_input)
        info = {"loss": state.objective.loss(terms), "reconstruction": terms.reconstruction, "kl": terms.kl}
        minimised = state.objective.loss(terms, state.step).mean()
        return minimised, {name: value.mean() for name, value in info.items()}

    axis = axis_name if axis_name is not None and jax.lax.axis_size(axis_name) > 1 else None
    params = state.params if axis is None else _of_this_device(state.params, axis)
    grads, info = jax.grad(mean_loss, has_aux=True)(params)
    if axis is not None:
        grads, info = _mean_over_devices((grads, info), axis)
    updates, opt_state = state.optimizer.update(grads, state.opt_state, state.params)
    return state.replace(step=state.step + 1, params=_updated(state.params, updates), opt_state=opt_state), info


def _updated(params: Any, updates: Any) -> Any:
    """Adds the updates, but not to a decoder's bounds: they have no gradient, but optimisers may decay weights."""

    def one(path: tuple[Any, ...], before: Array, after: Array) -> Array:
        return before if jax.tree_util.keystr(path[:1], simple=True) == "bounds" else after

    return jax.tree_util.tree_map_with_path(one, params, optax.apply_updates(params, updates))


def _of_this_device(params: Any, axis_name: str) -> Any:
    """Marks them as this device's, or `jax.shard_map`, with its check, would make their gradient a sum over devices."""
    if axis_name not in jax.sharding.get_abstract_mesh().manual_axes:  # under `jax.vmap`
        return params
    return jax.lax.pcast(params, axis_name, to="varying")


def _mean_over_devices(tree: Any, axis_name: str) -> Any:
    """Small arrays as one: devices synchronise at every collective. Copies of large ones would cost more than that."""
    leaves, treedef = jax.tree.flatten(tree)
    large = [leaf if leaf.size > LARGE else None for leaf in leaves]
    flat, unravel = ravel_pytree([leaf if leaf.size <= LARGE else None for leaf in leaves])
    small, large = jax.lax.pmean((flat, large), axis_name)
    pairs = zip(unravel(small), large, strict=True)
    return treedef.unflatten([of_small if of_large is None else of_large for of_small, of_large in pairs])


def validate(
    state: TrainState, data: Float[Array, "N *event"], count: int | Int[Array, ""] | None = None
) -> dict[str, Array]:
    """Computes metrics on held-out examples, with the same noise at every call so that epochs compare.

    Args:
      state: the model.
      data: held-out examples, float.
      count: number of examples, if `data` has others after them; it may be traced.

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
    shape = state.objective.noise_shape(state.vae.latent_dim)
    noise = batch_noise(stream_key(state.key, "validation"), data.shape[0], shape)
    terms, posterior, _ = evaluate(state, data, noise)
    counted = None if count is None else jnp.arange(data.shape[0]) < count
    return {
        "loss": state.objective.loss(terms).mean(where=counted),
        "reconstruction": terms.reconstruction.mean(where=counted),
        "kl": terms.kl.mean(where=counted),
        "active_latents": active_latents(posterior.mean, counted).sum(),
    }


def active_latents(posterior_mean: Float[Array, "N L"], counted: Bool[Array, " N"] | None = None) -> Bool[Array, " L"]:
    """Finds the latents in use. If there are none, the posterior has collapsed: the decoder ignores its input.

    Args:
      posterior_mean: means of q(z|x) over a data set, float.
      counted: which examples count; all by default.

    Returns:
      True for each latent whose mean has a variance above 0.01.

    References:
      Burda et al. 2016 (https://arxiv.org/abs/1509.00519), section 5.2.

    Examples:
      >>> import jax.numpy as jnp
      >>> import vae_jax
      >>> print(vae_jax.active_latents(jnp.array([[-1.0, 0.01], [0.5, 0.0], [1.0, 0.02]])))
      [ True False]
    """
    variance = posterior_mean.var(0) if counted is None else posterior_mean.var(0, where=counted[:, None])
    return variance > ACTIVE_LATENT_VARIANCE
