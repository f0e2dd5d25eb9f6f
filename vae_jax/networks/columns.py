"""Encoder, decoder and observation model for tables whose columns are of different kinds, with gaps.

A row is P numbers, one for each *part* of the table: a standardised number, a count, a yes or no (0, 1), or the number
of a category's level. NaN is a gap: the encoder is told by a mask, and the likelihood leaves it out (Nazabal et al.
2018, HI-VAE, https://arxiv.org/abs/1807.03653). `ColumnLayout` says which part is what; `tables.schema` makes the rows.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import TYPE_CHECKING, Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from flax import struct

from vae_jax.distributions import log_prob_per_dimension
from vae_jax.likelihoods import bernoulli_log_prob, discretised_logistic_log_prob
from vae_jax.networks.dense_layer import Dense, features_first, features_last
from vae_jax.networks.mlp import DenseEncoder
from vae_jax.networks.module import Module
from vae_jax.networks.outputs import OBSERVATION_LOG_VAR, Gaussian, soft_clip
from vae_jax.networks.vae import VAE

if TYPE_CHECKING:
    from jaxtyping import Array, Float

# Share of the cells that are hidden from the encoder in training, as if they were gaps. Numbers get noise as well;
# a category has no other noise, and gaps in columns that had none in training need an encoder that has seen some.
HIDDEN = 0.1
HIDDEN_BEYOND = 1.6448536  # that share of standard normal numbers is further from 0
REST_SD = 0.7893133  # standard deviation of the other numbers
# In training a level's share of this comes from the column's frequencies instead of the row. It keeps a level that is
# not in the training rows from probability 0, and a network that has seen no exception from certainty.
SMOOTHING = 0.01
# Standard deviation of a logistic distribution of scale 1.
LOGISTIC_SD = math.pi / math.sqrt(3)
NO_LEVEL = 1e-13  # probability of a level of share 0, which only fills up; so small that it gets no gradient
LARGEST_LOGIT = 40.0
UNKNOWN = 2  # a yes or no that is neither


@dataclass(frozen=True)
class ColumnLayout:
    """What the parts of a row are, in this order. Tables of one layout share compiled programs.

    Attributes:
      numbers: how many are standardised numbers, with a Gaussian likelihood.
      counts: how many are standardised counts.
      answers: how many are yes or no.
      levels: how many levels each category has, in ascending order. The last that has a share is that of rare and
        unseen values; those without one only fill up.

    Examples:
      >>> from vae_jax.networks.columns import ColumnLayout
      >>> layout = ColumnLayout(numbers=3, counts=1, answers=2, levels=(5, 5, 20))
      >>> layout.parts, layout.inputs, layout.logits
      (9, 42, 32)
    """

    numbers: int = 0
    counts: int = 0
    answers: int = 0
    levels: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "levels", tuple(self.levels))  # JAX compiles for a layout by its hash
        if list(self.levels) != sorted(self.levels):
            raise ValueError(f"levels={self.levels}: expected in ascending order")

    @property
    def measured(self) -> int:
        """Number of parts that are numbers or counts."""
        return self.numbers + self.counts

    @property
    def parts(self) -> int:
        """Number of parts P."""
        return self.measured + self.answers + len(self.levels)

    @property
    def inputs(self) -> int:
        """Width of the encoder's input: a value and a mask for each number, count and answer; categories one-hot."""
        return 2 * (self.measured + self.answers) + sum(self.levels)

    @property
    def logits(self) -> int:
        """Number of logits: one for each answer, and one for each level."""
        return self.answers + sum(self.levels)

    def categories(self) -> Iterator[tuple[int, int, int, int]]:
        """Yields, for categories of equally many levels: first part, number of parts, levels, first logit."""
        part, logit = self.measured + self.answers, self.answers
        for levels, group in groupby(self.levels):
            count = len(list(group))
            yield part, count, levels, logit
            part, logit = part + count, logit + count * levels


