"""Multilayer perceptrons for tables: a dense encoder, a dense decoder, and the VAE made of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
from flax import linen as nn

from vae_jax.networks.dense_layer import Dense, features_first, features_last
from vae_jax.networks.outputs import OBSERVATION_LOG_VAR, POSTERIOR_LOG_VAR, Gaussian, Observation, soft_clip
from vae_jax.networks.vae import VAE

if TYPE_CHECKING:
    from jaxtyping import Array, Float


class DenseEncoder(nn.Module):
    """Multilayer perceptron from features to the parameters of q(z|x), with ReLU between layers.

    Attributes:
      hidden_dims: widths of the hidden layers, from the input to the latent.
      latent_dim: number of latent dimensions L.
      mean_bound: largest absolute value of a posterior mean; None for no bound. The decoder has seen hardly any latent
        beyond 4 in training (the prior has 6e-5 of its mass there), so that what it returns for an outlier far outside
        is an accident of extrapolation.

    Examples:
      >>> import jax
      >>> import jax.numpy as jnp
      >>> import vae_jax
      >>> encoder = vae_jax.DenseEncoder(hidden_dims=(8,), latent_dim=2, mean_bound=4.0)
      >>> x = 1e3 * jnp.ones((5, 3))
      >>> params = encoder.init(jax.random.key(0), x)
      >>> posterior = encoder.apply(params, x)
      >>> posterior.mean.shape
      (5, 2)
      >>> bool(abs(posterior.mean).max() < 4.1)
      True
    """

    hidden_dims: Sequence[int]
    latent_dim: int
    mean_bound: float | None = None

    @nn.compact
    def __call__(self, x: Float[Array, "*batch D"]) -> Gaussian:
        """Maps rows to their posterior: a `Gaussian` whose arrays have shape (*batch, L)."""
        batch_shape = x.shape[:-1]
        x = features_first(x)
        for width in self.hidden_dims:
            x = nn.relu(Dense(width)(x))
        mean = Dense(self.latent_dim, name="mean")(x)
        log_var = soft_clip(Dense(self.latent_dim, name="log_var")(x), *POSTERIOR_LOG_VAR)
        if self.mean_bound is not None:
            mean = soft_clip(mean, -self.mean_bound, self.mean_bound)
        return Gaussian(features_last(mean, batch_shape), features_last(log_var, batch_shape))


class DenseDecoder(nn.Module):
    """Multilayer perceptron from a latent to the parameters of p(x|z), with ReLU between layers.

    Attributes:
      hidden_dims: widths of the hidden layers, from the latent to the output.
      feature_dim: number of features D.
      learned_variance: True gives a mean and a log variance for each feature; False a mean alone.
      bounded: whether each feature's standard deviation has an upper bound of its own, see `bound_sd`.

    Examples:
      >>> import jax
      >>> import jax.numpy as jnp
      >>> import vae_jax
      >>> decoder = vae_jax.DenseDecoder(hidden_dims=(8,), feature_dim=3, learned_variance=True)
      >>> z = jnp.zeros((5, 2))
      >>> params = decoder.init(jax.random.key(0), z)
      >>> observation = decoder.apply(params, z)
      >>> observation.mean.shape, observation.log_var.shape
      ((5, 3), (5, 3))
    """

    hidden_dims: Sequence[int]
    feature_dim: int
    learned_variance: bool = False
    bounded: bool = False

    @nn.compact
    def __call__(self, z: Float[Array, "*batch L"]) -> Observation:
        """Maps latents to an observation model: an `Observation` whose arrays have shape (*batch, D)."""
        batch_shape = z.shape[:-1]
        z = features_first(z)
        for width in self.hidden_dims:
            z = nn.relu(Dense(width)(z))
        mean = features_last(Dense(self.feature_dim, name="mean")(z), batch_shape)
        if not self.learned_variance:
            return Observation(mean, None)
        log_var = Dense(self.feature_dim, name="log_var")(z)
        low, high = OBSERVATION_LOG_VAR
        if self.bounded:
            # A variable of its own, not an attribute: models with other bounds are the same compiled program.
            bound = self.variable("bounds", "highest_log_var", jnp.full, (self.feature_dim,), high)
            high = jax.lax.stop_gradient(bound.value)[:, None]
        return Observation(mean, features_last(soft_clip(log_var, low, high), batch_shape))


def dense_vae(
    feature_dim: int,
    hidden_dims: Sequence[int] = (20, 10, 8),
    latent_dim: int = 2,
    learned_variance: bool = False,
    bounded: bool = False,
    mean_bound: float | None = None,
) -> VAE:
    """The report's VAE for tables: a dense encoder and its mirror image as decoder.

    Args:
      feature_dim: number of features D, at least 1.
      hidden_dims: widths of the encoder's hidden layers; the decoder has them reversed.
      latent_dim: number of latent dimensions L, at least 1.
      learned_variance: whether the decoder gives a log variance beside the mean.
      bounded: whether each feature's standard deviation has an upper bound of its own, see `bound_sd`.
      mean_bound: largest absolute value of a posterior mean, see [`DenseEncoder`][].

    Returns:
      The module; `vae.init(key, x, noise)` gives its parameters.

    Examples:
      >>> import jax
      >>> import jax.numpy as jnp
      >>> import vae_jax
      >>> vae = vae_jax.dense_vae(feature_dim=29, learned_variance=True)
      >>> params = vae.init(jax.random.key(0), jnp.zeros((1, 29)), jnp.zeros((1, vae.latent_dim)))
      >>> vae_jax.count_parameters(params)
      2486
    """
    hidden_dims = tuple(hidden_dims)
    return VAE(
        encoder=DenseEncoder(hidden_dims, latent_dim, mean_bound),
        decoder=DenseDecoder(hidden_dims[::-1], feature_dim, learned_variance, bounded),
    )


def bound_sd(params: Any, largest_sd: Float[Array, " D"]) -> Any:
    """Sets the upper bounds on the standard deviations that a `bounded` dense decoder gives.

    With the features' own extremes as bounds, the decoder can excuse an outlier in a feature that has such outliers,
    but not in one that has none. The bounds are kept beside the parameters, in the collection `bounds`; training does
    not change them.

    Args:
      params: the parameters of a VAE whose decoder is `bounded`.
      largest_sd: a bound for each feature, float, above 0.05.

    Returns:
      The parameters with these bounds.

    Examples:
      >>> import jax
      >>> import jax.numpy as jnp
      >>> import vae_jax
      >>> vae = vae_jax.dense_vae(feature_dim=3, learned_variance=True, bounded=True)
      >>> params = vae.init(jax.random.key(0), jnp.zeros((1, 3)), jnp.zeros((1, 2)))
      >>> params = vae_jax.bound_sd(params, jnp.array([1.0, 1.0, 5.0]))
      >>> observation = vae_jax.decode(vae, params, 1e6 * jnp.ones((1, 2)))
      >>> bool((jnp.exp(observation.log_var / 2) <= jnp.array([[1.0, 1.0, 5.0]]) * 1.001).all())
      True
    """
    return {**params, "bounds": {"decoder": {"highest_log_var": 2 * jnp.log(jnp.asarray(largest_sd, jnp.float32))}}}
