"""Standardisation of features by the mean and standard deviation of genuine training rows."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from vae_jax.tables.text_numbers import NumberFormat, is_missing

if TYPE_CHECKING:
    from jaxtyping import Bool, Float

# Standardised values beyond this are always cut: their squares would overflow float32 (3e38) after some layers, and a
# score of minus infinity or NaN orders no rows.
LARGEST = 1e6
# A constant column has no standard deviation. By this share of its value, rounding to float32 stays unnoticed, and any
# other value lies beyond the limit, whatever the unit.
OF_CONSTANT, OF_ZERO = 1e-6, 1e-30


@dataclass(frozen=True)
class Scaler:
    """An affine map of each feature, with a limit on how far a value may lie outside.

    Attributes:
      mean: shape (D,), float64, in the feature's unit.
      sd: shape (D,), float64, in the feature's unit; for a constant feature a millionth of its value, so that another
        value is cut at the limit.
      feature_names: the D names.
      limit: standardised values beyond ± this are cut.
      number_format: how numbers are written in the file they came from.

    Examples:
      >>> import numpy as np
      >>> from vae_jax.tables.scaling import Scaler
      >>> scaler = Scaler.fit(np.array([[0.0], [2.0]]), feature_names=("amount",), limit=10.0)
      >>> print(scaler.transform(np.array([[1.0], [3.0], [1e9]])).ravel())
      [ 0.  2. 10.]
    """

    mean: Float[np.ndarray, " D"]
    sd: Float[np.ndarray, " D"]
    feature_names: tuple[str, ...]
    limit: float = LARGEST
    number_format: NumberFormat = field(default_factory=NumberFormat)

    @classmethod
    def fit(
        cls,
        features: Float[np.ndarray, "N D"],
        feature_names: tuple[str, ...],
        limit: float = LARGEST,
        number_format: NumberFormat = NumberFormat(),  # noqa: B008 (frozen)
    ) -> Scaler:
        """Measures mean and standard deviation.

        Args:
          features: rows to measure, float64.
          feature_names: the D names.
          limit: in standard deviations, at most 1e6.
          number_format: how numbers are written in the file they came from.

        Returns:
          The scaler.
        """
        constant, (mean, sd) = constant_features(features), mean_and_sd(features)
        mean = np.where(constant, features[0], mean)
        sd = np.where(constant, sd_of_constant(features[0]), sd)
        return cls(mean, sd, tuple(feature_names), min(limit, LARGEST), number_format)

    def transform(self, features: Float[np.ndarray, "N D"]) -> Float[np.ndarray, "N D"]:
        """Standardises rows.

        Args:
          features: rows, float.

        Returns:
          `(features - mean) / sd` as float32, within ± `limit`; NaN for NaN.
        """
        with np.errstate(over="ignore"):  # infinity is beyond the limit, too
            return np.clip((features - self.mean) / self.sd, -self.limit, self.limit).astype(np.float32)

    @property
    def modelled(self) -> tuple[str, ...]:
        """Names of the features."""
        return self.feature_names

    @property
    def constant(self) -> Bool[np.ndarray, " D"]:
        """Which features had one value in all training rows."""
        return self.sd == sd_of_constant(self.mean)

    def new_gaps(self, features: Float[np.ndarray, "N D"]) -> dict[str, int]:
        """Counts the gaps (NaN) of each feature that has any; there were none in training."""
        missing = np.isnan(features).sum(0)
        return {name: int(count) for name, count in zip(self.feature_names, missing, strict=True) if count}

    def remark(self, name: str, cell: Any) -> str:
        """Gives a feature's mean ± standard deviation in training, or its only value; "" for a gap."""
        if is_missing(np.array([cell.strip() if isinstance(cell, str) else cell], object)).any():
            return ""
        i = self.feature_names.index(name)
        if self.constant[i]:
            return f"always {self.mean[i]:.6g} in training"
        return f"{self.mean[i]:.3g} ± {self.sd[i]:.3g} in training"

    def to_json(self) -> dict:
        """Returns the scaler as lists and strings."""
        return {
            "feature_names": list(self.feature_names),
            "mean": self.mean.tolist(),
            "sd": self.sd.tolist(),
            "limit": self.limit,
            **({} if self.number_format == NumberFormat() else {"number_format": asdict(self.number_format)}),
        }

    @classmethod
    def from_json(cls, record: dict) -> Scaler:
        """Rebuilds a scaler from `to_json`, to the last bit."""
        return cls(
            np.array(record["mean"]),
            np.array(record["sd"]),
            tuple(record["feature_names"]),
            record["limit"],
            NumberFormat(**record.get("number_format", {})),
        )


def mean_and_sd(
    values: Float[np.ndarray, "N *event"],
) -> tuple[Float[np.ndarray, "*event"], Float[np.ndarray, "*event"]]:
    """Returns mean and standard deviation over rows of any size: squares of 1e300 overflow, those of 1e-300 vanish."""
    _, exponent = np.frexp(np.abs(values).max(0))
    scaled = np.ldexp(values, -exponent)  # to about 1, by a power of two, which changes no digit
    return np.ldexp(scaled.mean(0), exponent), np.ldexp(scaled.std(0), exponent)


def constant_features(features: Float[np.ndarray, "N D"]) -> Bool[np.ndarray, " D"]:
    """Tells which features have one value in all rows."""
    # Not by the standard deviation, which for a constant like 0.1 is a rounding error above 0.
    return features.max(0) == features.min(0)


def sd_of_constant(values: Float[np.ndarray, "*shape"]) -> Float[np.ndarray, "*shape"]:
    """Returns what stands for the standard deviation of features that always have these values."""
    return np.maximum(OF_CONSTANT * np.abs(values), OF_ZERO)
