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

from vae_jax.column_kernels import of_category, of_number
from vae_jax.detector.exemplar import Exemplars, kernel_sets, marginals_of
from vae_jax.distributions import LOG_2PI
from vae_jax.exemplars import EXEMPLARS_AT_ONCE, Kernels, log_kernels_at
from vae_jax.marginals import BACKGROUND_SD, POINTS_PER_BANDWIDTH, Frequencies, Marginals
from vae_jax.networks import ColumnLayout
from vae_jax.tables.gaussianise import Gaussianiser

if TYPE_CHECKING:
    from jaxtyping import Array, Float

END = 1e-7  # scikit-learn's QuantileTransformer takes values, and shares, as near as this to an end for the end


def scores(exemplars: Exemplars) -> Callable[[Float[Array, "N D"]], tuple[Float[Array, " N"], Float[Array, "N D"]]]:
    """Returns a function from N standardised rows, or rows of columns, to what `exemplar.scorer` gives.

    Rows are float32, NaN for a gap. It gives the pooled log densities and each feature's contribution, float64.
    """
    marginals = marginals_of(exemplars)
    is_level = np.arange(exemplars.rows.shape[1]) >= len(marginals.densities)
    # Of levels, densities under kernels are in units of their frequencies, which are those of the marginals.
    weight_alone = np.where(is_level, 1.0, exemplars.pooled[-1])
    weights = exemplars.pooled[:-1].reshape(exemplars.bandwidths.shape)

    def score(rows: Array) -> tuple[Array, Array]:
        x = gaussianised(exemplars.gaussianiser, rows)
        alone = log_marginals(marginals, x)
        pooled, contributions = (alone * weight_alone[None]).sum(1), jnp.where(is_level[None], alone, 0.0)
        for kernels, bandwidths, of_set in zip(kernel_sets(exemplars), exemplars.bandwidths, weights, strict=True):
            with jax.enable_x64(False):
                log_densities = _log_densities(kernels, bandwidths.tolist(), x)
            for log_density, weight in zip(log_densities, of_set.tolist(), strict=True):
                pooled += weight * log_density.astype(jnp.float64)
            contributions += _shares(kernels.widened(float(bandwidths.min())), x) / len(weights)
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
    normal = _normal_quantile(jnp.clip(share, least, 1 - least)) + (x - within)
    mapped = jnp.where(heavy[None], ((normal - mean) / sd).astype(jnp.float32), rows)
    return jnp.where(jnp.isnan(rows), jnp.nan, mapped)


# Of ratios of polynomials, rising powers: in the middle of the distribution, and in its tails to 1e-11.
_MIDDLE = np.array(
    [
        [3.3871328727963666080e0, 1.0],
        [1.3314166789178437745e2, 4.2313330701600911252e1],
        [1.9715909503065514427e3, 6.8718700749205790830e2],
        [1.3731693765509461125e4, 5.3941960214247511077e3],
        [4.5921953931549871457e4, 2.1213794301586595867e4],
        [6.7265770927008700853e4, 3.9307895800092710610e4],
        [3.3430575583588128105e4, 2.8729085735721942674e4],
        [2.5090809287301226727e3, 5.2264952788528545610e3],
    ]
)
_TAIL = np.array(
    [
        [1.42343711074968357734e0, 1.0],
        [4.63033784615654529590e0, 2.05319162663775882187e0],
        [5.76949722146069140550e0, 1.67638483018380384940e0],
        [3.64784832476320460504e0, 6.89767334985100004550e-1],
        [1.27045825245236838258e0, 1.48103976427480074590e-1],
        [2.41780725177450611770e-1, 1.51986665636164571966e-2],
        [2.27238449892691845833e-2, 5.47593808499534494600e-4],
        [7.74545014278341407640e-4, 1.05075007164441684324e-9],
    ]
)


def _normal_quantile(share: Array) -> Array:
    """Quantiles of N(0, 1), for shares from 1e-11 to 1 - 1e-11, to 1e-14 (Wichura 1988, algorithm AS 241).

    That of `jax.scipy` has operations, from JAX 0.12 on, for which ONNX has none.
    """
    centred = share - 0.5
    middle = centred * _ratio(_MIDDLE, 0.425**2 - jnp.square(centred))
    tail = jnp.sign(centred) * _ratio(_TAIL, jnp.sqrt(-jnp.log(jnp.minimum(share, 1 - share))) - 1.6)
    return jnp.where(jnp.abs(centred) <= 0.425, middle, tail)


def _ratio(coefficients: np.ndarray, x: Array) -> Array:
    above, below = jnp.zeros_like(x), jnp.zeros_like(x)
    for of_above, of_below in coefficients[::-1].tolist():
        above, below = above * x + of_above, below * x + of_below
    return above / below


