"""Reconstruction probability: how likely a row is under the VAE's reconstruction of it.

For a row x, S latents z_s ~ q(z|x) are drawn and decoded to p(x|z_s) = N(mean_s, sd_s^2), or for a table whose columns
are of different kinds to a likelihood for each, or for bits to p(x|z_s) = Bernoulli(sigmoid(logits_s)); a decoder may
give any other likelihood that has `log_prob(x)`. From their densities:

- log reconstruction probability: log (1/S sum_s p(x|z_s)), which the report calls reconstruction probability
- mean log probability: 1/S sum_s log p(x|z_s), the Monte Carlo estimate of E_q[log p(x|z)] (An & Cho 2015,
  algorithm 4); never above the former (Jensen)
- contributions: the mean log probability of each feature; they sum to the mean log probability

A gap (NaN) is left out: its contribution is 0 (Nazabal et al. 2018, https://arxiv.org/abs/1807.03653, eq. 5).

All are in nats, and **higher means more normal**.

References:
  An & Cho 2015, "Variational Autoencoder based Anomaly Detection using Reconstruction Probability".
"""

from __future__ import annotations

import math
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple, cast

import jax
import jax.numpy as jnp
from jax.sharding import Mesh, PartitionSpec

from vae_jax.chunks import map_chunks
from vae_jax.distributions import log_prob_per_dimension
from vae_jax.importance import check_num_samples
from vae_jax.networks import VAE, ColumnObservation, Gaussian, Observation, as_float, encode, log_prob_of_parts
from vae_jax.training.parallel import AXIS, replicated, sharded

if TYPE_CHECKING:
    from jaxtyping import Array, Float, PRNGKeyArray

# Decoded numbers (rows x samples x features) in flight. On a CPU they should fit the cache and stay below half a
# megabyte per array: the C library may release larger ones after each use, and allocating them again costs several
# times the work itself. On a TPU they should fit a core's own memory, and XLA compiles the program for eight times as
# many in minutes rather than seconds. A GPU needs enough to keep busy.
PROCESSOR_NUMBERS, TPU_NUMBERS, GPU_NUMBERS = 2**15, 2**21, 2**24
COLUMN_NUMBERS = 2**18  # of a table of columns on a CPU: one row's logits alone may be 2**15
# Inputs of a decoder's layer (rows x samples x width) in flight on a CPU. XLA multiplies more of them in panels, and in
# the last one adds up in another order, so that a score's last bit would depend on the row's place in its chunk.
PANEL_NUMBERS = 2**15
ROWS_ENCODED = 256  # rows encoded at once, approximately: a decoded chunk has too few rows to encode fast
# Precision of products. By default GPUs and TPUs shorten their factors; on an H200 that moved scores by up to 0.006 of
# their standard deviation.
PRECISION = "highest"
# Lower bound on a residual's standard deviation, in units of the standardised feature. A feature that is constant in
# training has residual 0, so any other value would have density 0 and alone decide the score.
MIN_RESIDUAL_SD = 1e-3


class Scores(NamedTuple):
    """Scores of N rows, in nats; higher = more normal.

    Attributes:
      log_reconstruction_prob: log of the mean over samples of p(x|z), shape (N,).
      mean_log_prob: mean over samples of log p(x|z), shape (N,).
      contributions: mean over samples of log p(x_d|z) per feature, shape (N, D); sums to `mean_log_prob`.

    Examples:
      >>> import jax
      >>> import jax.numpy as jnp
      >>> import vae_jax
      >>> vae = vae_jax.dense_vae(feature_dim=4, hidden_dims=(6,), learned_variance=True)
      >>> x = jax.random.normal(jax.random.key(0), (20, 4))
      >>> params = vae.init(jax.random.key(1), x, jnp.zeros((20, 2)))
      >>> scores = vae_jax.reconstruction_probability(vae, params, x, jax.random.key(2))
      >>> bool(jnp.allclose(scores.contributions.sum(1), scores.mean_log_prob, atol=1e-4))
      True
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
      x: the row, float, or uint8 for pixels.
      key: key of the latent noise, consumed.
      num_samples: number of latent samples S.
      residual_sd: standard deviation of each feature, for a decoder that gives only a mean.

    Returns:
      The row's `Scores`, with shapes (), () and (D,).

    Raises:
      ValueError: if neither the decoder nor `residual_sd` gives a variance, or `num_samples` is below 1.

    Examples:
      The gradient says how to make a row more normal:

      >>> import jax
      >>> import jax.numpy as jnp
      >>> import vae_jax
      >>> vae = vae_jax.dense_vae(feature_dim=4, hidden_dims=(6,), learned_variance=True)
      >>> x = jax.random.normal(jax.random.key(0), (20, 4))
      >>> params = vae.init(jax.random.key(1), x, jnp.zeros((20, 2)))
      >>> def score(row):
      ...     return vae_jax.score_row(vae, params, row, jax.random.key(2)).log_reconstruction_prob
      >>> jax.grad(score)(x[0]).shape
      (4,)
    """
    scores = score_block(vae, params, x[None], latent_noise(vae, key, num_samples), residual_sd)
    return jax.tree.map(lambda array: array[0], scores)


