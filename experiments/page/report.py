"""The report page: one self-contained HTML file that needs no network."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from itertools import groupby
from pathlib import Path
from typing import Any, NamedTuple

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from experiments.page import embedding
from experiments.page.charts import minus

TEMPLATES = Path(__file__).parent / "templates"
COLLAPSE = "A KL of 0 means that the latents are not in use."


class Words(NamedTuple):
    """The text around a figure.

    Attributes:
      heading: shared by consecutive figures.
      title: tells figures under one heading apart; empty for a single figure.
      caption: what to look for.
      alternatives: alternative text of each panel.
    """

    heading: str
    title: str
    caption: str
    alternatives: list[str]


def render(template: Path, metrics: dict, pictures: Mapping[str, Path], words: Mapping[str, Words], **more: Any) -> str:
    """Renders an experiment's report page.

    Args:
      template: the experiment's own, which extends `page.html`.
      metrics: the contents of `metrics.json`.
      pictures: the figures' PNG files by name.
      words: for every possible figure, in page order.
      more: other template variables: at least `verdict`, the result in a sentence, and `sliders`, by figure name.
    """
    environment = Environment(
        loader=FileSystemLoader([template.parent, TEMPLATES]),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["number"] = lambda value: "–" if value is None else f"{value:.3f}"
    environment.filters["count"] = lambda value: f"{value:,.0f}"
    environment.filters["minus"] = minus
    environment.filters["setting"] = _setting
    figures = _figures(pictures, words)
    groups = [(heading, list(group)) for heading, group in groupby(figures, lambda figure: figure["heading"])]
    return with_titles(environment.get_template(template.name).render(metrics=metrics, groups=groups, **more))


def with_titles(page: str) -> str:
    """Puts beside each cell of the tables its column's title, which a phone shows there; see `page.css`."""
    return re.sub(r"<table.*?</table>", lambda table: _with_titles(table[0]), page, flags=re.DOTALL)


def _with_titles(table: str) -> str:
    titles = re.findall(r'<th scope="col">(.*?)</th>', table)

    def row(found: re.Match) -> str:
        waiting = iter(titles)
        return re.sub('<(td|th scope="row")', lambda cell: f'{cell[0]} data-title="{next(waiting)}"', found[0])

    return re.sub(r"<tr.*?</tr>", row, table, flags=re.DOTALL)


def _figures(pictures: Mapping[str, Path], words: Mapping[str, Words]) -> list[dict]:
    """The figures that exist, in the order of `words`; charts as vectors if there is an SVG file."""
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
    return " ".join(map(str, value)) or "none" if isinstance(value, tuple | list) else str(value)


def training_alternatives(names: Iterable[str]) -> list[str]:
    """Alternative text of the training curves, one per panel."""
    return [
        f"Line chart: {what} of {name} by epoch, for training and validation."
        for name in names
        for what in ("loss", "reconstruction term", "KL")
    ]
