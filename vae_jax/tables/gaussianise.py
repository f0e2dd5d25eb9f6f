"""Heavy-tailed features made Gaussian, by the ranks of the training rows."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from sklearn.preprocessing import QuantileTransformer

if TYPE_CHECKING:
    from jaxtyping import Bool, Float

# Excess kurtosis from which a feature counts as heavy-tailed: 0 is a Gaussian, 3 the double exponential distribution.
HEAVY = 1.0
QUANTILES = 500


@dataclass(frozen=True, eq=False)
class Gaussianiser:
    """A map of each heavy-tailed feature to standard normal quantiles; other features stay as they are.

    A detector's noise and kernels are Gaussian. In a feature such as an amount of money, a few far values make the
    standard deviation, and all others lie close together.

    Attributes:
      heavy: which of the D features are mapped, shape (D,).
      quantiles: of the H mapped features in training, shape (Q, H), float64.
      mean: of their normal quantiles in training, shape (H,), float64.
      sd: standard deviation of the same.

    References:
      Conover & Iman 1981, "Rank Transformations as a Bridge Between Parametric and Nonparametric Statistics".

    Examples:
      >>> import numpy as np
      >>> from vae_jax.tables.gaussianise import Gaussianiser
      >>> rng = np.random.default_rng(0)
      >>> rows = np.stack([rng.normal(size=1000), np.exp(3 * rng.normal(size=1000))], axis=1)
      >>> gaussianiser = Gaussianiser.fit(rows)
      >>> print(gaussianiser.heavy)
      [False  True]
      >>> gaussianiser.transform(np.array([[0.5, 1.0]])).round().tolist()  # in the middle of both
      [[0.0, 0.0]]
    """

    heavy: Bool[np.ndarray, " D"]
    quantiles: Float[np.ndarray, "Q H"]
    mean: Float[np.ndarray, " H"]
    sd: Float[np.ndarray, " H"]

    @classmethod
    def fit(cls, rows: Float[np.ndarray, "N D"], numbers: int | None = None) -> Gaussianiser:
        """Finds the heavy-tailed features of training rows, and their quantiles.

        Args:
          rows: standardised; NaN is a gap, which tells nothing.
          numbers: how many features, from the first on, are numbers; None for all.

        Returns:
          The map.
        """
        rows = np.where(np.isnan(rows).all(0), 0.0, rows.astype(np.float64))
        centred = rows - np.nanmean(rows, 0)
        variance = np.nanmean(np.square(centred), 0)
        heavy = np.nanmean(centred**4, 0) > (3 + HEAVY) * variance**2
        if numbers is not None:
            heavy[numbers:] = False
        if not heavy.any():
            return cls(heavy, np.zeros((0, 0)), np.zeros(0), np.zeros(0))
        levels = np.linspace(0, 1, min(QUANTILES, len(rows)))
        quantiles = np.nanquantile(rows[:, heavy], levels, axis=0)
        plain = cls(heavy, quantiles, np.zeros(heavy.sum()), np.ones(heavy.sum()))
        normal = plain._normal(rows[:, heavy])
        return cls(heavy, quantiles, np.nanmean(normal, 0), np.maximum(np.nanstd(normal, 0), 1e-6))

    def transform(self, rows: Float[np.ndarray, "N D"]) -> Float[np.ndarray, "N D"]:
        """Maps standardised rows, float, to float32; NaN stays NaN. Beyond the training rows the map is a line."""
        found = rows.astype(np.float32)
        if self.heavy.any() and len(rows):
            found[:, self.heavy] = (self._normal(rows[:, self.heavy].astype(np.float64)) - self.mean) / self.sd
        return found

    def _normal(self, rows: Float[np.ndarray, "N H"]) -> Float[np.ndarray, "N H"]:
        """Normal quantiles of heavy-tailed features, and by how much a value lies beyond all of training."""
        transformer = QuantileTransformer(n_quantiles=len(self.quantiles), output_distribution="normal")
        transformer.set_output(transform="default")  # whatever a program has set for all transformers
        transformer.quantiles_, transformer.n_quantiles_ = self.quantiles, len(self.quantiles)
        transformer.references_ = np.linspace(0, 1, len(self.quantiles))
        beyond = rows - np.clip(rows, self.quantiles[0], self.quantiles[-1])
        return np.asarray(transformer.transform(rows)) + beyond
