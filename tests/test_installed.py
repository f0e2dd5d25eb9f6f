"""The console script `vae-jax`, where the package is laid out as it is installed."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from experiments.__main__ import COMMANDS, IN_A_CLONE
from vae_jax.version import __version__

ROOT = Path(__file__).parent.parent
SCRIPT = "import sys; from vae_jax_experiments.__main__ import main; sys.exit(main())"  # as pip writes it


@pytest.fixture
def packages(tmp_path) -> Path:
    """A folder of packages with those of the wheel, and no `experiments`."""
    (tmp_path / "packages").mkdir()
    (tmp_path / "packages" / "vae_jax").symlink_to(ROOT / "vae_jax")
    (tmp_path / "packages" / "vae_jax_experiments").symlink_to(ROOT / "experiments")
    return tmp_path / "packages"


def vae_jax(packages: Path, *arguments: str, program: str = SCRIPT, options: str = "-P") -> tuple[int, str, str]:
    """Exit code, output and errors of the console script, in the folder above the packages."""
    command = [sys.executable, options, "-c", f"import sys; sys.path.insert(0, {str(packages)!r}); {program}"]
    done = subprocess.run([*command, *arguments], capture_output=True, text=True, cwd=packages.parent, timeout=120)
    return done.returncode, done.stdout, done.stderr


def test_the_commands_are_those_of_run_sh():
    listed = (ROOT / "run.sh").read_text().partition("TEXT'\n")[2].partition("\nTEXT")[0]
    for name, (_, text) in COMMANDS.items():
        assert f"\n  {name:13} {text}\n" in listed
    words = (ROOT / "run.sh").read_text().partition('case "$command" in\n')[2].partition(")")[0].split(" | ")
    assert sorted(word.strip() for word in words) == sorted([*COMMANDS, *IN_A_CLONE])


@pytest.mark.parametrize("arguments", [["--help"], ["-h"], ["help"], []])
def test_help_lists_the_commands(packages, arguments):
    code, said, errors = vae_jax(packages, *arguments)
    assert (code, errors) == (0, "")
    assert said.startswith("usage: vae-jax COMMAND")
    assert all(f"  {name} " in said for name in COMMANDS)


def test_help_and_version_wait_for_no_other_package(packages):
    for option in ("--help", "--version"):
        program = f"{SCRIPT.removesuffix('sys.exit(main())')} main(); print(*sys.modules)"
        code, said, errors = vae_jax(packages, option, program=program)
        assert (code, errors) == (0, "")
        imported = {name.partition(".")[0] for name in said.splitlines()[-1].split()}
        assert not {"vae_jax", "jax", "numpy", "tyro"} & imported
        assert "vae_jax_experiments" in imported


def test_version(packages):
    assert vae_jax(packages, "--version") == (0, f"vae_jax {__version__}\n", "")


@pytest.mark.parametrize(
    ("command", "said"),
    [
        ("frod", "unknown command 'frod'; vae-jax --help lists them"),
        ("--epochs", "unknown command '--epochs'; vae-jax --help lists them"),
        ("test", "test needs a clone of the repository: bash run.sh test"),
        ("bench", "bench needs a clone of the repository: bash run.sh bench"),
    ],
)
def test_what_it_has_not_is_said_in_one_line(packages, command, said):
    assert vae_jax(packages, command) == (2, "", f"error: {said}\n")


def test_a_package_that_is_missing_is_named_with_the_extra_that_has_it(packages):
    # Without site-packages, nothing else is there.
    code, said, errors = vae_jax(packages, "fraud", options="-S")
    assert (code, said) == (2, "")
    assert errors.startswith("error: vae-jax fraud needs ")
    assert errors.endswith("; pip install 'vae_jax[commands]' installs all it needs\n")
    assert errors.count("\n") == 1


def test_a_command_runs_under_its_installed_name(packages):
    code, said, errors = vae_jax(packages, "score", "--input", "rows.csv")
    assert (code, said) == (2, "")
    assert errors == "error: --model: expected the folder of a saved model (see vae-jax score --help)\n"


def test_ctrl_c_during_the_imports_ends_without_a_traceback(tmp_path):
    (tmp_path / "jax.py").write_text("import time; print('importing', flush=True); time.sleep(60)")
    command = [sys.executable, "-m", "experiments", "fraud", "--epochs", "1"]
    places = os.pathsep.join([str(tmp_path), str(ROOT)])
    started = subprocess.Popen(
        command, env=os.environ | {"PYTHONPATH": places}, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    assert started.stdout is not None
    assert started.stdout.readline() == b"importing\n"
    started.send_signal(signal.SIGINT)
    assert started.communicate(timeout=30)[1] == b""
    assert started.returncode == -signal.SIGINT
