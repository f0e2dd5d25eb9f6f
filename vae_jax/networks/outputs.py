"""Outputs of encoders and decoders: the parameters of q(z|x) and p(x|z), bounded to keep training finite."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import jax
import jax.numpy as jnp

from vae_jax.likelihoods import bernoulli_log_prob

if TYPE_CHECKING:
    from jaxtyping import Array, Float

# Bounds on log variances. Without them training ends in NaN: exp(log_var) overflows float32 at 88, and a decoder that
# fits a constant feature exactly is rewarded without limit for log_var -> -infinity.
POSTERIOR_LOG_VAR = (-10.0, 10.0)  # wide: the prior's log variance is 0

# For standardised data: 0.05 to 20 times a feature's standard deviation. The upper bound is a default, see `bound_sd`.
OBSERVATION_LOG_VAR = (-6.0, 6.0)

# For pixels in [0, 1]: standard deviations from 1/150, about the error of 8-bit rounding and JPEG, to the whole range.
PIXEL_LOG_VAR = (-10.0, 0.0)

# Between bounds further apart than this, `soft_clip` would divide by less than e^-40, and its gradient by the square of
# that, which soon is 0 in float32.
WIDE = 40.0


class Gaussian(NamedTuple):
    """Parameters of the posterior q(z|x), a diagonal Gaussian.

    Attributes:
      mean: its mean, float.
      log_var: natural log of its variance, same shape.

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
    """Parameters of the observation model p(x|z), a diagonal Gaussian.

    Attributes:
      mean: its mean, float.
      log_var: natural log of its variance, same shape; None if the decoder gives only a mean.

    Examples:
      >>> import jax.numpy as jnp
      >>> import vae_jax
      >>> observation = vae_jax.Observation(mean=jnp.zeros((4, 3)), log_var=None)
      >>> print(vae_jax.mse(jnp.ones((4, 3)), observation))
      [1. 1. 1. 1.]
    """

    mean: Float[Array, "*batch *event"]
    log_var: Float[Array, "*batch *event"] | None


class Bernoulli(NamedTuple):
    """Parameters of the observation model p(x|z) of yes or no, such as pixels that are black or white.

    Attributes:
      logits: log odds of yes, float.

    Examples:
      >>> import jax.numpy as jnp
      >>> import vae_jax
      >>> observation = vae_jax.Bernoulli(logits=jnp.zeros((4, 3)))
      >>> print(observation.mean[0], observation.log_prob(jnp.ones((4, 3)))[0].round(2))
      [0.5 0.5 0.5] [-0.69 -0.69 -0.69]
    """

    logits: Float[Array, "*batch *event"]

    @property
    def mean(self) -> Float[Array, "*batch *event"]:
        """The probabilities of yes."""
        return jax.nn.sigmoid(self.logits)

    def log_prob(self, x: Float[Array, "*batch *event"]) -> Float[Array, "*batch *event"]:
        """Log probability of each dimension of `x`, in [0, 1], nats."""
        return bernoulli_log_prob(x, self.logits)


def soft_clip(x: Float[Array, "*any"], low: float, high: float | Float[Array, "*any"]) -> Float[Array, "*any"]:
    """Bounds `x` smoothly to [low, high], up to rounding; the identity well inside.

    The gradient fades outside but is not cut off. A hard clip makes it zero there, so a unit that leaves never returns.

    References:
      Chua et al. 2018 (https://arxiv.org/abs/1805.12114), appendix A.1.
    """
    if isinstance(high, float | int) and high - low > WIDE:
        # The same up to e^-40, with two exponentials and two logarithms: the soft maximum of `low` and a soft minimum.
        return jnp.logaddexp(low, -jnp.logaddexp(-x, -high))
    # low + softplus(high - softplus(high - x) - low) in closed form: one exponential and one logarithm, not two each.
    # More than 30 below `low` the slope is under e^-30, effectively 0, and the exponential would overflow.
    excess = jnp.exp(low - jnp.maximum(x, low - 30.0))
    clipped = jnp.log(1 + 1 / (jnp.exp(low - high) + excess))
    # The quotient, almost 1, corrects the log(1 + exp(low - high)) by which this overshoots `high`.
    return low + clipped * ((high - low) / jnp.log(1 + jnp.exp(high - low)))
