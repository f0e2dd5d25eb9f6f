"""What encoders and decoders return: the parameters of q(z|x) and p(x|z), within bounds that keep a run finite."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import jax.numpy as jnp

if TYPE_CHECKING:
    from jaxtyping import Array, Float

# Bounds on log variances. Without them a run ends in NaN: exp(log_var) overflows float32 at 88, and a decoder that
# hits a constant feature exactly is rewarded without end for log_var -> -infinity. The posterior's bounds are wide,
# e^-10 to e^10 around a prior of variance 1.
POSTERIOR_LOG_VAR = (-10.0, 10.0)

# The observation's bounds are in units of standardised data: a standard deviation between 0.05 and 20 times that of
# the feature. The upper one is only a default; see `bound_sd`.
OBSERVATION_LOG_VAR = (-6.0, 6.0)

# And in units of pixels in [0, 1]: a standard deviation between 1/150, about what rounding to 256 levels and JPEG leave
# uncertain, and 1, the whole range.
PIXEL_LOG_VAR = (-10.0, 0.0)


class Gaussian(NamedTuple):
    """Parameters of the posterior q(z|x), a diagonal Gaussian.

    Attributes:
      mean: its mean, float.
      log_var: natural logarithm of its variance, same shape.

    Examples:
      >>> import jax.numpy as jnp
      >>> import vae_jax
      >>> posterior = vae_jax.Gaussian(mean=jnp.zeros((4, 2)), log_var=jnp.zeros((4, 2)))
      >>> print(vae_jax.kl_standard_normal(*posterior))
      [0. 0. 0. 0.]
    """

    mean: Float[Array, "*batch L"]
    log_var: Float[Array, "*batch L"]


class Observation(NamedTuple):
    """Parameters of the observation model p(x|z), a diagonal Gaussian whose variance may be left open.

    Attributes:
      mean: its mean, float.
      log_var: natural logarithm of its variance, same shape; None where the decoder gives a mean alone.

    Examples:
      >>> import jax.numpy as jnp
      >>> import vae_jax
      >>> observation = vae_jax.Observation(mean=jnp.zeros((4, 3)), log_var=None)
      >>> print(vae_jax.mse(jnp.ones((4, 3)), observation))
      [1. 1. 1. 1.]
    """

    mean: Float[Array, "*batch *event"]
    log_var: Float[Array, "*batch *event"] | None


def soft_clip(x: Float[Array, "*any"], low: float, high: float | Float[Array, "*any"]) -> Float[Array, "*any"]:
    """Bounds `x` smoothly: the identity well inside (low, high), and a gradient that fades outside but is not cut off.

    A hard clip has gradient zero outside its bounds, so a unit that once leaves them never returns.

    Args:
      x: float array.
      low: lower bound.
      high: upper bound, more than `low`.

    Returns:
      An array of the same shape with values in [low, high] up to rounding.

    References:
      Chua et al. 2018 (https://arxiv.org/abs/1805.12114), appendix A.1.
    """
    # low + softplus(high - softplus(high - x) - low) in closed form: one exponential and one logarithm, not two each.
    # Further below `low` than 30 the slope, less than e^-30, is as good as 0, and the exponential would overflow.
    excess = jnp.exp(low - jnp.maximum(x, low - 30.0))
    clipped = jnp.log(1 + 1 / (jnp.exp(low - high) + excess))
    # The quotient, all but 1, takes back the log(1 + exp(low - high)) by which this overshoots `high`.
    return low + clipped * ((high - low) / jnp.log(1 + jnp.exp(high - low)))
