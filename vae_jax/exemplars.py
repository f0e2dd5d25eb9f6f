"""Density of rows under kernels at training rows, each as wide as a VAE reconstructs that row.

For E exemplars x_n with weights w_n, and the decoder's standard deviations sd(z_n) at one draw z_n ~ q(z|x_n) each:

    p(x) = sum_n w_n N(x; x_n, (b sd(z_n))^2)

with a bandwidth b. It is the density of an exemplar VAE (Norouzi et al. 2020, https://arxiv.org/abs/2004.04795, eq. 3)
whose decoder returns the exemplar itself as its mean: what the network learns is how far, and in which features,
neighbours of a row may lie. A plain kernel density estimate has the same width everywhere.

Rows may also have answers, categories and gaps, whose kernels are those of `column_kernels`.

Programs have shapes that depend on the number of features alone: rows and exemplars are passed in blocks of one size.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import NamedSharding

from vae_jax import column_kernels
from vae_jax.chunks import in_chunks
from vae_jax.compilation import quick_program
from vae_jax.distributions import LOG_2PI, reparameterise
from vae_jax.networks import VAE, ColumnLayout, decode, encode
from vae_jax.training.parallel import data_mesh, replicate, replicated, sharded

if TYPE_CHECKING:
    from jaxtyping import Array, Float, Int

EXEMPLARS_AT_ONCE = 2048
ROWS_AT_ONCE = 512  # on each device; on a CPU the block of rows x exemplars should fit the cache
EXPLAINED_AT_ONCE, FEW_EXPLAINED = 128, 8
ROWS_AT_ONCE_ACCELERATOR = 8192


class Kernels(NamedTuple):
    """The kernels of one model.

    Attributes:
      centres: the exemplars, shape (E, D), float32.
      log_var: log variances, shape (E, D), float32.
      log_weights: logs of the weights, which add up to 1, shape (E,), float32.
      frequencies: of rows of columns, those of each exemplar's levels, see `column_kernels`, shape (E, A), float32.
      layout: of rows of columns, what their D parts are. Centres then have NaN for gaps, and densities of answers and
        categories are in units of the level's frequency.

    Examples:
      Two kernels of unit variance in one dimension; between them the density is exp(-1/2) / sqrt(2 pi):

      >>> import numpy as np
      >>> from vae_jax.exemplars import Kernels, log_density
      >>> zeros = np.zeros((2, 1), np.float32)
      >>> kernels = Kernels(np.array([[-1.0], [1.0]], np.float32), zeros, np.log([0.5, 0.5]).astype(np.float32))
      >>> print(log_density(kernels, np.zeros((1, 1), np.float32)).round(3))
      [-1.419]
    """

    centres: Float[np.ndarray, "E D"]
    log_var: Float[np.ndarray, "E D"]
    log_weights: Float[np.ndarray, " E"]
    frequencies: Float[np.ndarray, "E A"] | None = None
    layout: ColumnLayout | None = None

    @property
    def arrays(self) -> tuple[np.ndarray, ...]:
        """The arrays that there are, in this order."""
        found = (self.centres, self.log_var, self.log_weights)
        return found if self.frequencies is None else (*found, self.frequencies)

    def widened(self, factor: float) -> Kernels:
        """Returns the kernels with standard deviations times `factor`."""
        return self._replace(log_var=self.log_var + np.float32(2 * math.log(factor)))


class PlacedKernels(NamedTuple):
    """Kernels on all devices: placing those of a detector takes longer than scoring a few rows.

    Attributes:
      log_weights: of all of them, shape (E,), float32, on the host.
      layout: of rows of columns, what their parts are.
      blocks: their arrays, of equal size, each with the number of its first kernel; those that pad the last have no
        weight.
    """

    log_weights: Float[np.ndarray, " E"]
    layout: ColumnLayout | None
    blocks: list[tuple[tuple[Any, ...], int]]

    @classmethod
    def of(cls, kernels: Kernels) -> PlacedKernels:
        """Places kernels on all devices."""
        return cls(kernels.log_weights, kernels.layout, list(_exemplar_blocks(kernels)))


def reconstruct(
    vae: VAE, params: Any, rows: Float[np.ndarray, "N D"], noise: Float[np.ndarray, "N L"]
) -> tuple[Float[np.ndarray, "N L"], Float[np.ndarray, "N D"]]:
    """Encodes and decodes rows with one model.

    Args:
      vae: a VAE with learned variances, or a `column_vae`.
      params: its parameters.
      rows: standardised rows, float32, or rows of columns.
      noise: draws from N(0, I), float32.

    Returns:
      The posterior means, and the decoder's log variances, of columns those of numbers, at the latents that the noise
      gives; float32.

    Examples:
      >>> import jax
      >>> import numpy as np
      >>> import vae_jax
      >>> from vae_jax.exemplars import reconstruct
      >>> vae = vae_jax.dense_vae(feature_dim=3, hidden_dims=(8,), latent_dim=2, learned_variance=True)
      >>> rows, noise = np.ones((5, 3), np.float32), np.zeros((5, 2), np.float32)
      >>> params = vae.init(jax.random.key(0), rows, noise)
      >>> means, log_var = reconstruct(vae, params, rows, noise)
      >>> means.shape, log_var.shape
      ((5, 2), (5, 3))
    """
    return in_chunks(partial(quick_program(_reconstruct, "vae"), vae, params), rows, noise, size=EXEMPLARS_AT_ONCE)


def log_density(
    kernels: Kernels, rows: Float[np.ndarray, "N D"], own: Int[np.ndarray, " N"] | None = None
) -> Float[np.ndarray, " N"]:
    """Log density of rows, on all devices.

    Args:
      kernels: of one model.
      rows: float32; NaN is a gap, which is left out.
      own: for each row the number of the exemplar that it is, which is then left out and the other weights scaled to
        add up to 1; -1 for none. Without this a training row would be explained by itself.

    Returns:
      In nats, float64, higher = more normal. Squared distances are float32 sums in which squares nearly cancel: near a
      kernel that is c standard deviations of its own from 0, the result is exact to about 1e-7 c^2 nats.

    Examples:
      A row at one of two kernels far apart; left out, that kernel leaves the other one, 10 standard deviations away:

      >>> import numpy as np
      >>> from vae_jax.exemplars import Kernels, log_density
      >>> centres = np.array([[0.0], [10.0]], np.float32)
      >>> kernels = Kernels(centres, np.zeros((2, 1), np.float32), np.log([0.5, 0.5]).astype(np.float32))
      >>> print(log_density(kernels, centres[:1]).round(2), log_density(kernels, centres[:1], np.array([0])).round(2))
      [-1.61] [-50.92]
    """
    return log_densities(kernels, (1.0,), rows, own)[0]


def log_densities(
    kernels: Kernels | PlacedKernels,
    bandwidths: Sequence[float] | np.ndarray,
    rows: Float[np.ndarray, "N D"],
    own: Int[np.ndarray, " N"] | None = None,
) -> Float[np.ndarray, "B N"]:
    """The same as `log_density` with standard deviations times each of B bandwidths, for hardly more than one costs.

    Examples:
      >>> import numpy as np
      >>> from vae_jax.exemplars import Kernels, log_densities
      >>> one = Kernels(np.zeros((1, 1), np.float32), np.zeros((1, 1), np.float32), np.zeros(1, np.float32))
      >>> print(log_densities(one, (1.0, 10.0), np.array([[0.0], [10.0]], np.float32)).round(2))
      [[ -0.92 -50.92]
       [ -3.22  -3.72]]
    """
    placed = kernels if isinstance(kernels, PlacedKernels) else PlacedKernels.of(kernels)
    own = np.full(len(rows), -1) if own is None else own
    program, factors = quick_program(_log_sums, "gaps", "layout"), np.asarray(bandwidths, np.float32)
    found = np.empty((len(bandwidths), len(rows)))
    blocks = _row_blocks(placed.layout, _rows_at_once(ROWS_AT_ONCE), rows, own.astype(np.int32))
    for numbers, (x, of_rows), gaps in blocks:
        x = _place_rows(x)
        sums = [
            program(x, of, factors, _place_rows(of_rows - first), gaps=gaps, layout=placed.layout)
            for of, first in placed.blocks
        ]
        found[:, numbers] = np.logaddexp.reduce([np.asarray(part, np.float64) for part in sums])[:, : len(numbers)]
    lost = np.where(own < 0, -np.inf, kernels.log_weights.astype(np.float64)[own])
    return found - np.log1p(-np.exp(np.minimum(lost, -1e-9)))


def shares(kernels: Kernels, rows: Float[np.ndarray, "N D"]) -> Float[np.ndarray, "N D"]:
    """Log density of each feature of a row, given its other features.

    A feature that does not go with the others has a low one, whatever kernels are near the whole row: what is likely is
    judged by those near the others.

    Args:
      kernels: of one model.
      rows: float32; NaN is a gap, whose share is 0.

    Returns:
      log p(x) minus the log density of x without the feature, nats, float32, in which answers and categories are in
      units of the level's frequency. They add up to the log pseudo-likelihood (Besag 1975, "Statistical Analysis of
      Non-Lattice Data", eq. 1).

    Examples:
      Two kernels on a diagonal. Beside a first feature of 3, a second one of 0 is unlikely:

      >>> import numpy as np
      >>> from vae_jax.exemplars import Kernels, shares
      >>> centres = np.array([[0.0, 0.0], [3.0, 3.0]], np.float32)
      >>> diagonal = Kernels(centres, np.zeros((2, 2), np.float32), np.log([0.5, 0.5]).astype(np.float32))
      >>> print(shares(diagonal, np.array([[3.0, 3.0], [3.0, 0.0]], np.float32)).round(1))
      [[-0.9 -0.9]
       [-4.7 -4.7]]
    """
    placed = PlacedKernels.of(kernels)
    program = quick_program(_log_sums_without, "gaps", "layout")
    found = np.empty(rows.shape, np.float32)
    size = _rows_at_once(FEW_EXPLAINED if len(rows) <= FEW_EXPLAINED else EXPLAINED_AT_ONCE)
    with jax.enable_x64(True):  # log densities of rows far away are large, and the differences small
        for numbers, (x,), gaps in _row_blocks(placed.layout, size, rows):
            x = _place_rows(x)
            parts = [program(x, of, gaps=gaps, layout=placed.layout) for of, _ in placed.blocks]
            log_density, *without = np.logaddexp.reduce([np.asarray(part) for part in parts])[:, : len(numbers)]
            found[numbers] = (log_density - without).T
    found[np.isnan(rows)] = 0.0
    return found


def _row_blocks(
    layout: ColumnLayout | None, size: int, rows: np.ndarray, *others: np.ndarray
) -> Iterator[tuple[np.ndarray, list[np.ndarray], bool]]:
    """Yields numbers of n rows, these rows and the others, padded, and whether they may have gaps."""
    incomplete = np.isnan(rows).any(1) if layout is None else np.ones(len(rows), bool)
    for gaps in (False, True):  # apart, so that the others' scores are the same bits as without these rows
        numbers = np.flatnonzero(incomplete == gaps)
        for (of_block, *arrays), count in _blocks((numbers, *(of[numbers] for of in (rows, *others))), size):
            yield of_block[:count], arrays, gaps


def _exemplar_blocks(kernels: Kernels) -> Iterator[tuple[tuple[Any, ...], int]]:
    """Yields blocks of exemplars, on all devices, with the number of the first; kernels that pad have no weight."""
    mesh = data_mesh(jax.local_devices())
    first = 0
    for block, count in _blocks(kernels.arrays, EXEMPLARS_AT_ONCE):
        _, _, log_weights, *_ = block
        log_weights[count:] = -np.inf
        yield replicate(tuple(block), mesh), first
        first += count


def _blocks(arrays: tuple[np.ndarray, ...], size: int) -> Iterator[tuple[list[np.ndarray], int]]:
    """Yields `size` rows of each array at a time, padded with zeros, and how many of them are real."""
    for start in range(0, len(arrays[0]), size):
        taken = [array[start : start + size] for array in arrays]
        count = len(taken[0])
        yield [np.concatenate([rows, np.zeros((size - count, *rows.shape[1:]), rows.dtype)]) for rows in taken], count


def _rows_at_once(on_a_processor: int) -> int:
    each = on_a_processor if jax.default_backend() == "cpu" else ROWS_AT_ONCE_ACCELERATOR
    return each * jax.local_device_count()


def _place_rows(array: np.ndarray) -> Array:
    mesh = data_mesh(jax.local_devices())
    return jax.device_put(array, NamedSharding(mesh, sharded if mesh.size > 1 else replicated))


def _reconstruct(vae: VAE, params: Any, rows: Array, noise: Array) -> tuple[Array, Array]:
    posterior = encode(vae, params, rows)
    log_var = decode(vae, params, reparameterise(noise, *posterior)).log_var
    assert log_var is not None
    return posterior.mean, log_var


def log_kernels(x: Array, centres: Array, log_var: Array, gaps: bool) -> tuple[Array, Array]:
    """Minus half the squared distances of rows from centres, and the other parts of log densities, shape (N or 1, E).

    Distances are in units of standard deviations, over the features that a row has.
    """
    known, precision = ~jnp.isnan(x), jnp.exp(-log_var)
    x = jnp.where(known, x, 0.0) if gaps else x  # before the square, whose gradient would be NaN
    of_x, of_kernel = [jnp.square(x), x], [-0.5 * precision, centres * precision]
    squares, rest = -0.5 * jnp.square(centres) * precision, -0.5 * (LOG_2PI + log_var)
    # The squares nearly cancel, so not in the short floats that accelerators take by default.
    product = partial(jnp.matmul, precision=jax.lax.Precision.HIGHEST)
    if not gaps:
        halves = product(jnp.concatenate(of_x, 1), jnp.concatenate(of_kernel, 1).T) + squares.sum(1)[None]
        return halves, rest.sum(1)[None]
    present = known.astype(x.dtype)
    of_x, of_kernel = [*of_x, present], [*of_kernel, squares]
    return product(jnp.concatenate(of_x, 1), jnp.concatenate(of_kernel, 1).T), product(present, rest.T)


def _log_sums(
    x: Array, kernels: tuple[Array, ...], bandwidths: Array, own: Array, gaps: bool, layout: ColumnLayout | None
) -> Array:
    at, known = log_kernels_at(x, kernels, gaps, layout)
    log_weights = kernels[2]
    left_out = jnp.arange(len(log_weights))[None] == own[:, None]

    def log_sum(bandwidth: Array) -> Array:
        logs = jnp.where(left_out, -jnp.inf, at(bandwidth) + log_weights[None])
        highest = jnp.maximum(logs.max(1), -1e30)  # finite also where no kernel is left
        return highest + jnp.log(jnp.exp(logs - highest[:, None]).sum(1)) - known * jnp.log(bandwidth)

    return jax.lax.map(log_sum, bandwidths)


def log_kernels_at(
    x: Array, kernels: tuple[Array, ...], gaps: bool, layout: ColumnLayout | None
) -> tuple[Callable[[Array], Array], Array]:
    """Log densities under each kernel by bandwidth, but for the log of it, which is to be taken off so many times."""
    centres, log_var, _, *frequencies = kernels
    if layout is not None:
        return column_kernels.log_kernels(layout, x, centres, log_var, *frequencies), jnp.zeros(x.shape[0])
    halves, rest = log_kernels(x, centres, log_var, gaps)
    return lambda bandwidth: halves / jnp.square(bandwidth) + rest, (~jnp.isnan(x)).sum(1).astype(x.dtype)


def _log_sums_without(x: Array, kernels: tuple[Array, ...], gaps: bool, layout: ColumnLayout | None) -> Array:
    """Logs of sums over kernels of the densities of rows, and of rows without each feature: (1 + D, N), float64.

    What is without a gap has no meaning.
    """
    x, centres, log_var, log_weights, *frequencies = (of.astype(jnp.float64) for of in (x, *kernels))
    at, _ = log_kernels_at(x, (centres, log_var, log_weights, *frequencies), gaps, layout)
    logs, filled = at(jnp.ones(())) + log_weights[None], jnp.where(jnp.isnan(x), 0.0, x)

    def log_sum(logs: Array) -> Array:
        highest = logs.max(1)
        return highest + jnp.log(jnp.exp((logs - highest[:, None]).astype(jnp.float32)).sum(1))

    def without(log_kernel: Callable[..., Array], features: slice, *arrays: Array) -> Array:
        of_features = tuple(array[:, features].T for array in (filled, centres, log_var))
        return jax.lax.map(lambda of: log_sum(logs - log_kernel(*of)), (*of_features, *(of.T for of in arrays)))

    measured = x.shape[1] if layout is None else layout.measured
    found = [log_sum(logs)[None], without(column_kernels.of_number, slice(measured))]
    if layout is not None:
        found.append(without(column_kernels.of_category, slice(measured, None), *frequencies))
    return jnp.concatenate(found)
