"""The options of the transactions experiment."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import jax

from experiments.command_line import UsageError, refusal, require
from experiments.runs.options import RunOptions
from vae_jax.detector import settings
from vae_jax.detector.settings import ModelSettings, Recipe, SettingError
from vae_jax.tables.kinds import Kind
from vae_jax.tables.own_table import Reading

Boundary = Literal["quantile", "tukey", "mad", "mean-sigma", "gpd", "best-f1"]


@dataclass(frozen=True)
class DataOptions:
    """The data, and the models to train on them."""

    data: str = "auto"
    """Transactions to use: auto, kaggle, synthetic, or a file of your own: CSV (any separator; plain, gzip or zip), \
Excel (.xlsx), Parquet or Arrow, with columns of numbers, words, dates and gaps. auto takes the first it finds of \
$VAE_JAX_DATA/creditcard/creditcard.csv, data/creditcard/creditcard.csv, a download from Kaggle and, without a \
network, simulated transactions."""
    label: str | None = None
    """With your own file (other columns than the ULB credit card set's): the column that tells frauds (1, true, yes, \
fraud and the like) from genuine rows. Without it, all rows count as genuine. Every other column is a feature."""
    anomaly: str | None = None
    """With your own file: the value of the label column that marks frauds, if it is another word."""
    drop: tuple[str, ...] = ()
    """With your own file: columns to leave out."""
    number: tuple[str, ...] = ()
    """With your own file: columns of real numbers. What kind a column has is inferred from the training rows and \
printed; this and the next four options say it."""
    count: tuple[str, ...] = ()
    """With your own file: columns of counts (whole numbers from 0)."""
    category: tuple[str, ...] = ()
    """With your own file: columns of categories, also if they are written as numbers."""
    date: tuple[str, ...] = ()
    """With your own file: columns of dates, with or without a time of day."""
    id: tuple[str, ...] = ()
    """With your own file: columns that only tell rows apart, and are left out."""
    encoding: str | None = None
    """With your own file: the encoding of a text that is neither UTF-8 nor Excel's UTF-16, such as latin-1."""
    decimal: str | None = None
    """With your own file: the decimal sign, . or , (recognised from all rows by default)."""
    thousands: str | None = None
    """With your own file: the sign between groups of three digits (recognised from all rows by default)."""
    keep_time: bool = False
    """Keep the column Time (seconds) as a feature; the original report drops it."""
    split: Literal["random", "time"] = "random"
    """How to split the rows: random (genuine rows 70/10/20 into training, validation and test; frauds 20/80 into \
validation and test) or time (first 70 %, next 10 %, last 20 %, without the frauds in training; by the credit card \
set's column Time, and in any other file by the order of its rows)."""
    recipes: tuple[Recipe, ...] = ("report", "gaussian")
    """Models to train: report (the original report's loss, weight * RMSE + KL, with standard deviations measured on \
validation rows; for numbers without gaps alone), gaussian (negative ELBO with learned variances, or with a \
likelihood for each kind of column) and exemplar (kernels at training rows, as wide as a VAE reconstructs them)."""

    def reading(self) -> Reading:
        """How to read the user's own file."""
        said: list[tuple[Kind, tuple[str, ...]]] = [
            ("real", self.number),
            ("count", self.count),
            ("category", self.category),
            ("date", self.date),
            ("id", self.id),
        ]
        columns: dict[str, Kind] = {name: kind for kind, names in said for name in names}
        return Reading(self.label, self.anomaly, self.drop, columns, self.encoding, self.decimal, self.thousands)


# Dataclasses order fields from the last base to the first: data, model, run.
@dataclass(frozen=True)
class FraudConfig(RunOptions, ModelSettings, DataOptions):
    """Find card frauds, or anomalies in a table of your own, by a small VAE's reconstruction probability.

    Defaults are the original report's where given.
    """

    boundary: Boundary = "quantile"
    """Rule that sets the decision boundary from the scores of validation rows; only best-f1 uses labels."""
    save_every: int = 20


def check(config: FraudConfig) -> None:
    """Raises UsageError, naming the option, for an invalid value."""
    try:
        settings.check(config)
    except SettingError as error:
        raise refusal(error.name, error.value, error.expected) from None
    said: dict[str, str] = {}
    for option in ("label", "drop", "number", "count", "category", "date", "id"):
        value = getattr(config, option)
        for column in (value,) if isinstance(value, str) else value or ():
            if (other := said.setdefault(column, option)) != option:
                raise UsageError(f"--{option} {column}: also --{other} {column}; say one of them")
    devices = jax.device_count()
    # Then each batch is on one device.
    models_divide = jax.process_count() == 1 and (config.num_models or 1) % devices == 0
    require(
        config,
        [
            ("recipes", len(set(config.recipes)) == len(config.recipes) > 0, "different recipes"),
            ("save_every", config.save_every > 0, "more than 0"),
            ("batch_size", models_divide or config.batch_size % devices == 0, f"a multiple of the {devices} devices"),
        ],
    )
