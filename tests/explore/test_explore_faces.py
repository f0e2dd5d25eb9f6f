"""From sliders to pictures, and to the commands that make them; without Gradio."""

import io
import shlex
from functools import cache

import numpy as np
import pytest
from PIL import Image

from experiments.celeba import gallery
from experiments.celeba.config import CelebaConfig
from experiments.celeba.face_model import study_latents
from experiments.celeba.model import initial_state
from experiments.command_line import UsageError
from experiments.explore import faces
from experiments.explore.faces import Faces

CONFIG = CelebaConfig(image_size=16, latent_dim=3)


@cache
def opened() -> Faces:
    """A model that is not trained, with one attribute."""
    means, log_vars = np.random.default_rng(0).normal(size=(2, 40, 3)).astype(np.float32)
    labels = np.repeat([[0.0], [1.0]], 20, 0)
    model = study_latents(initial_state(CONFIG), 100 * means, log_vars, labels, ("Two Words",), 1, 0)
    return Faces(model, gallery.directions(model), CONFIG, "my run")


def photo(seed: int) -> bytes:
    """A picture of noise as a PNG file."""
    content = io.BytesIO()
    Image.fromarray(np.random.default_rng(seed).integers(0, 256, (20, 20, 3)).astype(np.uint8)).save(content, "PNG")
    return content.getvalue()


def test_a_new_face_is_that_of_its_command() -> None:
    start = faces.new_face(opened(), "prior", 5, 0.5)
    words = shlex.split(start.command)
    assert words[:6] == ["bash", "run.sh", "faces", "sample", "--model", "my run"]
    assert words[6:] == ["--count", "1", "--seed", "5", "--density", "prior", "--temperature", "0.5"]
    assert start.pixels is None
    np.testing.assert_allclose(start.z, faces.new_face(opened(), "prior", 5, 1.0).z / 2, rtol=1e-6)


def test_sliders_move_the_latents_and_are_named_in_the_command() -> None:
    start = faces.new_face(opened(), "mixture", 0, 1.0)
    pixels, command = faces.moved(opened(), start, {"pc1": 1.5, "pc2": 0.0, "Two Words": -2.0})
    along = opened().along
    expected = opened().model.decode((start.z + 1.5 * along["pc1"] - 2 * along["Two Words"])[None])[0]
    np.testing.assert_array_equal(pixels, faces.as_pixels(expected))
    assert shlex.split(command)[-3:] == ["--shift", "pc1=1.5", "Two Words=-2"]
    still, same = faces.moved(opened(), start, dict.fromkeys(along, 0.0))
    assert same == start.command
    assert (still != pixels).any()


def test_a_photograph_starts_from_its_reconstruction() -> None:
    start = faces.photograph(opened(), photo(0), "a photo.png")
    assert start.pixels is not None
    assert start.pixels.shape == (16, 16, 3)
    np.testing.assert_array_equal(start.z, opened().model.encode(start.pixels[None])[0])
    assert shlex.split(start.command)[-2:] == ["--input", "a photo.png"]
    with pytest.raises(UsageError, match=r"^a photo\.png: not a JPEG, PNG"):
        faces.photograph(opened(), b"no picture", "a photo.png")


def test_a_way_begins_and_ends_with_the_reconstructions() -> None:
    start, end = (faces.photograph(opened(), photo(seed), "x.png") for seed in (0, 1))
    steps, command = faces.way(opened(), start, end)
    assert steps.shape == (gallery.STEPS, 16, 16, 3)
    for step, of in ((steps[0], start), (steps[-1], end)):
        assert np.abs(step.astype(int) - faces.moved(opened(), of, {})[0]).max() <= 1
    assert "faces interpolate" in command
