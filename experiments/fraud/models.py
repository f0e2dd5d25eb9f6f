"""The transactions experiment's models: training, and scores of held-out rows."""

from __future__ import annotations

import time
from dataclasses import fields

import numpy as np
from rich.console import Console

from experiments.fraud.config import FraudConfig
from experiments.fraud.inputs import Inputs
from experiments.runs import loop
from experiments.runs.run_folder import Run
from vae_jax.detector import VAEDetector, recipes
from vae_jax.detector.settings import ModelSettings, Recipe, Resolved, Settings
from vae_jax.training import TrainState
from vae_jax.training.parallel import data_mesh, replicate


def settings_of(recipe: Recipe, config: FraudConfig, inputs: Inputs) -> Resolved:
    """The settings of a recipe's detector, from the options of the same names."""
    options = {field.name: getattr(config, field.name) for field in fields(ModelSettings)}
    return Settings(recipe=recipe, **options).resolved(len(inputs.split.train), inputs.x.shape[1])


def train_recipe(recipe: Recipe, config: FraudConfig, inputs: Inputs, run: Run, output: Console) -> TrainState:
    """Trains a recipe, or resumes it; returns its best state, whole on every device."""
    return replicate(loop.train(run, *training(recipe, config, inputs), output), data_mesh())


def training(recipe: Recipe, config: FraudConfig, inputs: Inputs) -> tuple[loop.Training, TrainState]:
    """Compiles a recipe's training and builds its initial state."""
    train, held_out = inputs.x[inputs.split.train], inputs.x[inputs.genuine_validation]
    settings = settings_of(recipe, config, inputs)
    compiled = recipes.compile_training(settings, train, held_out, columns=inputs.columns)
    steps = steps_per_epoch(config, inputs)
    drawn = config.batch_size if recipe == "exemplar" else min(config.batch_size, len(train))  # exemplar: rows repeat
    training = loop.Training(
        name=recipe,
        advance=lambda state, step, count: compiled.epoch(state),
        validate=compiled.validate,
        epochs=settings.epochs,
        steps_per_epoch=steps,
        steps_per_call=steps,
        examples_per_step=drawn * settings.num_models,
        save_every=config.save_every,
    )
    return training, compiled.initial


def steps_per_epoch(config: FraudConfig, inputs: Inputs) -> int:
    """How many batches make up an epoch: one of all training rows where there are fewer than a batch has."""
    return max(1, len(inputs.split.train) // config.batch_size)


def fitted(recipe: Recipe, state: TrainState, config: FraudConfig, inputs: Inputs) -> VAEDetector:
    """The detector of a trained recipe, with its boundary set on the validation rows."""
    found, rows = VAEDetector(**vars(settings_of(recipe, config, inputs))), inputs.split.validation
    found.describe_features(inputs.features)
    return found.adopt(state, inputs.x[rows], inputs.table.labels[rows], inputs.x[inputs.split.train])


def score_rows(detector: VAEDetector, x: np.ndarray) -> tuple[np.ndarray, float]:
    """Returns each model's log reconstruction probabilities of standardised rows, shape (K or 1, N), and rows/s."""
    score = detector.scorer("log_reconstruction_prob")
    score(x[: recipes.SCORED_AT_ONCE])  # compiles first, so that only scoring is timed
    started = time.perf_counter()
    (log_probs,) = score(x)
    rate = len(x) * len(log_probs) / (time.perf_counter() - started)
    return log_probs.astype(np.float64), rate
