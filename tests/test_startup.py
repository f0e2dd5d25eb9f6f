"""What a command sets before JAX starts, and how work is then divided."""

import os
import subprocess
import sys
import weakref
from pathlib import Path

import jax
import numpy as np
import pytest
from helpers import assert_close
from jax.sharding import PartitionSpec

from experiments.fraud import models
from experiments.fraud.config import FraudConfig
from experiments.fraud.inputs import prepare
from experiments.startup import hush_checkpoints
from vae_jax.detector import recipes
from vae_jax.training.parallel import AXIS, data_mesh, replicated, sharded

ROOT = Path(__file__).parent.parent
SHOW = """
import os
import jax
from experiments.startup import prepare_jax, use_cores
prepare_jax(large_arrays=True)
use_cores(int(os.environ["COUNT"]))
print(len(jax.devices()), os.environ.get("NPROC"), jax.config.jax_compilation_cache_dir)
"""


def started(home: Path, count: int, program: str = SHOW, **environment: str) -> tuple[int, str, str]:
    """Devices for so many things, threads of each, and the cache's folder, in a process that has just started."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("JAX_")}
    environment = {
        "PYTHONPATH": str(ROOT),
        "HOME": str(home),
        "COUNT": str(count),
        "JAX_PLATFORMS": "cpu",
        **environment,
    }
    done = subprocess.run(
        [sys.executable, "-c", program],
        env=inherited | environment,
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
    )
    assert done.stderr == ""
    devices, threads, folder = done.stdout.split()
    return int(devices), threads, folder


def test_cores_become_devices_and_programs_are_kept_in_the_home(tmp_path: Path) -> None:
    cores = len(os.sched_getaffinity(0))
    devices, threads, folder = started(tmp_path, 8 * cores)
    assert devices == cores
    assert threads == "1"
    assert Path(folder).parent == tmp_path / ".cache" / "vae_jax" / "compiled"
    assert Path(folder).is_dir()


def test_one_thing_takes_one_core(tmp_path: Path) -> None:
    assert started(tmp_path, 1)[0] == 1


def test_what_the_environment_names_is_left_alone(tmp_path: Path) -> None:
    named = {"JAX_NUM_CPU_DEVICES": "3", "JAX_COMPILATION_CACHE_DIR": str(tmp_path / "mine")}
    assert started(tmp_path, 8, **named) == (3, "None", str(tmp_path / "mine"))
    assert not (tmp_path / ".cache").exists()


def test_a_home_that_can_not_be_written_is_no_error(tmp_path: Path) -> None:
    (tmp_path / ".cache").write_text("a file where a folder is needed")
    assert started(tmp_path, 1) == (1, "1", "None")


def test_no_home_and_a_cache_of_another_user_are_no_errors(tmp_path: Path) -> None:
    nobody = "import os, pwd; del os.environ['HOME']; pwd.getpwuid = {}.__getitem__"
    assert started(tmp_path, 1, f"{nobody}\n{SHOW}") == (1, "1", "None")
    theirs = "import os, pathlib; pathlib.os.utime = lambda *_: os.open('/', os.O_RDWR)"  # fails, for root as well
    assert started(tmp_path, 1, f"{theirs}\n{SHOW}") == (1, "1", "None")


def test_programs_that_were_cut_off_are_compiled_again_in_silence_and_replaced(tmp_path: Path) -> None:
    compiling = f"{SHOW}\njax.jit(lambda x: x + 1)(1.0)"
    first = started(tmp_path, 1, compiling)
    kept = {path: path.read_bytes() for path in Path(first[2]).glob("*-cache")}
    assert kept
    for i, path in enumerate(kept):
        os.truncate(path, i % 3 * path.stat().st_size // 3)
    assert started(tmp_path, 1, compiling) == first
    assert {path: len(path.read_bytes()) // 100 for path in kept} == {path: len(kept[path]) // 100 for path in kept}


def test_warnings_give_the_terminal_no_orders(tmp_path: Path) -> None:
    program = "import warnings; from experiments.startup import escape_warnings; escape_warnings(); "
    program += r"warnings.warn_explicit('sheet \x9b2J, price Ä', UserWarning, 'table.py', 7)"
    environment = {"PYTHONPATH": str(ROOT), "HOME": str(tmp_path), "PYTHONIOENCODING": "utf-8"}
    said = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, check=True).stderr
    assert said.decode() == "table.py:7: UserWarning: sheet \\x9b2J, price Ä\n"


def layout(num_models: int, batch_size: int = 128) -> tuple[int, PartitionSpec]:
    mesh, models = recipes.model_layout(num_models, batch_size)
    return mesh.shape[AXIS], models


def test_models_are_divided_where_their_number_allows_else_batches() -> None:
    assert layout(8) == (4, sharded)
    assert layout(1) == (4, replicated)
    assert layout(1, batch_size=6) == (3, replicated)
    assert layout(1, batch_size=7) == (1, replicated)


def test_models_divided_among_devices_are_those_of_one_device(monkeypatch: pytest.MonkeyPatch) -> None:
    config = FraudConfig(data="synthetic", num_models=4, batch_size=2048, hidden_dims=(4,), epochs=1)
    inputs = prepare(config)

    def epoch():
        training, state = models.training("report", config, inputs)
        return training.advance(state, 0, training.steps_per_call)

    divided, info = epoch()
    assert {shard.data.shape[0] for shard in divided.step.addressable_shards} == {1}
    one_device = data_mesh(jax.devices()[:1])
    monkeypatch.setattr(recipes, "model_layout", lambda num_models, batch_size: (one_device, sharded))
    expected, expected_info = epoch()
    # The same program for one model and for four: sums in another order.
    assert_close(divided.params, expected.params, atol=1e-5)
    np.testing.assert_allclose(info["loss"], expected_info["loss"], rtol=1e-5)


class Reported:
    """What a weak reference can be made to."""


def fail(error: Exception) -> None:
    """Raises where Python can do no more than print it: when something is collected."""
    raise error


def test_what_orbax_says_beside_an_error_is_not_heard(capsys, monkeypatch):
    monkeypatch.setattr(sys, "excepthook", sys.excepthook)
    monkeypatch.setattr(sys, "unraisablehook", sys.unraisablehook)
    hush_checkpoints()
    for message, heard in (("Event loop is closed", False), ("something else", True)):
        error = RuntimeError(message)
        sys.excepthook(RuntimeError, error, None)
        assert (message in capsys.readouterr().err) == heard
        weakref.finalize(reported := Reported(), fail, error)
        del reported
        assert (message in capsys.readouterr().err) == heard
