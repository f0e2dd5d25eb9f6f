"""The wheel, built and installed into an empty environment: `bash run.sh test -m wheel`."""

import json
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from vae_jax.version import __version__

ROOT = Path(__file__).parent.parent
PIP = ("-m", "pip", "--quiet", "--disable-pip-version-check")

pytestmark = pytest.mark.wheel


def run(program: Path, *arguments: str | Path, cwd: Path) -> subprocess.CompletedProcess[str]:
    """Runs a program as a user does, without the settings that the tests make for JAX."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("JAX_", "XLA_", "PYTHON"))}
    environment["HOME"] = str(cwd)
    command = [str(word) for word in (program, *arguments)]
    return subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, timeout=1800)


def succeeds(program: Path, *arguments: str | Path, cwd: Path) -> str:
    done = run(program, *arguments, cwd=cwd)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def environment(tmp_path_factory) -> Path:
    """The programs of an empty environment; tests are skipped where no package index can be reached."""
    folder = tmp_path_factory.mktemp("environment")
    subprocess.run([sys.executable, "-m", "venv", folder], check=True)
    reached = run(folder / "bin" / "python", *PIP, "download", "--no-deps", "setuptools>=77", cwd=folder)
    if reached.returncode:
        pytest.skip(f"no package index can be reached: {reached.stderr.strip().splitlines()[-1]}")
    return folder / "bin"


@pytest.fixture(scope="module")
def wheel(environment, tmp_path_factory) -> Path:
    """The wheel, built from a copy, because pip leaves a folder `build` behind."""
    folder = tmp_path_factory.mktemp("copy")
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, folder)
    for name in ("vae_jax", "experiments"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    succeeds(environment / "python", *PIP, "wheel", "--no-deps", folder, cwd=folder)
    return next(folder.glob("*.whl"))


def test_the_wheel_holds_all_files_and_no_package_of_a_general_name(wheel):
    with zipfile.ZipFile(wheel) as archive:
        held = {name for name in archive.namelist() if ".dist-info/" not in name}
    folders = {"vae_jax": ROOT / "vae_jax", "vae_jax_experiments": ROOT / "experiments"}
    assert held == {
        f"{name}/{path.relative_to(folder)}"
        for name, folder in folders.items()
        for path in folder.rglob("*")
        if path.is_file() and path.suffix != ".pyc"
    }


def test_it_installs_and_trains_and_scores(environment, wheel, tmp_path):
    succeeds(environment / "python", *PIP, "install", f"{wheel}[commands]", cwd=tmp_path)
    succeeds(environment / "python", *PIP, "check", cwd=tmp_path)
    assert succeeds(environment / "vae-jax", "--version", cwd=tmp_path) == f"vae_jax {__version__}\n"
    succeeds(
        environment / "vae-jax", "fraud", "--data", "synthetic", "--recipes", "gaussian", "--epochs", "1", cwd=tmp_path
    )
    made = tmp_path / "runs" / "fraud" / "latest"
    assert json.loads((made / "metrics.json").read_text())["command"].startswith("vae-jax fraud --data synthetic")
    assert "</html>" in (made / "report.html").read_text()
    assert any((tmp_path / ".cache" / "vae_jax" / "compiled").iterdir())  # start-up settings hold
    (tmp_path / "rows.csv").write_text(
        ",".join([*(f"V{i}" for i in range(1, 29)), "Amount"]) + "\n" + ",".join(["0.5"] * 29) + "\n"
    )
    said = succeeds(environment / "vae-jax", "score", "--model", made / "model", "--input", "rows.csv", cwd=tmp_path)
    assert said.startswith("row,log_reconstruction_probability,decision\n0,")
