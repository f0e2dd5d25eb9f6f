"""Pictures from a trained face model: sample, reconstruct, interpolate, traverse, edit."""

from __future__ import annotations

import sys
import zipfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any, Literal

import jax
import numpy as np

from experiments import PROGRAM
from experiments.celeba import face_model, gallery
from experiments.celeba.config import CelebaConfig
from experiments.celeba.face_model import FaceModel
from experiments.celeba.inputs import CELEBA, prepare
from experiments.celeba.model import CHUNK, NAME, initial_state
from experiments.command_line import UsageError, parse, refusal, run
from experiments.page.sheets import Sheet, draw_sheet
from experiments.runs import loop, run_folder, stopping
from experiments.runs.experiment import INPUTS
from experiments.runs.progress import console
from experiments.startup import prepare_jax, use_cores
from vae_jax.data.errors import DataError
from vae_jax.images.decoding import SUFFIXES, PictureError, decode
from vae_jax.images.pictures import read_path

COMMAND = f"{PROGRAM} faces"

SHOWN = 600  # pictures on a sheet, which is drawn whole in memory: 13 GB for 50,000 at 128 x 128
PIECE = 16 * CHUNK  # pictures decoded at once

Read = Callable[[], np.ndarray]  # returns the pictures to start from


@dataclass(frozen=True)
class FacesConfig:
    """Options shared by all actions."""

    model: str = "latest"
    """Run whose model to use: a run folder, a name in runs/celeba, or latest."""
    output: str | None = None
    """Folder for the pictures, new or empty; by default a new one in the run folder, made/<time>_<action>."""
    seed: int = 0
    """Random seed."""


@dataclass(frozen=True)
class SampleConfig(FacesConfig):
    """Generate new faces; the sheet shows the first 600."""

    count: int = 60
    """Number of faces."""
    density: Literal["prior", "mixture"] = "mixture"
    """Sample latents from the prior N(0, I), or from the mixture fitted to the training pictures."""
    temperature: float = 1.0
    """Factor on the latents' distance from the mean of the prior, or of their component of the mixture; below 1 for \
more typical faces."""
    shift: tuple[str, ...] = ()
    """Then move the latents: NAME=AMOUNT for an attribute, or for pc1 to pc10, the principal directions, in standard \
deviations; for example pc1=1.5 Smiling=-1."""


@dataclass(frozen=True)
class PicturesConfig(FacesConfig):
    """Options of the actions that start from pictures."""

    input: str | None = None
    """A picture, or a folder or zip of pictures, in any format that celeba reads; by default the run's held-out \
pictures."""
    count: int = 16
    """Use at most this many pictures."""


@dataclass(frozen=True)
class ReconstructConfig(PicturesConfig):
    """Reconstruct pictures with the VAE; the sheet shows the first 600."""

    shift: tuple[str, ...] = ()
    """Move the latents before they are decoded: NAME=AMOUNT for an attribute, or for pc1 to pc10, the principal \
directions, in standard deviations; for example pc1=1.5 Smiling=-1."""


@dataclass(frozen=True)
class InterpolateConfig(PicturesConfig):
    """Interpolate from each picture to the next; the sheet shows the first paths, up to 600 pictures."""

    count: int = 5
    """Use at most this many pictures."""


@dataclass(frozen=True)
class TraverseConfig(PicturesConfig):
    """Vary the most active latents of the first picture."""

    latents: int = 8
    """Number of latents to vary; of a model with fewer than the default, all."""


@dataclass(frozen=True)
class EditConfig(PicturesConfig):
    """Add an attribute to pictures, and remove it; the sheet shows the first, up to 600 pictures."""

    attribute: str | None = None
    """Attribute to edit; may be left out if the model knows only one."""
    count: int = 6
    """Use at most this many pictures."""
    strengths: tuple[float, ...] = gallery.STRENGTHS
    """Multiples of the attribute's direction to add; negative ones remove it."""


