"""Where the real data are: they may not be part of the project, so tests that need them skip where they are not."""

import os
from pathlib import Path

import pytest


def real_data(name: str) -> Path:
    """The path of a file in the folder of real data; skips the test, and says so, if it is not to be had."""
    folder = os.environ.get("VAE_JAX_DATA")
    if not folder:
        pytest.skip("real data: VAE_JAX_DATA is not set")
    path = Path(folder) / name
    if not path.exists():
        pytest.skip(f"real data: {path} does not exist")
    return path
