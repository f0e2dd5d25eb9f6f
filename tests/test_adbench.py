import json
from pathlib import Path

import numpy as np
import pytest
from real_data import real_data
from run_helpers import refused

from benchmarks import adbench
from benchmarks.adbench import Table, draw, measure, read_table
from experiments.command_line import run

PUBLISHED = "dataset,kNN,DTE-NP\nsmall,90,80\nlarge,70,60\nother,1,1\n"


@pytest.fixture
def folder(tmp_path, rng) -> Path:
    """Two tables whose anomalies are far out, and published figures."""
    (tmp_path / "data" / "classical").mkdir(parents=True)
    for name, rows in (("2_Small", 100), ("13_large", 1_200)):
        x, y = rng.normal(size=(rows, 3)), np.zeros(rows, np.int64)
        x[::10], y[::10] = x[::10] + 9, 1
        np.savez(tmp_path / "data" / "classical" / f"{name}.npz", X=x, y=y)
    for setting in ("semi_supervised", "unsupervised"):
        for kind in ("roc_auc", "average_precision"):
            (tmp_path / "data" / f"published_{setting}_{kind}.csv").write_text(PUBLISHED)
    return tmp_path


def call(folder: Path, *options: str) -> int:
    arguments = ["--data", folder / "data", "--output", folder / "results.jsonl", "--seeds", "0", "1", *options]
    return run(adbench.main, [str(argument) for argument in arguments])


def results(folder: Path) -> list[dict]:
    return [json.loads(line) for line in (folder / "results.jsonl").read_text().splitlines()]


@pytest.mark.parametrize(("rows", "drawn"), [(100, 1_000), (1_000, 1_000), (50_000, 50_000), (50_200, 50_000)])
def test_rows_are_drawn_and_divided(rows, drawn):
    numbers, is_anomaly = np.arange(rows), np.arange(rows) % 10 == 0
    found = draw(Table(1, numbers[:, None], is_anomaly), seed=3)
    order = numbers
    if rows != drawn:
        np.random.seed(3)  # the generator of the published figures
        order = np.random.choice(rows, drawn, replace=rows < drawn)
    normal = order[order % 10 != 0]
    half = len(normal) // 2
    expected = np.concatenate([normal[half:], order[order % 10 == 0]])
    mean, sd = normal[:half].mean(), normal[:half].std()
    np.testing.assert_allclose(found.train[:, 0], (normal[:half] - mean) / sd, atol=1e-12)
    np.testing.assert_allclose(found.test[:, 0], (expected - mean) / sd, atol=1e-12)
    np.testing.assert_array_equal(found.is_anomaly, expected % 10 == 0)


def test_detectors_find_what_is_far_out(folder):
    table = read_table(folder / "data" / "classical" / "13_large.npz")
    settings = adbench.settings(adbench.AdbenchConfig())
    for detector in adbench.DETECTORS:
        found = measure(draw(table, 0), table, {"detector": detector, "seed": 0, "settings": settings})
        assert found["roc_auc"] > 0.99
        assert (found["rows"], found["number"]) == (1_200, 13)


def test_command_goes_on_where_it_was_stopped(folder, capsys, monkeypatch):
    options = ("--detectors", "neighbours", "mahalanobis")
    assert call(folder, *options, "--only", "small") == 0
    assert {one["table"] for one in results(folder)} == {"small"}
    assert call(folder, *options) == 0
    assert len(results(folder)) == 2 * 2 * 2
    monkeypatch.setattr(adbench, "measure", None)  # everything is measured already
    capsys.readouterr()
    assert call(folder, *options) == 0
    lines = [line.strip("│").split("│") for line in capsys.readouterr().out.splitlines() if "│" in line]
    shown = {name.strip(): [cell.strip() for cell in cells] for name, *cells in lines}
    assert shown.keys() == {"fifth neighbour, here", "Mahalanobis distance, here", "KNN", "DTE-NP"}
    assert shown["KNN"] == ["80.0 / 80.0", "70.0 / 70.0", "70.0 / 70.0", "90.0 / 90.0"]
    mean = np.mean([one["roc_auc"] for one in results(folder) if one["detector"] == "neighbours"])
    assert shown["fifth neighbour, here"][0].startswith(f"{100 * mean:.1f} /")


