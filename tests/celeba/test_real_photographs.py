"""A whole run of the faces experiment on photographs, with the report's model."""

import json
import os
from pathlib import Path

import pytest

import experiments.celeba.__main__ as celeba
from experiments.command_line import run


def test_a_short_run_on_real_photographs(tmp_path: Path) -> None:
    """In two epochs of a thousand photographs a reconstruction is nearer to a picture than the mean picture is."""
    if not (data := os.environ.get("VAE_JAX_DATA")) or not Path(data, "celeba").exists():
        pytest.skip("real data: VAE_JAX_DATA is not set, or has no celeba")
    arguments = ["--data", f"{data}/celeba", "--limit", "1000", "--image-size", "32", "--batch-size", "16"]
    arguments += ["--epochs", "2", "--learning-rate", "1e-3", "--cache", str(tmp_path / "cache")]
    arguments += ["--run-dir", str(tmp_path / "run")]
    assert run(celeba.main, arguments) == 0
    metrics = json.loads((tmp_path / "run" / "metrics.json").read_text())
    evaluation = metrics["evaluation"]
    assert evaluation["rmse"] < 0.85 * evaluation["mean_picture_rmse"]
    assert evaluation["active_latents"] >= 1
    assert (tmp_path / "run" / "figures" / "edits_Male.png").exists()
