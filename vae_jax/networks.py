"""Encoders, decoders and the VAE made of them, as Flax Linen modules.

Every module is a pure function of its parameters: `vae.apply(params, ...)`. Nothing in here draws random numbers.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, cast

import jax
import jax.numpy as jnp
from flax import linen as nn

from vae_jax.convolution import Conv, ConvTranspose
from vae_jax.dense import Dense, features_first, features_last
from vae_jax.distributions import reparameterise

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

# Slope of LeakyReLU below 0; Keras's default, which the report's reference code uses.
LEAKY_SLOPE = 0.3


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


def leaky_relu(x: Float[Array, "*any"]) -> Float[Array, "*any"]:
    """LeakyReLU with the report's slope of 0.3."""
    return nn.leaky_relu(x, LEAKY_SLOPE)


class ConvEncoder(nn.Module):
    """Strided 3 x 3 convolutions with LeakyReLU, then two dense heads: from pictures to the parameters of q(z|x).

    Attributes:
      filters: channels of the convolutions, each of which halves the picture.
      latent_dim: number of latent dimensions L.
      dtype: in which to compute, e.g. bfloat16; parameters and outputs are float32 whatever it is.
      matrix_products: which form of convolution, see `convolution.conv`.

    Examples:
      >>> import jax
      >>> import jax.numpy as jnp
      >>> import vae_jax
      >>> encoder = vae_jax.ConvEncoder(filters=(4, 8), latent_dim=5)
      >>> posterior, params = jax.jit(encoder.init_with_output)(jax.random.key(0), jnp.zeros((2, 16, 16, 3)))
      >>> posterior.mean.shape
      (2, 5)
    """

    filters: Sequence[int]
    latent_dim: int
    dtype: Any = None
    matrix_products: bool | None = None

    @nn.compact
    def __call__(self, x: Float[Array, "B H W C"]) -> Gaussian:
        """Maps pictures in [0, 1] to their posterior: a `Gaussian` whose arrays have shape (B, L)."""
        for features in self.filters:
            x = leaky_relu(Conv(features, self.dtype, self.matrix_products)(x))
        x = x.reshape(x.shape[0], -1)
        mean = nn.Dense(self.latent_dim, dtype=self.dtype, name="mean")(x)
        log_var = nn.Dense(self.latent_dim, dtype=self.dtype, name="log_var")(x)
        return Gaussian(mean.astype(jnp.float32), soft_clip(log_var.astype(jnp.float32), *POSTERIOR_LOG_VAR))


class ConvDecoder(nn.Module):
    """A dense layer, then transposed 3 x 3 convolutions with LeakyReLU, the last with a sigmoid: to p(x|z).

    Attributes:
      filters: channels of the transposed convolutions but the last, each of which doubles the picture.
      image_size: height and width of the picture, a multiple of 2^(number of convolutions).
      base_channels: channels of the small picture that the dense layer makes.
      channels: colours of the picture.
      learned_variance: True learns one variance for all pixels of all pictures, as Rybkin et al. 2021 advise; False
        gives a mean alone.
      dtype: in which to compute; parameters and outputs are float32 whatever it is.
      matrix_products: which form of convolution, see `convolution.conv`.

    References:
      Rybkin, Daniilidis & Levine 2021, https://arxiv.org/abs/2006.13202, section 3.

    Examples:
      >>> import jax
      >>> import jax.numpy as jnp
      >>> import vae_jax
      >>> decoder = vae_jax.ConvDecoder(filters=(4,), image_size=16, base_channels=8)
      >>> observation, params = jax.jit(decoder.init_with_output)(jax.random.key(0), jnp.zeros((2, 5)))
      >>> observation.mean.shape
      (2, 16, 16, 3)
    """

    filters: Sequence[int]
    image_size: int
    base_channels: int
    channels: int = 3
    learned_variance: bool = False
    dtype: Any = None
    matrix_products: bool | None = None

    @nn.compact
    def __call__(self, z: Float[Array, "B L"]) -> Observation:
        """Maps latents to an observation model of pixels in [0, 1]: arrays of shape (B, H, W, C)."""
        side = self.image_size // 2 ** (len(self.filters) + 1)
        x = nn.Dense(side * side * self.base_channels, dtype=self.dtype)(z)
        x = x.reshape(z.shape[0], side, side, self.base_channels)
        for features in self.filters:
            x = leaky_relu(ConvTranspose(features, self.dtype, self.matrix_products)(x))
        x = ConvTranspose(self.channels, self.dtype, self.matrix_products)(x)
        mean = nn.sigmoid(x.astype(jnp.float32))
        if not self.learned_variance:
            return Observation(mean, None)
        log_var = self.param("log_var", nn.initializers.constant(-3.0), ())  # e^-3: about the variance of a pixel
        return Observation(mean, jnp.broadcast_to(soft_clip(log_var, *PIXEL_LOG_VAR), mean.shape))


