"""The report page: one HTML file with everything in it, readable without a network."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import groupby
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from experiments import embedding, slider
from experiments.baselines import TITLES
from experiments.captions import Words, celeba_words, fraud_words
from experiments.figures import minus
from experiments.measures import Scored

TEMPLATES = Path(__file__).parent / "templates"


def render_fraud(metrics: dict, pictures: Mapping[str, Path], scored: Mapping[str, Scored]) -> str:
    """Renders the report page of the transactions experiment.

    Args:
      metrics: the contents of `metrics.json`.
      pictures: the PNG files of the figures by name, from `figures.draw_fraud`.
      scored: each recipe's rows, for the slider.

    Returns:
      A whole HTML document.
    """
    sliders = {
        f"histogram_{recipe}": slider.positions(scored[recipe].test, scored[recipe].test_labels, measures["threshold"])
        for recipe, measures in metrics["recipes"].items()
    }
    figures = _figures(pictures, fraud_words(metrics, scored))
    return _render("fraud.html", metrics, figures, verdict=fraud_verdict(metrics), sliders=sliders)


def render_celeba(metrics: dict, pictures: Mapping[str, Path]) -> str:
    """Renders the report page of the faces experiment.

    Args:
      metrics: the contents of `metrics.json`.
      pictures: the PNG files of the figures by name.

    Returns:
      A whole HTML document.
    """
    figures = _figures(pictures, celeba_words(metrics, pictures))
    return _render("celeba.html", metrics, figures, verdict=celeba_verdict(metrics), sliders={})


def _render(template: str, metrics: dict, figures: list[dict], **more) -> str:
    environment = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["number"] = lambda value: "–" if value is None else f"{value:.3f}"
    environment.filters["count"] = lambda value: f"{value:,.0f}"
    environment.filters["minus"] = minus
    environment.filters["setting"] = _setting
    environment.filters["title_of"] = lambda name: TITLES.get(name, name.replace("_", " "))
    groups = [(heading, list(group)) for heading, group in groupby(figures, lambda figure: figure["heading"])]
    return environment.get_template(template).render(metrics=metrics, groups=groups, **more)


def _figures(pictures: Mapping[str, Path], words: Mapping[str, Words]) -> list[dict]:
    """The figures that there are, in the order of the words for them: charts as vectors, where there is an SVG file."""
    found = []
    for name in (name for name in words if name in pictures):
        vector = pictures[name].with_suffix(".svg")
        content = embedding.chart(name, vector) if vector.exists() else embedding.sheet(pictures[name])
        found.append({"name": name, **words[name]._asdict(), **content})
    return found


def _setting(value: Any) -> str:
    """An option's value as a user would type it."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:g}"
    return " ".join(map(str, value)) if isinstance(value, tuple | list) else str(value)


def fraud_verdict(metrics: dict) -> str:
    """The result in a sentence."""
    recipes, baselines = metrics["recipes"], metrics["baselines"]
    best = max(recipes, key=lambda name: recipes[name]["average_precision"] or 0)
    measures = recipes[best]
    genuine = measures["false_positives"] + measures["true_negatives"]
    alarms = f"{measures['false_positives']:,} of {genuine:,} genuine test rows"
    if measures["average_precision"] is None:
        return f"There is no fraud to find; with the {best} recipe {alarms} raise an alarm."
    rival = max(baselines, key=lambda name: baselines[name]["average_precision"])
    precision, rivals = measures["average_precision"], baselines[rival]["average_precision"]
    low, high = measures["average_precision_interval"]
    place = "ahead of" if rivals < low else "behind" if rivals > high else "level with"
    return (
        f"At its boundary the {best} recipe finds {measures['true_positives']:,} of "
        f"{measures['true_positives'] + measures['false_negatives']:,} frauds, while {alarms} raise a false alarm; "
        f"its average precision, {precision:.3f}, is {place} that of the best baseline, {TITLES[rival]}: {rivals:.3f}."
    )


def celeba_verdict(metrics: dict) -> str:
    """The result in a sentence."""
    evaluation = metrics["evaluation"]
    distances = {name: value["mean"] for name, value in evaluation["sliced_wasserstein"].items()}
    return (
        f"Held-out pictures are reconstructed with an RMSE of {evaluation['rmse']:.3f} (one mean picture for all: "
        f"{evaluation['mean_picture_rmse']:.3f}), and new faces lie at a sliced Wasserstein distance of "
        f"{distances['mixture_samples']:.1f} from them if drawn from the mixture, {distances['prior_samples']:.1f} if "
        f"drawn from the prior; training pictures lie at {distances['training_pictures']:.1f}."
    )
