"""A sweep's table: what is checked before it, and what is left of it after a failure."""

from dataclasses import dataclass
from types import SimpleNamespace

import pytest
from rich.console import Console

from experiments.celeba.sweep import DISTANCES, MEASURES
from experiments.command_line import Interrupted, RunError, UsageError, require
from experiments.runs import sweep as sweep_module
from experiments.runs.sweep import sweep


@dataclass(frozen=True)
class Config:
    """A weight."""

    weight: float


def sweep_weights(weights, measure, columns=("RMSE",)):
    """Sweeps an experiment that trains nothing."""
    experiment = SimpleNamespace(
        divided=lambda config: None,
        settle=lambda config: config,
        check=lambda config: require(config, [("weight", config.weight > 0, "more than 0")]),
        prepare=lambda config: "the inputs",
    )
    configs = {weight: Config(weight) for weight in weights}
    sweep(experiment, configs, columns, measure, lambda inputs: f"measured on {inputs}")  # pyright: ignore


def test_a_row_for_each_weight(capsys):
    sweep_weights([1.0, 2.0], lambda config, inputs: [f"{config.weight + 0.25}"])
    lines = capsys.readouterr().out.splitlines()
    assert lines[:3] == ["weight  1", "weight  2", "measured on the inputs"]
    assert [line.split() for line in lines if "25" in line] == [["1", "1.25"], ["2", "2.25"]]


def test_a_terminal_of_80_columns_shows_every_number_of_celebas_table(monkeypatch, capsys):
    cells = ["0.2134", "13.41", "0.598", "1234.5", "200", "200", "274.9", "267.5", "265.1"]
    monkeypatch.setattr(sweep_module, "console", lambda: Console(width=80))
    sweep_weights([12345.0], lambda config, inputs: cells, (*MEASURES, *DISTANCES))
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert ["12345", *cells] in lines
    assert any("reconstructions" in line for line in lines)


def test_all_weights_are_checked_before_the_first_is_trained(capsys):
    trained = []
    with pytest.raises(UsageError, match="--weights -1: expected more than 0"):
        sweep_weights([1.0, -1.0], lambda config, inputs: trained.append(config) or [""])
    assert trained == []
    assert capsys.readouterr().out == ""


def test_what_was_measured_is_shown_when_a_later_weight_fails(capsys):
    def measure(config, inputs):
        if config.weight == 2:
            raise Interrupted(2)
        return ["0.125"]

    with pytest.raises(Interrupted):
        sweep_weights([1.0, 2.0], measure)
    out = capsys.readouterr().out
    assert "measured on the inputs" in out
    assert "0.125" in out


def test_a_weight_that_fails_is_named_at_the_end_and_leaves_the_others(capsys):
    def measure(config, inputs):
        if config.weight == 2:
            raise RunError("vae: the loss is not finite")
        return ["0.125"]

    with pytest.raises(RunError, match=r"^--weights 2: vae: the loss is not finite$"):
        sweep_weights([1.0, 2.0, 3.0], measure)
    rows = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert [row for row in rows if row and row[0] in "123"] == [["1", "0.125"], ["2", "failed"], ["3", "0.125"]]
