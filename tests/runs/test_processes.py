"""Several processes on one run: two of two devices each, on this machine."""

import csv
import io
import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from run_helpers import ROOT, final_arrays, logged_epochs, start, wait_for

import experiments.fraud.__main__ as fraud
from experiments.command_line import UsageError, run
from experiments.fraud.models import fitted, score_rows, train_recipe
from experiments.runs import processes
from experiments.runs.loop import load_best
from experiments.runs.native_output import NativeOutput
from experiments.runs.progress import console
from experiments.runs.run_folder import Run
from vae_jax.tables.synthetic import simulate_transactions

COUNT, DEVICES = 2, 2
# Gradients of 4 devices are summed in another order over a network than within a process. Parameters are of order 1.
TOLERANCE = 1e-5
# Mostly a collective notices at once; where the other waits for something else, such as a checkpoint, the heartbeat.
HEARTBEAT_SECONDS, NOTICED_SECONDS = 10, 40
PROGRAM = f"""
import sys
from experiments import command_line
import experiments.fraud.__main__ as fraud
from experiments.runs import processes
processes.HEARTBEAT_SECONDS = {HEARTBEAT_SECONDS}
sys.exit(command_line.run(fraud.main, sys.argv[1:]))
"""

Pair = list[subprocess.Popen]


def free_port() -> int:
    """A port on which nobody listens."""
    with socket.socket() as found:
        found.bind(("localhost", 0))
        return found.getsockname()[1]


def start_pair(arguments: list, folder: Path, monkeypatch: pytest.MonkeyPatch) -> Pair:
    """Starts the two processes of a run."""
    monkeypatch.setenv("JAX_NUM_CPU_DEVICES", str(DEVICES))
    join = ["--coordinator", f"localhost:{free_port()}", "--num-processes", COUNT]
    return [start([*arguments, *join, "--process-id", i], folder, program=PROGRAM) for i in range(COUNT)]


def outcome(process: subprocess.Popen) -> tuple[int, str, str]:
    """Exit code, stdout and stderr of a process, when it has ended."""
    output, errors = process.communicate(timeout=120)
    return process.returncode, output, errors


