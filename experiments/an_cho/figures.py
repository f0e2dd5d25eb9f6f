"""Figures of An & Cho's experiments."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from experiments.an_cho.pieces import EXAMPLES
from experiments.an_cho.published import roc_auc_of
from experiments.an_cho.results import METHODS
from experiments.page.charts import chart
from experiments.page.sheets import Sheet, draw_sheet
from vae_jax.images.digits import SIDE, Digits

COLOURS = dict(zip(METHODS, ("#D55E00", "#E69F00", "#0072B2", "#009E73", "#56B4E9", "#CC79A7"), strict=True))
SHAPES = dict(zip(METHODS, "os^DvP", strict=True))
SPREAD = 0.7  # of a class's marks, in units of the distance between classes


def draw(folder: Path, metrics: Mapping, records: Sequence[Mapping], images: Digits | None) -> dict[str, Path]:
    """Draws every figure; returns the path of each PNG file by name."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = {}
    for task, classes in metrics["results"].items():
        paths[f"roc_auc_{task}"] = folder / f"roc_auc_{task}.png"
        draw_roc_auc(paths[f"roc_auc_{task}"], task, classes, bool(metrics["published"]))
    if images is not None:
        paths["examples"] = folder / "examples.png"
        first = [record for record in records if record["task"] == "mnist" and record["seed"] == records[0]["seed"]]
        pixels = images.test if metrics["config"]["on"] == "test" else images.train
        draw_sheet(paths["examples"], examples(first, pixels))
    return paths


def draw_roc_auc(path: Path, task: str, classes: Mapping[str, Mapping], compared: bool) -> None:
    """Plots the ROC AUC of each class by each method: mean ± standard deviation over seeds, and what is published."""
    methods = list(next(iter(classes.values())))
    places = np.arange(len(classes))
    with chart(path, 8.25, 4.2) as (axes,):
        for shift, method in zip(np.linspace(-SPREAD / 2, SPREAD / 2, len(methods)), methods, strict=True):
            of = [classes[name][method]["roc_auc"] for name in classes]
            axes.errorbar(
                places + shift,
                [values["mean"] for values in of],
                yerr=[values["sd"] for values in of],
                fmt=SHAPES[method],
                color=COLOURS[method],
                markersize=5,
                label=METHODS[method],
            )
        if task == "mnist":
            if compared:
                values = [roc_auc_of(name) for name in classes]
                axes.scatter(places, values, marker="_", s=500, color="#777777", label="published: VAE, 32 latents")
            axes.axhline(0.5, color="#777777", linewidth=1, linestyle="--")
        axes.set_xticks(places, list(classes))
        axes.set_xlabel("digit taken as the anomaly" if task == "mnist" else "class of attack")
        axes.set_ylabel("ROC AUC")
        for edge in places[:-1] + 0.5:
            axes.axvline(edge, color="#999999", linewidth=0.5, alpha=0.5)
        axes.grid(axis="x", visible=False)
        axes.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=3, borderaxespad=0.2, fontsize="small")


def examples(records: Sequence[Mapping], pixels: np.ndarray) -> Sheet:
    """A row for each anomalous digit: the images that look least normal, then a gap, then those that look most so."""
    blank = np.ones((1, SIDE, SIDE))
    rows = []
    for record in records:
        least, most = (pixels[record[name]].reshape(-1, SIDE, SIDE) / 255 for name in ("least_normal", "most_normal"))
        rows.append(np.concatenate([_filled(least), blank, _filled(most[::-1])]))
    sheet = np.broadcast_to(np.stack(rows)[..., None], (len(rows), 2 * EXAMPLES + 1, SIDE, SIDE, 3))
    above = [""] * (2 * EXAMPLES + 1)
    above[0], above[-1] = "least normal", "most normal"
    return Sheet(sheet, [record["anomaly"] for record in records], above)


def _filled(images: np.ndarray) -> np.ndarray:
    """Fills up with white images if a tiny test set has too few of a digit."""
    return np.concatenate([images, np.ones((EXAMPLES - len(images), SIDE, SIDE))])
