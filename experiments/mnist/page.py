"""The report page of the digits experiment: the text around its figures, and the verdict."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

from experiments.page.charts import minus
from experiments.page.report import Words, render


def render_page(metrics: dict, pictures: Mapping[str, Path]) -> str:
    """Renders the page; `pictures` are the figures' PNG files by name."""
    template = Path(__file__).with_name("mnist.html")
    return render(template, metrics, pictures, words(metrics, pictures), verdict=verdict(metrics), sliders={})


def verdict(metrics: dict) -> str:
    """The result in a sentence."""
    models = metrics["models"]
    if metrics["config"]["figure"] == "aevb":
        bounds = ", ".join(f"{minus(-model['validation_loss'], 1)} with {model['title']}" for model in models.values())
        return f"The bound on held-out images, in nats: {bounds}."
    best = min(models.values(), key=lambda model: model["negative_log_likelihood"])
    text = f"{best['title']} has the best log likelihood: −log p(x) is {best['negative_log_likelihood']:.2f} nats"
    if best["published"] is not None:
        text += f" (published: {best['published']:.2f})"
    rivals = [m for m in models.values() if m["objective"] == "vae" and m["layers"] == best["layers"] and m is not best]
    if best["objective"] == "iwae" and rivals:
        rival = min(rivals, key=lambda model: model["negative_log_likelihood"])
        ahead = rival["negative_log_likelihood"] - best["negative_log_likelihood"]
        text += f", {ahead:.2f} better than {rival['title']} ({rival['negative_log_likelihood']:.2f})"
    return text + "."


def words(metrics: dict, figures: Iterable[str]) -> dict[str, Words]:
    """The text of the given figures, by name, in page order."""
    models = metrics["models"]
    found = {
        "curves": Words(
            "Training",
            "",
            "The bound that each model is trained with, on held-out images, with the sign changed; lower is better. "
            "Dotted lines are the published values of −log p(x). The bounds of "
            "VAEs and IWAEs don't compare with each other, because an IWAE's is tighter; the table's −log p(x) does.",
            ["Line chart: the negative bound of each model on held-out images by epoch."],
        ),
        "bounds": Words(
            "The bound against the number of training images",
            "",
            "As figure 2 of Kingma & Welling 2013: the bound by the number of training images seen. Look for "
            "superfluous latents doing no harm: the KL term keeps them from overfitting.",
            ["Line chart with a logarithmic axis of images: each number of latents' bound rises, then levels off."],
        ),
        "reconstructions": Words(
            "Reconstructions",
            "",
            "Test images as bits, and each model's mean of p(x|z) at one sample of its posterior. Look for the same "
            "digit in the same hand.",
            ["A row of test images; below it, a row of reconstructions for each model."],
        ),
    }
    for name, model in models.items():
        found[f"samples_{name}"] = Words(
            "New digits",
            model["title"],
            "Means of p(x|z) at samples of the prior. Look for digits that one could read, and for variety.",
            [f"Rows of new digits by {model['title']}."],
        )
    found["plane"] = Words(
        "The plane of two latents",
        "",
        "A model with two latents, decoded at the quantiles of the prior, as figure 4 of Kingma & Welling 2013. Look "
        "for every digit somewhere, and smooth passages between them.",
        ["A square of decoded digits that change smoothly from one class to the next."],
    )
    return {name: word for name, word in found.items() if name in set(figures)}
