"""The scripts of docs/cluster.md run as they are. `bash run.sh score --engine ray` makes `.venv-cluster`."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from vae_jax import VAEDetector

ROOT = Path(__file__).parent.parent
WHY = "needs Ray and PySpark: .venv-cluster/bin/python -m pytest tests/test_cluster.py"
pytest.importorskip("ray", reason=WHY)
pytest.importorskip("pyspark", reason=WHY)


def run_script(word: str, folder: Path) -> str:
    """Runs the page's script that has a word, in a folder, and returns what it says."""
    scripts = re.findall(r"```py\n(.*?)```", (ROOT / "docs" / "cluster.md").read_text(), re.DOTALL)
    (script,) = [text for text in scripts if word in text]
    (folder / "script.py").write_text(script)
    names = {
        "PYTHONPATH": str(ROOT),
        "RAY_ADDRESS": "local",
        "RAY_worker_niceness": "0",
        "RAY_USAGE_STATS_ENABLED": "0",
    }
    environment = {**os.environ, **names, "PYSPARK_PYTHON": sys.executable}
    done = subprocess.run(
        [sys.executable, "script.py"], cwd=folder, env=environment, capture_output=True, text=True, timeout=500
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture
def rows(rng) -> pd.DataFrame:
    return pd.DataFrame(rng.normal(size=(2_000, 2)) @ rng.normal(size=(2, 4)), columns=list("abcd"))


@pytest.mark.skipif(shutil.which("java") is None, reason="needs Java: apt-get install default-jre-headless")
def test_spark_gives_the_detectors_own_scores(rows, tmp_path):
    detector = VAEDetector(recipe="gaussian", hidden_dims=(8,), epochs=1).fit(rows)
    detector.save(tmp_path / "runs" / "fraud" / "latest" / "model")
    (tmp_path / "rows").mkdir()
    numbered = rows.assign(id=[f"r{i:04}" for i in range(len(rows))])
    for i in range(2):
        numbered.iloc[i::2].to_parquet(tmp_path / "rows" / f"{i}.parquet")
    run_script("mapInArrow", tmp_path)
    found = pd.read_parquet(tmp_path / "scores").sort_values("id")
    assert found["id"].tolist() == numbered["id"].tolist()
    np.testing.assert_array_equal(found["score"], detector.score_samples(rows))
    np.testing.assert_array_equal(found["anomaly"], detector.predict(rows) == -1)


def test_a_search_on_the_cluster_finds_settings(rows, rng, tmp_path):
    labelled = rows.iloc[:300].assign(Class=0)
    labelled.loc[::20, "Class"] = 1
    labelled.loc[::20, list("abcd")] = rng.normal(size=(15, 4)) * 5
    labelled.to_parquet(tmp_path / "labelled.parquet")
    said = run_script("GridSearchCV", tmp_path)
    found = re.search(r"\{'epochs': (10|30), 'recipe': '(exemplar|gaussian)'\} ([\d.]+)\n", said)
    assert found is not None, said
    assert float(found[3]) > 0.5  # chance is 0.05
