"""Whole runs of An & Cho's experiments on a tiny data set, as a user starts them."""

import json
import shutil
from pathlib import Path

import pytest
from an_cho_data import write_connections, write_digits
from run_helpers import refused

import experiments.an_cho.__main__ as an_cho
from experiments.an_cho.outputs import result_table
from experiments.an_cho.page import render_page
from experiments.an_cho.results import METHODS
from experiments.command_line import run

SIZES = "--hidden-dims 8 --latent-dim 2 --epochs 2 --columns-epochs 2 --batch-size 8 --num-samples 2 --kernel-rows 30"
SMALL = [*SIZES.split(), "--train-rows", "64", "--digits", "1", "7"]


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("data")
    write_digits(folder / "mnist")
    write_connections(folder / "kdd99")
    return folder


@pytest.fixture(scope="module")
def finished(data, tmp_path_factory) -> Path:
    """A finished run."""
    folder = tmp_path_factory.mktemp("finished") / "run"
    arguments = [*SMALL, "--seeds", "0", "--data", str(data), "--run-dir", str(folder)]
    assert run(an_cho.main, arguments) == 0
    return folder


@pytest.fixture(scope="module")
def metrics(finished) -> dict:
    return json.loads((finished / "metrics.json").read_text())


def test_a_run_leaves_every_file_behind(finished):
    names = {str(path.relative_to(finished)) for path in finished.rglob("*") if path.is_file()}
    pieces = {f"pieces/{name}_0.json" for name in ("mnist_1", "mnist_7", "kdd99_all")}
    figures = {f"figures/{name}.png" for name in ("roc_auc_mnist", "roc_auc_kdd99", "examples")}
    assert {"config.json", "metrics.json", "report.html", *pieces, *figures} <= names
    assert not [name for name in names if name.endswith(".partial")]


def test_metrics_hold_every_class_and_method(metrics):
    assert list(metrics["results"]["mnist"]) == ["1", "7"]
    assert list(metrics["results"]["kdd99"]) == ["DoS", "R2L", "U2R", "Probe"]
    for task, methods in (("mnist", list(METHODS)[:-1]), ("kdd99", list(METHODS))):
        for of in metrics["results"][task].values():
            assert list(of) == methods
            for measures in of.values():
                assert all(0 <= measures[name]["mean"] <= 1 for name in ("roc_auc", "average_precision", "f1"))
                assert measures["roc_auc"]["values"] == [measures["roc_auc"]["mean"]]
    of = [metrics["results"]["mnist"][digit]["pca"]["f1"]["mean"] for digit in ("1", "7")]
    assert metrics["means"]["mnist"]["pca"]["f1"] == pytest.approx(sum(of) / 2)
    assert metrics["counts"]["mnist"]["1"] == [90, 10]
    assert metrics["counts"]["kdd99"]["DoS"] == [24, 8]
    assert metrics["train_rows"] == {"mnist": 64, "kdd99": 64}


def test_attacks_that_differ_in_every_number_are_found(metrics):
    """By PCA, that is: two epochs train no network."""
    assert metrics["results"]["kdd99"]["DoS"]["pca"]["roc_auc"]["mean"] > 0.9


def test_the_page_shows_figures_and_choices(finished):
    page = (finished / "report.html").read_text()
    assert page.count("<figure ") == len(list((finished / "figures").glob("*.png"))) == 3
    assert 'src="http' not in page
    assert "could not be checked" in page
    assert "table 3.3" in page
    assert "save-every" not in page


def test_the_page_says_what_was_used(metrics):
    """Not what was asked for, where the options ask for more rows than there are."""
    config = {**metrics["config"], "hidden_dims": [], "kernel_rows": 2000}
    page = render_page({**metrics, "config": config}, {})
    assert "fitted on 64 training rows (MNIST) or 64 training rows (KDD99)" in page
    assert "no hidden layers" in page


