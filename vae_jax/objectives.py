"""What a VAE minimises: per example, loss = weight * reconstruction + KL; per batch, the mean over examples.

| reconstruction | over the event (features or pixels)     | unit                   |
| -------------- | --------------------------------------- | ---------------------- |
| `rmse`         | root of the mean of the squared errors  | the data's             |
| `mse`          | mean of the squared errors              | the data's, squared    |
| `gaussian`     | sum of negative log densities           | nats                   |
| `bernoulli`    | sum of negative log probabilities       | nats                   |

KL is summed over latents, in nats. The loss is a negative evidence lower bound (Kingma & Welling 2013, eq. 3) only for
`gaussian` and `bernoulli` with weight 1; for the others the weight is a hyperparameter. The terms stay separate until
the end, so that a log can show both and reweighting changes a single number.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple, cast

import jax.numpy as jnp
from flax import struct
from jax.core import Tracer

from vae_jax.distributions import kl_standard_normal, log_prob_per_dimension
from vae_jax.networks import VAE, Bernoulli, Gaussian, HierarchicalVAE, Observation, encode

if TYPE_CHECKING:
    from jaxtyping import Array, Float, Int


class Terms(NamedTuple):
    """The two terms of the loss, per example.

    Attributes:
      reconstruction: shape (B,), in the unit of the table above.
      kl: shape (B,), nats.

    Examples:
      >>> import jax.numpy as jnp
      >>> import vae_jax
      >>> terms = vae_jax.Terms(reconstruction=jnp.array([0.5, 1.0]), kl=jnp.array([2.0, 3.0]))
      >>> print(vae_jax.Objective(weight=10.0).loss(terms))
      [ 7. 13.]
    """

    reconstruction: Float[Array, " B"]
    kl: Float[Array, " B"]


def _event_axes(x: Float[Array, "B *event"], parameter: Float[Array, "B *event"]) -> tuple[int, ...]:
    """The axes of an example; a decoder's parameter of another shape would be broadcast, say over colours."""
    if x.shape != parameter.shape:
        raise ValueError(f"x is of shape {x.shape}, and what the decoder gives of {parameter.shape}: expected the same")
    return tuple(range(1, x.ndim))


def check_per_example(name: str, found: Array, examples: int) -> None:
    """Raises ValueError if a function has not found a number for each example."""
    if found.shape != (examples,):
        raise ValueError(f"{name}: expected shape {(examples,)}, a number for each example, not {found.shape}")


def mse(x: Float[Array, "B *event"], observation: Observation) -> Float[Array, " B"]:
    """Mean squared error of each example.

    Args:
      x: a batch of inputs, float.
      observation: the decoder's output; only its mean is used.

    Returns:
      The mean over the event of `(x - mean)^2`.

    Raises:
      ValueError: if `x` and the mean are not of the same shape.

    Examples:
      >>> import jax.numpy as jnp
      >>> import vae_jax
      >>> x = jnp.array([[1.0, 3.0], [0.0, 2.0]])
      >>> print(vae_jax.mse(x, vae_jax.Observation(mean=jnp.zeros((2, 2)), log_var=None)))
      [5. 2.]
    """
    axes = _event_axes(x, observation.mean)
    return jnp.square(x - observation.mean).mean(axes)


def rmse(x: Float[Array, "B *event"], observation: Observation) -> Float[Array, " B"]:
    """Root mean squared error of each example, with a finite gradient everywhere.

    Args:
      x: a batch of inputs, float.
      observation: the decoder's output; only its mean is used.

    Returns:
      The square root of [`mse`][]. Where the error is exactly zero, so is the gradient (one of its subgradients).

    Raises:
      ValueError: if `x` and the mean are not of the same shape.

    Examples:
      >>> import jax.numpy as jnp
      >>> import vae_jax
      >>> x = jnp.array([[3.0, 3.0], [0.0, 0.0]])
      >>> print(vae_jax.rmse(x, vae_jax.Observation(mean=jnp.zeros((2, 2)), log_var=None)))
      [3. 0.]
    """
    error = mse(x, observation)
    # sqrt has an infinite slope at 0, and infinity * 0 is NaN, so zeros are masked *before* the root.
    is_zero = error == 0
    return jnp.where(is_zero, 0.0, jnp.sqrt(jnp.where(is_zero, 1.0, error)))


def gaussian(x: Float[Array, "B *event"], observation: Observation) -> Float[Array, " B"]:
    """Negative log density of each example under the decoder's Gaussian.

    Args:
      x: a batch of inputs, float.
      observation: the decoder's output, with a log variance.

    Returns:
      `-sum log N(x; mean, exp(log_var))` over the event, nats.

    Raises:
      ValueError: if the decoder gives no log variance, or a mean that is not of the shape of `x`.

    References:
      Kingma & Welling 2013, eq. 7 and appendix C.2.

    Examples:
      >>> import jax.numpy as jnp
      >>> import numpy as np
      >>> import vae_jax
      >>> x = jnp.array([[0.0, 0.0], [0.0, 2.0]])
      >>> observation = vae_jax.Observation(mean=jnp.zeros((2, 2)), log_var=jnp.zeros((2, 2)))
      >>> print(np.asarray(vae_jax.gaussian(x, observation)).round(2))
      [1.84 3.84]
    """
    if observation.log_var is None:
        raise ValueError("the 'gaussian' reconstruction needs a decoder with learned_variance=True")
    axes = _event_axes(x, observation.mean)
    return -log_prob_per_dimension(x, observation.mean, observation.log_var).sum(axes)


