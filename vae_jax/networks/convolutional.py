"""Convolutional encoder, decoder and VAE for images."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import jax.numpy as jnp
from flax import linen as nn

from vae_jax.networks.conv_layer import Conv, ConvTranspose
from vae_jax.networks.module import Module
from vae_jax.networks.outputs import PIXEL_LOG_VAR, POSTERIOR_LOG_VAR, Gaussian, Observation, soft_clip
from vae_jax.networks.vae import VAE

if TYPE_CHECKING:
    from jaxtyping import Array, Float

# Keras's default slope below 0, used by the report's reference code.
LEAKY_SLOPE = 0.3


def leaky_relu(x: Float[Array, "*any"]) -> Float[Array, "*any"]:
    """LeakyReLU with the report's slope of 0.3."""
    return nn.leaky_relu(x, LEAKY_SLOPE)


class ConvEncoder(Module):
    """Maps images to the parameters of q(z|x): strided 3 x 3 convolutions with LeakyReLU, then two dense heads.

    Attributes:
      filters: channels of the convolutions, each of which halves the image.
      latent_dim: number of latent dimensions L.
      dtype: computation dtype, e.g. bfloat16; parameters and outputs are always float32.
      matrix_products: form of the convolutions, see `conv_layer.conv`.

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
        """Maps images in [0, 1] to their posterior, a `Gaussian` with arrays of shape (B, L)."""
        for features in self.filters:
            x = leaky_relu(Conv(features, self.dtype, self.matrix_products)(x))
        x = x.reshape(x.shape[0], -1)
        mean = nn.Dense(self.latent_dim, dtype=self.dtype, name="mean")(x)
        log_var = nn.Dense(self.latent_dim, dtype=self.dtype, name="log_var")(x)
        return Gaussian(mean.astype(jnp.float32), soft_clip(log_var.astype(jnp.float32), *POSTERIOR_LOG_VAR))


class ConvDecoder(Module):
    """Maps latents to p(x|z): a dense layer, then transposed 3 x 3 convolutions with LeakyReLU and a final sigmoid.

    Attributes:
      filters: channels of all transposed convolutions but the last. Each convolution doubles the image.
      image_size: height and width of the image, a multiple of 2^(number of convolutions).
      base_channels: channels of the small image produced by the dense layer.
      channels: colour channels of the image.
      learned_variance: True learns one variance for all pixels of all images; False gives only a mean.
      dtype: computation dtype; parameters and outputs are always float32.
      matrix_products: form of the convolutions, see `conv_layer.conv`.

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
        """Maps latents to an observation model of pixels in [0, 1], with arrays of shape (B, H, W, C)."""
        side = self.image_size // 2 ** (len(self.filters) + 1)
        x = nn.Dense(side * side * self.base_channels, dtype=self.dtype)(z)
        x = x.reshape(z.shape[0], side, side, self.base_channels)
        for features in self.filters:
            x = leaky_relu(ConvTranspose(features, self.dtype, self.matrix_products)(x))
        x = ConvTranspose(self.channels, self.dtype, self.matrix_products)(x)
        mean = nn.sigmoid(x.astype(jnp.float32))
        if not self.learned_variance:
            return Observation(mean, None)
        start = nn.initializers.constant(-3.0)  # e^-3: about the variance of a pixel
        log_var = self.param("log_var", start, (), jnp.float32)
        return Observation(mean, jnp.broadcast_to(soft_clip(log_var, *PIXEL_LOG_VAR), mean.shape))


def conv_vae(
    image_size: int = 128,
    filters: Sequence[int] = (32, 64, 64, 64),
    latent_dim: int = 200,
    learned_variance: bool = False,
    dtype: Any = None,
    matrix_products: bool | None = None,
) -> VAE:
    """Builds the report's VAE for images, which has 2,648,531 parameters at 128 x 128.

    Args:
      image_size: height and width, a multiple of 2^(number of filters).
      filters: channels of the encoder's convolutions; the decoder has them reversed, then 3 colours.
      latent_dim: number of latent dimensions L, at least 1.
      learned_variance: whether the decoder learns a variance, which the `gaussian` objective needs.
      dtype: computation dtype, e.g. bfloat16; parameters and outputs are always float32.
      matrix_products: form of the convolutions, see `conv_layer.conv`.

    Returns:
      The module; `vae.init(key, x, noise)` gives its parameters.

    Raises:
      ValueError: if there are no filters, or the image can't be halved once per filter.

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
    if not filters:
        raise ValueError("filters (): expected at least one")
    if image_size % 2 ** len(filters) or image_size <= 0:
        raise ValueError(f"image_size {image_size}: expected a multiple of {2 ** len(filters)}")
    # The report's decoder goes 64 -> 64, 64, 32, 3: the encoder's filters reversed, starting from the base channels.
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
