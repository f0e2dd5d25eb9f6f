"""What a run of the faces experiment leaves behind: sheets of pictures, measures, page and the final table."""

from __future__ import annotations

import dataclasses
from itertools import islice
from pathlib import Path

import jax
import numpy as np
from rich.console import Console
from rich.panel import Panel
from rich.table import Table

from experiments.celeba import face_model, figures, gallery, measures, page
from experiments.celeba.card import model_card
from experiments.celeba.config import CelebaConfig
from experiments.celeba.face_model import FaceModel
from experiments.celeba.inputs import CELEBA, Inputs, notices
from experiments.celeba.model import NAME, Encoded
from experiments.page.charts import draw_training
from experiments.page.sheets import draw_sheet
from experiments.runs import loop
from experiments.runs.experiment import describe_machine
from experiments.runs.run_folder import Run, disk_errors
from vae_jax.networks import count_parameters
from vae_jax.training import TrainState, stream_key

EXAMPLES_LEFT_OUT = 20  # listed on the page and in metrics.json
SHEET_FACES = 60
EDITED_ATTRIBUTES, EDITED_PICTURES = 8, 3
LONGEST_FILE_NAME = 100  # bytes; file systems allow 255, and encrypted ones 143


def conclude(
    config: CelebaConfig,
    inputs: Inputs,
    opened: Run,
    state: TrainState,
    training: Encoded,
    held_out: Encoded,
    output: Console,
) -> None:
    """Measures, draws and writes everything a run leaves behind, and prints the table."""
    pictures = inputs.images.pictures
    labels = pictures.attributes[inputs.train]
    model = face_model.study_latents(
        state,
        training.mean,
        training.log_var,
        labels,
        pictures.attribute_names,
        config.mixture_components,
        config.seed,
    )
    face_model.save(model, opened)
    log = loop.read_log(opened, NAME)
    evaluation = {
        **measures.evaluate(config, inputs, model, held_out),
        "train_images_per_second": float(np.median([line["images_per_second"] for line in log])),
        "parameters": count_parameters(state.params),
    }
    warnings = measures.warnings(evaluation, int(state.step))
    metrics = {
        "experiment": CELEBA.name,
        "notices": notices(inputs) + warnings,
        "data": {
            "source": pictures.source,
            "synthetic": pictures.synthetic,
            "pictures": len(inputs.images.usable),
            "train": len(inputs.train),
            "validation": len(inputs.validation),
            "test": len(inputs.test),
            "left_out": len(inputs.images.left_out),
            "left_out_examples": dict(islice(inputs.images.left_out.items(), EXAMPLES_LEFT_OUT)),
        },
        "evaluation": evaluation,
        "best_epoch": int(state.step) // (len(inputs.train) // config.batch_size),
        "weight": config.used_weight,
        "mixture_components": len(model.mixture.weights),
        "config": dataclasses.asdict(config),
        "command": CELEBA.command_line(config),
        "machine": describe_machine(),
    }
    opened.write_json("metrics.json", metrics)
    opened.write_text("README.md", model_card(metrics, pictures.attribute_names))
    with disk_errors(opened.folder):
        paths = draw(opened.folder / "figures", config, inputs, model, log)
        figures.draw_latents(paths["latents"], held_out, evaluation["informative_latents"])
    opened.write_text("report.html", page.render_page(metrics, paths))
    for warning in warnings:
        output.print(Panel(warning, title="WARNING", style="bold red"))
    output.print(result_table(metrics))
    output.print(page.verdict(metrics))
    output.print(f"report  {opened.folder / 'report.html'}", soft_wrap=True)


def draw(folder: Path, config: CelebaConfig, inputs: Inputs, model: FaceModel, log: list[dict]) -> dict[str, Path]:
    """Draws all sheets of pictures and the training curves; returns each figure's path by name."""
    folder.mkdir(parents=True, exist_ok=True)
    pixels = inputs.images.pixels
    rng = np.random.default_rng(config.seed)
    training = pixels[rng.choice(inputs.train, min(16, len(inputs.train)), replace=False)]
    held_out = pixels[rng.choice(inputs.test, min(16, len(inputs.test)), replace=False)]
    key = stream_key(jax.random.key(config.seed), "figures")
    half = min(4, len(held_out) // 2)
    sheets = {
        "reconstructions_training": gallery.reconstructions(model, training),
        "reconstructions_held-out": gallery.reconstructions(model, held_out),
        "samples_prior": gallery.sheet_of(gallery.samples(model, "prior", key, SHEET_FACES, config.temperature)),
        "samples_mixture": gallery.sheet_of(gallery.samples(model, "mixture", key, SHEET_FACES)),
        "interpolations": gallery.interpolations(model, held_out[:half], held_out[half : 2 * half]),
        "traversals": gallery.traversals(model, held_out[0]),
    }
    sheets |= {
        f"edits_{name}": gallery.edits(model, held_out[:EDITED_PICTURES], name)
        for name in islice(model.editable, EDITED_ATTRIBUTES)
    }
    paths = {name: folder / f"{_file_name(name, i)}.png" for i, name in enumerate([*sheets, "latents", "training"])}
    for name, sheet in sheets.items():
        draw_sheet(paths[name], sheet)
    draw_training(paths["training"], {NAME: log})
    return paths


def _file_name(name: str, index: int) -> str:
    """A figure's name, or its number if it holds an attribute's name that no file can have."""
    fine = name.isprintable() and "/" not in name and len(name.encode()) <= LONGEST_FILE_NAME
    return name if fine else f"figure_{index}"


def result_table(metrics: dict) -> Table:
    """The table at the end of a run."""
    evaluation = metrics["evaluation"]
    table = Table(title="Sliced Wasserstein distance to held-out pictures, times 1,000 (lower is better)")
    table.add_column("pictures")
    for level in evaluation["sliced_wasserstein"]["training_pictures"]:
        table.add_column(level if level == "mean" else f"{level} px", justify="right")
    for name, distances in evaluation["sliced_wasserstein"].items():
        table.add_row(name.replace("_", " "), *(f"{value:.1f}" for value in distances.values()))
    table.caption = (
        f"held-out: RMSE {evaluation['rmse']:.4f}, PSNR {evaluation['psnr']:.2f} dB, SSIM {evaluation['ssim']:.3f}, "
        f"KL {evaluation['kl']:.1f} nats, {evaluation['active_latents']} active latents, "
        f"{evaluation['informative_latents']} with more than {measures.INFORMATIVE} nats; "
        f"{evaluation['train_images_per_second']:,.0f} images/s"
    )
    return table
