"""Whether an accelerator gives the scores that the processor gives.

    PYTHONPATH=. .venv/bin/python -m benchmarks.same_scores

Each recipe is fitted on the accelerator and saved; a process that sees the processor alone loads it and scores the same
rows. Prints differences in units of the scores' standard deviation over the rows, and fails above `TOLERANCE`.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

import jax
import numpy as np

from experiments.fraud.config import FraudConfig
from experiments.fraud.inputs import prepare
from vae_jax.detector import VAEDetector

TOLERANCE = 1e-3
RECIPES = ("exemplar", "gaussian", "report")
EPOCHS = 20
SCORED = 4_096
ON_PROCESSOR = """
import sys
import numpy as np
from vae_jax.detector import VAEDetector
folder, rows, target = sys.argv[1:]
np.save(target, VAEDetector.load(folder).score_samples(np.load(rows)))
"""


def main() -> int:
    """Prints a line for each recipe; returns the exit status."""
    path = Path(os.environ.get("VAE_JAX_DATA", ""), "creditcard", "creditcard.csv")
    inputs = prepare(FraudConfig(data=str(path.absolute()) if path.exists() else "synthetic"))
    train, rows = inputs.x[inputs.split.train], inputs.x[:SCORED].astype(np.float32)
    worst = 0.0
    with tempfile.TemporaryDirectory() as folder:
        np.save(f"{folder}/rows.npy", rows)
        for recipe in RECIPES:
            detector = VAEDetector(recipe=recipe, epochs=EPOCHS).fit(train)
            detector.save(f"{folder}/{recipe}")
            files = f"{folder}/{recipe}", f"{folder}/rows.npy", f"{folder}/{recipe}.npy"
            environment = os.environ | {"JAX_PLATFORMS": "cpu"}
            subprocess.run([sys.executable, "-c", ON_PROCESSOR, *files], env=environment, check=True)
            here, there = detector.score_samples(rows), np.load(f"{folder}/{recipe}.npy")
            difference = np.abs(here - there) / there.std()
            worst = max(worst, difference.max())
            print(
                f"{recipe}: {len(rows):,} rows, {jax.devices()[0].device_kind} against the processor: difference at "
                f"most {difference.max():.1e}, in the median {np.median(difference):.1e} standard deviations"
            )
    print(f"tolerance {TOLERANCE:g}: {'kept' if worst <= TOLERANCE else 'EXCEEDED'}")
    return int(worst > TOLERANCE)


if __name__ == "__main__":
    sys.exit(main())
