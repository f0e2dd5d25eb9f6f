"""The transactions experiment's models: what they see, how they are built, trained and asked for scores."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from rich.console import Console

from experiments import loop, processes
from experiments.chunks import in_chunks
from experiments.command_line import UsageError
from experiments.fraud_config import FraudConfig, Recipe
from experiments.runs import Run
from vae_jax.data.errors import DataError
from vae_jax.data.scaling import Scaler
from vae_jax.data.splits import Split, split_rows
from vae_jax.data.transactions import Transactions, load_transactions
from vae_jax.networks import VAE, dense_vae, encode
from vae_jax.objectives import RECONSTRUCTIONS, Objective
from vae_jax.parallel import AXIS, compile_parallel, data_mesh, replicate, replicated, sharded
from vae_jax.scoring import measure_residual_sd, score_models
from vae_jax.training import TrainState, create_train_state, stream_key, train_epoch, validate

# A feature's extreme, whose size bounds its standard deviation, is this quantile of its absolute values.
EXTREME = 0.999
# Bound on the gaussian recipe's posterior means, in standard deviations of the prior.
MEAN_BOUND = 4.0
SCORED_AT_ONCE = 16_384  # rows


@dataclass(frozen=True)
class Inputs:
    """What all models see: standardised rows on the devices, and where each came from.

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
        table = load_transactions(config.data, config.keep_time, config.seed)
        split = split_rows(table.features, table.labels, table.time, config.split, config.seed)
    except DataError as error:
        raise UsageError(str(error)) from error
    if len(split.train) < config.batch_size:
        raise UsageError(f"--batch-size {config.batch_size}: more than the {len(split.train)} training rows")
    if config.boundary == "best-f1" and not table.labels[split.validation].any():
        raise UsageError("--boundary best-f1: there is no fraud among the validation rows; use another rule")
    scaler = Scaler.fit(table.features[split.train], table.feature_names, config.limit)
    return Inputs(table, split, scaler, scaler.transform(table.features))


def largest_sd(train: np.ndarray) -> tuple[float, ...]:
    """Returns the bounds on the decoder's standard deviations: how far each feature strays in training, at least 1."""
    return tuple(np.maximum(np.quantile(np.abs(train), EXTREME, axis=0), 1.0).tolist())