class VAE(nn.Module):
    """A variational autoencoder made of any encoder and any decoder.

    Attributes:
      encoder: maps a batch of x to a [`Gaussian`][] over z, and has the attribute `latent_dim`.
      decoder: maps a batch of z to an [`Observation`][] over x.

    References:
      Kingma & Welling 2013, https://arxiv.org/abs/1312.6114.

    Examples:
      >>> import jax
      >>> import jax.numpy as jnp
      >>> import vae_jax
      >>> vae = vae_jax.VAE(
      ...     encoder=vae_jax.DenseEncoder(hidden_dims=(16, 8), latent_dim=2),
      ...     decoder=vae_jax.DenseDecoder(hidden_dims=(), feature_dim=3),  # linear
      ... )
      >>> x, noise = jnp.ones((5, 3)), jnp.zeros((5, vae.latent_dim))
      >>> params = vae.init(jax.random.key(0), x, noise)
      >>> posterior, observation = vae.apply(params, x, noise)
      >>> posterior.mean.shape, observation.mean.shape
      ((5, 2), (5, 3))
    """

    encoder: nn.Module
    decoder: nn.Module

    @property
    def latent_dim(self) -> int:
        """Number of latent dimensions L."""
        return self.encoder.latent_dim  # pyright: ignore[reportAttributeAccessIssue]

    def encode(self, x: Float[Array, "B *event"]) -> Gaussian:
        """Returns the posterior q(z|x): arrays of shape (B, L)."""
        return self.encoder(x)

    def decode(self, z: Float[Array, "B L"]) -> Observation:
        """Returns the observation model p(x|z): arrays of shape (B, *event)."""
        return self.decoder(z)

    def __call__(self, x: Float[Array, "B *event"], noise: Float[Array, "B L"]) -> tuple[Gaussian, Observation]:
        """Encodes, draws one z per example by the given noise, decodes.

        Args:
          x: a batch of inputs, float.
          noise: draws from N(0, I), float.

        Returns:
          The posterior q(z|x) and the observation model p(x|z) at the drawn z.
        """
        posterior = self.encode(x)
        return posterior, self.decode(reparameterise(noise, posterior.mean, posterior.log_var))


def encode(vae: VAE, params: Any, x: Float[Array, "B *event"]) -> Gaussian:
    """Applies a VAE's encoder.

    Args:
      vae: the module.
      params: its parameters.
      x: a batch of inputs, float.

    Returns:
      The posterior q(z|x): arrays of shape (B, L).

    Examples:
      >>> import jax
      >>> import jax.numpy as jnp
      >>> import vae_jax
      >>> vae = vae_jax.dense_vae(feature_dim=3, hidden_dims=(8,), latent_dim=2)
      >>> x = jnp.ones((5, 3))
      >>> params = vae.init(jax.random.key(0), x, jnp.zeros((5, 2)))
      >>> mean, log_var = vae_jax.encode(vae, params, x)
      >>> mean.shape
      (5, 2)
    """
    return cast(Gaussian, vae.apply(params, x, method="encode"))


def decode(vae: VAE, params: Any, z: Float[Array, "B L"]) -> Observation:
    """Applies a VAE's decoder.

    Args:
      vae: the module.
      params: its parameters.
      z: a batch of latents, float.

    Returns:
      The observation model p(x|z): arrays of shape (B, *event).

    Examples:
      >>> import jax
      >>> import jax.numpy as jnp
      >>> import vae_jax
      >>> vae = vae_jax.dense_vae(feature_dim=3, hidden_dims=(8,), latent_dim=2)
      >>> z = jnp.zeros((5, 2))
      >>> params = vae.init(jax.random.key(0), jnp.ones((5, 3)), z)
      >>> vae_jax.decode(vae, params, z).mean.shape
      (5, 3)
    """
    return cast(Observation, vae.apply(params, z, method="decode"))


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


def conv_vae(
    image_size: int = 128,
    filters: Sequence[int] = (32, 64, 64, 64),
    latent_dim: int = 200,
    learned_variance: bool = False,
    dtype: Any = None,
    matrix_products: bool | None = None,
) -> VAE:
    """The report's VAE for pictures. At 128 x 128 it has 2,648,531 parameters.

    Args:
      image_size: height and width, a multiple of 2^(number of filters).
      filters: channels of the encoder's convolutions; the decoder's are the same in reverse, then 3 colours.
      latent_dim: number of latent dimensions L, at least 1.
      learned_variance: whether the decoder learns a variance, as the `gaussian` objective needs.
      dtype: in which to compute, e.g. bfloat16; parameters and outputs are float32 whatever it is.
      matrix_products: which form of convolution, see `convolution.conv`.

    Returns:
      The module; `vae.init(key, x, noise)` gives its parameters.

    Raises:
      ValueError: if the picture can't be halved as often as there are filters.

    Examples:
      >>> import jax
      >>> import jax.numpy as jnp
      >>> import vae_jax
      >>> vae = vae_jax.conv_vae(image_size=16, filters=(4, 8), latent_dim=5)
      >>> params = jax.jit(vae.init)(jax.random.key(0), jnp.zeros((1, 16, 16, 3)), jnp.zeros((1, 5)))
      >>> vae_jax.count_parameters(params)
      2869
    """
    filters = tuple(filters)
    if image_size % 2 ** len(filters) or image_size <= 0:
        raise ValueError(f"image_size {image_size}: expected a multiple of {2 ** len(filters)}")
    # The report's decoder goes 64 -> 64, 64, 32, 3: the encoder's filters in reverse, of which the first is the base.
    return VAE(
        encoder=ConvEncoder(filters, latent_dim, dtype, matrix_products),
        decoder=ConvDecoder(
            filters[-2::-1],
            image_size,
            base_channels=filters[-1],
            learned_variance=learned_variance,
            dtype=dtype,
            matrix_products=matrix_products,
        ),
    )


def count_parameters(params: Any) -> int:
    """Counts the numbers that training changes.

    Args:
      params: a VAE's parameters, or any tree of arrays.

    Returns:
      The sum of the arrays' sizes, without the bounds of a dense decoder.

    Examples:
      >>> import jax.numpy as jnp
      >>> import vae_jax
      >>> vae_jax.count_parameters({"kernel": jnp.zeros((3, 2)), "bias": jnp.zeros(2)})
      8
    """
    trained = {name: part for name, part in params.items() if name != "bounds"}
    return sum(jnp.size(leaf) for leaf in jax.tree.leaves(trained))