def test_the_page_has_each_table_and_the_means(folder, capsys):
    assert call(folder, "--detectors", "neighbours", "mahalanobis") == 0
    assert f"page: {folder / 'results.html'}" in capsys.readouterr().out.replace("\n", "")
    page = (folder / "results.html").read_text()
    for words in ("<title>Anomaly detectors on 2 tables", "fifth neighbour, here", "held-out", "<svg", "KNN"):
        assert words in page
    assert f"bash run.sh adbench --data {folder / 'data'}" in page
    assert (folder / "results.png").stat().st_size > 10_000


def test_a_line_cut_short_by_a_kill_is_measured_again(folder):
    options = ("--detectors", "neighbours", "--only", "small")
    assert call(folder, *options) == 0
    path = folder / "results.jsonl"
    whole = results(folder)
    path.write_text(path.read_text()[:-30])
    assert call(folder, *options) == 0
    timeless = [{name: value for name, value in one.items() if "seconds" not in name} for one in results(folder)]
    assert timeless == [{name: value for name, value in one.items() if "seconds" not in name} for one in whole]


def test_unsupervised_all_rows_train_and_are_the_test(folder, monkeypatch):
    seen = {}

    def detector(train, seed, settings):
        seen.update(train=train, **settings)
        return lambda x: seen.update(test=x) or x.sum(1)

    monkeypatch.setitem(adbench.DETECTORS, "vae", detector)
    assert call(folder, "--detectors", "vae", "--only", "large", "--setting", "unsupervised") == 0
    assert seen["train"].shape == (1_200, 3)
    np.testing.assert_array_equal(seen["train"], seen["test"])
    assert seen["contamination"] == 0.1
    assert {one["setting"] for one in results(folder)} == {"unsupervised"}


def test_another_setting_is_another_result(folder, monkeypatch):
    monkeypatch.setitem(adbench.DETECTORS, "vae", lambda train, seed, settings: lambda x: x.sum(1))
    options = ("--detectors", "vae", "--only", "small", "--seeds", "0")
    assert call(folder, *options, "--steps", "7") == 0
    assert call(folder, *options, "--steps", "14", "--hidden-dims", "4") == 0
    assert [one["settings"]["steps"] for one in results(folder)] == [7, 14]


def test_a_part_is_measured_alone(folder):
    assert call(folder, "--detectors", "neighbours", "--part", "development") == 0
    assert {one["table"] for one in results(folder)} == {"large"}


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--only", "smal"), "--only smal: no such table in part all; there are large, small"),
        (("--data", "nowhere"), "--data nowhere: there is no folder nowhere/classical"),
        (("--steps", "0"), "--steps 0: expected 1 or more"),
        (("--part", "held-out", "--only", "large"), "--only large: no such table in part held-out; there are small"),
    ],
)
def test_options_that_cannot_be_used(folder, options, words, capsys):
    arguments = ["--data", str(folder / "data"), "--output", str(folder / "results.jsonl"), *options]
    assert refused(adbench.main, arguments, capsys) == f"error: {words}"


def test_files_that_cannot_be_used(folder, capsys):
    (folder / "data" / "classical" / "2_Small.npz").write_bytes(b"PK\x03\x04 and no more")
    assert call(folder, "--only", "small") == 1
    assert "2_Small.npz: damaged, or no table of ADBench" in capsys.readouterr().err
    (folder / "results.jsonl").write_text("{}\n")
    assert call(folder, "--only", "small") == 2
    assert "not a file of results" in capsys.readouterr().err


@pytest.mark.parametrize(("name", "published"), [("6_cardio", 92.0), ("38_thyroid", 98.7)])
def test_the_fifth_neighbour_is_as_published(name, published):
    table = read_table(real_data(f"adbench/classical/{name}.npz"))
    found = measure(draw(table, 0), table, {"detector": "neighbours", "seed": 0, "settings": {}})
    assert 100 * found["roc_auc"] == pytest.approx(published, abs=0.1)
