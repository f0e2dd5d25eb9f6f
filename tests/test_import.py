"""What importing the package costs and offers."""

import importlib
import subprocess
import sys

import pytest

import vae_jax
from vae_jax.moved import MOVED

ADDED_BY_IMPORT = """
import sys
import jax, flax, optax, numpy
before = set(sys.modules)
import vae_jax
print(*(name for name in sys.modules if name not in before))
"""


def test_import_needs_jax_flax_optax_and_numpy_alone():
    # A fresh interpreter: here, other tests have long imported everything.
    result = subprocess.run([sys.executable, "-c", ADDED_BY_IMPORT], capture_output=True, text=True, check=True)
    added = result.stdout.split()
    assert "vae_jax" in added
    packages = {name.partition(".")[0] for name in added} - set(sys.stdlib_module_names)
    assert packages == {"vae_jax"}
    # SciPy's top level comes with jax, but its statistics take as long to import as all of the rest.
    assert not [name for name in added if name.startswith("scipy.")]
    # Orbax and the readers wait until they are used.
    assert "vae_jax.training.checkpoints" not in added
    assert not {"vae_jax.data", "vae_jax.images", "vae_jax.tables", "vae_jax.detector"} & set(added)


@pytest.mark.parametrize(("old", "new"), MOVED.items())
def test_a_module_is_found_under_the_name_it_had_before(old, new):
    module = importlib.import_module(old)
    assert module is importlib.import_module(new)
    assert module.__name__ == module.__spec__.name == new


def test_what_a_module_of_before_holds_can_be_imported_in_every_way():
    for code in (
        "from vae_jax import image_measures; from vae_jax.data.scaling import Scaler; import vae_jax.data.splits as s",
        "import vae_jax.checkpoints; vae_jax.checkpoints.Checkpoints",
        "import vae_jax; vae_jax.parallel.AXIS, vae_jax.networks.VAE, vae_jax.recipes.make_vae",
    ):
        subprocess.run([sys.executable, "-c", code], check=True)
    with pytest.raises(ModuleNotFoundError):
        importlib.import_module("vae_jax.data.nothing")


def test_every_public_name_exists_and_is_documented():
    assert len(set(vae_jax.__all__)) == len(vae_jax.__all__)
    for name in vae_jax.__all__:
        value = getattr(vae_jax, name)
        if isinstance(value, str):
            assert name == "__version__"
        elif type(value).__module__ == "jax.sharding" or type(value).__name__ == "PartitionSpec":
            assert name in ("replicated", "sharded")
        else:
            # Not the docstring that dataclasses and named tuples make of their own signature.
            assert value.__doc__, name
            assert not value.__doc__.startswith(f"{name}("), name


def test_version_is_a_version():
    assert all(part.isdigit() for part in vae_jax.__version__.split(".")[:2])
