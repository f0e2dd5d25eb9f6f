"""The faces experiment's model: how it is built, trained and applied to many pictures."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.sharding import Mesh, PartitionSpec
from rich.console import Console

from experiments.celeba.config import CelebaConfig
from experiments.celeba.inputs import Inputs, is_resident
from experiments.runs import loop
from experiments.runs.run_folder import Run
from vae_jax.chunks import in_chunks
from vae_jax.images.batches import stream_batches
from vae_jax.networks import conv_vae
from vae_jax.objectives import RECONSTRUCTIONS, Objective
from vae_jax.training import (
    TrainState,
    active_latents,
    batch_noise,
    create_train_state,
    epoch_order,
    evaluate,
    stream_key,
    train_batches,
)
from vae_jax.training.parallel import (
    AXIS,
    compile_parallel,
    data_mesh,
    divide,
    own_rows,
    replicate,
    replicated,
    sharded,
)

NAME = "vae"  # of the model in logs and checkpoints
# Steps per compiled call, on a CPU and elsewhere: about a second's worth, so that signals are handled soon and the
# device never waits for the host.
STEPS_PER_CALL = (1, 50)
CHUNK = 64  # pictures per device outside training, for any number of devices, so that results are the same
CHUNK_ACCELERATOR = 512  # of them that are encoded, where a call costs more than its pictures


def initial_state(config: CelebaConfig) -> TrainState:
    """Builds the model at step 0."""
    vae = conv_vae(
        config.image_size,
        latent_dim=config.latent_dim,
        learned_variance=config.reconstruction == "gaussian",
        dtype=jnp.bfloat16 if config.dtype == "bfloat16" else None,
    )
    objective = Objective(RECONSTRUCTIONS[config.reconstruction], config.used_weight)
    shape = (config.image_size, config.image_size, 3)
    create = partial(
        create_train_state,
        vae=vae,
        objective=objective,
        optimizer=optax.adam(config.learning_rate),
        event_shape=shape,
    )
    return jax.jit(create)(jax.random.key(config.seed))


def steps_per_call() -> int:
    """Number of steps compiled into one call."""
    return STEPS_PER_CALL[0] if jax.default_backend() == "cpu" else STEPS_PER_CALL[1]


def train(config: CelebaConfig, inputs: Inputs, run: Run, output: Console) -> TrainState:
    """Trains the model, or resumes it; returns its best state."""
    return loop.train(run, *training(config, inputs), output)


def training(config: CelebaConfig, inputs: Inputs) -> tuple[loop.Training, TrainState]:
    """Compiles the training and builds its initial state."""
    mesh = data_mesh()
    state = replicate(initial_state(config), mesh)
    make = _resident_steps if is_resident(config, inputs) else _streamed_steps
    chunks = PictureChunks(state)
    compiled = loop.Training(
        name=NAME,
        advance=make(config, inputs, mesh),
        validate=lambda state: chunks.encode(state, inputs.images.pixels, inputs.validation).means(),
        epochs=config.epochs,
        steps_per_epoch=len(inputs.train) // config.batch_size,
        steps_per_call=steps_per_call(),
        examples_per_step=config.batch_size,
        save_every=config.save_every,
        save_every_minutes=config.save_every_minutes,
        unit="images",
    )
    return compiled, state


def _resident_steps(config: CelebaConfig, inputs: Inputs, mesh: Mesh) -> loop.Advance:
    """Steps over pictures held whole on every device."""
    pixels = replicate(inputs.images.pixels[inputs.train], mesh)
    compiled = loop.resident_steps(config.batch_size, mesh)  # an epoch's last call is shorter
    return lambda state, step, count: compiled(count)(state, pixels)


def _streamed_steps(config: CelebaConfig, inputs: Inputs, mesh: Mesh) -> loop.Advance:
    """The same steps over pictures read ahead from disk."""
    divided = PartitionSpec(None, AXIS)
    steps = partial(train_batches, axis_name=AXIS)
    compiled = compile_parallel(steps, mesh, (replicated, divided), (replicated, replicated), donate_argnums=0)
    order = jax.jit(epoch_order, static_argnums=2)
    key = jax.random.key(config.seed)  # equals the state's own key, which the first step donates
    columns = own_rows(mesh, config.batch_size)
    groups: Iterator[np.ndarray] | None = None

    def advance(state: TrainState, step: int, count: int):
        nonlocal groups
        if groups is None:
            groups = stream_batches(
                inputs.images.pixels,
                inputs.train,
                lambda epoch: np.asarray(order(key, epoch, len(inputs.train))),
                config.batch_size,
                steps_per_call(),
                step,
                columns,
            )
        return compiled(state, divide(next(groups), mesh, axis=1))

    return advance


class Encoded(NamedTuple):
    """A model's results for N pictures.

    Attributes:
      losses: `loss`, `reconstruction` and `kl` (nats) per picture, shape (N,).
      mean, log_var: of q(z|x), shape (N, L).
    """

    losses: dict[str, np.ndarray]
    mean: np.ndarray
    log_var: np.ndarray

    def means(self) -> dict[str, Any]:
        """Mean loss, reconstruction and KL, and the number of active latents."""
        return {
            **{name: value.mean() for name, value in self.losses.items()},
            "active_latents": active_latents(self.mean).sum(),  # pyright: ignore[reportArgumentType]
        }

    def kl_per_latent(self) -> np.ndarray:
        """Mean over pictures of each latent's KL, nats, shape (L,)."""
        return 0.5 * (np.square(self.mean) + np.expm1(self.log_var) - self.log_var).mean(0)


class PictureChunks:
    """Applies a model to many pictures in chunks, so that memory does not grow with their number.

    A chunk is divided among the devices of all processes, which do this together and all get the results.
    """

    def __init__(self, like: TrainState, mesh: Mesh | None = None):
        self._mesh = mesh or data_mesh()
        self._encode = compile_parallel(_encode_part, self._mesh, (replicated, sharded, sharded), replicated)
        self._latent_dim = like.vae.latent_dim
        self._size = (CHUNK if jax.default_backend() == "cpu" else CHUNK_ACCELERATOR) * self._mesh.size
        self._own = own_rows(self._mesh, self._size)

    def encode(self, state: TrainState, pixels: np.ndarray, rows: np.ndarray) -> Encoded:
        """Encodes and reconstructs the pictures of the given rows, with the same noise in every call."""
        noise = np.asarray(batch_noise(stream_key(state.key, "validation"), len(rows), (self._latent_dim,)))

        def one_chunk(taken: np.ndarray, drawn: np.ndarray):
            # Row numbers, not pictures, are chunked, so that a process reads only its part of a chunk.
            parts = (divide(part, self._mesh) for part in (pixels[taken[self._own]], drawn[self._own]))
            return self._encode(state, *parts)

        return Encoded(*in_chunks(one_chunk, rows, noise, size=self._size))


def _encode_part(state: TrainState, x: jax.Array, noise: jax.Array):
    terms, posterior, _ = evaluate(state, x, noise)
    losses = {"loss": state.objective.loss(terms), "reconstruction": terms.reconstruction, "kl": terms.kl}
    return jax.lax.all_gather((losses, posterior.mean, posterior.log_var), AXIS, tiled=True)
