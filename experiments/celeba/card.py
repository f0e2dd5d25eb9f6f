"""The model card of a run of the faces experiment, as model hubs want it."""

from __future__ import annotations

from typing import Any

from vae_jax.front_matter import CODE_LICENSE, LICENCE, front_matter
from vae_jax.images.pictures import KAGGLE_SET

TAGS = ["faces", "image-generation", "variational-autoencoder", "jax", "flax"]
MEASURES = {"rmse": "RMSE", "psnr": "PSNR, dB", "ssim": "SSIM", "kl": "KL, nats"}
OF_CELEBA = "5_o_Clock_Shadow"  # an attribute that only CelebA's own lists have


def model_card(metrics: dict[str, Any], attribute_names: tuple[str, ...]) -> str:
    """Describes a trained face model for its users, in Markdown.

    Args:
      metrics: the contents of `metrics.json`.
      attribute_names: those of the pictures.
    """
    data, evaluation, config = metrics["data"], metrics["evaluation"], metrics["config"]
    celeba, size = OF_CELEBA in attribute_names, config["image_size"]
    lines = [
        *_head(data["synthetic"], celeba),
        "",
        f"# Faces at {size} x {size}: convolutional variational autoencoder",
        "",
        f"{evaluation['parameters']:,} parameters, {config['latent_dim']} latents; trained by vae_jax "
        f"{metrics['machine']['packages']['vae_jax']}, the best of {config['epochs']:,} epochs being "
        f"{metrics['best_epoch']:,}.",
        "",
        "## Use",
        "",
        "    vae-jax faces sample --model FOLDER   # also reconstruct, interpolate, traverse, edit",
        "",
        "FOLDER is the whole run folder, in which this card is. In a clone: `bash run.sh faces`.",
        "",
        "## Data",
        "",
        f"- {data['source']}" + (" (DRAWN: no photographs)" if data["synthetic"] else ""),
        f"- training {data['train']:,}, validation {data['validation']:,}, test {data['test']:,} pictures; "
        f"{data['left_out']:,} left out because they can't be used",
        "",
        "## Measures",
        "",
        "Of reconstructions of the test pictures:",
        "",
        *(f"- {title}: {evaluation[name]:.4g}" for name, title in MEASURES.items()),
        f"- RMSE of one mean picture for all: {evaluation['mean_picture_rmse']:.4g}",
        f"- latents with a KL above 0.1 nats: {evaluation['informative_latents']} of {config['latent_dim']}",
        "",
        "Sliced Wasserstein distance to the test pictures, times 1,000 (lower is better):",
        "",
        *(
            f"- {name.replace('_', ' ')}: {distances['mean']:.1f}"
            for name, distances in evaluation["sliced_wasserstein"].items()
        ),
        "",
        f"Command: `{metrics['command']}`",
        "",
        *(f"**{notice}**\n" for notice in metrics["notices"]),
        "## Limits of use",
        "",
        "- New faces follow the training pictures, in what these show often and in what they lack.",
        "- Fine detail is lost: what the latents don't hold is averaged over.",
        "- A reconstruction is no proof of what a person looks like. Do not use it to recognise anybody.",
        "",
        "## Licence",
        "",
        LICENCE + (" CelebA's pictures are for non-commercial research only." if celeba else ""),
        "",
    ]
    return "\n".join(lines)


def _head(synthetic: bool, celeba: bool) -> list[str]:
    license = {"license": CODE_LICENSE} if synthetic else {}
    return front_matter(
        **license,
        pipeline_tag="unconditional-image-generation",
        tags=TAGS,
        datasets=[KAGGLE_SET] if celeba else [],
        metrics=list(MEASURES),
    )
