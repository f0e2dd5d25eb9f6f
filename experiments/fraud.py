"""Card transactions: train VAEs on genuine rows, score the rest by reconstruction probability, draw and report."""

from __future__ import annotations

import csv
import dataclasses
import io
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from rich.console import Console
from rich.panel import Panel
from rich.table import Table

from experiments import figures, loop, processes, report, runs, stopping
from experiments.baselines import score_baselines
from experiments.command_line import RunError, run
from experiments.experiment import Experiment, announce, describe_machine
from experiments.fraud_config import FraudConfig, Recipe, check
from experiments.fraud_recipes import Inputs, fitted, prepare, score_rows, train_recipe
from experiments.measures import Scored, bootstrap_interval, measure
from experiments.progress import console
from experiments.startup import prepare_jax
from vae_jax.data.scaling import constant_features
from vae_jax.detector import VAEDetector
from vae_jax.model_folder import ModelError
from vae_jax.networks import count_parameters
from vae_jax.recipes import posterior_means
from vae_jax.training import TrainState, active_latents


def main(arguments: Sequence[str]) -> None:
    """Runs the experiment from its command line."""
    output = console()
    with stopping.immediate(), processes.together():
        config, inputs, opened = FRAUD.start(arguments)
        announce(output, describe_data(inputs), opened, notices(inputs))
        with FRAUD.resumable(opened):
            states = {recipe: train_recipe(recipe, config, inputs, opened, output) for recipe in config.recipes}
            outcomes = {recipe: apply(recipe, states[recipe], config, inputs) for recipe in config.recipes}
            if processes.finish():
                results = {recipe: evaluate(recipe, outcomes[recipe], config, inputs, opened) for recipe in outcomes}
                conclude(config, inputs, opened, results, output)


def _describe_inputs(inputs: Inputs) -> dict:
    return {"fingerprint": inputs.fingerprint(), **inputs.scaler.to_json()}


FRAUD = Experiment("fraud", FraudConfig, check, prepare, _describe_inputs, divided=lambda config: config.num_models)


def describe_data(inputs: Inputs) -> list[str]:
    """The data in two lines."""
    split, labels = inputs.split, inputs.table.labels
    return [
        inputs.table.source,
        f"{len(labels):,} rows, {labels.sum():,} frauds; training {len(split.train):,}, "
        f"validation {len(split.validation):,}, test {len(split.test):,}",
    ]


def notices(inputs: Inputs) -> list[str]:
    """What a reader of the results must know about the data."""
    found = []
    labels, split = inputs.table.labels, inputs.split
    if inputs.table.synthetic:
        found.append(
            "SIMULATED DATA. These rows are drawn by a random number generator. No result of this run says "
            "anything about real transactions."
        )
    if not labels[split.test].any():
        found.append("No fraud among the test rows: ROC AUC, average precision, recall and the curves are left out.")
    constant = constant_features(inputs.table.features[split.train])
    if constant.any():
        names = ", ".join(np.array(inputs.table.feature_names)[constant])
        found.append(f"Constant in the training rows: {names}. Any other value will look like an anomaly.")
    return found


@dataclass(frozen=True)
class Result:
    """A trained recipe and what it makes of the held-out rows.

    Attributes:
      detector: its models.
      measures: its entry in `metrics.json`.
      scored: the averaged scores, higher = more normal.
      latents: the first model's posterior means of the test rows, shape (N, L).
      log: the lines of its training log.
    """

    detector: VAEDetector
    measures: dict
    scored: Scored
    latents: np.ndarray
    log: list[dict]


@dataclass(frozen=True)
class Applied:
    """What the K trained models of a recipe say of the held-out rows: first those for validation, then for test.

    Attributes:
      detector: the models.
      log_probs: log reconstruction probabilities, higher = more normal, shape (K, N).
      rows_per_second: at which rate they came, of all models.
      latents: posterior means, shape (K, N, L).
    """

    detector: VAEDetector
    log_probs: np.ndarray
    rows_per_second: float
    latents: np.ndarray


def apply(recipe: Recipe, state: TrainState, config: FraudConfig, inputs: Inputs) -> Applied:
    """Scores the held-out rows with every model of a recipe, on all devices."""
    x = inputs.x[np.concatenate([inputs.split.validation, inputs.split.test])]
    detector = fitted(recipe, state, config, inputs)
    log_probs, rows_per_second = score_rows(detector, x)
    return Applied(detector, log_probs, rows_per_second, posterior_means(detector.vae_, detector.params_, x))


def evaluate(recipe: Recipe, applied: Applied, config: FraudConfig, inputs: Inputs, opened: runs.Run) -> Result:
    """Measures each model of a recipe and their average."""
    validation, test = inputs.split.validation, inputs.split.test
    genuine = inputs.table.labels[np.concatenate([validation, test])] == 0
    active = [int(active_latents(mean[genuine]).sum()) for mean in applied.latents]
    log_probs, detector = applied.log_probs, applied.detector

    averaged = _scored(log_probs.mean(0), inputs)
    models = [
        {**measure(_scored(scores, inputs), config.boundary, config.false_alarm_rate), "active_latents": count}
        for scores, count in zip(log_probs, active, strict=True)
    ]
    log = loop.read_log(opened, recipe)
    measures = {
        **measure(averaged, config.boundary, config.false_alarm_rate),
        "average_precision_interval": bootstrap_interval(averaged.test, averaged.test_labels, config.seed),
        "active_latents": min(active),
        "collapsed": min(active) == 0,
        "best_epoch": detector.n_steps_ // (len(inputs.split.train) // config.batch_size),
        "parameters": count_parameters(detector.params_) // config.num_models,
        "train_rows_per_second": float(np.median([line["rows_per_second"] for line in log])),
        "score_rows_per_second": applied.rows_per_second,
        "models": models,
        "models_mean": _over_models(models, np.mean),
        "models_sd": _over_models(models, np.std),
    }
    return Result(detector, measures, averaged, applied.latents[0, len(validation) :], log)


