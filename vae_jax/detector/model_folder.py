"""A fitted detector in a folder: arrays in safetensors, the rest in JSON, a model card, and checksums.

    manifest.json      format, version of the library that wrote it, SHA-256 of the other files
    detector.json      options, the features (their standardisation, or a table's schema), boundary, what was measured
    arrays.safetensors parameters, optimiser state
    README.md          the model card, as model hubs want it; it may be edited

Nothing is pickled: reading a folder runs no code of its author.
"""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import jax
import numpy as np

from vae_jax.column_kernels import category_levels
from vae_jax.data import strict_json
from vae_jax.data.errors import OneLineError, first_line
from vae_jax.detector import exemplar, recipes
from vae_jax.detector.exemplar import Exemplars
from vae_jax.detector.settings import LEFT_TO_RECIPE, OF_RECIPE, Resolved, check
from vae_jax.front_matter import LICENCE, front_matter
from vae_jax.networks import ColumnLayout
from vae_jax.tables.gaussianise import Gaussianiser
from vae_jax.tables.scaling import Scaler
from vae_jax.tables.schema import Schema
from vae_jax.version import __version__

# 5 has exemplars and a schema, 4 exemplars of numbers alone (3 had no variances of theirs), 2 a schema, 1 neither.
FORMAT = 5
MANIFEST, DETECTOR, ARRAYS, CARD = "manifest.json", "detector.json", "arrays.safetensors", "README.md"
LEFT_BY_DESKTOPS = {".DS_Store", "Thumbs.db", "desktop.ini"}
TAGS = ("anomaly-detection", "tabular", "variational-autoencoder", "jax", "flax")
EXEMPLARS = "exemplars"  # prefix of their arrays' names
# What JSON holds as it is, of what was found in fitting.
MEASURED = ("offset_", "n_steps_", "active_latents_", "false_alarm_share_", "kl_warmup_steps_", "n_features_in_")


@dataclass(frozen=True)
class Fitted:
    """All that a fitted detector consists of.

    Attributes:
      settings: those it was fitted with.
      features: the standardisation of numbers, or the schema of a table of other columns.
      state: NumPy arrays of the K models under `step`, `params` and `opt_state`.
      residual_sd: see `recipes.residual_sds`.
      named_features: whether the features' names are those of a frame.
      measured: the attributes in `MEASURED`, by name.
      typical_shares: with a schema, the mean share of each modelled column in the evidence against normal rows with a
        cell there, nats.
      exemplars: in the `exemplar` recipe, the kernels' centres, weights and bandwidths.
      unset: the settings that were left to the recipe, which decides them anew for other rows.
    """

    settings: Resolved
    features: Scaler | Schema
    state: dict[str, Any]
    residual_sd: np.ndarray | None
    named_features: bool
    measured: dict[str, Any]
    typical_shares: list[float] | None = None
    exemplars: Exemplars | None = None
    unset: tuple[str, ...] = ()


class ModelError(OneLineError, ValueError):
    """A folder that can't be read as a model, or does not fit the table; the message is one line."""


def save(fitted: Fitted, folder: Path, measures: Mapping[str, Any], head: Mapping[str, Any]) -> None:
    """Writes a fitted detector, whole or not at all.

    Args:
      fitted: what to save.
      folder: where; a model that is there already is replaced.
      measures: names and values for the model card: what it was trained on and how well it did.
      head: entries of the model card's head, such as `license`, `datasets` and `metrics`.

    Raises:
      ModelError: if the folder holds anything else than a model, or can't be written.
    """
    if folder.exists() and not _may_be_replaced(folder):
        raise ModelError(f"{folder}: holds something that is not a model; name another folder")
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        # In a folder within it, because a temporary one can't be read by others.
        with tempfile.TemporaryDirectory(dir=folder.parent, prefix=f".{folder.name}.") as temporary:
            made = Path(temporary, folder.name)
            made.mkdir()
            _write_files(fitted, made, measures, head)
            old = Path(temporary, "old")
            try:
                if folder.exists():
                    os.replace(folder, old)
                os.replace(made, folder)
            finally:
                if old.exists() and not folder.exists():  # stopped between the two
                    os.replace(old, folder)
    except OSError as error:
        raise ModelError(f"can't write in {folder}: {error.strerror or error}") from error


