"""Scores against a closed form, against float64 NumPy, and against themselves in other chunks, orders and devices."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn
from helpers import (
    FEATURES,
    assert_close,
    assert_same,
    float64,
    numpy_decode,
    numpy_encode,
    random_params,
    stack,
    tiny_data,
    tiny_state,
)
from scipy import special, stats

from vae_jax.networks import (
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
from vae_jax.scoring import (
    MIN_RESIDUAL_SD,
    ROWS_ENCODED,
    measure_residual_sd,
    reconstruction_probability,
    score_models,
    score_row,
)
from vae_jax.training.parallel import data_mesh

pytestmark = pytest.mark.usefixtures("compiled_well")

SAMPLES = 64
KEY = jax.random.key(11)
# More than one block of chunks, and a remainder.
ROWS = ROWS_ENCODED + 45


class LinearEncoder(nn.Module):
    """q(z|x) = N(A x + a, diag(sd^2)) with a variance that does not depend on x."""

    latent_dim: int
    sd: tuple[float, ...]

    @nn.compact
    def __call__(self, x):
        mean = nn.Dense(self.latent_dim, name="mean")(x)
        return Gaussian(mean, jnp.broadcast_to(2 * jnp.log(jnp.array([self.sd])), mean.shape))


class LinearDecoder(nn.Module):
    """p(x|z) = N(W z + b, diag(sd^2)); without `sd` a mean alone."""

    feature_dim: int
    sd: tuple[float, ...] | None

    @nn.compact
    def __call__(self, z):
        mean = nn.Dense(self.feature_dim, name="mean")(z)
        if self.sd is None:
            return Observation(mean, None)
        return Observation(mean, jnp.broadcast_to(2 * jnp.log(jnp.array([self.sd])), mean.shape))


class Linear:
    """A linear Gaussian model, in which everything that scoring estimates has a closed form.

    With z ~ q(z|x) the decoder's x is N(W m + b, W S W^T + diag(sd^2)), m the posterior mean and S its covariance.
    """

    def __init__(self):
        self.latent_sd, self.sd = np.array([0.6, 0.3]), np.array([0.5, 0.8, 1.1])
        self.vae = VAE(LinearEncoder(2, tuple(self.latent_sd)), LinearDecoder(3, tuple(self.sd)))
        rng = np.random.default_rng(5)
        shapes = jax.eval_shape(self.vae.init, KEY, jnp.zeros((1, 3)), jnp.zeros((1, 2)))
        self.params = jax.tree.map(lambda leaf: jnp.asarray(rng.normal(size=leaf.shape) / 2, jnp.float32), shapes)
        parts = float64(self.params)["params"]
        self.A, self.a = parts["encoder"]["mean"]["kernel"].T, parts["encoder"]["mean"]["bias"]
        self.W, self.b = parts["decoder"]["mean"]["kernel"].T, parts["decoder"]["mean"]["bias"]
        self.covariance = self.W @ np.diag(self.latent_sd**2) @ self.W.T + np.diag(self.sd**2)
        # How the residual x - W m(x) - b changes with x.
        self.slope = np.eye(3) - self.W @ self.A

    def residual(self, x):
        return x - (x @ self.A.T + self.a) @ self.W.T - self.b

    def log_prob(self, x):
        return stats.multivariate_normal.logpdf(self.residual(x), np.zeros(3), self.covariance)

    def log_prob_gradient(self, x):
        return -self.slope.T @ np.linalg.solve(self.covariance, self.residual(x))

    def mean_log_prob_of_features(self, x):
        # E log N(x_d; mean_d(z), sd_d^2) has the variance that z gives to mean_d as one more squared error.
        spread = np.diag(self.W @ np.diag(self.latent_sd**2) @ self.W.T)
        return stats.norm.logpdf(self.residual(x), 0, self.sd) - 0.5 * spread / self.sd**2

    def mean_log_prob_gradient(self, x):
        return -self.slope.T @ (self.residual(x) / self.sd**2)


@pytest.fixture(scope="module")
def linear():
    return Linear()


def test_scores_of_a_linear_model_are_its_closed_form_in_value_and_gradient(linear):
    samples = 20_000
    x = np.array([0.5, -0.4, 1.2])

    def both(x):
        scores = score_row(linear.vae, linear.params, x, KEY, samples)
        return jnp.stack([scores.log_reconstruction_prob, scores.mean_log_prob]), scores

    jacobian, scores = jax.jit(jax.jacrev(both, has_aux=True))(jnp.asarray(x, jnp.float32))

    # How much each estimate scatters, from another 20,000 draws: z -> log p(x|z), its slope by x, and the weights
    # p(x|z) / p(x) by which the logarithm of the mean averages.
    noise = np.random.default_rng(0).normal(size=(samples, 2))
    residual = linear.residual(x) - (noise * linear.latent_sd) @ linear.W.T
    log_probs = stats.norm.logpdf(residual, 0, linear.sd)
    slopes = -(residual / linear.sd**2) @ linear.slope
    weights = np.exp(log_probs.sum(1) - linear.log_prob(x))

    def tolerance(draws):
        # Four standard errors: one test in some thousand seeds would fail by chance.
        return 4 * draws.std(0) / np.sqrt(samples)

    def check(actual, expected, draws):
        np.testing.assert_array_less(np.abs(actual - expected), tolerance(draws))

    check(scores.log_reconstruction_prob, linear.log_prob(x), weights)
    check(scores.mean_log_prob, linear.mean_log_prob_of_features(x).sum(), log_probs.sum(1))
    check(scores.contributions, linear.mean_log_prob_of_features(x), log_probs)
    # The slope of the log of a mean is the weighted mean of slopes; it scatters as the weighted distance from it.
    gradient = linear.log_prob_gradient(x)
    check(jacobian[0], gradient, weights[:, None] * (slopes - gradient))
    check(jacobian[1], linear.mean_log_prob_gradient(x), slopes)
    # The tolerances are small enough to tell the two scores apart.
    assert tolerance(weights) < 0.05
    assert linear.log_prob(x) - linear.mean_log_prob_of_features(x).sum() > 0.2


def reference(params, x, key, num_samples, residual_sd=None):
    """The three scores in float64 NumPy, by the definition, with the library's noise."""
    scores, noise = [], np.asarray(jax.random.normal(key, (num_samples, 2)), np.float64)
    for row in np.asarray(x, np.float64):
        mean, log_var = numpy_encode(params, row)
        decoded, log_var = numpy_decode(params, mean + np.exp(log_var / 2) * noise)
        sd = np.exp(log_var / 2) if residual_sd is None else np.asarray(residual_sd, np.float64)
        per_feature = stats.norm.logpdf(row, decoded, sd)
        log_probs = per_feature.sum(1)
        scores.append((special.logsumexp(log_probs) - np.log(num_samples), log_probs.mean(), per_feature.mean(0)))
    return tuple(np.array(part) for part in zip(*scores, strict=True))


