"""Passes over the training rows by the recipes `report` and `gaussian`, and metrics of held-out rows.

Numbers of a training, such as its rates, are arguments of the compiled programs, so that other ones compile nothing
anew. A short training on a CPU has a program for any number of rows up to a power of two, which compiles quickly. A
long one has a program for its own number: the compiler then knows how long its loop is, which makes it faster, on GPUs
above all.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache, lru_cache
from typing import TYPE_CHECKING, Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.sharding import Mesh, PartitionSpec

from vae_jax.compilation import quick_program
from vae_jax.detector.settings import Resolved
from vae_jax.objectives import Objective
from vae_jax.training import TrainState, train_epoch, validate
from vae_jax.training.epoch import epoch_batches, train_in_order
from vae_jax.training.parallel import AXIS, compile_parallel, replicate, replicated

if TYPE_CHECKING:
    from jaxtyping import Array, Float

# Rows times models times epochs of a short training; its program takes up to 1.7 times as long as one for its own rows.
SHORT = 10_000_000


class Numbers(NamedTuple):
    """The numbers that are arguments."""

    learning_rate: float
    weight: float
    input_noise: float
    kl_warmup_steps: int


@cache  # one object per rate, because compiled programs are kept by it
def make_optimizer(learning_rate: float) -> optax.GradientTransformation:
    """NAdam as one update of one vector, instead of one per kernel and bias."""
    return optax.flatten(optax.nadam(learning_rate))


def compile_pass(
    settings: Resolved, train: Float[np.ndarray, "N D"], mesh: Mesh, models: PartitionSpec, batch_size: int
) -> Callable[[TrainState], tuple[TrainState, dict[str, Array]]]:
    """Returns one pass over N rows by K models, placed on the mesh as `models` says: (state) -> (state, info).

    The info has an axis for models and one for steps. The state's memory is donated.
    """
    short = settings.num_models * settings.epochs * len(train) <= SHORT
    on_cpu = mesh.devices.flat[0].platform == "cpu"
    compiled = (_for_any_rows if short and on_cpu else _for_these_rows)(train, mesh, models, batch_size)

    def one_pass(state: TrainState) -> tuple[TrainState, dict[str, Array]]:
        objective = state.objective
        numbers = Numbers(settings.learning_rate, objective.weight, objective.input_noise, objective.kl_warmup_steps)
        after, info = compiled(_without_numbers(state), numbers)
        return after.replace(objective=objective, optimizer=state.optimizer), info

    return one_pass


def compile_validation(held_out: Float[np.ndarray, "M D"], mesh: Mesh) -> Callable[[TrainState], dict[str, Array]]:
    """Returns the metrics of K models on M held-out rows, see `training.validate`: (state) -> arrays of shape (K,)."""
    rows, program = replicate(padded(held_out), mesh), quick_program(_validate)
    return lambda state: program(_without_numbers(state), state.objective.weight, rows, len(held_out))


def each_model(function: Callable, of_models: Any) -> Any:
    """Applies a function to each model on a device."""
    if jax.tree.leaves(of_models)[0].shape[0] > 1:
        return jax.vmap(function)(of_models)
    # A CPU is a third slower at products with an axis for models, even one of length 1.
    result = function(jax.tree.map(lambda array: array[0], of_models))
    return jax.tree.map(lambda array: array[None], result)


def padded(rows: Float[np.ndarray, "N D"]) -> Float[np.ndarray, "M D"]:
    """The rows, and zeros up to the next power of two, for programs that serve many numbers of rows."""
    return np.pad(rows, [(0, (1 << (len(rows) - 1).bit_length()) - len(rows)), (0, 0)])


def _without_numbers(state: TrainState) -> TrainState:
    """The state with one objective and optimiser for all numbers, by which compiled programs are kept."""
    objective = Objective(state.objective.reconstruction, input_noise=float(state.objective.adds_noise))
    return state.replace(objective=objective, optimizer=make_optimizer(1.0))


def _with_numbers(state: TrainState, numbers: Numbers) -> TrainState:
    """The same state, within a compiled program, with traced numbers."""
    input_noise = numbers.input_noise if state.objective.adds_noise else 0.0
    objective = state.objective.replace(
        weight=numbers.weight, input_noise=input_noise, kl_warmup_steps=numbers.kl_warmup_steps
    )

    def update(updates: Any, opt_state: Any, params: Any = None) -> tuple[Any, Any]:
        updates, opt_state = state.optimizer.update(updates, opt_state, params)
        return optax.tree.scale(numbers.learning_rate, updates), opt_state

    optimizer = optax.GradientTransformation(state.optimizer.init, update)  # pyright: ignore[reportArgumentType]
    return state.replace(objective=objective, optimizer=optimizer)


def _train(by: Callable, state: TrainState, numbers: Numbers, *arguments: Any) -> tuple[TrainState, dict[str, Array]]:
    """Trains one model with traced numbers, and returns its state without them."""
    after, info = by(_with_numbers(state, numbers), *arguments)
    return after.replace(objective=state.objective, optimizer=state.optimizer), info


def _for_these_rows(train: np.ndarray, mesh: Mesh, models: PartitionSpec, batch_size: int) -> Callable:
    compiled, rows = _pass_over_these(mesh, models, batch_size), replicate(train, mesh)
    return lambda state, numbers: compiled(state, numbers, rows)


@cache
def _pass_over_these(mesh: Mesh, models: PartitionSpec, batch_size: int) -> Callable:
    def one_pass(state: TrainState, numbers: Numbers, rows: Array):
        arguments = rows, batch_size, _axis(models)
        return each_model(lambda state: _train(train_epoch, state, numbers, *arguments), state)

    return compile_parallel(one_pass, mesh, (models, replicated, replicated), (models, models), donate_argnums=0)


def _for_any_rows(train: np.ndarray, mesh: Mesh, models: PartitionSpec, batch_size: int) -> Callable:
    rows = replicate(padded(train), mesh)
    count, most = len(train) // batch_size, len(rows) // batch_size
    order, compiled = _order(mesh, models, len(train), batch_size, most), _pass_over_any(mesh, models)

    def one_pass(state: TrainState, numbers: Numbers) -> tuple[TrainState, dict[str, Array]]:
        after, info = compiled(state, numbers, rows, order(state.key, state.step), count)
        return after, {name: of_steps[:, :count] for name, of_steps in info.items()}

    return one_pass


@lru_cache(maxsize=16)  # numbers of rows
def _order(mesh: Mesh, models: PartitionSpec, rows: int, batch_size: int, most: int) -> Callable:
    """A program for one number of rows, but a small one: the rows of each step, and then others up to `most` steps."""

    def one_model(of_model: tuple[Array, Array]) -> Array:
        key, step = of_model
        batches = epoch_batches(key, step // (rows // batch_size), rows, batch_size)
        return jnp.pad(batches, [(0, most - len(batches)), (0, 0)])

    def order(keys: Array, steps: Array) -> Array:
        return each_model(one_model, (keys, steps))

    return compile_parallel(order, mesh, (models, models), models, quickly=True)


@cache
def _pass_over_any(mesh: Mesh, models: PartitionSpec) -> Callable:
    def one_pass(state: TrainState, numbers: Numbers, rows: Array, batches: Array, count: Array):
        def one_model(of_model: tuple[TrainState, Array]):
            state, batches = of_model
            return _train(train_in_order, state, numbers, rows, batches, count, _axis(models))

        return each_model(one_model, (state, batches))

    specs = (models, replicated, replicated, models, replicated)
    return compile_parallel(one_pass, mesh, specs, (models, models), donate_argnums=0, quickly=True)


def _axis(models: PartitionSpec) -> str | None:
    """The axis to average gradients over: there is one if every device holds all models and a shard of each batch."""
    return AXIS if models == replicated else None


def _validate(state: TrainState, weight: Array, rows: Array, count: Array) -> dict[str, Array]:
    def one(state: TrainState) -> dict[str, Array]:
        return validate(state.replace(objective=state.objective.replace(weight=weight)), rows, count)

    return jax.vmap(one)(state)
