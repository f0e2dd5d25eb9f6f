"""The report page of the faces experiment: the words around its figures, and the verdict."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

from experiments.page.report import COLLAPSE, Words, render, training_alternatives


def render_page(metrics: dict, pictures: Mapping[str, Path]) -> str:
    """Renders the page.

    Args:
      metrics: the contents of `metrics.json`.
      pictures: the PNG files of the figures by name.

    Returns:
      A whole HTML document.
    """
    template, told = Path(__file__).with_name("celeba.html"), words(metrics, pictures)
    return render(template, metrics, pictures, told, verdict=verdict(metrics), sliders={})


def verdict(metrics: dict) -> str:
    """The result in a sentence."""
    evaluation = metrics["evaluation"]
    distances = {name: value["mean"] for name, value in evaluation["sliced_wasserstein"].items()}
    return (
        f"Held-out pictures are reconstructed with an RMSE of {evaluation['rmse']:.3f} (one mean picture for all: "
        f"{evaluation['mean_picture_rmse']:.3f}), and new faces lie at a sliced Wasserstein distance of "
        f"{distances['mixture_samples']:.1f} from them if drawn from the mixture, {distances['prior_samples']:.1f} if "
        f"drawn from the prior; training pictures lie at {distances['training_pictures']:.1f}."
    )


def words(metrics: dict, figures: Iterable[str]) -> dict[str, Words]:
    """The words for the figures, by name, in the page's order.

    Args:
      metrics: the contents of `metrics.json`.
      figures: their names.

    Returns:
      Words for each.
    """
    found = {}
    for which in ("held-out", "training"):
        found[f"reconstructions_{which}"] = Words(
            "Reconstructions",
            f"{which} pictures",
            "Each picture above its reconstruction from the posterior mean. Look for the same pose, hair and light; "
            "fine detail is lost.",
            [f"Pairs of rows: {which} pictures, and under each picture its reconstruction."],
        )
    for density in ("mixture", "prior"):
        found[f"samples_{density}"] = Words(
            "New faces",
            f"drawn from the {density}",
            f"Each face is decoded from latents drawn from the {density}. Look for faces that could be photographs, "
            "for variety, and for ghosts and double outlines, which come from latents where no picture lies.",
            [f"Rows of faces, each decoded from another draw from the {density}."],
        )
    found["interpolations"] = Words(
        "Between two faces",
        "",
        "From one held-out picture to another, along a straight line and along a great circle. The pictures themselves "
        "stand at both ends. Look for faces at every step, with no jump.",
        [
            "For each pair of pictures two rows of decoded faces that change step by step from the first picture into "
            "the second: one row linear, one spherical."
        ],
    )
    found["traversals"] = Words(
        "What single latents do",
        "",
        "The most active latents, each varied over three standard deviations of the prior to both sides, the others as "
        "in one held-out picture. Look for what changes along a row: pose, light, hair, background.",
        ["A row for each latent: the same face decoded with the latent at values from −3 on the left to +3."],
    )
    for attribute in (name.removeprefix("edits_") for name in figures if name.startswith("edits_")):
        title = attribute.replace("_", " ")
        found[f"edits_{attribute}"] = Words(
            "Attributes",
            title,
            "The attribute's direction in the latent space, taken away from held-out pictures (left) and added to them "
            "(right). Look for a change of this attribute alone.",
            [
                f"A row for each picture: the picture, then decoded faces with the direction of “{title}” at strengths "
                "from −2 to +2."
            ],
        )
    found["latents"] = Words(
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
    found["training"] = Words(
        "Training",
        "",
        f"By epoch. Look for a validation line that stays beside the training line. {COLLAPSE}",
        training_alternatives(["the VAE"]),
    )
    return found
