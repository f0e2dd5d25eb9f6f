"""A user's own logger."""

import json
import sys
from pathlib import Path

import pytest
from run_helpers import refused
from test_fraud_run import SMALL, small_csv  # noqa: F401 (a fixture)

import experiments.fraud.__main__ as fraud
from experiments.command_line import run

LOGGER = """
import json
def start(options):
    file = open("logged.jsonl", "a")
    print(json.dumps(options), file=file, flush=True)
    return lambda record: print(json.dumps(record), file=file, flush=True)
no_function = 3
"""


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory with a logger in it, and a module that Python has as well."""
    (tmp_path / "my_logger.py").write_text(LOGGER)
    (tmp_path / "mailbox.py").write_text("start = print")
    monkeypatch.chdir(tmp_path)
    monkeypatch.delitem(sys.modules, "my_logger", raising=False)
    return tmp_path


def test_a_logger_gets_the_options_and_each_record(
    small_csv: Path,  # noqa: F811
    here: Path,
    capsys: pytest.CaptureFixture,
) -> None:
    path = list(sys.path)
    arguments = ["--data", str(small_csv), "--epochs", "2", "--recipes", "report", *SMALL, "--run-dir", "run"]
    assert run(fraud.main, [*arguments, "--logger", "my_logger:start"]) == 0
    assert sys.path == path
    options, *records = [json.loads(line) for line in (here / "logged.jsonl").read_text().splitlines()]
    assert options["epochs"] == 2
    assert Path(options["run"]).resolve() == here / "run"
    assert records == [json.loads(line) for line in (here / "run" / "metrics.jsonl").read_text().splitlines()]

    (here / "my_logger.py").unlink()
    del sys.modules["my_logger"]
    line = refused(fraud.main, ["--resume", "run"], capsys)
    assert "--logger my_logger:start: expected MODULE:FUNCTION or None" in line
    assert run(fraud.main, ["--resume", "run", "--logger", "None"]) == 0


@pytest.mark.parametrize(
    "name", ["my_logger", "my_logger:other", "no_such_module:start", "my_logger:no_function", "mailbox:start", ":"]
)
def test_a_logger_that_is_not_there_is_refused(here: Path, name: str, capsys: pytest.CaptureFixture) -> None:
    line = refused(fraud.main, ["--data", "synthetic", "--logger", name, "--run-dir", "run"], capsys)
    assert line.startswith(f"error: --logger {name}: ")
    assert not (here / "run").exists()
