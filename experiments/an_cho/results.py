"""The results of all pieces of a run, summed up over seeds and classes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import numpy as np

METHODS = {
    "reconstruction_probability": "VAE, reconstruction probability",
    "vae_error": "VAE, reconstruction error",
    "autoencoder": "autoencoder",
    "pca": "PCA",
    "kernel_pca": "kernel PCA",
    "columns": "VAE, likelihood by kind of column",
}
COLUMNS = {
    "reconstruction_probability": "VAE, probability",
    "vae_error": "VAE, error",
    "autoencoder": "autoencoder",
    "pca": "PCA",
    "kernel_pca": "kernel PCA",
    "columns": "VAE, by kind",
}  # titles in tables
MEASURES = {"roc_auc": "ROC AUC", "average_precision": "average precision", "f1": "F1"}
HARDEST = 3  # classes that the verdict names


def summarise(records: Sequence[Mapping]) -> dict:
    """Sums up over seeds.

    Args:
      records: the results of the pieces.

    Returns:
      By experiment, class, method and measure: `mean` and `sd` over seeds, and the `values`, in the order of the seeds.
    """
    found: dict = {}
    for record in records:
        for anomaly, of_methods in record["measures"].items():
            for method, of in of_methods.items():
                for name, value in of.items():
                    place = found.setdefault(record["task"], {}).setdefault(anomaly, {}).setdefault(method, {})
                    place.setdefault(name, []).append(value)
    return {
        task: {
            anomaly: {
                method: {name: _over_seeds(values) for name, values in of.items()} for method, of in of_methods.items()
            }
            for anomaly, of_methods in classes.items()
        }
        for task, classes in found.items()
    }


def _over_seeds(values: Sequence[float]) -> dict:
    return {"mean": float(np.mean(values)), "sd": float(np.std(values)), "values": list(values)}


def over_classes(classes: Mapping[str, Mapping]) -> dict[str, dict[str, float]]:
    """The mean over an experiment's classes, by method and measure."""
    methods = next(iter(classes.values()))
    return {
        method: {name: float(np.mean([of[method][name]["mean"] for of in classes.values()])) for name in MEASURES}
        for method in methods
    }


def ahead(classes: Mapping[str, Mapping], method: str, other: str) -> list[str]:
    """The classes for which one method's mean ROC AUC is above another's."""
    return [name for name, of in classes.items() if of[method]["roc_auc"]["mean"] > of[other]["roc_auc"]["mean"]]


def hardest(roc_auc: Mapping[str, float], count: int = HARDEST) -> list[str]:
    """The classes with the lowest ROC AUC, from the lowest."""
    return sorted(roc_auc, key=lambda name: roc_auc[name])[:count]


def roc_aucs(classes: Mapping[str, Mapping], method: str) -> dict[str, float]:
    """A method's mean ROC AUC by class."""
    return {name: of[method]["roc_auc"]["mean"] for name, of in classes.items()}


def listed(names: Iterable[str]) -> str:
    """Names as a list in words."""
    *most, last = names
    return f"{', '.join(most)} and {last}" if most else last
