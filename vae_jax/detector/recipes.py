"""The recipes for tables: K models as a single program, trained and scored on any devices.

Two train the same dense encoder with NAdam on standardised rows, and score by reconstruction probability:

- `report`: weight * RMSE + KL; the decoder gives a mean, and standard deviations are measured on held-out rows.
- `gaussian`: the negative evidence lower bound; the decoder gives a mean and a variance for each feature, as the
  reconstruction probability of An & Cho (2015) assumes. For a table whose columns are of different kinds, or with gaps,
  the decoder gives the parameters of each column's own likelihood (Nazabal et al. 2018).

The third, `exemplar`, has a module of its own, `vae_jax.detector.exemplar`.

A detector's `Settings` set the rest. `VAEDetector` trains and scores with these functions, and so does the fraud
experiment, which adds checkpoints and a log.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from vae_jax.chunks import in_chunks
from vae_jax.compilation import quick_program
from vae_jax.detector import exemplar, passes
from vae_jax.detector.exemplar import Exemplars
from vae_jax.detector.settings import Resolved
from vae_jax.networks import (
    VAE,
    ColumnConstants,
    ColumnLayout,
    bound_sd,
    column_likelihood,
    column_vae,
    dense_vae,
    encode,
    fit_column_constants,
)
from vae_jax.objectives import Objective, gaussian, rmse
from vae_jax.scoring import Scores, measure_residual_sd, score_models
from vae_jax.tables.gaussianise import Gaussianiser
from vae_jax.training import TrainState, create_train_state, stream_key
from vae_jax.training.parallel import data_mesh, replicate, replicated, sharded

if TYPE_CHECKING:
    from jaxtyping import Array, Float

    from vae_jax.tables.schema import Schema

# The quantile of a feature's absolute values that counts as its extreme, which bounds its standard deviation.
EXTREME = 0.999
# Bound on the gaussian recipe's posterior means, in standard deviations of the prior.
MEAN_BOUND = 4.0
SCORED_AT_ONCE = 16_384  # rows
FEWEST_SCORED = 256  # rows; fewer are padded to this


class Columns(NamedTuple):
    """What the columns of a table are, where they are not all numbers without gaps; None stands for such a table.

    Attributes:
      layout: of its rows.
      constants: of its likelihoods.
    """

    layout: ColumnLayout
    constants: ColumnConstants


class Training(NamedTuple):
    """A recipe's compiled training.

    Attributes:
      epoch: one pass over the training rows; (state) -> (state, info of each step). It donates the state's memory. In
        the `exemplar` recipe it takes the number of passes as well, by default 1.
      validate: (state) -> the metrics of `training.validate` on the held-out rows, shape (K,) each.
      initial: the state to start from, K models on the devices.
      gaussianiser: of the features, in the `exemplar` recipe.
    """

    epoch: Callable[..., tuple[TrainState, dict[str, Array]]]
    validate: Callable[[TrainState], dict[str, Array]]
    initial: TrainState
    gaussianiser: Gaussianiser | None = None


def largest_sd(train: Float[np.ndarray, "N D"]) -> Float[np.ndarray, " D"]:
    """Returns the bounds on the decoder's standard deviations: each feature's extreme in training, at least 1."""
    return np.maximum(np.quantile(np.abs(train), EXTREME, axis=0), 1.0).astype(np.float32)


def columns_of(schema: Schema, train: Float[np.ndarray, "N P"]) -> Columns:
    """Returns the columns of a schema, with the extremes of its numbers among the training rows as bounds."""
    values = np.abs(train[:, : schema.layout.measured])
    extremes = [np.quantile(of[~np.isnan(of)], EXTREME) if not np.isnan(of).all() else 1.0 for of in values.T]
    return Columns(schema.layout, schema.constants(2 * np.log(np.maximum(np.array(extremes), 1.0))))


def make_vae(settings: Resolved, feature_dim: int, layout: ColumnLayout | None = None) -> VAE:
    """Builds a recipe's network for D features, or for the parts of a layout."""
    if settings.recipe == "exemplar":
        return exemplar.make_vae(settings, feature_dim, layout)
    if layout is not None:
        return column_vae(layout, settings.hidden_dims, settings.latent_dim, MEAN_BOUND)
    if settings.recipe == "report":
        return dense_vae(feature_dim, settings.hidden_dims, settings.latent_dim)
    return dense_vae(
        feature_dim,
        settings.hidden_dims,
        settings.latent_dim,
        learned_variance=True,
        bounded=True,
        mean_bound=MEAN_BOUND,
    )


def make_objective(settings: Resolved, kl_warmup_steps: int, layout: ColumnLayout | None = None) -> Objective:
    """Builds a recipe's loss; only that of `gaussian` has a KL warm-up."""
    if settings.recipe == "report":
        return Objective(rmse, settings.report_weight)
    likelihood = gaussian if layout is None else column_likelihood
    return Objective(likelihood, input_noise=settings.input_noise, kl_warmup_steps=kl_warmup_steps)


