"""The settings of a detector, named, described and checked in one place.

`VAEDetector` takes them as arguments, the fraud experiment as options, and a saved model keeps them.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from typing import Any, Literal

import numpy as np

from vae_jax import thresholds
from vae_jax.tables.columns import Missing
from vae_jax.tables.kinds import KINDS, Kind

Recipe = Literal["report", "gaussian"]


class SettingError(ValueError):
    """A setting that can't be used.

    Attributes:
      name: the setting's name.
      value: its value.
      expected: what it may be, in words.
    """

    def __init__(self, name: str, value: Any, expected: str):
        super().__init__(f"{name}={value!r}: expected {expected}")
        self.name, self.value, self.expected = name, value, expected


@dataclass(frozen=True)
class ModelSettings:
    """How to train a VAE on a table, and how to score rows with it. Defaults are the report's, where it names one.

    Examples:
      >>> from vae_jax.detector.settings import ModelSettings
      >>> ModelSettings(latent_dim=3).epochs
      1000
    """

    hidden_dims: tuple[int, ...] = (20, 10, 8)
    """Widths of the encoder's hidden layers; the decoder has them reversed. Without any, both are linear."""
    latent_dim: int = 2
    """Number of latent dimensions."""
    report_weight: float = 10_000.0
    """Weight of the RMSE in the report recipe's loss; benchmarks/RESULTS.md has the sweep behind the default."""
    kl_warmup: float = 0.8
    """Share of the epochs over which the gaussian recipe's KL weight rises from 0 to 1."""
    input_noise: float = 0.3
    """Standard deviation of the noise on the encoder's input while the gaussian recipe trains, in units of \
standardised features."""
    limit: float = 10.0
    """Standardised features are clipped at ± this many standard deviations. A single genuine payment can lie 80 of \
them out, where no model has learned anything."""
    epochs: int = 1000
    """Passes over the training rows."""
    batch_size: int = 128
    """Rows in an optimiser step, over all devices together."""
    learning_rate: float = 1e-3
    """Learning rate of NAdam."""
    num_models: int = 1
    """Number of models of each recipe, initialised independently and trained as one program; a row's score is the \
mean of theirs."""
    num_samples: int = 100
    """Latent samples for the score of a row."""
    boundary: str = "quantile"
    """Rule that sets the boundary from the scores of held-out rows: quantile, tukey, mad, mean-sigma or gpd."""
    false_alarm_rate: float = thresholds.DEFAULT_FALSE_ALARM_RATE
    """Share of normal rows that may raise an alarm, for the rules quantile and gpd."""
    seed: int = 0
    """Seed of everything random."""
    missing: Missing = "ignore"
    """What a gap tells: ignore (nothing; a row's score is over what it has) or informative (whether a cell is missing \
is itself scored, in columns that had gaps in training)."""


@dataclass(frozen=True)
class Settings(ModelSettings):
    """The settings of one detector.

    Examples:
      >>> from vae_jax.detector.settings import Settings, check
      >>> check(Settings(patience=0))
      Traceback (most recent call last):
      vae_jax.detector.settings.SettingError: patience=0: expected a whole number above 0, or None
    """

    recipe: Recipe = "gaussian"
    """gaussian (negative evidence lower bound with learned variances) or report (weight * RMSE + KL)."""
    validation_share: float = 0.1
    """Share of the rows that `fit` holds out: for the boundary, and to choose the best epoch. With fewer than some \
hundreds of them the choice flatters the model, and it raises more false alarms than asked for."""
    columns: Mapping[str, Kind] | None = None
    """Kinds of columns by name, for those that are not to be inferred: real, positive, count, yes-no, category, date, \
constant, id or dropped. Columns of a table of finite numbers alone are real unless said otherwise."""
    patience: int | None = None
    """Stop when the loss on held-out rows has not fallen for this many epochs after the KL warm-up; None trains all \
epochs."""

    @classmethod
    def of(cls, holder: Any) -> Settings:
        """Takes the settings from attributes of the same names, checked, and NumPy's numbers turned into Python's."""
        given = {field.name: getattr(holder, field.name) for field in fields(cls)}
        check(cls(**given))
        plain = {name: value.tolist() if isinstance(value, np.generic) else value for name, value in given.items()}
        columns = {str(name): kind for name, kind in (given["columns"] or {}).items()} or None
        return cls(**{**plain, "hidden_dims": tuple(int(width) for width in given["hidden_dims"]), "columns": columns})


def check(settings: ModelSettings) -> None:
    """Raises SettingError for the first setting that can't be used."""
    for name, is_fine, expected in _RULES:
        if not hasattr(settings, name):
            continue
        value = getattr(settings, name)
        try:
            fine = is_fine(value)
        except TypeError:  # not even a number
            fine = False
        if not fine:
            raise SettingError(name, value, expected)


def _is_whole(value: Any) -> bool:
    return isinstance(value, int | np.integer)


def _is_count(value: Any) -> bool:
    return _is_whole(value) and value > 0


def _is_positive(value: Any) -> bool:
    return 0 < value < math.inf


_RULES: list[tuple[str, Callable[[Any], bool], str]] = [
    ("recipe", lambda value: value in ("report", "gaussian"), "report or gaussian"),
    ("hidden_dims", lambda value: all(map(_is_count, value)), "widths above 0"),
    ("kl_warmup", lambda value: 0 <= value <= 1, "between 0 and 1"),
    ("input_noise", lambda value: 0 <= value < math.inf, "0 or more"),
    ("boundary", lambda value: value in thresholds.RULES, f"one of {', '.join(thresholds.RULES)}"),
    ("false_alarm_rate", lambda value: 0 < value < 1, "between 0 and 1"),
    ("validation_share", lambda value: 0 < value < 1, "between 0 and 1"),
    ("missing", lambda value: value in ("ignore", "informative"), "ignore or informative"),
    ("columns", lambda value: set((value or {}).values()) <= set(KINDS), f"kinds among {', '.join(KINDS)}"),
    ("seed", lambda value: _is_whole(value) and 0 <= value < 2**32, "between 0 and 2^32 - 1"),
    ("patience", lambda value: value is None or _is_count(value), "a whole number above 0, or None"),
    *(
        (name, _is_count, "a whole number above 0")
        for name in ("latent_dim", "num_models", "epochs", "batch_size", "num_samples")
    ),
    *((name, _is_positive, "more than 0") for name in ("learning_rate", "report_weight", "limit")),
]
