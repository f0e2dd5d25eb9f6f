"""What a practitioner would try first: scikit-learn's detectors, fitted on the same rows as the VAE."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from sklearn.covariance import EmpiricalCovariance
from sklearn.decomposition import PCA
from sklearn.ensemble import IsolationForest
from sklearn.mixture import GaussianMixture

MIXTURE_COMPONENTS = 4
# Directions that PCA leaves out: as many as the VAE's latents, which for these 29 features is its best setting too.
PCA_LEFT_OUT = 2
# Added to the diagonal of the mixture's covariances, in units of standardised features; a constant feature needs it.
COVARIANCE_FLOOR = 1e-6

Scorer = Callable[[np.ndarray], np.ndarray]


def mahalanobis(train: np.ndarray, seed: int) -> Scorer:
    """Negative squared Mahalanobis distance from the mean, by the empirical covariance."""
    model = EmpiricalCovariance().fit(train)
    return lambda x: -model.mahalanobis(x)


def pca(train: np.ndarray, seed: int) -> Scorer:
    """Negative squared error of the reconstruction from the leading principal components."""
    components = min(max(1, train.shape[1] - PCA_LEFT_OUT), *train.shape)
    model = PCA(components, svd_solver="full").fit(train)
    return lambda x: -np.square(x - model.inverse_transform(model.transform(x))).sum(1)


def isolation_forest(train: np.ndarray, seed: int) -> Scorer:
    """Isolation Forest (Liu et al. 2008) with scikit-learn's settings."""
    return IsolationForest(random_state=seed).fit(train).score_samples


def gaussian_mixture(train: np.ndarray, seed: int) -> Scorer:
    """Log density under a mixture of 4 Gaussians with full covariances."""
    components = min(MIXTURE_COMPONENTS, len(train))
    return GaussianMixture(components, reg_covar=COVARIANCE_FLOOR, random_state=seed).fit(train).score_samples


BASELINES: dict[str, Callable[[np.ndarray, int], Scorer]] = {
    "mahalanobis": mahalanobis,
    "pca": pca,
    "isolation_forest": isolation_forest,
    "gaussian_mixture": gaussian_mixture,
}
TITLES = {
    "mahalanobis": "Mahalanobis distance",
    "pca": "PCA reconstruction",
    "isolation_forest": "Isolation Forest",
    "gaussian_mixture": "Gaussian mixture",
}


def score_baselines(train: np.ndarray, rows: np.ndarray, seed: int) -> dict[str, np.ndarray]:
    """Fits every baseline and scores rows.

    Args:
      train: genuine training rows, standardised, shape (N, D).
      rows: rows to score, standardised, shape (M, D).
      seed: of the forest and the mixture.

    Returns:
      For each name, scores of shape (M,), higher = more normal.
    """
    # float64, in which the covariance of a wide range of values keeps its digits.
    train, rows = train.astype(np.float64), rows.astype(np.float64)
    return {name: np.asarray(fit(train, seed)(rows), np.float64) for name, fit in BASELINES.items()}
