"""The words around each figure of the pages: headings, what to look for, and what is drawn, for who can't see it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import NamedTuple

import numpy as np

from experiments.baselines import TITLES
from experiments.figures import minus
from experiments.measures import Scored

COLLAPSE = "A KL term at 0 means that the latents are not in use."


class Words(NamedTuple):
    """What is written around a figure.

    Attributes:
      heading: above it; figures in a row that share it stand under one.
      title: which of those it is; empty if it is the only one.
      caption: what to look for.
      alternatives: what is drawn, in words, for each panel.
    """

    heading: str
    title: str
    caption: str
    alternatives: list[str]


def fraud_words(metrics: dict, scored: Mapping[str, Scored]) -> dict[str, Words]:
    """The words for the figures of the transactions experiment, by name, in the page's order.

    Args:
      metrics: the contents of `metrics.json`.
      scored: each recipe's rows.

    Returns:
      Words for every figure that `figures.draw_fraud` may draw.
    """
    recipes = metrics["recipes"]
    words = {f"histogram_{recipe}": _histogram(recipe, recipes[recipe], scored[recipe]) for recipe in recipes}
    words["curves"] = _curves({**recipes, **metrics["baselines"]})
    for recipe in recipes:
        words[f"latent_{recipe}"] = Words(
            "Latent space",
            f"{recipe} recipe{', first model' if len(recipes[recipe]['models']) > 1 else ''}",
            "Test rows in the latent plane. Frauds need not lie apart here: what gives them away is that they are "
            "reconstructed badly. The axes leave out the outermost 0.4 % of the rows.",
            [
                "Scatter plot: a dot for each test row, placed by its posterior mean, genuine rows in blue, frauds in "
                "orange and larger."
            ],
        )
    words["training"] = Words(
        "Training",
        "",
        f"Each recipe by epoch. Look for a validation line that stays beside the training line. {COLLAPSE} Spikes "
        "above 1.25 times the usual range are cut off.",
        _training_alternatives(recipes),
    )
    return words


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
        "Test rows by log reconstruction probability. Rows left of the boundary, in red, raise an alarm. Look for how "
        "far the frauds lie from the bulk of genuine rows, and for the genuine rows left of the line. The horizontal "
        "axis is compressed towards the left.",
        [
            f"Histogram with a logarithmic count: {', '.join(kinds)}; the lowest score is "
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
        "ROC curves (first; the false alarm rate on a log scale) and precision-recall curves (second) of all scorers, "
        "the recipes in bold. With few frauds the second tells more: how many alarms are right, at each share of "
        "frauds found. Look for the line that stays up longest.",
        [
            "Line chart: the share of frauds found, against the share of genuine rows that raise an alarm, a rising "
            "line for each scorer.",
            "Line chart: precision against the share of frauds found, a falling line for each scorer. Average "
            f"precision, from best to worst: {ranking}.",
        ],
    )


def _training_alternatives(names: Iterable[str]) -> list[str]:
    return [
        f"Line chart: {what} of {name} by epoch, a line for training and one for validation."
        for name in names
        for what in ("loss", "reconstruction term", "KL")
    ]


def celeba_words(metrics: dict, figures: Iterable[str]) -> dict[str, Words]:
    """The words for the figures of the faces experiment, by name, in the page's order.

    Args:
      metrics: the contents of `metrics.json`.
      figures: their names.

    Returns:
      Words for each.
    """
    words = {}
    for which in ("held-out", "training"):
        words[f"reconstructions_{which}"] = Words(
            "Reconstructions",
            f"{which} pictures",
            "Each picture above its reconstruction from the posterior mean. Look for the same pose, hair and light; "
            "fine detail is lost.",
            [f"Pairs of rows: {which} pictures, and under each picture its reconstruction."],
        )
    for density in ("mixture", "prior"):
        words[f"samples_{density}"] = Words(
            "New faces",
            f"drawn from the {density}",
            f"Each face is decoded from latents drawn from the {density}. Look for faces that could be photographs, "
            "for variety, and for ghosts and double outlines, which come from latents where no picture lies.",
            [f"Rows of faces, each decoded from another draw from the {density}."],
        )
    words["interpolations"] = Words(
        "Between two faces",
        "",
        "From one held-out picture to another, along a straight line and along a great circle. The pictures themselves "
        "stand at both ends. Look for faces at every step, with no jump.",
        [
            "For each pair of pictures two rows of decoded faces that change step by step from the first picture into "
            "the second: one row linear, one spherical."
        ],
    )
    words["traversals"] = Words(
        "What single latents do",
        "",
        "The most active latents, each varied over three standard deviations of the prior to both sides, the others as "
        "in one held-out picture. Look for what changes along a row: pose, light, hair, background.",
        ["A row for each latent: the same face decoded with the latent at values from −3 on the left to +3."],
    )
    for attribute in (name.removeprefix("edits_") for name in figures if name.startswith("edits_")):
        title = attribute.replace("_", " ")
        words[f"edits_{attribute}"] = Words(
            "Attributes",
            title,
            "The attribute's direction in the latent space, taken away from held-out pictures (left) and added to them "
            "(right). Look for a change of this attribute alone.",
            [
                f"A row for each picture: the picture, then decoded faces with the direction of “{title}” at strengths "
                "from −2 to +2."
            ],
        )
    words["latents"] = Words(
        "Latent space",
        "",
        "First: draws from the posteriors of held-out pictures against the prior; where they differ, faces drawn from "
        "the prior lie where no picture does. Second: how much each latent is used.",
        [
            "Histogram of the draws, with the bell curve of the prior over it.",
            f"Falling line: the KL of each latent in nats, most used first; {metrics['evaluation']['active_latents']} "
            f"of {metrics['config']['latent_dim']} are active.",
        ],
    )
    words["training"] = Words(
        "Training",
        "",
        f"By epoch. Look for a validation line that stays beside the training line. {COLLAPSE}",
        _training_alternatives(["the VAE"]),
    )
    return words
