"""A fitted detector as one function of JAX arrays: what is exported, see `experiments.export`.

`VAEDetector` scores on the host, in blocks and on all devices. The function here does the same within one program, from
a row's cells as numbers to its score, for rows of any number, even one that is not known yet.
"""

from __future__ import annotations

from collections.abc import Callable
from operator import itemgetter
from typing import TYPE_CHECKING, NamedTuple

import jax
import jax.numpy as jnp

from vae_jax.detector import exemplar_function, recipes
from vae_jax.scoring import latent_noise, score_block
from vae_jax.tables.scaling import Scaler

if TYPE_CHECKING:
    from jaxtyping import Array, Bool, Float

    from vae_jax.detector.estimator import VAEDetector


class Results(NamedTuple):
    """What a detector says of N rows.

    Attributes:
      score: as `VAEDetector.score_samples`, nats, higher = more normal, shape (N,), float64.
      anomaly: whether the score is below the boundary, shape (N,).
      shares: as `VAEDetector.explain`, nats, larger = more suspicious, shape (N, C), float64.
    """

    score: Float[Array, " N"]
    anomaly: Bool[Array, " N"]
    shares: Float[Array, "N C"]


def as_function(detector: VAEDetector) -> Callable[[Float[Array, "N D"]], Results]:
    """Returns a function from N rows, float64 in the features' own units, NaN for a gap, to `Results`.

    It must be traced or called with 64-bit numbers enabled: a large number with small differences, such as a time, has
    too few digits otherwise. The networks run in 32 bits, as in the detector.

    Args:
      detector: fitted to a table of numbers alone.

    Raises:
      ValueError: if it was fitted to a table of other columns.
    """
    scaler = detector.features_
    if not isinstance(scaler, Scaler):
        raise ValueError("a table with words, dates or gaps in training, which only Python reads")
    score_standardised = _scores(detector)

    def score(rows: Array) -> Results:
        far = (rows - scaler.mean[None]) / scaler.sd[None]
        scores, contributions = score_standardised(jnp.clip(far, -scaler.limit, scaler.limit).astype(jnp.float32))
        return Results(scores, scores < detector.offset_, -contributions)

    return score


def _scores(detector: VAEDetector) -> Callable[[Array], tuple[Array, Array]]:
    """A function from standardised rows to scores and each feature's contribution."""
    if detector.exemplars_ is not None:
        return exemplar_function.scores(detector.exemplars_)
    settings, vae = detector.settings_, detector.vae_
    with jax.enable_x64(False):  # or it would be other noise
        noise = latent_noise(vae, recipes.score_key(settings), settings.num_samples)
    models = [
        jax.tree.map(itemgetter(k), (detector.params_, detector.residual_sd_)) for k in range(settings.num_models)
    ]

    def mean(of_models: list[Array]) -> Array:
        return jnp.stack(of_models).astype(jnp.float64).mean(0)

    def score(rows: Array) -> tuple[Array, Array]:
        with jax.enable_x64(False):
            found = [score_block(vae, params, rows, noise, sd, gaps=True) for params, sd in models]
        return mean([of.log_reconstruction_prob for of in found]), mean([of.contributions for of in found])

    return score
