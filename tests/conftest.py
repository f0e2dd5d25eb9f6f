"""JAX's settings for all tests, and where the real data is."""

import gc
import os
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path

# Tests compile many programs and compute next to nothing with each, so programs are compiled soon rather than well, and
# kept. As environment variables, and before JAX is imported, so that processes that tests start do the same. Workers
# share one folder: a program that is read while another worker still writes it is compiled again.
os.environ |= {
    "JAX_DISABLE_MOST_OPTIMIZATIONS": "1",
    "JAX_COMPILATION_CACHE_DIR": str(Path(__file__).parent.parent / ".pytest_cache" / "jax"),
    "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",  # a hundred small ones take seconds, too
    # NumPy's and scikit-learn's threads would spend more time waiting for each other than computing.
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
}
# Else each of the many processes that tests start would compile all modules again.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
# XLA's older way to machine code, which takes half the time. XLA ends a process that sets a flag it doesn't know.
if version("jaxlib").startswith("0.10."):
    os.environ.setdefault("XLA_FLAGS", "--xla_cpu_use_fusion_emitters=false --xla_cpu_parallel_codegen_split_count=1")

# Files of few long tests begin first, so that no worker has one left when the others are done.
LONG = ("test_saved_folders", "test_notebooks", "test_processes", "test_celeba_run", "test_fraud_run", "test_examples")
LONG += ("test_mnist", "test_importance", "test_checkpoints", "test_parallel", "test_train_steps")

import jax  # noqa: E402
import numpy as np  # noqa: E402
import pytest  # noqa: E402
from real_data import real_data  # noqa: E402
from threadpoolctl import threadpool_limits  # noqa: E402

threadpool_limits(1)  # as above, where one of pytest's plugins has imported NumPy before
gc.set_threshold(50_000)  # tracing makes many objects and few circles; looking for them takes an eighth of the time
# Four devices on any machine; must be set before the first use of JAX.
jax.config.update("jax_num_cpu_devices", 4)
# An array that is silently broadcast over a missing axis is how a wrong reduction goes unnoticed.
jax.config.update("jax_numpy_rank_promotion", "raise")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Orders the files."""
    items.sort(key=lambda item: item.path.stem not in LONG)


@pytest.fixture
def rng() -> np.random.Generator:
    """A NumPy generator, the same for every test."""
    return np.random.default_rng(0)


@pytest.fixture(scope="module")
def compiled_well() -> Iterator[None]:
    """For files that compare numbers: they run the optimised programs that users run."""
    jax.config.update("jax_disable_most_optimizations", False)
    jax.clear_caches()
    yield
    jax.config.update("jax_disable_most_optimizations", True)
    jax.clear_caches()


@pytest.fixture(scope="session")
def real_transactions() -> Path:
    """The real transactions; tests that need them are skipped where they are not to be had."""
    return real_data("creditcard/creditcard.csv")
