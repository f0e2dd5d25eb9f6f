"""Modules under the names they had before: code that imports them so goes on working."""

import importlib
import sys
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType

MOVED = {
    "vae_jax.checkpoints": "vae_jax.training.checkpoints",
    "vae_jax.convolution": "vae_jax.networks.conv_layer",
    "vae_jax.data.batches": "vae_jax.images.batches",
    "vae_jax.data.decoding": "vae_jax.images.decoding",
    "vae_jax.data.drawn_faces": "vae_jax.images.drawn_faces",
    "vae_jax.data.image_cache": "vae_jax.images.cache",
    "vae_jax.data.lists": "vae_jax.images.celeba_lists",
    "vae_jax.data.pictures": "vae_jax.images.pictures",
    "vae_jax.data.scaling": "vae_jax.tables.scaling",
    "vae_jax.data.splits": "vae_jax.tables.splits",
    "vae_jax.data.synthetic": "vae_jax.tables.synthetic",
    "vae_jax.data.transactions": "vae_jax.tables.transactions",
    "vae_jax.dense": "vae_jax.networks.dense_layer",
    "vae_jax.image_measures": "vae_jax.images.measures",
    "vae_jax.model_folder": "vae_jax.detector.model_folder",
    "vae_jax.parallel": "vae_jax.training.parallel",
    "vae_jax.permutation": "vae_jax.training.permutation",
    "vae_jax.recipes": "vae_jax.detector.recipes",
}


class _Finder(MetaPathFinder, Loader):
    """Gives the module of today for a name of before, when it is first imported."""

    def find_spec(self, fullname: str, path: object = None, target: object = None) -> ModuleSpec | None:
        return ModuleSpec(fullname, self) if fullname in MOVED else None

    def exec_module(self, module: ModuleType) -> None:
        # Python takes what is in sys.modules after this call as the module that was asked for.
        sys.modules[module.__name__] = importlib.import_module(MOVED[module.__name__])


sys.meta_path.append(_Finder())
