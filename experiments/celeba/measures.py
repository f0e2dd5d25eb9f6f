"""Measures of a trained face model, and warnings about what is wrong with it."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from experiments.celeba import gallery
from experiments.celeba.config import CelebaConfig
from experiments.celeba.face_model import FaceModel
from experiments.celeba.inputs import Inputs
from experiments.celeba.model import Encoded
from vae_jax.images.measures import reconstruction_errors, sliced_wasserstein
from vae_jax.training import stream_key

# Protocol of the sliced Wasserstein distance; values from different protocols are not comparable.
SWD_PICTURES, SWD_PATCHES, SWD_PROJECTIONS, SWD_SEED = 512, 128, 512, 0
MEMORISED = 1.5  # held-out RMSE / training RMSE above which the training set counts as memorised
INFORMATIVE = 0.1  # nats of KL above which a latent counts as carrying information about pictures
FEW_STEPS = 500  # with fewer, latents that are not active say nothing about the weight
BLURRED = 0.9  # held-out RMSE / mean picture's RMSE above which reconstructions count as blurred to the mean


def evaluate(config: CelebaConfig, inputs: Inputs, model: FaceModel, held_out: Encoded) -> dict[str, Any]:
    """Measures reconstructions of held-out pictures and distances between sets of pictures.

    Args:
      held_out: results for the test pictures.

    Returns:
      The entry `evaluation` of `metrics.json`.
    """
    pixels, measured = inputs.images.pixels, held_out.means()
    rng = np.random.default_rng(config.seed)
    count = min(SWD_PICTURES, len(inputs.test), len(inputs.train))
    pictures = pixels[np.sort(rng.choice(inputs.test, count, replace=False))]
    training = pixels[np.sort(rng.choice(inputs.train, count, replace=False))]
    reconstructed = model.decode(model.encode(pictures))
    key = stream_key(jax.random.key(config.seed), "evaluation")
    sets = {
        "training_pictures": gallery.as_pictures(training),
        "reconstructions": reconstructed,
        "prior_samples": gallery.samples(model, "prior", key, count, config.temperature),
        "mixture_samples": gallery.samples(model, "mixture", key, count),
    }
    real = gallery.as_pictures(pictures)
    return {
        **reconstruction_means(pixels[inputs.test], model),
        "kl": float(measured["kl"]),
        "loss": float(measured["loss"]),
        "active_latents": int(measured["active_latents"]),
        "informative_latents": informative_latents(held_out),
        "training_rmse": reconstruction_means(training, model)["rmse"],
        "mean_picture_rmse": _mean_picture_rmse(inputs),
        "sliced_wasserstein": {
            name: sliced_wasserstein(real, pictures, SWD_SEED, SWD_PATCHES, SWD_PROJECTIONS)
            for name, pictures in sets.items()
        },
        "sliced_wasserstein_protocol": {
            "pictures": count,
            "patches_per_picture": SWD_PATCHES,
            "projections": SWD_PROJECTIONS,
            "seed": SWD_SEED,
            "unit": "1e-3, against held-out pictures",
        },
    }


def informative_latents(encoded: Encoded) -> int:
    """The number of latents whose KL is above 0.1 nats: many that vary a little tell nothing about a picture."""
    return int((encoded.kl_per_latent() > INFORMATIVE).sum())


def reconstruction_means(pixels: np.ndarray, model: FaceModel) -> dict[str, float]:
    """Mean of each error of reconstructions from the posterior mean."""
    compare = jax.jit(reconstruction_errors)
    found = []
    for start in range(0, len(pixels), 256):  # pictures of floats in memory at once
        taken = pixels[start : start + 256]
        decoded = model.decode(model.encode(taken))
        found.append(compare(jnp.asarray(gallery.as_pictures(taken)), jnp.asarray(decoded))._asdict())
    return {name: float(np.concatenate([errors[name] for errors in found]).mean()) for name in found[0]}


def _mean_picture_rmse(inputs: Inputs) -> float:
    """RMSE of the best decoder without latents: one that returns the mean training picture."""
    pixels = inputs.images.pixels
    mean = np.mean([gallery.as_pictures(pixels[row]) for row in inputs.train[:2000]], axis=0)
    return float(np.mean([np.sqrt(np.square(gallery.as_pictures(pixels[row]) - mean).mean()) for row in inputs.test]))


def warnings(evaluation: dict, steps: int) -> list[str]:
    """What the measures show to be wrong after so many steps, in plain words."""
    found = []
    if evaluation["active_latents"] == 0 and steps < FEW_STEPS:
        found.append(f"HARDLY TRAINED: no latent is active yet, after {steps:,} steps. Train for more epochs.")
    elif evaluation["active_latents"] == 0:
        found.append(
            "POSTERIOR COLLAPSE: no latent is active, so the decoder returns the same face for every picture. Raise "
            "--weight."
        )
    elif evaluation["rmse"] > BLURRED * evaluation["mean_picture_rmse"]:
        closer = "hardly closer" if evaluation["rmse"] < evaluation["mean_picture_rmse"] else "no closer"
        found.append(
            f"BLURRED TO THE MEAN: reconstructions (RMSE {evaluation['rmse']:.3f}) are {closer} to the held-out "
            f"pictures than the mean picture is ({evaluation['mean_picture_rmse']:.3f}). Train for more epochs, or "
            "raise --weight."
        )
    if evaluation["rmse"] > MEMORISED * evaluation["training_rmse"]:
        found.append(
            f"MEMORISED: the RMSE on held-out pictures ({evaluation['rmse']:.3f}) is far above that on training "
            f"pictures ({evaluation['training_rmse']:.3f}). Use more pictures or fewer epochs."
        )
    return found
