"""Measures of the trained recipes and the baselines on held-out rows."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from experiments.baselines import score_baselines
from experiments.fraud.config import FraudConfig
from experiments.fraud.inputs import Inputs
from experiments.fraud.models import fitted, score_rows, steps_per_epoch
from experiments.measures import Scored, bootstrap_interval, measure
from experiments.runs import loop
from experiments.runs.run_folder import Run
from vae_jax.detector import VAEDetector
from vae_jax.detector.recipes import posterior_means
from vae_jax.detector.settings import Recipe
from vae_jax.networks import count_parameters
from vae_jax.networks.columns import dense
from vae_jax.training import TrainState, active_latents

ALARMS, REASONS = 10, 3  # how many alarms the page explains, by how many cells each


@dataclass(frozen=True)
class Result:
    """A trained recipe and its results on held-out rows.

    Attributes:
      measures: its entry in `metrics.json`.
      scored: the models' averaged scores, higher = more normal.
      latents: the first model's posterior means of the test rows, shape (N, L).
      log: the lines of its training log.
      alarms: the test rows least normal, with what makes them so.
    """

    detector: VAEDetector
    measures: dict
    scored: Scored
    latents: np.ndarray
    log: list[dict]
    alarms: list[dict] = field(default_factory=list)


@dataclass(frozen=True)
class Applied:
    """What a recipe's K models say about the N held-out rows: validation rows first, then test rows.

    Attributes:
      log_probs: log reconstruction probabilities, higher = more normal, shape (K, N), or (1, N) in the exemplar recipe.
      rows_per_second: of scoring, over all models.
      latents: posterior means, shape (K, N, L).
      alarms: the test rows least normal, with what makes them so.
    """

    detector: VAEDetector
    log_probs: np.ndarray
    rows_per_second: float
    latents: np.ndarray
    alarms: list[dict]


def apply(recipe: Recipe, state: TrainState, config: FraudConfig, inputs: Inputs) -> Applied:
    """Scores the held-out rows with every model of a recipe, on all devices."""
    x = inputs.x[np.concatenate([inputs.split.validation, inputs.split.test])]
    detector = fitted(recipe, state, config, inputs)
    log_probs, rows_per_second = score_rows(detector, x)
    alarms = explain_alarms(detector, _scored(log_probs.mean(0), inputs), inputs)
    latents = posterior_means(detector.vae_, detector.params_, x, detector.exemplars_)
    return Applied(detector, log_probs, rows_per_second, latents, alarms)


def evaluate(recipe: Recipe, applied: Applied, config: FraudConfig, inputs: Inputs, opened: Run) -> Result:
    """Measures each model of a recipe, and their averaged scores."""
    validation, test = inputs.split.validation, inputs.split.test
    genuine = inputs.table.labels[np.concatenate([validation, test])] == 0
    active = [int(active_latents(mean[genuine]).sum()) for mean in applied.latents]
    log_probs, detector = applied.log_probs, applied.detector

    averaged = _scored(log_probs.mean(0), inputs)
    of_scores = active if len(log_probs) == len(active) else [min(active)]  # the exemplar recipe's models share one
    models = [
        {**measure(_scored(scores, inputs), config.boundary, config.false_alarm_rate), "active_latents": count}
        for scores, count in zip(log_probs, of_scores, strict=True)
    ]
    log = loop.read_log(opened, recipe)
    measures = {
        **_measure_with_interval(averaged, config),
        "active_latents": min(active),
        "collapsed": min(active) == 0 and recipe != "exemplar",  # whose kernels are then equally wide everywhere
        "best_epoch": detector.n_steps_ // steps_per_epoch(config, inputs),
        "parameters": count_parameters(detector.params_) // len(active),
        "train_rows_per_second": float(np.median([line["rows_per_second"] for line in log])),
        "score_rows_per_second": applied.rows_per_second,
        "models": models,
        "models_mean": _over_models(models, np.mean),
        "models_sd": _over_models(models, np.std),
    }
    return Result(detector, measures, averaged, applied.latents[0, len(validation) :], log, applied.alarms)


def explain_alarms(detector: VAEDetector, scored: Scored, inputs: Inputs) -> list[dict]:
    """The alarms of the lowest scores among the test rows, and the cells that speak most against each."""
    lowest = [i for i in np.argsort(scored.test, kind="stable")[:ALARMS] if scored.test[i] < detector.offset_]
    rows = inputs.split.test[lowest]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # of gaps, which `notices` tells
        reasons = detector.reasons(inputs.take(rows), REASONS) if len(rows) else []
    return [
        {"row": int(number), "fraud": bool(scored.test_labels[i]), "score": float(scored.test[i]), "reasons": sentences}
        for i, number, sentences in zip(lowest, inputs.table.row_numbers[rows], reasons, strict=True)
    ]


def _scored(scores: np.ndarray, inputs: Inputs) -> Scored:
    """Splits the scores of validation rows followed by test rows."""
    labels, split = inputs.table.labels, inputs.split
    cut = len(split.validation)
    return Scored(scores[:cut], labels[split.validation], scores[cut:], labels[split.test])


def _measure_with_interval(scored: Scored, config: FraudConfig) -> dict:
    interval = bootstrap_interval(scored.test, scored.test_labels, config.seed)
    return {**measure(scored, config.boundary, config.false_alarm_rate), "average_precision_interval": interval}


def _over_models(models: list[dict], statistic: Callable[[list[float]], float]) -> dict:
    """A statistic over the models, for each measure that all of them have."""
    return {
        name: float(statistic([model[name] for model in models]))
        for name in models[0]
        if all(model[name] is not None for model in models)
    }


def evaluate_baselines(config: FraudConfig, inputs: Inputs) -> dict[str, tuple[dict, Scored]]:
    """Fits the baselines on the training rows and measures them like a recipe."""
    rows = np.concatenate([inputs.split.validation, inputs.split.test])
    results = {}
    x = dense(inputs.schema.layout, inputs.x) if inputs.schema else inputs.x
    scored_by = score_baselines(x[inputs.split.train], x[rows], config.seed, one_hot=inputs.schema is not None)
    for name, scores in scored_by.items():
        scored = _scored(scores, inputs)
        results[name] = (_measure_with_interval(scored, config), scored)
    return results
