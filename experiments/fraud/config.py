"""The options of the transactions experiment."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import jax

from experiments.command_line import refusal, require
from experiments.runs.options import RunOptions
from vae_jax.detector import settings
from vae_jax.detector.settings import ModelSettings, Recipe, SettingError

Boundary = Literal["quantile", "tukey", "mad", "mean-sigma", "gpd", "best-f1"]


@dataclass(frozen=True)
class DataOptions:
    """The data, and the models to train on them."""

    data: str = "auto"
    """Transactions to use: auto, kaggle, synthetic, or a CSV file (plain, gzip or zip). auto takes the first it finds \
of $VAE_JAX_DATA/creditcard/creditcard.csv, data/creditcard/creditcard.csv, a download from Kaggle and, without a \
network, simulated transactions."""
    label: str | None = None
    """With your own CSV file (other columns than the ULB credit card set's): the column that is 1 for frauds and 0 \
for genuine rows. Without it, all rows count as genuine. Every other column is a feature and must be numeric."""
    drop: tuple[str, ...] = ()
    """With your own CSV file: columns to leave out."""
    keep_time: bool = False
    """Keep the column Time (seconds) as a feature; the original report drops it."""
    split: Literal["random", "time"] = "random"
    """How to split the rows: random (genuine rows 70/10/20 into training, validation and test; frauds 20/80 into \
validation and test) or time (first 70 %, next 10 %, last 20 %, without the frauds in training)."""
    recipes: tuple[Recipe, ...] = ("report", "gaussian")
    """Models to train: report (the original report's loss, weight * RMSE + KL, with standard deviations measured on \
validation rows) and gaussian (negative ELBO with learned variances)."""


# Dataclasses order fields from the last base to the first: data, model, run.
@dataclass(frozen=True)
class FraudConfig(RunOptions, ModelSettings, DataOptions):
    """Detect card fraud by a small VAE's reconstruction probability. Defaults are the original report's where given."""

    boundary: Boundary = "quantile"
    """Rule that sets the decision boundary from the scores of validation rows; only best-f1 uses labels."""
    save_every: int = 20


def check(config: FraudConfig) -> None:
    """Raises UsageError, naming the option, for an invalid value."""
    try:
        settings.check(config)
    except SettingError as error:
        raise refusal(error.name, error.value, error.expected) from None
    devices = jax.device_count()
    models_divide = jax.process_count() == 1 and config.num_models % devices == 0  # then each batch is on one device
    require(
        config,
        [
            ("recipes", len(set(config.recipes)) == len(config.recipes) > 0, "one or two different recipes"),
            ("save_every", config.save_every > 0, "more than 0"),
            ("batch_size", models_divide or config.batch_size % devices == 0, f"a multiple of the {devices} devices"),
        ],
    )
