import io
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from rich.console import Console
from rich.panel import Panel
from rich.table import Table

from experiments.command_line import Interrupted, RunError, UsageError, parse, run
from experiments.fraud.config import FraudConfig, check
from experiments.runs.experiment import _fill_in_resume, announce
from experiments.runs.progress import TrainingProgress, console
from experiments.runs.run_folder import Run

COMMAND = "bash run.sh fraud"
PROJECT = Path(__file__).parent.parent


def refusal(arguments: list[str]) -> str:
    with pytest.raises(UsageError) as caught:
        parse(FraudConfig, COMMAND, arguments)
    message = str(caught.value)
    assert len(message.splitlines()) == 1
    assert message.endswith("(see bash run.sh fraud --help)")
    return message


def test_a_refusal_on_a_terminal_has_no_colours(monkeypatch):
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    assert refusal(["--rows", "2"]) == "Unrecognized options: --rows, 2 (see bash run.sh fraud --help)"


def test_no_options_give_the_defaults():
    assert parse(FraudConfig, COMMAND, []) == FraudConfig()


@pytest.mark.parametrize(
    ("arguments", "name", "value"),
    [
        (["--data", "my table.csv"], "data", "my table.csv"),
        (["--keep-time"], "keep_time", True),
        (["--no-keep-time"], "keep_time", False),
        (["--split", "time"], "split", "time"),
        (["--recipes", "gaussian"], "recipes", ("gaussian",)),
        (["--recipes", "gaussian", "report"], "recipes", ("gaussian", "report")),
        (["--hidden-dims", "4", "2"], "hidden_dims", (4, 2)),
        (["--epochs", "3"], "epochs", 3),
        (["--epochs=3"], "epochs", 3),
        (["--seed", "-1"], "seed", -1),
        (["--learning-rate", "1e-4"], "learning_rate", 1e-4),
        (["--boundary", "best-f1"], "boundary", "best-f1"),
        (["--run-dir", "here"], "run_dir", "here"),
        (["--resume", "latest"], "resume", "latest"),
    ],
)
def test_one_option_changes_one_field(arguments, name, value):
    config = parse(FraudConfig, COMMAND, arguments)
    assert getattr(config, name) == value
    assert config == FraudConfig(**{name: value})


def test_options_that_are_not_given_come_from_the_default():
    saved = FraudConfig(epochs=7, recipes=("gaussian",), run_dir="here")
    assert parse(FraudConfig, COMMAND, [], default=saved) == saved
    assert parse(FraudConfig, COMMAND, ["--seed", "5"], default=saved).epochs == 7


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["--nope"], "--nope"),
        (["--nope", "3"], "--nope"),
        (["--epoch", "3"], "--epoch"),
        (["stray"], "stray"),
        (["--epochs", "3", "4"], "4"),
        (["--epochs", "three"], "--epochs"),
        (["--epochs", "1.5"], "--epochs"),
        (["--learning-rate", "fast"], "--learning-rate"),
        (["--hidden-dims", "4", "x"], "--hidden-dims"),
        (["--split", "sideways"], "--split"),
        (["--recipes", "report", "other"], "--recipes"),
        (["--boundary", "best"], "--boundary"),
        (["--data"], "--data"),
        (["--epochs"], "--epochs"),
        (["--num-models", "--seed", "3"], "--num-models"),
    ],
)
@pytest.mark.parametrize("columns", ["40", "80", "200"])
def test_refusals_name_the_option_in_one_line(arguments, named, columns, monkeypatch):
    monkeypatch.setenv("COLUMNS", columns)
    assert named in refusal(arguments)


def test_refusal_of_a_choice_names_the_value_and_the_choices():
    message = refusal(["--split", "sideways"])
    for word in ("'sideways'", "random", "time"):
        assert word in message


def test_refusals_draw_nothing(capsys):
    refusal(["--nope"])
    assert capsys.readouterr() == ("", "")


def test_help_leaves_with_exit_code_0(capsys):
    with pytest.raises(SystemExit) as end:
        parse(FraudConfig, COMMAND, ["--help"])
    assert not end.value.code
    assert "--learning-rate" in capsys.readouterr().out


