"""The transactions experiment's inputs: rows, split and standardised, and notices about them."""

from __future__ import annotations

import hashlib
import shlex
from dataclasses import dataclass
from typing import TYPE_CHECKING

import jax
import numpy as np
from rich import box
from rich.table import Table

from experiments.command_line import UsageError
from experiments.fraud.config import FraudConfig, check
from experiments.runs.experiment import Experiment
from vae_jax.data.errors import CellError, DataError
from vae_jax.detector import recipes
from vae_jax.detector.estimator import new_gaps_notice
from vae_jax.detector.settings import Recipe
from vae_jax.tables.csv_file import place_of
from vae_jax.tables.scaling import Scaler, constant_features
from vae_jax.tables.schema import Schema
from vae_jax.tables.splits import Split, split_rows
from vae_jax.tables.transactions import Transactions, load_transactions

if TYPE_CHECKING:
    import pandas as pd

FEW_ROWS = 300  # one false alarm in a hundred is then three rows


@dataclass(frozen=True)
class Inputs:
    """What all models see.

    Attributes:
      features: how rows become numbers, fitted on the training rows: a `Schema` for a table that is not all finite
        numbers.
      x: all rows, standardised, shape (N, D), float32; or as the schema makes them.
    """

    table: Transactions
    split: Split
    features: Scaler | Schema
    x: np.ndarray

    @property
    def schema(self) -> Schema | None:
        """The kinds of the columns; None for numbers alone."""
        return self.features if isinstance(self.features, Schema) else None

    @property
    def columns(self) -> recipes.Columns | None:
        """What training needs to know of them."""
        return recipes.columns_of(self.schema, self.x[self.split.train]) if self.schema else None

    @property
    def genuine_validation(self) -> np.ndarray:
        """Row numbers of the genuine validation rows."""
        rows = self.split.validation
        return rows[self.table.labels[rows] == 0]

    def describe(self) -> dict:
        """Identifies the data, and holds what a model needs besides its parameters."""
        return {"fingerprint": self.table.fingerprint, **self.features.to_json()}

    def recognise(self, description: dict) -> bool:
        """Whether a description is of the same rows and columns.

        What the features learned is not compared, because its last digits depend on processors and versions of NumPy.
        """
        # Earlier versions took the rows of a table of words as the schema makes them.
        earlier = hashlib.sha256(self.x.tobytes() + self.table.labels.tobytes()).hexdigest()
        names = list(self.table.feature_names)
        return (
            description.get("fingerprint") in (self.table.fingerprint, earlier)
            and description.get("feature_names", names) == names
        )

    def recipes(self, config: FraudConfig) -> list[Recipe]:
        """The recipes to train: of those asked for, the ones that the table allows."""
        return [recipe for recipe in config.recipes if recipe != "report" or not self.schema]

    def take(self, rows: np.ndarray) -> np.ndarray | pd.DataFrame:
        """Rows of the table, as a detector takes them."""
        features = self.table.features
        return features[rows] if isinstance(features, np.ndarray) else features.iloc[rows]


def prepare(config: FraudConfig) -> Inputs:
    """Reads, splits and standardises the transactions; raises UsageError for data that can't be trained on."""
    try:
        table = load_transactions(config.data, config.keep_time, config.seed, reading=config.reading())
    except DataError as error:
        raise UsageError(str(error)) from error
    try:
        split = split_rows(table.codes(), table.labels, table.time, config.split, config.seed)
        features, x = _learn(table, split, config)
    except CellError as error:
        place, name = place_of(error.row, error.column, table.places), shlex.quote(error.column)
        advice = f"mend the cell, or say --category {name} or --drop {name}"
        raise UsageError(f"{config.data}: {place}: {error.wrong}; {advice}") from error
    except DataError as error:
        raise UsageError(str(error)) from error
    if isinstance(features, Schema) and set(config.recipes) == {"report"}:
        raise UsageError(
            "--recipes report: for finite numbers alone; this table has others or gaps, so use exemplar or gaussian"
        )
    if jax.process_count() > 1 and len(split.train) < config.batch_size:  # a batch of all may not divide evenly
        raise UsageError(f"--batch-size {config.batch_size}: more than the {len(split.train)} training rows")
    if config.boundary == "best-f1" and not table.labels[split.validation].any():
        raise UsageError("--boundary best-f1: no fraud among the validation rows; use another rule")
    return Inputs(table, split, features, x)


def _learn(table: Transactions, split: Split, config: FraudConfig) -> tuple[Scaler | Schema, np.ndarray]:
    """Learns from the training rows how rows become numbers, and returns all rows as such."""
    if isinstance(table.features, np.ndarray):
        numbers = table.features[split.train]
        scaler = Scaler.fit(numbers, table.feature_names, config.limit, table.number_format)
        return scaler, scaler.transform(table.features)
    train, said = table.features.iloc[split.train], config.reading().columns
    schema = Schema.fit(train, said, config.missing, config.limit, table.number_format)
    return schema, schema.transform(table.features)


FRAUD = Experiment(
    name="fraud",
    config_type=FraudConfig,
    check=check,
    prepare=prepare,
    describe=Inputs.describe,
    divided=lambda config: config.num_models or 1,
    recognise=Inputs.recognise,
)


def describe_data(inputs: Inputs) -> list[str]:
    """The data in two lines."""
    split, labels = inputs.split, inputs.table.labels
    return [
        inputs.table.source,
        f"{len(labels):,} rows, {labels.sum():,} frauds; training {len(split.train):,}, "
        f"validation {len(split.validation):,}, test {len(split.test):,}",
    ]


def notices(inputs: Inputs) -> list[str]:
    """What a reader of the results must know about the data."""
    found = []
    labels, split = inputs.table.labels, inputs.split
    if inputs.table.synthetic:
        found.append(
            "SIMULATED DATA. A random number generator drew these rows. Results of this run say nothing about real "
            "transactions."
        )
    if not labels[split.test].any():
        found.append("No fraud among the test rows: ROC AUC, average precision, recall and curves are omitted.")
    if (count := len(inputs.genuine_validation)) < FEW_ROWS:
        found.append(
            f"Few validation rows: the boundaries are set on {count} genuine ones, on which the best epoch was chosen, "
            "too. Expect more false alarms than they promise."
        )
    found += inputs.table.notices
    if inputs.schema:
        found += inputs.schema.notices()
        if gaps := inputs.schema.new_gaps(inputs.x[np.concatenate([split.validation, split.test])]):
            found.append(f"{new_gaps_notice(gaps).capitalize()}.")
        return found
    constant = constant_features(np.asarray(inputs.take(split.train)))
    if constant.any():
        names = ", ".join(np.array(inputs.table.feature_names)[constant])
        found.append(f"Constant in the training rows: {names}. Any other value looks like an anomaly.")
    return found


def left_out_recipes(config: FraudConfig, inputs: Inputs) -> list[str]:
    """A notice if a recipe can't be trained on the table."""
    trained = inputs.recipes(config)
    if len(trained) == len(config.recipes):
        return []
    words = "is" if len(trained) == 1 else "are"
    return [f"The report recipe is for finite numbers alone, so only {' and '.join(trained)} {words} trained."]


def kinds_table(inputs: Inputs) -> Table | None:
    """The columns' kinds, with the reason for each; None for numbers alone."""
    if inputs.schema is None:
        return None
    table = Table(title="Columns, as inferred from the training rows", title_justify="left", box=box.SIMPLE_HEAD)
    for title in ("column", "kind", "why", "model"):
        table.add_column(title, overflow="fold")
    for row in inputs.schema.describe():
        table.add_row(*row)
    return table
