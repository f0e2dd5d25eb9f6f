"""Reconstruction probability: how likely a row is under what the VAE makes of it.

For a row x, S latents z_s ~ q(z|x) are drawn and decoded to p(x|z_s) = N(mean_s, sd_s^2). From their densities:

- log reconstruction probability: log (1/S sum_s p(x|z_s)), what the report calls reconstruction probability
- mean log probability: 1/S sum_s log p(x|z_s), the Monte Carlo estimate of E_q[log p(x|z)] (An & Cho 2015,
  algorithm 4); never above the former (Jensen)
- contributions: the same mean for each feature by itself; they add up to the mean log probability

All are in nats, and for all of them **higher means more normal**.

References:
  An & Cho 2015, "Variational Autoencoder based Anomaly Detection using Reconstruction Probability".
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.sharding import Mesh

from vae_jax.distributions import log_prob_per_dimension, reparameterise
from vae_jax.networks import VAE, decode, encode
from vae_jax.parallel import AXIS, replicated, sharded

if TYPE_CHECKING:
    from jaxtyping import Array, Float, Int, PRNGKeyArray

# How many decoded numbers (rows x samples x features) are in work at once. On a processor few enough for its cache, and
# for the C library to keep their memory: from half a megabyte an array on, it may give the memory back after each use,
# and taking it anew costs several times the work itself. Elsewhere enough to keep the device busy.
PROCESSOR_NUMBERS, ACCELERATOR_NUMBERS = 2**15, 2**24
ROWS_DRAWN = 256  # rows, about, whose latents are drawn at once
# Smallest standard deviation of a residual, in units of the standardised feature. A feature that is constant in
# training has residual 0, and any other value would then have density 0 and decide the score alone.
MIN_RESIDUAL_SD = 1e-3


class Scores(NamedTuple):
    """Scores of N rows, in nats; higher means more normal.

    Attributes:
      log_reconstruction_prob: log of the mean over samples of p(x|z), shape (N,).
      mean_log_prob: mean over samples of log p(x|z), shape (N,).
      contributions: mean over samples of log p(x_d|z) of each feature, shape (N, D); sums to `mean_log_prob`.
    """

    log_reconstruction_prob: Float[Array, " N"]
    mean_log_prob: Float[Array, " N"]
    contributions: Float[Array, "N D"]


def score_row(
    vae: VAE,
    params: Any,
    x: Float[Array, " D"],
    key: PRNGKeyArray,
    num_samples: int = 100,
    residual_sd: Float[Array, " D"] | None = None,
) -> Scores:
    """Scores one row.

    Args:
      vae: the module.
      params: its parameters.
      x: the row, float.
      key: the row's key, consumed.
      num_samples: number of latent samples S.
      residual_sd: standard deviation of each feature, for a decoder that gives a mean alone.

    Returns:
      The row's `Scores`, of shapes (), () and (D,).

    Raises:
      ValueError: if neither the decoder nor `residual_sd` gives a variance.
    """
    z = _draw_latents(vae, params, x[None], key[None], num_samples)
    return jax.tree.map(lambda array: array[0], _score_latents(vae, params, x[None], z, residual_sd))


def _draw_latents(
    vae: VAE, params: Any, x: Float[Array, "R D"], keys: PRNGKeyArray, num_samples: int
) -> Float[Array, "R L S"]:
    """Draws S latents for each of R rows, each row with its own key."""
    posterior = encode(vae, params, x)
    noise = jax.vmap(lambda key: jax.random.normal(key, (vae.latent_dim, num_samples)))(keys)
    return reparameterise(noise, posterior.mean[..., None], posterior.log_var[..., None])


def _score_latents(
    vae: VAE, params: Any, x: Float[Array, "R D"], z: Float[Array, "R L S"], residual_sd: Float[Array, " D"] | None
) -> Scores:
    """Scores R rows at once by their latents."""
    num_samples = z.shape[-1]
    observation = decode(vae, params, z.swapaxes(1, 2).reshape(-1, vae.latent_dim))

    def features_first(array: Array) -> Array:
        """From (R * S, D) to (D, R, S), as the decoder computes it and the sums below are fastest; see `dense`."""
        return array.T.reshape(-1, x.shape[0], num_samples)

    if residual_sd is not None:
        log_var = jnp.broadcast_to(2 * jnp.log(residual_sd)[:, None, None], (x.shape[1], x.shape[0], num_samples))
    elif observation.log_var is not None:
        log_var = features_first(observation.log_var)
    else:
        raise ValueError("this decoder gives a mean alone, so scoring needs residual_sd")
    per_feature = log_prob_per_dimension(x.T[..., None], features_first(observation.mean), log_var)
    contributions = per_feature.mean(-1).T
    return Scores(
        # logsumexp, because the densities themselves underflow float32 for any unusual row.
        log_reconstruction_prob=jax.nn.logsumexp(per_feature.sum(0), axis=-1) - math.log(num_samples),
        mean_log_prob=contributions.sum(-1),
        contributions=contributions,
    )


def reconstruction_probability(
    vae: VAE,
    params: Any,
    x: Float[Array, "N D"],
    row_numbers: Int[Array, " N"],
    key: PRNGKeyArray,
    num_samples: int = 100,
    residual_sd: Float[Array, " D"] | None = None,
) -> Scores:
    """Scores many rows, a chunk at a time so that memory does not grow with S * N.

    The random numbers of a row depend on `key` and its row number alone: a score does not change with the order of
    the rows, with which others are scored, or with the devices.

    Args:
      vae: the module.
      params: its parameters.
      x: rows, float.
      row_numbers: the number of each row in its source, integer.
      key: the run's scoring key.
      num_samples: number of latent samples S.
      residual_sd: standard deviation of each feature, for a decoder that gives a mean alone; see
        `measure_residual_sd`.

    Returns:
      The `Scores` of the rows, higher = more normal.
    """

    decoded_at_once = PROCESSOR_NUMBERS if jax.default_backend() == "cpu" else ACCELERATOR_NUMBERS
    size = max(1, decoded_at_once // (num_samples * x.shape[1]))

    def score(block: tuple[Array, Array]) -> Scores:
        x, numbers = block
        keys = jax.vmap(partial(jax.random.fold_in, key))(numbers)
        z = _draw_latents(vae, params, x, keys, num_samples)
        return _by_chunk(lambda part: _score_latents(vae, params, part[0], part[1], residual_sd), (x, z), size)

    # A chunk has too few latents to draw them fast.
    return _by_chunk(score, (x, row_numbers), size * max(1, ROWS_DRAWN // size))


def _by_chunk(function: Callable[[Any], Any], rows: Any, chunk: int) -> Any:
    """Applies a function to the rows of a tree of arrays, a chunk of them at a time.

    The last chunk is filled up, so that all are of one shape: in a product of another shape a row's sums may be taken
    in another order.
    """
    count = jax.tree.leaves(rows)[0].shape[0]

    def cut(array: Array) -> Array:
        filled = jnp.pad(array, [(0, -count % chunk)] + [(0, 0)] * (array.ndim - 1))
        return filled.reshape(-1, chunk, *array.shape[1:])

    results = jax.lax.map(function, jax.tree.map(cut, rows))
    return jax.tree.map(lambda array: array.reshape(-1, *array.shape[2:])[:count], results)


@partial(jax.jit, static_argnames=("vae", "num_samples", "mesh"))
def score_models(
    vae: VAE,
    params: Any,
    x: Float[Array, "N D"],
    row_numbers: Int[Array, " N"],
    key: PRNGKeyArray,
    mesh: Mesh,
    num_samples: int = 100,
    residual_sd: Float[Array, "K D"] | None = None,
) -> Scores:
    """Scores many rows by each of K models, the rows divided among the devices of a mesh.

    Args:
      vae: the module.
      params: the parameters of K models, stacked along a first axis.
      x: rows, float.
      row_numbers: the number of each row in its source, integer.
      key: the run's scoring key; the models share their random numbers.
      mesh: the devices.
      num_samples: number of latent samples S.
      residual_sd: standard deviation of each model's features, for decoders that give a mean alone.

    Returns:
      `Scores` with a first axis of K models, higher = more normal.
    """

    def score_shard(params, x, row_numbers, key, residual_sd):
        def one_model(model):
            params, residual_sd = model
            return reconstruction_probability(vae, params, x, row_numbers, key, num_samples, residual_sd)

        # One model after another: together they would only take more memory. Every device gets all scores, so that
        # every process can read them.
        return jax.lax.all_gather(jax.lax.map(one_model, (params, residual_sd)), AXIS, axis=1, tiled=True)

    rows = x.shape[0]
    padding = -rows % mesh.size
    scores = jax.shard_map(
        score_shard,
        mesh=mesh,
        in_specs=(replicated, sharded, sharded, replicated, replicated),
        out_specs=replicated,
        check_vma=False,
    )(params, jnp.pad(x, ((0, padding), (0, 0))), jnp.pad(row_numbers, (0, padding)), key, residual_sd)
    return jax.tree.map(lambda array: array[:, :rows], scores)


def measure_residual_sd(
    vae: VAE, params: Any, x: Float[Array, "N D"], row_numbers: Int[Array, " N"], key: PRNGKeyArray
) -> Float[Array, " D"]:
    """Measures the standard deviation that a decoder without one leaves, for each feature.

    Args:
      vae: the module.
      params: its parameters.
      x: genuine held-out rows, float.
      row_numbers: the number of each row in its source, integer.
      key: a key; one latent is drawn for each row, as in scoring.

    Returns:
      The root of the mean squared residual of each feature, at least 0.001.
    """

    def residual(chunk: tuple[Array, Array]) -> Array:
        x, numbers = chunk
        posterior = encode(vae, params, x)
        keys = jax.vmap(partial(jax.random.fold_in, key))(numbers)
        noise = jax.vmap(lambda key: jax.random.normal(key, (vae.latent_dim,)))(keys)
        return x - decode(vae, params, reparameterise(noise, posterior.mean, posterior.log_var)).mean

    residuals = _by_chunk(residual, (x, row_numbers), ROWS_DRAWN)
    return jnp.maximum(jnp.sqrt(jnp.square(residuals).mean(0)), MIN_RESIDUAL_SD)
