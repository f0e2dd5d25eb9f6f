"""NaN and infinity planted while training, and inputs that are extreme but finite."""

from __future__ import annotations

import io
import json
import math
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pandas as pd

import vae_jax
from benchmarks.faults.outcome import Outcome
from benchmarks.faults.settings import Settings
from experiments.command_line import RunError
from experiments.runs import loop, run_folder
from experiments.runs.progress import console
from vae_jax import VAEDetector
from vae_jax.training import TrainState
from vae_jax.training.checkpoints import Checkpoints
from vae_jax.training.finite import is_finite

PLACES = ("data", "parameters", "optimiser's state", "gradient")
ROWS, FEATURES, BATCH, EPOCHS, STEPS_PER_CALL = 48, 4, 8, 3, 4
STEPS_PER_EPOCH = ROWS // BATCH
TINIEST, LARGEST = 5e-324, 1.7e308
EXTREMES = (
    0.0,
    -0.0,
    TINIEST,
    1e-310,
    1e-45,
    2.0**62,
    *(s * v for v in (1e30, 3.5e38, 1e300, LARGEST) for s in (1, -1)),
)


def outcomes(settings: Settings) -> Iterator[Outcome]:
    """Plants each value in each place at many steps; then trains on and scores each extreme number."""
    steps = settings.generator().integers(0, EPOCHS * STEPS_PER_EPOCH, settings.number(30))
    for place in PLACES:
        for value in (math.nan, math.inf):
            survived = sum(is_stopped(place, value, int(step), settings.folder) for step in steps)
            yield Outcome(f"{value} planted in the {place}", len(steps), survived)
    for table, recipe in (
        ("numbers", "gaussian"),
        ("numbers", "report"),
        ("numbers", "exemplar"),
        ("mixed", "gaussian"),
        ("mixed", "exemplar"),
    ):
        tries = list(extreme_inputs(table, recipe))[:: max(1, round(1 / settings.tries))]
        survived = sum(bool(np.isfinite(score()).all()) for score in tries)
        yield Outcome(f"extreme but finite numbers in a table of {table}, recipe {recipe}", len(tries), survived)


@dataclass(frozen=True)
class _Config:
    """The run that is disturbed has no options."""


