"""The report page of the faces experiment: the text around its figures, and the verdict."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

from experiments.page.report import COLLAPSE, Words, render, training_alternatives


def render_page(metrics: dict, pictures: Mapping[str, Path]) -> str:
    """Renders the page; `pictures` are the figures' PNG files by name."""
    template, told = Path(__file__).with_name("celeba.html"), words(metrics, pictures)
    return render(template, metrics, pictures, told, verdict=verdict(metrics), sliders={}, prior=prior(metrics))


def prior(metrics: dict) -> str:
    """What new faces "from the prior" are sampled from."""
    temperature = metrics["config"]["temperature"]
    return "the prior" if temperature == 1 else f"the prior at temperature {temperature:g}"


def verdict(metrics: dict) -> str:
    """The result in a sentence."""
    evaluation = metrics["evaluation"]
    distances = {name: value["mean"] for name, value in evaluation["sliced_wasserstein"].items()}
    return (
        f"Held-out pictures are reconstructed with an RMSE of {evaluation['rmse']:.3f} (mean picture: "
        f"{evaluation['mean_picture_rmse']:.3f}). The sliced Wasserstein distance to them is "
        f"{distances['mixture_samples']:.1f} for new faces from the mixture, {distances['prior_samples']:.1f} for new "
        f"faces from {prior(metrics)} and {distances['training_pictures']:.1f} for training pictures."
    )


def words(metrics: dict, figures: Iterable[str]) -> dict[str, Words]:
    """The text of the given figures, by name, in page order."""
    found = {}
    for which in ("held-out", "training"):
        found[f"reconstructions_{which}"] = Words(
            "Reconstructions",
            f"{which} pictures",
            "Each picture above its reconstruction from the posterior mean. Look for the same pose, hair and light; "
            "fine detail is lost.",
            [f"Pairs of rows: {which} pictures, with each one's reconstruction below it."],
        )
    why = {
        "mixture": "",
        "prior": " The higher the KL, the fewer samples of the prior are near any picture; the mixture, fitted to the "
        "latents of training pictures, is there for that.",
    }
    for density, reason in why.items():
        sampled_from = prior(metrics) if density == "prior" else f"the {density}"
        found[f"samples_{density}"] = Words(
            "New faces",
            f"sampled from {sampled_from}",
            f"Each face is decoded from latents sampled from {sampled_from}. Look for faces that could be photographs, "
            "for variety, and for ghosts and double outlines: these come from latents far from any picture's."
            f"{reason}",
            [f"Rows of faces, each decoded from its own sample of {sampled_from}."],
        )
    found["interpolations"] = Words(
        "Between two faces",
        "",
        "From one held-out picture to another, along a straight line and along a great circle, with the pictures "
        "themselves at both ends. Look for a face at every step, and no jumps.",
        [
            "Two rows for each pair of pictures, one linear and one spherical: decoded faces that change step by step "
            "from the first picture into the second."
        ],
    )
    found["traversals"] = Words(
        "What single latents do",
        "",
        "The most active latents of one held-out picture, each varied by up to three standard deviations of the prior "
        "either way while the others stay fixed. Look for what changes along a row: pose, light, hair, background.",
        ["A row for each latent: the same face decoded with that latent at values from −3 on the left to +3."],
    )
    for attribute in (name.removeprefix("edits_") for name in figures if name.startswith("edits_")):
        title = attribute.replace("_", " ")
        found[f"edits_{attribute}"] = Words(
            "Attributes",
            title,
            "The attribute's direction in latent space, subtracted from held-out pictures (left) and added to them "
            "(right). Look for a change in this attribute alone.",
            [
                f"A row for each picture: the picture, then decoded faces with the direction of “{title}” at strengths "
                "from −2 to +2."
            ],
        )
    found["latents"] = Words(
        "Latent space",
        "",
        "First: samples from the posteriors of held-out pictures against the prior; where the two differ, the prior's "
        "samples lie far from any picture. Second: how much each latent is used.",
        [
            "Histogram of the samples, overlaid with the bell curve of the prior.",
            f"Falling line: the KL of each latent in nats, most used first; "
            f"{metrics['evaluation']['informative_latents']} of {metrics['config']['latent_dim']} are above 0.1 nats.",
        ],
    )
    found["training"] = Words(
        "Training",
        "",
        f"By epoch. Look for a validation line that stays close to the training line. {COLLAPSE}",
        training_alternatives(["the VAE"]),
    )
    return found
