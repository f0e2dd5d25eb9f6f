"""Uses of a trained VAE: new examples, reconstructions, paths through the latent space, edits.

All functions are pure. Latents are float arrays of shape (..., L) in units of the prior's standard deviation; examples
are returned as the mean of p(x|z); of a [`column_vae`][], which has a mean of numbers and counts alone, as these.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple, cast

import jax
import jax.numpy as jnp
import numpy as np

from vae_jax.networks import VAE, ConditionalVAE, decode, encode
from vae_jax.training import as_float

if TYPE_CHECKING:
    from jaxtyping import Array, Float, Int, PRNGKeyArray


def sample_prior(
    vae: VAE, params: Any, key: PRNGKeyArray, num_samples: int, temperature: float = 1.0
) -> Float[Array, "S *event"]:
    """Generates examples by decoding draws from the prior.

    Args:
      vae: the module.
      params: its parameters.
      key: consumed.
      num_samples: number of examples S.
      temperature: standard deviation of the draws; below 1 gives more typical, less varied examples.

    Returns:
      The means of p(x|z).

    Raises:
      ValueError: for a [`ConditionalVAE`][], whose decoder needs labels as well.

    Examples:
      >>> import jax
      >>> import jax.numpy as jnp
      >>> import vae_jax
      >>> vae = vae_jax.dense_vae(feature_dim=3, hidden_dims=(8,), latent_dim=2)
      >>> params = vae.init(jax.random.key(0), jnp.zeros((1, 3)), jnp.zeros((1, 2)))
      >>> vae_jax.generation.sample_prior(vae, params, jax.random.key(1), num_samples=5).shape
      (5, 3)
    """
    if isinstance(vae, ConditionalVAE):
        raise ValueError("a ConditionalVAE needs labels: decode with_labels(z, labels, num_labels) for z from N(0, I)")
    z = temperature * jax.random.normal(key, (num_samples, vae.latent_dim))
    return decode(vae, params, cast(Any, vae.apply(params, z, method="draw_prior"))).mean


def reconstruct(
    vae: VAE, params: Any, x: Float[Array, "B *event"], key: PRNGKeyArray | None = None
) -> Float[Array, "B *event"]:
    """Encodes and decodes examples.

    Args:
      vae: the module.
      params: its parameters.
      x: a batch, float, or uint8 for pixels.
      key: consumed to draw z; None takes the posterior mean, which makes the result deterministic.

    Returns:
      The means of p(x|z).

    Examples:
      >>> import jax
      >>> import jax.numpy as jnp
      >>> import vae_jax
      >>> vae = vae_jax.dense_vae(feature_dim=3, hidden_dims=(8,), latent_dim=2)
      >>> params = vae.init(jax.random.key(0), jnp.zeros((1, 3)), jnp.zeros((1, 2)))
      >>> vae_jax.generation.reconstruct(vae, params, jnp.ones((5, 3))).shape
      (5, 3)
    """
    x = as_float(x)
    posterior = encode(vae, params, x)
    z = posterior.mean
    if key is not None:
        z = vae.apply(params, posterior, jax.random.normal(key, z.shape), method="draw")
    return cast(Any, vae.apply(params, x, z, method="observe")).mean


def interpolate(
    start: Float[Array, " L"], end: Float[Array, " L"], num_steps: int, spherical: bool = False
) -> Float[Array, "num_steps L"]:
    """Interpolates between two latents, both included.

    Args:
      start: the first latent.
      end: the last latent.
      num_steps: number of latents, at least 2.
      spherical: follow the great circle, with evenly changing length. For a high L the straight line passes through
        latents that are shorter than nearly any draw from the prior.

    Returns:
      The latents from `start` to `end`.

    References:
      White 2016, "Sampling Generative Networks", https://arxiv.org/abs/1609.04468, section 2.1.

    Examples:
      >>> import jax.numpy as jnp
      >>> from vae_jax import generation
      >>> start, end = jnp.array([0.0, 2.0]), jnp.array([2.0, 0.0])
      >>> print(generation.interpolate(start, end, num_steps=3))
      [[0. 2.]
       [1. 1.]
       [2. 0.]]
      >>> print(generation.interpolate(start, end, num_steps=3, spherical=True)[1].round(2))
      [1.41 1.41]
    """
    t = jnp.linspace(0.0, 1.0, num_steps)[:, None]
    linear = (1 - t) * start[None] + t * end[None]
    if not spherical:
        return linear
    lengths = _length(start), _length(end)
    directions = [z[None] / jnp.maximum(length, 1e-12) for z, length in zip((start, end), lengths, strict=True)]
    # Not arccos of the cosine, whose float32 error reaches 5e-4 near 0 and 180 degrees.
    apart, together = (_length(directions[0] + sign * directions[1]) for sign in (-1, 1))
    angle = 2 * jnp.arctan2(apart, jnp.maximum(together, 1e-12))
    # sin(angle) is 0 at angle 0, where the circle is the line, and at 180 degrees, where the circle is not unique.
    # There is none from the origin.
    on_line = (jnp.sin(angle) < 1e-4) | (jnp.minimum(*lengths) < 1e-12)
    sine = jnp.where(on_line, 1.0, jnp.sin(angle))
    direction = (jnp.sin((1 - t) * angle) * directions[0] + jnp.sin(t * angle) * directions[1]) / sine
    return jnp.where(on_line, linear, ((1 - t) * lengths[0] + t * lengths[1]) * direction)


def traverse(z: Float[Array, " L"], latent: int, values: Float[Array, " V"]) -> Float[Array, "V L"]:
    """Varies one latent dimension and keeps the others.

    Args:
      z: the latent to start from.
      latent: index of the dimension to vary.
      values: its new values.

    Returns:
      The latents, one per value.

    Raises:
      ValueError: for a dimension that `z` doesn't have.

    Examples:
      >>> import jax.numpy as jnp
      >>> from vae_jax import generation
      >>> print(generation.traverse(jnp.array([1.0, 2.0]), latent=0, values=jnp.array([-3.0, 0.0, 3.0])))
      [[-3.  2.]
       [ 0.  2.]
       [ 3.  2.]]
    """
    if isinstance(latent, int | np.integer) and not -len(z) <= latent < len(z):  # JAX would change nothing
        raise ValueError(f"latent={latent}: expected a number below {len(z)}, the number of latents")
    path = jnp.tile(z, (len(values), 1)).astype(jnp.result_type(z, values))
    return path.at[:, latent].set(values)


def most_active(posterior_mean: Float[np.ndarray, "N L"], count: int) -> Int[np.ndarray, " count"]:
    """Returns the indices of the latent dimensions whose posterior mean varies most, most active first.

    Args:
      posterior_mean: means of q(z|x) over a data set, float.
      count: number of indices.

    Returns:
      At most `count` indices.

    Examples:
      >>> import numpy as np
      >>> from vae_jax import generation
      >>> posterior_mean = np.array([[0.0, -2.0, 1.0], [0.1, 2.0, -1.0]])
      >>> print(generation.most_active(posterior_mean, count=2))
      [1 2]
    """
    return np.argsort(-posterior_mean.var(0))[:count]


def principal_directions(posterior_mean: Float[np.ndarray, "N L"], count: int) -> Float[np.ndarray, "K L"]:
    """Finds the directions in which posterior means vary most: their principal components.

    Args:
      posterior_mean: means of q(z|x) over a data set, float. Not draws: a latent that the decoder ignores has
        draws as wide as the prior's, while its mean does not vary.
      count: number of directions.

    Returns:
      At most `count` directions, largest variance first, each as long as the standard deviation along it. The largest
      entry of each is positive, so that the sign does not depend on the solver.

    Examples:
      >>> import numpy as np
      >>> from vae_jax import generation
      >>> posterior_mean = np.array([[3.0, 4.0], [-3.0, -4.0], [0.0, 0.1], [0.0, -0.1]])
      >>> print(generation.principal_directions(posterior_mean, count=1).round(1))
      [[2.1 2.8]]
    """
    centred = posterior_mean - posterior_mean.mean(0)
    _, lengths, directions = np.linalg.svd(centred, full_matrices=False)
    scaled = (lengths[:, None] / np.sqrt(len(centred)) * directions)[:count]
    largest = np.take_along_axis(scaled, np.abs(scaled).argmax(1)[:, None], axis=1)
    return np.where(largest < 0, -scaled, scaled)


def attribute_vectors(
    posterior_mean: Float[np.ndarray, "N L"], labels: Int[np.ndarray, "N A"]
) -> Float[np.ndarray, "A L"]:
    """Finds the direction of each attribute: the mean latent with it minus the mean latent without it.

    Args:
      posterior_mean: means of q(z|x) over a data set, float.
      labels: 1 = has the attribute, -1 = lacks it, 0 = unknown.

    Returns:
      The directions, 0 for an attribute that all or none of the examples have. Add `strength * vector` to a latent to
      add the attribute, or subtract it to remove it.

    References:
      Larsen et al. 2016, https://arxiv.org/abs/1512.09300, section 4.2.

    Examples:
      >>> import numpy as np
      >>> from vae_jax import generation
      >>> posterior_mean = np.array([[0.0, 1.0], [0.0, 3.0], [4.0, 2.0]])
      >>> smiles = np.array([[-1], [-1], [1]])
      >>> print(generation.attribute_vectors(posterior_mean, smiles))
      [[4. 0.]]
    """
    vectors = np.zeros((labels.shape[1], posterior_mean.shape[1]), posterior_mean.dtype)
    for vector, label in zip(vectors, labels.T, strict=True):
        if (label == 1).any() and (label == -1).any():
            vector[:] = posterior_mean[label == 1].mean(0) - posterior_mean[label == -1].mean(0)
    return vectors


class LatentMixture(NamedTuple):
    """A Gaussian mixture over latents, which fits the encoded data better than the prior.

    Attributes:
      weights: component weights, shape (K,), summing to 1.
      means: component means, shape (K, L).
      cholesky: lower Cholesky factors of the covariances, shape (K, L, L).

    Examples:
      >>> import numpy as np
      >>> from vae_jax import generation
      >>> mixture = generation.LatentMixture(
      ...     weights=np.array([0.5, 0.5]),
      ...     means=np.array([[-3.0, 0.0], [3.0, 0.0]]),
      ...     cholesky=np.stack([np.eye(2)] * 2),
      ... )
      >>> mixture.means.shape
      (2, 2)
    """

    weights: Float[np.ndarray, " K"]
    means: Float[np.ndarray, "K L"]
    cholesky: Float[np.ndarray, "K L L"]


def fit_mixture(latents: Float[np.ndarray, "N L"], num_components: int = 10, seed: int = 0) -> LatentMixture:
    """Fits a Gaussian mixture with full covariances to posterior draws of a data set (scikit-learn).

    Args:
      latents: one draw z ~ q(z|x) per example; the posterior means alone would give too narrow a density.
      num_components: K, reduced if there are fewer than ten draws per dimension of each component.
      seed: seed of the initialisation.

    Returns:
      The mixture, float32.

    References:
      Ghosh et al. 2020, https://arxiv.org/abs/1903.12436, section 4.

    Examples:
      >>> import numpy as np
      >>> from vae_jax import generation
      >>> rng = np.random.default_rng(0)
      >>> latents = np.concatenate([rng.normal(-3, 0.1, (100, 2)), rng.normal(3, 0.1, (100, 2))])
      >>> mixture = generation.fit_mixture(latents, num_components=2)
      >>> print(np.sort(mixture.means[:, 0]).round(1))
      [-3.  3.]
    """
    from sklearn.mixture import GaussianMixture

    draws = np.asarray(latents, np.float64)
    most = max(1, len(draws) // (10 * draws.shape[1]))
    mixture = GaussianMixture(min(num_components, most), covariance_type="full", reg_covar=1e-4, random_state=seed)
    mixture.fit(draws)
    roots = np.linalg.cholesky(np.asarray(mixture.covariances_))
    return LatentMixture(*(np.asarray(part, np.float32) for part in (mixture.weights_, mixture.means_, roots)))


def sample_mixture(
    mixture: LatentMixture, key: PRNGKeyArray, num_samples: int, temperature: float = 1.0
) -> Float[Array, "S L"]:
    """Draws latents from a mixture.

    Args:
      mixture: the mixture.
      key: consumed.
      num_samples: number of latents S.
      temperature: factor on the distance from the component's mean; below 1 gives more typical, less varied examples.

    Returns:
      The latents, float32.

    Examples:
      >>> import jax
      >>> import numpy as np
      >>> from vae_jax import generation
      >>> mixture = generation.LatentMixture(
      ...     weights=np.ones(1), means=np.array([[5.0, -5.0]]), cholesky=0.01 * np.eye(2)[None]
      ... )
      >>> z = generation.sample_mixture(mixture, jax.random.key(0), num_samples=100)
      >>> z.shape
      (100, 2)
      >>> print(z.mean(0).round(1))
      [ 5. -5.]
    """
    component_key, noise_key = jax.random.split(key)
    component = jax.random.categorical(component_key, jnp.log(mixture.weights), shape=(num_samples,))
    noise = jax.random.normal(noise_key, (num_samples, mixture.means.shape[1]))
    means, cholesky = jnp.asarray(mixture.means), jnp.asarray(mixture.cholesky)
    return means[component] + jnp.einsum("sij,sj->si", cholesky[component], temperature * noise)


def _length(vector: Array) -> Array:
    """The Euclidean norm; of zeros it has a gradient, 0, where jnp.linalg.norm has NaN."""
    square = jnp.sum(jnp.square(vector))
    return jnp.where(square > 0, jnp.sqrt(jnp.where(square > 0, square, 1.0)), 0.0)
