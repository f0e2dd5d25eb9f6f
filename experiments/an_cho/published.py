"""Published figures to show beside the run's own.

An & Cho's tables are in their technical report (SNU Data Mining Center 2015-2, Special Lecture on IE), whose text could
not be checked when this was written, so no figure of theirs is here. Tonnaer repeated the experiment on MNIST with
convolutional VAEs and the evidence lower bound as the score.
"""

from __future__ import annotations

TONNAER = "Tonnaer's thesis, table 3.3 (https://books.ipskampprinting.nl/thesis/603556-Tonnaer/65)"
# ROC AUC of each digit as the anomaly, by the number of latent dimensions.
TONNAER_ROC_AUC = {
    2: (0.96, 0.73, 0.97, 0.94, 0.73, 0.92, 0.95, 0.77, 0.92, 0.66),
    32: (0.81, 0.09, 0.92, 0.87, 0.78, 0.86, 0.87, 0.51, 0.89, 0.58),
}
TONNAER_LATENTS = 32  # of the row that is shown: the nearer to An & Cho's


def figures() -> dict[str, list[float]]:
    """The published ROC AUC of each digit by the number of latents, for `metrics.json`."""
    return {str(latents): list(values) for latents, values in TONNAER_ROC_AUC.items()}


def roc_auc_of(digit: str) -> float:
    """The published ROC AUC of a digit."""
    return TONNAER_ROC_AUC[TONNAER_LATENTS][int(digit)]
