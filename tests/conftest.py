"""Strict JAX settings for all tests, and where the real data is."""

import os
from collections.abc import Iterator
from pathlib import Path

import jax
import numpy as np
import pytest

# Four devices on any machine; must be set before the first use of JAX.
jax.config.update("jax_num_cpu_devices", 4)
# An array that is silently broadcast over a missing axis is how a wrong reduction goes unnoticed.
jax.config.update("jax_numpy_rank_promotion", "raise")


@pytest.fixture
def rng() -> np.random.Generator:
    """A NumPy generator, the same for every test."""
    return np.random.default_rng(0)


@pytest.fixture(scope="module")
def compiled_soon_rather_than_well() -> Iterator[None]:
    """For files whose tests compile many programs and compute next to nothing with each."""
    jax.config.update("jax_disable_most_optimizations", True)
    yield
    jax.config.update("jax_disable_most_optimizations", False)
    jax.clear_caches()  # other files' tests are to run what users run


@pytest.fixture(scope="session")
def real_transactions() -> Path:
    """The real transactions; tests that need them are skipped where they are not to be had."""
    folder = os.environ.get("VAE_JAX_DATA")
    if not folder:
        pytest.skip("real data: VAE_JAX_DATA is not set")
    path = Path(folder) / "creditcard" / "creditcard.csv"
    if not path.exists():
        pytest.skip(f"real data: {path} does not exist")
    return path
