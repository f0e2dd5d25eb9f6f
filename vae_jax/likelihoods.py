"""A likelihood for each kind of column: what log p(x|z) is where x is a number, a count, a yes or no, or a category.

| column             | likelihood                                      | its parameters            |
| ------------------ | ----------------------------------------------- | ------------------------- |
| real number        | Gaussian, `distributions.log_prob_per_dimension` | mean, log variance        |
| positive, skewed   | Gaussian of the logarithm                       | mean, log variance        |
| count              | `discretised_logistic_log_prob`                 | mean, log scale           |
| yes or no          | `bernoulli_log_prob`                            | a logit                   |
| category           | `categorical_log_prob`                          | a logit for each level    |

All are in nats, so columns of different kinds add up without weights (Nazabal et al. 2018, HI-VAE,
https://arxiv.org/abs/1807.03653, eq. 5). A Gaussian's is a density, of standardised values; the others are
probabilities, at most 0.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import jax
import jax.numpy as jnp

if TYPE_CHECKING:
    from jaxtyping import Array, Bool, Float, Int


def discretised_logistic_log_prob(
    lower: Float[Array, "*any"],
    width: Float[Array, "*any"],
    mean: Float[Array, "*any"],
    log_scale: Float[Array, "*any"],
    lowest: Bool[Array, "*any"] | bool = False,
) -> Float[Array, "*any"]:
    """Log probability of a bin under a logistic distribution: the likelihood of a whole number.

    Stable in both tails, where the difference of the two distribution functions would be 0.

    Args:
      lower: lower edge of the bin, float.
      width: its width, float, above 0.
      mean: mean of the distribution, float.
      log_scale: natural log of its scale, float; its standard deviation is `pi / sqrt(3)` scales.
      lowest: whether the bin is the lowest, which also has everything below it, bool.

    Returns:
      `log (F(lower + width) - F(lower))` in nats, with the arguments broadcast against each other.

    References:
      Salimans et al. 2017, PixelCNN++, https://arxiv.org/abs/1701.05517, eq. 2.

    Examples:
      The probabilities of all whole numbers add up to 1:

      >>> import jax.numpy as jnp
      >>> import vae_jax
      >>> count = jnp.arange(0.0, 60.0)
      >>> log_prob = vae_jax.discretised_logistic_log_prob(count - 0.5, 1.0, 3.0, 0.5, lowest=count == 0)
      >>> round(float(jnp.exp(log_prob).sum()), 4)
      1.0
    """
    scale = jnp.exp(-log_scale)
    a = (lower - mean) * scale
    step = width * scale
    # F(b) - F(a) = F(b) * F(-a) * (1 - exp(a - b)), and log F is -softplus of minus its argument.
    log_upper = -jax.nn.softplus(-(a + step))
    inside = log_upper - jax.nn.softplus(a) + jnp.log(-jnp.expm1(-step))
    return jnp.where(lowest, log_upper, inside)


def bernoulli_log_prob(x: Float[Array, "*any"], logit: Float[Array, "*any"]) -> Float[Array, "*any"]:
    """Log probability of a yes (1) or a no (0).

    Args:
      x: 0 or 1, float; between them, the expectation over a share of yes.
      logit: log odds of yes, float.

    Returns:
      `x * log sigmoid(logit) + (1 - x) * log sigmoid(-logit)` in nats.

    References:
      Kingma & Welling 2013, appendix C.1.

    Examples:
      >>> import jax.numpy as jnp
      >>> import numpy as np
      >>> import vae_jax
      >>> print(np.asarray(vae_jax.bernoulli_log_prob(jnp.array([1.0, 0.0]), jnp.log(3.0))).round(2))
      [-0.29 -1.39]
    """
    return x * logit - jax.nn.softplus(logit)


def categorical_log_prob(level: Int[Array, "*any"], logits: Float[Array, "K *any"]) -> Float[Array, "*any"]:
    """Log probability of one of K levels.

    Args:
      level: number of the level, from 0, int; one that there is not has probability 0.
      logits: unnormalised log probabilities of the levels, float, along the first axis.

    Returns:
      `logits[level] - log sum exp(logits)` in nats.

    References:
      Nazabal et al. 2018, https://arxiv.org/abs/1807.03653, section 3.1.

    Examples:
      >>> import jax.numpy as jnp
      >>> import numpy as np
      >>> import vae_jax
      >>> logits = jnp.log(jnp.array([0.5, 0.25, 0.25]))[:, None]
      >>> print(np.asarray(vae_jax.categorical_log_prob(jnp.array([0, 2]), logits)).round(2))
      [-0.69 -1.39]
    """
    levels = jnp.arange(logits.shape[0]).reshape(-1, *[1] * level.ndim)
    # Faster than a gather on a CPU.
    chosen = jnp.where(levels == level[None], logits, 0.0).sum(0)
    return jnp.where((level >= 0) & (level < len(logits)), chosen - jax.nn.logsumexp(logits, axis=0), -jnp.inf)