class ColumnConstants(NamedTuple):
    """What a table's likelihoods need besides the network's output; measured on training rows.

    Attributes:
      highest_log_var: upper bounds on the log variances of numbers and counts, shape (numbers + counts,).
      count_mean, count_sd: how counts, or their logarithms, were standardised, shape (counts,).
      count_log: 1 where the logarithm of 1 + the count was standardised, shape (counts,).
      frequencies: share of yes of each answer, then the share of each category's levels, shape (logits,).
      smoothing: what of the target is yes, or a category's level, whatever the row has, shape (logits,). For each level
        it is `SMOOTHING` of its share; for a level that no training row has, its whole share.
      unknown: probability that an answer is neither yes nor no, shape (answers,).

    Examples:
      >>> import vae_jax
      >>> layout = vae_jax.ColumnLayout(answers=1, levels=(4,))
      >>> print(vae_jax.ColumnConstants.of(layout).frequencies)
      [0.5  0.25 0.25 0.25 0.25]
    """

    highest_log_var: Float[Array, " M"]
    count_mean: Float[Array, " C"]
    count_sd: Float[Array, " C"]
    count_log: Float[Array, " C"]
    frequencies: Float[Array, " O"]
    smoothing: Float[Array, " O"]
    unknown: Float[Array, " A"]

    @classmethod
    def of(cls, layout: ColumnLayout) -> ColumnConstants:
        """Constants to begin with: equal frequencies, and counts as they are."""
        shares = [1 / levels for levels in layout.levels for _ in range(levels)]
        return cls(
            jnp.full(layout.measured, OBSERVATION_LOG_VAR[1]),
            jnp.zeros(layout.counts),
            jnp.ones(layout.counts),
            jnp.zeros(layout.counts),
            jnp.array([0.5] * layout.answers + shares),
            SMOOTHING * jnp.array([0.5] * layout.answers + shares),
            jnp.full(layout.answers, 1e-3),
        )

    def joined(self) -> Float[Array, " J"]:
        """Returns them as one array, as a decoder keeps them: checkpoints hold no array of size 0."""
        return jnp.concatenate(self)

    @classmethod
    def divided(cls, layout: ColumnLayout, joined: Float[Array, " J"]) -> ColumnConstants:
        """Reverses `joined`."""
        sizes = [layout.measured, *[layout.counts] * 3, *[layout.logits] * 2, layout.answers]
        return cls(*jnp.split(joined, np.cumsum(sizes)[:-1].tolist()))


class ColumnObservation(struct.PyTreeNode):
    """Parameters of the observation model p(x|z) of a table's columns.

    Attributes:
      mean: of numbers and counts, standardised, shape (*batch, numbers + counts).
      log_var: natural log of their variances, same shape.
      logits: of answers and levels, shape (*batch, answers + sum of levels).
      constants: see `ColumnConstants`.
      layout: see `ColumnLayout` (static).

    Examples:
      >>> import jax.numpy as jnp
      >>> import numpy as np
      >>> import vae_jax
      >>> layout = vae_jax.ColumnLayout(answers=1)
      >>> nothing, constants = jnp.zeros((1, 0)), vae_jax.ColumnConstants.of(layout)
      >>> observation = vae_jax.ColumnObservation(nothing, nothing, jnp.zeros((1, 1)), constants, layout)
      >>> print(np.asarray(observation.log_prob(jnp.array([[1.0]]))).round(2))  # a yes of probability 1/2
      [[-0.69]]
    """

    mean: Float[Array, "*batch M"]
    log_var: Float[Array, "*batch M"]
    logits: Float[Array, "*batch O"]
    constants: ColumnConstants
    layout: ColumnLayout = struct.field(pytree_node=False)

    def log_prob(self, x: Float[Array, "*batch P"], smoothed: bool = False) -> Float[Array, "*batch P"]:
        """Log probability of each part, nats; 0 for a gap.

        Args:
          x: rows, float, NaN for a gap.
          smoothed: whether the targets of answers and categories are smoothed, see `ColumnConstants`.

        Returns:
          Log densities of numbers, and log probabilities of the others: -infinity for a level that there is not.
        """

        def first(array: Array) -> Array:
            return jnp.moveaxis(array, -1, 0)

        parameters = (first(self.mean), first(self.log_var), first(self.logits))
        return jnp.moveaxis(log_prob_of_parts(self.layout, self.constants, first(x), *parameters, smoothed), 0, -1)


