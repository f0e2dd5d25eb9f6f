"""The options of the transactions experiment."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import jax

from experiments.command_line import UsageError
from vae_jax import thresholds

Recipe = Literal["report", "gaussian"]
Boundary = Literal["quantile", "tukey", "mad", "mean-sigma", "gpd", "best-f1"]


@dataclass(frozen=True)
class FraudConfig:
    """Find card frauds by the reconstruction probability of a small VAE. Defaults are the report's, if it names one."""

    data: str = "auto"
    """Where the transactions come from: auto, kaggle, synthetic, or a CSV file (plain, gzip or zip). auto takes the \
first of $VAE_JAX_DATA/creditcard/creditcard.csv, data/creditcard/creditcard.csv, a download from Kaggle, and, \
without a network, the built-in simulated set."""
    label: str | None = None
    """With --data FILE of other columns than the ULB set's: the column that is 1 for frauds and 0 for genuine rows; \
without it all rows count as genuine. Every other column is a feature and must hold numbers."""
    drop: tuple[str, ...] = ()
    """With --data FILE of other columns: columns to leave out."""
    keep_time: bool = False
    """Keep the column Time (seconds) as a feature; the report drops it."""
    limit: float = 10.0
    """Standardised features are cut at ± this many standard deviations, for all scorers alike. A single genuine \
payment can lie 80 of them out, where no model has learned anything."""
    split: Literal["random", "time"] = "random"
    """How rows are divided: random (genuine rows 70/10/20 into training, validation and test; frauds 20/80 into \
validation and test) or time (first 70 %, next 10 %, last 20 %; frauds removed from training)."""
    recipes: tuple[Recipe, ...] = ("report", "gaussian")
    """Which models to train: report (weight * RMSE + KL, standard deviations measured on validation rows) and \
gaussian (negative ELBO with learned variances)."""
    hidden_dims: tuple[int, ...] = (20, 10, 8)
    """Widths of the encoder's hidden layers; the decoder has them reversed."""
    latent_dim: int = 2
    """Number of latent dimensions."""
    report_weight: float = 10_000.0
    """Weight of the RMSE in the report recipe's loss; benchmarks/RESULTS.md has the sweep behind the default."""
    kl_warmup: float = 0.8
    """Share of the epochs over which the gaussian recipe's KL weight rises from 0 to 1."""
    input_noise: float = 0.3
    """Standard deviation of the noise on the encoder's input while the gaussian recipe trains, in units of \
standardised features."""
    epochs: int = 1000
    """Passes over the training rows."""
    batch_size: int = 128
    """Rows in a step, over all devices together."""
    learning_rate: float = 1e-3
    """Learning rate of NAdam."""
    num_models: int = 1
    """Number of independently initialised models of each recipe, trained as one program; their averaged score is the \
headline one."""
    num_samples: int = 100
    """Latent samples for the score of a row."""
    boundary: Boundary = "quantile"
    """Rule that sets the boundary from validation scores; only best-f1 looks at labels."""
    false_alarm_rate: float = thresholds.DEFAULT_FALSE_ALARM_RATE
    """Share of genuine rows that may raise an alarm, for the rules quantile and gpd."""
    save_every: int = 20
    """Epochs between checkpoints."""
    seed: int = 0
    """Seed of everything random."""
    run_dir: str | None = None
    """Folder of the run, new or empty; by default runs/fraud/<time>."""
    resume: str | None = None
    """Continue a run: its folder, or nothing for the latest. Its options are those it was started with; only \
--data may name another place."""
    logger: str | None = None
    """MODULE:FUNCTION that is called with the options and returns what is called with each epoch's record, to log \
elsewhere too; the docs show Weights & Biases and MLflow."""
    coordinator: str | None = None
    """With several processes that no launcher starts: HOST:PORT at which process 0 is reached, the same for all."""
    num_processes: int | None = None
    """With --coordinator: how many processes there are."""
    process_id: int | None = None
    """With --coordinator: which of them this is, from 0."""


def check(config: FraudConfig) -> None:
    """Raises UsageError, naming the option, for a value that can't be used."""
    positive = (
        "latent_dim",
        "report_weight",
        "epochs",
        "batch_size",
        "learning_rate",
        "num_models",
        "num_samples",
        "limit",
    )
    rules = [(name, 0 < getattr(config, name) < math.inf, "more than 0") for name in (*positive, "save_every")]
    devices = jax.device_count()
    models_divide = jax.process_count() == 1 and config.num_models % devices == 0  # then each batch is on one device
    rules += [
        ("hidden_dims", config.hidden_dims and min(config.hidden_dims) > 0, "one or more widths above 0"),
        ("input_noise", 0 <= config.input_noise < math.inf, "0 or more"),
        ("kl_warmup", 0 <= config.kl_warmup <= 1, "between 0 and 1"),
        ("false_alarm_rate", 0 < config.false_alarm_rate < 1, "between 0 and 1"),
        ("recipes", len(set(config.recipes)) == len(config.recipes) > 0, "one or two different recipes"),
        ("seed", 0 <= config.seed < 2**32, "between 0 and 2^32 - 1"),
        ("batch_size", models_divide or config.batch_size % devices == 0, f"a multiple of the {devices} devices"),
    ]
    for name, fine, expected in rules:
        if not fine:
            value = getattr(config, name)
            shown = " ".join(map(str, value)) if isinstance(value, tuple) else value
            raise UsageError(f"--{name.replace('_', '-')} {shown}: expected {expected}")
