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

# Rows scored at once. Small enough for the S * ROW_CHUNK decoded rows to stay in a processor's cache.
ROW_CHUNK = 256
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
    posterior = encode(vae, params, x[None])
    noise = jax.random.normal(key, (num_samples, vae.latent_dim))
    samples = reparameterise(noise, posterior.mean, posterior.log_var)

    def log_prob_of_features(z):
        observation = decode(vae, params, z[None])
        if residual_sd is not None:
            log_var = 2 * jnp.log(residual_sd)
        elif observation.log_var is not None:
            log_var = observation.log_var[0]
        else:
            raise ValueError("this decoder gives a mean alone, so scoring needs residual_sd")
        return log_prob_per_dimension(x, observation.mean[0], log_var)

    per_feature = jax.vmap(log_prob_of_features)(samples)
    log_probs = per_feature.sum(-1)
    contributions = per_feature.mean(0)
    return Scores(
        # logsumexp, because the densities themselves underflow float32 for any unusual row.
        log_reconstruction_prob=jax.nn.logsumexp(log_probs) - math.log(num_samples),
        mean_log_prob=contributions.sum(),
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
    the rows, with which others are scored, with the chunk, or with the devices.

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

    def score(row):
        x, number = row
        return score_row(vae, params, x, jax.random.fold_in(key, number), num_samples, residual_sd)

    return jax.lax.map(score, (x, row_numbers), batch_size=ROW_CHUNK)


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
        def one_model(params, residual_sd):
            return reconstruction_probability(vae, params, x, row_numbers, key, num_samples, residual_sd)

        # Every device gets all scores, so that every process can read them.
        return jax.lax.all_gather(jax.vmap(one_model)(params, residual_sd), AXIS, axis=1, tiled=True)

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

    def residual(row):
        x, number = row
        posterior = encode(vae, params, x[None])
        noise = jax.random.normal(jax.random.fold_in(key, number), (1, vae.latent_dim))
        z = reparameterise(noise, posterior.mean, posterior.log_var)
        return x - decode(vae, params, z).mean[0]

    residuals = jax.lax.map(residual, (x, row_numbers), batch_size=ROW_CHUNK)
    return jnp.maximum(jnp.sqrt(jnp.square(residuals).mean(0)), MIN_RESIDUAL_SD)