def log_prob_of_parts(
    layout: ColumnLayout,
    constants: ColumnConstants,
    x: Float[Array, "P *batch"],
    mean: Float[Array, "M *batch"],
    log_var: Float[Array, "M *batch"],
    logits: Float[Array, "O *batch"],
    smoothed: bool = False,
) -> Float[Array, "P *batch"]:
    """`ColumnObservation.log_prob` for arrays with parts first, of batch shapes that broadcast."""
    gap = jnp.isnan(x)
    x = jnp.where(gap, 0.0, x)
    n, m, a = layout.numbers, layout.measured, layout.measured + layout.answers
    trailing = (-1, *[1] * (x.ndim - 1))

    def aligned(constant: Array) -> Array:
        return constant.reshape(trailing)

    found = [log_prob_per_dimension(x[:n], mean[:n], log_var[:n])]
    if layout.counts:
        lower, width, lowest = _bins(x[n:m], *map(aligned, constants[1:4]))
        log_scale = log_var[n:] / 2 - math.log(LOGISTIC_SD)
        found.append(discretised_logistic_log_prob(lower, width, mean[n:], log_scale, lowest))
    if layout.answers:
        given, unknown = x[m:a], aligned(constants.unknown)
        is_yes = (1 - SMOOTHING) * given + aligned(constants.smoothing[: layout.answers]) if smoothed else given
        answered = jnp.log1p(-unknown) + bernoulli_log_prob(is_yes, logits[: layout.answers])
        found.append(jnp.where(given == UNKNOWN, jnp.log(unknown), answered))
    for part, count, levels, logit in layout.categories():
        of_levels = logits[logit : logit + count * levels].reshape(count, levels, *logits.shape[1:])
        # Within bounds that training does not reach, so that no maximum has to be subtracted.
        of_levels = jnp.clip(of_levels, -LARGEST_LOGIT, LARGEST_LOGIT)
        chosen = jnp.where(x[part : part + count, None] == _numbered(levels, x.ndim), of_levels, 0.0).sum(1)
        if smoothed:
            weights = constants.smoothing[logit : logit + count * levels].reshape(count, levels, *trailing[1:])
            chosen = (1 - weights.sum(1)) * chosen + (of_levels * weights).sum(1)
        given = x[part : part + count]
        # A number of none, whose likelihood would rise without limit as all logits fall, has probability 0.
        is_level = (given >= 0) & (given < levels)
        found.append(jnp.where(is_level, chosen - jnp.log(jnp.exp(of_levels).sum(1)), -jnp.inf))
    return jnp.where(gap, 0.0, jnp.concatenate(found))


def _numbered(levels: int, ndim: int) -> Array:
    """0, 1, ... along the second axis."""
    return jnp.arange(float(levels)).reshape(1, levels, *[1] * (ndim - 1))


def _bins(x: Array, mean: Array, sd: Array, is_log: Array) -> tuple[Array, Array, Array]:
    """Lower edge and width of a count's bin in standardised units, and whether it is that of 0."""
    value = x * sd + mean  # the count, or the logarithm of 1 + the count
    half = jnp.where(is_log > 0, 0.5 * jnp.exp(-jnp.maximum(value, 0.0)), 0.5)
    below = jnp.where(is_log > 0, jnp.log1p(-half), -half)
    above = jnp.where(is_log > 0, jnp.log1p(half), half)
    return x + below / sd, (above - below) / sd, value < 0.25


def column_likelihood(x: Float[Array, "B P"], observation: ColumnObservation) -> Float[Array, " B"]:
    """Negative log probability of each row's cells that are there: the reconstruction term for tables of columns.

    Args:
      x: rows, float, NaN for a gap.
      observation: the decoder's output.

    Returns:
      `-sum log p(x_p|z)` over parts, nats, with the targets of answers and categories smoothed by 1 %.

    References:
      Nazabal et al. 2018, https://arxiv.org/abs/1807.03653, eq. 5. Szegedy et al. 2016,
      https://arxiv.org/abs/1512.00567, section 7 (label smoothing).

    Examples:
      >>> import jax
      >>> import jax.numpy as jnp
      >>> import vae_jax
      >>> vae = vae_jax.column_vae(vae_jax.ColumnLayout(numbers=2, levels=(4,)), hidden_dims=(8,))
      >>> x = jnp.array([[0.5, jnp.nan, 3.0], [jnp.nan, jnp.nan, jnp.nan]])
      >>> params = vae.init(jax.random.key(0), x, jnp.zeros((2, 2)))
      >>> loss = vae_jax.column_likelihood(x, vae_jax.decode(vae, params, jnp.zeros((2, 2))))
      >>> bool(loss[0] > 0), float(loss[1]) == 0  # a row of gaps alone says nothing
      (True, True)
    """
    return -observation.log_prob(x, smoothed=True).sum(-1)


