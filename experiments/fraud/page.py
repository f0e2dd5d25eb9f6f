"""The report page of the transactions experiment: the text around its figures, and the verdict."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from experiments.baselines import TITLES
from experiments.fraud.figures import score_name
from experiments.measures import Scored
from experiments.page import slider
from experiments.page.charts import minus
from experiments.page.report import COLLAPSE, Words, render, training_alternatives


def render_page(metrics: dict, pictures: Mapping[str, Path], scored: Mapping[str, Scored]) -> str:
    """Renders the page; `pictures` are those of `figures.draw`, and `scored` has each scorer's rows, for the slider."""
    sliders = {
        f"histogram_{recipe}": slider.positions(scored[recipe].test, scored[recipe].test_labels, measures["threshold"])
        for recipe, measures in metrics["recipes"].items()
    }
    return render(
        Path(__file__).with_name("fraud.html"),
        metrics,
        pictures,
        words(metrics, scored),
        verdict=verdict(metrics),
        sliders=sliders,
        titles=TITLES,
    )


def verdict(metrics: dict) -> str:
    """The result in a sentence."""
    recipes, baselines = metrics["recipes"], metrics["baselines"]
    # Without frauds, the one whose model is to be used.
    best = max(recipes, key=lambda name: (recipes[name]["average_precision"] or 0, name == "gaussian"))
    measures = recipes[best]
    genuine = measures["false_positives"] + measures["true_negatives"]
    alarms = f"{measures['false_positives']:,} of {genuine:,} genuine test rows"
    if measures["average_precision"] is None:
        return f"There is no fraud to find; with the {best} recipe, {alarms} raise an alarm."
    rival = max(baselines, key=lambda name: baselines[name]["average_precision"])
    precision, rivals = measures["average_precision"], baselines[rival]["average_precision"]
    low, high = measures["average_precision_interval"]
    place = "ahead of" if rivals < low else "behind" if rivals > high else "level with"
    return (
        f"At its boundary, the {best} recipe finds {measures['true_positives']:,} of "
        f"{measures['true_positives'] + measures['false_negatives']:,} frauds, with false alarms on {alarms}. "
        f"Its average precision, {precision:.3f}, is {place} that of the best baseline, {TITLES[rival]} ({rivals:.3f})."
    )


def words(metrics: dict, scored: Mapping[str, Scored]) -> dict[str, Words]:
    """The text of every figure that `figures.draw` may draw, by name, in page order."""
    recipes = metrics["recipes"]
    found = {f"histogram_{recipe}": _histogram(recipe, recipes[recipe], scored[recipe]) for recipe in recipes}
    found["curves"] = _curves({**recipes, **metrics["baselines"]})
    for recipe in recipes:
        found[f"latent_{recipe}"] = Words(
            "Latent space",
            f"{recipe} recipe{', first model' if len(recipes[recipe]['models']) > 1 else ''}",
            "Test rows in the latent plane. Frauds need not stand apart here: scores are of all features. The axes "
            "leave out the outermost 0.4 % of rows.",
            ["Scatter plot: test rows by posterior mean, genuine rows in blue, frauds in orange and larger."],
        )
    found["training"] = Words(
        "Training",
        "",
        f"Each recipe by epoch. Look for a validation line that stays close to the training line. {COLLAPSE} Spikes "
        "beyond 1.25 times the usual range are cut off.",
        training_alternatives(recipes),
    )
    return found


def _histogram(recipe: str, measures: dict, scored: Scored) -> Words:
    kinds = []
    for label, name in ((0, "genuine rows"), (1, "frauds")):
        scores = scored.test[scored.test_labels == label]
        if len(scores):
            low, high = np.quantile(scores, [0.25, 0.75])
            kinds.append(f"half of the {len(scores):,} {name} lie between {minus(low)} and {minus(high)} nats")
    return Words(
        "Scores and boundary",
        f"{recipe} recipe",
        f"Test rows by {score_name(recipe)}. Rows left of the red boundary raise an alarm. Look for frauds "
        "far from the bulk of genuine rows, and for genuine rows left of the boundary. The horizontal axis is "
        "compressed towards the left.",
        [
            f"Histogram with a logarithmic count axis: {', '.join(kinds)}; the lowest score is "
            f"{minus(scored.test.min())}. A vertical line marks the boundary at {minus(measures['threshold'], 1)} nats."
        ],
    )


def _curves(scorers: Mapping[str, dict]) -> Words:
    found = {TITLES.get(name, name): measures["average_precision"] for name, measures in scorers.items()}
    ranking = ", ".join(
        f"{name} {value:.3f}" for name, value in sorted(found.items(), key=lambda item: -(item[1] or 0)) if value
    )
    return Words(
        "All scorers compared",
        "",
        "ROC curves (first; false alarm rate on a log scale) and precision-recall curves (second) of all scorers, "
        "recipes in bold. With few frauds, the second says more: the share of alarms that are right, at each recall. "
        "Look for the line that stays high longest.",
        [
            "Line chart: recall against the false alarm rate, a rising line for each scorer.",
            "Line chart: precision against recall, a falling line for each scorer. Average precision, from best to "
            f"worst: {ranking}.",
        ],
    )