@pytest.fixture(scope="module")
def learned():
    """A model with a variance of its own."""
    return tiny_state(3)


@pytest.fixture(scope="module")
def fixed():
    """A model that gives a mean alone."""
    return tiny_state(3, learned_variance=False)


@pytest.fixture(scope="module")
def rows():
    return tiny_data(ROWS)


_compiled = jax.jit(reconstruction_probability, static_argnums=(0, 4))


def compiled(vae, params, x, key=KEY, residual_sd=None):
    return _compiled(vae, params, x, key, SAMPLES, residual_sd)


@pytest.fixture(scope="module")
def whole(learned, rows):
    """The scores of all rows in one call."""
    return compiled(learned.vae, learned.params, rows)


def test_scores_are_the_float64_reference(learned, rows, whole):
    expected = reference(learned.params, rows, KEY, SAMPLES)
    # float32 carries 7 digits of scores of order 10, and loses one in the sums.
    for actual, wanted in zip(whole, expected, strict=True):
        assert actual.shape == wanted.shape
        np.testing.assert_allclose(actual, wanted, rtol=1e-5, atol=1e-5)


def test_scores_with_residual_sd_are_the_float64_reference(fixed, rows):
    residual_sd = jnp.array([0.1, 0.5, 1.0, 2.0])
    x = rows[:20]
    actual = compiled(fixed.vae, fixed.params, x, residual_sd=residual_sd)
    expected = reference(fixed.params, x, KEY, SAMPLES, residual_sd)
    # A sd of 0.1 makes scores of order 100 to 1,000, of which float32 carries 7 digits.
    for got, wanted in zip(actual, expected, strict=True):
        np.testing.assert_allclose(got, wanted, rtol=1e-5, atol=1e-5)


def test_contributions_add_up_and_the_mean_of_logs_is_never_above_the_log_of_the_mean(whole):
    assert whole.contributions.shape == (ROWS, FEATURES)
    np.testing.assert_allclose(np.sum(whole.contributions, axis=1), whole.mean_log_prob, atol=1e-4)
    # Jensen's inequality; the two come from different sums, whose rounding is 1e-5 of scores of order 10.
    assert (np.asarray(whole.mean_log_prob) <= np.asarray(whole.log_reconstruction_prob) + 1e-4).all()
    assert np.mean(whole.log_reconstruction_prob - whole.mean_log_prob) > 0.01