class ColumnEncoder(Module):
    """From rows of columns to the parameters of q(z|x): one-hot categories, gaps told by a mask, and a dense encoder.

    Attributes:
      layout: what the parts of a row are.
      hidden_dims, latent_dim, mean_bound: as for `DenseEncoder`.
    """

    layout: ColumnLayout
    hidden_dims: Sequence[int]
    latent_dim: int
    mean_bound: float | None = None

    def setup(self) -> None:
        self.dense = DenseEncoder(self.hidden_dims, self.latent_dim, self.mean_bound)

    def __call__(self, x: Float[Array, "*batch P"]) -> Gaussian:
        """Maps rows to their posterior, a `Gaussian` with arrays of shape (*batch, L)."""
        return self.dense(expand(self.layout, x))

    def corrupt(self, x: Float[Array, "B P"], noise: Float[Array, "B P"], scale: float) -> Float[Array, "B P"]:
        """Returns rows as the encoder sees them in training: numbers with noise, and a tenth of all cells hidden."""
        is_number = _last(jnp.arange(self.layout.parts), x.ndim) < self.layout.measured
        noisy = x + jnp.where(is_number, scale / REST_SD * noise, 0.0)
        return jnp.where(jnp.abs(noise) > HIDDEN_BEYOND, jnp.nan, noisy)


def _last(array: Array, ndim: int) -> Array:
    """Puts a vector on the last of `ndim` axes."""
    return array.reshape(*[1] * (ndim - 1), -1)


def expand(layout: ColumnLayout, x: Float[Array, "*batch P"]) -> Float[Array, "*batch E"]:
    """Turns rows into a dense encoder's input: values (0 for a gap), masks (1 for a gap), and categories one-hot."""
    valued = x[..., : layout.measured + layout.answers]
    answers = _last(jnp.arange(valued.shape[-1]), x.ndim) >= layout.measured
    gap = jnp.isnan(valued)
    values = jnp.where(answers, jnp.where(valued == UNKNOWN, 0.0, 2 * valued - 1), valued)
    found = [jnp.where(gap, 0.0, values), gap.astype(x.dtype)]
    for part, count, levels, _ in layout.categories():
        one_hot = x[..., part : part + count, None] == _last(jnp.arange(levels), x.ndim + 1)  # all False for a gap
        found.append(one_hot.astype(x.dtype).reshape(*x.shape[:-1], count * levels))
    return jnp.concatenate(found, -1)


def dense(layout: ColumnLayout, x: Float[np.ndarray, "N P"]) -> Float[np.ndarray, "N E"]:
    """Rows as other detectors take them: categories one-hot, and the mean (0 if standardised) in a gap.

    Args:
      layout: what the parts of a row are.
      x: rows, NaN for a gap.

    Returns:
      float32, without the inputs that are the same in all rows.
    """
    valued = layout.measured + layout.answers
    full = np.array(expand(layout, jnp.asarray(x)))
    full = np.delete(full, np.s_[valued : 2 * valued], axis=1)  # the masks
    return full[:, full.min(0) < full.max(0)]


