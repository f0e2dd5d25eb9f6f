"""The VAE module, and its encoder and decoder as functions."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, cast

import jax
import jax.numpy as jnp
from flax import linen as nn

from vae_jax.distributions import log_prob, reparameterise
from vae_jax.networks.module import Module
from vae_jax.networks.outputs import Gaussian, Observation

if TYPE_CHECKING:
    from jaxtyping import Array, Float


class VAE(Module):
    """A variational autoencoder built from any encoder and any decoder.

    Attributes:
      encoder: maps a batch of x to a [`Gaussian`][] over z; has the attribute `latent_dim`.
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
        """Number of latent dimensions L; raises TypeError if the encoder doesn't tell."""
        if not hasattr(self.encoder, "latent_dim"):  # Flax would not say what is missing
            raise TypeError(f"{type(self.encoder).__name__} has no latent_dim, which an encoder needs")
        return self.encoder.latent_dim  # pyright: ignore[reportAttributeAccessIssue]

    def corrupt(self, x: Float[Array, "B *event"], noise: Float[Array, "B *event"], scale: float) -> Array:
        """Returns a batch as the encoder sees it in training: with noise added, unless the encoder has its own way."""
        own = getattr(self.encoder, "corrupt", None)
        return x + scale * noise if own is None else own(x, noise, scale)

    def encode(self, x: Float[Array, "B *event"]) -> Gaussian:
        """Returns the posterior q(z|x), with arrays of shape (B, L)."""
        return self.encoder(x)

    def decode(self, z: Float[Array, "B L"]) -> Observation:
        """Returns the observation model p(x|z), with arrays of shape (B, *event)."""
        return self.decoder(z)

    def draw(self, posterior: Gaussian, noise: Float[Array, "*S B L"]) -> Float[Array, "*S B L"]:
        """Turns noise into samples of q(z|x), one or several for each example."""
        return reparameterise(noise, *_spread(posterior, noise.ndim))

    def draw_prior(self, noise: Float[Array, "B L"]) -> Float[Array, "B L"]:
        """Turns noise into samples of the prior p(z)."""
        return noise

    def log_prior(self, z: Float[Array, "*S B L"]) -> Float[Array, "*S B"]:
        """Returns log p(z), nats."""
        return log_prob(z, jnp.zeros(()), jnp.zeros(()))

    def log_posterior(self, posterior: Gaussian, z: Float[Array, "*S B L"]) -> Float[Array, "*S B"]:
        """Returns log q(z|x), nats."""
        return log_prob(z, *_spread(posterior, z.ndim))

    def observe(self, x: Float[Array, "B *event"], z: Float[Array, "B L"]) -> Any:
        """Returns the observation model p(x|z). Of `x` only what the decoder may see is used: here, nothing."""
        return self.decode(z)

    def target(self, x: Float[Array, "B *event"]) -> Float[Array, "B *event"]:
        """Returns what of `x` the observation model is about: all of it."""
        return x

    def __call__(self, x: Float[Array, "B *event"], noise: Float[Array, "B L"]) -> tuple[Gaussian, Observation]:
        """Encodes a batch, draws one z per example from the given noise, and decodes it.

        Args:
          x: a batch of inputs, float.
          noise: draws from N(0, I), float.

        Returns:
          The posterior q(z|x) and the observation model p(x|z) at the drawn z.
        """
        posterior = self.encode(x)
        return posterior, self.observe(x, self.draw(posterior, noise))


def _spread(posterior: Gaussian, ndim: int) -> Gaussian:
    """Gives a posterior leading axes for samples, of size 1."""
    return Gaussian(*(jnp.expand_dims(part, range(ndim - part.ndim)) for part in posterior))


def as_float(x: Array) -> Float[Array, "*any"]:
    """Converts uint8 pixels 0..255 to float32 in [0, 1] and bits to 0 and 1; returns anything else unchanged."""
    if x.dtype == jnp.bool:
        return x.astype(jnp.float32)
    return x.astype(jnp.float32) / 255 if x.dtype == jnp.uint8 else x


def encode(vae: VAE, params: Any, x: Float[Array, "B *event"]) -> Gaussian:
    """Applies a VAE's encoder.

    Args:
      vae: the module.
      params: its parameters.
      x: a batch of inputs, float, or uint8 for pixels.

    Returns:
      The posterior q(z|x), with arrays of shape (B, L).

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
    return cast(Gaussian, vae.apply(params, jax.tree.map(as_float, x), method="encode"))


def decode(vae: VAE, params: Any, z: Float[Array, "B L"]) -> Observation:
    """Applies a VAE's decoder.

    Args:
      vae: the module.
      params: its parameters.
      z: a batch of latents, float.

    Returns:
      The observation model p(x|z), with arrays of shape (B, *event).

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


def count_parameters(params: Any) -> int:
    """Counts the trainable parameters.

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
    if isinstance(params, Mapping):
        params = {name: part for name, part in params.items() if name != "bounds"}
    return sum(jnp.size(leaf) for leaf in jax.tree.leaves(params))