def main(arguments: Sequence[str]) -> None:
    """Runs one of the actions."""
    names = "|".join(ACTIONS)
    if not arguments or arguments[0] in ("-h", "--help"):
        print(f"usage: {COMMAND} {names} [options]     ({COMMAND} sample --help lists the options)")
        if not arguments:
            raise UsageError(f"{COMMAND}: expected one of {names}")
        return
    if arguments[0] not in ACTIONS:
        raise UsageError(f"unknown action '{arguments[0]}': expected {names}")
    config_type, make = ACTIONS[arguments[0]]
    config = parse(config_type, f"{COMMAND} {arguments[0]}", arguments[1:])
    if config.count < 1:
        raise refusal("count", config.count, "1 or more")
    if not 0 <= config.seed < 2**32:
        raise refusal("seed", config.seed, "between 0 and 2^32 - 1")
    if config.output:
        folder = Path(config.output)
        with run_folder.disk_errors(folder, UsageError):
            if folder.is_dir() and any(folder.iterdir()):
                raise UsageError(f"--output {folder}: not empty; name another folder")
    with stopping.immediate():
        use_cores(CHUNK)
        opened = run_folder.open_to_read(CELEBA.name, config.model, "--model")
        trained = run_folder.read_config(opened, CelebaConfig)
        model = open_model(opened, trained)
        sheet, singles = make(config, partial(read_input, config, trained, opened), model)
        folder = Path(config.output) if config.output else new_folder(opened, arguments[0])
        written = write(folder, arguments[0], sheet, singles)
    singles = "1 single picture" if written == 1 else f"{written:,} single pictures"
    console().print(f"{folder / arguments[0]}.png, and {singles} beside it", soft_wrap=True)


def open_model(opened: run_folder.Run, trained: CelebaConfig) -> FaceModel:
    """The model of a finished run."""
    return face_model.load(opened, loop.load_best(opened, NAME, initial_state(trained)))


def new_folder(opened: run_folder.Run, action: str) -> Path:
    """Makes the folder for the pictures in the run's; no other process is given the same."""
    made = opened.folder / "made"
    with run_folder.disk_errors(made, UsageError):
        return run_folder.new_folder(made, f"_{action}")


def write(folder: Path, name: str, sheet: Sheet, singles: Iterable[np.ndarray]) -> int:
    """Writes the sheet and each single picture, and returns how many these were."""
    from PIL import Image

    with run_folder.disk_errors(folder, UsageError):
        folder.mkdir(parents=True, exist_ok=True)
        draw_sheet(folder / f"{name}.png", sheet)
        written = 0
        for picture in singles:
            Image.fromarray(as_pixels(picture)).save(folder / f"{name}_{written:04}.png")
            written += 1
    return written


def as_pixels(picture: np.ndarray) -> np.ndarray:
    """Converts [0, 1] to 0..255."""
    return (np.clip(picture, 0, 1) * 255).round().astype(np.uint8)


def sample(config: SampleConfig, read: Read, model: FaceModel) -> tuple[Sheet, Iterable[np.ndarray]]:
    """New faces."""
    if not 0 < config.temperature < np.inf:
        raise refusal("temperature", config.temperature, "more than 0")
    z = gallery.draw(model, config.density, jax.random.key(config.seed), config.count, config.temperature)
    z = z + _shift(model, config.shift)
    return gallery.sheet_of(model.decode(z[:SHOWN])), _decoded(model, z)


def reconstruct(config: ReconstructConfig, read: Read, model: FaceModel) -> tuple[Sheet, Iterable[np.ndarray]]:
    """Pictures above their reconstructions."""
    pixels = read()
    moved = _shift(model, config.shift)
    z = model.encode(pixels) + moved
    return gallery.reconstructions(model, pixels[:SHOWN], moved=moved), _decoded(model, z)


def _decoded(model: FaceModel, z: np.ndarray) -> Iterator[np.ndarray]:
    """Pictures from latents, some at a time: in memory, each takes 200 kB at 128 x 128."""
    for start in range(0, len(z), PIECE):
        yield from model.decode(z[start : start + PIECE])


def _shift(model: FaceModel, given: tuple[str, ...]) -> np.ndarray | float:
    """What NAME=AMOUNT adds to latents."""
    if not given:
        return 0.0
    along, amounts = gallery.directions(model), {}
    for word in given:
        name, _, amount = word.partition("=")
        if name not in along:
            raise refusal("shift", word, f"NAME=AMOUNT, with one of {', '.join(along)}")
        try:
            amounts[name] = float(amount)
        except ValueError:
            raise refusal("shift", word, "NAME=AMOUNT, such as pc1=1.5") from None
        if not np.isfinite(amounts[name]):
            raise refusal("shift", word, "a finite number")
    return gallery.shift(along, amounts)


def interpolate(config: InterpolateConfig, read: Read, model: FaceModel) -> tuple[Sheet, Iterable[np.ndarray]]:
    """Paths from each picture to the next."""
    pixels = read()
    if len(pixels) < 2:
        option = "--count 1" if config.count == 1 else f"--input {config.input}"
        raise UsageError(f"{option}: interpolation needs at least two pictures")
    starts, ends = pixels[:-1], pixels[1:]
    each = 2 * (gallery.STEPS + 2)
    return _rows(lambda piece: gallery.interpolations(model, starts[piece], ends[piece]), len(starts), each)