def log_marginals(marginals: Marginals, rows: Float[Array, "N D"]) -> Float[Array, "N D"]:
    """The same as `Marginals.log_density`."""
    measured, found = len(marginals.densities), []
    if measured:
        found.append(_log_densities_of_numbers(marginals, rows[:, :measured]))
    if measured < rows.shape[1]:
        found.append(_log_frequencies(marginals.frequencies, rows[:, measured:]))
    return jnp.concatenate(found, 1)


def _log_densities_of_numbers(marginals: Marginals, rows: Array) -> Array:
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


def _log_frequencies(frequencies: Frequencies, rows: Array) -> Array:
    gaps = jnp.isnan(rows)
    with np.errstate(divide="ignore"):  # of levels that only fill up the table
        logs = np.log(frequencies.shares)
    return jnp.where(gaps, 0.0, _look_up(logs, jnp.where(gaps, 0.0, rows).astype(jnp.int32)))


def _log_densities(kernels: Kernels, bandwidths: list[float], x: Float[Array, "N D"]) -> list[Float[Array, " N"]]:
    """The same as `exemplars.log_densities`, float32.

    Sums over kernels are added up block by block, so that the arrays of rows x kernels need not be there all at once.
    On a processor XLA makes them all the same. A loop over blocks would take a quarter of the memory, and ten times as
    long for a single row, because what depends on kernels alone would be computed in each call.
    """
    sums: list[list[Array]] = [[] for _ in bandwidths]
    for block in _blocks(kernels):
        arrays = tuple(map(jnp.asarray, block))
        at, known = log_kernels_at(x, arrays, True, kernels.layout)
        for of_bandwidth, bandwidth in zip(sums, bandwidths, strict=True):
            logs = at(jnp.float32(bandwidth)) + arrays[2][None]
            of_bandwidth.append(_log_sum(logs, 1) - known * math.log(bandwidth))
    return [_log_sum(jnp.stack(of_bandwidth), 0) for of_bandwidth in sums]


def _shares(kernels: Kernels, x: Float[Array, "N D"]) -> Float[Array, "N D"]:
    """The same as `exemplars.shares`, float64."""
    known, sums = ~jnp.isnan(x), []
    filled = jnp.where(known, x, 0.0)
    for block in _blocks(kernels):
        centres, log_var, log_weights, *frequencies = (jnp.asarray(of, jnp.float64) for of in block)
        logs = _logs(x.astype(jnp.float64), (centres, log_var, log_weights, *frequencies), kernels.layout)
        logs += log_weights[None]
        highest = logs.max(1)
        # 32 bits are enough relative to the largest.
        of_block = (of.astype(jnp.float32) for of in (logs - highest[:, None], centres, log_var, *frequencies))
        sums.append(highest[None] + _log_sums_without(filled, *of_block, layout=kernels.layout))
    found = _log_sum(jnp.stack(sums), 0)
    return jnp.where(known, (found[:1] - found[1:]).T, 0.0)


def _logs(x: Array, kernels: tuple[Array, ...], layout: ColumnLayout | None) -> Array:
    """Log densities of rows under each kernel of bandwidth 1."""
    if layout is not None:
        at, _ = log_kernels_at(x, kernels, True, layout)
        return at(jnp.ones(()))
    # In one product: arrays of rows x kernels are what takes the memory.
    centres, log_var, _ = kernels
    known = ~jnp.isnan(x)
    filled = jnp.where(known, x, 0.0)
    of_x = jnp.concatenate([jnp.square(filled), filled, known.astype(x.dtype)], 1)
    precision = jnp.exp(-log_var)
    constant = LOG_2PI + log_var + jnp.square(centres) * precision
    return of_x @ jnp.concatenate([-0.5 * precision, centres * precision, -0.5 * constant], 1).T


def _log_sums_without(
    x: Float[Array, "N D"],
    logs: Float[Array, "N E"],
    centres: Float[Array, "E D"],
    log_var: Float[Array, "E D"],
    *frequencies: Float[Array, "E A"],
    layout: ColumnLayout | None,
) -> Float[Array, "1+D N"]:
    """Logs of sums over kernels: first of densities, then of densities without each of the features."""

    def without(log_kernel: Callable[..., Array], features: slice, *arrays: Array) -> Array:
        of_features = tuple(of[:, features].T for of in (x, centres, log_var))
        return jax.lax.map(lambda of: _log_sum(logs - log_kernel(*of), 1), (*of_features, *(of.T for of in arrays)))

    measured = x.shape[1] if layout is None else layout.measured
    found = [_log_sum(logs, 1)[None]]
    if measured:
        found.append(without(of_number, slice(measured)))
    if measured < x.shape[1]:
        found.append(without(of_category, slice(measured, None), *frequencies))
    return jnp.concatenate(found)


def _log_sum(logs: Array, axis: int) -> Array:
    highest = jax.lax.stop_gradient(logs.max(axis))
    return highest + jnp.log(jnp.exp(logs - jnp.expand_dims(highest, axis)).sum(axis))


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
