"""Figures of the transactions experiment."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from sklearn.metrics import precision_recall_curve, roc_curve

from experiments.baselines import TITLES
from experiments.page.charts import BOUNDARY, FRAUD, GENUINE, HistogramScale, chart, draw_training, minus, tick

if TYPE_CHECKING:
    from experiments.fraud.results import Result
    from experiments.measures import Scored

SCORER_COLOURS = ("#0072B2", "#D55E00", "#999999", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
HISTOGRAM_BINS = 60


def draw(folder: Path, results: Mapping[str, Result], scorers: Mapping[str, Scored], metrics: dict) -> dict[str, Path]:
    """Draws every figure as PNG and SVG; returns the path of each PNG file by name.

    `results` are those of the recipes, `scorers` the rows of each recipe and baseline; `metrics` is `metrics.json`.
    """
    folder.mkdir(parents=True, exist_ok=True)
    paths = {}
    for recipe, result in results.items():
        paths[f"histogram_{recipe}"] = folder / f"histogram_{recipe}.png"
        scored, what = result.scored, score_name(recipe)
        draw_histogram(paths[f"histogram_{recipe}"], scored.test, scored.test_labels, result.measures, what)
        paths[f"latent_{recipe}"] = folder / f"latent_{recipe}.png"
        draw_latents(paths[f"latent_{recipe}"], result.latents, scored.test, scored.test_labels, what)
    if metrics["data"]["test_frauds"]:
        paths["curves"] = folder / "curves.png"
        draw_curves(paths["curves"], scorers, results)
    paths["training"] = folder / "training.png"
    draw_training(paths["training"], {recipe: result.log for recipe, result in results.items()})
    return paths


def score_name(recipe: str) -> str:
    """What a recipe's score is."""
    return "log density" if recipe == "exemplar" else "log reconstruction probability"


def draw_histogram(path: Path, scores: np.ndarray, labels: np.ndarray, measures: dict, what: str) -> None:
    """Histogram of the test rows' scores, which are `what`, with the boundary in red; bins look equally wide."""
    boundary = measures["threshold"]
    scale = HistogramScale.over(scores, boundary)
    edges = scale.stretch(np.linspace(scale.compress(scale.bottom), 0, HISTOGRAM_BINS))
    with chart(path, 7.4, 4.2) as (axes,):
        for label, name, colour in ((0, "genuine", GENUINE), (1, "fraud", FRAUD)):
            kind = scores[labels == label]
            axes.hist(kind, edges, histtype="stepfilled", color=colour, alpha=0.65, label=f"{name} ({len(kind):,})")
        axes.axvline(boundary, color=BOUNDARY, linewidth=2, label=f"boundary ({minus(boundary, 1)})")
        axes.set_yscale("log")
        axes.set_ylim(bottom=0.6)  # so that a bar of one row is visible
        axes.set_ylabel("test rows (log scale)")
        axes.set_xlabel(f"{what} in nats (higher = more normal)")
        axes.set_xscale("function", functions=(scale.compress, scale.stretch))
        axes.set_xlim(edges[0], scale.top)
        axes.set_xticks(scale.ticks())
        axes.xaxis.set_major_formatter(lambda x, _: tick(x))
        axes.patch.set_gid("plot")  # for the page's slider
        counts = (
            f"alarms (left of the boundary): {measures['true_positives']:,} frauds and "
            f"{measures['false_positives']:,} genuine rows; missed frauds: {measures['false_negatives']:,}"
        )
        axes.set_title(counts, fontsize="medium", loc="left", pad=28, gid="counts")
        axes.legend(
            loc="lower left", bbox_to_anchor=(0, 1), ncols=3, borderaxespad=0.2, handlelength=1.2, columnspacing=5
        )


def draw_curves(path: Path, scorers: Mapping[str, Scored], recipes: Collection[str]) -> None:
    """ROC and precision-recall curves of all scorers, recipes in bold."""
    with chart(path, 8.25, 4.6, columns=2) as (roc, precision_recall):
        for (name, scored), colour in zip(scorers.items(), SCORER_COLOURS, strict=False):
            line = {"color": colour, "label": TITLES.get(name, name), "linewidth": 2.2 if name in recipes else 1.2}
            false_alarms, recall, _ = roc_curve(scored.test_labels, -scored.test)
            roc.plot(false_alarms, recall, **line)
            precision, recall, _ = precision_recall_curve(scored.test_labels, -scored.test)
            precision_recall.plot(recall, precision, **line)
        roc.set(xlabel="false alarm rate", ylabel="recall (frauds found)", xscale="log", xlim=(1e-4, 1), ylim=(0, 1.02))
        precision_recall.set(xlabel="recall (frauds found)", ylabel="precision", xlim=(0, 1), ylim=(0, 1.02))
        for axes in (roc, precision_recall):  # in both, because a page takes the figure apart
            axes.legend(
                loc="lower left", bbox_to_anchor=(-0.1, 1), ncols=2, fontsize="small", handlelength=1.2, columnspacing=1
            )


def draw_latents(path: Path, latents: np.ndarray, scores: np.ndarray, labels: np.ndarray, what: str) -> None:
    """Test rows by the two latents that vary most; with a single latent, by latent and score, which is `what`."""
    order = np.argsort(-latents.var(0))[:2]
    x = latents[:, order[0]]
    y = latents[:, order[1]] if len(order) > 1 else scores
    with chart(path, 3.95, 3.8) as (axes,):
        for label, name, colour, size in ((0, "genuine", GENUINE, 4), (1, "fraud", FRAUD, 12)):
            kind = labels == label
            axes.scatter(x[kind], y[kind], s=size, color=colour, alpha=0.5, linewidths=0, label=name, rasterized=True)
        axes.set_xlabel(f"posterior mean of latent {order[0] + 1}")
        axes.set_ylabel(f"posterior mean of latent {order[1] + 1}" if len(order) > 1 else what)
        for values, limit in ((x, axes.set_xlim), (y, axes.set_ylim)):
            low, high = np.quantile(values, [0.002, 0.998])
            margin = 0.3 * (high - low) + 1e-3
            limit(low - margin, high + margin)
        axes.legend(markerscale=2)
