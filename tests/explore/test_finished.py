"""Which runs the explorer shows."""

import json
from pathlib import Path

import pytest

from experiments.command_line import UsageError
from experiments.explore import finished as explored
from experiments.explore.finished import find, unique

DATA = {"test": 5, "test_frauds": 1}
WHOLE = {"experiment": "fraud", "data": DATA, "recipes": {"gaussian": {"average_precision": 0.5}}, "notices": []}

FACES = {"experiment": "celeba", "data": {"train": 5}, "evaluation": {"rmse": 0.5}, "notices": []}
FACES |= {"config": {"latent_dim": 2}}


def finished(folder: Path, metrics: str) -> None:
    """Makes a folder with the two files by which a finished run is known."""
    folder.mkdir(parents=True)
    (folder / "config.json").write_text("{}")
    (folder / "metrics.json").write_text(metrics)


DAMAGED = {
    "{}": "a run of None; expected one of celeba or fraud",
    "[1]": "a run of None; expected one of celeba or fraud",
    "{": "metrics.json: damaged",
    '{"experiment": "mnist"}': "a run of mnist; expected one of celeba or fraud",
    '{"experiment": "celeba", "data": [], "notices": []}': (
        "metrics.json: has no data.train, evaluation.rmse, config.latent_dim"
    ),
    json.dumps(WHOLE | {"data": {"test": 5}}): "metrics.json: has no data.test_frauds",
}


@pytest.mark.parametrize("metrics", DAMAGED)
def test_a_damaged_run_is_left_out_with_a_line_and_refused_by_name(
    metrics: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    finished(tmp_path / "runs" / "fraud" / "damaged", metrics)
    finished(tmp_path / "runs" / "fraud" / "whole", json.dumps(WHOLE))
    assert [run.address for run in find([])] == ["fraud/whole"]
    (line,) = capsys.readouterr().out.splitlines()
    assert line.startswith("left out: ")
    assert DAMAGED[metrics] in line
    with pytest.raises(UsageError) as refused:
        find(["damaged"])
    assert line == f"left out: {refused.value}"


def test_a_run_of_faces_without_the_names_of_its_attributes_is_left_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    finished(tmp_path / "runs" / "celeba" / "damaged", json.dumps(FACES))
    finished(tmp_path / "runs" / "fraud" / "whole", json.dumps(WHOLE))
    assert [run.address for run in find([])] == ["fraud/whole"]
    assert "model/attributes.json: no such file" in capsys.readouterr().out


def test_without_a_run_that_can_be_shown_one_line_says_how_to_make_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    finished(tmp_path / "runs" / "fraud" / "damaged", "{}")
    monkeypatch.setattr(explored, "PROGRAM", "vae-jax")  # as where the package is installed
    with pytest.raises(UsageError, match="no finished run in runs/celeba or runs/fraud; make one: vae-jax fraud"):
        find([])


def test_runs_are_found_and_others_refused_in_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UsageError, match="no finished run"):
        find([])
    with pytest.raises(UsageError, match="nowhere: no run at"):
        find(["nowhere"])
    run = tmp_path / "runs" / "fraud" / "one"
    run.mkdir(parents=True)
    (run / "config.json").write_text("{}")
    with pytest.raises(UsageError, match="not finished"):
        find(["one"])
    (run / "metrics.json").write_text(json.dumps({"experiment": "mnist"}))
    with pytest.raises(UsageError, match="a run of mnist"):
        find(["one"])
    (run / "metrics.json").write_text(json.dumps(WHOLE))
    assert [found.address for found in find([])] == ["fraud/one"]


def test_every_run_has_an_address_of_its_own():
    assert unique(["a-3", "a", "a", "a", "b c", "b_c"]) == ["a-3", "a", "a-2", "a-4", "b_c", "b_c-2"]
