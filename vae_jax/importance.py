"""Bounds on log p(x) from several samples of the posterior, and its estimate from many.

Notation (Burda et al. 2016, https://arxiv.org/abs/1509.00519):

- z_1 ... z_K ~ q(z|x); weights w_k = p(x, z_k) / q(z_k|x); normalised weights v_k = w_k / sum_j w_j
- ELBO: 1/K sum_k log w_k, whose expectation does not depend on K
- importance-weighted bound, eq. 8: log (1/K sum_k w_k), which rises with K towards log p(x)

All are in nats. Any module with the methods of [`VAE`][] has them, with any likelihood and any number of layers.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any, cast

import jax
import jax.numpy as jnp
from flax import struct

from vae_jax.chunks import map_chunks
from vae_jax.networks import VAE, Gaussian, as_float, encode
from vae_jax.objectives import Terms, bernoulli, check_per_example

if TYPE_CHECKING:
    from jaxtyping import Array, Float, PRNGKeyArray

NegativeLogLikelihood = Callable[[Any, Any], Any]

# Numbers that a chunk of samples decodes to, in `log_likelihood`: enough rows for fast products, in little memory.
PROCESSOR_NUMBERS, ACCELERATOR_NUMBERS = 2**20, 2**26
SAMPLES_AT_ONCE = 50


def check_num_samples(num_samples: int) -> None:
    """Raises ValueError where there are none."""
    if num_samples < 1:
        raise ValueError(f"num_samples={num_samples}: expected at least 1")


def log_weights(
    vae: VAE,
    params: Any,
    x: Float[Array, "B *event"],
    noise: Float[Array, "K B L"],
    reconstruction: NegativeLogLikelihood = bernoulli,
) -> Float[Array, "K B"]:
    """Logs of the importance weights of K samples of each example.

    Args:
      vae: the module.
      params: its parameters.
      x: a batch of inputs, float, or uint8 for pixels.
      noise: draws from N(0, I), float.
      reconstruction: negative log likelihood, from (x, observation) to shape (B,), nats.

    Returns:
      `log p(x, z_k) - log q(z_k|x)`, nats.

    References:
      Burda et al. 2016, eq. 8.

    Examples:
      >>> import jax
      >>> import jax.numpy as jnp
      >>> import vae_jax
      >>> vae = vae_jax.dense_vae(feature_dim=3, hidden_dims=(8,), latent_dim=2, bernoulli=True)
      >>> x = jnp.ones((5, 3))
      >>> params = vae.init(jax.random.key(0), x, jnp.zeros((5, 2)))
      >>> noise = jax.random.normal(jax.random.key(1), (100, 5, 2))
      >>> log_w = vae_jax.log_weights(vae, params, x, noise)
      >>> bool((vae_jax.elbo(log_w) <= vae_jax.iwae(log_w)).all())
      True
    """
    x = as_float(x)
    posterior = encode(vae, params, x)
    return _weigh(vae, reconstruction, params, x, posterior, _draw(vae, params, posterior, noise))[0]


def _draw(vae: VAE, params: Any, posterior: Gaussian, noise: Float[Array, "K B L"]) -> Float[Array, "K B L"]:
    return cast(Any, vae.apply(params, posterior, noise, method="draw"))


def _weigh(
    vae: VAE,
    reconstruction: NegativeLogLikelihood,
    params: Any,
    x: Float[Array, "B *event"],
    posterior: Gaussian,
    z: Float[Array, "K B L"],
    fixed: bool = False,
) -> tuple[Float[Array, "K B"], Float[Array, "K B"]]:
    """Log weights and log likelihoods of given latents; if `fixed`, q(z|x) is differentiated by z alone."""
    count = z.shape[:2]
    repeated = jnp.broadcast_to(x, (z.shape[0], *x.shape)).reshape(-1, *x.shape[1:])
    observation = vae.apply(params, repeated, z.reshape(-1, z.shape[-1]), method="observe")
    loss = reconstruction(vae.target(repeated), observation)
    check_per_example("reconstruction", loss, len(repeated))
    log_likelihood = -loss.reshape(count)
    log_prior = cast(Any, vae.apply(params, z, method="log_prior"))
    if fixed:
        params, posterior = jax.lax.stop_gradient((params, posterior))
    log_posterior = cast(Any, vae.apply(params, posterior, z, method="log_posterior"))
    return log_likelihood + log_prior - log_posterior, log_likelihood


def elbo(log_w: Float[Array, "K *B"]) -> Float[Array, "*B"]:
    """Evidence lower bound, estimated from K samples.

    Args:
      log_w: [`log_weights`][].

    Returns:
      `1/K sum_k log w_k`, nats.

    References:
      Kingma & Welling 2013, eqs. 2 and 6.

    Examples:
      >>> import jax.numpy as jnp
      >>> import vae_jax
      >>> print(vae_jax.elbo(jnp.array([[-3.0], [-1.0]])))
      [-2.]
    """
    return log_w.mean(0)


def iwae(log_w: Float[Array, "K *B"]) -> Float[Array, "*B"]:
    """Importance-weighted bound: tighter than the ELBO, and equal to it for K = 1.

    Args:
      log_w: [`log_weights`][].

    Returns:
      `log (1/K sum_k w_k)`, nats.

    References:
      Burda et al. 2016, eq. 8.

    Examples:
      >>> import jax.numpy as jnp
      >>> import vae_jax
      >>> print(vae_jax.iwae(jnp.log(jnp.array([[1.0], [3.0]]))))  # log 2
      [0.6931472]
    """
    return jax.nn.logsumexp(log_w, axis=0) - math.log(log_w.shape[0])


class SampledBound(struct.PyTreeNode):
    """A loss from K samples of the posterior: minus a bound on log p(x). Use it in place of an [`Objective`][].

    Attributes:
      reconstruction: negative log likelihood, from (x, observation) to shape (B,), nats: [`bernoulli`][],
        [`gaussian`][] or your own.
      num_samples: samples K of each example.
      bound: from log weights (K, B) to shape (B,): [`elbo`][], [`iwae`][] or your own.
      doubly_reparameterised: whether the encoder's gradient is the doubly reparameterised one, for `iwae` alone. The
        plain gradient drowns in noise as K grows (Rainforth et al. 2018, https://arxiv.org/abs/1802.04537); this one,
        with the same expectation, does not.

    References:
      Burda et al. 2016, https://arxiv.org/abs/1509.00519, eqs. 8 and 14; Tucker et al. 2019,
      https://arxiv.org/abs/1810.04152, eq. 8.

    Examples:
      >>> import jax
      >>> import jax.numpy as jnp
      >>> import optax
      >>> import vae_jax
      >>> vae = vae_jax.dense_vae(feature_dim=3, hidden_dims=(8,), bernoulli=True)
      >>> objective = vae_jax.SampledBound(num_samples=50)
      >>> state = vae_jax.create_train_state(jax.random.key(0), vae, objective, optax.adam(1e-3), (3,))
      >>> state, info = jax.jit(vae_jax.train_step)(state, jnp.ones((4, 3)), jax.random.key(1))
      >>> int(state.step)
      1
    """

    reconstruction: NegativeLogLikelihood = struct.field(pytree_node=False, default=bernoulli)
    num_samples: int = struct.field(pytree_node=False, default=1)
    bound: Callable[[Any], Any] = struct.field(pytree_node=False, default=iwae)
    doubly_reparameterised: bool = struct.field(pytree_node=False, default=False)

    adds_noise = False
    input_noise = 0.0

    def __post_init__(self):
        """Raises ValueError for no samples, or a gradient that the bound doesn't have."""
        check_num_samples(self.num_samples)
        if self.doubly_reparameterised and self.bound is not iwae:
            raise ValueError("doubly_reparameterised: only for bound=iwae")

    def noise_shape(self, latent_dim: int) -> tuple[int, ...]:
        """Shape of an example's noise."""
        return self.num_samples, latent_dim

    def evaluate(
        self, vae: VAE, params: Any, x: Float[Array, "B *event"], noise: Float[Array, "B K L"], seen: Any
    ) -> tuple[Terms, Gaussian, Any]:
        """Runs the model on a batch whose encoder sees `seen`, as [`Objective.evaluate`][] does.

        Returns:
          The terms of each example, the posterior, and the observation model at the first sample. The first term is
          the samples' reconstruction terms, averaged with the weights that the bound gives them (for `iwae`, v_k); the
          second is the rest: the KL of the posterior, or for `iwae` of the better one that these weights make of it.

        Raises:
          ValueError: if `reconstruction` or `bound` does not give a number for each example.
        """
        posterior = encode(vae, params, seen)
        z = _draw(vae, params, posterior, jnp.moveaxis(noise, 1, 0))
        if self.doubly_reparameterised:
            weigh = partial(_weigh_fixed, vae, self.reconstruction)
            bound, (log_w, log_likelihood) = _doubly_reparameterised(weigh, (params, x, posterior), z)
        else:
            log_w, log_likelihood = _weigh(vae, self.reconstruction, params, x, posterior, z)
            bound = self.bound(log_w)
            check_per_example("bound", bound, x.shape[0])
        weights = jax.grad(lambda log_w: self.bound(log_w).sum())(log_w)
        reconstruction = jax.lax.stop_gradient(-(weights * log_likelihood).sum(0))
        observation = vae.apply(params, x, z[0], method="observe")
        return Terms(reconstruction, -bound - reconstruction), posterior, observation

    def loss(self, terms: Terms, step: Any = None) -> Float[Array, " B"]:
        """Returns minus the bound of each example."""
        return terms.reconstruction + terms.kl


def _weigh_fixed(vae: VAE, reconstruction: NegativeLogLikelihood, operands: Any, z: Array) -> tuple[Array, Array]:
    params, x, posterior = operands
    return _weigh(vae, reconstruction, params, x, posterior, z, fixed=True)


@partial(jax.custom_vjp, nondiff_argnums=(0,))
def _doubly_reparameterised(weigh: Callable[[Any, Any], tuple[Any, Any]], operands: Any, z: Float[Array, "K B L"]):
    """The importance-weighted bound, with the gradient of Tucker et al. 2019, eq. 8; and what it is made of.

    A sample's path counts v_k^2, and q's density does not; p's parameters get their usual gradient, which counts v_k.
    """
    log_w, log_likelihood = weigh(operands, z)
    return iwae(log_w), (log_w, log_likelihood)


def _bound_forward(weigh: Callable[[Any, Any], tuple[Any, Any]], operands: Any, z: Array):
    log_w, back, log_likelihood = jax.vjp(weigh, operands, z, has_aux=True)
    return (iwae(log_w), (log_w, log_likelihood)), (back, jax.nn.softmax(log_w, axis=0))


def _bound_backward(weigh: Callable[[Any, Any], tuple[Any, Any]], saved: tuple[Any, Array], gradients: Any):
    back, normalised = saved
    for_operands, for_z = back(normalised * gradients[0][None])
    return for_operands, for_z * normalised[..., None]


_doubly_reparameterised.defvjp(_bound_forward, _bound_backward)


def log_likelihood(
    vae: VAE,
    params: Any,
    x: Float[Array, "N *event"],
    key: PRNGKeyArray,
    num_samples: int = 5000,
    reconstruction: NegativeLogLikelihood = bernoulli,
    platform: str | None = None,
) -> Float[Array, " N"]:
    """Estimates log p(x) of each row by importance sampling, in memory that does not grow with N or S.

    The estimate is a lower bound in expectation, which more samples make tight. A row's noise depends on the key and
    its number alone, not on other rows.

    Sums are float32, over S weights relative to the largest one so far: on rows near -100 nats the result differs
    from float64 arithmetic on the same samples by less than 1e-4 nats. In JAX's x64 mode they are float64.

    Args:
      vae: the module.
      params: its parameters.
      x: rows, float, or uint8 for pixels; for a [`ConditionalVAE`][] the result is log p(x|label).
      key: key of the latent noise.
      num_samples: number of latent samples S.
      reconstruction: negative log likelihood, from (x, observation) to shape (B,), nats.
      platform: what the program is for, which decides how much it does at once; by default JAX's default device.

    Returns:
      `log (1/S sum_s w_s)` of each row, nats.

    Raises:
      ValueError: if `num_samples` is below 1.

    References:
      Burda et al. 2016, section 5.1, which takes S = 5,000.

    Examples:
      >>> import jax
      >>> import jax.numpy as jnp
      >>> import vae_jax
      >>> vae = vae_jax.dense_vae(feature_dim=3, hidden_dims=(8,), latent_dim=2, bernoulli=True)
      >>> x = jnp.ones((5, 3))
      >>> params = vae.init(jax.random.key(0), x, jnp.zeros((5, 2)))
      >>> vae_jax.log_likelihood(vae, params, x, jax.random.key(1), num_samples=100).shape
      (5,)
    """
    check_num_samples(num_samples)
    samples = min(SAMPLES_AT_ONCE, num_samples)
    at_once = PROCESSOR_NUMBERS if (platform or jax.default_backend()) == "cpu" else ACCELERATOR_NUMBERS
    rows = max(1, min(x.shape[0], at_once // (samples * math.prod(x.shape[1:]))))
    chunks = -(-num_samples // samples)

    def of_rows(part: tuple[Array, Array]) -> Array:
        batch, numbers = as_float(part[0]), part[1]
        posterior = encode(vae, params, batch)
        row_keys = jax.vmap(lambda number: jax.random.fold_in(key, number))(numbers)

        def add(sums: tuple[Array, Array], chunk: Array) -> tuple[tuple[Array, Array], None]:
            largest, total = sums
            keys = jax.vmap(lambda row_key: jax.random.fold_in(row_key, chunk))(row_keys)
            noise = jax.vmap(lambda row_key: jax.random.normal(row_key, (samples, vae.latent_dim)), out_axes=1)(keys)
            log_w, _ = _weigh(vae, reconstruction, params, batch, posterior, _draw(vae, params, posterior, noise))
            wanted = chunk * samples + jnp.arange(samples) < num_samples
            log_w = jnp.where(wanted[:, None], log_w, -jnp.inf)
            now = jnp.maximum(largest, log_w.max(0))
            return (now, total * jnp.exp(largest - now) + jnp.exp(log_w - now[None]).sum(0)), None

        nothing = jnp.zeros(len(batch))  # float64 where `jax_enable_x64` is set, as the noise is
        start = (jnp.full_like(nothing, jnp.finfo(jnp.float32).min), nothing)
        (largest, total), _ = jax.lax.scan(add, start, jnp.arange(chunks))
        return largest + jnp.log(total) - math.log(num_samples)

    return map_chunks(of_rows, (x, jnp.arange(x.shape[0])), rows)
