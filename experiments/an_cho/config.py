"""The options of An & Cho's experiments."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import jax
from tyro.conf import Suppress

from experiments.command_line import UsageError, require
from experiments.runs.options import RunOptions

Task = Literal["mnist", "kdd99"]
Likelihood = Literal["bernoulli", "gaussian"]

DIGITS = tuple(range(10))


@dataclass(frozen=True)
class AnChoOptions:
    """The data, the models and their training."""

    preset: Literal["paper", "short"] = "paper"
    """Defaults of the other options: paper (three seeds, all training rows), or short (one seed, fewer rows and \
epochs), which takes about 20 minutes on two busy cores."""
    data: str = "auto"
    """Data to use: auto, synthetic (drawn digits, without KDD99), or a folder with mnist/ and kdd99/. auto takes the \
first it finds of $VAE_JAX_DATA, data, and downloads; without a network it draws digits and leaves KDD99 out."""
    task: tuple[Task, ...] = ("mnist", "kdd99")
    """Experiments to run: mnist (each digit in turn is the anomaly) and kdd99 (each class of attack is)."""
    digits: tuple[int, ...] = DIGITS
    """Digits to take as the anomaly, one after the other."""
    attacks: Literal["same", "later"] = "same"
    """Attacks of KDD99 to find: those of the 10 % file, or those of the later file, corrected.gz, some of kinds that \
the 10 % file has not."""
    seeds: tuple[int, ...] = (0, 1, 2)
    """Seeds of the split and of the models; results are the mean and standard deviation over them."""
    on: Literal["test", "validation"] = "test"
    """Rows to measure. Choose settings with validation, and measure once with test."""
    train_rows: int | None = None
    """Use at most this many training rows."""
    hidden_dims: tuple[int, ...] = (400,)
    """Widths of the encoder's hidden layers, of the VAE and the autoencoder; the decoder has them reversed."""
    latent_dim: int = 200
    """Number of latent dimensions, of the VAE and the autoencoder."""
    mnist_likelihood: Likelihood = "bernoulli"
    """Likelihood of the pixels: bernoulli (of grey values in [0, 1]) or gaussian (with a learned variance)."""
    epochs: int = 50
    """Passes over the training rows, of the VAE and the autoencoder."""
    columns_epochs: int = 100
    """Passes over the training rows of KDD99, of the VAE with a likelihood for each kind of column."""
    batch_size: int = 100
    """Rows per step, over all devices together."""
    learning_rate: float = 1e-3
    """Learning rate of Adam."""
    num_samples: int = 10
    """Latent samples for the reconstruction probability of a row."""
    mnist_pca_variance: float = 0.5
    """Share of the variance that the components of PCA and of kernel PCA explain, on MNIST."""
    kdd99_pca_variance: float = 0.9
    """The same on KDD99."""
    kernel_rows: int = 2_000
    """Training rows that kernel PCA is fitted on; its cost grows with their cube."""
    kernel_width: float = 0.25
    """Width of kernel PCA's Gaussian kernel: its squared standard deviation is this times half the median squared \
distance between training rows."""


@dataclass(frozen=True)
class AnChoConfig(RunOptions, AnChoOptions):
    """Reproduce An & Cho 2015: a VAE's reconstruction probability beside autoencoder, PCA and kernel PCA."""

    # A run saves each finished model's results, and runs in one process.
    save_every: Suppress[int] = 1
    coordinator: Suppress[str | None] = None
    num_processes: Suppress[int | None] = None
    process_id: Suppress[int | None] = None


PRESETS = {
    "paper": AnChoConfig(),
    "short": AnChoConfig(
        preset="short", seeds=(0,), train_rows=12_000, epochs=10, columns_epochs=20, kernel_rows=1_000
    ),
}


def preset(config: AnChoConfig) -> AnChoConfig:
    """The defaults of a config's preset."""
    return PRESETS[config.preset]


def check(config: AnChoConfig) -> None:
    """Raises UsageError, naming the option, for an invalid value."""
    positive = ("latent_dim", "epochs", "columns_epochs", "batch_size", "learning_rate", "num_samples", "kernel_width")
    shares = ("mnist_pca_variance", "kdd99_pca_variance")
    devices = jax.device_count()
    if jax.process_count() > 1:
        raise UsageError(f"an-cho: runs in one process, not in {jax.process_count()}")
    require(
        config,
        [
            *((name, 0 < getattr(config, name) < math.inf, "more than 0") for name in positive),
            ("task", len(set(config.task)) == len(config.task) > 0, "different experiments"),
            ("digits", _different(config.digits, 0, 9), "different digits from 0 to 9"),
            ("seeds", _different(config.seeds, 0, 2**32 - 1), "different seeds between 0 and 2^32 - 1"),
            ("train_rows", config.train_rows is None or config.train_rows >= config.batch_size, "a batch or more"),
            ("hidden_dims", all(width > 0 for width in config.hidden_dims), "more than 0"),
            ("batch_size", config.batch_size % devices == 0, f"a multiple of the {devices} devices"),
            *((name, 0 < getattr(config, name) < 1, "between 0 and 1") for name in shares),
            ("kernel_rows", config.kernel_rows >= 2, "2 or more"),
        ],
    )


def _different(numbers: tuple[int, ...], low: int, high: int) -> bool:
    return len(set(numbers)) == len(numbers) > 0 and all(low <= number <= high for number in numbers)
