"""What a run on ADBench's tables shows: means over tables in the terminal, a figure and a page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from rich.table import Table as TextTable

from experiments.page.charts import BOUNDARY, chart
from experiments.page.report import Words, render

MEASURES = {"roc_auc": "ROC AUC", "average_precision": "average precision"}
FEWEST_ROWS = 1_000
SHOWN_PUBLISHED = 12  # detectors in the figure
BOOTSTRAPS = 2_000


class Comparison:
    """Results of this run beside published ones, in percent.

    Args:
      results: one for each table, seed and detector.
      published: a row for each table and detector.
      titles: of the detectors of this run.
    """

    def __init__(self, results: Sequence[Mapping[str, Any]], published: pd.DataFrame, titles: Mapping[str, str]):
        ours = pd.DataFrame(results)
        of_table = ours.groupby("table")[["number", "rows"]].first()
        ours[list(MEASURES)] *= 100
        ours = ours.replace({"detector": {name: f"{title}, here" for name, title in titles.items()}})
        by_seed = ours.groupby(["detector", "seed"])[list(MEASURES)].mean()
        self.over_seeds: pd.DataFrame = by_seed.groupby("detector").std(ddof=0)
        ours = ours.groupby(["table", "detector"])[list(MEASURES)].mean().reset_index()
        self.rows: pd.DataFrame = pd.concat([ours, published]).join(of_table, on="table", how="inner")
        large, development = self.rows["rows"] >= FEWEST_ROWS, self.rows["number"] % 2 == 1
        groups = {
            "all": large | ~large,
            "1,000 rows and more": large,
            "development": development,
            "held-out": ~development,
        }
        self.groups: dict[str, pd.DataFrame] = {
            title: self.rows[group] for title, group in groups.items() if group.any()
        }
        self.counts: dict[str, int] = {title: group["table"].nunique() for title, group in self.groups.items()}

    @property
    def counted(self) -> str:
        """The group of tables that counts: those of 1,000 rows and more, if there are any."""
        return next(title for title in ("1,000 rows and more", "all") if title in self.groups)

    def means(self) -> dict[str, list[str]]:
        """Each detector's means over the groups of tables, best first."""
        of_group = {title: group.groupby("detector")[list(MEASURES)].mean() for title, group in self.groups.items()}
        order = of_group[self.counted].sort_values("roc_auc", ascending=False).index
        rest = [name for name in of_group["all"].index if name not in order]
        return {name: [_pair(group, name) for group in of_group.values()] for name in [*order, *rest]}

    def text_table(self) -> TextTable:
        """The means, for a terminal."""
        table = TextTable(title="Means over tables: ROC AUC / average precision, percent", title_justify="left")
        table.add_column("detector")
        for title, count in self.counts.items():
            table.add_column(f"{title} ({count})", justify="right")
        for name, cells in self.means().items():
            table.add_row(name, *cells)
        return table

    def draw(self, path: Path) -> None:
        """A dot for each detector's mean over the tables that count, with a 95 % bootstrap interval over tables."""
        rng, group = np.random.default_rng(0), self.groups[self.counted]
        by_detector = {name: of.set_index("table")[list(MEASURES)].dropna() for name, of in group.groupby("detector")}
        here = [name for name in by_detector if name.endswith(", here")]
        others = sorted(set(by_detector) - set(here), key=lambda name: -by_detector[name]["roc_auc"].mean())
        names = sorted([*here, *others[:SHOWN_PUBLISHED]], key=lambda name: by_detector[name]["roc_auc"].mean())
        with chart(path, 8.25, 0.8 + 0.27 * len(names), columns=2) as panels:
            for axes, (measure, title) in zip(panels, MEASURES.items(), strict=True):
                for height, name in enumerate(names):
                    values = by_detector[name][measure].to_numpy()
                    drawn = values[rng.integers(len(values), size=(BOOTSTRAPS, len(values)))].mean(1)
                    colour = BOUNDARY if name.startswith("VAEDetector") else "#0072B2" if name in here else "#777777"
                    axes.plot(np.quantile(drawn, [0.025, 0.975]), [height, height], color=colour, linewidth=1.2)
                    axes.plot(values.mean(), height, "o", color=colour, markersize=6)
                axes.set_yticks(range(len(names)), names if measure == "roc_auc" else [""] * len(names))
                axes.set_xlabel(f"mean {title}, percent")

    def page(self, path: Path, config: Mapping[str, Any], command: str, machine: Mapping[str, Any]) -> None:
        """Writes the page, with its figure beside it.

        Args:
          path: of the results; the page has the same name and ends in .html.
          config: the run's options.
          command: that repeats it.
          machine: versions and devices.
        """
        figure = path.with_suffix(".png")
        self.draw(figure)
        here = [name for name in self.means() if name.endswith(", here")]
        tables = []
        for (number, table), of in sorted(self.rows.groupby(["number", "table"])):
            by_name = of.set_index("detector")
            published = by_name.drop(here, errors="ignore")
            best = _pair(published, published["roc_auc"].idxmax()) if published["roc_auc"].notna().any() else "–"
            cells = [_pair(by_name, name) for name in here]
            part = "development" if number % 2 else "held-out"
            tables.append({"table": table, "rows": by_name["rows"].iloc[0], "part": part, "cells": cells, "best": best})
        found = self.means()
        ranking = ", ".join(f"{name} {cells[list(self.groups).index(self.counted)]}" for name, cells in found.items())
        words = Words(
            "All detectors compared",
            "",
            f"Means over {self.counts[self.counted]} tables ({self.counted}), with 95 % bootstrap intervals over "
            "tables. Tables differ more than detectors do, so intervals overlap; what counts is the difference on the "
            "same tables.",
            [
                f"Dot chart: mean {title} of each detector. From best to worst: {ranking}."
                for title in MEASURES.values()
            ],
        )
        text = render(
            Path(__file__).with_name("adbench.html"),
            {"notices": [], "config": dict(config), "command": command, "machine": dict(machine)},
            {"detectors": figure},
            {"detectors": words},
            verdict=self.verdict(),
            sliders={},
            means=found,
            groups_of_tables=self.counts,
            tables=tables,
            shown=here,
            numbers=path.name,
        )
        path.with_suffix(".html").write_text(text, encoding="utf-8")

    def verdict(self) -> str:
        """The result in a sentence."""
        names, place = self.means(), list(self.groups).index(self.counted)
        best = next(iter(names))
        published = next((name for name in names if not name.endswith(", here")), None)
        text = f"Best over {self.counts[self.counted]} tables ({self.counted}): {best}, {names[best][place]}"
        return f"{text}; best published: {published}, {names[published][place]}." if published else f"{text}."


def _pair(means: pd.DataFrame, name: str) -> str:
    """ROC AUC and average precision in a cell."""
    if name not in means.index:
        return "–"
    return " / ".join("–" if pd.isna(means.loc[name, m]) else f"{means.loc[name, m]:.1f}" for m in MEASURES)
