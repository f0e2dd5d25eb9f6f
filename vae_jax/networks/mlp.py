"""Dense encoder, decoder and VAE for tables."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
from flax import linen as nn

from vae_jax.networks.dense_layer import Dense, features_first, features_last
from vae_jax.networks.module import Module
from vae_jax.networks.outputs import OBSERVATION_LOG_VAR, POSTERIOR_LOG_VAR, Bernoulli, Gaussian, Observation, soft_clip
from vae_jax.networks.vae import VAE

if TYPE_CHECKING:
    from jaxtyping import Array, Float


# JAX's own are objects, which can't be pickled, and are others when copied.
def relu(x: Float[Array, "*any"]) -> Float[Array, "*any"]:
    """The rectifier, as a function."""
    return nn.relu(x)


def tanh(x: Float[Array, "*any"]) -> Float[Array, "*any"]:
    """The hyperbolic tangent, as a function."""
    return nn.tanh(x)


class DenseEncoder(Module):
    """Multilayer perceptron from features to the parameters of q(z|x).

    Attributes:
      hidden_dims: widths of the hidden layers, from input to latent.
      latent_dim: number of latent dimensions L.
      mean_bound: largest absolute posterior mean; None for no bound. In training the decoder sees hardly any latent
        beyond 4 (6e-5 of the prior's mass), so what it returns for an outlier far outside is arbitrary extrapolation.
      activation: function between layers.

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
    activation: Callable[[Array], Array] = relu

    @nn.compact
    def __call__(self, x: Float[Array, "*batch D"]) -> Gaussian:
        """Maps rows to their posterior, a `Gaussian` with arrays of shape (*batch, L)."""
        batch_shape = x.shape[:-1]
        x = features_first(x)
        for width in self.hidden_dims:
            x = self.activation(Dense(width)(x))
        mean = Dense(self.latent_dim, name="mean")(x)
        log_var = soft_clip(Dense(self.latent_dim, name="log_var")(x), *POSTERIOR_LOG_VAR)
        if self.mean_bound is not None:
            mean = soft_clip(mean, -self.mean_bound, self.mean_bound)
        return Gaussian(features_last(mean, batch_shape), features_last(log_var, batch_shape))


class DenseDecoder(Module):
    """Multilayer perceptron from a latent to the parameters of p(x|z).

    Attributes:
      hidden_dims: widths of the hidden layers, from latent to output.
      feature_dim: number of features D.
      learned_variance: True gives a mean and a log variance for each feature; False only a mean.
      bounded: whether each feature's standard deviation has its own upper bound, see `bound_sd`.
      lowest_log_var: lower bound on the log variances.
      activation: function between layers.
      bernoulli: True for features of yes or no, or in [0, 1]: the decoder gives their logits.

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
    lowest_log_var: float = OBSERVATION_LOG_VAR[0]
    activation: Callable[[Array], Array] = relu
    bernoulli: bool = False

    @nn.compact
    def __call__(self, z: Float[Array, "*batch L"]) -> Observation | Bernoulli:
        """Maps latents to an observation model, with arrays of shape (*batch, D)."""
        batch_shape = z.shape[:-1]
        z = features_first(z)
        for width in self.hidden_dims:
            z = self.activation(Dense(width)(z))
        if self.bernoulli:
            return Bernoulli(features_last(Dense(self.feature_dim, name="logits")(z), batch_shape))
        mean = features_last(Dense(self.feature_dim, name="mean")(z), batch_shape)
        if not self.learned_variance:
            return Observation(mean, None)
        log_var = Dense(self.feature_dim, name="log_var")(z)
        low, high = self.lowest_log_var, OBSERVATION_LOG_VAR[1]
        if self.bounded:
            # A variable, not an attribute, so that models with different bounds share one compiled program.
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
    lowest_log_var: float = OBSERVATION_LOG_VAR[0],
    activation: Callable[[Array], Array] = relu,
    bernoulli: bool = False,
) -> VAE:
    """Builds the report's VAE for tables: a dense encoder and its mirror image as decoder.

    Args:
      feature_dim: number of features D, at least 1.
      hidden_dims: widths of the encoder's hidden layers; the decoder has them reversed.
      latent_dim: number of latent dimensions L, at least 1.
      learned_variance: whether the decoder gives a log variance as well as the mean.
      bounded: whether each feature's standard deviation has its own upper bound, see `bound_sd`.
      mean_bound: largest absolute posterior mean, see [`DenseEncoder`][].
      lowest_log_var: lower bound on the decoder's log variances.
      activation: function between layers.
      bernoulli: whether features are yes or no, or in [0, 1], with logits from the decoder; see [`Bernoulli`][].

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
        encoder=DenseEncoder(hidden_dims, latent_dim, mean_bound, activation),
        decoder=DenseDecoder(
            hidden_dims[::-1], feature_dim, learned_variance, bounded, lowest_log_var, activation, bernoulli
        ),
    )


def bound_sd(params: Any, largest_sd: Float[Array, " D"]) -> Any:
    """Sets the upper bounds on the standard deviations of a `bounded` dense decoder.

    With each feature's own extremes as bounds, the decoder can excuse an outlier only in a feature that has them.
    The bounds are stored beside the parameters, in the collection `bounds`; training does not change them.

    Args:
      params: parameters of a VAE with a `bounded` decoder.
      largest_sd: a bound for each feature, float, above 0.05; above 10 million, which no feature has whose standard
        deviation is 1, it is 10 million.

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
    # With higher bounds `soft_clip` would overflow.
    highest = 2 * jnp.log(jnp.minimum(jnp.asarray(largest_sd, jnp.float32), 1e7))
    return {**params, "bounds": {"decoder": {"highest_log_var": highest}}}