def score_block(
    vae: VAE,
    params: Any,
    x: Float[Array, "N D"],
    noise: Float[Array, "S L"],
    residual_sd: Float[Array, " D"] | None = None,
    gaps: bool = False,
) -> Scores:
    """The same as `reconstruction_probability` for all rows at once, with the noise that `latent_noise` draws."""
    x = as_float(x)
    with jax.default_matmul_precision(PRECISION):
        return _score_encoded(vae, params, x, _encode(vae, params, x, gaps), noise, residual_sd, gaps)


def latent_noise(vae: VAE, key: PRNGKeyArray, num_samples: int) -> Float[Array, "S L"]:
    """The noise of a row's S latent samples, which all rows share; raises ValueError where S is below 1."""
    check_num_samples(num_samples)
    return jax.random.normal(key, (num_samples, vae.latent_dim))


def _encode(vae: VAE, params: Any, x: Float[Array, "N D"], gaps: bool) -> Gaussian:
    """Encodes rows; a dense encoder sees 0 in a gap, and one of columns knows of gaps."""
    filled = gaps and getattr(vae.decoder, "layout", None) is None
    return encode(vae, params, jnp.where(jnp.isnan(x), 0.0, x) if filled else x)


def _score_encoded(
    vae: VAE,
    params: Any,
    x: Float[Array, "R D"],
    posterior: Gaussian,
    noise: Float[Array, "S L"],
    residual_sd: Float[Array, " D"] | None,
    gaps: bool = False,
) -> Scores:
    """Scores R rows given their posteriors."""
    num_samples = noise.shape[0]
    at_rows = Gaussian(*(part[:, None] for part in posterior))
    z = cast(Any, vae.apply(params, at_rows, noise[None], method="draw")).reshape(-1, vae.latent_dim)
    observation = vae.apply(params, jnp.repeat(x, num_samples, axis=0), z, method="observe")
    x = vae.target(x)
    missing = jnp.isnan(x.T[..., None]) if gaps and not isinstance(observation, ColumnObservation) else None
    if missing is not None:
        # Before the density: zeros in place of its NaN would leave NaN in gradients.
        x = jnp.where(jnp.isnan(x), 0.0, x)

    def features_first(array: Array) -> Array:
        """From (R * S, D) to (D, R, S), the decoder's own layout and the fastest for the sums below; see `Dense`."""
        return array.T.reshape(-1, x.shape[0], num_samples)

    if isinstance(observation, ColumnObservation):
        columns = cast(ColumnObservation, observation)
        mean, log_var, logits = map(features_first, (columns.mean, columns.log_var, columns.logits))
        log_prob = log_prob_of_parts(columns.layout, columns.constants, x.T[..., None], mean, log_var, logits)
        twice = -2 * log_prob
    elif isinstance(observation, Observation):
        if residual_sd is not None:
            log_var = 2 * jnp.log(residual_sd)[:, None, None]
        elif observation.log_var is not None:
            log_var = features_first(observation.log_var)
        else:
            raise ValueError("this decoder gives a mean alone, so scoring needs residual_sd")
        twice = -2 * log_prob_per_dimension(x.T[..., None], features_first(observation.mean), log_var)
    else:
        twice = -2 * features_first(cast(Any, observation).log_prob(jnp.repeat(x, num_samples, axis=0)))
    if missing is not None:
        twice = jnp.where(missing, 0.0, twice)
    # Halved after the sums, which saves a pass over the data.
    contributions = twice.mean(-1).T / -2
    return Scores(
        # logsumexp, because the densities of any unusual row underflow float32.
        log_reconstruction_prob=jax.nn.logsumexp(twice.sum(0) / -2, axis=-1) - math.log(num_samples),
        mean_log_prob=contributions.sum(-1),
        contributions=contributions,
    )


