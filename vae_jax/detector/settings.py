"""The settings of a detector, named, described and checked in one place.

`VAEDetector` takes them as arguments, the fraud experiment as options, and a saved model keeps them.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, fields
from typing import Any, Literal

import numpy as np

from vae_jax import thresholds
from vae_jax.tables.columns import Missing
from vae_jax.tables.kinds import KINDS, Kind

Recipe = Literal["report", "gaussian", "exemplar"]

# What a recipe takes where a setting is None. `epochs` of the exemplar recipe depends on the rows.
_REPORT = {
    "hidden_dims": (20, 10, 8),
    "latent_dim": 2,
    "kl_warmup": 0.8,
    "input_noise": 0.3,
    "epochs": 1000,
    "learning_rate": 1e-3,
    "num_models": 1,
}
_EXEMPLAR = {
    "hidden_dims": (64, 32),
    "latent_dim": 8,
    "kl_warmup": 0.3,
    "input_noise": 0.0,
    "learning_rate": 2e-3,
    "num_models": 3,
}
OF_RECIPE: dict[Recipe, dict[str, Any]] = {"report": _REPORT, "gaussian": _REPORT, "exemplar": _EXEMPLAR}
LEFT_TO_RECIPE = ("recipe", *_REPORT)  # settings that may be None
STEPS = 1_000  # that the exemplar recipe trains for, where `epochs` is None


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
    """How to train a VAE on a table, and how to score rows with it.

    None stands for the recipe's own value: for `report` and `gaussian` the report's, where it names one.

    Examples:
      >>> from vae_jax.detector.settings import ModelSettings
      >>> ModelSettings(latent_dim=3).batch_size
      128
    """

    hidden_dims: tuple[int, ...] | None = None
    """Widths of the encoder's hidden layers; the decoder has them reversed. Without any, both are linear. By default \
20 10 8 (report, gaussian), 64 32 (exemplar)."""
    latent_dim: int | None = None
    """Number of latent dimensions. By default 2 (report, gaussian), 8 or the number of features if there are fewer \
(exemplar)."""
    report_weight: float = 10_000.0
    """Weight of the RMSE in the report recipe's loss; benchmarks/RESULTS.md has the sweep behind the default."""
    kl_warmup: float | None = None
    """Share of the epochs over which the KL weight rises from 0 to 1, in the recipes gaussian (by default 0.8) and \
exemplar (0.3)."""
    input_noise: float | None = None
    """Standard deviation of the noise on the encoder's input in training, in units of standardised features, in the \
recipes gaussian (by default 0.3) and exemplar (0)."""
    limit: float = 10.0
    """Standardised features are clipped at ± this many standard deviations. A single genuine payment can lie 80 of \
them out, where no model has learned anything."""
    epochs: int | None = None
    """Passes over the training rows. By default 1000 (report, gaussian), as many as make 1,000 steps, at \
least one (exemplar)."""
    batch_size: int = 128
    """Rows in an optimiser step, over all devices together."""
    learning_rate: float | None = None
    """Learning rate: of NAdam, by default 0.001 (report, gaussian), or of AdamW at the start, 0.002 (exemplar)."""
    num_models: int | None = None
    """Number of models of each recipe, initialised independently. By default 1 (report, gaussian: a row's score is \
the mean of theirs) or 3 (exemplar: a kernel's width is the mean of theirs)."""
    num_samples: int = 100
    """Latent samples for the score of a row, in the recipes report and gaussian."""
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

    recipe: Recipe | None = None
    """exemplar (kernels at the training rows, as wide as VAEs reconstruct them), gaussian (reconstruction \
probability; negative evidence lower bound with learned variances, or a likelihood for each column) or report (the \
same for finite numbers alone; weight * RMSE + KL). None takes exemplar."""
    contamination: float | None = None
    """Share of anomalies expected among the training rows. The rows least likely under a first fit are left out of a \
second, and the boundary lets this share of all rows raise an alarm. None takes the rows as normal."""
    validation_share: float = 0.1
    """Share of the rows that `fit` holds out: for the boundary, and to choose the best epoch, or the bandwidth of \
exemplar. A report or gaussian model that chose by fewer than a few hundred of them raises more false alarms than \
asked for."""
    columns: Mapping[str, Kind] | None = None
    """Kinds of columns by name, for those that are not to be inferred: real, positive, count, yes-no, category, date, \
constant, id or dropped. Without any, all columns of a table of numbers alone are real."""
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
        widths = None if given["hidden_dims"] is None else tuple(int(width) for width in given["hidden_dims"])
        return cls(**{**plain, "hidden_dims": widths, "columns": columns})

    def resolved(self, rows: int, feature_dim: int) -> Resolved:
        """Puts the recipe's own values in place of None, for N training rows of D features.

        Examples:
          >>> from vae_jax.detector.settings import Settings
          >>> settings = Settings(recipe="exemplar").resolved(rows=12_800, feature_dim=3)
          >>> settings.hidden_dims, settings.latent_dim, settings.epochs
          ((64, 32), 3, 10)
        """
        recipe: Recipe = self.recipe or "exemplar"
        defaults: dict[str, Any] = {"recipe": recipe, **OF_RECIPE[recipe]}
        if recipe == "exemplar":
            defaults["latent_dim"] = min(defaults["latent_dim"], feature_dim)
            defaults["epochs"] = math.ceil(STEPS / max(1, rows // self.batch_size))
        unset = {name: value for name, value in defaults.items() if getattr(self, name) is None}
        return Resolved(**{**{field.name: getattr(self, field.name) for field in fields(Settings)}, **unset})


@dataclass(frozen=True)
class Resolved(Settings):
    """Settings with a recipe, and its values in place of None; see `Settings.resolved`."""

    hidden_dims: tuple[int, ...] = ()
    latent_dim: int = 0
    kl_warmup: float = 0.0
    input_noise: float = 0.0
    epochs: int = 0
    learning_rate: float = 0.0
    num_models: int = 0
    recipe: Recipe = "report"


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


def _kinds(value: Any) -> Collection[Any]:
    if not isinstance(value, Mapping):
        raise TypeError
    return value.values()


def _unless_none(is_fine: Callable[[Any], bool]) -> Callable[[Any], bool]:
    return lambda value: value is None or is_fine(value)


_RULES: list[tuple[str, Callable[[Any], bool], str]] = [
    ("recipe", lambda value: value in (None, *OF_RECIPE), "report, gaussian or exemplar"),
    ("hidden_dims", _unless_none(lambda value: all(map(_is_count, value))), "widths above 0"),
    ("kl_warmup", _unless_none(lambda value: 0 <= value <= 1), "between 0 and 1"),
    ("input_noise", _unless_none(lambda value: 0 <= value < math.inf), "0 or more"),
    ("boundary", lambda value: value in thresholds.RULES, f"one of {', '.join(thresholds.RULES)}"),
    ("false_alarm_rate", lambda value: 0 < value < 1, "between 0 and 1"),
    ("validation_share", lambda value: 0 < value < 1, "between 0 and 1"),
    ("contamination", _unless_none(lambda value: 0 < value <= 0.5), "more than 0 and at most 0.5, or None"),
    ("missing", lambda value: value in ("ignore", "informative"), "ignore or informative"),
    ("columns", _unless_none(lambda value: set(_kinds(value)) <= set(KINDS)), f"kinds among {', '.join(KINDS)}"),
    ("seed", lambda value: _is_whole(value) and 0 <= value < 2**32, "between 0 and 2^32 - 1"),
    ("patience", _unless_none(_is_count), "a whole number above 0, or None"),
    *((name, _unless_none(_is_count), "a whole number above 0") for name in ("latent_dim", "epochs", "num_models")),
    *((name, _is_count, "a whole number above 0") for name in ("batch_size", "num_samples")),
    ("learning_rate", _unless_none(_is_positive), "more than 0"),
    *((name, _is_positive, "more than 0") for name in ("report_weight", "limit")),
]