def raising(error: BaseException | None):
    def command(arguments):
        assert arguments == ["a", "b"]
        if error:
            raise error

    return command


@pytest.mark.parametrize(
    ("error", "code", "said"),
    [
        (None, 0, ""),
        (UsageError("--epochs 0: expected more than 0"), 2, "error: --epochs 0: expected more than 0\n"),
        (RunError("the disk is full"), 1, "error: the disk is full\n"),
        (Interrupted(2), 130, ""),
        (Interrupted(15), 143, ""),
    ],
)
def test_exit_codes(capsys, error, code, said):
    assert run(raising(error), ["a", "b"]) == code
    assert capsys.readouterr() == ("", said)


def test_refusals_reach_stderr_as_one_line(capsys):
    assert run(lambda arguments: parse(FraudConfig, COMMAND, arguments), ["--split", "sideways"]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("error: ")
    assert err.count("\n") == 1


def test_a_fault_of_the_program_keeps_its_traceback():
    with pytest.raises(ZeroDivisionError):
        run(raising(ZeroDivisionError()), ["a", "b"])


@pytest.mark.parametrize("output", ["while True: print('line', flush=True)", "print('line')"])
def test_a_reader_that_leaves_gets_no_traceback(output):
    program = f"""
import sys
from experiments.command_line import run

def command(arguments):
    sys.stdin.readline()
    {output}

sys.exit(run(command, []))
"""
    # Buffered, as it is for a user.
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    writer = subprocess.Popen([sys.executable, "-c", program], cwd=PROJECT, env=environment, **pipes)
    writer.stdout.close()
    _, said = writer.communicate(b"go\n", timeout=60)
    assert said == b""
    assert writer.returncode == 1


def test_interrupted_is_not_swallowed_as_an_exception():
    assert not issubclass(Interrupted, Exception)
    assert str(Interrupted(15)) == "stopped by signal 15"


@pytest.mark.parametrize(
    "config",
    [
        FraudConfig(),
        FraudConfig(kl_warmup=0.0, seed=0),
        FraudConfig(kl_warmup=1.0, seed=2**32 - 1),
        FraudConfig(recipes=("gaussian",), hidden_dims=(1,), latent_dim=1, epochs=1, batch_size=4, num_samples=1),
    ],
)
def test_check_lets_usable_values_pass(config):
    check(config)


def test_a_batch_of_any_size_will_do_where_the_models_are_divided():
    check(FraudConfig(batch_size=6, num_models=8))  # two on each of 4 devices


@pytest.mark.parametrize(
    ("name", "value", "shown"),
    [
        ("latent_dim", 0, "0"),
        ("latent_dim", -1, "-1"),
        ("report_weight", 0.0, "0.0"),
        ("report_weight", float("nan"), "nan"),
        ("report_weight", float("inf"), "inf"),
        ("epochs", 0, "0"),
        ("batch_size", 0, "0"),
        ("batch_size", -4, "-4"),
        ("batch_size", 6, "6"),  # there are 4 devices
        ("learning_rate", 0.0, "0.0"),
        ("learning_rate", float("nan"), "nan"),
        ("learning_rate", float("inf"), "inf"),
        ("num_models", 0, "0"),
        ("num_samples", 0, "0"),
        ("save_every", 0, "0"),
        ("hidden_dims", (0,), "0"),
        ("hidden_dims", (4, 0), "4 0"),
        ("kl_warmup", -0.1, "-0.1"),
        ("kl_warmup", 1.1, "1.1"),
        ("kl_warmup", float("nan"), "nan"),
        ("false_alarm_rate", 0.0, "0.0"),
        ("false_alarm_rate", 1.0, "1.0"),
        ("false_alarm_rate", float("nan"), "nan"),
        ("recipes", (), ""),
        ("recipes", ("report", "report"), "report report"),
        ("seed", -1, "-1"),
        ("seed", 2**32, "4294967296"),
    ],
)
def test_check_names_the_option_and_the_value(name, value, shown):
    with pytest.raises(UsageError) as caught:
        check(FraudConfig(**{name: value}))
    message = str(caught.value)
    assert message.startswith(f"--{name.replace('_', '-')} {shown}: expected ")
    assert len(message.splitlines()) == 1


@pytest.mark.parametrize(
    ("arguments", "filled"),
    [
        ([], []),
        (["--epochs", "3"], ["--epochs", "3"]),
        (["--resume"], ["--resume", "latest"]),
        (["--resume", "--epochs", "3"], ["--resume", "latest", "--epochs", "3"]),
        (["--epochs", "3", "--resume"], ["--epochs", "3", "--resume", "latest"]),
        (["--resume", "some/run"], ["--resume", "some/run"]),
        (["--resume", "some/run", "--epochs", "3"], ["--resume", "some/run", "--epochs", "3"]),
        (["--resume=some/run"], ["--resume=some/run"]),
    ],
)
def test_resume_without_a_value_is_the_latest_run(arguments, filled):
    assert _fill_in_resume(arguments) == filled


@pytest.mark.parametrize("name", ["plain", "with spaces", "card[s]", "[bold]", "[/bold]", ":smile:"])
def test_paths_are_printed_as_they_are(name):
    output = console(io.StringIO())
    announce(output, [f"/data/{name}/cards.csv", "6 rows"], Run(Path(f"runs/{name}"), io.StringIO()), [])
    lines = output.file.getvalue().splitlines()
    assert lines[0] == f"data    /data/{name}/cards.csv"
    assert lines[-1] == f"run     runs/{name}"


ORDERS = {
    "\x1b[31mred\x1b[0m": r"\x1b[31mred\x1b[0m",
    "\x1b]0;title\x07": r"\x1b]0;title\x07",
    "\x9b2J": r"\x9b2J",
    "invoice\u202egpj.exe": r"invoice\u202egpj.exe",
    "gone\rhere\b": r"gone\rhere\x08",
    "caf\udce9": r"caf\udce9",
    "Übermaß 価格 ελ [b]:smile:": "Übermaß 価格 ελ [b]:smile:",
}


@pytest.mark.parametrize("name", ORDERS)
def test_no_text_gives_the_terminal_orders(name):
    table = Table(name, title=name)
    table.add_row(name)
    for quoting, times in ((name, 1), (f"{name}\n{name}", 2), (Panel(name), 1), (table, 3)):
        output = console(io.StringIO())
        output.print(quoting)
        assert output.file.getvalue().count(ORDERS[name]) == times
        assert {c for c in output.file.getvalue() if not c.isprintable()} == {"\n"}


def test_a_word_that_the_terminals_encoding_lacks_is_escaped(monkeypatch):
    terminal = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    monkeypatch.setattr(sys, "stdout", terminal)
    table = Table("column")
    table.add_row("Währung")
    console().print(table)
    assert b"W\\xe4hrung" in terminal.buffer.getvalue()


def test_styles_of_our_own_still_work(monkeypatch):
    monkeypatch.setenv("FORCE_COLOR", "1")
    output = console(io.StringIO())
    output.print(Panel("\x1b[31mname", style="bold yellow"))
    styled = output.file.getvalue()
    assert styled.startswith("\x1b[1;33m")
    assert r" \x1b[31mname " in re.sub(r"\x1b\[[\d;]*m", "", styled)


@pytest.mark.parametrize("width", [60, 80, 200])
def test_the_time_left_is_there_on_a_terminal_of_any_width(width):
    output = Console(file=io.StringIO(), force_terminal=True, width=width)
    with TrainingProgress("gaussian", 0, 1_000, 10, "rows", output) as progress:
        progress.show(900, {"loss": 12345.678, "validation_loss": 19840.0, "kl": 0.0953, "rows_per_second": 72633.0})
    last = re.sub(r"\x1b\[[\d;?]*\w", "", output.file.getvalue()).rstrip().splitlines()[-1]
    assert re.search(r" 90% (\d:\d\d:\d\d|-:--:--)$", last)
    assert ("━" in last) == (width == 200)