def initial_state(recipe: Recipe, config: FraudConfig, inputs: Inputs) -> TrainState:
    """Builds the K models of a recipe, stacked along a first axis."""
    vae = {
        "report": dense_vae(inputs.x.shape[1], config.hidden_dims, config.latent_dim),
        "gaussian": dense_vae(
            inputs.x.shape[1],
            config.hidden_dims,
            config.latent_dim,
            learned_variance=True,
            largest_sd=largest_sd(inputs.x[inputs.split.train]),
            mean_bound=MEAN_BOUND,
        ),
    }[recipe]
    steps = config.epochs * (len(inputs.split.train) // config.batch_size)
    objective = {
        "report": Objective(RECONSTRUCTIONS["rmse"], config.report_weight),
        "gaussian": Objective(
            RECONSTRUCTIONS["gaussian"],
            input_noise=config.input_noise,
            kl_warmup_steps=round(config.kl_warmup * steps),
        ),
    }[recipe]
    # One update of one vector, not of an array for each layer's kernel and bias.
    optimizer = optax.flatten(optax.nadam(config.learning_rate))

    def one(model: jax.Array) -> TrainState:
        key = stream_key(jax.random.key(config.seed), "model", model)
        return create_train_state(key, vae, objective, optimizer, inputs.x.shape[1:])

    return jax.jit(jax.vmap(one))(jnp.arange(config.num_models))


def train_recipe(recipe: Recipe, config: FraudConfig, inputs: Inputs, run: Run, output: Console) -> TrainState:
    """Trains a recipe, or continues it, and returns its best state, whole on every device."""
    return replicate(loop.train(run, *training(recipe, config, inputs), output), data_mesh())


def training(recipe: Recipe, config: FraudConfig, inputs: Inputs) -> tuple[loop.Training, TrainState]:
    """Compiles a recipe's training, and builds the state that it starts from."""
    mesh, models = _layout(config)
    train_rows = replicate(inputs.x[inputs.split.train], mesh)
    validation_rows = replicate(inputs.x[inputs.genuine_validation], mesh)
    axis_name = AXIS if models == replicated else None

    def epoch(state, rows):
        return _each_model(lambda state: train_epoch(state, rows, config.batch_size, axis_name), state)

    compiled_epoch = compile_parallel(epoch, mesh, (models, replicated), (models, models), donate_argnums=0)
    compiled_validate = jax.jit(jax.vmap(validate, in_axes=(0, None)))
    steps = len(inputs.split.train) // config.batch_size
    compiled = loop.Training(
        name=recipe,
        advance=lambda state, step, count: compiled_epoch(state, train_rows),
        validate=lambda state: compiled_validate(state, validation_rows),
        epochs=config.epochs,
        steps_per_epoch=steps,
        steps_per_call=steps,
        examples_per_step=config.batch_size * config.num_models,
        save_every=config.save_every,
    )
    initial = initial_state(recipe, config, inputs)
    placed = replicate(initial, mesh) if models == replicated else jax.device_put(initial, NamedSharding(mesh, models))
    return compiled, placed


def _each_model(function: Callable, state: TrainState) -> Any:
    """Applies a function to each of the models that lie on a device."""
    if state.step.shape[0] > 1:
        return jax.vmap(function)(state)
    # A processor is a third slower at products that have an axis for models, even if it is of length 1.
    result = function(jax.tree.map(lambda array: array[0], state))
    return jax.tree.map(lambda array: array[None], result)


def _layout(config: FraudConfig) -> tuple[Mesh, PartitionSpec]:
    """The devices to train on, and how K models lie on them.

    Models that are divided among the devices need nothing from each other. Only where their number does not divide are
    they on every device, which then has a part of each batch.
    """
    if not processes.several() and config.num_models % jax.device_count() == 0:
        return data_mesh(), sharded
    return data_mesh(), replicated


@partial(jax.jit, static_argnames=("vae", "mesh", "num_samples"))
def log_reconstruction_probs(
    vae: VAE,
    params: Any,
    x: jax.Array,
    key: jax.Array,
    mesh: Mesh,
    num_samples: int,
    residual_sd: jax.Array | None,
) -> jax.Array:
    """The scores of `score_models` that the experiment uses, shape (K, N); what it does not use is not computed."""
    scores = score_models(vae, params, x, key, mesh, num_samples, residual_sd)
    return scores.log_reconstruction_prob


def scorer(
    recipe: Recipe, state: TrainState, config: FraudConfig, inputs: Inputs
) -> Callable[[np.ndarray], np.ndarray]:
    """Gets ready to score: a function from N standardised rows to scores of shape (K, N)."""
    mesh = data_mesh()
    key = stream_key(jax.random.key(config.seed), "score")
    residual_sd = None
    if recipe == "report":
        x = jnp.asarray(inputs.x[inputs.genuine_validation])

        def measure_sd(params):
            return measure_residual_sd(state.vae, params, x, key)

        residual_sd = replicate(jax.jit(jax.vmap(measure_sd))(state.params), mesh)
    params, key = replicate((state.params, key), mesh)

    def score_chunk(x: np.ndarray) -> jax.Array:
        x = replicate(x, mesh)
        return log_reconstruction_probs(state.vae, params, x, key, mesh, config.num_samples, residual_sd).T

    def score(x: np.ndarray) -> np.ndarray:
        return in_chunks(score_chunk, x, size=min(SCORED_AT_ONCE, len(x))).T

    return score


def score_rows(
    recipe: Recipe, state: TrainState, config: FraudConfig, inputs: Inputs, rows: np.ndarray
) -> tuple[np.ndarray, float]:
    """Returns the log reconstruction probabilities of rows by each model, shape (K, N), and rows/s of all models."""
    score = scorer(recipe, state, config, inputs)
    score(inputs.x[rows[:SCORED_AT_ONCE]])  # compiles, so that the time is that of scoring
    started = time.perf_counter()
    log_probs = score(inputs.x[rows]).astype(np.float64)
    return log_probs, len(rows) * config.num_models / (time.perf_counter() - started)


def posterior_means(state: TrainState, x: np.ndarray) -> np.ndarray:
    """Returns the means of q(z|x) by each model, shape (K, N, L)."""
    return np.asarray(jax.jit(jax.vmap(lambda params: encode(state.vae, params, jnp.asarray(x)).mean))(state.params))
