"""The two recipes for tables: K models of one as a single program, trained and asked for scores on any devices.

From the same dense encoder, trained by NAdam on standardised rows:

- `report`: weight * RMSE + KL; the decoder gives a mean, and the standard deviation that scoring needs is measured on
  held-out rows.
- `gaussian`: the decoder gives a mean and a variance for each feature, and the loss is the negative evidence lower
  bound, which is what the reconstruction probability of An & Cho (2015) assumes.

What a recipe leaves open is taken from a detector's `Settings`. `VAEDetector` trains and scores by these functions, and
so does the fraud experiment, which adds checkpoints and a log.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache, partial
from typing import TYPE_CHECKING, Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from vae_jax.chunks import in_chunks
from vae_jax.detector.settings import Settings
from vae_jax.networks import VAE, bound_sd, dense_vae, encode
from vae_jax.objectives import Objective, gaussian, rmse
from vae_jax.scoring import Scores, measure_residual_sd, score_models
from vae_jax.training import TrainState, create_train_state, stream_key, train_epoch, validate
from vae_jax.training.parallel import AXIS, compile_parallel, data_mesh, replicate, replicated, sharded

if TYPE_CHECKING:
    from jaxtyping import Array, Float

# A feature's extreme, whose size bounds its standard deviation, is this quantile of its absolute values.
EXTREME = 0.999
# Bound on the gaussian recipe's posterior means, in standard deviations of the prior.
MEAN_BOUND = 4.0
SCORED_AT_ONCE = 16_384  # rows
FEWEST_SCORED = 256  # rows: what fewer are filled up to


class Training(NamedTuple):
    """A recipe's compiled training.

    Attributes:
      epoch: one pass over the training rows; (state) -> (state, info of each step). It takes over the state's memory.
      validate: (state) -> the measures of `training.validate` on the held-out rows, shape (K,) each.
      initial: the state at step 0, K models on the devices.
    """

    epoch: Callable[[TrainState], tuple[TrainState, dict[str, Array]]]
    validate: Callable[[TrainState], dict[str, Array]]
    initial: TrainState


def largest_sd(train: Float[np.ndarray, "N D"]) -> Float[np.ndarray, " D"]:
    """Returns the bounds on the decoder's standard deviations: how far each feature strays in training, at least 1."""
    return np.maximum(np.quantile(np.abs(train), EXTREME, axis=0), 1.0).astype(np.float32)


def make_vae(settings: Settings, feature_dim: int) -> VAE:
    """Builds a recipe's network for D features."""
    if settings.recipe == "report":
        return dense_vae(feature_dim, tuple(settings.hidden_dims), settings.latent_dim)
    return dense_vae(feature_dim, tuple(settings.hidden_dims), settings.latent_dim, True, True, MEAN_BOUND)


def make_objective(settings: Settings, kl_warmup_steps: int) -> Objective:
    """Builds a recipe's loss; only that of `gaussian` has a KL warm-up."""
    if settings.recipe == "report":
        return Objective(rmse, settings.report_weight)
    return Objective(gaussian, input_noise=settings.input_noise, kl_warmup_steps=kl_warmup_steps)


@cache  # one object for each rate, or every fit would compile anew
def make_optimizer(learning_rate: float) -> optax.GradientTransformation:
    """NAdam, as one update of one vector, not of an array for each layer's kernel and bias."""
    return optax.flatten(optax.nadam(learning_rate))


def model_keys(settings: Settings) -> Array:
    """The keys of a detector's K models."""
    return jax.vmap(partial(stream_key, jax.random.key(settings.seed), "model"))(jnp.arange(settings.num_models))