def load(folder: Path, feature_names: Sequence[str] | None = None) -> Fitted:
    """Reads a detector.

    Args:
      folder: where `save` wrote it.
      feature_names: those of the table that is to be scored; None accepts any.

    Returns:
      What `save` was given, to the bit.

    Raises:
      ModelError: if a file is missing or was altered, if a newer version wrote the folder, or if the model is for other
        features.
    """
    detector, arrays = _checked_files(folder)
    try:
        fitted = _fitted(folder, strict_json.loads(detector.decode("utf-8")), arrays)
    except ModelError:
        raise
    except Exception as error:  # of whatever type: the checksums are right, but a stranger may have written anything
        raise ModelError(f"{folder}: not a model ({type(error).__name__}: {first_line(error)[:200]})") from error
    names = fitted.features.feature_names
    if feature_names is not None and tuple(feature_names) != names:
        raise ModelError(f"{folder}: {_difference(names, tuple(feature_names))}")
    return fitted


def _fitted(folder: Path, record: dict[str, Any], arrays: bytes) -> Fitted:
    features = Schema.from_json(record["schema"]) if "schema" in record else Scaler.from_json(record["scaler"])
    settings = _read_settings(folder, record["options"])
    state, residual_sd, exemplars = _read_arrays(settings, features, arrays)
    measured = {name: record["measured"][name] for name in MEASURED if name in record["measured"]}
    if not all(isinstance(value, int | float) for value in measured.values()):
        raise ModelError(f"{folder / DETECTOR}: what was measured is no numbers")
    named, typical_shares = record["named_features"], record.get("typical_shares")
    unset = tuple(name for name in record.get("unset", ()) if name in LEFT_TO_RECIPE)  # older folders don't tell
    return Fitted(settings, features, state, residual_sd, named, measured, typical_shares, exemplars, unset)


def _read_settings(folder: Path, options: dict[str, Any]) -> Resolved:
    """Makes settings of a folder's options; one that the folder is too old to name has its default."""
    if unknown := options.keys() - {field.name for field in fields(Resolved)}:
        raise ModelError(f"{folder / DETECTOR}: unknown option {', '.join(sorted(unknown))}")
    settings = Resolved(**{**OF_RECIPE[options["recipe"]], **options, "hidden_dims": tuple(options["hidden_dims"])})
    check(settings)
    return settings


def _may_be_replaced(folder: Path) -> bool:
    """Whether a folder is empty, or holds a model and nothing else of its owner's."""
    if not folder.is_dir():
        return False
    names = {path.name for path in folder.iterdir()} - LEFT_BY_DESKTOPS
    try:
        return not names or (names <= {MANIFEST, DETECTOR, ARRAYS, CARD} and bool(_read_manifest(folder)))
    except ModelError:
        return False


def _write_files(fitted: Fitted, folder: Path, measures: Mapping[str, Any], head: Mapping[str, Any]) -> None:
    import safetensors.numpy

    record = {
        "options": dict(vars(fitted.settings)),
        "unset": fitted.unset,
        "measured": fitted.measured,
        "named_features": fitted.named_features,
    }
    if fitted.settings.contamination is None:  # so that versions that do not know the option read the folder
        del record["options"]["contamination"]
    with_schema = isinstance(fitted.features, Schema)
    record["schema" if with_schema else "scaler"] = fitted.features.to_json()
    if with_schema:
        record["typical_shares"] = fitted.typical_shares
    (folder / DETECTOR).write_text(json.dumps(record, indent=2, allow_nan=False) + "\n", encoding="utf-8")
    (folder / CARD).write_text(model_card(fitted, measures, head), encoding="utf-8")
    arrays = _named(fitted.state)
    if fitted.residual_sd is not None:
        arrays["residual_sd"] = fitted.residual_sd
    if fitted.exemplars is not None:
        parts = fitted.exemplars._asdict()
        parts |= vars(parts.pop("gaussianiser"))
        arrays |= {f"{EXEMPLARS}/{name}": array for name, array in parts.items() if isinstance(array, np.ndarray)}
    # Not save_file, whose file its owner alone can read, whatever the umask.
    packed = safetensors.numpy.save({name: np.ascontiguousarray(array) for name, array in arrays.items()})
    (folder / ARRAYS).write_bytes(packed)
    checksums = {name: hashlib.sha256((folder / name).read_bytes()).hexdigest() for name in (DETECTOR, ARRAYS, CARD)}
    written = (5 if with_schema else 4) if fitted.exemplars is not None else 2 if with_schema else 1
    manifest = {"format": written, "vae_jax": __version__, "sha256": checksums}
    (folder / MANIFEST).write_text(json.dumps(manifest, indent=2) + "\n", encoding="utf-8")


