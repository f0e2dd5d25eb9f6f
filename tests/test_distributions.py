"""The diagonal Gaussian against SciPy and hand-written derivatives, all in float64."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import integrate, stats

from vae_jax.distributions import kl_standard_normal, log_prob, log_prob_per_dimension, reparameterise, sample

pytestmark = pytest.mark.usefixtures("compiled_well")

SHAPE = (2, 3, 5)
# float32 carries 7 digits; a sum of five terms and an exp lose one of them.
RTOL = 1e-5
ATOL = 1e-5


@pytest.fixture
def arrays(rng):
    """x (or noise), mean and log_var with leading axes, as float32 and the same numbers as float64."""
    values = [rng.normal(size=SHAPE), rng.normal(size=SHAPE), rng.uniform(-3, 3, size=SHAPE)]
    single = [jnp.asarray(value, jnp.float32) for value in values]
    return single, [np.asarray(value, np.float64) for value in single]


def assert_allclose(actual, expected):
    np.testing.assert_allclose(actual, expected, rtol=RTOL, atol=ATOL)


def test_log_prob_per_dimension_is_scipys(arrays):
    single, (x, mean, log_var) = arrays
    assert_allclose(log_prob_per_dimension(*single), stats.norm.logpdf(x, mean, np.exp(log_var / 2)))


def test_log_prob_is_scipys_summed_over_the_last_axis(arrays):
    single, (x, mean, log_var) = arrays
    assert log_prob(*single).shape == SHAPE[:-1]
    assert_allclose(log_prob(*single), stats.norm.logpdf(x, mean, np.exp(log_var / 2)).sum(-1))


def test_log_prob_of_a_correlated_free_gaussian_is_the_multivariate_one(arrays):
    single, (x, mean, log_var) = arrays
    expected = stats.multivariate_normal.logpdf(x[0, 0], mean[0, 0], np.diag(np.exp(log_var[0, 0])))
    assert_allclose(log_prob(*(array[0, 0] for array in single)), expected)


def test_log_prob_is_the_sum_of_log_prob_per_dimension(arrays):
    single, _ = arrays
    np.testing.assert_array_equal(log_prob(*single), log_prob_per_dimension(*single).sum(-1))


def test_log_prob_at_the_mean_of_a_standard_normal_by_hand():
    zeros = jnp.zeros(2)
    # log (1 / sqrt(2 pi)) = -0.9189385, twice.
    assert_allclose(log_prob(zeros, zeros, zeros), -1.8378771)


def test_log_prob_gradient(arrays):
    single, (x, mean, log_var) = arrays
    by_x, by_mean, by_log_var = jax.grad(lambda *args: log_prob(*args).sum(), argnums=(0, 1, 2))(*single)
    standardised = (x - mean) * np.exp(-log_var)
    assert_allclose(by_x, -standardised)
    assert_allclose(by_mean, standardised)
    assert_allclose(by_log_var, 0.5 * ((x - mean) * standardised - 1))


def test_kl_is_the_integral_that_defines_it():
    for mean, log_var in [(0.0, 0.0), (1.5, 0.7), (-0.3, -2.0)]:
        q = stats.norm(mean, np.exp(log_var / 2))
        # Ten standard deviations hold all of q but 1e-23.
        low, high = mean - 10 * q.std(), mean + 10 * q.std()
        expected, _ = integrate.quad(lambda z, q=q: q.pdf(z) * (q.logpdf(z) - stats.norm.logpdf(z)), low, high)
        assert_allclose(kl_standard_normal(jnp.array([mean]), jnp.array([log_var])), expected)


def test_kl_is_the_closed_form_summed_over_the_latent(arrays):
    (_, mean, log_var), (_, mean64, log_var64) = arrays
    expected = -0.5 * (1 + log_var64 - mean64**2 - np.exp(log_var64)).sum(-1)
    assert kl_standard_normal(mean, log_var).shape == SHAPE[:-1]
    assert_allclose(kl_standard_normal(mean, log_var), expected)


def test_kl_gradient(arrays):
    (_, mean, log_var), (_, mean64, log_var64) = arrays
    by_mean, by_log_var = jax.grad(lambda *args: kl_standard_normal(*args).sum(), argnums=(0, 1))(mean, log_var)
    assert_allclose(by_mean, mean64)
    assert_allclose(by_log_var, 0.5 * np.expm1(log_var64))


def test_kl_of_the_prior_is_zero_in_value_and_gradient():
    zeros = jnp.zeros(3)
    assert kl_standard_normal(zeros, zeros) == 0
    for gradient in jax.grad(kl_standard_normal, argnums=(0, 1))(zeros, zeros):
        np.testing.assert_array_equal(gradient, np.zeros(3))


@pytest.mark.parametrize("compile_it", [False, True])
def test_kl_is_not_negative_near_the_prior(compile_it):
    function = jax.jit(kl_standard_normal) if compile_it else kl_standard_normal
    log_var = jnp.concatenate([sign * jnp.geomspace(1e-6, 1e-2, 1001) for sign in (-1, 1)])[:, None]
    kl = function(jnp.zeros_like(log_var), log_var)
    assert kl.min() >= 0
    # Two units in the last place of log_var, which is what expm1 is good for. The form 1 + log_var - exp(log_var)
    # would be off by the rounding of 1, which near log_var = 1e-4 is five thousand times more.
    expected = 0.5 * (np.expm1(np.asarray(log_var, np.float64)) - np.asarray(log_var, np.float64))[:, 0]
    np.testing.assert_array_less(np.abs(kl - expected), 2.4e-7 * np.abs(log_var[:, 0]))


def test_reparameterise(arrays):
    single, (noise, mean, log_var) = arrays
    assert_allclose(reparameterise(*single), mean + np.exp(log_var / 2) * noise)


def test_reparameterise_gradient(arrays):
    single, (noise, _, log_var) = arrays
    by_noise, by_mean, by_log_var = jax.grad(lambda *args: reparameterise(*args).sum(), argnums=(0, 1, 2))(*single)
    assert_allclose(by_noise, np.exp(log_var / 2))
    assert_allclose(by_mean, np.ones(SHAPE))
    assert_allclose(by_log_var, 0.5 * np.exp(log_var / 2) * noise)


def test_sample_is_reparameterised_noise_of_its_key(arrays):
    (_, mean, log_var), _ = arrays
    key = jax.random.key(3)
    drawn = sample(key, mean, log_var)
    assert drawn.shape == mean.shape
    assert drawn.dtype == mean.dtype
    np.testing.assert_array_equal(drawn, reparameterise(jax.random.normal(key, mean.shape), mean, log_var))
    assert not np.array_equal(drawn, sample(jax.random.key(4), mean, log_var))


def test_sample_draws_anew_for_each_row_that_a_mean_is_broadcast_to():
    drawn = sample(jax.random.key(0), jnp.zeros((1, 2)), jnp.zeros((4, 2)))
    assert drawn.shape == (4, 2)
    assert len(np.unique(drawn)) == 8


def test_sample_gradient_is_that_of_reparameterise(arrays):
    (_, mean, log_var), (_, mean64, _) = arrays
    key = jax.random.key(3)
    drawn = np.asarray(sample(key, mean, log_var), np.float64)
    by_mean, by_log_var = jax.grad(lambda *args: sample(key, *args).sum(), argnums=(0, 1))(mean, log_var)
    assert_allclose(by_mean, np.ones(SHAPE))
    assert_allclose(by_log_var, 0.5 * (drawn - mean64))


def test_sample_has_the_mean_and_variance_asked_for():
    n, mean, sd = 40_000, np.array([-1.0, 0.0, 5.0]), np.array([0.1, 1.0, 3.0])
    shape = (n, 3)
    drawn = sample(
        jax.random.key(0),
        jnp.broadcast_to(jnp.asarray(mean, jnp.float32), shape),
        jnp.broadcast_to(jnp.asarray(2 * np.log(sd), jnp.float32), shape),
    )
    drawn = np.asarray(drawn, np.float64)
    # Four standard errors: sd / sqrt(n) of a mean, sd^2 * sqrt(2 / n) of a variance, 1 / sqrt(n) of a correlation.
    np.testing.assert_array_less(np.abs(drawn.mean(0) - mean), 4 * sd / np.sqrt(n))
    np.testing.assert_array_less(np.abs(drawn.var(0) - sd**2), 4 * sd**2 * np.sqrt(2 / n))
    np.testing.assert_array_less(np.abs(np.corrcoef(drawn.T) - np.eye(3)), 4 / np.sqrt(n))