class ColumnDecoder(Module):
    """From latents to the observation model of a table's columns.

    Attributes:
      layout: what the parts of a row are.
      hidden_dims: widths of the hidden layers, from latent to output.
    """

    layout: ColumnLayout
    hidden_dims: Sequence[int]

    @nn.compact
    def __call__(self, z: Float[Array, "*batch L"]) -> ColumnObservation:
        """Maps latents to an observation model, with arrays of leading shape (*batch,)."""
        batch_shape = z.shape[:-1]
        z = features_first(z)
        for width in self.hidden_dims:
            z = nn.relu(Dense(width)(z))
        # Variables, not attributes, so that tables of one layout share a compiled program.
        joined = self.variable("bounds", "constants", lambda: ColumnConstants.of(self.layout).joined()).value
        constants = ColumnConstants.divided(self.layout, jax.lax.stop_gradient(joined))

        def head(name: str, width: int) -> Array:
            return Dense(width, name=name)(z) if width else jnp.zeros((0, z.shape[1]))

        mean, log_var = head("mean", self.layout.measured), head("log_var", self.layout.measured)
        log_var = soft_clip(log_var, OBSERVATION_LOG_VAR[0], constants.highest_log_var[:, None])
        logits = head("logits", self.layout.logits)
        mean, log_var, logits = (features_last(array, batch_shape) for array in (mean, log_var, logits))
        return ColumnObservation(mean, log_var, logits, constants, self.layout)


def column_vae(
    layout: ColumnLayout,
    hidden_dims: Sequence[int] = (20, 10, 8),
    latent_dim: int = 2,
    mean_bound: float | None = None,
) -> VAE:
    """Builds a VAE for tables whose columns are of different kinds, with gaps.

    Args:
      layout: what the parts of a row are.
      hidden_dims: widths of the encoder's hidden layers; the decoder has them reversed.
      latent_dim: number of latent dimensions L, at least 1.
      mean_bound: largest absolute posterior mean, see [`DenseEncoder`][].

    Returns:
      The module; `vae.init(key, x, noise)` gives its parameters, and `fit_column_constants` their constants.

    References:
      Nazabal et al. 2018, https://arxiv.org/abs/1807.03653, section 3.

    Examples:
      >>> import jax
      >>> import jax.numpy as jnp
      >>> import vae_jax
      >>> vae = vae_jax.column_vae(vae_jax.ColumnLayout(numbers=1, answers=1, levels=(3,)), hidden_dims=(8,))
      >>> x = jnp.array([[0.2, 1.0, 2.0], [jnp.nan, 0.0, 0.0]])  # a number, yes or no, one of three levels
      >>> params = vae.init(jax.random.key(0), x, jnp.zeros((2, 2)))
      >>> posterior, observation = vae.apply(params, x, jnp.zeros((2, 2)))
      >>> observation.log_prob(x).shape, float(observation.log_prob(x)[1, 0])
      ((2, 3), 0.0)
    """
    hidden_dims = tuple(hidden_dims)
    return VAE(
        encoder=ColumnEncoder(layout, hidden_dims, latent_dim, mean_bound),
        decoder=ColumnDecoder(layout, hidden_dims[::-1]),
    )


def fit_column_constants(params: Any, constants: ColumnConstants) -> Any:
    """Sets a column VAE's constants, and begins with the training rows' frequencies instead of equal ones.

    Args:
      params: new parameters of a VAE with a `ColumnDecoder`.
      constants: of the table.

    Returns:
      The parameters with these constants.

    Examples:
      >>> import jax
      >>> import jax.numpy as jnp
      >>> import vae_jax
      >>> layout = vae_jax.ColumnLayout(answers=1)
      >>> vae = vae_jax.column_vae(layout, hidden_dims=(8,))
      >>> params = vae.init(jax.random.key(0), jnp.zeros((1, 1)), jnp.zeros((1, 2)))
      >>> constants = vae_jax.ColumnConstants.of(layout)._replace(frequencies=jnp.array([0.2]))
      >>> params = vae_jax.fit_column_constants(params, constants)
      >>> print(jax.nn.sigmoid(params["params"]["decoder"]["logits"]["bias"]))
      [0.2]
    """
    answers = len(constants.unknown)
    of_yes, of_levels = constants.frequencies[:answers], constants.frequencies[answers:]
    of_levels = jnp.maximum(of_levels, NO_LEVEL)
    bias = jnp.concatenate([jnp.log(of_yes) - jnp.log1p(-of_yes), jnp.log(of_levels)])
    decoder = params["params"]["decoder"]
    if "logits" in decoder:
        decoder = {**decoder, "logits": {**decoder["logits"], "bias": bias}}
    return {
        "params": {**params["params"], "decoder": decoder},
        "bounds": {"decoder": {"constants": constants.joined()}},
    }
