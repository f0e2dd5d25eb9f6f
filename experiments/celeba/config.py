"""The options of the faces experiment."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Literal

import jax

from experiments.command_line import require
from experiments.runs.options import RunOptions

Reconstruction = Literal["rmse", "mse", "gaussian"]

# Default weight of each reconstruction term: from the sweep in benchmarks/RESULTS.md, from the report's reference code,
# and, for the last, to make the loss a negative ELBO.
WEIGHTS: dict[str, float] = {"rmse": 2_000.0, "mse": 10_000.0, "gaussian": 1.0}


@dataclass(frozen=True)
class FaceOptions:
    """The pictures, the model and its training."""

    preset: Literal["full", "report", "smoke"] = "full"
    """Defaults of the other options: full (the whole experiment), report (the same with the original report's loss), \
or smoke, which takes about three minutes on two cores."""
    data: str = "auto"
    """Pictures to use: auto, kaggle, tfds, synthetic, or a folder or zip of JPEG, PNG, WebP, AVIF, BMP, TIFF and, \
with pillow-heif, HEIC files. auto takes the first it finds of $VAE_JAX_DATA/celeba, data/celeba, a download from \
Kaggle, one by tensorflow-datasets and, without a network, built-in drawn faces."""
    limit: int | None = None
    """Use only this many pictures, the same share of training, validation and test."""
    image_size: int = 128
    """Height and width in pixels, a multiple of 16."""
    crop: Literal["none", "center"] = "none"
    """How to make pictures square: none squeezes the whole picture, as the original report does; center cuts out the \
middle."""
    cache: str = "~/.cache/vae_jax/images"
    """Folder for prepared pictures (49 kB each at 128 x 128)."""
    latent_dim: int = 200
    """Number of latent dimensions."""
    reconstruction: Reconstruction = "gaussian"
    """Reconstruction term: gaussian (a likelihood with a learned variance), rmse (the original report's) or mse (its \
reference code's)."""
    weight: float | None = None
    """Weight of the reconstruction term; by default 2,000 for rmse (from the sweep in benchmarks/RESULTS.md), 10,000 \
for mse and 1 for gaussian."""
    epochs: int = 400
    """Passes over the training pictures."""
    batch_size: int = 512
    """Pictures per step, over all devices together."""
    learning_rate: float = 5e-4
    """Learning rate of Adam."""
    dtype: Literal["auto", "float32", "bfloat16"] = "auto"
    """Precision of the computation: float32, bfloat16, or auto (bfloat16 on GPUs and TPUs, else float32). Parameters, \
loss and optimiser are float32 either way."""
    placement: Literal["auto", "resident", "stream"] = "auto"
    """Where training pictures are kept: resident (all on every device; every process reads all of them), stream (read \
ahead from disk; each process reads only its share), or auto (resident for a single process if they fit, else \
stream)."""
    temperature: float = 1.0
    """Standard deviation of the latents of new faces from the prior, relative to the prior's; the mixture keeps its \
own."""
    mixture_components: int = 10
    """Maximum number of components of the Gaussian mixture fitted to the latents."""
    save_every_minutes: float = 10.0
    """Minutes between extra checkpoints within an epoch."""
    seed: int = 0
    """Random seed."""


@dataclass(frozen=True)
class CelebaConfig(RunOptions, FaceOptions):
    """Train a convolutional VAE on faces; reconstruct, generate and edit them. The model is the original report's."""

    @property
    def used_weight(self) -> float:
        """The weight of the reconstruction term."""
        return WEIGHTS[self.reconstruction] if self.weight is None else self.weight


PRESETS = {
    "full": CelebaConfig(),
    "report": CelebaConfig(preset="report", reconstruction="rmse"),
    "smoke": CelebaConfig(
        preset="smoke", limit=2_000, batch_size=32, epochs=10, learning_rate=1e-3, save_every=1, save_every_minutes=1.0
    ),
}


def preset(config: CelebaConfig) -> CelebaConfig:
    """The defaults of a config's preset."""
    return PRESETS[config.preset]


def settle(config: CelebaConfig) -> CelebaConfig:
    """Decides the options that depend on the machine."""
    if config.dtype != "auto":
        return config
    return replace(config, dtype="float32" if jax.default_backend() == "cpu" else "bfloat16")


def check(config: CelebaConfig) -> None:
    """Raises UsageError, naming the option, for an invalid value."""
    positive = (
        "latent_dim",
        "epochs",
        "batch_size",
        "learning_rate",
        "temperature",
        "mixture_components",
        "save_every",
        "save_every_minutes",
    )
    devices = jax.device_count()
    require(
        config,
        [
            *((name, 0 < getattr(config, name) < math.inf, "more than 0") for name in positive),
            ("image_size", config.image_size > 0 and config.image_size % 16 == 0, "a multiple of 16"),
            ("limit", config.limit is None or config.limit >= 10, "10 or more"),
            ("weight", config.weight is None or 0 < config.weight < math.inf, "more than 0"),
            ("seed", 0 <= config.seed < 2**32, "between 0 and 2^32 - 1"),
            ("batch_size", config.batch_size % devices == 0, f"a multiple of the {devices} devices"),
        ],
    )
