"""The transactions experiment's models: what they see, how they are trained, and what they say of held-out rows."""

from __future__ import annotations

import hashlib
import time
from dataclasses import dataclass, fields

import numpy as np
from rich.console import Console

from experiments import loop
from experiments.command_line import UsageError
from experiments.fraud_config import FraudConfig, Recipe
from experiments.runs import Run
from vae_jax import recipes
from vae_jax.data.errors import DataError
from vae_jax.data.scaling import Scaler
from vae_jax.data.splits import Split, split_rows
from vae_jax.data.transactions import Transactions, load_transactions
from vae_jax.detector import VAEDetector
from vae_jax.parallel import data_mesh, replicate
from vae_jax.training import TrainState


@dataclass(frozen=True)
class Inputs:
    """What all models see: standardised rows, and where each came from.

    Attributes:
      table: the transactions.
      split: their parts.
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

    def fingerprint(self) -> str:
        """A checksum of everything read."""
        digest = hashlib.sha256(self.table.features.tobytes())
        digest.update(self.table.labels.tobytes())
        return digest.hexdigest()


def prepare(config: FraudConfig) -> Inputs:
    """Reads, splits and standardises the transactions; refuses what can't be trained on in one line."""
    try:
        table = load_transactions(config.data, config.keep_time, config.seed, config.label, config.drop)
        split = split_rows(table.features, table.labels, table.time, config.split, config.seed)
    except DataError as error:
        raise UsageError(str(error)) from error
    if len(split.train) < config.batch_size:
        raise UsageError(f"--batch-size {config.batch_size}: more than the {len(split.train)} training rows")
    if config.boundary == "best-f1" and not table.labels[split.validation].any():
        raise UsageError("--boundary best-f1: there is no fraud among the validation rows; use another rule")
    scaler = Scaler.fit(table.features[split.train], table.feature_names, config.limit)
    return Inputs(table, split, scaler, scaler.transform(table.features))


def detector(recipe: Recipe, config: FraudConfig) -> VAEDetector:
    """The detector that a recipe trains: its options are the experiment's of the same names."""
    shared = {field.name for field in fields(config)} & VAEDetector().get_params().keys()
    return VAEDetector(recipe=recipe, **{name: getattr(config, name) for name in shared})


def train_recipe(recipe: Recipe, config: FraudConfig, inputs: Inputs, run: Run, output: Console) -> TrainState:
    """Trains a recipe, or continues it, and returns its best state, whole on every device."""
    return replicate(loop.train(run, *training(recipe, config, inputs), output), data_mesh())


def training(recipe: Recipe, config: FraudConfig, inputs: Inputs) -> tuple[loop.Training, TrainState]:
    """Compiles a recipe's training, and builds the state that it starts from."""
    train, held_out = inputs.x[inputs.split.train], inputs.x[inputs.genuine_validation]
    compiled = recipes.compile_training(detector(recipe, config), train, held_out)
    steps = len(train) // config.batch_size
    training = loop.Training(
        name=recipe,
        advance=lambda state, step, count: compiled.epoch(state),
        validate=compiled.validate,
        epochs=config.epochs,
        steps_per_epoch=steps,
        steps_per_call=steps,
        examples_per_step=config.batch_size * config.num_models,
        save_every=config.save_every,
    )
    return training, compiled.initial


def fitted(recipe: Recipe, state: TrainState, config: FraudConfig, inputs: Inputs) -> VAEDetector:
    """The detector of a trained recipe, whose boundary is set on the validation rows."""
    found, rows = detector(recipe, config), inputs.split.validation
    found.describe_features(inputs.scaler)
    return found.adopt(state, inputs.x[rows], inputs.table.labels[rows])


def score_rows(detector: VAEDetector, x: np.ndarray) -> tuple[np.ndarray, float]:
    """Returns the log reconstruction probabilities of standardised rows by each model, shape (K, N), and rows/s."""
    score = detector.scorer("log_reconstruction_prob")
    score(x[: recipes.SCORED_AT_ONCE])  # compiles, so that the time is that of scoring
    started = time.perf_counter()
    (log_probs,) = score(x)
    rate = len(x) * detector.num_models / (time.perf_counter() - started)
    return log_probs.astype(np.float64), rate
