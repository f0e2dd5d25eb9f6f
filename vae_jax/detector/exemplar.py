"""The `exemplar` recipe: VAEs that give the widths of kernels at the training rows, see `vae_jax.exemplars`.

Heavy-tailed features are made Gaussian first. Training takes as many passes as make 1,000 steps of AdamW, at least one,
with a learning rate that falls to 0 by a cosine: it stops by itself. Batches, noise and initial parameters are
drawn by NumPy, and numbers such as rates are arguments, so that one program of few operations, which compiles quickly,
trains any table with as many columns. The score pools the densities under near and far kernels with those of single
features.

Where columns are of different kinds, or have gaps, rows are those of `networks.columns`, with counts as numbers. The
networks then give the widths of numbers' kernels; another level costs the same everywhere.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import CancelledError, ThreadPoolExecutor
from dataclasses import replace
from functools import cache, partial
from operator import itemgetter
from typing import TYPE_CHECKING, Any, NamedTuple, cast

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.flatten_util import ravel_pytree
from scipy.stats import iqr

from vae_jax.column_kernels import category_levels
from vae_jax.compilation import compile_quickly, in_32_bits
from vae_jax.detector.settings import Resolved
from vae_jax.exemplars import Kernels, PlacedKernels, log_densities, reconstruct, shares
from vae_jax.marginals import Frequencies, Marginals
from vae_jax.networks import (
    VAE,
    ColumnConstants,
    ColumnLayout,
    Gaussian,
    Observation,
    column_likelihood,
    column_vae,
    dense_vae,
    fit_column_constants,
)
from vae_jax.objectives import Objective, gaussian
from vae_jax.tables.gaussianise import Gaussianiser
from vae_jax.training import TrainState

if TYPE_CHECKING:
    from jaxtyping import Array, Float, Int

LOWEST_LOG_VAR = -2.0  # of the decoder; a standard deviation of 0.37
# What another level of an answer or a category costs at a bandwidth of 1, nats: as much as 2.8 standard deviations.
# Costs by the decoders' probabilities of levels made held-out rows likelier, but fewer anomalies were found.
OTHER_LEVEL = 4.0
WEIGHT_DECAY = 0.01
CONTINUED_RATE = 0.1  # of the learning rate, beyond the steps that were planned
STEPS_AT_ONCE = 16
MOST_EXEMPLARS, MOST_NUMBERS = 16_384, 2**22  # exemplars, and numbers in them
# Bandwidths tried, to choose the one with the best held-out likelihood, and the factors of that one. A kernel density
# that predicts best has holes between its kernels, which anomalies may fall into; wide kernels have none, but hide what
# lies close to the rows. So there are both.
BANDWIDTHS = tuple(0.1 * 2 ** (i / 2) for i in range(12))
FACTORS = (1.0, 3.0)
# With anomalies among the exemplars, narrow kernels would find them normal; wide ones are carried by the bulk of rows.
FACTORS_CONTAMINATED = (3.0,)
LEAST_SPREAD = 0.05  # of log densities that are pooled, in parts of the largest
ROWS_AT_ONCE = 16_384  # that are scored on the host
MOST_MEASURED = 512  # rows to choose the bandwidth by, to measure how much log densities vary, and for usual shares


class Exemplars(NamedTuple):
    """What a fitted detector has besides its networks.

    Its score is a logarithmic opinion pool (Genest & Zidek 1986, "Combining Probability Distributions", section 3.2): a
    weighted mean of log densities.

    Attributes:
      gaussianiser: of heavy-tailed features.
      rows: E training rows, standardised and made Gaussian, shape (E, D), float32; of columns, parts, NaN for gaps.
      log_weights: logs of their weights, which add up to 1, shape (E,), float32.
      log_var: log variances of S sets of kernels, shape (S, E, D), float32; of answers and categories see
        `column_kernels.log_kernels`. S is 1, the mean over models, except in folders that older versions saved, which
        have a set for each model.
      bandwidths: factors of the kernels' standard deviations, B for each set, shape (S, B), float64.
      numbers: the exemplars' numbers, which rise, among the training rows of all calls, shape (E,), int64.
      pooled: weights, which add up to 1, of the S * B densities under kernels, and of the product of the features' own
        densities, `Marginals`, shape (S * B + 1,), float64.
      seen: how many training rows there were in all calls, shape (1,), int64.
      layout: what the parts of rows of columns are, with counts as numbers; None for numbers alone.

    Examples:
      >>> import numpy as np
      >>> from vae_jax import VAEDetector
      >>> rows = np.random.default_rng(0).normal(size=(200, 3))
      >>> exemplars = VAEDetector(epochs=5).fit(rows).exemplars_  # a tenth of the rows is held out
      >>> exemplars.log_var.shape, exemplars.bandwidths.shape, exemplars.pooled.shape
      ((1, 180, 3), (1, 2), (3,))
    """

    gaussianiser: Gaussianiser
    rows: Float[np.ndarray, "E D"]
    log_weights: Float[np.ndarray, " E"]
    log_var: Float[np.ndarray, "S E D"]
    bandwidths: Float[np.ndarray, "S B"]
    numbers: Int[np.ndarray, " E"]
    pooled: Float[np.ndarray, " P"]
    seen: Int[np.ndarray, "1"]
    layout: ColumnLayout | None = None


class Schedule(NamedTuple):
    """Numbers of S steps, which are arguments of the compiled program: each shape (S,), float32."""

    learning_rate: Float[np.ndarray, " S"]
    kl_weight: Float[np.ndarray, " S"]

    @classmethod
    def of(cls, settings: Resolved, rows: int, steps: Int[np.ndarray, " S"]) -> Schedule:
        """A cosine to 0 and a warm-up, for N training rows; steps beyond those that were planned have a low rate."""
        total = settings.epochs * steps_per_epoch(settings, rows)
        factor = np.where(steps < total, 0.5 * (1 + np.cos(np.pi * steps / total)), CONTINUED_RATE)
        rate = settings.learning_rate * factor
        kl_weight = np.minimum(1, steps / max(settings.kl_warmup * total, 1))
        return cls(rate.astype(np.float32), kl_weight.astype(np.float32))


def steps_per_epoch(settings: Resolved, rows: int) -> int:
    """Returns how many batches make up a pass over N rows; rows are drawn with replacement."""
    return max(1, rows // settings.batch_size)


def counts_as_numbers(layout: ColumnLayout) -> ColumnLayout:
    """The layout of rows as this recipe sees them."""
    return replace(layout, numbers=layout.measured, counts=0)


def make_vae(settings: Resolved, feature_dim: int, layout: ColumnLayout | None = None) -> VAE:
    """Builds the network for D features, or for the parts of a layout."""
    if layout is not None:
        return column_vae(counts_as_numbers(layout), settings.hidden_dims, settings.latent_dim)
    return dense_vae(
        feature_dim, settings.hidden_dims, settings.latent_dim, learned_variance=True, lowest_log_var=LOWEST_LOG_VAR
    )


@cache  # one object, or every fit would compile again
def optimizer() -> optax.GradientTransformation:
    """Adam on one vector, without a learning rate, which is in `Schedule`."""
    return optax.flatten(optax.scale_by_adam())


@cache
def _objective(of_columns: bool) -> Objective:
    return Objective(column_likelihood if of_columns else gaussian)


def layout_of(vae: VAE) -> ColumnLayout | None:
    """What the parts of a network's rows are; None for numbers alone."""
    return getattr(vae.decoder, "layout", None)


