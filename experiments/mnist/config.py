"""The options of the digits experiment."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, replace
from typing import Literal

import jax

from experiments.command_line import require
from experiments.runs.options import RunOptions

# Epochs of the schedule in Burda et al. 2016, section 5: stage i, from 0 to 7, takes 3^i.
STAGES = tuple(3**stage for stage in range(8))


@dataclass(frozen=True)
class DigitOptions:
    """The digits, the models and their training."""

    preset: Literal["paper", "short"] = "paper"
    """Defaults of the other options: paper (3,280 epochs for each of ten models: for a GPU), or short (one layer of \
latents, a VAE by 150 epochs of Muon, an IWAE with 50 samples from there on)."""
    figure: Literal["iwae", "aevb"] = "iwae"
    """What to reproduce: iwae (the log likelihoods of Burda et al. 2016, table 1) or aevb (the bound against the \
number of training samples for several numbers of latents, Kingma & Welling 2013, figure 2)."""
    data: str = "auto"
    """Digits to use: auto, kaggle, tfds, synthetic, or a folder with MNIST's four idx files, plain or gzipped. auto \
takes the first it finds of $VAE_JAX_DATA/mnist, data/mnist, a download from Kaggle, one by tensorflow-datasets and, \
without a network, built-in drawn digits."""
    limit: int | None = None
    """Use only this many training images, and a fifth as many test images."""
    objective: tuple[Literal["vae", "iwae"], ...] = ("vae", "iwae")
    """Objectives to train: vae (ELBO, averaged over the samples) and iwae (importance-weighted bound)."""
    samples: tuple[int, ...] = (1, 5, 50)
    """Numbers of posterior samples to train with. With one, both objectives are the same, so it is trained once."""
    layers: tuple[int, ...] = (1, 2)
    """Numbers of layers of latents: 1 (50 latents) and 2 (100 and 50)."""
    doubly_reparameterised: bool = False
    """Train iwae with the doubly reparameterised gradient (Tucker et al. 2019) instead of the paper's."""
    latents: tuple[int, ...] = (3, 5, 10, 20, 200)
    """With --figure aevb: numbers of latents."""
    epochs: int = sum(STAGES)
    """Passes over the training images."""
    continued_epochs: int = 0
    """Start models with several samples from the trained VAE with one, as in Burda et al. 2016, table 2, for so many \
epochs; 0 trains them from scratch."""
    optimizer: Literal["adam", "published", "muon"] = "adam"
    """Optimiser: adam (as the paper describes it), published (as in its authors' code: gradients are summed over a \
batch, beta 1 is 0.99, and second moments start at 1), or muon (orthogonalised momentum for matrices, Jordan et al. \
2024, and Adam for biases): fewer epochs, longer ones. With --figure aevb it is Adagrad."""
    schedule: Literal["paper", "cosine"] = "paper"
    """Learning rate: paper (eight stages, each three times as long as the one before, from 1 to 0.1 times \
--learning-rate) or cosine (from --learning-rate to 0). With --figure aevb it is constant."""
    learning_rate: float = 1e-3
    """Learning rate of Adam at the start; Muon's is 10 times this, and that of models that continue a third. With \
--figure aevb, Adagrad's step size is 20 times this."""
    batch_size: int = 20
    """Images per step; with --figure aevb, five times as many."""
    test_samples: int = 5000
    """Posterior samples for each test image's log likelihood."""
    plane_epochs: int = 100
    """Epochs of the extra model with two latents, whose plane the page shows; 0 for none."""
    seed: int = 0
    """Random seed."""


@dataclass(frozen=True)
class MnistConfig(RunOptions, DigitOptions):
    """Train VAEs and importance-weighted autoencoders on digits, estimate log p(x), and compare with the papers."""

    save_every: int = 10


PRESETS = {
    "paper": MnistConfig(),
    "short": MnistConfig(
        preset="short",
        objective=("iwae",),
        samples=(1, 50),
        layers=(1,),
        epochs=150,
        continued_epochs=15,
        optimizer="muon",
        schedule="cosine",
        learning_rate=2e-3,
        batch_size=200,
        plane_epochs=10,
        save_every=1,
    ),
}
# With --figure aevb, whose optimiser and models are others.
AEVB_SHORT = {"epochs": 30, "learning_rate": MnistConfig.learning_rate, "batch_size": MnistConfig.batch_size}


def preset(config: MnistConfig) -> MnistConfig:
    """The defaults of a config's preset."""
    chosen = PRESETS[config.preset]
    return replace(chosen, **AEVB_SHORT) if (config.preset, config.figure) == ("short", "aevb") else chosen


# Options without a use for --figure aevb.
IWAE_ONLY = (
    "objective",
    "samples",
    "layers",
    "doubly_reparameterised",
    "continued_epochs",
    "optimizer",
    "schedule",
    "test_samples",
    "plane_epochs",
)


def settings(config: MnistConfig) -> dict:
    """The options that a run had a use for."""
    unused = IWAE_ONLY if config.figure == "aevb" else ("latents",)
    return {name: value for name, value in asdict(config).items() if name not in unused}


def images_per_step(config: MnistConfig) -> int:
    """Images in a step of the models of the figure."""
    return 5 * config.batch_size if config.figure == "aevb" else config.batch_size


def check(config: MnistConfig) -> None:
    """Raises UsageError, naming the option, for an invalid value."""
    positive = ("epochs", "learning_rate", "batch_size", "test_samples", "save_every")
    devices = jax.device_count()

    def different(values: tuple, allowed: bool) -> bool:
        return len(set(values)) == len(values) > 0 and allowed

    require(
        config,
        [
            *((name, 0 < getattr(config, name) < math.inf, "more than 0") for name in positive),
            ("objective", different(config.objective, True), "different objectives"),
            ("samples", different(config.samples, min(config.samples, default=0) > 0), "different numbers above 0"),
            ("layers", different(config.layers, set(config.layers) <= {1, 2}), "1, 2 or both"),
            ("latents", different(config.latents, min(config.latents, default=0) > 0), "different numbers above 0"),
            ("limit", config.limit is None or config.limit >= 1000, "1,000 or more"),
            ("continued_epochs", config.continued_epochs >= 0, "0 or more"),
            ("plane_epochs", config.plane_epochs >= 0, "0 or more"),
            ("seed", 0 <= config.seed < 2**32, "between 0 and 2^32 - 1"),
            ("batch_size", config.batch_size % devices == 0, f"a multiple of the {devices} devices"),
        ],
    )
