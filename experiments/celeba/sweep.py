"""The sweep behind the faces experiment's weights: train at each weight, measure on validation pictures only."""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Literal

import jax
import numpy as np

from experiments import PROGRAM
from experiments.celeba import face_model, gallery
from experiments.celeba.config import CelebaConfig, Reconstruction
from experiments.celeba.inputs import CELEBA, Inputs
from experiments.celeba.measures import informative_latents, reconstruction_means
from experiments.celeba.model import PictureChunks, train
from experiments.command_line import parse, run
from experiments.runs import run_folder
from experiments.runs.progress import console
from experiments.runs.sweep import sweep
from experiments.startup import prepare_jax
from vae_jax.images.measures import sliced_wasserstein
from vae_jax.training import stream_key

COMMAND = f"{PROGRAM} celeba-sweep"
MEASURES = ("RMSE", "PSNR (dB)", "SSIM", "KL (nats)", "active latents", "above 0.1 nats")
DISTANCES = ("SWD reconstructions", "SWD prior", "SWD mixture")  # sliced Wasserstein, to validation pictures

COMPARED = 1_000  # validation pictures whose distances are measured: 3 MB of memory each


@dataclass(frozen=True)
class CelebaSweepConfig:
    """Compare weights of the reconstruction term, measured on validation pictures only."""

    data: str = "auto"
    """Pictures to use, as in the celeba command."""
    reconstruction: Reconstruction = "rmse"
    """Reconstruction term, as in the celeba command."""
    weights: tuple[float, ...] = (250, 500, 1000, 2000, 4000, 8000)
    """Weights to try."""
    epochs: int = 8
    """Passes over the training pictures."""
    batch_size: int = 64
    """Pictures per step."""
    dtype: Literal["auto", "float32", "bfloat16"] = "auto"
    """Precision of the computation, as in the celeba command."""
    limit: int | None = None
    """Use only this many pictures."""
    cache: str = CelebaConfig.cache
    """Folder for prepared pictures."""
    seed: int = 0
    """Random seed."""


def main(arguments: Sequence[str]) -> None:
    """Runs the sweep."""
    config = parse(CelebaSweepConfig, COMMAND, arguments)
    options = {name: value for name, value in asdict(config).items() if name != "weights"}
    sweep(
        CELEBA,
        {weight: CelebaConfig(**options, weight=weight, save_every=config.epochs) for weight in config.weights},
        (*MEASURES, *DISTANCES),
        measure_weight,
        lambda inputs: f"validation pictures of {inputs.images.pictures.source}",
    )


def measure_weight(config: CelebaConfig, inputs: Inputs) -> list[str]:
    """Trains a model, and returns the cells of its row."""
    with tempfile.TemporaryDirectory() as folder:
        state = train(config, inputs, run_folder.create("celeba-sweep", folder, config), console())
    chunks, pixels, rows = PictureChunks(state), inputs.images.pixels, inputs.validation
    encoded = chunks.encode(state, pixels, inputs.train)
    labels = np.zeros((len(inputs.train), 0), np.int8)
    model = face_model.study_latents(
        state, encoded.mean, encoded.log_var, labels, (), config.mixture_components, config.seed
    )
    validation, errors = chunks.encode(state, pixels, rows), reconstruction_means(pixels[rows], model)
    measured = validation.means()
    key = stream_key(jax.random.key(config.seed), "evaluation")
    compared = pixels[rows[:COMPARED]]
    real = gallery.as_pictures(compared)
    sets = (
        model.decode(model.encode(compared)),
        gallery.samples(model, "prior", key, len(compared)),
        gallery.samples(model, "mixture", key, len(compared)),
    )
    return [
        f"{errors['rmse']:.4f}",
        f"{errors['psnr']:.2f}",
        f"{errors['ssim']:.3f}",
        f"{measured['kl']:.1f}",
        f"{measured['active_latents']}",
        f"{informative_latents(validation)}",
        *(f"{sliced_wasserstein(real, pictures)['mean']:.1f}" for pictures in sets),
    ]


if __name__ == "__main__":
    prepare_jax(large_arrays=True)
    sys.exit(run(main, sys.argv[1:]))
