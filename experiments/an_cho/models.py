"""The models of An & Cho's experiments. Scores: higher = more normal."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, partial
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple, cast

import jax
import jax.numpy as jnp
import numpy as np
import optax
from sklearn.decomposition import PCA, KernelPCA
from sklearn.metrics.pairwise import euclidean_distances, rbf_kernel

from experiments.command_line import RunError
from vae_jax.networks import VAE, decode, dense_vae, encode
from vae_jax.objectives import Objective, Terms, bernoulli, gaussian
from vae_jax.scoring import score_models
from vae_jax.training import TrainState, as_float, create_train_state, stream_key, train_epoch
from vae_jax.training.parallel import AXIS, compile_parallel, data_mesh, replicate, replicated

if TYPE_CHECKING:
    from jaxtyping import Array, Float, Int, Shaped

    from experiments.an_cho.config import AnChoConfig, Likelihood

Score = Callable[[np.ndarray], np.ndarray]

KERNEL_CHUNK = 2_000  # rows whose kernel values are in memory at once


@dataclass(frozen=True)
class SquaredError:
    """The loss of an autoencoder: a VAE's networks, decoded at the posterior's mean, without noise and without KL."""

    adds_noise: ClassVar[bool] = False
    input_noise: ClassVar[float] = 0.0

    def noise_shape(self, latent_dim: int) -> tuple[int, ...]:
        """Shape of an example's noise: one number, which nothing uses; an epoch's scan takes no empty arrays."""
        return (1,)

    def evaluate(
        self, vae: VAE, params: Any, x: Float[Array, "B D"], noise: Float[Array, "B 1"], seen: Any
    ) -> tuple[Terms, Any, Any]:
        """Returns the summed squared error of each example as reconstruction term, the posterior and p(x|mean)."""
        posterior = encode(vae, params, seen)
        observation = decode(vae, params, posterior.mean)
        error = jnp.square(x - observation.mean).sum(-1)
        return Terms(error, jnp.zeros_like(error)), posterior, observation

    def loss(self, terms: Terms, step: Int[Array, ""] | None = None) -> Float[Array, " B"]:
        """The loss of each example."""
        return terms.reconstruction


def vae_of(likelihood: Likelihood, feature_dim: int, config: AnChoConfig) -> tuple[VAE, Objective]:
    """The VAE and its loss, a negative evidence lower bound."""
    bits = likelihood == "bernoulli"
    widths = {"hidden_dims": config.hidden_dims, "latent_dim": config.latent_dim}
    vae = dense_vae(feature_dim, **widths, learned_variance=not bits, bernoulli=bits)
    return vae, Objective(bernoulli if bits else gaussian)


def autoencoder_of(likelihood: Likelihood, feature_dim: int, config: AnChoConfig) -> tuple[VAE, SquaredError]:
    """The autoencoder, of the VAE's widths, and its loss. Features in [0, 1] are decoded by a sigmoid."""
    widths = {"hidden_dims": config.hidden_dims, "latent_dim": config.latent_dim}
    return dense_vae(feature_dim, **widths, bernoulli=likelihood == "bernoulli"), SquaredError()


def fit(
    vae: VAE,
    objective: Objective | SquaredError,
    x: Shaped[np.ndarray, "N D"],
    config: AnChoConfig,
    key: jax.Array,
    log: Callable[[dict], object],
) -> Any:
    """Trains on all devices; models of equal shapes and numbers of rows share one compiled program.

    Args:
      vae: the module.
      objective: the loss.
      x: training rows, float, or uint8 for pixels.
      config: the options.
      key: the model's key.
      log: called with each epoch's record.

    Returns:
      The parameters after the last epoch.

    Raises:
      RunError: if the loss is no longer finite.
    """
    mesh = data_mesh()
    state = create_train_state(key, vae, objective, _adam(config.learning_rate), x.shape[1:])
    state, data = replicate((state, jnp.asarray(x)), mesh)
    advance = _epoch(config.batch_size)
    for epoch in range(1, config.epochs + 1):
        state, info = advance(state, data)
        means = {name: float(values.mean()) for name, values in info.items()}
        if not np.isfinite(means["loss"]):
            rate = f"--learning-rate {config.learning_rate:g}"
            raise RunError(f"{rate}: the loss is {means['loss']} in epoch {epoch}; use a lower rate")
        log({"epoch": epoch, **means})
    return cast(TrainState, state).params


@cache  # part of the state's type: another object would compile the epoch again
def _adam(learning_rate: float) -> optax.GradientTransformation:
    return optax.adam(learning_rate)


