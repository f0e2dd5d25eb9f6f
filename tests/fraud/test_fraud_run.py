"""Whole runs of the transactions experiment, as a user starts them."""

import csv
import io
import json
import os
import shutil
import signal
import subprocess
import sys
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml
from rich.console import Console
from run_helpers import (
    ROOT,
    assert_bit_for_bit,
    final_arrays,
    logged_epochs,
    refused,
    resume,
    start,
    wait_for,
    write_config,
)

import experiments.fraud.__main__ as fraud
import experiments.score.__main__ as score
from experiments.command_line import run
from experiments.fraud.outputs import result_table
from vae_jax import VAEDetector
from vae_jax.data import transactions
from vae_jax.tables.synthetic import simulate_transactions
from vae_jax.training.checkpoints import Checkpoints

SMALL = ["--hidden-dims", "6", "--num-samples", "20", "--batch-size", "64"]


@pytest.fixture(scope="session")
def small_csv(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A thousand simulated rows with enough frauds for every part of the split."""
    frame = simulate_transactions(seed=1, rows=20_000)
    frauds = frame[frame.Class == 1]
    frame = pd.concat([frame[frame.Class == 0].head(1_000), frauds.head(30)]).sort_values("Time")
    path = tmp_path_factory.mktemp("data") / "small.csv"
    frame.to_csv(path, index=False)
    return path


@pytest.fixture(scope="module")
def finished(small_csv: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run of both recipes with two models of each, on the four devices of the test session."""
    folder = tmp_path_factory.mktemp("finished") / "run"
    arguments = ["--data", str(small_csv), "--epochs", "8", "--save-every", "2", "--num-models", "2", *SMALL]
    assert run(fraud.main, [*arguments, "--run-dir", str(folder)]) == 0
    return folder


@pytest.fixture(scope="module")
def finished_mixed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run on a table of words, numbers, gaps and an id, which lies beside it."""
    rng = np.random.default_rng(0)
    home = rng.random(1_000) < 0.7
    fraud_rows = rng.random(1_000) < 0.05
    table = pd.DataFrame(
        {
            "id": [f"p{i}" for i in range(1_000)],
            "city": np.where(home, rng.choice(["Rome", "Oslo"], 1_000), rng.choice(["Lima", "Cairo", "Quito"], 1_000)),
            "card": np.where(home ^ fraud_rows, "home", "abroad"),
            "amount": np.exp(rng.normal(4, 1, 1_000)).round(2),
            "note": np.where(rng.random(1_000) < 0.1, None, rng.choice(["a", "b"], 1_000)),
            "label": np.where(fraud_rows, "fraud", "genuine"),
        }
    )
    folder = tmp_path_factory.mktemp("mixed")
    table.to_csv(folder / "mixed.csv", index=False)
    arguments = ["--data", str(folder / "mixed.csv"), "--label", "label", "--epochs", "4", "--num-models", "2", *SMALL]
    assert run(fraud.main, [*arguments, "--run-dir", str(folder / "run")]) == 0
    return folder


def test_the_table_of_results_is_whole_on_a_terminal_of_80_columns(finished_mixed: Path) -> None:
    metrics = json.loads((finished_mixed / "run" / "metrics.json").read_text())
    measures = metrics["recipes"]["gaussian"] | {
        "average_precision_interval": [0.035, 0.134],
        "false_positives": 12_345,
    }
    output = Console(file=io.StringIO(), width=80)
    output.print(result_table(metrics | {"recipes": {"gaussian": measures}}))
    printed = output.file.getvalue()
    assert "…" not in printed
    for cells in (
        " gaussian ",
        " isolation forest ",
        " 0.035 to 0.134 ",
        " 12,345 ",
        " precision recall alarms misses",
    ):
        assert cells in printed


def test_a_table_of_other_columns_is_explained_on_its_page(finished_mixed: Path) -> None:
    metrics = json.loads((finished_mixed / "run" / "metrics.json").read_text())
    assert list(metrics["recipes"]) == ["gaussian"]
    assert [kind for _, kind, _, _ in metrics["columns"]] == ["id", "category", "yes-no", "positive", "yes-no"]
    assert "Left out: id (id: all different)." in metrics["notices"]
    page = (finished_mixed / "run" / "report.html").read_text()
    assert "Anomalies in a table" in page
    for heading in ("Alarms explained", "The columns"):
        assert f"<h2>{heading}</h2>" in page
    reasons = [reason for alarm in metrics["alarms"]["gaussian"] for reason in alarm["reasons"]]
    assert all(" nats" in reason for reason in reasons)


def test_the_score_command_gives_a_mixed_run_its_scores_back(finished_mixed: Path, tmp_path: Path) -> None:
    table = pd.read_csv(finished_mixed / "mixed.csv", dtype=str, keep_default_na=False)
    shuffled = table[["note", "label", "amount", "city", "card"]]  # another order, an extra column, without the id
    shuffled.to_csv(tmp_path / "rows.csv", index=False)
    pd.read_csv(tmp_path / "rows.csv").to_parquet(tmp_path / "rows.parquet")
    pd.read_csv(tmp_path / "rows.csv").to_json(tmp_path / "rows.jsonl", orient="records", lines=True)
    expected = pd.read_csv(finished_mixed / "run" / "scores.csv").set_index("row")
    for name in ("rows.csv", "rows.parquet", "rows.jsonl"):
        arguments = ["--model", finished_mixed / "run" / "model", "--input", tmp_path / name, "--explain", "1"]
        assert run(score.main, [*map(str, arguments), "--output", str(tmp_path / "scores.csv")]) == 0
        found = pd.read_csv(tmp_path / "scores.csv").set_index("row").loc[expected.index]
        name = "log_reconstruction_probability"
        np.testing.assert_array_equal(found[name], expected[f"gaussian_{name}"])
        assert found["reason_1"].str.contains(" nats; ").all()


def test_a_mixed_run_is_continued(finished_mixed: Path, tmp_path: Path) -> None:
    shutil.copytree(finished_mixed / "run", tmp_path / "run")
    shutil.rmtree(tmp_path / "run" / "figures")
    (tmp_path / "run" / "model").rename(tmp_path / "run" / ".model.abc")  # as a process killed in saving it leaves it
    assert run(fraud.main, ["--resume", str(tmp_path / "run")]) == 0
    assert not list((tmp_path / "run").glob(".model*"))
    assert (tmp_path / "run" / "scores.csv").read_bytes() == (finished_mixed / "run" / "scores.csv").read_bytes()


def test_cells_that_can_not_be_read_are_named_by_the_score_command(
    finished_mixed: Path, tmp_path: Path, capsys
) -> None:
    (tmp_path / "rows.csv").write_text("city,card,amount,note\nRome,home,12.5,a\nRome,home,much,a\nBern,,,\n")
    arguments = ["--model", finished_mixed / "run" / "model", "--input", tmp_path / "rows.csv"]
    line = refused(score.main, arguments, capsys)
    assert "row 1 (line 3): column amount: 'much' is not a number, as in the training rows" in line
    rejects = ["--rejects", tmp_path / "rejects.csv", "--output", tmp_path / "scores.csv"]
    assert run(score.main, [str(word) for word in arguments + rejects]) == 0
    assert pd.read_csv(tmp_path / "scores.csv")["row"].tolist() == [0, 2]
    assert "gaps in columns that had none in training: card (1 row), amount (1 row)" in capsys.readouterr().err
    (tmp_path / "rows.csv").write_text("city,amount,note\nRome,12.5,a\n")
    assert refused(score.main, arguments, capsys).endswith("column missing: card")


def test_a_run_leaves_every_file_behind(finished: Path) -> None:
    names = {str(path.relative_to(finished)) for path in finished.rglob("*") if path.is_file()}
    expected = {"config.json", "metrics.json", "metrics.jsonl", "scores.csv", "report.html", "checkpoints/inputs.json"}
    expected |= {
        f"figures/{kind}_{recipe}.png" for kind in ("histogram", "latent") for recipe in ("report", "gaussian")
    }
    expected |= {"figures/curves.png", "figures/training.png", "figures/curves.svg"}
    assert expected <= names
    for recipe in ("report", "gaussian"):
        assert any(name.startswith(f"tensorboard/{recipe}/events.out.tfevents") for name in names)
    assert not [name for name in names if name.endswith(".partial")]
    assert not [name for name in names if name.endswith((".pkl", ".pickle"))]


def test_metrics_json_holds_what_is_promised(finished: Path) -> None:
    metrics = json.loads((finished / "metrics.json").read_text())
    assert {"source", "rows", "frauds", "train", "validation", "test"} <= metrics["data"].keys()
    assert metrics["data"]["rows"] == 1_030
    assert metrics["data"]["frauds"] == 30
    assert sum(metrics["data"][part] for part in ("train", "validation", "test")) == 1_030
    for recipe in ("report", "gaussian"):
        measures = metrics["recipes"][recipe]
        counts = [measures[f"{kind}_{sign}"] for kind in ("true", "false") for sign in ("positives", "negatives")]
        assert sum(counts) == metrics["data"]["test"]
        assert 0 <= measures["average_precision"] <= 1
        assert 0 <= measures["roc_auc"] <= 1
        assert measures["average_precision_interval"][0] <= measures["average_precision"]
        assert measures["train_rows_per_second"] > 0
        assert measures["score_rows_per_second"] > 0
        assert 0 <= measures["active_latents"] <= 2
        assert len(measures["models"]) == 2
        mean = np.mean([model["roc_auc"] for model in measures["models"]])
        assert measures["models_mean"]["roc_auc"] == pytest.approx(mean)
    assert metrics["baselines"].keys() == {"mahalanobis", "pca", "isolation_forest", "gaussian_mixture"}
    for baseline in metrics["baselines"].values():
        assert {"roc_auc", "average_precision", "average_precision_interval", "precision", "recall"} <= baseline.keys()


def test_the_log_has_one_line_an_epoch(finished: Path) -> None:
    lines = [json.loads(line) for line in (finished / "metrics.jsonl").read_text().splitlines()]
    assert [(line["recipe"], line["epoch"]) for line in lines] == [
        (recipe, epoch) for recipe in ("report", "gaussian") for epoch in range(1, 9)
    ]


def test_scores_csv_agrees_with_the_counts_and_the_source(finished: Path, small_csv: Path) -> None:
    metrics = json.loads((finished / "metrics.json").read_text())
    with open(small_csv) as file:
        source = [row["Class"] for row in csv.DictReader(file)]
    with open(finished / "scores.csv") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == metrics["data"]["test"]
    for row in rows:
        assert row["label"] == source[int(row["row"])]
    for recipe, measures in metrics["recipes"].items():
        alarms = [row for row in rows if row[f"{recipe}_decision"] == "fraud"]
        assert sum(row["label"] == "1" for row in alarms) == measures["true_positives"]
        assert sum(row["label"] == "0" for row in alarms) == measures["false_positives"]
        scores = [float(row[f"{recipe}_log_reconstruction_probability"]) for row in alarms]
        assert max(scores) < measures["threshold"]


def assert_gives_the_runs_own_scores(run_folder: Path, recipe: str, folder: str, data: Path) -> None:
    """The detector that a run has saved gives the scores and decisions that the run has written."""
    written = pd.read_csv(run_folder / "scores.csv")
    detector = VAEDetector.load(run_folder / folder)
    x = pd.read_csv(data)[list(detector.feature_names_in_)].iloc[written["row"]]
    scores = [float(f"{score:.9g}") for score in detector.score_samples(x)]
    np.testing.assert_array_equal(written[f"{recipe}_log_reconstruction_probability"], scores)
    decisions = np.where(detector.predict(x) == -1, "fraud", "genuine")
    np.testing.assert_array_equal(written[f"{recipe}_decision"], decisions)


@pytest.mark.parametrize(("recipe", "folder"), [("gaussian", "model"), ("report", "model_report")])
def test_the_saved_detector_gives_the_runs_own_scores(
    finished: Path, small_csv: Path, recipe: str, folder: str
) -> None:
    assert_gives_the_runs_own_scores(finished, recipe, folder, small_csv)
    metrics = json.loads((finished / "metrics.json").read_text())
    card = (finished / folder / "README.md").read_text()
    assert f"average precision: {metrics['recipes'][recipe]['average_precision']:.3f}\n" in card
    assert f"command: `{metrics['command']}`\n" in card
    head = yaml.safe_load(card.split("---\n")[1])
    assert head["datasets"] == ["mlg-ulb/creditcardfraud"]
    assert head["metrics"] == ["average_precision", "roc_auc", "precision", "recall"]


def test_the_score_command_gives_the_runs_own_scores(finished: Path, small_csv: Path, tmp_path: Path) -> None:
    arguments = [
        "--model",
        finished / "model",
        "--input",
        small_csv,
        "--output",
        tmp_path / "scores.csv",
        "--explain",
        "2",
    ]
    assert run(score.main, [str(word) for word in arguments]) == 0
    found = pd.read_csv(tmp_path / "scores.csv")
    written = pd.read_csv(finished / "scores.csv")
    of_test = found.iloc[written["row"]]
    rounded = [float(f"{value:.9g}") for value in of_test["log_reconstruction_probability"]]
    np.testing.assert_array_equal(written["gaussian_log_reconstruction_probability"], rounded)
    np.testing.assert_array_equal(written["gaussian_decision"] == "fraud", of_test["decision"] == "anomaly")


def test_other_peoples_tables(small_csv: Path, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    frame = pd.read_csv(small_csv)[["V1", "V2", "Amount", "Class"]].rename(columns={"Class": "stolen"})
    frame["country"] = "DE"
    path = tmp_path / "mine.csv"
    frame.to_csv(path, index=False)
    arguments = ["--data", str(path), "--label", "stolen", "--recipes", "report", "--epochs", "2", *SMALL]
    assert "for finite numbers alone" in refused(fraud.main, [*arguments, "--run-dir", tmp_path / "run"], capsys)
    arguments += ["--drop", "country", "--split", "time"]
    assert run(fraud.main, [*arguments, "--run-dir", str(tmp_path / "run")]) == 0
    assert ", the last rows of the file, used" in (tmp_path / "run" / "report.html").read_text()
    assert list(VAEDetector.load(tmp_path / "run" / "model").feature_names_in_) == ["V1", "V2", "Amount"]
    metrics = json.loads((tmp_path / "run" / "metrics.json").read_text())
    assert metrics["data"]["frauds"] == frame["stolen"].sum()
    assert "--label stolen --drop country" in metrics["command"]


def test_the_report_page_needs_nothing_else(finished: Path) -> None:
    page = (finished / "report.html").read_text()
    metrics = json.loads((finished / "metrics.json").read_text())
    assert f"{metrics['recipes']['gaussian']['average_precision']:.3f}" in page
    assert "None" not in page
    assert page.count("<svg ") == 12  # one for each panel
    assert page.count("<figcaption>") == 6
    assert "http://" not in page
    assert "https://" not in page


def resumable(small_csv: Path, save_every: int) -> list[str]:
    """Options of a run that takes some seconds and saves now and then."""
    arguments = ["--data", str(small_csv), "--recipes", "gaussian", *SMALL]
    return [*arguments, "--epochs", "150", "--save-every", str(save_every)]


@pytest.fixture(scope="module")
def uninterrupted(small_csv: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that nobody stops, on the four devices of the test session."""
    folder = tmp_path_factory.mktemp("uninterrupted") / "run"
    assert run(fraud.main, [*resumable(small_csv, 50), "--run-dir", str(folder)]) == 0
    return folder


def test_interrupted_in_every_way_then_resumed_equals_uninterrupted(
    uninterrupted: Path, small_csv: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Stopped by Ctrl-C and by SIGTERM, killed in training and in a save, and each time continued."""
    monkeypatch.setenv("JAX_NUM_CPU_DEVICES", "4")  # as the uninterrupted run had
    folder = tmp_path / "run"
    checkpoints = folder / "checkpoints" / "gaussian"
    steps = int(final_arrays(uninterrupted)["['step']"][0]) // 150  # of an epoch

    def saved() -> list[int]:
        return [int(path.name) for path in checkpoints.iterdir() if path.name.isdigit()]

    def in_a_save() -> bool:
        return any("orbax-checkpoint-tmp" in path.name for path in checkpoints.iterdir())

    process = start([*resumable(small_csv, 7), "--run-dir", folder], tmp_path)
    for number, code in ((signal.SIGINT, 130), (signal.SIGTERM, 143)):
        reached = logged_epochs(folder)
        wait_for(lambda: logged_epochs(folder) >= reached + 10, process)  # noqa: B023 (called at once)
        process.send_signal(number)
        _, errors = process.communicate(timeout=60)
        assert process.returncode == code
        assert f"bash run.sh fraud --resume {folder}" in errors
        assert "Traceback" not in errors
        assert max(saved()) == steps * logged_epochs(folder) >= steps * (reached + 10)
        process = start(["--resume", folder], tmp_path)

    reached = logged_epochs(folder)
    wait_for(lambda: logged_epochs(folder) >= reached + 10, process)
    process.kill()
    process.communicate()

    process = start(["--resume", folder], tmp_path)
    wait_for(in_a_save, process)
    process.kill()
    process.communicate()
    assert max(saved()) < steps * 150

    resume(folder)
    assert_bit_for_bit(folder, uninterrupted)
    epochs = [json.loads(line)["epoch"] for line in (folder / "metrics.jsonl").read_text().splitlines()]
    assert epochs == list(range(1, 151))
    assert (folder / "scores.csv").read_bytes() == (uninterrupted / "scores.csv").read_bytes()


def test_two_signals_in_a_save_let_it_end(small_csv: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Within Orbax's part of it, the second would leave threads that wait for minutes, and the process for them."""
    save, ended = Checkpoints.save, []

    def interrupted(*arguments, **named) -> None:
        signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGTERM)
        save(*arguments, **named)
        ended.append(True)

    monkeypatch.setattr(Checkpoints, "save", interrupted)
    assert run(fraud.main, [*resumable(small_csv, 1), "--run-dir", str(tmp_path / "run")]) == 143
    assert len(ended) == 1
    with Checkpoints(tmp_path / "run" / "checkpoints" / "gaussian") as checkpoints:
        assert checkpoints.latest is not None


def test_a_loss_that_is_not_finite_stops_the_run(
    small_csv: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    arguments = ["--data", small_csv, "--recipes", "gaussian", "--epochs", "5", "--learning-rate", "1e30", *SMALL]
    line = refused(fraud.main, [*arguments, "--run-dir", tmp_path / "run"], capsys, code=1)
    assert "not finite in epoch 1, step " in line


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--latent-dim", "3"], "--latent-dim 3: the run was started with the default"),
        (["--recipes", "gaussian"], "--recipes gaussian: the run was started with report gaussian"),
    ],
)
def test_resume_refuses_other_options_by_name(
    words: list[str], said: str, finished: Path, capsys: pytest.CaptureFixture
) -> None:
    assert said in refused(fraud.main, ["--resume", finished, *words], capsys)


