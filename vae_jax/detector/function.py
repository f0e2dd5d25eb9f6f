"""A fitted detector as one function of JAX arrays: what is exported, see `experiments.export`.

`VAEDetector` scores on the host, in blocks and on all devices. The function here does the same within one program, from
a row's cells as numbers to its score, for any number of rows, even one that is not known yet.
"""

from __future__ import annotations

from collections.abc import Callable
from operator import itemgetter
from typing import TYPE_CHECKING, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from vae_jax.detector import exemplar_function, recipes
from vae_jax.detector.schema_function import parts_of_numbers
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


def as_function(detector: VAEDetector) -> Callable[[Float[Array, "N C"]], Results]:
    """Makes one function of a fitted detector.

    Args:
      detector: of any table and recipe.

    Returns:
      A function from N rows, float64 in the features' own units, NaN for a gap, to `Results`: score and anomaly, shape
      (N,), and shares, shape (N, C). Words and dates of a table are numbers, too, see
      `schema_function.numbers_of_cells`. It must be traced or called with 64-bit numbers enabled: a large number with
      small differences, such as a time, has too few digits otherwise. The networks run in 32 bits, as in the detector.

    Examples:
      How the score of each row rises with its features:

      >>> import jax
      >>> import numpy as np
      >>> from vae_jax import VAEDetector
      >>> from vae_jax.detector.function import as_function
      >>> rows = np.random.default_rng(0).normal(size=(200, 2))
      >>> function = as_function(VAEDetector(epochs=2, hidden_dims=(8,)).fit(rows))
      >>> with jax.enable_x64(True):
      ...     gradient = jax.grad(lambda rows: function(rows).score.sum())(np.array([[3.0, -3.0]]))
      >>> np.sign(gradient).tolist()  # towards the other rows
      [[-1.0, 1.0]]
    """
    features, score_encoded = detector.features_, _scores(detector)
    if isinstance(features, Scaler):
        encode, by_column = _standardised(features), None
    else:
        encode, by_column = parts_of_numbers(features), features.by_column(np.eye(len(features.order)))

    def score(rows: Array) -> Results:
        scores, contributions = score_encoded(encode(rows))
        shares = -contributions if by_column is None else -contributions @ by_column
        return Results(scores, scores < detector.offset_, shares)

    return score


def _standardised(scaler: Scaler) -> Callable[[Array], Array]:
    def standardise(rows: Array) -> Array:
        far = (rows - scaler.mean[None]) / scaler.sd[None]
        return jnp.clip(far, -scaler.limit, scaler.limit).astype(jnp.float32)

    return standardise


def _scores(detector: VAEDetector) -> Callable[[Array], tuple[Array, Array]]:
    """A function from standardised rows, or rows of columns, to scores and the contributions of features, or parts."""
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