def test_drawn_digits_are_compared_with_nothing_published(metrics):
    assert metrics["published"]["32"][1] == 0.09
    drawn = {**metrics, "published": {}}
    page = render_page(drawn, {})
    assert "Tonnaer" not in page
    assert "published" not in page.split("<h2>MNIST")[1].split("<h2>Settings")[0]
    assert len(result_table("mnist", drawn["results"]["mnist"], compared=False).columns) == 6


def test_a_killed_run_continued_equals_an_undisturbed_one(finished, metrics, tmp_path):
    """As if it had been killed while it wrote a digit's results: what was finished is not done again."""
    folder = tmp_path / "run"
    shutil.copytree(finished, folder)
    for name in ("metrics.json", "report.html", "pieces/mnist_7_0.json"):
        (folder / name).unlink()
    (folder / "pieces" / "mnist_7_0.json.partial").write_text('{"task": "mn')
    kept = folder / "pieces" / "mnist_1_0.json"
    before = kept.stat().st_mtime_ns
    assert run(an_cho.main, ["--resume", str(folder)]) == 0
    assert kept.stat().st_mtime_ns == before
    assert json.loads((folder / "metrics.json").read_text()) == metrics
    assert (folder / "report.html").read_text() == (finished / "report.html").read_text()


def test_validation_rows_of_two_seeds(data, tmp_path):
    folder = tmp_path / "run"
    arguments = [*SMALL, "--data", str(data), "--task", "mnist", "--on", "validation", "--seeds", "0", "1"]
    assert run(an_cho.main, [*arguments, "--digits", "7", "--run-dir", str(folder)]) == 0
    found = json.loads((folder / "metrics.json").read_text())
    assert sum(found["counts"]["mnist"]["7"]) == 20
    assert list(found["results"]) == ["mnist"]
    assert len(found["results"]["mnist"]["7"]["pca"]["f1"]["values"]) == 2
    assert "±" in (folder / "report.html").read_text()


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ("--digits 3 3", "--digits 3 3: expected different digits from 0 to 9"),
        ("--digits 10", "--digits 10: expected different digits from 0 to 9"),
        ("--seeds -1", "--seeds -1: expected different seeds"),
        ("--task mnist mnist", "--task mnist mnist: expected different experiments"),
        ("--epochs 0", "--epochs 0: expected more than 0"),
        ("--learning-rate nan", "--learning-rate nan: expected more than 0"),
        ("--batch-size 6", "--batch-size 6: expected a multiple of the 4 devices"),
        ("--batch-size 8 --train-rows 7", "--train-rows 7: expected a batch or more"),
        ("--kdd99-pca-variance 1", "--kdd99-pca-variance 1.0: expected between 0 and 1"),
        ("--kernel-rows 1", "--kernel-rows 1: expected 2 or more"),
        ("--hidden-dims 0", "--hidden-dims 0: expected more than 0"),
        ("--mnist-likelihood poisson", "bash run.sh an-cho --help"),
        ("--data nowhere", "--data nowhere: no such folder"),
        ("--batch-size 10000", "--batch-size 10000: more than the 162 training rows of mnist"),
    ],
)
def test_bad_options_give_one_line(options, words, data, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    where = [] if "--data" in options else ["--data", str(data)]
    assert words in refused(an_cho.main, [*where, *options.split()], capsys)
    assert not list(tmp_path.iterdir())


def test_a_folder_without_one_of_the_two(data, capsys, tmp_path):
    shutil.copytree(data / "mnist", tmp_path / "mnist")
    line = refused(an_cho.main, ["--data", tmp_path], capsys)
    assert f"--data {tmp_path}: has no folder kdd99; use --task to run the other experiment alone" in line


def test_drawn_digits_have_no_connections(capsys):
    assert "--task kdd99: no KDD99 found with --data synthetic" in refused(
        an_cho.main, ["--data", "synthetic", "--task", "kdd99"], capsys
    )