def test_a_run_continues_on_the_same_data_elsewhere(finished: Path, small_csv: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(finished, tmp_path / "run")
    moved = shutil.copy(small_csv, tmp_path / "moved.csv")
    assert run(fraud.main, ["--resume", str(folder), "--data", str(moved)]) == 0
    assert json.loads((folder / "metrics.json").read_text())["data"]["source"] == str(moved)


def test_resume_refuses_other_data(
    finished: Path, small_csv: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    folder = shutil.copytree(finished, tmp_path / "run")
    data = tmp_path / "shorter.csv"
    data.write_text("\n".join(small_csv.read_text().splitlines()[:-1]) + "\n")
    config = json.loads((folder / "config.json").read_text())
    write_config(folder, {**config, "data": str(data)})
    assert "not the data that the run" in refused(fraud.main, ["--resume", folder], capsys)


def test_resume_refuses_a_checkpoint_of_another_model(
    finished: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    folder = tmp_path / "run"
    shutil.copytree(finished, folder)
    config = json.loads((folder / "config.json").read_text())
    write_config(folder, {**config, "hidden_dims": [7]})
    line = refused(fraud.main, ["--resume", folder], capsys, code=1)
    assert "does not fit this model" in line
    assert "Dense_0" in line


def test_a_run_goes_on_from_the_checkpoint_before_a_damaged_one(
    finished: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    folder = tmp_path / "run"
    shutil.copytree(finished, folder)
    newest = max(int(path.name) for path in (folder / "checkpoints" / "gaussian").iterdir() if path.name.isdigit())
    for path in (folder / "checkpoints" / "gaussian" / str(newest) / "state").rglob("*"):
        if path.is_file() and path.parent.name == "d":
            path.write_bytes(path.read_bytes()[:50])
    assert run(fraud.main, ["--resume", str(folder)]) == 0
    assert f"warning: checkpoint {newest} in " in capsys.readouterr().err
    assert_bit_for_bit(folder, finished)
    assert (folder / "scores.csv").read_bytes() == (finished / "scores.csv").read_bytes()


def test_without_frauds_and_with_a_constant_feature_it_still_trains(small_csv: Path, tmp_path: Path) -> None:
    frame = pd.read_csv(small_csv)
    frame[frame.Class == 0].assign(V7=0.1).to_csv(tmp_path / "odd.csv", index=False)
    arguments = ["--data", tmp_path / "odd.csv", "--epochs", "1", *SMALL, "--run-dir", tmp_path / "run"]
    assert run(fraud.main, [str(word) for word in arguments]) == 0
    metrics = json.loads((tmp_path / "run" / "metrics.json").read_text())
    assert any("No fraud among the test rows" in notice for notice in metrics["notices"])
    assert any("V7" in notice for notice in metrics["notices"])
    for recipe in ("report", "gaussian"):
        assert metrics["recipes"][recipe]["average_precision"] is None
        assert np.isfinite(metrics["recipes"][recipe]["threshold"])
    assert not (tmp_path / "run" / "figures" / "curves.png").exists()


def test_fewer_rows_than_in_a_batch_are_one_batch(small_csv: Path, tmp_path: Path) -> None:
    pd.read_csv(small_csv).head(75).to_csv(tmp_path / "few.csv", index=False)
    arguments = ["--data", tmp_path / "few.csv", "--epochs", "3", *SMALL, "--batch-size", "128", "--run-dir"]
    arguments += [tmp_path / "run", "--recipes", "report", "gaussian", "exemplar"]
    assert run(fraud.main, [str(word) for word in arguments]) == 0
    metrics = json.loads((tmp_path / "run" / "metrics.json").read_text())
    assert metrics["config"]["batch_size"] == 128
    for recipe, measures in metrics["recipes"].items():
        assert 1 <= measures["best_epoch"] <= 3
        detector = VAEDetector.load(tmp_path / "run" / ("model" if recipe == "gaussian" else f"model_{recipe}"))
        assert detector.n_steps_ == measures["best_epoch"]
    assert run(fraud.main, ["--resume", str(tmp_path / "run")]) == 0


def test_a_full_disk_stops_the_run_in_one_line(small_csv: Path, tmp_path: Path) -> None:
    # No file may grow past 20 kB, so the log runs full; a write then fails like on a full disk.
    program = (
        "import resource, runpy, sys; resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000));"
        "sys.argv[0] = 'fraud'; runpy.run_module('experiments.fraud', run_name='__main__')"
    )
    command = [sys.executable, "-c", program, *resumable(small_csv, 20), "--run-dir", str(tmp_path / "run")]
    # In a cache of its own, because compiled programs are cut off, too.
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "JAX_COMPILATION_CACHE_DIR": str(tmp_path / "compiled")}
    result = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=300)
    assert result.returncode == 1, result.stderr
    assert result.stderr.count("error: ") == 1
    assert f"in {tmp_path / 'run'}" in result.stderr
    assert "Traceback" not in result.stderr


def test_simulated_rows_are_announced_everywhere(
    tmp_path: Path, capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(transactions, "simulate_transactions", partial(simulate_transactions, rows=3_000))
    arguments = ["--data", "synthetic", "--recipes", "report", "--epochs", "1", *SMALL]
    assert run(fraud.main, [*arguments, "--run-dir", str(tmp_path / "run")]) == 0
    assert "SIMULATED DATA" in capsys.readouterr().out
    assert "SIMULATED DATA" in (tmp_path / "run" / "report.html").read_text()
    metrics = json.loads((tmp_path / "run" / "metrics.json").read_text())
    assert metrics["data"]["synthetic"] is True
    assert any("SIMULATED DATA" in notice for notice in metrics["notices"])


def test_a_short_run_on_real_rows_finds_frauds(real_transactions: Path, tmp_path: Path) -> None:
    arguments = ["--data", str(real_transactions), "--recipes", "gaussian", "--epochs", "10"]
    assert run(fraud.main, [*arguments, "--run-dir", str(tmp_path / "run")]) == 0
    metrics = json.loads((tmp_path / "run" / "metrics.json").read_text())
    # Far below what a full run reaches (0.87), far above chance (0.07).
    assert metrics["recipes"]["gaussian"]["average_precision"] > 0.8
    assert metrics["recipes"]["gaussian"]["roc_auc"] > 0.93
    assert metrics["recipes"]["gaussian"]["active_latents"] >= 1
    assert_gives_the_runs_own_scores(tmp_path / "run", "gaussian", "model", real_transactions)