def take(scores, rows):
    return jax.tree.map(lambda leaf: np.asarray(leaf)[np.asarray(rows)], scores)


def test_a_row_alone_scores_as_it_does_among_all(learned, rows, whole):
    x = rows
    # In the first block, at its edges, and in the remainder.
    for row in (0, 1, 100, ROWS_ENCODED - 1, ROWS_ENCODED, ROWS - 1):
        alone = compiled(learned.vae, learned.params, x[row : row + 1])
        assert_same(alone, take(whole, [row]))


def test_the_order_of_the_rows_does_not_matter(learned, rows, whole, rng):
    x = rows
    order = rng.permutation(ROWS)
    shuffled = compiled(learned.vae, learned.params, x[order])
    assert_same(shuffled, take(whole, order))


def test_the_other_rows_do_not_matter(learned, rows, whole):
    x = rows
    # The same number of rows, so that the same compiled function sees other neighbours, and has to be exact.
    others = x.at[::2].set(1e6)
    scores = compiled(learned.vae, learned.params, others)
    kept = np.arange(1, ROWS, 2)
    assert_same(take(scores, kept), take(whole, kept))


@pytest.mark.parametrize("hidden_dims", [(20, 10, 8), (64, 32)])
def test_a_rows_place_does_not_matter(hidden_dims, rng):
    vae = dense_vae(3, hidden_dims, 2, learned_variance=True)  # so few features that many rows are decoded at once
    params = vae.init(KEY, jnp.zeros((1, 3)), jnp.zeros((1, 2)))
    for row in rng.standard_normal((12, 3), np.float32):
        scores = compiled(vae, params, jnp.tile(row, (3 * ROWS_ENCODED, 1)))
        assert len(np.unique(np.asarray(scores.log_reconstruction_prob))) == 1


def test_scores_change_with_the_key_alone(learned, rows, whole):
    assert_same(compiled(learned.vae, learned.params, rows), whole)
    other = compiled(learned.vae, learned.params, rows, jax.random.key(12))
    assert (np.asarray(other.log_reconstruction_prob) != np.asarray(whole.log_reconstruction_prob)).all()


def test_score_row_is_that_of_many(learned, rows, whole):
    one = jax.jit(functools.partial(score_row, learned.vae, num_samples=SAMPLES))(learned.params, rows[3], KEY)
    # A product of one row may add in another order than that of a chunk.
    assert_close(one, jax.tree.map(lambda leaf: leaf[3], whole), atol=1e-4)


@pytest.mark.parametrize(("devices", "count"), [(1, 12), (4, 13), (4, 3)])
def test_score_models_is_reconstruction_probability_of_each(learned, rows, whole, devices, count):
    # 13 rows do not divide by 4 devices, and 3 leave one of them without any.
    models = [tiny_state(4), learned]
    x = rows[:count]
    mesh = data_mesh(jax.devices()[:devices])
    params = stack(*(model.params for model in models))
    scores = score_models(models[0].vae, params, x, KEY, mesh, SAMPLES)
    for number, model in enumerate(models):
        expected = reference(model.params, x, KEY, SAMPLES)
        for actual, wanted in zip(scores, expected, strict=True):
            assert actual.shape == (2, *wanted.shape)
            np.testing.assert_allclose(actual[number], wanted, rtol=1e-5, atol=1e-5)
    # The library's own scores of one model on one device.
    assert_same(jax.tree.map(lambda leaf: leaf[1], scores), take(whole, np.arange(count)))


def test_score_models_uses_each_models_residual_sd(fixed, rows):
    x = rows[:6]
    residual_sd = jnp.array([[0.1, 0.5, 1.0, 2.0], [1.0, 1.0, 3.0, 3.0]])
    params = stack(fixed.params, fixed.params)
    scores = score_models(fixed.vae, params, x, KEY, data_mesh(), SAMPLES, residual_sd)
    for number in range(2):
        expected = reference(fixed.params, x, KEY, SAMPLES, residual_sd[number])
        for actual, wanted in zip(scores, expected, strict=True):
            np.testing.assert_allclose(actual[number], wanted, rtol=1e-5, atol=1e-5)