@pytest.fixture(scope="module")
def small_csv(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three hundred simulated rows with some frauds."""
    frame = simulate_transactions(seed=1, rows=20_000)
    frame = pd.concat([frame[frame.Class == 0].head(280), frame[frame.Class == 1].head(20)]).sort_values("Time")
    path = tmp_path_factory.mktemp("data") / "small.csv"
    frame.to_csv(path, index=False)
    return path


@pytest.fixture(scope="module")
def fraud_options(small_csv: Path) -> list[str]:
    """An epoch of six steps."""
    options = {"recipes": "gaussian", "hidden-dims": 6, "num-samples": 20, "batch-size": 32, "epochs": 1}
    words = [word for name, value in options.items() for word in (f"--{name}", str(value))]
    return ["--data", str(small_csv), *words]


@pytest.fixture(scope="module")
def by_pair(fraud_options: list, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[tuple[int, str, str]]]:
    """A run of two processes: its folder, and how both ended."""
    folder = tmp_path_factory.mktemp("pair") / "run"
    with pytest.MonkeyPatch.context() as monkeypatch:
        pair = start_pair([*fraud_options, "--run-dir", folder], folder.parent, monkeypatch)
    return folder, [outcome(process) for process in pair]


def test_two_processes_end_well_and_one_of_them_speaks(by_pair) -> None:
    _, outcomes = by_pair
    (code, output, errors), (other_code, other_output, other_errors) = outcomes
    assert (code, errors) == (0, "")
    assert (other_code, other_output, other_errors) == (0, "", "")
    assert "device  4 x cpu in 2 processes" in output
    assert "[Gloo]" not in output


@pytest.mark.parametrize(
    ("line", "hidden"),
    [
        ("[Gloo] Rank 0 is connected to 3 peer ranks. Expected number of connected peer ranks is : 3\n", True),
        ("[Gloo] Rank 0[Gloo] Rank 1 is connected to 3 is connected to 3 peer ranks. peer ranks. \n", True),
        ("Expected number of connected peer ranks is : 3\n", True),
        ("3\n", True),
        ("\n", True),
        ("connection refused\n", False),
        ("3 errors\n", False),
    ],
)
def test_what_is_said_of_connections_is_hidden_however_mixed_up(line: str, hidden: bool) -> None:
    assert bool(NativeOutput._CONNECTED.match(line)) == hidden


def test_one_process_writes_and_says_nothing_of_the_others(by_pair) -> None:
    folder, _ = by_pair
    assert len((folder / "metrics.jsonl").read_text().splitlines()) == 1
    assert len(list((folder / "tensorboard" / "gaussian").iterdir())) == 1
    config = json.loads((folder / "config.json").read_text())
    assert [config[name] for name in processes.OPTIONS] == [None] * 3
    assert "coordinator" not in json.loads((folder / "metrics.json").read_text())["command"]


def test_two_processes_give_what_one_gives(by_pair, fraud_options: list, tmp_path: Path) -> None:
    folder, _ = by_pair
    config, inputs, opened = fraud.FRAUD.start([*fraud_options, "--run-dir", str(tmp_path / "run")])
    state = train_recipe("gaussian", config, inputs, opened, console(io.StringIO()))  # on four devices
    lines = [json.loads((one / "metrics.jsonl").read_text()) for one in (folder, tmp_path / "run")]
    for name in ("loss", "kl", "validation_loss"):
        assert lines[0][name] == pytest.approx(lines[1][name], rel=TOLERANCE)
    arrays, expected = (final_arrays(one, "gaussian") for one in (folder, tmp_path / "run"))
    assert arrays.keys() == expected.keys()
    for name, array in arrays.items():
        np.testing.assert_allclose(array, expected[name], atol=TOLERANCE, rtol=TOLERANCE, err_msg=name)

    # Scores of the same parameters are the same to the last bit; nine digits are all that a float32 has.
    state = load_best(Run(folder, None), "gaussian", like=state)
    scores, _ = score_rows(fitted("gaussian", state, config, inputs), inputs.x[inputs.split.test])
    with open(folder / "scores.csv") as file:
        written = [row["gaussian_log_reconstruction_probability"] for row in csv.DictReader(file)]
    assert written == [f"{score:.9g}" for score in scores[0]]


def test_where_process_0_refuses_the_other_ends_too(
    by_pair, fraud_options: list, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, _ = by_pair
    pair = start_pair([*fraud_options, "--run-dir", folder], tmp_path, monkeypatch)
    (code, _, errors), other = (outcome(process) for process in pair)
    assert code == 2
    assert errors.startswith(f"error: --run-dir {folder}: not empty")
    assert len(errors.splitlines()) == 1
    assert other == (2, "", "")


# Process 0 serves the connection. It leaves while the other one still waits to say goodbye.
REFUSED_AND_GONE = """
import sys, time
from experiments.command_line import UsageError, run
from experiments.runs import processes

class Hasty:
    def __init__(self, client):
        self._client = client
    def __getattr__(self, name):
        return getattr(self._client, name)
    def wait_at_barrier(self, *arguments):
        time.sleep(1)

def refuse():
    raise UsageError("refused")

def main(arguments):
    with processes.together():
        processes.connect(arguments[0], 2, int(arguments[1]))
        if processes.is_main():
            processes._link._client = Hasty(processes._link._client)
        processes.by_main(refuse, str, str)

sys.exit(run(main, sys.argv[1:]))
"""


def test_a_process_that_ends_too_early_does_not_abort_the_other(tmp_path: Path) -> None:
    address = f"localhost:{free_port()}"
    pair = [start([address, index], tmp_path, program=REFUSED_AND_GONE) for index in range(COUNT)]
    assert [outcome(process) for process in pair] == [(2, "", "error: refused\n"), (2, "", "")]


def killed(pair: Pair, victim: int) -> str:
    """Kills one of two processes, and returns what the other says before it ends."""
    pair[victim].send_signal(signal.SIGKILL)
    began = time.monotonic()
    code, _, errors = outcome(pair[1 - victim])
    assert time.monotonic() - began < NOTICED_SECONDS
    assert code == 1, errors
    assert len(errors.splitlines()) == 1, errors
    outcome(pair[victim])
    return errors


def test_stopped_or_killed_both_end_and_the_run_resumes(
    fraud_options: list, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two processes are asked to stop; continued, process 1 is killed, then process 0; one ends it on four devices."""
    folder, epochs = tmp_path / "run", 40
    resume = ["--resume", folder]
    options = [*fraud_options, "--epochs", epochs, "--save-every", 4, "--run-dir", folder]
    pair = start_pair(options, tmp_path, monkeypatch)
    wait_for(lambda: logged_epochs(folder) >= 1, pair[0])
    pair[1].send_signal(signal.SIGTERM)
    (code, _, errors), other = (outcome(process) for process in pair)
    assert (code, errors) == (143, f"stopped; continue with: bash run.sh fraud --resume {folder}\n")
    assert other == (143, "", "")

    reached = logged_epochs(folder)
    pair = start_pair(resume, tmp_path, monkeypatch)
    wait_for(lambda: logged_epochs(folder) > reached, pair[0])
    assert killed(pair, victim=1).startswith("error: ")
    assert reached < logged_epochs(folder) < epochs

    pair = start_pair(resume, tmp_path, monkeypatch)
    assert "data" in pair[0].stdout.readline()  # so that both are connected
    assert killed(pair, victim=0).startswith("error: process 1: ")

    assert run(fraud.main, list(map(str, resume))) == 0
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    assert [line["epoch"] for line in lines] == list(range(1, epochs + 1))


def test_processes_that_do_not_find_each_other_say_so() -> None:
    program = (
        "import sys; from experiments import command_line; from experiments.runs import processes;"
        f"connect = lambda _: processes.connect('localhost:{free_port()}', 2, 1, seconds=2);"
        "sys.exit(command_line.run(connect, []))"
    )
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "JAX_PLATFORMS": "cpu"}
    process = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True)
    assert process.returncode == 1
    assert process.stderr.startswith("error: no connection of all processes by way of localhost:")
    assert len(process.stderr.splitlines()) == 1


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (("node1:1234", None, None), "--num-processes: needed with --coordinator node1:1234"),
        ((None, 2, None), "--coordinator: needed with --num-processes 2"),
        (("node1:1234", 2, None), "--process-id: needed with --coordinator node1:1234"),
        (("node1", 2, 0), "--coordinator node1: expected HOST:PORT"),
        (("node1:http", 2, 0), "--coordinator node1:http: expected HOST:PORT"),
        (("node1:70000", 2, 0), "--coordinator node1:70000: expected HOST:PORT"),
        ((":1234", 2, 0), "--coordinator :1234: expected HOST:PORT"),
        (("node1:1234", 0, 0), "--num-processes 0: expected 1 or more"),
        (("node1:1234", 2, 2), "--process-id 2: expected 0 to 1"),
        (("node1:1234", 2, -1), "--process-id -1: expected 0 to 1"),
    ],
)
def test_connect_refuses_options_by_name(options: tuple, expected: str) -> None:
    with pytest.raises(UsageError) as caught:
        processes.connect(*options)
    assert str(caught.value).startswith(expected)


