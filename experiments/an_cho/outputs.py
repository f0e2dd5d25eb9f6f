"""What a run of An & Cho's experiments leaves behind: measures, figures, page and the final table."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence

from rich.console import Console
from rich.table import Table

from experiments.an_cho import figures, page, published
from experiments.an_cho.config import AnChoConfig
from experiments.an_cho.inputs import AN_CHO, Inputs, describe_data, training_rows
from experiments.an_cho.results import COLUMNS, MEASURES, over_classes, summarise
from experiments.runs import processes
from experiments.runs.experiment import describe_machine
from experiments.runs.run_folder import Run, disk_errors

TABLE_TITLES = {"mnist": "MNIST, by anomalous digit", "kdd99": "KDD99, by class of attack"}


def conclude(config: AnChoConfig, inputs: Inputs, opened: Run, records: Sequence[Mapping], output: Console) -> None:
    """Writes everything a run leaves behind, and prints the tables."""
    metrics = {
        "experiment": AN_CHO.name,
        "notices": list(inputs.notices),
        "data": describe_data(config, inputs),
        "train_rows": training_rows(config, inputs),
        "counts": {record["task"]: {} for record in records},
        "results": (results := summarise(records)),
        "means": {task: over_classes(classes) for task, classes in results.items()},
        "published": {} if inputs.digits is None or inputs.digits.synthetic else published.figures(),
        "config": settings(config),
        "command": AN_CHO.command_line(config),
        "machine": describe_machine(),
    }
    for record in records:
        metrics["counts"][record["task"]].update(record["counts"])
    opened.write_json("metrics.json", metrics)
    with disk_errors(opened.folder):
        pictures = figures.draw(opened.folder / "figures", metrics, records, inputs.digits)
    opened.write_text("report.html", page.render_page(metrics, pictures))
    for task, classes in metrics["results"].items():
        output.print(result_table(task, classes, bool(metrics["published"])))
    output.print(page.verdict(metrics))
    output.print(f"report  {opened.folder / 'report.html'}", soft_wrap=True)


def settings(config: AnChoConfig) -> dict:
    """The options that a run had a use for."""
    unused = ("save_every", *processes.OPTIONS)
    return {name: value for name, value in dataclasses.asdict(config).items() if name not in unused}


def result_table(task: str, classes: Mapping[str, Mapping], compared: bool) -> Table:
    """ROC AUC of each class by method, and the mean of each measure over the classes.

    Digits are `compared` with the published figures, if they are MNIST's.
    """
    table = Table(title=TABLE_TITLES[task])
    means = over_classes(classes)
    for title in ("ROC AUC", *(COLUMNS[method] for method in means)):
        table.add_column(title, justify="left" if title == "ROC AUC" else "right")
    compared = compared and task == "mnist"
    if compared:
        table.add_column("published: VAE, 32 latents", justify="right")
    for name, of in classes.items():
        cells = [f"{of[method]['roc_auc']['mean']:.3f}" for method in means]
        if compared:
            cells.append(f"{published.roc_auc_of(name):.2f}")
        table.add_row(name, *cells, end_section=name == [*classes][-1])
    for measure, title in MEASURES.items():
        table.add_row(f"mean {title}", *(f"{of[measure]:.3f}" for of in means.values()))
    return table