def model_keys(settings: Resolved) -> Array:
    """The keys of a detector's K models."""
    return jax.vmap(partial(stream_key, _key(settings), "model"))(jnp.arange(settings.num_models))


def initial_state(settings: Resolved, train: Float[np.ndarray, "N D"], columns: Columns | None = None) -> TrainState:
    """Initialises a recipe's K models, stacked along the first axis, for standardised float32 training rows."""
    if settings.recipe == "exemplar":
        return exemplar.initial_state(settings, train.shape[1], columns)
    return _initial_state(quick_program(_initialise, "vae", "event_shape"), settings, train, columns)


def state_shapes(settings: Resolved, train: Float[np.ndarray, "N D"], columns: Columns | None = None) -> TrainState:
    """The shapes and dtypes of `initial_state`, which compile nothing."""
    if settings.recipe == "exemplar":
        return jax.eval_shape(lambda: exemplar.initial_state(settings, train.shape[1], columns))
    return jax.eval_shape(lambda: _initial_state(_initialise, settings, train, columns))


def _initial_state(
    initialise: Callable[..., TrainState], settings: Resolved, train: np.ndarray, columns: Columns | None
) -> TrainState:
    batch_size = min(settings.batch_size, len(train))
    kl_warmup_steps = round(settings.kl_warmup * settings.epochs * (len(train) // batch_size))
    layout = columns.layout if columns else None
    measured = columns.constants if columns else largest_sd(train)
    vae = make_vae(settings, train.shape[1], layout)
    state = initialise(model_keys(settings), measured, vae=vae, event_shape=train.shape[1:])
    objective = make_objective(settings, kl_warmup_steps, layout)
    return state.replace(objective=objective, optimizer=passes.make_optimizer(settings.learning_rate))


def _initialise(keys: Array, measured: Array | ColumnConstants, vae: VAE, event_shape: tuple[int, ...]) -> TrainState:
    def one(key: Array) -> TrainState:
        state = create_train_state(key, vae, Objective(), passes.make_optimizer(1.0), event_shape)
        if "bounds" not in state.params:
            return state
        if isinstance(measured, ColumnConstants):
            return state.replace(params=fit_column_constants(state.params, measured))
        return state.replace(params=bound_sd(state.params, measured))

    return jax.vmap(one)(keys)


def compile_training(
    settings: Resolved,
    train: Float[np.ndarray, "N D"],
    held_out: Float[np.ndarray, "M D"],
    state: TrainState | None = None,
    columns: Columns | None = None,
    gaussianiser: Gaussianiser | None = None,
    weights: Float[np.ndarray, " N"] | None = None,
) -> Training:
    """Compiles a recipe's training on all devices, starting from new models, or from `state` if it is given.

    Rows are standardised, float32; NaN is a gap where there are `columns`. Batches have `settings.batch_size` rows, or
    all rows if there are fewer. The `exemplar` recipe fits a `gaussianiser` if none is given, and takes rows by their
    `weights`.
    """
    if settings.recipe == "exemplar":
        gaussianiser = gaussianiser or Gaussianiser.fit(train, columns.layout.measured if columns else None)
        initial = initial_state(settings, train, columns) if state is None else state
        epoch = exemplar.compile_epoch(settings, gaussianiser.transform(train), weights)
        validate = passes.compile_validation(gaussianiser.transform(held_out), data_mesh())
        return Training(epoch, validate, initial, gaussianiser)
    batch_size = min(settings.batch_size, len(train))
    mesh, models = model_layout(settings.num_models, batch_size)
    state = initial_state(settings, train, columns) if state is None else state
    placed = replicate(state, mesh) if models == replicated else jax.device_put(state, NamedSharding(mesh, models))
    epoch = passes.compile_pass(settings, train, mesh, models, batch_size)
    return Training(epoch, passes.compile_validation(held_out, mesh), placed)


def model_layout(num_models: int, batch_size: int) -> tuple[Mesh, PartitionSpec]:
    """Returns the devices to train on, and the placement of K models on them.

    Models are sharded if their number divides evenly: they need nothing from each other. Otherwise every device holds
    all models and a shard of each batch, on fewer devices if the batch does not divide evenly either.
    """
    devices = jax.devices()
    if jax.process_count() == 1 and num_models % len(devices) == 0:
        return data_mesh(), sharded
    count = max(n for n in range(1, len(devices) + 1) if batch_size % n == 0)
    return data_mesh(devices[:count]), replicated


def residual_sds(
    settings: Resolved, vae: VAE, params: Any, held_out: Float[np.ndarray, "M D"]
) -> Float[np.ndarray, "K D"] | None:
    """Measures K models' residual standard deviations on genuine held-out rows; None if the decoder gives its own."""
    if settings.recipe != "report":
        return None
    return np.asarray(_residual_sds(vae, params, jnp.asarray(held_out), score_key(settings)))


@partial(jax.jit, static_argnames="vae")
def _residual_sds(vae: VAE, params: Any, x: Array, key: Array) -> Array:
    return jax.vmap(lambda params: measure_residual_sd(vae, params, x, key))(params)


def score_key(settings: Resolved) -> Array:
    """The key of the latent noise in scores."""
    return stream_key(_key(settings), "score")


def _key(settings: Resolved) -> Array:
    # Said, because scores may not depend on what a program has set as `jax_default_prng_impl`.
    return jax.random.key(settings.seed, impl="threefry2x32")


def scorer(
    settings: Resolved,
    vae: VAE,
    params: Any,
    residual_sd: Float[np.ndarray, "K D"] | None,
    what: tuple[str, ...],
    exemplars: exemplar.Ready | None = None,
) -> Callable[[Float[np.ndarray, "N D"]], tuple[np.ndarray, ...]]:
    """Returns a function from N standardised rows (N may be 0) to scores with a first axis of K models; all float32.

    In the `exemplar` recipe that axis has length 1: its models share one score.

    It scores on all devices, and computes only the fields of `Scores` named in `what`. `params` are stacked along the
    first axis, `residual_sd` is that of `residual_sds`, and `exemplars` those of `choose_exemplars`, made ready.
    """
    if exemplars is not None:
        return exemplar.scorer(exemplars, what)
    mesh = data_mesh()
    placed = replicate((params, score_key(settings), residual_sd), mesh)

    def score_chunk(x: np.ndarray, gaps: bool = False) -> tuple[Array, ...]:
        params, key, residual_sd = placed
        score = quick_program(_score, "vae", "mesh", "num_samples", "what", "gaps")
        found = score(vae, params, replicate(x, mesh), key, mesh, settings.num_samples, residual_sd, what, gaps)
        return tuple(scores.swapaxes(0, 1) for scores in found)

    def score_alike(x: np.ndarray, gaps: bool = False) -> tuple[np.ndarray, ...]:
        # A power of two, so that few programs serve all numbers of rows.
        size = min(SCORED_AT_ONCE, max(FEWEST_SCORED, 1 << (len(x) - 1).bit_length()))
        rows = x if len(x) else np.zeros((1, x.shape[1]), np.float32)  # its scores have the right shape except for N
        chunk = partial(score_chunk, gaps=gaps)
        return tuple(scores.swapaxes(0, 1)[:, : len(x)] for scores in in_chunks(chunk, rows, size=size))

    def score(x: np.ndarray) -> tuple[np.ndarray, ...]:
        incomplete = np.isnan(x).any(1)
        if hasattr(vae.decoder, "layout") or not incomplete.any():
            return score_alike(x)
        # Apart, so that the others' scores are the same bits as without these rows.
        order = np.argsort(np.concatenate([np.flatnonzero(~incomplete), np.flatnonzero(incomplete)]))
        found = zip(score_alike(x[~incomplete]), score_alike(x[incomplete], gaps=True), strict=True)
        return tuple(np.concatenate(both, axis=1)[:, order] for both in found)

    return score


def _score(
    vae: VAE,
    params: Any,
    x: Array,
    key: Array,
    mesh: Mesh,
    num_samples: int,
    residual_sd: Array | None,
    what: tuple[str, ...],
    gaps: bool,
) -> tuple[Array, ...]:
    scores: Scores = score_models(vae, params, x, key, mesh, num_samples, residual_sd, gaps)
    return tuple(getattr(scores, name) for name in what)


def choose_exemplars(
    settings: Resolved,
    vae: VAE,
    params: Any,
    train: Float[np.ndarray, "N D"] | None,
    held_out: Float[np.ndarray, "M D"],
    before: Exemplars | None = None,
    weights: Float[np.ndarray, " N"] | None = None,
    gaussianiser: Gaussianiser | None = None,
) -> Exemplars | None:
    """Chooses the exemplars of K trained models, from standardised rows, and those `before`; None in other recipes.

    The `gaussianiser` is that of the training; without one it is fitted again.
    """
    if settings.recipe != "exemplar":
        return None
    if train is None:
        raise ValueError("the exemplar recipe needs the training rows")
    if gaussianiser is None:
        layout = exemplar.layout_of(vae)
        gaussianiser = Gaussianiser.fit(train, layout.measured if layout else None)
    return exemplar.choose_exemplars(settings, vae, params, gaussianiser, train, held_out, weights, before)


def posterior_means(
    vae: VAE, params: Any, x: Float[np.ndarray, "N D"], exemplars: Exemplars | None = None
) -> Float[np.ndarray, "K N L"]:
    """Returns the means of q(z|x) of each of K models."""
    if exemplars is not None:
        return exemplar.posterior_means(vae, params, exemplars.gaussianiser, x)
    program = quick_program(_posterior_means, "vae")
    return np.asarray(program(vae, params, passes.padded(x)))[:, : len(x)]


def _posterior_means(vae: VAE, params: Any, x: Array) -> Array:
    return jax.vmap(lambda params: encode(vae, params, x).mean)(params)
