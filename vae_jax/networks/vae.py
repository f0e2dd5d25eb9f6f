"""The VAE module, and its encoder and decoder as functions."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

import jax
import jax.numpy as jnp
from flax import linen as nn

from vae_jax.distributions import reparameterise
from vae_jax.networks.outputs import Gaussian, Observation

if TYPE_CHECKING:
    from jaxtyping import Array, Float


class VAE(nn.Module):
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
        """Number of latent dimensions L."""
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

    def __call__(self, x: Float[Array, "B *event"], noise: Float[Array, "B L"]) -> tuple[Gaussian, Observation]:
        """Encodes a batch, draws one z per example from the given noise, and decodes it.

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
    return cast(Gaussian, vae.apply(params, x, method="encode"))


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
    trained = {name: part for name, part in params.items() if name != "bounds"}
    return sum(jnp.size(leaf) for leaf in jax.tree.leaves(trained))
