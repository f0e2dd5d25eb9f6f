"""Kernels at rows whose columns are of different kinds, with gaps; see `networks.columns` for such rows.

A number's kernel is a Gaussian, as in `vae_jax.exemplars`. An answer's or a category's is, for an exemplar's level c, a
level l's frequency f(l), and a bandwidth b,

    P(l) = f(l) exp(-cost [l != c] / b^2) / Z,    Z = f(c) + (1 - f(c)) exp(-cost / b^2)

so that a narrow kernel has the exemplar's level alone, and a wide one all levels as often as the table (Aitchison &
Aitken 1976, "Multivariate Binary Discrimination by the Kernel Method", where f is uniform). What is computed here is
P(l) / f(l). A gap of the exemplar tells nothing: its kernel is N(0, 1), or f.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

import jax
import jax.numpy as jnp

from vae_jax.distributions import LOG_2PI
from vae_jax.networks.columns import UNKNOWN, ColumnLayout

if TYPE_CHECKING:
    from jaxtyping import Array, Float

ANSWERS = UNKNOWN + 1  # no, yes, or neither
# Rows and exemplars are compared by a product of one-hot levels, or where these are more, column by column.
MOST_ONE_HOT = 32


class Group(NamedTuple):
    """Columns of equally many levels.

    Attributes:
      columns: their places among answers and categories.
      levels: how many.
    """

    columns: slice
    levels: int


def category_levels(layout: ColumnLayout) -> list[int]:
    """How many levels each of the A answers and categories of a row has."""
    return [*[ANSWERS] * layout.answers, *layout.levels]


def log_kernels(
    layout: ColumnLayout,
    x: Float[Array, "N P"],
    centres: Float[Array, "E P"],
    log_var: Float[Array, "E P"],
    frequencies: Float[Array, "E A"],
) -> Callable[[Float[Array, ""]], Float[Array, "N E"]]:
    """Log densities of rows under each kernel, as a function of the bandwidth.

    Args:
      layout: what the P parts of a row are.
      x: rows, float, NaN for a gap.
      centres: the exemplars.
      log_var: log variances of numbers; of answers and categories minus the log of the cost of another level.
      frequencies: of each exemplar's own levels; ignored for its gaps.

    Returns:
      The function; of answers and categories its densities are in units of the level's frequency.

    Examples:
      A category whose four levels are equally frequent, and an exemplar with its level 2; another level costs 4 nats:

      >>> import jax.numpy as jnp
      >>> import numpy as np
      >>> from vae_jax.column_kernels import log_kernels
      >>> from vae_jax.networks import ColumnLayout
      >>> rows, exemplar = jnp.arange(4.0)[:, None], jnp.full((1, 1), 2.0)
      >>> log_density = log_kernels(
      ...     ColumnLayout(levels=(4,)), rows, exemplar, jnp.full((1, 1), -np.log(4)), jnp.full((1, 1), 1 / 4)
      ... )
      >>> print((np.exp(log_density(jnp.ones(()))[:, 0]) / 4).round(3))  # probabilities
      [0.017 0.017 0.948 0.017]
    """
    m = layout.measured
    product = partial(jnp.matmul, precision=jax.lax.Precision.HIGHEST)
    known, given = (~jnp.isnan(of) for of in (x, centres))
    present, cost = known.astype(x.dtype), jnp.where(given, jnp.exp(-log_var), 0.0)
    number, centre = jnp.where(known, x, 0.0)[:, :m], jnp.where(given, centres, 0.0)[:, :m]
    precision, gap = cost[:, :m], (~given[:, :m]).astype(x.dtype)
    few = [group for group in _groups(layout) if group.levels <= MOST_ONE_HOT]
    levels, costs = _one_hot(few, x[:, m:]), _one_hot(few, centres[:, m:], cost[:, m:])

    of_x = [jnp.square(number), number, present, levels]
    of_kernel = [-0.5 * precision, centre * precision, -0.5 * jnp.square(centre) * precision, -cost[:, m:], costs]
    halves = product(jnp.concatenate(of_x, 1), jnp.concatenate(of_kernel, 1).T)
    for group in _groups(layout):
        if group.levels > MOST_ONE_HOT:
            of_columns = tuple(of[:, m:][:, group.columns].T for of in (x, centres, cost))
            halves, _ = jax.lax.scan(lambda total, of: (total + _same(*of), None), halves, of_columns)
    constant = -0.5 * (LOG_2PI + jnp.where(given, log_var, 0.0)[:, :m])
    rest = product(jnp.concatenate([present[:, :m], of_x[0]], 1), jnp.concatenate([constant, -0.5 * gap], 1).T)
    pairs = product(present[:, :m], 1 - gap.T)  # of numbers in both

    def at(bandwidth: Array) -> Array:
        square = jnp.square(bandwidth)
        of_categories = product(present[:, m:], _log_sums(cost[:, m:] / square, frequencies).T)
        return halves / square + rest - pairs * jnp.log(bandwidth) - of_categories

    return at


def of_number(x: Float[Array, " N"], centre: Float[Array, " E"], log_var: Float[Array, " E"]) -> Float[Array, "N E"]:
    """Log densities of a single number, which is no gap, under each kernel of bandwidth 1."""
    given = ~jnp.isnan(centre)
    mean, log_var = (jnp.where(given, of, 0.0)[None] for of in (centre, log_var))  # N(0, 1) for an exemplar's gap
    return -0.5 * (LOG_2PI + log_var + jnp.square(x[:, None] - mean) * jnp.exp(-log_var))


def of_category(
    x: Float[Array, " N"], centre: Float[Array, " E"], log_var: Float[Array, " E"], frequency: Float[Array, " E"]
) -> Float[Array, "N E"]:
    """The same of a single answer or category, in units of the level's frequency."""
    cost = jnp.where(jnp.isnan(centre), 0.0, jnp.exp(-log_var))
    return jnp.where(x[:, None] == centre[None], 0.0, -cost[None]) - _log_sums(cost, frequency)[None]


def _log_sums(cost: Array, frequencies: Array) -> Array:
    """Logs of Z; 0 without a cost."""
    some = jnp.maximum(frequencies, 1e-30)  # kernels that only fill up a block have none
    return jnp.log(some + (1 - some) * jnp.exp(-cost))


def _groups(layout: ColumnLayout) -> Iterator[Group]:
    """Yields the answers, and categories of equally many levels."""
    if layout.answers:
        yield Group(slice(layout.answers), ANSWERS)
    for part, count, levels, _ in layout.categories():
        first = part - layout.measured
        yield Group(slice(first, first + count), levels)


def _one_hot(groups: Iterable[Group], x: Array, values: Array | float = 1.0) -> Array:
    """Each level's value, 0 for levels that a row has not: shape (N, all levels)."""
    found, values = [jnp.zeros((x.shape[0], 0), x.dtype)], jnp.broadcast_to(values, x.shape)
    for group in groups:
        numbers, of = x[:, group.columns, None], values[:, group.columns, None]
        found.append(jnp.where(numbers == jnp.arange(float(group.levels))[None, None], of, 0.0).reshape(x.shape[0], -1))
    return jnp.concatenate(found, 1)


def _same(x: Array, centres: Array, cost: Array) -> Array:
    """The cost of another level, where a row has the exemplar's: shape (N, E)."""
    return jnp.where(x[:, None] == centres[None], cost[None], 0.0)