def bernoulli(x: Float[Array, "B *event"], observation: Bernoulli) -> Float[Array, " B"]:
    """Negative log probability of each example under the decoder's Bernoullis.

    Args:
      x: a batch of inputs in [0, 1], float.
      observation: the decoder's output, with logits.

    Returns:
      `-sum log p(x|z)` over the event, nats.

    Raises:
      ValueError: if the decoder gives no logits, or not of the shape of `x`.

    References:
      Kingma & Welling 2013, appendix C.1.

    Examples:
      >>> import jax.numpy as jnp
      >>> import vae_jax
      >>> print(vae_jax.bernoulli(jnp.array([[1.0, 0.0]]), vae_jax.Bernoulli(logits=jnp.zeros((1, 2)))))  # 2 log 2
      [1.3862944]
    """
    if not isinstance(observation, Bernoulli):
        raise ValueError("the 'bernoulli' reconstruction needs a decoder with bernoulli=True")
    axes = _event_axes(x, observation.logits)
    return -observation.log_prob(x).sum(axes)


RECONSTRUCTIONS: dict[str, Callable[[Array, Observation], Array]] = {"rmse": rmse, "mse": mse, "gaussian": gaussian}


class Objective(struct.PyTreeNode):
    """The loss of one example, `weight * reconstruction + KL`; replace fields for another likelihood, prior or weight.

    Within a compiled function the numbers may be traced, so that changing them compiles nothing anew.

    Attributes:
      reconstruction: maps (x, observation) to shape (B,).
      weight: factor of the reconstruction term.
      divergence: maps the posterior's (mean, log_var) to shape (B,).
      input_noise: standard deviation of Gaussian noise added to the encoder's input in training; the target stays clean
        (Im et al. 2017, https://arxiv.org/abs/1511.06406). Keeps long training from overconfidence about single rows.
      kl_warmup_steps: number of steps over which the KL weight rises from 0 to 1. Without it latents tend to collapse
        before the decoder has learned to use them (Bowman et al. 2016, https://arxiv.org/abs/1511.06349).

    Examples:
      A negative evidence lower bound with a KL weight of 4, as in a beta-VAE:

      >>> import jax.numpy as jnp
      >>> import vae_jax
      >>> objective = vae_jax.Objective(
      ...     reconstruction=vae_jax.gaussian,
      ...     divergence=lambda mean, log_var: 4 * vae_jax.kl_standard_normal(mean, log_var),
      ... )
      >>> posterior = vae_jax.Gaussian(mean=jnp.ones((1, 2)), log_var=jnp.zeros((1, 2)))
      >>> observation = vae_jax.Observation(mean=jnp.zeros((1, 2)), log_var=jnp.zeros((1, 2)))
      >>> terms = objective.terms(jnp.zeros((1, 2)), posterior, observation)
      >>> round(float(terms.kl[0]), 2), round(float(objective.loss(terms)[0]), 2)
      (4.0, 5.84)
    """

    reconstruction: Callable[[Array, Any], Array] = struct.field(pytree_node=False, default=rmse)
    weight: float = struct.field(pytree_node=False, default=1.0)
    divergence: Callable[[Array, Array], Array] = struct.field(pytree_node=False, default=kl_standard_normal)

    input_noise: float = struct.field(pytree_node=False, default=0.0)
    kl_warmup_steps: int = struct.field(pytree_node=False, default=0)

    @property
    def adds_noise(self) -> bool:
        """Whether training adds noise to the encoder's input; a traced `input_noise` counts as some."""
        return isinstance(self.input_noise, Tracer) or self.input_noise > 0

    def noise_shape(self, latent_dim: int) -> tuple[int, ...]:
        """Shape of an example's noise."""
        return (latent_dim,)

    def evaluate(
        self, vae: VAE, params: Any, x: Float[Array, "B *event"], noise: Float[Array, "B L"], seen: Any
    ) -> tuple[Terms, Gaussian, Observation]:
        """Runs the model on a batch whose encoder sees `seen`.

        Returns:
          The terms of each example, the posterior q(z|x), and the observation model p(x|z).

        Raises:
          ValueError: if a term is not of shape (B,), or for a VAE whose KL has no closed form.
        """
        if isinstance(vae, HierarchicalVAE):
            raise ValueError("the KL of several layers of latents has no closed form; train them with a SampledBound")
        posterior = encode(vae, params, seen)
        z = vae.apply(params, posterior, noise, method="draw")
        observation = cast(Observation, vae.apply(params, x, z, method="observe"))
        return self.terms(vae.target(x), posterior, observation), posterior, observation

    def terms(self, x: Float[Array, "B *event"], posterior: Gaussian, observation: Observation) -> Terms:
        """Returns both terms per example, unweighted; raises ValueError if one is not of shape (B,)."""
        terms = Terms(self.reconstruction(x, observation), self.divergence(posterior.mean, posterior.log_var))
        for name, term in terms._asdict().items():
            check_per_example(name, term, x.shape[0])
        return terms

    def loss(self, terms: Terms, step: Int[Array, ""] | None = None) -> Float[Array, " B"]:
        """Adds up the weighted terms.

        Args:
          terms: the terms of each example.
          step: the training step, for the KL warm-up; None means after the warm-up.

        Returns:
          The loss of each example, not averaged over the batch.
        """
        if step is None:
            return self.weight * terms.reconstruction + terms.kl
        kl_weight = jnp.where(step < self.kl_warmup_steps, step / jnp.maximum(self.kl_warmup_steps, 1), 1.0)
        return self.weight * terms.reconstruction + kl_weight * terms.kl
