"""A trained face model to play with: from sliders to pictures, and to the commands that make them."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from experiments.celeba import gallery
from experiments.celeba.config import CelebaConfig
from experiments.celeba.face_model import FaceModel
from experiments.celeba.faces import COMMAND, as_pixels, open_model
from experiments.command_line import UsageError
from experiments.runs import run_folder
from vae_jax.generation import interpolate
from vae_jax.images.decoding import PictureError, decode

AMOUNT = 3.0  # the sliders' range to either side, in standard deviations or multiples of an attribute


@dataclass(frozen=True)
class Start:
    """What the sliders start from: a new face, or a photograph.

    Attributes:
      z: its latents, shape (L,).
      command: makes it, without any shift.
      pixels: of the photograph, uint8; None for a new face.
    """

    z: np.ndarray
    command: str
    pixels: np.ndarray | None = None


@dataclass(frozen=True)
class Faces:
    """A trained model, with what its latents can be moved along.

    Attributes:
      model: decodes a picture at a time, for speed.
      along: the directions, see `gallery.directions`.
      name: of the run, for commands.
    """

    model: FaceModel
    along: Mapping[str, np.ndarray]
    trained: CelebaConfig
    name: str


def open_faces(run: run_folder.Run) -> Faces:
    """Opens a finished run; raises UsageError or RunError if it can't be used."""
    trained = run_folder.read_config(run, CelebaConfig)
    model = open_model(run, trained)
    return Faces(replace(model, chunk=1, devices=1), gallery.directions(model), trained, shown_path(run.folder))


def shown_path(folder: Path) -> str:
    """A folder as one would type it where the explorer was started."""
    here = Path.cwd()
    return str(folder.relative_to(here) if folder.is_relative_to(here) else folder)


def new_face(faces: Faces, density: str, seed: int, temperature: float) -> Start:
    """A draw from the `prior` or the `mixture`."""
    (z,) = gallery.draw(faces.model, density, jax.random.key(seed), 1, temperature)
    words = ["--count", 1, "--seed", seed, "--density", density, "--temperature", f"{temperature:g}"]
    return Start(z, _command("sample", faces, words))


def photograph(faces: Faces, content: bytes, name: str) -> Start:
    """A photograph, prepared like those that the model was trained on; raises UsageError if it can't be used."""
    try:
        pixels = decode(content, faces.trained.image_size, faces.trained.crop)
    except PictureError as error:
        raise UsageError(f"{name}: {error}") from None
    (z,) = faces.model.encode(pixels[None])
    return Start(z, _command("reconstruct", faces, ["--input", name]), pixels)


def moved(faces: Faces, start: Start, amounts: Mapping[str, float]) -> tuple[np.ndarray, str]:
    """The picture that sliders ask for, uint8, and the command that makes it."""
    amounts = {name: amount for name, amount in amounts.items() if amount}
    (picture,) = faces.model.decode((start.z + gallery.shift(faces.along, amounts))[None])
    shift = [f"{name}={amount:g}" for name, amount in amounts.items()]
    return as_pixels(picture), " ".join([start.command, *(["--shift", shlex.join(shift)] if shift else [])])


def way(faces: Faces, start: Start, end: Start) -> tuple[np.ndarray, str]:
    """The way between two photographs along a great circle, shape (STEPS, H, W, 3), and the command that draws it."""
    steps = interpolate(jnp.asarray(start.z), jnp.asarray(end.z), gallery.STEPS, spherical=True)
    return as_pixels(faces.model.decode(np.asarray(steps))), _command("interpolate", faces, ["--input", "two_photos/"])


def _command(action: str, faces: Faces, words: list) -> str:
    return shlex.join([*COMMAND.split(), action, "--model", faces.name, *map(str, words)])
