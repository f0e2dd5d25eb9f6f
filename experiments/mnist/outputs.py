"""What a run of the digits experiment leaves behind: figures, page, measures and the final table."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from rich.console import Console
from rich.table import Table

from experiments.command_line import RunError
from experiments.mnist import figures, measures, page
from experiments.mnist.config import MnistConfig, settings
from experiments.mnist.inputs import MNIST, Inputs, notices
from experiments.mnist.models import Model
from experiments.runs import loop
from experiments.runs.experiment import describe_machine
from experiments.runs.run_folder import Run, disk_errors
from vae_jax.networks import count_parameters
from vae_jax.training import TrainState


def conclude(
    config: MnistConfig,
    inputs: Inputs,
    opened: Run,
    found: list[Model],
    trained: Mapping[str, TrainState],
    plane: TrainState | None,
    output: Console,
) -> None:
    """Measures, draws and writes everything a run leaves behind, and prints the table."""
    bits = measures.draw_test_bits(inputs.test, config.seed)
    logs = {model.name: loop.read_log(opened, model.name) for model in found}
    measured = {
        model.name: describe(model, trained[model.name], config, inputs, logs[model.name], bits, output)
        for model in found
    }
    metrics = {
        "experiment": MNIST.name,
        "notices": notices(inputs),
        "data": {
            "source": inputs.digits.source,
            "synthetic": inputs.digits.synthetic,
            "train": len(inputs.train),
            "validation": len(inputs.validation),
            "test": len(inputs.test),
        },
        "models": measured,
        "config": settings(config),
        "command": MNIST.command_line(config),
        "machine": describe_machine(),
    }
    opened.write_json("metrics.json", metrics)
    published = {name: model["published"] for name, model in measured.items() if model["published"] is not None}
    with disk_errors(opened.folder):
        paths = figures.draw(
            opened.folder / "figures",
            trained,
            found,
            logs,
            published,
            plane,
            bits,
            len(inputs.train) // found[0].batch_size * found[0].batch_size,
            config.figure == "aevb",
        )
    opened.write_text("report.html", page.render_page(metrics, paths))
    output.print(result_table(metrics))
    output.print(page.verdict(metrics))
    output.print(f"report  {opened.folder / 'report.html'}", soft_wrap=True)


def describe(
    model: Model,
    state: TrainState,
    config: MnistConfig,
    inputs: Inputs,
    log: list[dict],
    bits: np.ndarray,
    output: Console,
) -> dict:
    """Everything that is told about a model."""
    epoch = int(state.step) // (len(inputs.train) // model.batch_size)
    best = next((line for line in log if line["epoch"] == epoch), None)
    if best is None:
        raise RunError(f"{loop.METRICS_LOG}: the line of epoch {epoch} of {model.name} is missing or damaged")
    told = {
        "title": model.title,
        "objective": model.objective,
        "layers": len(model.latent_dims),
        "samples": model.samples,
        "latents": list(model.latent_dims),
        "parameters": count_parameters(state.params),
        "best_epoch": epoch,
        "loss": best["loss"],
        "validation_loss": best["validation_loss"],
        "validation_kl": best["validation_kl"],
        "images_per_second": float(np.median([line["images_per_second"] for line in log])),
        "published": None,
    }
    if config.figure == "aevb":
        return {**told, "active_latents": measures.active_by_layer(state, bits, model.latent_dims)}
    if not inputs.digits.synthetic:
        told["published"] = measures.PUBLISHED.get((model.objective, len(model.latent_dims), model.samples))
    return {**told, **measures.evaluate(model, state, bits, config.test_samples, output)}


def result_table(metrics: dict) -> Table:
    """The table at the end of a run."""
    if metrics["config"]["figure"] == "aevb":
        table = Table(title="Bound on log p(x), nats an image (higher is better)")
        titles = ("model", "training", "held-out", "KL", "latents in use", "images/s")
    else:
        table = Table(title="Negative log likelihood of test images, nats (lower is better)")
        titles = ("model", "-log p(x)", "published", "difference", "latents in use", "images/s")
    for title in titles:
        table.add_column(title, justify="left" if title == "model" else "right")
    for model in metrics["models"].values():
        in_use = " + ".join(map(str, model["active_latents"]))
        rate = f"{model['images_per_second']:,.0f}"
        if metrics["config"]["figure"] == "aevb":
            numbers = (f"{-model['loss']:.2f}", f"{-model['validation_loss']:.2f}", f"{model['validation_kl']:.1f}")
        else:
            likelihood, published = model["negative_log_likelihood"], model["published"]
            numbers = (
                f"{likelihood:.2f}",
                "-" if published is None else f"{published:.2f}",
                "-" if published is None else f"{likelihood - published:+.2f}",
            )
        table.add_row(model["title"], *numbers, in_use, rate)
    return table
