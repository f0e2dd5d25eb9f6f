"""Quality of images: errors of reconstructions, and the sliced Wasserstein distance between sets of images.

The distance follows Karras et al. 2018: it draws small patches at each level of the two sets' Laplacian pyramids, and
compares the two clouds of patches along random directions. It measures whether the sets have the same texture at each
scale, and needs no trained network.

References:
  Karras, Aila, Laine & Lehtinen 2018, "Progressive Growing of GANs", https://arxiv.org/abs/1710.10196, section 5.
  Rabin et al. 2011, "Wasserstein Barycenter and its Application to Texture Mixing".
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

import jax.numpy as jnp
import numpy as np

if TYPE_CHECKING:
    from jaxtyping import Array, Float

PATCH = 7  # pixels a side
SMALLEST_LEVEL = 16  # pixels a side of the coarsest level
BINOMIAL = np.array([1, 4, 6, 4, 1], np.float32) / 16


class Errors(NamedTuple):
    """Reconstruction errors, one number per image.

    Attributes:
      rmse: root mean squared error over the pixels, in units of the range [0, 1].
      mse: mean squared error.
      psnr: peak signal-to-noise ratio, dB, higher = better.
      ssim: structural similarity, at most 1, higher = better.

    Examples:
      >>> import jax.numpy as jnp
      >>> from vae_jax.images import measures
      >>> errors = measures.reconstruction_errors(jnp.ones((2, 16, 16, 3)), jnp.full((2, 16, 16, 3), 0.9))
      >>> {name: round(float(values.mean()), 2) for name, values in errors._asdict().items() if name != "ssim"}
      {'rmse': 0.1, 'mse': 0.01, 'psnr': 20.0}
    """

    rmse: Float[Array, " B"]
    mse: Float[Array, " B"]
    psnr: Float[Array, " B"]
    ssim: Float[Array, " B"]


def reconstruction_errors(x: Float[Array, "B H W C"], reconstruction: Float[Array, "B H W C"]) -> Errors:
    """Compares images with their reconstructions (PSNR and SSIM from dm-pix).

    Args:
      x: images, float in [0, 1].
      reconstruction: their reconstructions, same shape.

    Returns:
      The errors of each image.

    Examples:
      >>> import jax.numpy as jnp
      >>> from vae_jax.images import measures
      >>> x = jnp.ones((2, 16, 16, 3))
      >>> errors = measures.reconstruction_errors(x, 0.5 * x)
      >>> print(errors.rmse)
      [0.5 0.5]
    """
    import dm_pix

    mse = jnp.square(x - reconstruction).mean((1, 2, 3))
    return Errors(
        jnp.sqrt(mse), mse, jnp.asarray(dm_pix.psnr(x, reconstruction)), jnp.asarray(dm_pix.ssim(x, reconstruction))
    )


def sliced_wasserstein(
    a: Float[np.ndarray, "N H W C"],
    b: Float[np.ndarray, "N H W C"],
    seed: int = 0,
    patches_per_image: int = 128,
    projections: int = 512,
) -> dict[str, float]:
    """Distance between two sets of images at each level of a Laplacian pyramid.

    Args:
      a: images, float in [0, 1]; H and W a multiple of 16, at least 16.
      b: as many images of the same size.
      seed: seed of the patches and directions.
      patches_per_image: number of 7 x 7 patches drawn from each image at each level.
      projections: number of random directions.

    Returns:
      The distance times 1,000 at each level, named by its height, e.g. "128", ..., "16" (fine to coarse), and their
      "mean". 0 for equal sets; lower = more alike.

    Raises:
      ValueError: if the sets differ in shape.

    Examples:
      >>> import numpy as np
      >>> from vae_jax.images import measures
      >>> rng = np.random.default_rng(0)
      >>> a, b = rng.random((2, 4, 32, 32, 3), dtype=np.float32)
      >>> measures.sliced_wasserstein(a, a)
      {'32': 0.0, '16': 0.0, 'mean': 0.0}
      >>> measures.sliced_wasserstein(a, b)["mean"] > 0
      True
    """
    if a.shape != b.shape:
        raise ValueError(f"sets of different shapes: {a.shape} and {b.shape}")
    distances = {}
    for level, (level_a, level_b) in enumerate(zip(_pyramid(a), _pyramid(b), strict=True)):
        # The same places and directions for both sets, so that equal sets have distance 0.
        rng = np.random.default_rng([seed, level])
        sides = np.array(level_a.shape[1:3])[:, None, None]
        places = rng.integers(sides - PATCH + 1, size=(2, len(a), patches_per_image))
        directions = rng.standard_normal((PATCH * PATCH * a.shape[3], projections)).astype(np.float32)
        directions /= np.linalg.norm(directions, axis=0)
        projected = [_project(_patches(x, *places), directions) for x in (level_a, level_b)]
        distances[str(level_a.shape[1])] = 1e3 * float(np.abs(projected[0] - projected[1]).mean())
    return {**distances, "mean": float(np.mean(list(distances.values())))}


def _pyramid(x: np.ndarray) -> Sequence[np.ndarray]:
    """The Laplacian pyramid: what each halving loses, and finally the smallest image itself."""
    levels = []
    x = np.asarray(x, np.float32)
    while min(x.shape[1:3]) // 2 >= SMALLEST_LEVEL:
        smaller = _blur(x)[:, ::2, ::2]
        raised = np.zeros_like(x)
        raised[:, ::2, ::2] = 4 * smaller
        levels.append(x - _blur(raised))
        x = smaller
    return [*levels, x]


def _blur(x: np.ndarray) -> np.ndarray:
    from scipy.ndimage import correlate1d

    return correlate1d(correlate1d(x, BINOMIAL, axis=1, mode="mirror"), BINOMIAL, axis=2, mode="mirror")


def _patches(x: np.ndarray, top: np.ndarray, left: np.ndarray) -> np.ndarray:
    """Cuts out patches and normalises each channel to mean 0 and variance 1 over all patches of the set."""
    images = np.arange(len(x))[:, None, None, None]
    rows = top[..., None, None] + np.arange(PATCH)[:, None]
    columns = left[..., None, None] + np.arange(PATCH)
    patches = x[images, rows, columns]  # images, patches, PATCH, PATCH, channels
    # Summed in float64: over ten million numbers, float32 loses more than the difference between the sets.
    mean, sd = (f(patches, (0, 1, 2, 3), dtype=np.float64).astype(np.float32) for f in (np.mean, np.std))
    patches = (patches - mean) / np.maximum(sd, 1e-8)
    return patches.reshape(-1, PATCH * PATCH * x.shape[3])


def _project(patches: np.ndarray, directions: np.ndarray) -> np.ndarray:
    """Sorted positions along each direction: optimal transport in one dimension pairs them in order."""
    return np.sort(directions.T @ patches.T, axis=1)
