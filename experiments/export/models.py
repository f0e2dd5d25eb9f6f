"""What of a saved model is exported: functions of one array each, and what a reader has to know of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jax.export import symbolic_shape

from experiments.celeba.config import CelebaConfig
from experiments.celeba.face_model import LATENTS
from experiments.celeba.inputs import CELEBA
from experiments.celeba.model import NAME, initial_state
from experiments.command_line import UsageError
from experiments.runs import loop, run_folder
from vae_jax.detector import VAEDetector
from vae_jax.detector.function import as_function
from vae_jax.detector.model_folder import MANIFEST, ModelError
from vae_jax.detector.schema_function import cell_of
from vae_jax.networks import decode, encode
from vae_jax.tables.columns import Column
from vae_jax.tables.scaling import Scaler
from vae_jax.tables.schema import Schema
from vae_jax.version import __version__

MODEL = "model"  # folder of the detector in a run


@dataclass(frozen=True)
class Part:
    """One function of a model.

    Attributes:
      name: of its file.
      function: from an array to arrays by name.
      input: name of its array.
      like: shape and dtype of that, with a symbol for the number of rows.
      about: what a reader has to know, as JSON's values.
      wide: whether it is traced with 64-bit numbers.
    """

    name: str
    function: Callable[[Any], Mapping[str, Any]]
    input: str
    like: jax.ShapeDtypeStruct
    about: dict[str, Any]
    wide: bool = False


def load(name: str, shares: bool) -> tuple[list[Part], Path]:
    """Loads a model, and returns its parts and the folder of the run, or that around a detector's.

    `shares` are a detector's output of that name.

    Raises UsageError if there is no model, or none that can be exported.
    """
    folder = Path(name)
    for candidate in (folder, folder / MODEL):
        if (candidate / MANIFEST).is_file():
            return [_detector(name, candidate, shares)], candidate.resolve().parent
    if (folder / LATENTS).is_file():
        opened = run_folder.open_to_read(CELEBA.name, str(folder), "--model")
        return _faces(opened), opened.folder
    raise UsageError(f"--model {name}: neither a saved detector nor a finished run of fraud or celeba")


def _rows() -> Any:
    return symbolic_shape("rows")[0]


def _detector(name: str, folder: Path, shares: bool) -> Part:
    try:
        detector = VAEDetector.load(folder)
        function = as_function(detector)
    except ModelError as error:
        raise UsageError(f"--model {name}: {str(error).removeprefix(f'{folder}: ')}") from error
    features = list(detector.features_.modelled)
    like = jax.ShapeDtypeStruct((_rows(), len(features)), np.float64)

    def kept(items: Mapping[str, Any]) -> dict[str, Any]:
        return {name: of for name, of in items.items() if shares or name != "shares"}

    about = kept(_of_detector(detector, features))
    return Part("detector", lambda x: kept(function(x)._asdict()), "rows", like, about, wide=True)


def _of_detector(detector: VAEDetector, features: list[str]) -> dict[str, Any]:
    settings = detector.settings_
    held = len(detector.exemplars_.rows) if detector.exemplars_ else 0
    return {
        "model": "anomaly detector: variational autoencoder",
        "vae_jax": __version__,
        "recipe": settings.recipe,
        "number_of_models": settings.num_models,
        "features": features,
        "input": "rows: float64, shape (rows, features), columns in the order of features, in the units of the table "
        "that the detector was fitted to; NaN for a gap",
        "score": "float64, nats; higher = more normal",
        "boundary": detector.offset_,
        "anomaly": "bool; score < boundary",
        "shares": "float64, shape (rows, features): each feature's share of the evidence against a row, in nats; "
        "larger = more suspicious, 0 for a gap",
        **_of_cells(detector.features_),
        **({"notice": f"holds {held:,} of its training rows: whoever gets it can read them"} if held else {}),
    }


def _of_cells(features: Scaler | Schema) -> dict[str, Any]:
    if isinstance(features, Schema):
        return {"columns": [_of_column(features[name]) for name in features.modelled]}
    inside = {"inside": "(x - mean) / sd, within +- limit", "limit": features.limit}
    return {"scaling": {**inside, "mean": features.mean.tolist(), "sd": features.sd.tolist()}}


def _of_column(column: Column) -> dict[str, Any]:
    said = {"name": column.name, "kind": column.kind, "cell": cell_of(column)}
    return said if column.reads_numbers or column.kind == "date" else {**said, "levels": column.parts[0].levels}


def _faces(opened: run_folder.Run) -> list[Part]:
    config: CelebaConfig = run_folder.read_config(opened, CelebaConfig)
    # In float32 whatever it was trained in: the parameters are, and not every machine computes in bfloat16.
    state = loop.load_best(opened, NAME, initial_state(replace(config, dtype="float32")))
    vae, params = state.vae, jax.tree.map(np.asarray, state.params)
    size, latents = config.image_size, config.latent_dim
    both = {"vae_jax": __version__, "image_size": size, "latent_dim": latents, "crop": config.crop}
    pictures = f"float32, shape (rows, {size}, {size}, 3): height, width, and red, green and blue in [0, 1]"
    return [
        Part(
            "encoder",
            lambda x: encode(vae, params, x)._asdict(),
            "pictures",
            jax.ShapeDtypeStruct((_rows(), size, size, 3), np.float32),
            {
                "model": "encoder of faces: variational autoencoder",
                **both,
                "input": f"pictures: {pictures}",
                "mean": f"float32, shape (rows, {latents}): mean of the latents",
                "log_var": "natural log of their variances, same shape",
            },
        ),
        Part(
            "decoder",
            lambda z: {"pictures": decode(vae, params, z).mean},
            "latents",
            jax.ShapeDtypeStruct((_rows(), latents), np.float32),
            {
                "model": "decoder of faces: variational autoencoder",
                **both,
                "input": f"latents: float32, shape (rows, {latents}); new faces from a standard normal distribution",
                "pictures": pictures,
            },
        ),
    ]
