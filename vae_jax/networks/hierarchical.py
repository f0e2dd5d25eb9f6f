"""A VAE with several layers of latents, each a Gaussian given the layer next to it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import jax.numpy as jnp
from flax import linen as nn

from vae_jax.distributions import log_prob, reparameterise
from vae_jax.networks.mlp import DenseDecoder, DenseEncoder, tanh
from vae_jax.networks.outputs import Gaussian
from vae_jax.networks.vae import VAE

if TYPE_CHECKING:
    from jaxtyping import Array, Float


class HierarchicalVAE(VAE):
    """A VAE with H layers of latents: q(z1|x) q(z2|z1) ... and p(x|z1) p(z1|z2) ... p(zH).

    Its latents are those of all layers, joined along the last axis, z1 first. The KL divergence between its posterior
    and its prior has no closed form, so train it with a [`SampledBound`][].

    Attributes:
      encoder: x to q(z1|x), a [`Gaussian`][].
      decoder: z1 to p(x|z1).
      encoders_above: z1 to q(z2|z1), and so on upwards.
      priors: z2 to p(z1|z2), and so on upwards, with `mean` and `log_var`. The last layer's prior is N(0, I).

    References:
      Burda et al. 2016, https://arxiv.org/abs/1509.00519, eqs. 1 and 2.

    Examples:
      >>> import jax
      >>> import jax.numpy as jnp
      >>> import vae_jax
      >>> vae = vae_jax.hierarchical_vae(feature_dim=9, hidden_dims=((8,), (6,)), latent_dims=(4, 2))
      >>> x = jnp.ones((5, 9))
      >>> params = vae.init(jax.random.key(0), x, jnp.zeros((5, vae.latent_dim)))
      >>> vae_jax.encode(vae, params, x).mean.shape
      (5, 6)
    """

    encoders_above: Sequence[nn.Module]
    priors: Sequence[nn.Module]

    @property
    def latent_dims(self) -> tuple[int, ...]:
        """Number of latent dimensions of each layer."""
        return tuple(encoder.latent_dim for encoder in (self.encoder, *self.encoders_above))  # pyright: ignore[reportAttributeAccessIssue]

    @property
    def latent_dim(self) -> int:
        """Number of latent dimensions L of all layers."""
        return sum(self.latent_dims)

    def encode(self, x: Float[Array, "B *event"]) -> Gaussian:
        """Returns each layer's posterior where every layer below is at its mean, with arrays of shape (B, L)."""
        found = [self.encoder(x)]
        for encoder in self.encoders_above:
            found.append(encoder(found[-1].mean))
        return Gaussian(*(jnp.concatenate(parts, -1) for parts in zip(*found, strict=True)))

    def decode(self, z: Float[Array, "B L"]) -> Any:
        """Returns the observation model p(x|z1), with arrays of shape (B, *event)."""
        return self.decoder(self._layers(z)[0])

    def draw(self, posterior: Gaussian, noise: Float[Array, "*S B L"]) -> Float[Array, "*S B L"]:
        """Turns noise into samples of q(z|x), layer by layer."""
        noises = self._layers(noise)
        z = [super().draw(self._first(posterior), noises[0])]
        for encoder, drawn in zip(self.encoders_above, noises[1:], strict=True):
            z.append(reparameterise(drawn, *encoder(z[-1])))
        return jnp.concatenate(z, -1)

    def draw_prior(self, noise: Float[Array, "B L"]) -> Float[Array, "B L"]:
        """Turns noise into samples of the prior p(z), layer by layer from the top."""
        noises = self._layers(noise)
        z = [noises[-1]]
        for prior, drawn in zip(self.priors[::-1], noises[-2::-1], strict=True):
            given = prior(z[0])
            z.insert(0, reparameterise(drawn, given.mean, given.log_var))
        return jnp.concatenate(z, -1)

    def log_prior(self, z: Float[Array, "*S B L"]) -> Float[Array, "*S B"]:
        """Returns log p(z), nats."""
        layers = self._layers(z)
        total = super().log_prior(layers[-1])
        for prior, below, above in zip(self.priors, layers[:-1], layers[1:], strict=True):
            given = prior(above)
            total += log_prob(below, given.mean, given.log_var)
        return total

    def log_posterior(self, posterior: Gaussian, z: Float[Array, "*S B L"]) -> Float[Array, "*S B"]:
        """Returns log q(z|x), nats."""
        layers = self._layers(z)
        total = super().log_posterior(self._first(posterior), layers[0])
        for encoder, below, above in zip(self.encoders_above, layers[:-1], layers[1:], strict=True):
            total += log_prob(above, *encoder(below))
        return total

    def __call__(self, x: Float[Array, "B *event"], noise: Float[Array, "B L"]) -> tuple[Gaussian, Any]:
        """Encodes a batch, draws one z per example from the given noise, and decodes it."""
        posterior = self.encode(x)
        z = self.draw(posterior, noise)
        if self.is_initializing():
            self.log_prior(z)  # whose parameters nothing else here needs
        return posterior, self.decode(z)

    def _layers(self, z: Float[Array, "*any L"]) -> list[Array]:
        ends = [sum(self.latent_dims[:count]) for count in range(1, len(self.latent_dims))]
        return jnp.split(z, ends, axis=-1)

    def _first(self, posterior: Gaussian) -> Gaussian:
        return Gaussian(*(self._layers(part)[0] for part in posterior))


def hierarchical_vae(
    feature_dim: int,
    hidden_dims: Sequence[Sequence[int]],
    latent_dims: Sequence[int],
    activation: Callable[[Array], Array] = tanh,
    bernoulli: bool = True,
) -> HierarchicalVAE:
    """Builds a dense VAE with several layers of latents, its decoder the mirror image of its encoder.

    Args:
      feature_dim: number of features D.
      hidden_dims: for each layer of latents, the widths of the hidden layers below it.
      latent_dims: for each layer of latents, the number of its dimensions.
      activation: function between layers.
      bernoulli: whether features are yes or no; else each has a Gaussian with a mean and a log variance.

    Returns:
      The module.

    Raises:
      ValueError: if there are not as many `hidden_dims` as `latent_dims`.

    References:
      Burda et al. 2016, https://arxiv.org/abs/1509.00519, section 5: `hidden_dims=((200, 200), (100, 100))` and
      `latent_dims=(100, 50)`.

    Examples:
      >>> import vae_jax
      >>> vae = vae_jax.hierarchical_vae(784, hidden_dims=((200, 200), (100, 100)), latent_dims=(100, 50))
      >>> vae.latent_dim
      150
    """
    if len(hidden_dims) != len(latent_dims):
        raise ValueError(f"hidden_dims={hidden_dims} and latent_dims={latent_dims}: expected one of each per layer")
    widths = [tuple(layers) for layers in hidden_dims]
    encoders = [
        DenseEncoder(layers, latent_dim, activation=activation)
        for layers, latent_dim in zip(widths, latent_dims, strict=True)
    ]
    priors = [
        DenseDecoder(layers[::-1], latent_dim, learned_variance=True, activation=activation)
        for layers, latent_dim in zip(widths[1:], latent_dims[:-1], strict=True)
    ]
    decoder = DenseDecoder(
        widths[0][::-1], feature_dim, learned_variance=not bernoulli, activation=activation, bernoulli=bernoulli
    )
    return HierarchicalVAE(encoders[0], decoder, tuple(encoders[1:]), tuple(priors))
