"""Densities of single features, and probabilities of levels, as if they were independent of each other."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from scipy.ndimage import gaussian_filter1d

if TYPE_CHECKING:
    from jaxtyping import Float

POINTS_PER_BANDWIDTH = 16
WIDEST_GRID = 1_000.0  # to either side, whose memory grows with it: 2 MB for each feature of 30,000 rows
WIDEST = 5  # bandwidths at which a kernel ends
BACKGROUND_SD = 10.0


class Frequencies(NamedTuple):
    """How frequent the levels of each category are.

    One more row's weight is spread evenly over all levels, so that no probability is 0.

    Attributes:
      shares: of the L levels of each of A categories; 0 where a category has fewer. Shape (A, L), float64.
      background: share of them that is spread evenly.
      given: weight of the rows without a gap in each category, shape (A,).

    Examples:
      >>> import numpy as np
      >>> from vae_jax.marginals import Frequencies
      >>> rows = np.array([[0.0], [0.0], [1.0], [np.nan]])
      >>> Frequencies.fit(rows, np.full(4, 1 / 4), levels=[2]).shares.round(2)
      array([[0.63, 0.37]])
    """

    shares: Float[np.ndarray, "A L"]
    background: float
    given: Float[np.ndarray, " A"]

    @classmethod
    def fit(
        cls, rows: Float[np.ndarray, "E A"], weights: Float[np.ndarray, " E"], levels: Sequence[int]
    ) -> Frequencies:
        """Counts the numbers of levels in rows, NaN for a gap, with weights that add up to 1."""
        background = 1 / (_effective_count(weights) + 1)
        weights, given = _of_given(rows, weights)
        shares = np.zeros((len(levels), max(levels, default=0)))
        for of, column, of_rows, count in zip(shares, rows.T, weights.T, levels, strict=True):
            seen = np.bincount(np.nan_to_num(column).astype(np.int64), of_rows, count)
            of[:count] = (1 - background) * seen + background / count
        return cls(shares, background, given)

    def log_prob(
        self, rows: Float[np.ndarray, "N A"], own: Float[np.ndarray, " N"] | None = None
    ) -> Float[np.ndarray, "N A"]:
        """Log probabilities of each category's level.

        Args:
          rows: numbers of levels; NaN is a gap.
          own: for each row the weight that it has among the rows of `fit`, which is then left out; 0 for none.

        Returns:
          In nats, float64, 0 for gaps.
        """
        shares = self.shares[np.arange(rows.shape[1]), np.nan_to_num(rows).astype(np.int64)]
        if own is not None:
            itself = (1 - self.background) * own[:, None] / self.given
            shares = (shares - itself) / np.maximum(1 - itself, 1e-9)
        return np.where(np.isnan(rows), 0.0, np.log(shares))


class Marginals(NamedTuple):
    """A kernel density estimate of each number, on a grid, and the frequencies of levels.

    All numbers, which should have variances of about 1, have one bandwidth: by Silverman's rule. One more row's weight
    is spread over a wide Gaussian, so that the density is nowhere 0. Values beyond 1,000 have no kernels.

    Attributes:
      densities: at G points from -limit on, shape (M, G), float64.
      limit: largest absolute value of the grid.
      bandwidth: standard deviation of the kernels.
      background: weight of the wide Gaussian.
      given: weight of the rows without a gap in each number, shape (M,).
      frequencies: of the answers and categories that follow the numbers.

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

    densities: Float[np.ndarray, "M G"]
    limit: float
    bandwidth: float
    background: float
    given: Float[np.ndarray, " M"]
    frequencies: Frequencies

    @classmethod
    def fit(
        cls, rows: Float[np.ndarray, "E D"], weights: Float[np.ndarray, " E"], levels: Sequence[int] = ()
    ) -> Marginals:
        """Estimates densities from rows.

        Args:
          rows: NaN is a gap, which tells nothing.
          weights: of the rows; they add up to 1.
          levels: how many levels each of the last features has; the others are numbers.

        Returns:
          The estimate.
        """
        frequencies = Frequencies.fit(rows[:, rows.shape[1] - len(levels) :], weights, levels)
        rows = rows[:, : rows.shape[1] - len(levels)]
        count = _effective_count(weights)
        bandwidth = 1.06 * count**-0.2
        inside = np.abs(rows) <= WIDEST_GRID
        weights, given = _of_given(rows, weights)
        rows, weights = np.where(inside, rows, 0.0), np.where(inside, weights, 0.0)
        limit, step = float(np.abs(rows).max(initial=0)) + WIDEST * bandwidth, bandwidth / POINTS_PER_BANDWIDTH
        points, dim = math.ceil(2 * limit / step) + 2, rows.shape[1]
        lower, share = _places(rows, limit, step)
        masses = np.zeros(dim * points)
        for places, of_mass in ((lower, 1 - share), (lower + 1, share)):
            masses += np.bincount((places + points * np.arange(dim)).ravel(), (of_mass * weights).ravel(), dim * points)
        densities = masses.reshape(dim, points) / step
        if dim:
            densities = gaussian_filter1d(densities, POINTS_PER_BANDWIDTH, mode="constant", truncate=WIDEST)
        return cls(densities, limit, bandwidth, 1 / (count + 1), given, frequencies)

    def log_density(
        self, rows: Float[np.ndarray, "N D"], own: Float[np.ndarray, " N"] | None = None
    ) -> Float[np.ndarray, "N D"]:
        """Log densities of each number, and log probabilities of each answer and category.

        Args:
          rows: float; NaN is a gap.
          own: for each row the weight that it has among the rows of `fit`, which is then left out; 0 for none.

        Returns:
          In nats, float64, 0 for gaps.
        """
        of_levels = self.frequencies.log_prob(rows[:, len(self.densities) :], own)
        rows = rows[:, : len(self.densities)]
        gaps = np.isnan(rows)
        x = np.where(gaps, 0.0, rows.astype(np.float64))
        inside = np.abs(x) < self.limit
        lower, share = _places(np.where(inside, x, 0.0), self.limit, self.bandwidth / POINTS_PER_BANDWIDTH)
        features = np.arange(x.shape[1])
        density = (1 - share) * self.densities[features, lower] + share * self.densities[features, lower + 1]
        density = np.where(inside, density, 0.0)
        if own is not None:
            itself = own[:, None] / self.given
            at_it = itself / (self.bandwidth * math.sqrt(2 * math.pi))
            density = np.maximum(density - at_it, 0.0) / np.maximum(1 - itself, 1e-9)
        with np.errstate(divide="ignore"):
            kernels = np.log(density) + math.log1p(-self.background)
        wide = -0.5 * np.square(x / BACKGROUND_SD) - math.log(BACKGROUND_SD * math.sqrt(2 * math.pi))
        of_numbers = np.where(gaps, 0.0, np.logaddexp(kernels, wide + math.log(self.background)))
        return np.concatenate([of_numbers, of_levels], 1)


def _effective_count(weights: np.ndarray) -> float:
    """How many rows of equal weights would tell as much."""
    return 1 / np.square(weights).sum()


def _of_given(rows: np.ndarray, weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The weights of cells, which add up to 1 over those of a column that are there, and what they were divided by."""
    gaps = np.isnan(rows)
    if not gaps.any():
        return np.broadcast_to(weights[:, None], rows.shape), np.ones(rows.shape[1])
    of_cells = np.where(gaps, 0.0, weights[:, None])
    given = np.where(gaps.all(0), 1.0, of_cells.sum(0))
    return of_cells / given, given


def _places(rows: np.ndarray, limit: float, step: float) -> tuple[np.ndarray, np.ndarray]:
    """The points of the grid below values, and how far these are on the way to the next points."""
    places = (rows.astype(np.float64) + limit) / step
    lower = places.astype(np.int64)
    return lower, places - lower
