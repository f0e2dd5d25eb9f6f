"""Measures of a trained model on test images: log p(x) and the latents in use."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from rich.console import Console

from experiments.mnist.models import Model
from experiments.runs.progress import WorkProgress
from vae_jax.importance import log_likelihood
from vae_jax.networks import encode
from vae_jax.training import TrainState, binarise, stream_key
from vae_jax.training.step import ACTIVE_LATENT_VARIANCE

ROWS = 500  # test images in one compiled call
DRAWS = 50  # posterior samples of each half, for the active latents

# Negative log likelihoods of MNIST's test images, nats, by (objective, layers, samples): Burda et al. 2016, table 1.
PUBLISHED = {
    ("vae", 1, 1): 86.76,
    ("vae", 1, 5): 86.47,
    ("vae", 1, 50): 86.35,
    ("iwae", 1, 1): 86.76,
    ("iwae", 1, 5): 85.54,
    ("iwae", 1, 50): 84.78,
    ("vae", 2, 1): 85.33,
    ("vae", 2, 5): 85.01,
    ("vae", 2, 50): 84.78,
    ("iwae", 2, 1): 85.33,
    ("iwae", 2, 5): 83.89,
    ("iwae", 2, 50): 82.90,
}


def draw_test_bits(pixels: np.ndarray, seed: int) -> np.ndarray:
    """The test images as bits, the same for every model of a run."""
    return np.asarray(binarise(stream_key(jax.random.key(seed), "test bits"), jnp.asarray(pixels)))


def evaluate(model: Model, state: TrainState, bits: np.ndarray, num_samples: int, output: Console) -> dict:
    """Estimates each image's log p(x), and counts the latents in use."""

    @jax.jit
    def measure(params: Any, x: jax.Array, key: jax.Array) -> jax.Array:
        return log_likelihood(state.vae, params, x.astype(jnp.float32), key, num_samples)

    rows = min(ROWS, len(bits))
    found = []
    with WorkProgress(f"log p(x), {model.title}", "images", output) as progress:
        progress.show(0, len(bits))
        for start in range(0, len(bits), rows):
            taken = bits[start : start + rows]
            filled = np.concatenate([taken, np.zeros((rows - len(taken), bits.shape[1]), bool)])
            key = stream_key(state.key, "log likelihood", start)
            found.append(np.asarray(measure(state.params, filled, key))[: len(taken)])
            progress.show(start + len(taken), len(bits))
    log_prob = np.concatenate(found)
    return {
        "negative_log_likelihood": float(-log_prob.mean()),
        "standard_error": float(log_prob.std() / np.sqrt(len(log_prob))),
        "active_latents": active_by_layer(state, bits, model.latent_dims),
    }


def active_by_layer(state: TrainState, bits: np.ndarray, latent_dims: tuple[int, ...]) -> list[int]:
    """Counts the latents in use in each layer, by the definition of Burda et al. 2016, section 5.2.

    A latent u is in use if Cov_x(E[u|x]) is above 0.01. The expectation is over the posterior; two independent means of
    its samples, multiplied, estimate the covariance without bias.
    """

    @jax.jit
    def halves(params: Any, x: jax.Array, key: jax.Array) -> tuple[jax.Array, jax.Array]:
        posterior = encode(state.vae, params, x.astype(jnp.float32))

        def mean(key: jax.Array) -> jax.Array:
            noise = jax.random.normal(key, (DRAWS, *posterior.mean.shape))
            return jnp.asarray(state.vae.apply(params, posterior, noise, method="draw")).mean(0)

        return mean(jax.random.fold_in(key, 0)), mean(jax.random.fold_in(key, 1))

    pairs = [
        halves(state.params, bits[start : start + ROWS], stream_key(state.key, "active latents", start))
        for start in range(0, len(bits), ROWS)
    ]
    first, second = (np.concatenate([np.asarray(pair[half], np.float64) for pair in pairs]) for half in (0, 1))
    covariance = ((first - first.mean(0)) * (second - second.mean(0))).mean(0)
    in_use = np.split(covariance > ACTIVE_LATENT_VARIANCE, np.cumsum(latent_dims)[:-1])
    return [int(layer.sum()) for layer in in_use]