SRUN = {"SLURM_JOB_ID": "7", "SLURM_PROCID": "1", "SLURM_LOCALID": "1", "SLURM_STEP_NODELIST": "n[1-2]"}
OMPI = {"OMPI_COMM_WORLD_SIZE": "4", "OMPI_COMM_WORLD_RANK": "1", "OMPI_COMM_WORLD_LOCAL_RANK": "1"}


@pytest.mark.parametrize(
    ("environment", "several"),
    [
        ({}, False),
        ({**SRUN, "SLURM_NTASKS": "4"}, True),
        ({**SRUN, "SLURM_NTASKS": "1"}, False),
        ({"SLURM_JOB_ID": "7", "SLURM_NTASKS": "4"}, False),  # in an allocation, without srun
        ({**OMPI, "OMPI_MCA_orte_hnp_uri": "1531576320.0;tcp://10.96.0.1:34911"}, True),
        ({"OMPI_COMM_WORLD_SIZE": "1"}, False),
        ({"KUBERNETES_SERVICE_HOST": "10.0.0.1"}, False),  # a pod, but not of an indexed job
    ],
)
def test_launchers_are_found_by_their_variables(environment: dict, several: bool) -> None:
    assert processes.launched(environment) == several


def test_an_open_mpi_that_jax_does_not_know_is_refused() -> None:
    with pytest.raises(UsageError, match="--coordinator: needed with Open MPI 5"):
        processes.launched(OMPI)


def test_one_process_is_the_main_one_and_agrees_with_itself_at_once() -> None:
    assert processes.is_main()
    assert not processes.several()
    assert processes.by_main(lambda: 3, str, int) == 3
    assert processes.Votes().cast(1, 0) == (1, 0)
    assert processes.finish()
    with pytest.raises(UsageError), processes.together():
        raise UsageError("as ever")