def train_state(settings: Resolved, vae: VAE, arrays: dict[str, Any]) -> TrainState:
    """Puts K models' step, parameters and optimiser state together."""
    keys = np.stack([np.random.SeedSequence([settings.seed, k]).generate_state(2) for k in range(settings.num_models)])
    key = jax.random.wrap_key_data(jnp.asarray(keys), impl="threefry2x32")
    return TrainState(
        **arrays, key=key, vae=vae, objective=_objective(layout_of(vae) is not None), optimizer=optimizer()
    )


def initial_state(
    settings: Resolved, feature_dim: int, columns: tuple[ColumnLayout, ColumnConstants] | None = None
) -> TrainState:
    """Initialises K models: kernels from N(0, 1 / inputs), biases 0, or of `columns` by `fit_column_constants`."""
    vae = make_vae(settings, feature_dim, columns[0] if columns else None)
    inputs = (jax.ShapeDtypeStruct((1, width), np.float32) for width in (feature_dim, vae.latent_dim))
    shapes = jax.eval_shape(vae.init, jax.eval_shape(lambda: jax.random.key(0)), *inputs)
    rng = np.random.default_rng(settings.seed)

    def draw(leaf: jax.ShapeDtypeStruct) -> np.ndarray:
        shape = (settings.num_models, *leaf.shape)
        scale = 1 / np.sqrt(leaf.shape[0]) if len(leaf.shape) == 2 else 0.0
        return (scale * rng.standard_normal(shape)).astype(np.float32)

    params = jax.tree.map(draw, shapes)
    if columns:
        none = jnp.zeros(0)
        constants = columns[1]._replace(count_mean=none, count_sd=none, count_log=none)
        params = jax.vmap(partial(fit_column_constants, constants=constants))(params)
    of_optimizer = jax.eval_shape(jax.vmap(optimizer().init), _trained(params))
    opt_state = jax.tree.map(lambda leaf: np.zeros(leaf.shape, leaf.dtype), of_optimizer)
    step = np.zeros(settings.num_models, np.int32)
    return train_state(settings, vae, {"step": step, "params": params, "opt_state": opt_state})


