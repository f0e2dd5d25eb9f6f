"""A VAE that knows a label of each example, beside x and z."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp

from vae_jax.networks.vae import VAE

if TYPE_CHECKING:
    from jaxtyping import Array, Float, Int


class ConditionalVAE(VAE):
    """A VAE of p(x|label). Its rows are features followed by the label, one-hot; see [`with_labels`][].

    The encoder sees whole rows; the decoder sees z followed by the label, and gives the features alone. To make new
    examples of a class, decode draws from the prior with [`with_labels`][].

    Attributes:
      encoder: rows to q(z|x, label).
      decoder: z and label to p(x|z, label).
      num_labels: number of classes C.

    References:
      Sohn et al. 2015, "Learning Structured Output Representation using Deep Conditional Generative Models"; Kingma et
      al. 2014, https://arxiv.org/abs/1406.5298, eq. 6 without log p(y).

    Examples:
      >>> import jax
      >>> import jax.numpy as jnp
      >>> import vae_jax
      >>> vae = vae_jax.ConditionalVAE(
      ...     encoder=vae_jax.DenseEncoder(hidden_dims=(8,), latent_dim=2),
      ...     decoder=vae_jax.DenseDecoder(hidden_dims=(8,), feature_dim=4, learned_variance=True),
      ...     num_labels=3,
      ... )
      >>> rows = vae_jax.with_labels(jnp.ones((5, 4)), jnp.array([0, 1, 2, 0, 1]), num_labels=3)
      >>> params = vae.init(jax.random.key(0), rows, jnp.zeros((5, 2)))
      >>> twos = vae_jax.with_labels(jax.random.normal(jax.random.key(1), (6, 2)), jnp.full(6, 2), num_labels=3)
      >>> vae_jax.decode(vae, params, twos).mean.shape
      (6, 4)
    """

    num_labels: int

    def observe(self, x: Float[Array, "B D+C"], z: Float[Array, "B L"]) -> Any:
        """Returns the observation model p(x|z, label) of the features."""
        return self.decode(jnp.concatenate([z, x[..., -self.num_labels :]], -1))

    def target(self, x: Float[Array, "B D+C"]) -> Float[Array, "B D"]:
        """Returns the features, without the label."""
        return x[..., : -self.num_labels]


def with_labels(x: Float[Array, "B D"], labels: Int[Array, " B"], num_labels: int) -> Float[Array, "B D+C"]:
    """Appends labels to rows, or to latents, as one-hot numbers.

    Args:
      x: rows or latents, float.
      labels: the class of each, from 0, int; one that is not below `num_labels` becomes all zeros.
      num_labels: number of classes C.

    Returns:
      Rows for a [`ConditionalVAE`][], or latents for its decoder.

    Raises:
      ValueError: for uint8, which training would divide by 255, labels and all.

    Examples:
      >>> import jax.numpy as jnp
      >>> import vae_jax
      >>> print(vae_jax.with_labels(jnp.array([[5.0]]), jnp.array([1]), num_labels=3))
      [[5. 0. 1. 0.]]
    """
    if x.dtype == jnp.uint8:
        raise ValueError("rows of dtype uint8: expected float, such as pixels / 255")
    return jnp.concatenate([x, jax.nn.one_hot(labels, num_labels, dtype=x.dtype)], -1)
