"""What a run of the transactions experiment leaves behind: figures, page, scores, models and the final table."""

from __future__ import annotations

import csv
import dataclasses
import io
import shutil
from collections.abc import Mapping
from typing import Any

from rich import box
from rich.console import Console
from rich.panel import Panel
from rich.table import Table

from experiments.command_line import RunError
from experiments.fraud import figures
from experiments.fraud.config import FraudConfig
from experiments.fraud.inputs import FRAUD, Inputs, left_out_recipes, notices
from experiments.fraud.page import render_page
from experiments.fraud.results import Result, evaluate_baselines
from experiments.runs.experiment import describe_machine
from experiments.runs.run_folder import Run, disk_errors
from vae_jax.detector.model_folder import ModelError
from vae_jax.front_matter import CODE_LICENSE
from vae_jax.tables.transactions import FEATURES, KAGGLE_SET

COLLAPSE = "POSTERIOR COLLAPSE"
CARD_METRICS = ("average_precision", "roc_auc", "precision", "recall")


def conclude(config: FraudConfig, inputs: Inputs, opened: Run, results: Mapping[str, Result], output: Console) -> None:
    """Writes everything a run leaves behind, and prints the table."""
    found_baselines = evaluate_baselines(config, inputs)
    labels, split = inputs.table.labels, inputs.split
    metrics = {
        "experiment": FRAUD.name,
        "notices": notices(inputs)
        + left_out_recipes(config, inputs)
        + [collapse_notice(r) for r in results if results[r].measures["collapsed"]],
        "data": {
            "source": inputs.table.source,
            "synthetic": inputs.table.synthetic,
            "own": not set(inputs.table.feature_names) >= set(FEATURES),
            "in_file_order": inputs.table.in_file_order,
            "rows": len(labels),
            "frauds": int(labels.sum()),
            "train": len(split.train),
            "validation": len(split.validation),
            "test": len(split.test),
            "validation_frauds": int(labels[split.validation].sum()),
            "test_frauds": int(labels[split.test].sum()),
        },
        "columns": inputs.schema.describe() if inputs.schema else [],
        "recipes": {recipe: result.measures for recipe, result in results.items()},
        "settings": {recipe: vars(result.detector.settings_) for recipe, result in results.items()},
        "alarms": {recipe: result.alarms for recipe, result in results.items()},
        "baselines": {name: measures for name, (measures, _) in found_baselines.items()},
        "config": dataclasses.asdict(config),
        "command": FRAUD.command_line(config),
        "machine": describe_machine(),
    }
    opened.write_json("metrics.json", metrics)
    opened.write_text("scores.csv", scores_csv(inputs, results))
    save_models(opened, metrics, results)
    scorers = {recipe: result.scored for recipe, result in results.items()}
    scorers |= {name: scored for name, (_, scored) in found_baselines.items()}
    with disk_errors(opened.folder):
        pictures = figures.draw(opened.folder / "figures", results, scorers, metrics)
    opened.write_text("report.html", render_page(metrics, pictures, scorers))
    for notice in (notice for notice in metrics["notices"] if notice.startswith(COLLAPSE)):
        output.print(Panel(notice, title="WARNING", style="bold red"))
    output.print(result_table(metrics))
    output.print(f"report  {opened.folder / 'report.html'}", soft_wrap=True)


def save_models(opened: Run, metrics: dict, results: Mapping[str, Result]) -> None:
    """Saves each recipe's detector; the one to deploy, `gaussian` if it was trained, goes to `model`."""
    preferred = "gaussian" if "gaussian" in results else next(iter(results))
    for recipe, result in results.items():
        folder = opened.path("model" if recipe == preferred else f"model_{recipe}")
        for unfinished in opened.folder.glob(f".{folder.name}.*"):  # left by a process that was killed
            shutil.rmtree(unfinished)
        try:
            result.detector.save(folder, card_measures(metrics, recipe), card_head(metrics, recipe))
        except ModelError as error:
            raise RunError(str(error)) from error


def card_measures(metrics: dict, recipe: str) -> dict[str, str]:
    """What the model card says about the run."""
    data, measures = metrics["data"], metrics["recipes"][recipe]
    found = {
        "trained on": f"{data['train']:,} genuine rows of {data['source']}"
        + (" (SIMULATED: no use on real transactions)" if data["synthetic"] else ""),
        "test rows": f"{data['test']:,}, of which {data['test_frauds']:,} frauds",
        "false alarms among them": f"{measures['false_positives']:,}",
        "misses": f"{measures['false_negatives']:,}",
    }
    found |= {name.replace("_", " "): f"{measures[name]:.3f}" for name in CARD_METRICS if measures[name] is not None}
    return found | {"command": f"`{metrics['command']}`"}


def card_head(metrics: dict, recipe: str) -> dict[str, Any]:
    """What the model card's head says about the run."""
    data, measures = metrics["data"], metrics["recipes"][recipe]
    head: dict[str, Any] = {"metrics": [name for name in CARD_METRICS if measures[name] is not None]}
    if data["synthetic"]:
        return head | {"license": CODE_LICENSE}
    return head if data["own"] else head | {"datasets": [KAGGLE_SET]}


def collapse_notice(recipe: str) -> str:
    """The warning about a model whose latents are all unused."""
    remedy = "raise --report-weight" if recipe == "report" else "raise --kl-warmup, or try another --seed"
    return (
        f"{COLLAPSE} in recipe {recipe}: a model has no active latent, so its decoder ignores the input and "
        f"returns the same mean for every row. Try this: {remedy}."
    )


def scores_csv(inputs: Inputs, results: Mapping[str, Result]) -> str:
    """One line per test row: its number in the source (0 = first data row), label, scores and decisions."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    names = [f"{recipe}_{what}" for recipe in results for what in ("log_reconstruction_probability", "decision")]
    writer.writerow(["row", "label", *names])
    numbers = inputs.table.row_numbers
    for i, row in enumerate(inputs.split.test):
        cells = []
        for result in results.values():
            score = result.scored.test[i]
            cells += [f"{score:.9g}", "fraud" if score < result.measures["threshold"] else "genuine"]
        writer.writerow([numbers[row], inputs.table.labels[row], *cells])
    return text.getvalue()


def result_table(metrics: dict) -> Table:
    """The table at the end of a run."""
    title = "Test rows; scores are higher = more normal, and a row below the boundary raises an alarm"
    # Of 80 columns, so that the usual terminal cuts off nothing.
    table = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD, padding=0)
    for name in (
        "scorer",
        "ROC\nAUC",
        "average\nprecision",
        "95 %\ninterval",
        "precision",
        "recall",
        "false\nalarms",
        "misses",
    ):
        table.add_column(name, justify="left" if name == "scorer" else "right", overflow="fold")
    for name, measures in {**metrics["recipes"], **metrics["baselines"]}.items():
        interval = measures["average_precision_interval"]
        table.add_row(
            name.replace("_", " "),
            _number(measures["roc_auc"]),
            _number(measures["average_precision"]),
            f"{interval[0]:.3f} to {interval[1]:.3f}" if interval else "-",
            _number(measures["precision"]),
            _number(measures["recall"]),
            f"{measures['false_positives']:,}",
            f"{measures['false_negatives']:,}",
            end_section=name == list(metrics["recipes"])[-1],
        )
    return table


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"
