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
    """Which transactions, and for what."""

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
    split: Literal["random", "time"] = "random"
    """How rows are divided: random (genuine rows 70/10/20 into training, validation and test; frauds 20/80 into \
validation and test) or time (first 70 %, next 10 %, last 20 %; frauds removed from training)."""
    recipes: tuple[Recipe, ...] = ("report", "gaussian")
    """Which models to train: report (weight * RMSE + KL, standard deviations measured on validation rows) and \
gaussian (negative ELBO with learned variances)."""


# The bases are named from last to first, as dataclasses order their fields: data, model, run.
@dataclass(frozen=True)
class FraudConfig(RunOptions, ModelSettings, DataOptions):
    """Find card frauds by the reconstruction probability of a small VAE. Defaults are the report's, if it names one."""

    boundary: Boundary = "quantile"
    """Rule that sets the boundary from the scores of validation rows; only best-f1 looks at labels."""
    save_every: int = 20


def check(config: FraudConfig) -> None:
    """Raises UsageError, naming the option, for a value that can't be used."""
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
