"""The report page: one HTML file with everything in it, readable without a network."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined

TEMPLATES = Path(__file__).parent / "templates"

CAPTIONS = {
    "histogram": "Test rows by log reconstruction probability, {recipe} recipe. The red line is the boundary: rows "
    "left of it raise an alarm. Look for how far the frauds lie from the bulk of genuine rows, and for the genuine "
    "rows left of the line. The horizontal axis is compressed towards the left.",
    "latent": "Test rows in the latent plane of the (first) {recipe} model. The axes leave out the outermost 0.4 % of "
    "the rows. Frauds need not lie apart here: what gives them away is that they are reconstructed badly.",
    "curves": "ROC (left, false alarm rate on a log scale) and precision-recall curves (right) of all scorers. With "
    "few frauds the right one tells more: how many alarms are right, at each share of frauds found.",
    "training": "Loss, reconstruction and KL by epoch. A KL term at 0 means that the latents are not in use. Spikes "
    "above 1.25 times the usual range are cut off.",
}


def render_fraud(metrics: dict, pictures: Mapping[str, Path]) -> str:
    """Renders the report page of the transactions experiment.

    Args:
      metrics: the contents of `metrics.json`.
      pictures: figures by name, from `figures.draw_fraud`.

    Returns:
      A whole HTML document.
    """
    environment = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["number"] = lambda value: "–" if value is None else f"{value:.3f}"
    shown = [{"source": _data_uri(path), "caption": _caption(name)} for name, path in _in_reading_order(pictures)]
    return environment.get_template("fraud.html").render(metrics=metrics, figures=shown, verdict=verdict(metrics))


def verdict(metrics: dict) -> str:
    """The result in a sentence or two."""
    recipes, baselines = metrics["recipes"], metrics["baselines"]
    best = max(recipes, key=lambda name: recipes[name]["average_precision"] or 0)
    measures = recipes[best]
    if measures["average_precision"] is None:
        return f"There is no fraud to find; {measures['false_positives']:,} genuine test rows raise an alarm."
    rival = max(baselines, key=lambda name: baselines[name]["average_precision"])
    frauds = measures["true_positives"] + measures["false_negatives"]
    return (
        f"At its boundary the {best} recipe finds {measures['true_positives']:,} of {frauds:,} frauds with "
        f"{measures['false_positives']:,} false alarms. Its average precision is {measures['average_precision']:.3f}; "
        f"the best baseline, {rival.replace('_', ' ')}, reaches {baselines[rival]['average_precision']:.3f}."
    )


def _in_reading_order(pictures: Mapping[str, Path]) -> list[tuple[str, Path]]:
    order = ["histogram", "curves", "latent", "training"]
    return sorted(pictures.items(), key=lambda item: order.index(item[0].split("_")[0]))


def _caption(name: str) -> str:
    kind, _, recipe = name.partition("_")
    return CAPTIONS[kind].format(recipe=recipe)


def _data_uri(path: Path) -> str:
    return f"data:image/png;base64,{base64.b64encode(path.read_bytes()).decode()}"