def _named(state: Any) -> dict[str, np.ndarray]:
    leaves = jax.tree_util.tree_leaves_with_path(state)
    return {jax.tree_util.keystr(path, simple=True, separator="/"): leaf for path, leaf in leaves}


def _read_arrays(
    settings: Resolved, features: Scaler | Schema, content: bytes
) -> tuple[dict, np.ndarray | None, Exemplars | None]:
    """Puts arrays into the tree that new models of the same settings have; also residual deviations and exemplars."""
    from safetensors.numpy import load

    arrays = load(content)
    if len(settings.hidden_dims) > len(arrays):  # a million layers would take long to refuse
        raise ValueError(f"{len(settings.hidden_dims)} hidden layers, but {len(arrays)} arrays")
    residual_sd = arrays.pop("residual_sd", None)
    if isinstance(features, Schema):
        rows = np.zeros((1, features.layout.parts), np.float32)
        columns = recipes.columns_of(features, rows)
    else:
        rows, columns = np.zeros((1, len(features.feature_names)), np.float32), None
    state = recipes.state_shapes(settings, rows, columns)
    like = {"step": state.step, "params": state.params, "opt_state": state.opt_state}
    for name, leaf in _named(like).items():
        if (arrays[name].shape, arrays[name].dtype.kind) != (leaf.shape, leaf.dtype.kind):
            raise ValueError(f"{name} is {arrays[name].dtype}{list(arrays[name].shape)}, expected {leaf}")
    # Earlier versions trained in 64 bits where a program had set jax_enable_x64.
    leaves = [arrays[name].astype(leaf.dtype, copy=False) for name, leaf in _named(like).items()]
    found = jax.tree.unflatten(jax.tree.structure(like), leaves)
    if settings.recipe != "exemplar":
        return found, residual_sd, None
    of_exemplars = {name.removeprefix(f"{EXEMPLARS}/"): array for name, array in arrays.items()}
    layout = exemplar.counts_as_numbers(columns.layout) if columns else None
    return found, residual_sd, _read_exemplars(settings, found["params"], of_exemplars, layout)


def _read_exemplars(
    settings: Resolved, params: Any, arrays: dict[str, np.ndarray], layout: ColumnLayout | None
) -> Exemplars:
    if "log_var" not in arrays:  # format 3: the kernels of each model, and no marginals
        vae = recipes.make_vae(settings, arrays["rows"].shape[1])
        log_var = exemplar.log_variances(settings, vae, params, arrays["rows"])
        models = len(log_var)
        arrays["log_var"], arrays["bandwidths"] = log_var, arrays["bandwidths"][:, None]
        arrays["pooled"] = np.append(np.full(models, 1 / models), 0.0)
    arrays.setdefault("seen", arrays["numbers"][-1:] + 1)  # earlier versions didn't tell how many rows there were

    def of(kind: type, **others: Any) -> Any:
        names = [name for name in kind.__annotations__ if name not in others]
        return kind(**others, **{name: arrays[name] for name in names})

    if layout is not None:
        levels = arrays["rows"][:, layout.measured :]
        if not (np.isnan(levels) | (levels >= 0) & (levels < category_levels(layout))).all():
            raise ValueError("exemplars have levels that their columns have not")
    return of(Exemplars, gaussianiser=of(Gaussianiser), layout=layout)


def _read_manifest(folder: Path) -> dict[str, Any]:
    try:
        manifest = strict_json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
    except FileNotFoundError:
        inside = " or ".join(str(path.parent) for path in sorted(folder.glob(f"*/{MANIFEST}")))
        reason = f"try {inside}" if inside else f"{MANIFEST} is missing"
        raise ModelError(f"{folder}: no model there ({reason})") from None
    except NotADirectoryError:
        raise ModelError(f"{folder}: a file; expected the folder of a saved model") from None
    except (OSError, ValueError) as error:
        raise ModelError(f"{folder / MANIFEST}: damaged ({error})") from None
    kinds = {"format": int, "sha256": dict}
    if not isinstance(manifest, dict) or not all(isinstance(manifest.get(name), kinds[name]) for name in kinds):
        raise ModelError(f"{folder / MANIFEST}: damaged (it has no format and sha256)")
    return manifest


def _checked_files(folder: Path) -> tuple[bytes, bytes]:
    """Reads the detector and the arrays, once, so that what is loaded is what was checked."""
    manifest = _read_manifest(folder)
    written, checksums = manifest["format"], manifest["sha256"]
    if written > FORMAT:
        newer = manifest.get("vae_jax", "a newer version")
        raise ModelError(f"{folder}: written by vae_jax {newer} in format {written}; this one reads up to {FORMAT}")
    detector, arrays = (_checked(folder / name, checksums.get(name)) for name in (DETECTOR, ARRAYS))
    return detector, arrays


