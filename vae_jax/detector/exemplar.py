"""The `exemplar` recipe: VAEs that give the widths of kernels at the training rows, see `vae_jax.exemplars`.

Heavy-tailed features are made Gaussian first. Training takes a fixed number of steps of AdamW, whatever the size of the
table, with a learning rate that falls to 0 by a cosine: it stops by itself. Batches, noise and initial parameters are
drawn by NumPy, and numbers such as rates are arguments, so that one program of few operations, which compiles quickly,
trains any table with as many columns.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import cache
from operator import itemgetter
from typing import TYPE_CHECKING, Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.sharding import NamedSharding

from vae_jax.compilation import compile_quickly
from vae_jax.detector.settings import Resolved
from vae_jax.exemplars import Kernels, log_density, reconstruct, shares
from vae_jax.networks import VAE, dense_vae
from vae_jax.objectives import Objective, gaussian
from vae_jax.tables.gaussianise import Gaussianiser
from vae_jax.training import TrainState, evaluate
from vae_jax.training.parallel import data_mesh, replicate, replicated, sharded

if TYPE_CHECKING:
    from jaxtyping import Array, Float, Int

LOWEST_LOG_VAR = -2.0  # of the decoder; a standard deviation of 0.37
WEIGHT_DECAY = 0.01
STEPS_AT_ONCE = 16
MOST_EXEMPLARS, MOST_NUMBERS = 8_192, 2**22  # exemplars, and numbers in them
# Bandwidths tried. The one with the best held-out likelihood is then widened: a kernel density that predicts best has
# holes between its kernels, which anomalies may fall into.
BANDWIDTHS = tuple(0.1 * 2 ** (i / 2) for i in range(11))
WIDENED = 2.0
# With anomalies among the exemplars, narrow kernels would find them normal; wide ones are carried by the bulk of rows.
WIDENED_CONTAMINATED = 8.0
MOST_HELD_OUT = 512  # rows to choose the bandwidth by


class Exemplars(NamedTuple):
    """What a fitted detector has besides its networks.

    Attributes:
      gaussianiser: of heavy-tailed features.
      rows: E training rows, standardised and made Gaussian, shape (E, D), float32.
      log_weights: logs of their weights, which add up to 1, shape (E,), float32.
      bandwidths: of the K models, shape (K,), float64.
      numbers: the exemplars' numbers among the training rows, shape (E,), int64.
    """

    gaussianiser: Gaussianiser
    rows: Float[np.ndarray, "E D"]
    log_weights: Float[np.ndarray, " E"]
    bandwidths: Float[np.ndarray, " K"]
    numbers: Int[np.ndarray, " E"]


class Schedule(NamedTuple):
    """The numbers that training depends on: arguments of the compiled program."""

    total_steps: np.float32
    kl_warmup_steps: np.float32
    learning_rate: np.float32

    @classmethod
    def of(cls, settings: Resolved, rows: int) -> Schedule:
        """Takes them from a detector's settings, for N training rows."""
        total = np.float32(settings.epochs * steps_per_epoch(settings, rows))
        return cls(total, np.float32(settings.kl_warmup) * total, np.float32(settings.learning_rate))