def test_a_row_a_thousand_sd_away_has_a_finite_score(fixed, learned, rows):
    x = jnp.full((20, FEATURES), 1000.0, jnp.float32)
    scores = compiled(fixed.vae, fixed.params, x, residual_sd=jnp.ones(FEATURES))
    expected = reference(fixed.params, x, KEY, SAMPLES, jnp.ones(FEATURES))
    # A density of e^-100,000 and less, where float32 ends at e^-103.
    assert (np.asarray(scores.log_reconstruction_prob) < -1e5).all()
    # Scores of order 1e6, of which float32 carries 7 digits.
    for actual, wanted in zip(scores, expected, strict=True):
        np.testing.assert_allclose(actual, wanted, rtol=1e-5)
    for part in compiled(learned.vae, learned.params, jnp.full((ROWS, FEATURES), -1000.0, jnp.float32)):
        assert np.isfinite(part).all()


compiled_residual_sd = jax.jit(measure_residual_sd, static_argnums=0)


@pytest.fixture(scope="module")
def constant():
    """A decoder that gives (1, 2, 3) whatever z is, so that the residuals are known."""
    vae = VAE(LinearEncoder(2, (1.0, 1.0)), LinearDecoder(3, None))
    shapes = jax.eval_shape(vae.init, KEY, jnp.zeros((1, 3)), jnp.zeros((1, 2)))
    params = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape), shapes)
    params["params"]["decoder"]["mean"]["bias"] = jnp.array([1.0, 2.0, 3.0])
    return vae, params


def test_measure_residual_sd_by_hand(constant):
    x = jnp.array([[1.0, 5.0, 3.0], [1.0, 6.0, 3.002]])
    sd = compiled_residual_sd(*constant, x, KEY)
    # sqrt((3^2 + 4^2) / 2); a feature that never differs gets the floor, and so does sqrt(0.002^2 / 2) = 0.0014 not.
    np.testing.assert_allclose(sd, [MIN_RESIDUAL_SD, np.sqrt(12.5), 0.002 / np.sqrt(2)], rtol=1e-3)
    assert sd[0] == np.float32(1e-3)


def test_measure_residual_sd_draws_one_latent_for_each_row(fixed, rows):
    x = rows
    sd = compiled_residual_sd(fixed.vae, fixed.params, x, KEY)
    mean, log_var = numpy_encode(fixed.params, x)
    noise = np.asarray(jax.random.normal(KEY, mean.shape), np.float64)
    decoded, _ = numpy_decode(fixed.params, mean + np.exp(log_var / 2) * noise)
    np.testing.assert_allclose(sd, np.sqrt(((np.asarray(x) - decoded) ** 2).mean(0)), rtol=1e-5)


def test_measure_residual_sd_of_a_conditional_vae_is_of_the_features():
    vae = ConditionalVAE(DenseEncoder((5,), 2), DenseDecoder((5,), 6), num_labels=3)
    x = with_labels(bits(20, 6), jnp.arange(20) % 3, 3)
    params = random_params(vae, 9)
    sd = compiled_residual_sd(vae, params, x, KEY)
    mean, log_var = numpy_encode(params, x)
    z = mean + np.exp(log_var / 2) * np.asarray(jax.random.normal(KEY, mean.shape), np.float64)
    decoded, _ = numpy_decode(params, np.concatenate([z, x[:, 6:]], axis=1))
    np.testing.assert_allclose(sd, np.sqrt(np.square(x[:, :6] - decoded).mean(0)), rtol=1e-5)
    assert compiled(vae, params, x, residual_sd=sd).contributions.shape == (20, 6)


def bits(rows, features):
    return jnp.asarray(np.random.default_rng(5).integers(0, 2, (rows, features)), jnp.float32)


def by_definition(vae, params, x):
    """The scores of bits, from the module's own methods and float64 sums."""

    @jax.jit
    def log_prob(noise):
        z = vae.apply(
            params, encode(vae, params, x), jnp.broadcast_to(noise, (1, len(x), vae.latent_dim)), method="draw"
        )
        return vae.apply(params, x, z[0], method="observe").log_prob(vae.target(x))

    noise = jax.random.normal(KEY, (SAMPLES, 1, vae.latent_dim))
    log_probs = np.array([log_prob(of_sample) for of_sample in np.asarray(noise)], np.float64)
    joint = special.logsumexp(log_probs.sum(-1), axis=0) - np.log(SAMPLES)
    return joint, log_probs.sum(-1).mean(0), log_probs.mean(0)


def test_reconstruction_probability_takes_every_likelihood_and_model():
    conditional = ConditionalVAE(DenseEncoder((5,), 2), DenseDecoder((5,), 6, bernoulli=True), num_labels=3)
    labels = jnp.arange(20) % 3
    for vae, x in (
        (dense_vae(6, (5,), 2, bernoulli=True), bits(20, 6)),
        (hierarchical_vae(6, ((5,), (4,)), (3, 2)), bits(20, 6)),
        (conditional, with_labels(bits(20, 6), labels, 3)),
    ):
        params = random_params(vae, x.shape[1])
        for actual, wanted in zip(compiled(vae, params, x), by_definition(vae, params, x), strict=True):
            assert actual.shape == wanted.shape
            np.testing.assert_allclose(actual, wanted, rtol=1e-5, atol=1e-5)