def _scored(scores: np.ndarray, inputs: Inputs) -> Scored:
    """Takes apart the scores of validation rows and, after them, test rows."""
    labels, split = inputs.table.labels, inputs.split
    cut = len(split.validation)
    return Scored(scores[:cut], labels[split.validation], scores[cut:], labels[split.test])


def _over_models(models: list[dict], statistic: Callable[[list[float]], float]) -> dict:
    """Mean or standard deviation over models of each measure that all of them have."""
    return {
        name: float(statistic([model[name] for model in models]))
        for name in models[0]
        if all(model[name] is not None for model in models)
    }


def evaluate_baselines(config: FraudConfig, inputs: Inputs) -> dict[str, tuple[dict, Scored]]:
    """Fits the baselines on the training rows and measures them like a recipe."""
    rows = np.concatenate([inputs.split.validation, inputs.split.test])
    results = {}
    for name, scores in score_baselines(inputs.x[inputs.split.train], inputs.x[rows], config.seed).items():
        scored = _scored(scores, inputs)
        measures = measure(scored, config.boundary, config.false_alarm_rate)
        measures["average_precision_interval"] = bootstrap_interval(scored.test, scored.test_labels, config.seed)
        results[name] = (measures, scored)
    return results


def conclude(
    config: FraudConfig, inputs: Inputs, opened: runs.Run, results: Mapping[str, Result], output: Console
) -> None:
    """Writes everything a run leaves behind, and prints the table."""
    found_baselines = evaluate_baselines(config, inputs)
    labels, split = inputs.table.labels, inputs.split
    metrics = {
        "experiment": FRAUD.name,
        "notices": notices(inputs) + [collapse_notice(r) for r in results if results[r].measures["collapsed"]],
        "data": {
            "source": inputs.table.source,
            "synthetic": inputs.table.synthetic,
            "rows": len(labels),
            "frauds": int(labels.sum()),
            "train": len(split.train),
            "validation": len(split.validation),
            "test": len(split.test),
            "validation_frauds": int(labels[split.validation].sum()),
            "test_frauds": int(labels[split.test].sum()),
        },
        "recipes": {recipe: result.measures for recipe, result in results.items()},
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
    with runs.disk_errors(opened.folder):
        pictures = figures.draw_fraud(opened.folder / "figures", results, scorers, metrics)
    opened.write_text("report.html", report.render_fraud(metrics, pictures, scorers))
    for notice in metrics["notices"][len(notices(inputs)) :]:
        output.print(Panel(notice, title="WARNING", style="bold red"))
    output.print(result_table(metrics))
    output.print(f"report  {opened.folder / 'report.html'}", soft_wrap=True)


def save_models(opened: runs.Run, metrics: dict, results: Mapping[str, Result]) -> None:
    """Saves each recipe's detector: in `model` the one to deploy, that is `gaussian` where it was trained."""
    preferred = "gaussian" if "gaussian" in results else next(iter(results))
    for recipe, result in results.items():
        folder = opened.path("model" if recipe == preferred else f"model_{recipe}")
        try:
            result.detector.save(folder, card_measures(metrics, recipe))
        except ModelError as error:
            raise RunError(str(error)) from error


def card_measures(metrics: dict, recipe: str) -> dict[str, str]:
    """What the model card says of the run."""
    data, measures = metrics["data"], metrics["recipes"][recipe]
    found = {
        "trained on": f"{data['train']:,} genuine rows of {data['source']}"
        + (" (SIMULATED: no use on real transactions)" if data["synthetic"] else ""),
        "test rows": f"{data['test']:,}, of which {data['test_frauds']:,} frauds",
        "false alarms among them": f"{measures['false_positives']:,}",
        "misses": f"{measures['false_negatives']:,}",
    }
    for name in ("average_precision", "roc_auc", "precision", "recall"):
        if measures[name] is not None:
            found[name.replace("_", " ")] = f"{measures[name]:.3f}"
    return found


def collapse_notice(recipe: str) -> str:
    """The words for a model whose latents are all unused."""
    remedy = "raise --report-weight" if recipe == "report" else "raise --kl-warmup, or try another --seed"
    return (
        f"POSTERIOR COLLAPSE in recipe {recipe}: a model has no active latent, so its decoder ignores the input and "
        f"returns one mean for every row. What to try: {remedy}."
    )


def scores_csv(inputs: Inputs, results: Mapping[str, Result]) -> str:
    """One line for each test row: its number in the source (0 = first row of data), label, scores and decisions."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    names = [f"{recipe}_{what}" for recipe in results for what in ("log_reconstruction_probability", "decision")]
    writer.writerow(["row", "label", *names])
    for i, row in enumerate(inputs.split.test):
        cells = []
        for result in results.values():
            score = result.scored.test[i]
            cells += [f"{score:.9g}", "fraud" if score < result.measures["threshold"] else "genuine"]
        writer.writerow([row, inputs.table.labels[row], *cells])
    return text.getvalue()


def result_table(metrics: dict) -> Table:
    """The table that a run ends with."""
    table = Table(title="Test rows; a score is higher = more normal, and a row below the boundary an alarm")
    for title in (
        "scorer",
        "ROC AUC",
        "average precision",
        "95 % interval",
        "precision",
        "recall",
        "false alarms",
        "misses",
    ):
        table.add_column(title, justify="left" if title == "scorer" else "right")
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


if __name__ == "__main__":
    prepare_jax()
    sys.exit(run(main, sys.argv[1:]))