def _trained(params: Any) -> Any:
    """The parameters without what training leaves as it is."""
    return {name: part for name, part in params.items() if name != "bounds"}


class Model(NamedTuple):
    """What training changes of a single model; the fields are those of `TrainState`."""

    step: Any
    params: Any
    opt_state: Any


def compile_epoch(
    settings: Resolved, train: Float[np.ndarray, "N D"], weights: Float[np.ndarray, " N"] | None = None
) -> Callable[..., tuple[TrainState, dict[str, Any]]]:
    """Returns `passes` over N rows, made Gaussian: (state, passes=1) -> state and the means of the losses, shape (K,).

    `weights` are the rows' chances of being drawn. What a step draws depends only on the seed, the model and the step.
    One program for a single model trains them all, in threads: it compiles sooner than one for K models.
    """
    count = steps_per_epoch(settings, len(train))
    up_to = None if weights is None else np.cumsum(weights) / np.sum(weights)

    def draw(k: int, step: int, latent_dim: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        rng = np.random.default_rng([settings.seed, k, step])
        if up_to is None:
            numbers = rng.integers(len(train), size=settings.batch_size)
        else:
            numbers = np.searchsorted(up_to, rng.random(settings.batch_size), side="right").clip(max=len(train) - 1)
        noise = rng.standard_normal((len(numbers), latent_dim), np.float32)
        batch = seen = train[numbers]
        if settings.input_noise > 0:
            seen = batch + settings.input_noise * rng.standard_normal(batch.shape, np.float32)
        return batch, seen, noise

    @in_32_bits
    def train_one(
        interrupted: threading.Event, vae: VAE, steps: int, k: int, model: Model
    ) -> tuple[Model, dict[str, np.ndarray]]:
        sums: list[dict[str, Array]] = []
        first = int(model.step)
        for start in range(first, first + steps, STEPS_AT_ONCE):
            if interrupted.is_set():
                raise CancelledError
            taken = min(STEPS_AT_ONCE, first + steps - start)
            # Steps up to the number that the program is for are drawn, but not taken.
            numbers = start + np.arange(STEPS_AT_ONCE) % taken
            drawn = zip(*(draw(k, int(step), vae.latent_dim) for step in numbers), strict=True)
            schedule = Schedule.of(settings, len(train), numbers)
            model, info = _take_steps()(vae, model, *map(np.stack, drawn), np.int32(taken), schedule)
            sums.append(info)
        model, found = jax.device_get((model, sums))
        return model, {name: np.sum([info[name] for info in found], axis=0) / steps for name in found[0]}

    def epoch(state: TrainState, passes: int = 1) -> tuple[TrainState, dict[str, Any]]:
        stacked = jax.tree.map(np.asarray, Model(state.step, state.params, state.opt_state))
        models = [jax.tree.map(itemgetter(k), stacked) for k in range(settings.num_models)]
        interrupted = threading.Event()
        train_each = partial(train_one, interrupted, state.vae, passes * count)
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            try:
                pool.submit(_compile_scoring, state.vae, models[0].params, train.shape[1])
                trained = list(pool.map(train_each, range(len(models)), models))
            except BaseException:  # Ctrl-C reaches this thread alone, and leaving the pool waits for the others
                interrupted.set()
                raise
        model, info = jax.tree.map(lambda *of_each: np.stack(of_each), *trained)
        return state.replace(**model._asdict()), info

    return epoch


_scoring_compiled: set[VAE] = set()


@in_32_bits
def _compile_scoring(vae: VAE, params: Any, feature_dim: int) -> None:
    """Compiles what a fit needs after training, while the training program is compiled."""
    if vae not in _scoring_compiled:
        row = np.zeros((1, feature_dim), np.float32)
        reconstruct(vae, params, row, np.zeros((1, vae.latent_dim), np.float32))
        log_densities(_kernels(row, row, np.zeros(1, np.float32), layout_of(vae)), FACTORS, row)
        _scoring_compiled.add(vae)


@cache
def _take_steps() -> Callable:
    return compile_quickly(_take, static_argnums=0, donate_argnums=1)


def _take(
    vae: VAE, model: Model, batches: Array, seen: Array, noise: Array, count: Array, schedule: Schedule
) -> tuple[Model, dict[str, Array]]:
    """Takes the first `count` of S steps; returns the model after them, and the sums of the losses."""
    # As one vector, so that an update is one operation, not one for each kernel and bias.
    flat, unravel = ravel_pytree(_trained(model.params))

    def minimised(flat: Array, i: Array) -> tuple[Array, dict[str, Array]]:
        params = {**model.params, **unravel(flat)}
        posterior, observation = cast(tuple[Gaussian, Observation], vae.apply(params, seen[i], noise[i]))
        terms = _objective(layout_of(vae) is not None).terms(batches[i], posterior, observation)
        reconstruction, kl = terms.reconstruction.mean(), terms.kl.mean()
        info = {"loss": reconstruction + kl, "reconstruction": reconstruction, "kl": kl}
        return reconstruction + schedule.kl_weight[i] * kl, info

    def body(i: Array, carried: tuple[Array, Any, dict[str, Array]]):
        flat, opt_state, sums = carried
        grads, info = jax.grad(minimised, has_aux=True)(flat, i)
        updates, opt_state = optimizer().update(grads, opt_state)
        direction = cast(jax.Array, updates) + WEIGHT_DECAY * flat
        return flat - schedule.learning_rate[i] * direction, opt_state, jax.tree.map(jnp.add, sums, info)

    zeros = dict.fromkeys(("loss", "reconstruction", "kl"), jnp.zeros(()))
    flat, opt_state, sums = jax.lax.fori_loop(0, count, body, (flat, model.opt_state, zeros))
    return Model(model.step + count, {**model.params, **unravel(flat)}, opt_state), sums


def choose_exemplars(
    settings: Resolved,
    vae: VAE,
    params: Any,
    gaussianiser: Gaussianiser,
    train: Float[np.ndarray, "N D"],
    held_out: Float[np.ndarray, "M D"],
    weights: Float[np.ndarray, " N"] | None = None,
    before: Exemplars | None = None,
) -> Exemplars:
    """Takes exemplars from training rows, bandwidths from the likelihood of held-out rows, and weighs the densities.

    A density's weight is inverse to the interquartile range of its logs over training rows, without their own kernels.

    Args:
      settings: of the detector.
      vae: the network.
      params: of K models.
      gaussianiser: of the features.
      train: standardised training rows.
      held_out: standardised held-out normal rows.
      weights: of the training rows.
      before: exemplars of earlier training rows, to which these are added; all rows so far then have one chance to be
        an exemplar. A new row counts as much as an earlier one does on average.
    """
    seen = int(before.seen[0]) if before else 0
    rng = np.random.default_rng([settings.seed, 1, seen] if seen else [settings.seed, 1])
    weights = np.ones(len(train)) if weights is None else weights
    numbers = np.flatnonzero(weights > 0)
    most = max(1, min(MOST_EXEMPLARS, MOST_NUMBERS // train.shape[1]))
    in_all = seen + len(numbers)
    if in_all > most:
        # By chance, or some rows at a time, after very many, would have none.
        taken = min(rng.binomial(most, len(numbers) / in_all), len(numbers)) if before else most
        numbers = np.sort(rng.choice(numbers, taken, replace=False))
    seen_now = np.array([seen + len(train)])
    if len(held_out) > MOST_MEASURED:
        held_out = held_out[rng.choice(len(held_out), MOST_MEASURED, replace=False)]
    chosen, weights = gaussianiser.transform(train[numbers]), weights[numbers]
    if before:
        kept = np.arange(len(before.rows))
        if in_all > most:
            kept = np.sort(rng.choice(kept, min(most - len(numbers), len(kept)), replace=False))
        numbers = np.concatenate([before.numbers[kept], seen + numbers])
        chosen = np.concatenate([before.rows[kept], chosen])
        weights = np.concatenate([np.exp(before.log_weights[kept]) * len(before.rows), weights])
    log_weights = np.log(weights / weights.sum()).astype(np.float32)
    layout = layout_of(vae)
    log_var = log_variances(settings, vae, params, chosen).mean(0, keepdims=True)
    if layout is not None:
        of_numbers, log_var = log_var, np.full((1, *chosen.shape), -np.log(OTHER_LEVEL), np.float32)
        log_var[..., : layout.measured] = np.maximum(of_numbers, LOWEST_LOG_VAR)
    factors = FACTORS if settings.contamination is None else FACTORS_CONTAMINATED
    kernels = _kernels(chosen, log_var[0], log_weights, layout)
    bandwidths = np.array([factors]) * _best_bandwidth(kernels, gaussianiser.transform(held_out))
    pooled = np.full(len(factors) + 1, 1 / (len(factors) + 1))
    found = Exemplars(gaussianiser, chosen, log_weights, log_var, bandwidths, numbers, pooled, seen_now, layout)
    if len(chosen) == 1:  # without its own kernel there is none
        return found
    own = rng.permutation(len(chosen))[:MOST_MEASURED]
    spreads = iqr(Ready.of(found).log_densities(chosen[own], own), axis=1)
    inverse = 1 / np.maximum(spreads, max(LEAST_SPREAD * spreads.max(), 1e-6))
    return found._replace(pooled=inverse / inverse.sum())


def _best_bandwidth(kernels: Kernels, held_out: Float[np.ndarray, "M D"]) -> float:
    """The bandwidth under which held-out rows are likeliest."""
    placed = PlacedKernels.of(kernels)
    pairs = zip(BANDWIDTHS[::2], BANDWIDTHS[1::2], strict=True)  # two at a time, by the program that scores
    likelihoods = np.concatenate([log_densities(placed, pair, held_out).mean(1) for pair in pairs])
    return BANDWIDTHS[int(np.argmax(likelihoods))]


def log_variances(
    settings: Resolved, vae: VAE, params: Any, rows: Float[np.ndarray, "E D"]
) -> Float[np.ndarray, "K E D"]:
    """Returns the log variances with which each of K models reconstructs rows, at one draw from each posterior."""
    rng = np.random.default_rng([settings.seed, 2])
    noise = rng.standard_normal((settings.num_models, len(rows), vae.latent_dim), np.float32)
    return np.stack([reconstruct(vae, one, rows, drawn)[1] for one, drawn in zip(_each(params), noise, strict=True)])


def _kernels(rows: np.ndarray, log_var: np.ndarray, log_weights: np.ndarray, layout: ColumnLayout | None) -> Kernels:
    """Kernels of bandwidth 1."""
    if layout is None:
        return Kernels(rows, log_var, log_weights)
    categories = rows[:, layout.measured :]
    frequencies = Frequencies.fit(categories, _weights(log_weights), category_levels(layout))
    own = np.exp(frequencies.log_prob(categories))
    return Kernels(rows, log_var, log_weights, own.astype(np.float32), layout)


def _weights(log_weights: np.ndarray) -> np.ndarray:
    return np.exp(log_weights.astype(np.float64))


def kernel_sets(exemplars: Exemplars) -> list[Kernels]:
    """The S sets of kernels, of bandwidth 1."""
    return [_kernels(exemplars.rows, log_var, exemplars.log_weights, exemplars.layout) for log_var in exemplars.log_var]


def marginals_of(exemplars: Exemplars) -> Marginals:
    """The densities of single features."""
    levels = category_levels(exemplars.layout) if exemplars.layout else ()
    return Marginals.fit(exemplars.rows, _weights(exemplars.log_weights), levels)


class Ready(NamedTuple):
    """Exemplars ready to score rows: on all devices, with the densities of single features."""

    exemplars: Exemplars
    kernels: list[Kernels]
    placed: list[PlacedKernels]
    marginals: Marginals

    @classmethod
    def of(cls, exemplars: Exemplars) -> Ready:
        """Places exemplars on all devices."""
        kernels = kernel_sets(exemplars)
        return cls(exemplars, kernels, [PlacedKernels.of(of_set) for of_set in kernels], marginals_of(exemplars))

    def log_densities(self, rows: Float[np.ndarray, "N D"], own: Int[np.ndarray, " N"]) -> Float[np.ndarray, "P N"]:
        """The log densities that are pooled, of rows made Gaussian; `own` is as for `exemplars.log_density`."""
        sets = zip(self.placed, self.exemplars.bandwidths, strict=True)
        joint = [log_densities(of_set, bandwidths, rows, own) for of_set, bandwidths in sets]
        weights = np.where(own < 0, 0.0, _weights(self.exemplars.log_weights)[own])
        alone = self.marginals.log_density(rows, weights).sum(1)
        return np.concatenate([np.concatenate(joint) + self.log_frequencies(rows).sum(1), alone[None]])

    def log_frequencies(self, rows: Float[np.ndarray, "N D"]) -> Float[np.ndarray, "N A"]:
        """Log frequencies of levels, in units of which kernels give theirs."""
        return self.marginals.frequencies.log_prob(rows[:, len(self.marginals.densities) :])


def scorer(ready: Ready, what: tuple[str, ...]) -> Callable[[Float[np.ndarray, "N D"]], tuple[np.ndarray, ...]]:
    """The same as `recipes.scorer`, with one pooled log density as log reconstruction probability of all models."""

    def score_rows(x: Float[np.ndarray, "N D"]) -> tuple[np.ndarray, ...]:
        found = {}
        if "log_reconstruction_prob" in what:
            found["log_reconstruction_prob"] = score(ready, x, np.full(len(x), -1))[None]
        if {"contributions", "mean_log_prob"} & set(what):
            found["contributions"] = _contributions(ready, x)[None]
            found["mean_log_prob"] = found["contributions"].sum(-1)
        return tuple(found[name].astype(np.float32) for name in what)

    return score_rows


def score(ready: Ready, x: Float[np.ndarray, "N D"], own: Int[np.ndarray, " N"]) -> Float[np.ndarray, " N"]:
    """Returns the pooled log densities of standardised rows, some of which are exemplars, see `log_density`."""
    found = np.empty(len(x))
    for start in range(0, len(x), ROWS_AT_ONCE):
        part = slice(start, start + ROWS_AT_ONCE)
        found[part] = _pooled(ready, ready.exemplars.gaussianiser.transform(x[part]), own[part])
    return found


def score_exemplars(ready: Ready, numbers: Int[np.ndarray, " N"]) -> Float[np.ndarray, " N"]:
    """Returns the pooled log densities of exemplars, by number, each without its own kernel; an only one has -inf."""
    return _pooled(ready, ready.exemplars.rows[numbers], numbers)


def _pooled(ready: Ready, rows: Float[np.ndarray, "N D"], own: Int[np.ndarray, " N"]) -> Float[np.ndarray, " N"]:
    return (ready.exemplars.pooled[:, None] * ready.log_densities(rows, own)).sum(0)


def _contributions(ready: Ready, x: Float[np.ndarray, "N D"]) -> Float[np.ndarray, "N D"]:
    """Log densities of each feature given a row's others, under the narrowest kernels, which tell most about these."""
    exemplars = ready.exemplars
    rows = exemplars.gaussianiser.transform(x)
    narrow = exemplars.bandwidths.min(1)
    of_sets = [shares(of_set.widened(float(of)), rows) for of_set, of in zip(ready.kernels, narrow, strict=True)]
    found = np.stack(of_sets).mean(0, dtype=np.float64)
    if exemplars.layout is not None:
        found[:, exemplars.layout.measured :] += ready.log_frequencies(rows)
    return found


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
