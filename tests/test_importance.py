"""Bounds and estimates of log p(x) against a model whose log p(x) is known, float64 NumPy, and their definitions."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import linen as nn
from helpers import assert_close, assert_same, numpy_soft_clip, random_params
from scipy import special, stats

from vae_jax import generation, importance, networks
from vae_jax.generation import sample_prior
from vae_jax.importance import SampledBound, elbo, iwae, log_likelihood
from vae_jax.networks import (
    OBSERVATION_LOG_VAR,
    POSTERIOR_LOG_VAR,
    VAE,
    ConditionalVAE,
    DenseDecoder,
    DenseEncoder,
    Gaussian,
    Observation,
    dense_vae,
    encode,
    hierarchical_vae,
    with_labels,
)
from vae_jax.objectives import Objective, bernoulli, gaussian
from vae_jax.scoring import reconstruction_probability, score_row
from vae_jax.training import TrainState, create_train_state, evaluate, train_epoch, train_step, validate
from vae_jax.training.parallel import compile_parallel, data_mesh, replicate, replicated, sharded

pytestmark = pytest.mark.usefixtures("compiled_well")

# One program each; operation by operation, every one would be compiled on its own.
log_weights = jax.jit(importance.log_weights, static_argnames=("vae", "reconstruction"))
decode, reconstruct = (
    jax.jit(function, static_argnames="vae") for function in (networks.decode, generation.reconstruct)
)

KEY = jax.random.key(3)
SD = 0.7
# Orthogonal columns, so that the true posterior is diagonal.
LOADINGS = np.array([[1.0, 1.0], [1.0, -1.0], [0.5, 0.5], [-0.5, 0.5]])
OFFSET = np.array([0.3, -0.2, 0.0, 1.0])


class Linear(nn.Module):
    """q(z|x) of the linear Gaussian model, its mean moved by `shift` and its variance `factor` times the true one."""

    latent_dim: int = 2
    shift: float = 0.0
    factor: float = 1.0

    @nn.compact
    def __call__(self, x):
        shift = self.param("shift", nn.initializers.constant(self.shift), (2,))
        log_factor = self.param("log_factor", nn.initializers.constant(np.log(self.factor)), (2,))
        variance = 1 / (1 + np.square(LOADINGS).sum(0) / SD**2)
        mean = (x - OFFSET[None]) @ (LOADINGS / SD**2 * variance) + shift[None]
        return Gaussian(mean, jnp.broadcast_to((np.log(variance) + log_factor)[None], mean.shape))


class LinearDecoder(nn.Module):
    """p(x|z) = N(LOADINGS z + offset, SD^2)."""

    @nn.compact
    def __call__(self, z):
        offset = self.param("offset", lambda *_: jnp.asarray(OFFSET, jnp.float32))
        mean = z @ jnp.asarray(LOADINGS.T, jnp.float32) + offset
        return Observation(mean, jnp.full(mean.shape, 2 * np.log(SD)))


def linear_gaussian(**options):
    """A VAE whose log p(x) is known, its parameters, and rows from it."""
    vae = VAE(Linear(**options), LinearDecoder())
    rng = np.random.default_rng(0)
    x = rng.normal(size=(40, 2)) @ LOADINGS.T + OFFSET + SD * rng.normal(size=(40, 4))
    x = jnp.asarray(x, jnp.float32)
    with jax.numpy_rank_promotion("allow"):
        return vae, jax.jit(vae.init)(KEY, x, jnp.zeros((40, 2))), x


@pytest.fixture(autouse=True)
def _free_ranks():
    with jax.numpy_rank_promotion("allow"):
        yield


def true_log_prob(x):
    covariance = LOADINGS @ LOADINGS.T + SD**2 * np.eye(4)
    return stats.multivariate_normal(OFFSET, covariance).logpdf(np.asarray(x, np.float64))


def test_log_likelihood_of_linear_gaussian_model():
    vae, params, x = linear_gaussian(shift=0.2, factor=1.5)
    found = log_likelihood(vae, params, x, KEY, num_samples=5000, reconstruction=gaussian)
    assert abs(np.asarray(found) - true_log_prob(x)).max() < 0.1
    assert abs(found.mean() - true_log_prob(x).mean()) < 0.01


def test_bounds_of_the_true_posterior_are_log_prob():
    vae, params, x = linear_gaussian()
    noise = jax.random.normal(KEY, (7, 40, 2))
    log_w = log_weights(vae, params, x, noise, gaussian)
    assert_close(log_w, np.broadcast_to(true_log_prob(x), log_w.shape), rtol=0, atol=2e-5)


def test_log_weights_of_numpy():
    vae = dense_vae(6, (5,), 2, activation=nn.tanh, bernoulli=True)
    params = random_params(vae, 6)
    rng = np.random.default_rng(1)
    x, noise = rng.integers(0, 2, (8, 6)).astype(np.float32), rng.normal(size=(3, 8, 2)).astype(np.float32)
    p = jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), params["params"])

    def layer(name, part, x):
        return x @ p[part][name]["kernel"] + p[part][name]["bias"]

    hidden = np.tanh(layer("Dense_0", "encoder", x))
    mean = layer("mean", "encoder", hidden)
    log_var = numpy_soft_clip(layer("log_var", "encoder", hidden), *POSTERIOR_LOG_VAR)
    z = mean + np.exp(log_var / 2) * noise
    logits = layer("logits", "decoder", np.tanh(layer("Dense_0", "decoder", z)))
    expected = (
        (x * np.log(special.expit(logits)) + (1 - x) * np.log(special.expit(-logits))).sum(-1)
        + stats.norm.logpdf(z).sum(-1)
        - stats.norm.logpdf(z, mean, np.exp(log_var / 2)).sum(-1)
    )
    log_w = log_weights(vae, params, x, noise)
    assert_close(log_w, expected, rtol=0, atol=2e-5)
    assert_close(elbo(log_w), expected.mean(0), rtol=0, atol=2e-5)
    assert_close(iwae(log_w), special.logsumexp(expected, axis=0) - np.log(3), rtol=0, atol=2e-5)
    assert_same(iwae(log_w[:1]), elbo(log_w[:1]))


def test_elbo_of_many_samples_is_the_objective_with_its_kl_in_closed_form():
    vae = dense_vae(6, (5,), 2, bernoulli=True)
    params = random_params(vae, 6)
    x = jnp.asarray(np.random.default_rng(1).integers(0, 2, (4, 6)), jnp.float32)
    noise = jax.random.normal(KEY, (20_000, 4, 2))
    sampled = elbo(log_weights(vae, params, x, noise))
    losses = jax.jit(
        jax.vmap(lambda noise: Objective(bernoulli).loss(Objective(bernoulli).evaluate(vae, params, x, noise, x)[0]))
    )(noise)
    error = np.asarray(log_weights(vae, params, x, noise)).std(0) / np.sqrt(len(noise))
    assert (abs(np.asarray(sampled) + np.asarray(losses).mean(0)) < 4 * error).all()


def test_weights_of_two_layers_of_numpy():
    vae = hierarchical_vae(6, ((5,), (4,)), (3, 2))
    params = random_params(vae, 6)
    rng = np.random.default_rng(2)
    x, noise = rng.integers(0, 2, (8, 6)).astype(np.float32), rng.normal(size=(2, 8, 5)).astype(np.float32)
    p = jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), params["params"])

    def net(part, x, *heads, bounds=POSTERIOR_LOG_VAR):
        hidden = np.tanh(x @ p[part]["Dense_0"]["kernel"] + p[part]["Dense_0"]["bias"])
        found = [hidden @ p[part][head]["kernel"] + p[part][head]["bias"] for head in heads]
        return [found[0], *(numpy_soft_clip(log_var, *bounds) for log_var in found[1:])]

    def log_normal(z, mean, log_var):
        return stats.norm.logpdf(z, mean, np.exp(log_var / 2)).sum(-1)

    q1 = net("encoder", x, "mean", "log_var")
    z1 = q1[0] + np.exp(q1[1] / 2) * noise[..., :3]
    q2 = net("encoders_above_0", z1, "mean", "log_var")
    z2 = q2[0] + np.exp(q2[1] / 2) * noise[..., 3:]
    p1 = net("priors_0", z2, "mean", "log_var", bounds=OBSERVATION_LOG_VAR)
    (logits,) = net("decoder", z1, "logits")
    expected = (
        (x * np.log(special.expit(logits)) + (1 - x) * np.log(special.expit(-logits))).sum(-1)
        + log_normal(z1, *p1)
        + stats.norm.logpdf(z2).sum(-1)
        - log_normal(z1, *q1)
        - log_normal(z2, *q2)
    )
    assert_close(log_weights(vae, params, x, noise), expected, rtol=0, atol=5e-5)


def test_layers_without_latents_are_refused():
    with pytest.raises(ValueError, match=r"^hidden_dims=.* and latent_dims=\(3,\): expected one of each per layer"):
        hierarchical_vae(6, ((5,), (4,)), (3,))


def test_samples_of_the_prior_are_drawn_from_the_top():
    vae = hierarchical_vae(6, ((5,), (4,)), (3, 2))
    params = random_params(vae, 6)
    noise = jax.random.normal(KEY, (7, 5))
    draw_prior = jax.jit(functools.partial(vae.apply, method="draw_prior"))
    z = draw_prior(params, noise)
    given = jax.jit(vae.priors[0].apply)({"params": params["params"]["priors_0"]}, noise[:, 3:])
    assert_same(z[:, 3:], noise[:, 3:])
    assert_close(z[:, :3], given.mean + jnp.exp(given.log_var / 2) * noise[:, :3], rtol=1e-5, atol=1e-6)
    new = sample_prior(vae, params, KEY, num_samples=7)
    drawn = draw_prior(params, jax.random.normal(KEY, (7, 5)))
    assert_close(new, decode(vae, params, drawn).mean, rtol=1e-5, atol=1e-6)


def two_surrogates(vae, params, x, noise):
    """The gradient of Tucker et al. 2019 as two losses: of p's parameters by v, of q's by v^2 along the samples."""

    def log_w(params, fixed, noise):
        posterior = encode(vae, params, x)
        z = vae.apply(params, posterior, noise, method="draw")
        repeated = jnp.broadcast_to(x, (len(noise), *x.shape)).reshape(-1, x.shape[-1])
        observation = vae.apply(params, repeated, z.reshape(-1, z.shape[-1]), method="observe")
        log_p = vae.apply(params, z, method="log_prior")
        log_q = vae.apply(fixed, encode(vae, fixed, x), z, method="log_posterior")
        return -bernoulli(repeated, observation).reshape(z.shape[:2]) + log_p - log_q

    weights = jax.nn.softmax(log_w(params, params, noise), axis=0)

    def loss(params, powers):
        return -(powers * log_w(params, jax.lax.stop_gradient(params), noise)).sum(0).mean()

    of_p, of_q = (jax.grad(loss)(params, powers)["params"] for powers in (weights, weights**2))
    return {name: (of_q if name.startswith("encoder") else of_p)[name] for name in of_p}


@pytest.mark.parametrize("layers", [1, 2])
def test_doubly_reparameterised_gradient_is_that_of_two_losses(layers):
    vae = dense_vae(6, (5,), 2, bernoulli=True) if layers == 1 else hierarchical_vae(6, ((5,), (4,)), (3, 2))
    params = random_params(vae, 6)
    x = jnp.asarray(np.random.default_rng(2).integers(0, 2, (8, 6)), jnp.float32)
    noise = jax.random.normal(KEY, (8, 5, vae.latent_dim))
    objective = SampledBound(num_samples=5, doubly_reparameterised=True)

    def loss(params):
        return objective.loss(objective.evaluate(vae, params, x, noise, x)[0]).mean()

    expected = jax.jit(two_surrogates, static_argnums=0)(vae, params, x, jnp.moveaxis(noise, 1, 0))
    assert_close(jax.jit(jax.grad(loss))(params)["params"], expected, rtol=1e-4, atol=1e-6)


def test_both_gradients_have_the_same_expectation_and_the_doubly_reparameterised_one_less_noise():
    vae, params, x = linear_gaussian(shift=0.1, factor=1.3)
    x = x[:2]
    noise = jax.random.normal(KEY, (4000, 2, 16, 2))

    def gradients(doubly):
        objective = SampledBound(gaussian, 16, iwae, doubly)

        def loss(params, noise):
            return objective.loss(objective.evaluate(vae, params, x, noise, x)[0]).mean()

        found = jax.jit(jax.vmap(jax.grad(loss), (None, 0)))(params, noise)["params"]["encoder"]
        return np.concatenate([np.asarray(part) for part in (found["shift"], found["log_factor"])], -1)

    plain, doubly = gradients(False), gradients(True)
    error = np.hypot(plain.std(0), doubly.std(0)) / np.sqrt(len(noise))
    assert (abs(plain.mean(0) - doubly.mean(0)) < 4 * error).all()
    assert (doubly.std(0) < plain.std(0) / 2).all()


def test_doubly_reparameterised_gradient_vanishes_at_the_true_posterior():
    vae, params, x = linear_gaussian()
    noise = jax.random.normal(KEY, (40, 5, 2))

    def gradient(doubly):
        objective = SampledBound(gaussian, 5, iwae, doubly)

        @jax.jit
        @jax.grad
        def of_loss(params):
            return objective.loss(objective.evaluate(vae, params, x, noise, x)[0]).mean()

        grads = of_loss(params)
        return max(abs(np.asarray(leaf)).max() for leaf in jax.tree.leaves(grads["params"]["encoder"]))

    assert gradient(True) < 1e-5 < 1e-3 < gradient(False)


def test_doubly_reparameterised_is_for_iwae_alone():
    with pytest.raises(ValueError, match="only for bound=iwae"):
        SampledBound(bound=elbo, doubly_reparameterised=True)


@pytest.mark.parametrize(
    ("name", "objective"),
    [
        ("reconstruction", SampledBound(lambda x, observation: gaussian(x, observation).mean())),
        ("bound", SampledBound(gaussian, bound=lambda log_w: jax.nn.logsumexp(log_w, axis=1))),  # over the batch
    ],
)
def test_what_is_not_one_number_an_example_is_refused(name, objective):
    vae, params, x = linear_gaussian()
    noise = jnp.zeros((len(x), 1, 2))
    with pytest.raises(ValueError, match=rf"^{name}: expected shape \({len(x)},\), a number for each example, not"):
        jax.eval_shape(functools.partial(objective.evaluate, vae), params, x, noise, x)


def test_no_samples_are_refused():
    vae, params, x = linear_gaussian()
    for refused in (
        lambda: SampledBound(num_samples=0),
        lambda: log_likelihood(vae, params, x, KEY, 0, gaussian),
        lambda: reconstruction_probability(vae, params, x, KEY, 0),
        lambda: score_row(vae, params, x[0], KEY, 0),
    ):
        with pytest.raises(ValueError, match=r"^num_samples=0: expected at least 1"):
            refused()


@functools.partial(jax.jit, static_argnums=(1, 2))
def noise_of_chunk(chunk, rows, latents):
    """The noise of a chunk of samples, row by row."""
    keys = [jax.random.fold_in(jax.random.fold_in(KEY, row), chunk) for row in range(rows)]
    return jnp.stack([jax.random.normal(key, (50, latents)) for key in keys], 1)


def float64_log_likelihood(vae, params, x, num_samples):
    """The estimate's own samples, added up in float64."""
    log_w = []
    for chunk in range(-(-num_samples // 50)):
        noise = noise_of_chunk(chunk, len(x), vae.latent_dim)
        log_w.append(np.asarray(log_weights(vae, params, x, noise), np.float64))
    log_w = np.concatenate(log_w)[:num_samples]
    return special.logsumexp(log_w, axis=0) - np.log(num_samples)


@pytest.mark.parametrize("num_samples", [1, 50, 120])
def test_log_likelihood_is_that_of_float64_sums(num_samples):
    vae = dense_vae(200, (5,), 2, bernoulli=True)
    params = random_params(vae, 200)
    x = jnp.asarray(np.random.default_rng(2).integers(0, 2, (6, 200)), jnp.float32)
    found = log_likelihood(vae, params, x, KEY, num_samples)
    if num_samples >= 50:
        assert abs(np.asarray(found) - float64_log_likelihood(vae, params, x, num_samples)).max() < 1e-4
    assert np.isfinite(found).all()


def test_log_likelihood_in_64_bits():
    vae, params, x = linear_gaussian()
    with jax.enable_x64(True):
        found = log_likelihood(vae, params, x, KEY, num_samples=70, reconstruction=gaussian)
    assert found.dtype == np.float64
    assert abs(np.asarray(found) - true_log_prob(x)).max() < 2e-5


def test_bytes_are_pixels_as_in_training():
    vae = dense_vae(6, (5,), 2, bernoulli=True)
    params = random_params(vae, 6)
    pixels = np.random.default_rng(2).integers(0, 256, (4, 6), np.uint8)

    @jax.jit
    def measured(x):
        log_w = log_weights(vae, params, x, jnp.ones((1, 4, 2)))
        return encode(vae, params, x), log_w, log_likelihood(vae, params, x, KEY, num_samples=3)

    assert_close(measured(pixels), measured(np.float32(pixels) / 255), rtol=1e-5, atol=1e-6)


def test_log_likelihood_of_a_row_depends_on_its_number_alone():
    vae = dense_vae(300, (5,), 2, bernoulli=True)
    params = random_params(vae, 300)
    x = jnp.asarray(np.random.default_rng(2).integers(0, 2, (100, 300)), jnp.float32)
    together = log_likelihood(vae, params, x, KEY, 50)  # in chunks of 69 rows
    assert_close(log_likelihood(vae, params, x[:30], KEY, 50), together[:30], rtol=0, atol=2e-5)


def test_memory_of_log_likelihood_does_not_grow_with_the_samples():
    vae = dense_vae(300, (5,), 2, bernoulli=True)
    params = random_params(vae, 300)

    def temporary(num_samples, rows):
        function = functools.partial(log_likelihood, vae, num_samples=num_samples)
        compiled = jax.jit(function).lower(params, jnp.zeros((rows, 300)), KEY).compile()
        return compiled.memory_analysis().temp_size_in_bytes

    assert abs(temporary(5000, 1000) - temporary(100, 1000)) < 1024
    assert temporary(100, 3000) - temporary(100, 1000) <= 2 * 4 * 300 * 2000  # the padded rows


def bits(rows, features=6, seed=0):
    return jnp.asarray(np.random.default_rng(seed).integers(0, 2, (rows, features)), jnp.bool)


@pytest.mark.parametrize(
    ("layers", "bound", "doubly_reparameterised"),
    [(1, elbo, False), (2, iwae, False), (1, iwae, True)],
    ids=["elbo", "two layers", "doubly reparameterised"],
)
def test_training_raises_the_bound_on_one_and_several_devices_alike(layers, bound, doubly_reparameterised):
    objective = SampledBound(num_samples=3, bound=bound, doubly_reparameterised=doubly_reparameterised)
    vae = dense_vae(6, (8,), 2, bernoulli=True) if layers == 1 else hierarchical_vae(6, ((8,), (4,)), (3, 2))
    state = create_train_state(jax.random.key(0), vae, objective, optax.adam(1e-2), (6,))
    data = jnp.repeat(bits(4), 25, axis=0)
    train = jax.jit(train_epoch, static_argnames="batch_size")
    measure = jax.jit(validate)
    before = measure(state, data)["loss"]
    after = state
    for _ in range(20):
        after, info = train(after, data, batch_size=20)
    assert measure(after, data)["loss"] < before - 0.5
    assert_close(info["loss"], info["reconstruction"] + info["kl"], rtol=1e-5, atol=1e-5)

    mesh = data_mesh()
    step = compile_parallel(
        functools.partial(train_step, axis_name="data"), mesh, (replicated, sharded, replicated), replicated
    )
    apart, _ = step(replicate(state, mesh), data[:20], jax.random.key(1))
    alone, _ = jax.jit(train_step)(state, data[:20], jax.random.key(1))
    assert_close(apart.params, alone.params, rtol=1e-4, atol=1e-5)


def test_several_models_at_once_are_each_as_alone():
    vae = dense_vae(6, (8,), 2, bernoulli=True)

    @jax.jit
    def make(key):
        return create_train_state(key, vae, SampledBound(num_samples=3), optax.adam(1e-2), (6,))

    keys = jax.random.split(KEY, 2)
    step = jax.jit(train_step)
    several = jax.jit(jax.vmap(train_step, in_axes=(0, None, None)))
    together, _ = several(jax.vmap(make)(keys), bits(10), jax.random.key(1))
    for model in range(2):
        alone, _ = step(make(keys[model]), bits(10), jax.random.key(1))
        assert_close(jax.tree.map(lambda leaf: leaf[model], together.params), alone.params, rtol=1e-4, atol=1e-5)  # noqa: B023


def test_layers_of_latents_have_no_kl_in_closed_form():
    vae = hierarchical_vae(6, ((8,), (4,)), (3, 2))
    state = create_train_state(jax.random.key(0), vae, Objective(bernoulli), optax.adam(1e-2), (6,))
    with pytest.raises(ValueError, match="SampledBound"):
        evaluate(state, bits(5), jnp.zeros((5, 5)))


def conditional():
    vae = ConditionalVAE(DenseEncoder((8,), 2), DenseDecoder((8,), 6, bernoulli=True), num_labels=3)
    return vae, random_params(vae, 9)


def test_conditional_likelihood_is_that_of_the_features_given_the_label():
    vae, params = conditional()
    x, labels = bits(5).astype(jnp.float32), jnp.array([0, 1, 2, 2, 1])
    rows = with_labels(x, labels, 3)
    noise = jax.random.normal(KEY, (5, 2))
    evaluate = jax.jit(Objective(bernoulli).evaluate, static_argnums=0)
    terms, posterior, observation = evaluate(vae, params, rows, noise, rows)
    z = posterior.mean + jnp.exp(posterior.log_var / 2) * noise
    by_hand = jax.jit(vae.decoder.apply)({"params": params["params"]["decoder"]}, with_labels(z, labels, 3))
    assert_close(observation.logits, by_hand.logits, rtol=1e-5, atol=1e-6)
    assert_close(terms.reconstruction, bernoulli(x, by_hand), rtol=1e-5, atol=1e-6)
    other = with_labels(x, (labels + 1) % 3, 3)
    changed = evaluate(vae, params, other, noise, other)[0].reconstruction
    assert abs(changed - terms.reconstruction).max() > 1e-3


def test_labels_beside_uint8_pixels_are_refused():
    with pytest.raises(ValueError, match="uint8"):  # training would divide the labels by 255 as well
        with_labels(jnp.full((2, 4), 255, jnp.uint8), jnp.array([0, 1]), 3)


@pytest.mark.parametrize("objective", [Objective(bernoulli), SampledBound(bernoulli)])
def test_noise_on_the_encoders_input_leaves_the_decoders_label_clean(objective):
    vae, params = conditional()
    labels = jnp.array([0, 1, 2, 2, 1])
    rows = with_labels(bits(5).astype(jnp.float32), labels, 3)
    seen = rows + 0.5 * jax.random.normal(jax.random.key(4), rows.shape)
    noise = jax.random.normal(KEY, (5, *objective.noise_shape(2)))
    _, posterior, observation = jax.jit(objective.evaluate, static_argnums=0)(vae, params, rows, noise, seen)
    assert_close(posterior, encode(vae, params, seen), rtol=1e-5, atol=1e-6)
    z = posterior.mean + jnp.exp(posterior.log_var / 2) * noise.reshape(5, 2)
    expected = decode(vae, params, with_labels(z, labels, 3))
    assert_close(observation.logits, expected.logits, rtol=1e-5, atol=1e-6)


def test_a_conditional_reconstruction_is_of_the_features():
    vae, params = conditional()
    rows = with_labels(bits(5).astype(jnp.float32), jnp.array([0, 1, 2, 2, 1]), 3)
    z = with_labels(encode(vae, params, rows).mean, jnp.array([0, 1, 2, 2, 1]), 3)
    assert_close(reconstruct(vae, params, rows), decode(vae, params, z).mean, rtol=1e-5, atol=1e-6)


def test_conditional_model_learns_what_the_label_says():
    vae, _ = conditional()
    labels = jnp.arange(300) % 3
    x = jnp.repeat(jax.nn.one_hot(labels, 3), 2, axis=1)
    rows = with_labels(x, labels, 3)
    state: TrainState = create_train_state(KEY, vae, Objective(bernoulli), optax.adam(1e-2), (9,))
    train = jax.jit(train_epoch, static_argnames="batch_size")
    for _ in range(30):
        state, _ = train(state, rows, batch_size=30)
    log_prob = log_likelihood(vae, state.params, rows, KEY, 50)
    assert log_prob.mean() > -0.5  # the label says all
    wrong = with_labels(x, (labels + 1) % 3, 3)
    assert log_likelihood(vae, state.params, wrong, KEY, 50).mean() < log_prob.mean() - 1
