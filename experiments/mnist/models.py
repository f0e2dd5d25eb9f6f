"""The digits experiment's models: which there are, how they are built and trained."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from types import MappingProxyType
from typing import Any, cast

import jax
import jax.numpy as jnp
import numpy as np
import optax
import optax.contrib
from flax import linen as nn
from jax.sharding import Mesh
from rich.console import Console

from experiments.mnist.config import STAGES, MnistConfig, images_per_step
from experiments.mnist.inputs import CHUNK, Inputs
from experiments.runs import loop
from experiments.runs.run_folder import Run
from vae_jax.importance import SampledBound, elbo, iwae
from vae_jax.networks import dense_vae, hierarchical_vae
from vae_jax.training import TrainState, active_latents, batch_noise, binarise, create_train_state, evaluate, stream_key
from vae_jax.training.parallel import data_mesh, replicate

PIXELS = 784
# Of Burda et al. 2016, section 5: hidden layers below each layer of latents, and latents, by number of layers.
NETWORKS = {1: (((200, 200),), (50,)), 2: (((200, 200), (100, 100)), (100, 50))}
ADAM_EPSILON = 1e-4  # of the same section
PLANE = "plane"  # name of the model with two latents
AEVB_HIDDEN = (500,)  # Kingma & Welling 2013, section 5
# Steps of one posterior sample in a compiled call, on a CPU and elsewhere: about a second's worth.
STEPS_PER_CALL = (600, 6000)
CONTINUED_RATE = 1 / 3  # of the learning rate, for models that start from a trained one
BIAS_BOUND = 1e-3  # pixels that are never or always on start at the log odds of this


@dataclass(frozen=True)
class Model:
    """One model to train.

    Attributes:
      name: of the model in logs and checkpoints.
      title: for readers.
      hidden_dims, latent_dims: for each layer of latents.
      objective: "vae" or "iwae".
      samples: posterior samples K.
      epochs: to train for.
      batch_size: images per step.
      start: name of the model whose trained parameters it starts from.
    """

    name: str
    title: str
    hidden_dims: tuple[tuple[int, ...], ...]
    latent_dims: tuple[int, ...]
    objective: str
    samples: int
    epochs: int
    batch_size: int
    start: str | None = None


def models(config: MnistConfig) -> list[Model]:
    """The models that the options ask for, in the order of their training."""
    if config.figure == "aevb":
        at_once = images_per_step(config)
        return [
            Model(f"latents_{n}", _count(n, "latent"), (AEVB_HIDDEN,), (n,), "vae", 1, config.epochs, at_once)
            for n in config.latents
        ]
    found = []
    for layers in config.layers:
        single = _model(config, "vae", 1, layers)
        if 1 in config.samples or config.continued_epochs:
            found.append(single)
        for objective in config.objective:
            for samples in config.samples:
                if samples > 1:  # with one, an IWAE is a VAE
                    found.append(_model(config, objective, samples, layers, start=single.name))
    return found


def _model(config: MnistConfig, objective: str, samples: int, layers: int, start: str | None = None) -> Model:
    title = f"{objective.upper()}, {_count(samples, 'sample')}, {_count(layers, 'layer')}"
    hidden_dims, latent_dims = NETWORKS[layers]
    continued = config.continued_epochs if start else 0
    return Model(
        name=title.lower().replace(", ", "_").replace(" ", "_"),
        title=title,
        hidden_dims=hidden_dims,
        latent_dims=latent_dims,
        objective=objective,
        samples=samples,
        epochs=continued or config.epochs,
        batch_size=config.batch_size,
        start=start if continued else None,
    )


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'s' if number > 1 else ''}"


def plane_model(config: MnistConfig) -> Model:
    """The model with two latents, whose plane is shown."""
    return Model(PLANE, "VAE, 2 latents", (AEVB_HIDDEN,), (2,), "vae", 1, config.plane_epochs, config.batch_size)


def initial_state(model: Model, config: MnistConfig, inputs: Inputs) -> TrainState:
    """Builds a model at step 0, its output biases at the log odds of the mean image."""
    if len(model.latent_dims) == 1:
        vae = dense_vae(PIXELS, model.hidden_dims[0], model.latent_dims[0], activation=nn.tanh, bernoulli=True)
    else:
        vae = hierarchical_vae(PIXELS, model.hidden_dims, model.latent_dims)
    doubly = config.doubly_reparameterised and model.objective == "iwae"
    objective = SampledBound(
        num_samples=model.samples, bound=iwae if model.objective == "iwae" else elbo, doubly_reparameterised=doubly
    )
    create = partial(
        create_train_state,
        vae=vae,
        objective=objective,
        optimizer=_optimizer(model, config, len(inputs.train) // model.batch_size),
        event_shape=(PIXELS,),
    )
    state = jax.jit(create)(jax.random.key(config.seed))
    share = (inputs.train.mean(0) / 255).clip(BIAS_BOUND, 1 - BIAS_BOUND)
    params = jax.tree.map(lambda leaf: leaf, state.params)  # a copy of the tree
    params["params"]["decoder"]["logits"]["bias"] = jnp.asarray(np.log(share / (1 - share)), jnp.float32)
    return state.replace(params=params)


def _optimizer(model: Model, config: MnistConfig, steps_per_epoch: int) -> optax.GradientTransformation:
    if config.figure == "aevb":
        return optax.adagrad(20 * config.learning_rate)
    rate = config.learning_rate * (CONTINUED_RATE if model.start else 1)
    scheduled = partial(learning_rate, config.schedule, steps=model.epochs * steps_per_epoch)
    if config.optimizer == "muon" and model.name != PLANE:  # whose layers are so wide that Muon takes a minute an epoch
        return optax.contrib.muon(scheduled(10 * rate), adam_learning_rate=scheduled(rate))
    if config.optimizer == "published":
        return _published_adam(scheduled(rate), model.batch_size)
    return optax.adam(scheduled(rate), eps=ADAM_EPSILON)


def _published_adam(rate: optax.Schedule, batch_size: int) -> optax.GradientTransformation:
    """Adam as in the code that Burda et al. published (https://github.com/yburda/iwae, optimizers.py)."""
    adam = optax.scale_by_adam(b1=0.99, eps=ADAM_EPSILON)

    def init(params: optax.Params) -> optax.OptState:
        state = cast(optax.ScaleByAdamState, adam.init(params))
        return state._replace(nu=jax.tree.map(jnp.ones_like, params))

    from_ones = optax.GradientTransformation(init, adam.update)
    return optax.chain(optax.scale(batch_size), from_ones, optax.scale_by_learning_rate(rate))


def learning_rate(schedule: str, start: float, steps: int) -> optax.Schedule:
    """The learning rate by step, over a training of so many steps."""
    if schedule == "cosine":
        return optax.cosine_decay_schedule(start, steps)
    ends = np.cumsum(STAGES) * steps // sum(STAGES)
    factor = 10 ** (-1 / (len(STAGES) - 1))
    scales: dict[int, float] = {}
    for end in ends[:-1].tolist():  # in a short training, stages may end at the same step
        scales[end] = scales.get(end, 1.0) * factor
    return optax.piecewise_constant_schedule(start, scales)


def train(
    model: Model,
    config: MnistConfig,
    inputs: Inputs,
    run: Run,
    output: Console,
    trained: Mapping[str, TrainState] = MappingProxyType({}),
) -> TrainState:
    """Trains a model, or resumes it; returns its best state. `trained` has the model that it starts from."""
    compiled, state = training(model, config, inputs)
    if model.start:
        # A copy, because training donates its state.
        state = state.replace(params=jax.tree.map(jnp.copy, trained[model.start].params))
    return loop.train(run, compiled, state, output)


def training(model: Model, config: MnistConfig, inputs: Inputs) -> tuple[loop.Training, TrainState]:
    """Compiles the training of a model and builds its initial state."""
    mesh = data_mesh()
    steps = len(inputs.train) // model.batch_size
    compiled = loop.Training(
        name=model.name,
        advance=_advance(model, config, inputs, mesh),
        validate=_validate(config, inputs),
        epochs=model.epochs,
        steps_per_epoch=steps,
        steps_per_call=steps_per_call(model, steps),
        examples_per_step=model.batch_size,
        save_every=config.save_every,
        save_every_minutes=10.0,
        unit="images",
    )
    return compiled, replicate(initial_state(model, config, inputs), mesh)


def steps_per_call(model: Model, steps_per_epoch: int) -> int:
    """Steps in one compiled call: a divisor of an epoch's, so that all calls share a program."""
    most = max(1, STEPS_PER_CALL[jax.default_backend() != "cpu"] // model.samples)
    return next(steps for steps in range(min(most, steps_per_epoch), 0, -1) if steps_per_epoch % steps == 0)


def _advance(model: Model, config: MnistConfig, inputs: Inputs, mesh: Mesh) -> loop.Advance:
    """Steps over images whose bits are drawn anew in each epoch."""
    pixels, key = replicate((inputs.train, jax.random.key(config.seed)), mesh)
    draw = jax.jit(lambda key, epoch, pixels: binarise(stream_key(key, "bits", epoch), pixels))
    compiled = loop.resident_steps(model.batch_size, mesh)
    drawn: tuple[int, Any] = (-1, None)

    def advance(state: TrainState, step: int, count: int):
        nonlocal drawn
        epoch = step // (len(inputs.train) // model.batch_size)
        if drawn[0] != epoch:
            drawn = (epoch, draw(key, epoch, pixels))
        return compiled(count)(state, drawn[1])

    return advance


def _validate(config: MnistConfig, inputs: Inputs) -> Callable[[TrainState], dict[str, Any]]:
    """Measures the bound on held-out images, with the same bits and noise at every call."""
    bits = binarise(stream_key(jax.random.key(config.seed), "validation bits"), jnp.asarray(inputs.validation))

    @jax.jit
    def measure(state: TrainState, bits: jax.Array) -> dict[str, jax.Array]:
        shape = state.objective.noise_shape(state.vae.latent_dim)

        def of_chunk(part: tuple[jax.Array, jax.Array]):
            x, number = part
            noise = batch_noise(stream_key(state.key, "validation", number), CHUNK, shape)
            terms, posterior, _ = evaluate(state, x, noise)
            return {"loss": state.objective.loss(terms), **terms._asdict()}, posterior.mean

        chunks = bits.reshape(-1, CHUNK, bits.shape[1])
        measured, mean = jax.lax.map(of_chunk, (chunks, jnp.arange(len(chunks))))
        means = {name: value.mean() for name, value in measured.items()}
        return {**means, "active_latents": active_latents(mean.reshape(-1, mean.shape[-1])).sum()}

    return lambda state: measure(state, bits)
