"""Sheets of pictures: a face model's results, laid out in rows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import jax
import jax.numpy as jnp
import numpy as np

from experiments.celeba.face_model import FaceModel
from experiments.page.sheets import Sheet
from vae_jax.generation import interpolate, principal_directions, sample_mixture, traverse

STEPS = 9  # of a path
TRAVERSAL = 3.0  # range of a traversal to either side, in the prior's standard deviations
STRENGTHS = tuple(np.linspace(-2, 2, STEPS).tolist())
PRINCIPAL, NUM_PRINCIPAL = "pc", 10  # names of principal directions: pc1, pc2, ..., pc10
FACES = 512  # that they are found from


def as_pictures(pixels: np.ndarray) -> np.ndarray:
    """Converts pixels from 0..255 to float32 in [0, 1]."""
    return np.asarray(pixels, np.float32) / 255


def reconstructions(model: FaceModel, pixels: np.ndarray, moved: np.ndarray | float = 0.0) -> Sheet:
    """Pictures, each with its reconstruction below, from latents `moved` by so much."""
    decoded = model.decode(model.encode(pixels) + moved)
    above, below = (sheet_of(part, columns=8).pictures for part in (as_pictures(pixels), decoded))
    rows = np.stack([above, below], 1).reshape(-1, *above.shape[1:])
    return Sheet(rows, ("picture", "VAE") * len(above))


def draw(model: FaceModel, density: str, key: jax.Array, count: int, temperature: float = 1.0) -> np.ndarray:
    """Latents from the `prior` or the `mixture`, shape (count, L)."""
    if density == "prior":
        return np.asarray(temperature * jax.random.normal(key, (count, model.vae.latent_dim)))
    return np.asarray(sample_mixture(model.mixture, key, count, temperature))


def samples(model: FaceModel, density: str, key: jax.Array, count: int, temperature: float = 1.0) -> np.ndarray:
    """New faces from the `prior` or the `mixture`, shape (count, H, W, 3)."""
    return model.decode(draw(model, density, key, count, temperature))


def directions(model: FaceModel) -> dict[str, np.ndarray]:
    """What latents can be moved along: `pc1`, `pc2`, ..., the principal directions, and the attributes.

    A principal direction is as long as a standard deviation. They are those of new faces, the same in every call, so
    that neither the training pictures nor their latents are needed.
    """
    faces = samples(model, "mixture", jax.random.key(0), FACES)
    principal = principal_directions(model.encode(faces), NUM_PRINCIPAL)
    named = {f"{PRINCIPAL}{i}": direction for i, direction in enumerate(principal, start=1)}
    return named | dict(zip(model.attribute_names, model.vectors, strict=True))


def shift(along: Mapping[str, np.ndarray], amounts: Mapping[str, float]) -> np.ndarray | float:
    """The sum of the named directions, each times its amount; to be added to latents."""
    return sum((np.float32(amount) * along[name] for name, amount in amounts.items()), 0.0)


def sheet_of(pictures: np.ndarray, columns: int = 10) -> Sheet:
    """Lays pictures in [0, 1] out in rows; what is left of the last one is white."""
    columns = min(columns, len(pictures))
    white = np.ones((-len(pictures) % columns, *pictures.shape[1:]), pictures.dtype)
    return Sheet(np.concatenate([pictures, white]).reshape(-1, columns, *pictures.shape[1:]))


def interpolations(model: FaceModel, starts: np.ndarray, ends: np.ndarray) -> Sheet:
    """From one picture to another along a straight line and a great circle, with the pictures at both ends."""
    rows, labels = [], []
    for start, end, z0, z1 in zip(starts, ends, model.encode(starts), model.encode(ends), strict=True):
        for spherical in (False, True):
            path = model.decode(np.asarray(interpolate(jnp.asarray(z0), jnp.asarray(z1), STEPS, spherical)))
            rows.append(np.concatenate([as_pictures(start)[None], path, as_pictures(end)[None]]))
            labels.append("spherical" if spherical else "linear")
    return Sheet(np.stack(rows), labels, ["picture", *[""] * STEPS, "picture"])


def traversals(model: FaceModel, pixels: np.ndarray, count: int = 8) -> Sheet:
    """The most active latents of one picture, each varied while the others stay fixed."""
    (z,) = model.encode(pixels[None])
    values = np.linspace(-TRAVERSAL, TRAVERSAL, STEPS)
    rows = [
        model.decode(np.asarray(traverse(jnp.asarray(z), int(latent), jnp.asarray(values, jnp.float32))))
        for latent in model.active[:count]
    ]
    labels = [f"latent {latent + 1}" for latent in model.active[:count]]
    return Sheet(np.stack(rows), labels, [_signed(value) for value in values])


def edits(model: FaceModel, pixels: np.ndarray, attribute: str, strengths: Sequence[float] = STRENGTHS) -> Sheet:
    """An attribute removed and added at several strengths, a row per picture."""
    vector = model.vectors[model.attribute_names.index(attribute)]
    latents = model.encode(pixels)
    decoded = model.decode((latents[:, None] + np.asarray(strengths)[:, None] * vector).reshape(-1, latents.shape[1]))
    rows = decoded.reshape(len(pixels), len(strengths), *decoded.shape[1:])
    return Sheet(
        np.concatenate([as_pictures(pixels)[:, None], rows], 1),
        [attribute.replace("_", " ")] * len(pixels),
        ["picture", *(_signed(strength) for strength in strengths)],
    )


def _signed(number: float) -> str:
    return f"{number:+g}".replace("-", "\N{MINUS SIGN}")
