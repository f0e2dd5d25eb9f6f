"""The scores of the `exemplar` recipe within one program; `vae_jax.detector.exemplar` has them on the host.

Tables such as quantiles and densities are looked up in 64 bits, and densities under kernels are in 32 bits, as there.
Gaps are filled before anything is computed of them: zeros in place of a NaN that was computed leave NaN in gradients.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.special import ndtri

from vae_jax.detector.exemplar import Exemplars, kernel_sets, marginals_of
from vae_jax.distributions import LOG_2PI
from vae_jax.exemplars import EXEMPLARS_AT_ONCE, Kernels, log_kernels
from vae_jax.marginals import BACKGROUND_SD, POINTS_PER_BANDWIDTH, Marginals
from vae_jax.tables.gaussianise import Gaussianiser

if TYPE_CHECKING:
    from jaxtyping import Array, Float

END = 1e-7  # scikit-learn's QuantileTransformer takes values, and shares, as near as this to an end for the end


def scores(exemplars: Exemplars) -> Callable[[Float[Array, "N D"]], tuple[Float[Array, " N"], Float[Array, "N D"]]]:
    """Returns a function from N standardised rows, float32, NaN for a gap, to what `exemplar.scorer` gives.

    These are the pooled log densities and each feature's contribution, float64.
    """
    marginals = marginals_of(exemplars)
    weights = exemplars.pooled[:-1].reshape(exemplars.bandwidths.shape)

    def score(rows: Array) -> tuple[Array, Array]:
        x = gaussianised(exemplars.gaussianiser, rows)
        contributions = exemplars.pooled[-1] * log_marginals(marginals, x)
        pooled = contributions.sum(1)
        for kernels, bandwidths, of_set in zip(kernel_sets(exemplars), exemplars.bandwidths, weights, strict=True):
            with jax.enable_x64(False):
                found = _under_kernels(kernels, bandwidths.tolist(), x)
            for (log_density, shares), weight in zip(found, of_set.tolist(), strict=True):
                pooled += weight * log_density.astype(jnp.float64)
                contributions += weight * shares.astype(jnp.float64)
        return pooled, contributions

    return score


def gaussianised(gaussianiser: Gaussianiser, rows: Float[Array, "N D"]) -> Float[Array, "N D"]:
    """The same as `Gaussianiser.transform`."""
    heavy = gaussianiser.heavy
    if not heavy.any():
        return rows
    tables = [_Steps.of(of_feature) for of_feature in gaussianiser.quantiles.T]
    size = 1 << max(len(table.values) for table in tables).bit_length()
    stacked = _Steps(*(_stack([table[i] for table in tables], heavy, size, fill) for i, fill in enumerate(_FILL)))
    mean, sd, first, last = np.tile([[0.0], [1.0], [0.0], [0.0]], len(heavy))[:, None]
    mean[:, heavy], sd[:, heavy] = gaussianiser.mean, gaussianiser.sd
    first[:, heavy], last[:, heavy] = gaussianiser.quantiles[0], gaussianiser.quantiles[-1]

    x = jnp.where(jnp.isnan(rows), 0.0, rows).astype(jnp.float64)
    within = jnp.clip(x, first, last)
    below = _last_not_above(stacked.values, within)
    value, level, at_value, slope = (_look_up(table, below) for table in stacked)
    share = jnp.where(within == value, at_value, level + slope * (within - value))
    # As scikit-learn has it: the outermost values, and what is next to them, are at the ends.
    share = jnp.where(x + END > last, 1.0, share)
    share = jnp.where(x - END < first, 0.0, share)
    least = END - np.spacing(1)
    normal = ndtri(jnp.clip(share, least, 1 - least)) + (x - within)
    mapped = jnp.where(heavy[None], ((normal - mean) / sd).astype(jnp.float32), rows)
    return jnp.where(jnp.isnan(rows), jnp.nan, mapped)


def log_marginals(marginals: Marginals, rows: Float[Array, "N D"]) -> Float[Array, "N D"]:
    """The same as `Marginals.log_density`."""
    gaps = jnp.isnan(rows)
    x = jnp.where(gaps, 0.0, rows.astype(jnp.float64))
    inside = jnp.abs(x) < marginals.limit
    places = (jnp.where(inside, x, 0.0) + marginals.limit) / (marginals.bandwidth / POINTS_PER_BANDWIDTH)
    lower = places.astype(jnp.int32)
    share = places - lower
    density = (1 - share) * _look_up(marginals.densities, lower) + share * _look_up(marginals.densities, lower + 1)
    some = inside & (density > 0)  # the logarithm of 0 has no gradient
    kernels = jnp.where(some, jnp.log(jnp.where(some, density, 1.0)), -jnp.inf) + math.log1p(-marginals.background)
    wide = -0.5 * jnp.square(x / BACKGROUND_SD) - math.log(BACKGROUND_SD * math.sqrt(2 * math.pi))
    wide += math.log(marginals.background)
    highest = jnp.maximum(kernels, wide)  # never below `wide`, so finite
    return jnp.where(gaps, 0.0, highest + jnp.log(jnp.exp(kernels - highest) + jnp.exp(wide - highest)))


def _under_kernels(
    kernels: Kernels, bandwidths: list[float], x: Float[Array, "N D"]
) -> list[tuple[Float[Array, " N"], Float[Array, "N D"]]]:
    """For each bandwidth, log densities under a set of kernels and the `exemplars.shares` of features in them, float32.

    Both are sums over kernels, and are updated block by block, relative to the largest term so far, so that the arrays
    of rows x kernels need not be there all at once (Milakov & Gimelshein 2018, https://arxiv.org/abs/1805.02867). On a
    processor XLA makes them all the same. A loop over blocks would take a quarter of the memory, and ten times as long
    for a single row, because what depends on kernels alone would be computed in each call. In 64 bits, which
    `exemplars.shares` sums in, a single row would take five times as long in ONNX Runtime.
    """
    dim, known, filled = x.shape[1], (~jnp.isnan(x)).sum(1).astype(x.dtype), jnp.where(jnp.isnan(x), 0.0, x)
    highest = [jnp.full(x.shape[:1], -1e30)] * len(bandwidths)
    sums = [jnp.zeros((x.shape[0], 1 + 4 * dim))] * len(bandwidths)
    for block in _blocks(kernels):
        centres, log_var, log_weights = map(jnp.asarray, block)
        halves, rest = log_kernels(x, centres, log_var, gaps=True)
        precision = jnp.exp(-log_var)
        one = jnp.ones((len(centres), 1))
        summed = jnp.concatenate([one, log_var, precision, centres * precision, centres**2 * precision], 1)
        for i, bandwidth in enumerate(bandwidths):
            logs = halves / bandwidth**2 + rest + log_weights[None]
            top = jnp.maximum(highest[i], logs.max(1))
            found = jnp.matmul(jnp.exp(logs - top[:, None]), summed, precision=jax.lax.Precision.HIGHEST)
            sums[i] = sums[i] * jnp.exp(highest[i] - top)[:, None] + found
            highest[i] = top

    def results(i: int, bandwidth: float) -> tuple[Array, Array]:
        means = sums[i][:, 1:] / sums[i][:, :1]
        log_var, precision, linear, constant = (means[:, j * dim : (j + 1) * dim] for j in range(4))
        squares = jnp.square(filled) * precision - 2 * filled * linear + constant
        shares = -0.5 * (LOG_2PI + 2 * math.log(bandwidth) + log_var + squares / bandwidth**2)
        total = highest[i] + jnp.log(sums[i][:, 0]) - known * math.log(bandwidth)
        return total, jnp.where(jnp.isnan(x), 0.0, shares)

    return [results(i, bandwidth) for i, bandwidth in enumerate(bandwidths)]


def _blocks(kernels: Kernels) -> Iterator[list[np.ndarray]]:
    for start in range(0, len(kernels.centres), EXEMPLARS_AT_ONCE):
        yield [array[start : start + EXEMPLARS_AT_ONCE] for array in kernels.arrays]


class _Steps(NamedTuple):
    """A function that is linear between different values, shape (U,) each: it may jump at them.

    Attributes:
      values: ascending.
      level: the function above each value, up to the next.
      at_value: at the value itself.
      slope: up to the next value.
    """

    values: np.ndarray
    level: np.ndarray
    at_value: np.ndarray
    slope: np.ndarray

    @classmethod
    def of(cls, quantiles: np.ndarray) -> _Steps:
        """The shares of rows below quantiles; of equal quantiles the mean of the first and the last."""
        values, first, counts = np.unique(quantiles, return_index=True, return_counts=True)
        levels = np.linspace(0, 1, len(quantiles))
        lower, upper = levels[first], levels[first + counts - 1]
        slope = np.append((lower[1:] - upper[:-1]) / np.diff(values), 0.0)
        return cls(values, upper, (lower + upper) / 2, slope)


_FILL = (np.inf, 0.0, 0.0, 0.0)  # of places behind the last value


def _stack(tables: list[np.ndarray], heavy: np.ndarray, size: int, fill: float) -> np.ndarray:
    """Makes one table of those of heavy features, shape (D, size)."""
    found = np.full((len(heavy), size), fill)
    found[:, 0] = 0.0
    for d, table in zip(np.flatnonzero(heavy), tables, strict=True):
        found[d, : len(table)] = table
    return found


def _last_not_above(tables: Float[np.ndarray, "D G"], x: Float[Array, "N D"]) -> Array:
    """Where in each feature's table, of 2^k ascending values, is the last one not above x; 0 if there is none."""
    place, step = jnp.zeros(x.shape, jnp.int32), tables.shape[1] // 2
    while step:
        further = place + step
        place = jnp.where(_look_up(tables, further) <= x, further, place)
        step //= 2
    return place


def _look_up(tables: Float[np.ndarray, "D G"], places: Array) -> Array:
    """The value at a place in each feature's table."""
    dim, size = tables.shape
    return jnp.take(jnp.asarray(tables.ravel()), places + size * np.arange(dim, dtype=np.int32)[None], mode="clip")