def _checked(path: Path, checksum: Any) -> bytes:
    if not path.is_file():
        raise ModelError(f"{path}: missing")
    try:
        content = path.read_bytes()
    except OSError as error:
        raise ModelError(f"{path}: can't be read ({error.strerror})") from None
    if hashlib.sha256(content).hexdigest() != checksum:
        raise ModelError(f"{path}: altered since it was written (its checksum differs)")
    return content


def _feature_table(features: Scaler | Schema) -> list[str]:
    """Lines of a Markdown table of the features."""
    if isinstance(features, Schema):
        head, rows = ("name", "kind", "why", "model"), features.describe()
    else:
        head = ("name", "mean in training", "standard deviation")
        numbers = zip(features.feature_names, features.mean, features.sd, features.constant, strict=True)
        rows = [(name, f"{mean:.6g}", "constant" if same else f"{sd:.6g}") for name, mean, sd, same in numbers]
    return [f"| {' | '.join(cells)} |" for cells in (head, ["---"] * len(head), *rows)]


def _difference(ours: tuple[str, ...], theirs: tuple[str, ...]) -> str:
    missing = [name for name in ours if name not in theirs]
    extra = [name for name in theirs if name not in ours]
    if not missing and not extra:
        return "the features are in another order than in training"
    words = [f"{what} {', '.join(names[:5])}" for what, names in (("missing", missing), ("unknown", extra)) if names]
    return f"made for other features: {'; '.join(words)}"


def model_card(fitted: Fitted, measures: Mapping[str, Any], head: Mapping[str, Any]) -> str:
    """Describes a fitted detector for its users.

    Args:
      fitted: the detector.
      measures: names and values to add.
      head: entries of the card's head.

    Returns:
      Markdown.
    """
    settings, features, found = fitted.settings, fitted.features, fitted.measured
    layers = "-".join(map(str, settings.hidden_dims)) or "linear"
    held = len(fitted.exemplars.rows) if fitted.exemplars else 0
    collapsed = found["active_latents_"] == 0 and not held  # by exemplars rows are scored all the same
    rule = f"by the rule `{settings.boundary}`"
    if settings.contamination is not None:
        rule = f"with {settings.contamination:.4g} of the training rows below it"
    lines = [
        *front_matter(**{"tags": TAGS, **head}),
        "",
        f"# Anomaly detector: variational autoencoder, {'exemplars' if held else 'reconstruction probability'}",
        "",
        f"{settings.num_models} model{'s' * (settings.num_models > 1)} of the `{settings.recipe}` recipe "
        f"({layers}, {settings.latent_dim} latents) on {len(features.modelled)} features, "
        f"trained for {found['n_steps_']:,} steps by vae_jax {__version__}.",
        "",
        "## Use",
        "",
        "    from vae_jax import VAEDetector",
        "    detector = VAEDetector.load(FOLDER)",
        "    detector.predict(table)   # -1 = anomaly; score_samples, explain",
        "",
        "    vae-jax score --model FOLDER --input FILE --output FILE   # in a clone: bash run.sh score",
        "",
        "## Boundary and measures",
        "",
        f"- boundary: {found['offset_']:.6g} nats, {rule}; lower scores are anomalies",
        f"- {'held-out' if settings.contamination else 'normal'} rows below it: {found['false_alarm_share_']:.2%}",
        f"- active latents: {found['active_latents_']} of {settings.latent_dim}"
        + ("; POSTERIOR COLLAPSE: a model ignores its input" if collapsed else ""),
        *(f"- {name}: {value}" for name, value in measures.items()),
        "",
        "## Limits of use",
        "",
        "- It knows the rows it was trained on. Where customers, seasons or the meaning of a column change, its false "
        "alarms change too: count them, and train anew.",
        f"- Numbers are clipped at ± {features.limit:g} standard deviations of the training rows.",
        *([f"- It holds {held:,} of its training rows: whoever gets it can read them."] if held else []),
        "- An anomaly is a row unlike the training rows. That is neither proof of fraud nor its absence.",
        "- Scores of different models can't be compared; decisions can.",
        "",
        "## Features",
        "",
        *_feature_table(features),
        "",
        "## Options",
        "",
        *(f"- {name}: {value}" for name, value in vars(settings).items()),
        "",
        "## Licence",
        "",
        LICENCE,
        "",
    ]
    return "\n".join(lines)