def traverse(config: TraverseConfig, read: Read, model: FaceModel) -> tuple[Sheet, np.ndarray]:
    """The most active latents of one picture."""
    most = len(model.active)
    if not 1 <= config.latents <= most and config.latents != TraverseConfig.latents:  # the model may have fewer
        raise refusal("latents", config.latents, f"1 to {most}")
    sheet = gallery.traversals(model, read()[0], config.latents)
    return sheet, _singles(sheet)


def edit(config: EditConfig, read: Read, model: FaceModel) -> tuple[Sheet, Iterable[np.ndarray]]:
    """An attribute at several strengths."""
    known = model.attribute_names
    if not known:
        raise UsageError(f"--model {config.model}: trained on pictures without attributes")
    attribute = config.attribute or (known[0] if len(known) == 1 else "")
    if attribute not in known:
        raise refusal("attribute", attribute or "(none)", f"one of {', '.join(known)}")
    if attribute not in model.editable:
        raise UsageError(f"--attribute {attribute}: all training pictures have it or none does; expected another")
    if not config.strengths or not np.isfinite(config.strengths).all():
        raise refusal("strengths", config.strengths, "at least one finite number")
    pixels, each = read(), 1 + len(config.strengths)
    return _rows(lambda piece: gallery.edits(model, pixels[piece], attribute, config.strengths), len(pixels), each)


def _rows(sheet_of: Callable[[slice], Sheet], count: int, each: int) -> tuple[Sheet, Iterator[np.ndarray]]:
    """The sheet of the first of `count` rows, and the pictures of all, `each` in a row, made a sheet at a time."""
    size = max(1, SHOWN // each)
    first = sheet_of(slice(size))
    others = (sheet_of(slice(start, start + size)) for start in range(size, count, size))
    return first, (picture for sheet in chain([first], others) for picture in _singles(sheet))


def _singles(sheet: Sheet) -> np.ndarray:
    return sheet.pictures.reshape(-1, *sheet.pictures.shape[2:])


def read_input(config: PicturesConfig, trained: CelebaConfig, opened: run_folder.Run) -> np.ndarray:
    """The pictures to start from, uint8, prepared like those the model was trained on."""
    if config.input is None:
        try:
            inputs = prepare(trained, console())
        except UsageError as error:
            raise UsageError(f"the pictures of {opened.folder}: {error}; use --input PICTURES") from error
        if opened.read_json(INPUTS) != inputs.describe():
            raise UsageError(f"--data {trained.data} is not what {opened.folder} was trained on; use --input PICTURES")
        rows = np.random.default_rng(config.seed).choice(
            inputs.test, min(config.count, len(inputs.test)), replace=False
        )
        return inputs.images.pixels[rows]
    path = Path(config.input)
    try:
        if path.is_file() and (path.suffix.lower() in SUFFIXES or not zipfile.is_zipfile(path)):
            return decode(path.read_bytes(), trained.image_size, trained.crop)[None]
        return usable_pictures(path, trained, config.count)
    except (DataError, PictureError, OSError) as error:
        raise UsageError(f"--input {path}: {str(error).removeprefix(f'{path}: ')}") from error


def usable_pictures(path: Path, trained: CelebaConfig, most: int) -> np.ndarray:
    """The first usable pictures of a folder or zip; reports the others, and raises PictureError if there are none."""
    pictures = read_path(path, with_lists=False)
    found: list[np.ndarray] = []
    failed: list[str] = []
    for i, name in enumerate(pictures.names):
        if len(found) == most:
            break
        try:
            found.append(pictures.reader.read(i, trained.image_size, trained.crop))
        except PictureError as error:
            failed.append(f"{name}: {error}")
    if not found:
        raise PictureError(f"none of the {len(failed):,} pictures can be used; {failed[0]}")
    for line in failed:
        console(sys.stderr).print(f"left out: {line}", soft_wrap=True)
    return np.stack(found)


ACTIONS: dict[str, tuple[type, Callable[[Any, Read, FaceModel], tuple[Sheet, Iterable[np.ndarray]]]]] = {
    "sample": (SampleConfig, sample),
    "reconstruct": (ReconstructConfig, reconstruct),
    "interpolate": (InterpolateConfig, interpolate),
    "traverse": (TraverseConfig, traverse),
    "edit": (EditConfig, edit),
}


if __name__ == "__main__":
    prepare_jax(large_arrays=True)
    sys.exit(run(main, sys.argv[1:]))