def steps_per_epoch(settings: Resolved, rows: int) -> int:
    """Returns how many batches make up a pass over N rows; rows are drawn with replacement."""
    return max(1, rows // settings.batch_size)


def make_vae(settings: Resolved, feature_dim: int) -> VAE:
    """Builds the network for D features."""
    return dense_vae(
        feature_dim, settings.hidden_dims, settings.latent_dim, learned_variance=True, lowest_log_var=LOWEST_LOG_VAR
    )


@cache  # one object, or every fit would compile again
def optimizer() -> optax.GradientTransformation:
    """Adam without its numbers, as one update of one vector; they are in `Schedule`."""
    return optax.flatten(optax.scale_by_adam())


@cache
def _objective() -> Objective:
    return Objective(gaussian)


def train_state(settings: Resolved, vae: VAE, arrays: dict[str, Any]) -> TrainState:
    """Puts K models' step, parameters and optimiser state together."""
    keys = np.stack([np.random.SeedSequence([settings.seed, k]).generate_state(2) for k in range(settings.num_models)])
    key = jax.random.wrap_key_data(jnp.asarray(keys), impl="threefry2x32")
    return TrainState(**arrays, key=key, vae=vae, objective=_objective(), optimizer=optimizer())


def initial_state(settings: Resolved, feature_dim: int) -> TrainState:
    """Initialises K models: kernels from N(0, 1 / inputs), biases 0."""
    vae = make_vae(settings, feature_dim)
    inputs = jnp.zeros((1, feature_dim)), jnp.zeros((1, vae.latent_dim))
    shapes = jax.eval_shape(vae.init, jax.eval_shape(lambda: jax.random.key(0)), *inputs)
    rng = np.random.default_rng(settings.seed)

    def draw(leaf: jax.ShapeDtypeStruct) -> np.ndarray:
        shape = (settings.num_models, *leaf.shape)
        scale = 1 / np.sqrt(leaf.shape[0]) if len(leaf.shape) == 2 else 0.0
        return (scale * rng.standard_normal(shape)).astype(np.float32)

    params = jax.tree.map(draw, shapes)
    of_optimizer = jax.eval_shape(jax.vmap(optimizer().init), params)
    opt_state = jax.tree.map(lambda leaf: np.zeros(leaf.shape, leaf.dtype), of_optimizer)
    step = np.zeros(settings.num_models, np.int32)
    return train_state(settings, vae, {"step": step, "params": params, "opt_state": opt_state})


def compile_epoch(
    settings: Resolved, train: Float[np.ndarray, "N D"], weights: Float[np.ndarray, " N"] | None = None
) -> Callable[[TrainState], tuple[TrainState, dict[str, Any]]]:
    """Returns a pass over N rows, made Gaussian: state -> state and the means of the losses, shape (K,).

    `weights` are the rows' chances of being drawn. The result depends only on the arguments and the state.
    """
    schedule, count = Schedule.of(settings, len(train)), steps_per_epoch(settings, len(train))
    of_step = (settings.num_models, settings.batch_size)
    up_to = None if weights is None else np.cumsum(weights) / np.sum(weights)

    def draw(rng: np.random.Generator, steps: int) -> Int[np.ndarray, "S K B"]:
        if up_to is None:
            return rng.integers(len(train), size=(steps, *of_step))
        return np.minimum(np.searchsorted(up_to, rng.random((steps, *of_step)), side="right"), len(train) - 1)

    def epoch(state: TrainState) -> tuple[TrainState, dict[str, Any]]:
        rng = np.random.default_rng([settings.seed, int(np.asarray(state.step.addressable_data(0))[0])])
        sums: list[dict[str, Array]] = []
        for start in range(0, count, STEPS_AT_ONCE):
            steps = min(STEPS_AT_ONCE, count - start)
            batch = train[draw(rng, steps)]
            seen = batch
            if settings.input_noise > 0:
                seen = batch + settings.input_noise * rng.standard_normal(batch.shape, np.float32)
            noise = rng.standard_normal((steps, *of_step, state.vae.latent_dim), np.float32)
            filled = (_filled(array) for array in (batch, seen, noise))
            state, info = _take_steps()(state, *filled, np.int32(steps), schedule)
            sums.append(info)
        return state, {name: np.sum([np.asarray(info[name]) for info in sums], 0) / count for name in sums[0]}

    return epoch


def _filled(steps: np.ndarray) -> np.ndarray:
    """Steps up to the number that a program takes at once; those added are not taken."""
    return np.concatenate([steps, np.zeros((STEPS_AT_ONCE - len(steps), *steps.shape[1:]), steps.dtype)])


def place(state: TrainState) -> TrainState:
    """Puts models on the devices: shared out evenly if their number allows, else all on each."""
    mesh = data_mesh()
    models = len(state.step)
    if jax.process_count() == 1 and models % mesh.size == 0:
        return jax.device_put(state, NamedSharding(mesh, sharded if mesh.size > 1 else replicated))
    return replicate(state, mesh)


@cache
def _take_steps() -> Callable:
    """Compiles: takes the first `count` of S steps; returns the state after them, and the sums of the losses."""

    def take(
        state: TrainState, batches: Array, seen: Array, noise: Array, count: Array, schedule: Schedule
    ) -> tuple[TrainState, dict[str, Array]]:
        def body(i: Array, carried: tuple[TrainState, dict[str, Array]]):
            state, sums = carried
            state, info = step_of_all(state, batches[i], seen[i], noise[i], schedule)
            return state, jax.tree.map(jnp.add, sums, info)

        zeros = jnp.zeros(batches.shape[1])
        return jax.lax.fori_loop(0, count, body, (state, dict.fromkeys(("loss", "reconstruction", "kl"), zeros)))

    step_of_all = jax.vmap(_take_step, in_axes=(0, 0, 0, 0, None))
    return compile_quickly(take, donate_argnums=0)


def _take_step(
    state: TrainState, batch: Array, seen: Array, noise: Array, schedule: Schedule
) -> tuple[TrainState, dict[str, Array]]:
    warm = jnp.minimum(1.0, state.step / jnp.maximum(schedule.kl_warmup_steps, 1.0))

    def minimised(params: Any) -> tuple[Array, dict[str, Array]]:
        terms, _, _ = evaluate(state, batch, noise, params, seen)
        reconstruction, kl = terms.reconstruction.mean(), terms.kl.mean()
        info = {"loss": reconstruction + kl, "reconstruction": reconstruction, "kl": kl}
        return reconstruction + warm * kl, info

    grads, info = jax.grad(minimised, has_aux=True)(state.params)
    directions, opt_state = state.optimizer.update(grads, state.opt_state)
    done = jnp.minimum(1.0, state.step / schedule.total_steps)
    rate = schedule.learning_rate * 0.5 * (1 + jnp.cos(jnp.pi * done))
    params = jax.tree.map(lambda p, d: p - rate * (d + WEIGHT_DECAY * p), state.params, directions)
    return state.replace(step=state.step + 1, params=params, opt_state=opt_state), info


def choose_exemplars(
    settings: Resolved,
    vae: VAE,
    params: Any,
    gaussianiser: Gaussianiser,
    rows: Float[np.ndarray, "N D"],
    held_out: Float[np.ndarray, "M D"],
    weights: Float[np.ndarray, " N"] | None = None,
) -> Exemplars:
    """Takes exemplars from the training rows, and each model's bandwidth from the likelihood of held-out rows.

    Args:
      settings: of the detector.
      vae: the network.
      params: of K models.
      gaussianiser: of the features.
      rows: training rows, made Gaussian.
      held_out: held-out normal rows, made Gaussian.
      weights: of the training rows.
    """
    rng = np.random.default_rng([settings.seed, 1])
    weights = np.ones(len(rows)) if weights is None else weights
    chosen = np.flatnonzero(weights > 0)
    most = max(1, min(MOST_EXEMPLARS, MOST_NUMBERS // rows.shape[1]))
    if len(chosen) > most:
        chosen = np.sort(rng.choice(chosen, most, replace=False))
    if len(held_out) > MOST_HELD_OUT:
        held_out = held_out[rng.choice(len(held_out), MOST_HELD_OUT, replace=False)]
    log_weights = np.log(weights[chosen] / weights[chosen].sum()).astype(np.float32)
    plain = Exemplars(gaussianiser, rows[chosen], log_weights, np.ones(settings.num_models), chosen)
    best = [_best_bandwidth(of_model, held_out) for of_model in kernels(settings, vae, params, plain)]
    widened = WIDENED if settings.contamination is None else WIDENED_CONTAMINATED
    return plain._replace(bandwidths=widened * np.array(best))


def _best_bandwidth(kernels: Kernels, held_out: Float[np.ndarray, "M D"]) -> float:
    """The bandwidth under which held-out rows are likeliest: up from the middle of the list, or else down."""
    tried: dict[int, float] = {}

    def likelihood(i: int) -> float:
        if i not in tried:
            tried[i] = float(log_density(kernels.widened(BANDWIDTHS[i]), held_out).mean())
        return tried[i]

    best = len(BANDWIDTHS) // 2
    for direction in (1, -1):
        while 0 <= best + direction < len(BANDWIDTHS) and likelihood(best + direction) > likelihood(best):
            best += direction
    return BANDWIDTHS[best]


def kernels(settings: Resolved, vae: VAE, params: Any, exemplars: Exemplars) -> list[Kernels]:
    """Returns each model's kernels."""
    rng = np.random.default_rng([settings.seed, 2])
    noise = rng.standard_normal((settings.num_models, len(exemplars.rows), vae.latent_dim), np.float32)
    found = []
    for of_model, drawn, bandwidth in zip(_each(params), noise, exemplars.bandwidths, strict=True):
        _, log_var = reconstruct(vae, of_model, exemplars.rows, drawn)
        found.append(Kernels(exemplars.rows, log_var, exemplars.log_weights).widened(float(bandwidth)))
    return found


def scorer(
    settings: Resolved, vae: VAE, params: Any, exemplars: Exemplars, what: tuple[str, ...]
) -> Callable[[Float[np.ndarray, "N D"]], tuple[np.ndarray, ...]]:
    """The same as `recipes.scorer`, with log densities as log reconstruction probabilities."""
    models = kernels(settings, vae, params, exemplars)

    def score(x: Float[np.ndarray, "N D"]) -> tuple[np.ndarray, ...]:
        rows = exemplars.gaussianiser.transform(x)
        found = {}
        if "log_reconstruction_prob" in what:
            found["log_reconstruction_prob"] = np.stack([log_density(model, rows) for model in models])
        if {"contributions", "mean_log_prob"} & set(what):
            found["contributions"] = np.stack([shares(model, rows) for model in models])
            found["mean_log_prob"] = found["contributions"].sum(-1)
        return tuple(found[name].astype(np.float32) for name in what)

    return score


def score(
    settings: Resolved,
    vae: VAE,
    params: Any,
    exemplars: Exemplars,
    x: Float[np.ndarray, "N D"],
    own: Int[np.ndarray, " N"],
) -> Float[np.ndarray, " N"]:
    """Returns the models' mean log density of standardised rows, some of which are exemplars, see `log_density`."""
    rows = exemplars.gaussianiser.transform(x)
    models = kernels(settings, vae, params, exemplars)
    return np.mean([log_density(model, rows, own) for model in models], axis=0)


def posterior_means(
    vae: VAE, params: Any, gaussianiser: Gaussianiser, x: Float[np.ndarray, "N D"]
) -> Float[np.ndarray, "K N L"]:
    """Returns the means of q(z|x) of each of K models, for standardised rows."""
    rows = gaussianiser.transform(x)
    noise = np.zeros((len(rows), vae.latent_dim), np.float32)
    return np.stack([reconstruct(vae, of_model, rows, noise)[0] for of_model in _each(params)])


def _each(params: Any) -> Iterator[Any]:
    """Yields the parameters of each model."""
    for k in range(len(jax.tree.leaves(params)[0])):
        yield jax.tree.map(itemgetter(k), params)