def is_stopped(place: str, value: float, step: int, parent: Path) -> bool:
    """Trains a small model, with a value planted at a step counted from 0.

    Returns:
      Whether training ended within the compiled call of that step, with epoch and step named, and nothing that is not
      finite was kept.
    """
    folder = Path(tempfile.mkdtemp(dir=parent)) / "run"
    run = run_folder.create("numbers", str(folder), _Config())
    state = _state(_poison(value, step)) if place == "gradient" else _healthy_state()
    training = loop.Training(
        "model",
        partial(_advance, place, value, step),
        lambda state: _validate(state, _data()),
        epochs=EPOCHS,
        steps_per_epoch=STEPS_PER_EPOCH,
        steps_per_call=STEPS_PER_CALL,
        examples_per_step=BATCH,
        save_every=1,
    )
    try:
        loop.train(run, training, state, console(io.StringIO()))
    except RunError as error:
        message = str(error)
    else:
        return False
    epoch, within = divmod(step, STEPS_PER_EPOCH)
    call_ends = min(within // STEPS_PER_CALL * STEPS_PER_CALL + STEPS_PER_CALL, STEPS_PER_EPOCH)
    named = any(f" epoch {epoch + 1}, step {later + 1};" in message for later in range(within, call_ends))
    logged = map(json.loads, (folder / loop.METRICS_LOG).read_text(encoding="utf-8").splitlines())
    return named and all(math.isfinite(record["loss"]) for record in logged) and _kept_is_finite(folder, state)


def _kept_is_finite(folder: Path, like: TrainState) -> bool:
    with Checkpoints(folder / "checkpoints" / "model") as checkpoints:
        return checkpoints.latest is None or bool(is_finite(checkpoints.restore(like, checkpoints.latest)))


def _data() -> jax.Array:
    return jnp.asarray(np.random.default_rng(0).normal(size=(ROWS, FEATURES)), jnp.float32)


@cache
def _healthy_state() -> TrainState:
    return _state(optax.identity())


def _state(planted: optax.GradientTransformation) -> TrainState:
    vae = vae_jax.dense_vae(feature_dim=FEATURES, hidden_dims=(6,), learned_variance=True)
    optimizer = optax.chain(planted, optax.adam(1e-3))
    objective = vae_jax.Objective(vae_jax.gaussian)
    return vae_jax.create_train_state(jax.random.key(0), vae, objective, optimizer, (FEATURES,))


def _poison(value: float, step: int) -> optax.GradientTransformation:
    """An optimiser's first link that turns the gradient of one step into a value."""

    def update(gradient, count, params=None):
        return jax.tree.map(lambda g: jnp.where(count == step, value, g), gradient), count + 1

    return optax.GradientTransformation(lambda params: jnp.zeros((), jnp.int32), update)


_validate = jax.jit(vae_jax.validate)
_take = jax.jit(vae_jax.train_steps, static_argnames=("batch_size", "num_steps"))


def _advance(place: str, value: float, planted: int, state: TrainState, step: int, count: int):
    """Takes the steps of a call; before the one of the fault, as a part of its own, plants it."""
    data, infos = _data(), []
    for current in range(step, step + count):
        disturbed = data
        if current == planted:
            if place == "data":
                disturbed = data.at[:, 0].set(value)
            elif place == "parameters":
                state = state.replace(params=_with(state.params, value))
            elif place == "optimiser's state":
                state = state.replace(opt_state=_with(state.opt_state, value))
        state, info = _take(state, disturbed, batch_size=BATCH, num_steps=1)
        infos.append(info)
    return state, {name: jnp.concatenate([info[name] for info in infos]) for name in infos[0]}


def _with(tree, value: float):
    """A tree with a value in its last array of numbers."""
    leaves, structure = jax.tree.flatten(tree)
    last = max(i for i, leaf in enumerate(leaves) if jnp.issubdtype(leaf.dtype, jnp.inexact))
    leaves[last] = leaves[last].at[0].set(value)
    return jax.tree.unflatten(structure, leaves)


def extreme_inputs(table: str, recipe: str) -> Iterator[Callable[[], np.ndarray]]:
    """Yields functions that give the scores of rows with an extreme cell, by a model of usual rows or of these."""
    usual = _table(table)
    detector = VAEDetector(recipe=recipe, **_SMALL).fit(usual)
    for column in usual.select_dtypes("number").columns:
        for value in EXTREMES:
            one = usual.copy()
            one.loc[5, column] = value
            yield partial(detector.score_samples, one)
            yield partial(_fit_and_score, recipe, one)
            yield partial(_fit_and_score, recipe, usual.assign(**{column: value}))
        for scale in (1e-310, 1e-40, 1e-30, 1e30, 1e38, 1e150, 1e300):
            yield partial(_fit_and_score, recipe, usual.assign(**{column: usual[column] * scale}))


_SMALL = {"epochs": 2, "num_samples": 10, "hidden_dims": (6,), "random_state": 0}


def _fit_and_score(recipe: str, table: pd.DataFrame) -> np.ndarray:
    return VAEDetector(recipe=recipe, **_SMALL).fit(table).score_samples(table)


def _table(kind: str) -> pd.DataFrame:
    rng = np.random.default_rng(0)
    numbers = pd.DataFrame(rng.normal(size=(200, 3)), columns=["a", "b", "c"])
    if kind == "numbers":
        return numbers
    numbers["b"] = np.exp(3 * numbers["b"])  # positive
    numbers["c"] = rng.poisson(5, 200).astype(float)  # counts
    numbers.loc[3, "a"] = np.nan
    return numbers.assign(word=rng.choice(["x", "y", "z"], 200))
