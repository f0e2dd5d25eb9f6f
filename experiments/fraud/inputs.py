"""The transactions experiment's inputs: rows, split and standardised, and notices about them."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import numpy as np

from experiments.command_line import UsageError
from experiments.fraud.config import FraudConfig, check
from experiments.runs.experiment import Experiment
from vae_jax.data.errors import DataError
from vae_jax.tables.scaling import Scaler, constant_features
from vae_jax.tables.splits import Split, split_rows
from vae_jax.tables.transactions import Transactions, load_transactions


@dataclass(frozen=True)
class Inputs:
    """What all models see.

    Attributes:
      scaler: fitted on the training rows.
      x: all rows, standardised, shape (N, D), float32.
    """

    table: Transactions
    split: Split
    scaler: Scaler
    x: np.ndarray

    @property
    def genuine_validation(self) -> np.ndarray:
        """Row numbers of the genuine validation rows."""
        rows = self.split.validation
        return rows[self.table.labels[rows] == 0]

    def describe(self) -> dict:
        """Identifies the data, and holds what a model needs besides its parameters."""
        digest = hashlib.sha256(self.table.features.tobytes())
        digest.update(self.table.labels.tobytes())
        return {"fingerprint": digest.hexdigest(), **self.scaler.to_json()}


def prepare(config: FraudConfig) -> Inputs:
    """Reads, splits and standardises the transactions; raises UsageError for data that can't be trained on."""
    try:
        table = load_transactions(config.data, config.keep_time, config.seed, config.label, config.drop)
        split = split_rows(table.features, table.labels, table.time, config.split, config.seed)
    except DataError as error:
        raise UsageError(str(error)) from error
    if len(split.train) < config.batch_size:
        raise UsageError(f"--batch-size {config.batch_size}: more than the {len(split.train)} training rows")
    if config.boundary == "best-f1" and not table.labels[split.validation].any():
        raise UsageError("--boundary best-f1: no fraud among the validation rows; use another rule")
    scaler = Scaler.fit(table.features[split.train], table.feature_names, config.limit)
    return Inputs(table, split, scaler, scaler.transform(table.features))


FRAUD = Experiment("fraud", FraudConfig, check, prepare, Inputs.describe, divided=lambda config: config.num_models)


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
    constant = constant_features(inputs.table.features[split.train])
    if constant.any():
        names = ", ".join(np.array(inputs.table.feature_names)[constant])
        found.append(f"Constant in the training rows: {names}. Any other value looks like an anomaly.")
    return found
