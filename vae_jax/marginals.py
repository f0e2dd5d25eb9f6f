"""Densities of single features, as if they were independent of each other."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from scipy.ndimage import gaussian_filter1d

if TYPE_CHECKING:
    from jaxtyping import Float

POINTS_PER_BANDWIDTH = 16
WIDEST_GRID = 1_000.0  # to either side, whose memory grows with it: 2 MB for each feature of 30,000 rows
WIDEST = 5  # bandwidths at which a kernel ends
BACKGROUND_SD = 10.0


class Marginals(NamedTuple):
    """A kernel density estimate of each feature, on a grid.

    All features, which should have variances of about 1, have one bandwidth: by Silverman's rule. One more row's weight
    is spread over a wide Gaussian, so that the density is nowhere 0. Values beyond 1,000 have no kernels.

    Attributes:
      densities: at G points from -limit on, shape (D, G), float64.
      limit: largest absolute value of the grid.
      bandwidth: standard deviation of the kernels.
      background: weight of the wide Gaussian.

    References:
      Silverman 1986, "Density Estimation for Statistics and Data Analysis", eq. 3.28 (the bandwidth) and section 3.5
      (the grid).

    Examples:
      >>> import numpy as np
      >>> from vae_jax.marginals import Marginals
      >>> rows = np.random.default_rng(0).normal(size=(5_000, 2)).astype(np.float32)
      >>> marginals = Marginals.fit(rows, np.full(5_000, 1 / 5_000))
      >>> print(marginals.log_density(np.array([[0.0, 2.0]], np.float32)).round())  # of N(0, 1): -0.92 and -2.92
      [[-1. -3.]]
    """

    densities: Float[np.ndarray, "D G"]
    limit: float
    bandwidth: float
    background: float

    @classmethod
    def fit(cls, rows: Float[np.ndarray, "E D"], weights: Float[np.ndarray, " E"]) -> Marginals:
        """Estimates densities from rows without gaps, with weights that add up to 1."""
        count = 1 / np.square(weights).sum()  # of rows of equal weights that would be as many
        bandwidth = 1.06 * count**-0.2
        inside = np.abs(rows) <= WIDEST_GRID
        rows, weights = np.where(inside, rows, 0.0), np.where(inside, weights[:, None], 0.0)
        limit, step = float(np.abs(rows).max()) + WIDEST * bandwidth, bandwidth / POINTS_PER_BANDWIDTH
        points, dim = math.ceil(2 * limit / step) + 2, rows.shape[1]
        lower, share = _places(rows, limit, step)
        masses = np.zeros(dim * points)
        for places, of_mass in ((lower, 1 - share), (lower + 1, share)):
            masses += np.bincount((places + points * np.arange(dim)).ravel(), (of_mass * weights).ravel(), dim * points)
        densities = gaussian_filter1d(
            masses.reshape(dim, points) / step, POINTS_PER_BANDWIDTH, mode="constant", truncate=WIDEST
        )
        return cls(densities, limit, bandwidth, 1 / (count + 1))

    def log_density(
        self, rows: Float[np.ndarray, "N D"], own: Float[np.ndarray, " N"] | None = None
    ) -> Float[np.ndarray, "N D"]:
        """Log densities of each feature.

        Args:
          rows: float; NaN is a gap.
          own: for each row the weight that it has among the rows of `fit`, which is then left out; 0 for none.

        Returns:
          In nats, float64, 0 for gaps.
        """
        gaps = np.isnan(rows)
        x = np.where(gaps, 0.0, rows.astype(np.float64))
        inside = np.abs(x) < self.limit
        lower, share = _places(np.where(inside, x, 0.0), self.limit, self.bandwidth / POINTS_PER_BANDWIDTH)
        features = np.arange(x.shape[1])
        density = (1 - share) * self.densities[features, lower] + share * self.densities[features, lower + 1]
        density = np.where(inside, density, 0.0)
        if own is not None:
            itself = own[:, None] / (self.bandwidth * math.sqrt(2 * math.pi))
            density = np.maximum(density - itself, 0.0) / np.maximum(1 - own[:, None], 1e-9)
        with np.errstate(divide="ignore"):
            kernels = np.log(density) + math.log1p(-self.background)
        wide = -0.5 * np.square(x / BACKGROUND_SD) - math.log(BACKGROUND_SD * math.sqrt(2 * math.pi))
        return np.where(gaps, 0.0, np.logaddexp(kernels, wide + math.log(self.background)))


def _places(rows: np.ndarray, limit: float, step: float) -> tuple[np.ndarray, np.ndarray]:
    """The points of the grid below values, and how far these are on the way to the next points."""
    places = (rows.astype(np.float64) + limit) / step
    lower = places.astype(np.int64)
    return lower, places - lower