def test_rows_of_another_shape_are_refused(fixed, rows):
    for x in (rows[0], rows.reshape(1, *rows.shape)):
        with pytest.raises(ValueError, match=r"expected rows, of shape \(N, D\)"):
            reconstruction_probability(fixed.vae, fixed.params, x, KEY, SAMPLES, jnp.ones(FEATURES))


class Moved(VAE):
    """A posterior of its own."""

    def draw(self, posterior, noise):
        return super().draw(posterior, noise) + 2


def test_measure_residual_sd_draws_as_the_model_does(fixed, rows):
    found = compiled_residual_sd(Moved(fixed.vae.encoder, fixed.vae.decoder), fixed.params, rows, KEY)
    mean, log_var = numpy_encode(fixed.params, rows)
    z = mean + np.exp(log_var / 2) * np.asarray(jax.random.normal(KEY, mean.shape), np.float64) + 2
    decoded, _ = numpy_decode(fixed.params, z)
    np.testing.assert_allclose(found, np.sqrt(np.square(rows - decoded).mean(0)), rtol=1e-5)


def test_bytes_score_as_pixels(fixed):
    pixels = np.random.default_rng(5).integers(0, 256, (3, FEATURES), np.uint8)

    @jax.jit
    def scores(x):
        sd = measure_residual_sd(fixed.vae, fixed.params, x, KEY)
        return sd, reconstruction_probability(fixed.vae, fixed.params, x, KEY, SAMPLES, sd)

    for actual, wanted in zip(*map(jax.tree.leaves, (scores(pixels), scores(np.float32(pixels) / 255))), strict=True):
        np.testing.assert_allclose(actual, wanted, rtol=1e-5, atol=1e-5)


def test_a_score_without_any_variance_is_refused(fixed, rows):
    x = rows[:2]
    with pytest.raises(ValueError, match="residual_sd"):
        jax.eval_shape(functools.partial(score_row, fixed.vae), fixed.params, x[0], KEY)
    with pytest.raises(ValueError, match="residual_sd"):
        compiled(fixed.vae, fixed.params, x)
    with pytest.raises(ValueError, match="residual_sd"):
        score_models(fixed.vae, stack(fixed.params), x, KEY, data_mesh())


def test_memory_does_not_grow_with_samples_times_rows(learned):
    features, samples, models = 29, 100, 2
    vae = dense_vae(features, hidden_dims=(5,), learned_variance=True)
    params = jax.eval_shape(vae.init, KEY, jnp.zeros((1, features)), jnp.zeros((1, 2)))
    params = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct((models, *leaf.shape), leaf.dtype), params)

    def temporary_bytes(rows):
        x = jax.ShapeDtypeStruct((rows, features), jnp.float32)
        mesh = data_mesh(jax.devices()[:1])
        compiled = score_models.lower(vae, params, x, KEY, mesh, samples).compile()
        return compiled.memory_analysis().temp_size_in_bytes

    few, many = 2_000, 20_000
    # Inputs and outputs are each a float per row and feature, and more; a copy or two of them is allowed.
    in_and_out = 4 * many * (features + 1 + models * (features + 2))
    bytes_of_many = temporary_bytes(many)
    assert bytes_of_many <= 2 * temporary_bytes(few) + 2 * in_and_out
    # The decoder's means for every sample of every row would be 464 MB.
    assert bytes_of_many < 4 * models * samples * many * features / 4


def test_a_gap_has_no_gradient_and_leaves_the_others(rng):
    vae = dense_vae(FEATURES, (6,), learned_variance=True)
    x = jnp.asarray(rng.normal(size=(3, FEATURES)), jnp.float32).at[1, 0].set(jnp.nan)
    params = vae.init(KEY, x, jnp.zeros((3, 2)))

    @jax.jit
    @functools.partial(jax.grad, argnums=(0, 1))
    def gradient(params, x):
        return reconstruction_probability(vae, params, x, KEY, 8, gaps=True).log_reconstruction_prob.sum()

    of_params, of_x = gradient(params, x)
    assert all(jnp.isfinite(leaf).all() for leaf in jax.tree.leaves(of_params))
    assert (of_x[1, 0], bool((of_x[1, 1:] != 0).all())) == (0, True)
