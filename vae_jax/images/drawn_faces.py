"""Procedurally drawn faces with exactly known attributes, for tests and for trials without a network.

A face is a stack of soft-edged ellipses on a lit background. It varies in pose (shift, scale, turn, tilt), skin, hair
and its length, eyes and their gaze, brows, nose, mouth, glasses, the direction of the light, and the background.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from jaxtyping import Float, UInt8

# CelebA's names for the attributes that it has.
ATTRIBUTES = ("Smiling", "Eyeglasses", "Bald", "Blond_Hair", "Pale_Skin", "Mouth_Slightly_Open", "Turned_Left")
SKIN = np.array([[0.55, 0.36, 0.26], [0.95, 0.78, 0.68]])  # darkest and palest
DARK_HAIR, BLOND_HAIR = np.array([0.16, 0.10, 0.07]), np.array([0.88, 0.72, 0.42])
WHITE, DARK, LIPS = np.array([0.97, 0.97, 0.95]), np.array([0.08, 0.07, 0.09]), np.array([0.72, 0.25, 0.27])


def draw_face(seed: int, index: int, size: int | None) -> tuple[UInt8[np.ndarray, "size size 3"], tuple[int, ...]]:
    """Draws a face.

    Args:
      seed: seed of the set.
      index: index of the face in the set; equal seeds and indices give equal faces.
      size: height and width in pixels; None draws nothing and returns only the attributes.

    Returns:
      The image, 0..255 (empty if nothing is drawn), and 1 or -1 for each of `ATTRIBUTES`.

    Examples:
      >>> from vae_jax.images.drawn_faces import ATTRIBUTES, draw_face
      >>> picture, attributes = draw_face(seed=0, index=0, size=64)
      >>> picture.shape, len(attributes) == len(ATTRIBUTES)
      ((64, 64, 3), True)
    """
    rng = np.random.default_rng([seed, index])
    has = rng.random(len(ATTRIBUTES)) < (0.5, 0.3, 0.15, 0.35, 0.5, 0.4, 0.5)
    labels = tuple(int(value) for value in np.where(has, 1, -1))
    if size is None:
        return np.zeros((0, 0, 3), np.uint8), labels
    return _Canvas(rng, size).face(dict(zip(ATTRIBUTES, has, strict=True))), labels


class _Canvas:
    """The image so far, with coordinates from -1 to 1."""

    def __init__(self, rng: np.random.Generator, size: int):
        self._rng = rng
        axis = (np.arange(size, dtype=np.float32) + 0.5) * (2 / size) - 1
        self._x, self._y = np.meshgrid(axis, axis)
        self._softness = 3.0 / size
        top, bottom = rng.uniform(0.15, 0.9, (2, 3))
        blend = (self._y[..., None] + 1) / 2
        self._pixels = (1 - blend) * top + blend * bottom

    def face(self, has: dict[str, bool]) -> np.ndarray:
        """Draws a whole face onto the background."""
        rng = self._rng
        tilt, scale = rng.normal(0, 0.06), rng.uniform(0.9, 1.05)
        x, y = self._x - rng.normal(0, 0.04), self._y - rng.normal(0.05, 0.03)
        self._x = (np.cos(tilt) * x + np.sin(tilt) * y) / scale
        self._y = (np.cos(tilt) * y - np.sin(tilt) * x) / scale
        turn = (-1 if has["Turned_Left"] else 1) * rng.uniform(0.05, 0.13)
        skin = SKIN[0] + (SKIN[1] - SKIN[0]) * (rng.uniform(0.75, 1) if has["Pale_Skin"] else rng.uniform(0, 0.5))
        hair = (BLOND_HAIR if has["Blond_Hair"] else DARK_HAIR) * rng.uniform(0.85, 1.15)
        width = rng.uniform(0.50, 0.57)
        if not has["Bald"]:
            length = rng.uniform(0.62, 0.95)
            self._ellipse(hair, 0, 0.62 * length - 0.52, width + 0.13, length)
        self._ellipse(0.85 * skin, 0, 0.85, 0.24, 0.45)  # neck
        self._ellipse(rng.uniform(0.1, 0.9, 3), 0, 1.35, 0.8, 0.5)  # clothes
        for side in (-1, 1):
            self._ellipse(0.92 * skin, side * width * 0.98, 0.02, 0.07, 0.13)  # ears
        self._ellipse(skin, 0, 0, width, 0.72)
        if not has["Bald"]:
            self._fringe(hair, width, rng.uniform(-0.5, -0.38))
        self._eyes(has, hair, turn)
        self._ellipse(0.84 * skin, 1.5 * turn, 0.16, 0.07, 0.05)
        self._ellipse(1.06 * skin, 1.4 * turn, 0.04, 0.035, 0.16)
        self._mouth(has, turn)
        light = 1 + rng.uniform(0.1, 0.25) * rng.choice((-1, 1)) * self._x
        noise = rng.normal(0, 0.012, self._pixels.shape)
        return (np.clip(self._pixels * light[..., None] + noise, 0, 1) * 255).round().astype(np.uint8)

    def _eyes(self, has: dict[str, bool], hair: np.ndarray, turn: float) -> None:
        rng = self._rng
        iris = rng.choice([[0.25, 0.15, 0.08], [0.2, 0.35, 0.55], [0.25, 0.4, 0.25]])
        brow, gaze = rng.uniform(-0.26, -0.22), rng.normal(0, 0.015)
        for side in (-1, 1):
            x = side * 0.21 + turn
            self._ellipse(WHITE, x, -0.1, 0.095, 0.05)
            self._ellipse(iris, x + gaze, -0.1, 0.046, 0.046)
            self._ellipse(DARK, x + gaze, -0.1, 0.02, 0.02)
            self._ellipse(0.7 * hair, x, brow, 0.12, 0.024)
            if has["Eyeglasses"]:
                self._ring(DARK, x, -0.1, 0.155, 0.115, 0.016)
        if has["Eyeglasses"]:
            self._ellipse(DARK, turn, -0.11, 0.06, 0.016)

    def _mouth(self, has: dict[str, bool], turn: float) -> None:
        """Draws a band along a parabola, its ends up in a smile and, if open, the dark mouth between its halves."""
        curve = self._rng.uniform(1.1, 1.7) if has["Smiling"] else self._rng.uniform(-0.5, 0.1)
        half_width = self._rng.uniform(0.2, 0.25) if has["Smiling"] else self._rng.uniform(0.15, 0.19)
        x = (self._x - 1.2 * turn) / half_width
        middle = 0.39 - curve * half_width**2 * (x**2 - 0.5)
        taper = np.sqrt(np.clip(1 - x**2, 0, 1))
        opening = 0.06 if has["Mouth_Slightly_Open"] else 0.0
        for colour, height in ((LIPS, 0.035 + opening), (DARK, opening)):
            if height > 0:
                self._paint(colour, np.where(taper > 0, height * taper - np.abs(self._y - middle), -1))
        if opening:
            teeth = np.minimum(0.4 * opening * taper, opening * taper - np.abs(self._y - middle + 0.6 * opening))
            self._paint(WHITE, np.where(taper > 0, teeth, -1))

    def _fringe(self, colour: np.ndarray, width: float, edge: float) -> None:
        """Draws hair over the forehead: the part of the head above a parting line."""
        head = 1 - (self._x / (width + 0.03)) ** 2 - (self._y / 0.76) ** 2
        line = edge + 0.25 * np.abs(self._x) - self._y
        self._paint(colour, np.minimum(0.4 * head, line))

    def _ellipse(self, colour: np.ndarray, x: float, y: float, a: float, b: float) -> None:
        self._paint(colour, self._inside(x, y, a, b))

    def _ring(self, colour: np.ndarray, x: float, y: float, a: float, b: float, thickness: float) -> None:
        self._paint(colour, thickness - np.abs(self._inside(x, y, a, b)))

    def _inside(self, x: float, y: float, a: float, b: float) -> Float[np.ndarray, "H W"]:
        """Approximate distance to an ellipse's edge: positive inside, negative outside."""
        return (1 - np.hypot((self._x - x) / a, (self._y - y) / b)) * min(a, b)

    def _paint(self, colour: np.ndarray, distance: np.ndarray) -> None:
        """Fills a shape, with its edge softened over about one pixel."""
        cover = np.clip(distance / self._softness + 0.5, 0, 1)[..., None]
        self._pixels = (1 - cover) * self._pixels + cover * np.clip(colour, 0, 1)
