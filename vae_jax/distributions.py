"""The diagonal Gaussian, the only distribution a plain VAE needs. All quantities are in nats.

Notation (Kingma & Welling 2013, https://arxiv.org/abs/1312.6114):

- q(z|x) = N(mean, diag(exp(log_var))), eq. 9; p(z) = N(0, I)
- B batch, L latent, D any event dimension; `...` any leading axes
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import jax
import jax.numpy as jnp

if TYPE_CHECKING:
    from jaxtyping import Array, Float, PRNGKeyArray

LOG_2PI = math.log(2 * math.pi)


def reparameterise(
    noise: Float[Array, "*batch D"], mean: Float[Array, "*batch D"], log_var: Float[Array, "*batch D"]
) -> Float[Array, "*batch D"]:
    """Turns standard normal noise into a sample of N(mean, exp(log_var)), differentiable in `mean` and `log_var`.

    Args:
      noise: draws from N(0, I), float.
      mean: mean of the Gaussian, float.
      log_var: natural log of its variance, float.

    Returns:
      `mean + exp(log_var / 2) * noise`.

    References:
      Kingma & Welling 2013, section 2.4 and eq. 10.

    Examples:
      >>> import jax.numpy as jnp
      >>> import vae_jax
      >>> noise, mean, log_var = jnp.array([-1.0, 0.0, 1.0]), jnp.full(3, 5.0), jnp.zeros(3)
      >>> print(vae_jax.reparameterise(noise, mean, log_var))
      [4. 5. 6.]
    """
    return mean + jnp.exp(log_var / 2) * noise


def sample(
    key: PRNGKeyArray, mean: Float[Array, "*batch D"], log_var: Float[Array, "*batch D"]
) -> Float[Array, "*batch D"]:
    """Draws one sample of N(mean, exp(log_var)) per batch element.

    Args:
      key: a typed key (`jax.random.key`), consumed.
      mean: mean of the Gaussian, float.
      log_var: natural log of its variance, float.

    Returns:
      A sample with the dtype of `mean`, and the shape to which `mean` and `log_var` broadcast.

    References:
      Kingma & Welling 2013, eq. 10.

    Examples:
      >>> import jax
      >>> import jax.numpy as jnp
      >>> import vae_jax
      >>> z = vae_jax.sample(jax.random.key(0), mean=jnp.zeros((1000, 2)), log_var=jnp.zeros((1000, 2)))
      >>> z.shape
      (1000, 2)
      >>> bool(abs(z.std() - 1) < 0.1)
      True
    """
    shape = jnp.broadcast_shapes(mean.shape, log_var.shape)
    return reparameterise(jax.random.normal(key, shape, mean.dtype), mean, log_var)


def log_prob_per_dimension(
    x: Float[Array, "*batch D"], mean: Float[Array, "*batch D"], log_var: Float[Array, "*batch D"]
) -> Float[Array, "*batch D"]:
    """Log density of each dimension of a diagonal Gaussian.

    Args:
      x: where to evaluate the density, float.
      mean: mean of the Gaussian, float, broadcast against `x`.
      log_var: natural log of its variance, float, broadcast against `x`.

    Returns:
      `log N(x_d; mean_d, exp(log_var_d))` in nats, not summed.

    References:
      Kingma & Welling 2013, appendix C.2.

    Examples:
      >>> import jax.numpy as jnp
      >>> import numpy as np
      >>> import vae_jax
      >>> x, mean, log_var = jnp.array([0.0, 2.0]), jnp.zeros(2), jnp.zeros(2)
      >>> print(np.asarray(vae_jax.log_prob_per_dimension(x, mean, log_var)).round(2))
      [-0.92 -2.92]
    """
    return -0.5 * (LOG_2PI + log_var + jnp.square(x - mean) * jnp.exp(-log_var))


def log_prob(
    x: Float[Array, "*batch D"], mean: Float[Array, "*batch D"], log_var: Float[Array, "*batch D"]
) -> Float[Array, "*batch"]:
    """Log density of a diagonal Gaussian, summed over the last axis.

    Args:
      x: where to evaluate the density, float.
      mean: mean of the Gaussian, float, broadcast against `x`.
      log_var: natural log of its variance, float, broadcast against `x`.

    Returns:
      `sum_d log N(x_d; mean_d, exp(log_var_d))` in nats.

    References:
      Kingma & Welling 2013, appendix C.2.

    Examples:
      >>> import jax.numpy as jnp
      >>> import numpy as np
      >>> import vae_jax
      >>> x, mean, log_var = jnp.array([[0.0, 2.0], [0.0, 0.0]]), jnp.zeros((2, 2)), jnp.zeros((2, 2))
      >>> print(np.asarray(vae_jax.log_prob(x, mean, log_var)).round(2))
      [-3.84 -1.84]
    """
    return log_prob_per_dimension(x, mean, log_var).sum(-1)


def kl_standard_normal(mean: Float[Array, "*batch L"], log_var: Float[Array, "*batch L"]) -> Float[Array, "*batch"]:
    """KL divergence from N(mean, exp(log_var)) to the prior N(0, I), in closed form.

    Args:
      mean: posterior mean, float.
      log_var: natural log of the posterior variance, float.

    Returns:
      `-1/2 * sum_l (1 + log_var - mean^2 - exp(log_var))` in nats; at least 0 up to rounding, 0 at the prior.

    References:
      Kingma & Welling 2013, appendix B.

    Examples:
      >>> import jax.numpy as jnp
      >>> import vae_jax
      >>> mean, log_var = jnp.array([[0.0, 0.0], [1.0, 2.0]]), jnp.zeros((2, 2))
      >>> print(vae_jax.kl_standard_normal(mean, log_var))
      [0.  2.5]
    """
    # expm1 avoids cancellation near log_var = 0 (a collapsed latent), which would make the result negative.
    return 0.5 * (jnp.square(mean) + jnp.expm1(log_var) - log_var).sum(-1)