def initial_state(settings: Settings, train: Float[np.ndarray, "N D"]) -> TrainState:
    """Initialises the K models of a recipe, stacked along a first axis.

    Args:
      settings: of the detector.
      train: standardised rows to train on, float32.

    Returns:
      The models at step 0.
    """
    batch_size = min(settings.batch_size, len(train))
    kl_warmup_steps = round(settings.kl_warmup * settings.epochs * (len(train) // batch_size))
    objective = make_objective(settings, kl_warmup_steps)
    vae, optimizer = make_vae(settings, train.shape[1]), make_optimizer(settings.learning_rate)
    return _initialise(model_keys(settings), largest_sd(train), vae, objective, optimizer)


@partial(jax.jit, static_argnames=("vae", "objective", "optimizer"))
def _initialise(keys: Array, largest_sd: Array, vae: VAE, objective: Objective, optimizer) -> TrainState:
    def one(key: Array) -> TrainState:
        state = create_train_state(key, vae, objective, optimizer, largest_sd.shape)
        return state.replace(params=bound_sd(state.params, largest_sd)) if "bounds" in state.params else state

    return jax.vmap(one)(keys)


def compile_training(
    settings: Settings,
    train: Float[np.ndarray, "N D"],
    held_out: Float[np.ndarray, "M D"],
    state: TrainState | None = None,
) -> Training:
    """Compiles a recipe's training on all devices.

    Args:
      settings: of the detector.
      train: standardised rows to train on, float32.
      held_out: standardised rows to validate on, float32.
      state: models to go on with; new ones if None.

    Returns:
      The training. Its batches are of `settings.batch_size` rows, or of all rows where there are fewer.
    """
    batch_size = min(settings.batch_size, len(train))
    mesh, models = model_layout(settings.num_models, batch_size)
    state = initial_state(settings, train) if state is None else state
    placed = replicate(state, mesh) if models == replicated else jax.device_put(state, NamedSharding(mesh, models))
    rows, held_out_rows = replicate((train, held_out), mesh)
    epoch = _compiled_epoch(mesh, models, batch_size)
    return Training(lambda state: epoch(state, rows), lambda state: _validate(state, held_out_rows), placed)


def model_layout(num_models: int, batch_size: int) -> tuple[Mesh, PartitionSpec]:
    """The devices to train on, and how K models lie on them.

    Models that are divided among the devices need nothing from each other. Only where their number does not divide are
    they on every device, which then has a part of each batch; on fewer devices where a batch does not divide either.
    """
    devices = jax.devices()
    if jax.process_count() == 1 and num_models % len(devices) == 0:
        return data_mesh(), sharded
    count = max(n for n in range(1, len(devices) + 1) if batch_size % n == 0)
    return data_mesh(devices[:count]), replicated


@cache
def _compiled_epoch(mesh: Mesh, models: PartitionSpec, batch_size: int) -> Callable:
    axis_name = AXIS if models == replicated else None

    def epoch(state: TrainState, rows: Array):
        return _each_model(lambda state: train_epoch(state, rows, batch_size, axis_name), state)

    return compile_parallel(epoch, mesh, (models, replicated), (models, models), donate_argnums=0)


@jax.jit
def _validate(state: TrainState, rows: Array) -> dict[str, Array]:
    return jax.vmap(validate, in_axes=(0, None))(state, rows)


def _each_model(function: Callable, state: TrainState) -> Any:
    """Applies a function to each of the models that lie on a device."""
    if state.step.shape[0] > 1:
        return jax.vmap(function)(state)
    # A processor is a third slower at products that have an axis for models, even if it is of length 1.
    result = function(jax.tree.map(lambda array: array[0], state))
    return jax.tree.map(lambda array: array[None], result)


def residual_sds(
    settings: Settings, vae: VAE, params: Any, held_out: Float[np.ndarray, "M D"]
) -> Float[np.ndarray, "K D"] | None:
    """Measures each model's residual standard deviations where the recipe's decoder gives none.

    Args:
      settings: of the detector.
      vae: the module.
      params: of K models, stacked along a first axis.
      held_out: standardised genuine rows, float32.

    Returns:
      One standard deviation for each model and feature; None where the decoder gives its own.
    """
    if settings.recipe != "report":
        return None
    return np.asarray(_residual_sds(vae, params, jnp.asarray(held_out), _score_key(settings)))


@partial(jax.jit, static_argnames="vae")
def _residual_sds(vae: VAE, params: Any, x: Array, key: Array) -> Array:
    return jax.vmap(lambda params: measure_residual_sd(vae, params, x, key))(params)


def _score_key(settings: Settings) -> Array:
    return stream_key(jax.random.key(settings.seed), "score")


def scorer(
    settings: Settings,
    vae: VAE,
    params: Any,
    residual_sd: Float[np.ndarray, "K D"] | None,
    what: tuple[str, ...],
) -> Callable[[Float[np.ndarray, "N D"]], tuple[np.ndarray, ...]]:
    """Gets K models ready to score on all devices.

    Args:
      settings: of the detector.
      vae: the module.
      params: of K models, stacked along a first axis.
      residual_sd: see `residual_sds`.
      what: names of fields of `Scores`; what is not named is not computed.

    Returns:
      A function from N standardised rows, float32, to the named scores, float32, with a first axis of K models. N may
      be 0.
    """
    mesh = data_mesh()
    placed = replicate((params, _score_key(settings), residual_sd), mesh)

    def score_chunk(x: np.ndarray) -> tuple[Array, ...]:
        params, key, residual_sd = placed
        found = _score(vae, params, replicate(x, mesh), key, mesh, settings.num_samples, residual_sd, what)
        return tuple(scores.swapaxes(0, 1) for scores in found)

    def score(x: np.ndarray) -> tuple[np.ndarray, ...]:
        # A power of two, so that few programs serve all numbers of rows.
        size = min(SCORED_AT_ONCE, max(FEWEST_SCORED, 1 << (len(x) - 1).bit_length()))
        rows = x if len(x) else np.zeros((1, x.shape[1]), np.float32)  # its scores have the right shape, but for N
        return tuple(scores.swapaxes(0, 1)[:, : len(x)] for scores in in_chunks(score_chunk, rows, size=size))

    return score


@partial(jax.jit, static_argnames=("vae", "mesh", "num_samples", "what"))
def _score(
    vae: VAE,
    params: Any,
    x: Array,
    key: Array,
    mesh: Mesh,
    num_samples: int,
    residual_sd: Array | None,
    what: tuple[str, ...],
) -> tuple[Array, ...]:
    scores: Scores = score_models(vae, params, x, key, mesh, num_samples, residual_sd)
    return tuple(getattr(scores, name) for name in what)


def posterior_means(vae: VAE, params: Any, x: Float[np.ndarray, "N D"]) -> Float[np.ndarray, "K N L"]:
    """Returns the means of q(z|x) by each of K models."""
    return np.asarray(_posterior_means(vae, params, jnp.asarray(x)))


@partial(jax.jit, static_argnames="vae")
def _posterior_means(vae: VAE, params: Any, x: Array) -> Array:
    return jax.vmap(lambda params: encode(vae, params, x).mean)(params)
