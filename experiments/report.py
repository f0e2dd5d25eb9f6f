"""The report page: one HTML file with everything in it, readable without a network."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from PIL import Image

TEMPLATES = Path(__file__).parent / "templates"
LARGEST_PNG = 400_000  # bytes
WEBP_QUALITY = 90

FRAUD_CAPTIONS = {
    "histogram": "Test rows by log reconstruction probability, {which} recipe. The red line is the boundary: rows "
    "left of it raise an alarm. Look for how far the frauds lie from the bulk of genuine rows, and for the genuine "
    "rows left of the line. The horizontal axis is compressed towards the left.",
    "curves": "ROC (left, false alarm rate on a log scale) and precision-recall curves (right) of all scorers. With "
    "few frauds the right one tells more: how many alarms are right, at each share of frauds found.",
    "latent": "Test rows in the latent plane of the (first) {which} model. The axes leave out the outermost 0.4 % of "
    "the rows. Frauds need not lie apart here: what gives them away is that they are reconstructed badly.",
    "training": "Loss, reconstruction and KL by epoch. A KL term at 0 means that the latents are not in use. Spikes "
    "above 1.25 times the usual range are cut off.",
}

CELEBA_CAPTIONS = {
    "reconstructions": "{which} pictures, each above its reconstruction from the posterior mean. Look for the same "
    "pose, hair and light; fine detail is lost.",
    "samples": "New faces, decoded from latents drawn from the {which}.",
    "interpolations": "From one held-out picture to another, along a straight line and along a great circle. The "
    "pictures themselves stand at both ends.",
    "traversals": "The most active latents, each varied over three standard deviations of the prior to both sides, "
    "the others as in one held-out picture.",
    "edits": "{which}: its direction in the latent space taken away (left) and added (right) to held-out pictures.",
    "latents": "Left: draws from the posteriors of held-out pictures against the prior; where they differ, faces drawn "
    "from the prior lie where no picture does. Right: how much each latent is used.",
    "training": "Loss, reconstruction and KL by epoch. A KL term at 0 means that the latents are not in use.",
}


def render_fraud(metrics: dict, pictures: Mapping[str, Path]) -> str:
    """Renders the report page of the transactions experiment.

    Args:
      metrics: the contents of `metrics.json`.
      pictures: figures by name, from `figures.draw_fraud`.

    Returns:
      A whole HTML document.
    """
    return _render("fraud.html", metrics, pictures, FRAUD_CAPTIONS, fraud_verdict(metrics))


def render_celeba(metrics: dict, pictures: Mapping[str, Path]) -> str:
    """Renders the report page of the faces experiment.

    Args:
      metrics: the contents of `metrics.json`.
      pictures: figures by name.

    Returns:
      A whole HTML document.
    """
    return _render("celeba.html", metrics, pictures, CELEBA_CAPTIONS, celeba_verdict(metrics))


def _render(
    template: str, metrics: dict, pictures: Mapping[str, Path], captions: Mapping[str, str], verdict: str
) -> str:
    environment = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["number"] = lambda value: "–" if value is None else f"{value:.3f}"
    kinds = list(captions)
    in_order = sorted(pictures.items(), key=lambda item: kinds.index(item[0].partition("_")[0]))
    figures = [
        {"source": _data_uri(path), "caption": _caption(captions, *name.partition("_")[::2])} for name, path in in_order
    ]
    return environment.get_template(template).render(metrics=metrics, figures=figures, verdict=verdict)


def _caption(captions: Mapping[str, str], kind: str, which: str) -> str:
    caption = captions[kind].format(which=which.replace("_", " "))
    return caption[0].upper() + caption[1:]


def fraud_verdict(metrics: dict) -> str:
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


def celeba_verdict(metrics: dict) -> str:
    """The result in two sentences."""
    evaluation = metrics["evaluation"]
    distances = {name: value["mean"] for name, value in evaluation["sliced_wasserstein"].items()}
    return (
        f"Held-out pictures are reconstructed with an RMSE of {evaluation['rmse']:.3f} (one mean picture: "
        f"{evaluation['mean_picture_rmse']:.3f}), with {evaluation['active_latents']} latents in use. The sliced "
        f"Wasserstein distance to held-out pictures is {distances['prior_samples']:.1f} for faces drawn from the "
        f"prior, {distances['mixture_samples']:.1f} for those from the mixture, {distances['reconstructions']:.1f} for "
        f"reconstructions, and {distances['training_pictures']:.1f} for training pictures."
    )


def _data_uri(path: Path) -> str:
    """The picture as text; sheets of photographs as WebP, a tenth of the size, or the page would have 15 MB."""
    data, kind = path.read_bytes(), "png"
    if len(data) > LARGEST_PNG:
        packed = io.BytesIO()
        Image.open(path).convert("RGB").save(packed, "WEBP", quality=WEBP_QUALITY)
        data, kind = packed.getvalue(), "webp"
    return f"data:image/{kind};base64,{base64.b64encode(data).decode()}"
