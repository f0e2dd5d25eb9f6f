"""Baselines that a practitioner would try first: scikit-learn's detectors, fitted on the same rows as the VAE."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from sklearn.covariance import EmpiricalCovariance
from sklearn.decomposition import PCA
from sklearn.ensemble import IsolationForest
from sklearn.mixture import GaussianMixture
from sklearn.neighbors import NearestNeighbors

MIXTURE_COMPONENTS = 4
# Components that PCA drops: as many as the VAE has latents, which is also PCA's best setting for these 29 features.
PCA_LEFT_OUT = 2
PCA_VARIANCE = 0.9  # share of the variance that its components explain, where columns are one-hot
# Added to the diagonal of the mixture's covariances (of standardised features); a constant feature needs it.
COVARIANCE_FLOOR = 1e-6

Scorer = Callable[[np.ndarray], np.ndarray]


def mahalanobis(train: np.ndarray, seed: int) -> Scorer:
    """Negative squared Mahalanobis distance from the mean, with the empirical covariance."""
    model = EmpiricalCovariance().fit(train)
    return lambda x: -model.mahalanobis(x)


def pca(train: np.ndarray, seed: int) -> Scorer:
    """Negative squared error of reconstruction from the leading principal components."""
    return _reconstruction(train, min(max(1, train.shape[1] - PCA_LEFT_OUT), *train.shape))


def pca_of_one_hot(train: np.ndarray, seed: int) -> Scorer:
    """As `pca`, for one-hot columns: some of their components are exactly redundant, so dropping two says nothing."""
    return _reconstruction(train, PCA_VARIANCE)


def _reconstruction(train: np.ndarray, components: float) -> Scorer:
    model = PCA(components, svd_solver="full").fit(train)
    return lambda x: -np.square(x - model.inverse_transform(model.transform(x))).sum(1)


def isolation_forest(train: np.ndarray, seed: int) -> Scorer:
    """Isolation Forest (Liu et al. 2008) with scikit-learn's defaults."""
    return IsolationForest(random_state=seed).fit(train).score_samples


def gaussian_mixture(train: np.ndarray, seed: int) -> Scorer:
    """Log density under a mixture of 4 Gaussians with full covariances."""
    components = min(MIXTURE_COMPONENTS, len(train))
    return GaussianMixture(components, reg_covar=COVARIANCE_FLOOR, random_state=seed).fit(train).score_samples


def fifth_neighbour(train: np.ndarray, seed: int) -> Scorer:
    """Negative distance from the fifth nearest training row; for benchmarks, too slow for large tables."""
    model = NearestNeighbors(n_neighbors=5, n_jobs=-1).fit(train)
    return lambda x: -model.kneighbors(x)[0][:, -1]


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


def score_baselines(train: np.ndarray, rows: np.ndarray, seed: int, one_hot: bool = False) -> dict[str, np.ndarray]:
    """Fits every baseline on standardised genuine rows and scores standardised `rows`; higher = more normal.

    Rows of other columns than numbers are given one-hot, with the mean for a gap; see `vae_jax.networks.columns.dense`.
    """
    # float64, so that the covariance of features with a wide range keeps its precision.
    train, rows = train.astype(np.float64), rows.astype(np.float64)
    baselines = BASELINES | ({"pca": pca_of_one_hot} if one_hot else {})
    return {name: np.asarray(fit(train, seed)(rows), np.float64) for name, fit in baselines.items()}