def reconstruction_probability(
    vae: VAE,
    params: Any,
    x: Float[Array, "N D"],
    key: PRNGKeyArray,
    num_samples: int = 100,
    residual_sd: Float[Array, " D"] | None = None,
    gaps: bool = False,
    platform: str | None = None,
) -> Scores:
    """Scores rows in chunks, so that memory does not grow with S * N.

    All rows share one draw of latent noise, so a score depends only on the model, the key and the row. It does not
    change with the order of the rows, the other rows or the devices.

    Args:
      vae: the module.
      params: its parameters.
      x: rows, float, or uint8 for pixels.
      key: key of the latent noise.
      num_samples: number of latent samples S.
      residual_sd: standard deviation of each feature if the decoder gives only a mean, see `measure_residual_sd`.
      gaps: whether a dense VAE's rows may have gaps (NaN), which its encoder sees as 0. A [`column_vae`][] always
        takes them.
      platform: what the program is for, which decides the size of a chunk: "cpu", "gpu" or "tpu"; by default JAX's
        default device.

    Returns:
      The `Scores` of the rows, higher = more normal.

    Raises:
      ValueError: as [`score_row`][] does, or if `x` has not two axes.

    Examples:
      >>> import jax
      >>> import jax.numpy as jnp
      >>> import vae_jax
      >>> vae = vae_jax.dense_vae(feature_dim=4, hidden_dims=(6,), learned_variance=True)
      >>> x = jax.random.normal(jax.random.key(0), (20, 4))
      >>> params = vae.init(jax.random.key(1), x, jnp.zeros((20, 2)))
      >>> scores = vae_jax.reconstruction_probability(vae, params, x, jax.random.key(2))
      >>> scores.log_reconstruction_prob.shape, scores.contributions.shape
      ((20,), (20, 4))
      >>> alone = vae_jax.reconstruction_probability(vae, params, x[7:8], jax.random.key(2))
      >>> bool(alone.log_reconstruction_prob[0] == scores.log_reconstruction_prob[7])
      True
    """
    x = as_float(x)
    if x.ndim != 2:
        raise ValueError(f"x is of shape {x.shape}: expected rows, of shape (N, D)")
    noise = latent_noise(vae, key, num_samples)
    layout = getattr(vae.decoder, "layout", None)
    decoded = layout.measured + layout.logits if layout else x.shape[1]
    if (platform := platform or jax.default_backend()) == "cpu":
        widest = max(getattr(vae.decoder, "hidden_dims", ()), default=1)
        numbers = min((COLUMN_NUMBERS if layout else PROCESSOR_NUMBERS) / decoded, PANEL_NUMBERS / widest)
    else:
        numbers = (TPU_NUMBERS if platform == "tpu" else GPU_NUMBERS) / decoded
    size = max(1, int(numbers // num_samples))

    def score(block: Array) -> Scores:
        def score_part(part: tuple[Array, Gaussian]) -> Scores:
            return _score_encoded(vae, params, part[0], part[1], noise, residual_sd, gaps)

        return map_chunks(score_part, (block, _encode(vae, params, block, gaps)), size)

    with jax.default_matmul_precision(PRECISION):
        return map_chunks(score, x, size * max(1, ROWS_ENCODED // size))


@partial(jax.jit, static_argnames=("vae", "num_samples", "mesh", "gaps"))
def score_models(
    vae: VAE,
    params: Any,
    x: Float[Array, "N D"],
    key: PRNGKeyArray,
    mesh: Mesh,
    num_samples: int = 100,
    residual_sd: Float[Array, "K D"] | None = None,
    gaps: bool = False,
) -> Scores:
    """Scores rows with each of K models, sharding the rows over the devices of a mesh.

    Args:
      vae: the module.
      params: parameters of K models, stacked along the first axis.
      x: rows, float, or uint8 for pixels.
      key: key of the latent noise, which all models share.
      mesh: the devices.
      num_samples: number of latent samples S.
      residual_sd: standard deviation of each model's features, for decoders that give only a mean.
      gaps: as for [`reconstruction_probability`][].

    Returns:
      `Scores` with a first axis of K models, higher = more normal; of several processes, each can read all of them.

    Examples:
      >>> import jax
      >>> import jax.numpy as jnp
      >>> import vae_jax
      >>> vae = vae_jax.dense_vae(feature_dim=4, hidden_dims=(6,), learned_variance=True)
      >>> x = jax.random.normal(jax.random.key(0), (20, 4))
      >>> keys = jax.random.split(jax.random.key(1), 3)
      >>> params = jax.vmap(lambda key: vae.init(key, x, jnp.zeros((20, 2))))(keys)
      >>> scores = vae_jax.score_models(vae, params, x, jax.random.key(2), vae_jax.data_mesh())
      >>> scores.log_reconstruction_prob.shape
      (3, 20)
    """

    platform = mesh.devices.flat[0].platform

    def score_shard(params, x, key, residual_sd):
        def one_model(model):
            params, residual_sd = model
            return reconstruction_probability(vae, params, x, key, num_samples, residual_sd, gaps, platform)

        scores = jax.lax.map(one_model, (params, residual_sd))  # one model at a time, to save memory
        return jax.lax.all_gather(scores, AXIS, axis=1, tiled=True) if gathered else scores

    # Of several processes each can read only what its own devices have, so every device gets all scores.
    gathered = mesh.is_multi_process
    rows = x.shape[0]
    padding = -rows % mesh.size
    scores = jax.shard_map(
        score_shard,
        mesh=mesh,
        in_specs=(replicated, sharded, replicated, replicated),
        out_specs=replicated if gathered else PartitionSpec(None, AXIS),
        check_vma=False,
    )(params, jnp.pad(x, ((0, padding), (0, 0))), key, residual_sd)
    return jax.tree.map(lambda array: array[:, :rows], scores)


def measure_residual_sd(vae: VAE, params: Any, x: Float[Array, "N D"], key: PRNGKeyArray) -> Float[Array, " D"]:
    """Measures the residual standard deviation of each feature, for a decoder that gives only a mean.

    Args:
      vae: the module.
      params: its parameters.
      x: genuine held-out rows, float, or uint8 for pixels.
      key: key for drawing one latent per row.

    Returns:
      The root mean squared residual of each feature, at least 0.001.

    Examples:
      >>> import jax
      >>> import jax.numpy as jnp
      >>> import vae_jax
      >>> vae = vae_jax.dense_vae(feature_dim=4, hidden_dims=(6,), learned_variance=False)
      >>> x = jax.random.normal(jax.random.key(0), (20, 4))
      >>> params = vae.init(jax.random.key(1), x, jnp.zeros((20, 2)))
      >>> residual_sd = vae_jax.measure_residual_sd(vae, params, x, jax.random.key(2))
      >>> residual_sd.shape
      (4,)
      >>> scores = vae_jax.reconstruction_probability(vae, params, x, jax.random.key(3), residual_sd=residual_sd)
    """
    x = as_float(x)
    with jax.default_matmul_precision(PRECISION):
        posterior = encode(vae, params, x)
        noise = jax.random.normal(key, posterior.mean.shape, posterior.mean.dtype)
        z = vae.apply(params, posterior, noise, method="draw")
        observation = cast(Any, vae.apply(params, x, z, method="observe"))
        residuals = vae.target(x) - observation.mean
    return jnp.maximum(jnp.sqrt(jnp.square(residuals).mean(0)), MIN_RESIDUAL_SD)
