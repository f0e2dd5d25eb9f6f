"""The report page of An & Cho's experiments: the text around its figures, and the verdict."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from experiments.an_cho import published
from experiments.an_cho.results import COLUMNS, MEASURES, ahead, hardest, listed, over_classes, roc_aucs
from experiments.page.report import Words, render
from vae_jax.images.digits import CLASSES

OURS = "reconstruction_probability"
TITLES = {"mnist": "MNIST: the digit left out of training", "kdd99": "KDD99: a class of attack"}


def render_page(metrics: dict, pictures: Mapping[str, Path]) -> str:
    """Renders the page; `pictures` are those of `figures.draw`."""
    return render(
        Path(__file__).with_name("an_cho.html"),
        metrics,
        pictures,
        words(metrics),
        verdict=verdict(metrics),
        sliders={},
        columns=COLUMNS,
        measures=MEASURES,
        titles=TITLES,
        means={task: over_classes(classes) for task, classes in metrics["results"].items()},
        source=published.TONNAER,
    )


def verdict(metrics: dict) -> str:
    """The result in a few sentences."""
    results = metrics["results"]
    return " ".join(sentence for task in results for sentence in _SENTENCES[task](results[task], metrics["published"]))


def _of_mnist(classes: Mapping[str, Mapping], figures: Mapping) -> list[str]:
    means, found = over_classes(classes), roc_aucs(classes, OURS)
    better = ahead(classes, OURS, "pca")
    sentences = [
        f"MNIST: by reconstruction probability the VAE is ahead of PCA for {len(better)} of {len(classes)} digits "
        f"(mean ROC AUC {means[OURS]['roc_auc']:.3f} against {means['pca']['roc_auc']:.3f})."
    ]
    if figures and len(classes) == CLASSES:
        ours = hardest(found)
        theirs = hardest({digit: published.roc_auc_of(digit) for digit in classes})
        same = "The same" if set(ours) == set(theirs) else "Not the same"
        sentences.append(
            f"Its hardest digits are {listed(f'{digit} ({found[digit]:.3f})' for digit in ours)}. {same} three as in "
            f"the published repetition: {listed(f'{digit} ({published.roc_auc_of(digit):.2f})' for digit in theirs)}."
        )
    return sentences


def _of_kdd99(classes: Mapping[str, Mapping], figures: Mapping) -> list[str]:
    better = ahead(classes, OURS, "pca")
    means = over_classes(classes)
    return [
        f"KDD99: by reconstruction probability the VAE is ahead of PCA for {len(better)} of {len(classes)} classes of "
        f"attack (mean ROC AUC {means[OURS]['roc_auc']:.3f} against {means['pca']['roc_auc']:.3f}); "
        f"with a likelihood for each kind of column it reaches {means['columns']['roc_auc']:.3f}."
    ]


_SENTENCES = {"mnist": _of_mnist, "kdd99": _of_kdd99}


def words(metrics: dict) -> dict[str, Words]:
    """The text of every figure that `figures.draw` may draw, by name, in page order."""
    found = {}
    for task, classes in metrics["results"].items():
        values = ", ".join(f"{name} {value:.3f}" for name, value in roc_aucs(classes, OURS).items())
        several = "Mean ± standard deviation over seeds. " if len(metrics["config"]["seeds"]) > 1 else ""
        caption = f"{several}Look for the classes where all methods fail."
        if task == "mnist":
            if metrics["published"]:
                caption += f" Grey lines: the VAE with {published.TONNAER_LATENTS} latents of {published.TONNAER}."
            caption += (
                " Below the dashed line a method takes the anomalous digit for more normal than the digits it was "
                "trained on."
            )
        found[f"roc_auc_{task}"] = Words(
            "ROC AUC by class",
            TITLES[task],
            caption,
            [f"Dot plot: ROC AUC of each method by class. VAE by reconstruction probability: {values}."],
        )
    found["examples"] = Words(
        "Examples",
        "",
        "Images of each anomalous digit (rows), by reconstruction probability: least normal on the left, most normal "
        "on the right. Thin and plain ones cost few nats, so they pass as normal whatever they show.",
        ["A row for each digit: its eight images of the lowest scores, then its eight of the highest."],
    )
    return found
