"""A trained face model with what was learned about its latents: all it takes to make pictures."""

from __future__ import annotations

import json
import os
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh

from experiments.celeba.model import CHUNK
from experiments.command_line import UsageError
from experiments.runs.run_folder import Run, disk_errors
from vae_jax.chunks import in_chunks
from vae_jax.distributions import reparameterise
from vae_jax.generation import LatentMixture, attribute_vectors, fit_mixture, most_active
from vae_jax.networks import VAE, decode, encode
from vae_jax.training import TrainState, as_float
from vae_jax.training.parallel import compile_parallel, data_mesh, replicate, replicated, sharded

LATENTS, ATTRIBUTE_NAMES = "model/latents.npz", "model/attributes.json"


@dataclass(frozen=True)
class FaceModel:
    """A VAE of faces, and what the latents of the training pictures reveal.

    Attributes:
      mixture: density of the training pictures' latents.
      active: indices of all latents, most active first.
      vectors: direction of each of the A attributes, shape (A, L).
      chunk: pictures per device and call.
      devices: how many take part; by default all of this process's.
    """

    vae: VAE
    params: Any
    mixture: LatentMixture
    active: np.ndarray
    vectors: np.ndarray
    attribute_names: tuple[str, ...]
    chunk: int = CHUNK
    devices: int | None = None

    @property
    def editable(self) -> tuple[str, ...]:
        """The attributes that have a direction: those that some of the training pictures have, and some lack."""
        named = zip(self.attribute_names, self.vectors, strict=True)
        return tuple(name for name, vector in named if vector.any())

    @cached_property
    def _mesh(self) -> Mesh:
        return data_mesh(jax.local_devices()[: self.devices])

    @cached_property
    def _everywhere(self) -> Any:
        return replicate(self.params, self._mesh)

    @cached_property
    def _encode(self):
        return self._compile(lambda params, x: encode(self.vae, params, as_float(x)).mean)

    @cached_property
    def _decode(self):
        return self._compile(lambda params, z: decode(self.vae, params, z).mean)

    def _compile(self, function: Callable) -> Callable:
        """Divides the rows of a chunk among this process's devices."""
        compiled = compile_parallel(function, self._mesh, (replicated, sharded), sharded)
        return lambda rows: in_chunks(
            lambda chunk: compiled(self._everywhere, chunk), rows, size=self.chunk * self._mesh.size
        )

    def encode(self, x: np.ndarray) -> np.ndarray:
        """Posterior means of pictures, shape (N, L)."""
        return self._encode(x)

    def decode(self, z: np.ndarray) -> np.ndarray:
        """Pictures from latents: float32 in [0, 1], shape (N, H, W, 3)."""
        return self._decode(np.asarray(z, np.float32))


def study_latents(
    state: TrainState,
    means: np.ndarray,
    log_vars: np.ndarray,
    labels: np.ndarray,
    attribute_names: tuple[str, ...],
    components: int,
    seed: int,
) -> FaceModel:
    """Finds the mixture, active latents and attribute directions from the training pictures' posteriors.

    Args:
      means, log_vars: of the posteriors, shape (N, L).
      labels: attributes, shape (N, A), see `Pictures`.
      components: largest number of components of the mixture.
      seed: of the posterior samples and of the mixture.
    """
    noise = np.random.default_rng(seed).standard_normal(means.shape, np.float32)
    draws = np.asarray(reparameterise(noise, means, log_vars))  # pyright: ignore[reportArgumentType]
    return FaceModel(
        vae=state.vae,
        params=state.params,
        mixture=fit_mixture(draws, components, seed),
        active=most_active(means, means.shape[1]),
        vectors=attribute_vectors(means, labels),
        attribute_names=attribute_names,
    )


def save(model: FaceModel, run: Run) -> None:
    """Writes what the checkpoints do not hold."""
    with disk_errors(run.folder):
        path = run.path(LATENTS)
        partial = path.with_name(f"{path.stem}.partial.npz")
        np.savez(partial, active=model.active, vectors=model.vectors, **model.mixture._asdict())
        os.replace(partial, path)
    run.write_json(ATTRIBUTE_NAMES, list(model.attribute_names))


def load(run: Run, state: TrainState) -> FaceModel:
    """Reads a model back; raises UsageError if the run is unfinished or the file damaged."""
    try:
        with np.load(run.folder / LATENTS) as arrays:
            mixture = LatentMixture(*(arrays[name] for name in LatentMixture._fields))
            active, vectors = arrays["active"], arrays["vectors"]
        names = tuple(json.loads((run.folder / ATTRIBUTE_NAMES).read_text(encoding="utf-8")))
    except FileNotFoundError:
        raise UsageError(f"--model {run.folder}: this run is not finished; continue it with --resume") from None
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        raise UsageError(f"--model {run.folder}: {LATENTS} is damaged ({error})") from error
    return FaceModel(state.vae, state.params, mixture, active, vectors, names)