@cache
def _epoch(batch_size: int) -> Callable:
    function = partial(train_epoch, batch_size=batch_size, axis_name=AXIS)
    return compile_parallel(function, data_mesh(), (replicated, replicated), replicated)


def reconstruction_probability(vae: VAE, params: Any, num_samples: int, key: jax.Array) -> Score:
    """The mean over latent samples of log p(x|z), nats (An & Cho 2015, algorithm 4)."""
    stacked = jax.tree.map(lambda leaf: leaf[None], params)
    return lambda x: np.asarray(_log_probs(vae, stacked, jnp.asarray(x), key, num_samples), np.float64)


@partial(jax.jit, static_argnums=(0, 4))
def _log_probs(vae: VAE, params: Any, x: Array, key: jax.Array, num_samples: int) -> Float[Array, " N"]:
    return score_models(vae, params, as_float(x), key, data_mesh(), num_samples).mean_log_prob[0]


def reconstruction_error(vae: VAE, params: Any) -> Score:
    """The negative squared error of the reconstruction from the posterior's mean."""
    return lambda x: -np.asarray(_errors(vae, params, jnp.asarray(x)), np.float64)


@partial(jax.jit, static_argnums=0)
def _errors(vae: VAE, params: Any, x: Array) -> Float[Array, " N"]:
    x = as_float(x)
    return jnp.square(x - decode(vae, params, encode(vae, params, x).mean).mean).sum(-1)


def pca(train: Float[np.ndarray, "N D"], variance: float) -> Score:
    """The negative squared error of the reconstruction from the components that explain a share of the variance."""
    solver = "covariance_eigh" if len(train) > train.shape[1] else "full"  # the faster one; they agree
    model = PCA(variance, svd_solver=solver).fit(train.astype(np.float64))

    def score(x: np.ndarray) -> np.ndarray:
        return -np.square(x - model.inverse_transform(model.transform(x))).sum(1)

    return score


class Kernel(NamedTuple):
    """A kernel.

    Attributes:
      values: maps rows of shapes (N, D) and (M, D) to k(x, y), shape (N, M).
      diagonal: maps rows of shape (N, D) to k(x, x), shape (N,).
    """

    values: Callable[[np.ndarray, np.ndarray], np.ndarray]
    diagonal: Callable[[np.ndarray], np.ndarray]


def gaussian_kernel(train: Float[np.ndarray, "N D"], width: float) -> Kernel:
    """exp(-|x - y|² / (2 s²)), s² being `width` times half the median squared distance between training rows."""
    distances = euclidean_distances(train, squared=True)
    median = float(np.median(distances[np.triu_indices(len(train), 1)]))
    # More than half of the pairs may be equal rows.
    gamma = 1 / (width * (median or float(distances.mean()) or 1.0))
    return Kernel(partial(rbf_kernel, gamma=gamma), lambda x: np.ones(len(x)))


def kernel_pca(train: Float[np.ndarray, "N D"], variance: float, kernel: Kernel) -> Score:
    """The negative squared error of the reconstruction in feature space (Hoffmann 2007).

    With a linear kernel it is that of `pca`. Rows need not be mapped back from feature space to measure it.

    Args:
      train: rows to fit.
      variance: share of the variance in feature space that the components explain.
      kernel: the kernel.

    References:
      Hoffmann 2007, "Kernel PCA for novelty detection", eq. 7.
    """
    of_train = kernel.values(train, train)
    model = KernelPCA(kernel="precomputed", eigen_solver="dense", remove_zero_eig=True).fit(of_train)
    explained = np.cumsum(model.eigenvalues_) / model.eigenvalues_.sum()
    count = int(np.searchsorted(explained, variance)) + 1

    def potential(x: np.ndarray) -> np.ndarray:
        values = kernel.values(x, train)
        # The squared distance from the mean in feature space, less what the components explain of it.
        distance = kernel.diagonal(x) - 2 * values.mean(1) + of_train.mean()
        return distance - np.square(model.transform(values)[:, :count]).sum(1)

    def score(x: np.ndarray) -> np.ndarray:
        return -np.concatenate([potential(x[i : i + KERNEL_CHUNK]) for i in range(0, len(x), KERNEL_CHUNK)])

    return score


def model_key(seed: int, task: str, anomaly: str, what: str) -> jax.Array:
    """The key of one model, or of its scores."""
    return stream_key(jax.random.key(seed), f"{task} {anomaly} {what}")
