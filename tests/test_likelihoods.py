"""The likelihoods of columns against SciPy and derivatives by hand, all in float64."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import special, stats

from vae_jax.likelihoods import bernoulli_log_prob, categorical_log_prob, discretised_logistic_log_prob

pytestmark = pytest.mark.usefixtures("compiled_well")

# float32 carries 7 digits; an exponential and a few sums lose one of them.
RTOL = 1e-5
ATOL = 1e-5
SHAPE = (2, 3, 5)


def assert_allclose(actual, expected):
    np.testing.assert_allclose(actual, expected, rtol=RTOL, atol=ATOL)


def single(*arrays):
    return [jnp.asarray(array, jnp.float32) for array in arrays]


def gradients(function, *arguments, argnums=(0, 1, 2, 3)):
    return jax.grad(lambda *args: function(*args).sum(), argnums)(*arguments)


@pytest.fixture
def bins(rng):
    """Lower edge, width, mean and log scale in the middle of the distribution, as float32 and float64."""
    values = [rng.normal(size=SHAPE), rng.uniform(0.2, 2, SHAPE), rng.normal(size=SHAPE), rng.uniform(-1, 1, SHAPE)]
    arrays = single(*values)
    return arrays, [np.asarray(array, np.float64) for array in arrays]


def test_a_bin_has_the_difference_of_scipys_distribution_function(bins):
    arrays, (lower, width, mean, log_scale) = bins
    logistic = stats.logistic(mean, np.exp(log_scale))
    found = discretised_logistic_log_prob(*arrays)
    assert found.shape == SHAPE
    assert_allclose(found, np.log(logistic.cdf(lower + width) - logistic.cdf(lower)))


def test_gradient_of_a_bin_is_the_difference_of_densities(bins):
    arrays, (lower, width, mean, log_scale) = bins
    a, b = ((edge - mean) / np.exp(log_scale) for edge in (lower, lower + width))
    probability = stats.logistic.cdf(b) - stats.logistic.cdf(a)
    at_a, at_b = stats.logistic.pdf(a) / probability, stats.logistic.pdf(b) / probability
    by_lower, by_width, by_mean, by_log_scale = gradients(discretised_logistic_log_prob, *arrays)
    assert_allclose(by_lower, (at_b - at_a) / np.exp(log_scale))
    assert_allclose(by_width, at_b / np.exp(log_scale))
    assert_allclose(by_mean, (at_a - at_b) / np.exp(log_scale))
    assert_allclose(by_log_scale, a * at_a - b * at_b)


@pytest.mark.parametrize("side", [-1, 1])
@pytest.mark.parametrize("distance", [30.0, 100.0, 1e3])
def test_a_bin_far_out_falls_with_the_distance(side, distance):
    width, scale = 0.5, 2.0
    lower = side * distance * scale
    near = distance if side > 0 else distance - width / scale
    arguments = single(lower, width, 0.0, np.log(scale))
    # F(b) - F(a) = exp(-near) (1 - exp(-width)) on either side, up to a factor of 1 + exp(-distance).
    np.testing.assert_allclose(
        discretised_logistic_log_prob(*arguments), -near + np.log(-np.expm1(-width / scale)), rtol=1e-6
    )
    by_lower, by_width, by_mean, by_log_scale = gradients(discretised_logistic_log_prob, *arguments)
    by_step = 1 / np.expm1(width / scale) + (side < 0)
    assert_allclose(by_lower, -side / scale)
    assert_allclose(by_mean, side / scale)
    assert_allclose(by_width, by_step / scale)
    np.testing.assert_allclose(by_log_scale, side * lower / scale - by_step * width / scale, rtol=1e-6)


@pytest.mark.parametrize("width", [1e-6, 1.0, 1e3])
@pytest.mark.parametrize("z", [-1e3, 0.0, 1e3])
@pytest.mark.parametrize("lowest", [False, True])
def test_value_and_gradient_are_finite_everywhere(width, z, lowest):
    arguments = single(z, width, 0.0, 0.0)
    function = lambda *args: discretised_logistic_log_prob(*args, lowest)  # noqa: E731
    assert np.isfinite(function(*arguments))
    assert float(function(*arguments)) <= 0
    assert np.isfinite(gradients(function, *arguments)).all()


@pytest.mark.parametrize("mean", [-2.0, 0.0, 3.3, 40.0])
@pytest.mark.parametrize("log_scale", [-1.5, 0.0, 1.0])
def test_probabilities_of_all_counts_add_up_to_1(mean, log_scale):
    count = jnp.arange(0.0, 200.0)
    log_prob = discretised_logistic_log_prob(count - 0.5, 1.0, mean, log_scale, lowest=count == 0)
    assert (log_prob <= 0).all()
    np.testing.assert_allclose(jnp.exp(log_prob).sum(), 1, rtol=1e-5)


def test_the_lowest_bin_has_everything_below_it(bins):
    arrays, (lower, width, mean, log_scale) = bins
    scale = np.exp(log_scale)
    function = lambda *args: discretised_logistic_log_prob(*args, lowest=True)  # noqa: E731
    assert_allclose(function(*arrays), stats.logistic.logcdf(lower + width, mean, scale))
    b = (lower + width - mean) / scale
    above = special.expit(-b)
    expected = above / scale, above / scale, -above / scale, -b * above
    for by, of in zip(gradients(function, *arrays), expected, strict=True):
        assert_allclose(by, of)


def test_arguments_of_a_bin_broadcast():
    found = discretised_logistic_log_prob(jnp.zeros((3, 1)), 1.0, jnp.zeros((1, 4)), 0.0, jnp.zeros((3, 1), bool))
    assert found.shape == (3, 4)


def test_yes_and_no_are_scipys(rng):
    x, (logit,) = rng.integers(0, 2, SHAPE), single(rng.normal(0, 3, SHAPE))
    expected = stats.bernoulli.logpmf(x, special.expit(np.asarray(logit, np.float64)))
    assert_allclose(bernoulli_log_prob(*single(x), logit), expected)


def test_a_share_of_yes_is_an_expectation():
    logit = jnp.float32(0.7)
    yes, no = (float(bernoulli_log_prob(jnp.float32(x), logit)) for x in (1, 0))
    assert_allclose(bernoulli_log_prob(jnp.float32(0.25), logit), 0.25 * yes + 0.75 * no)


def test_gradient_of_yes_and_no_is_the_error(rng):
    x, logit = single(rng.integers(0, 2, SHAPE), rng.normal(0, 3, SHAPE))
    expected = np.asarray(x, np.float64) - special.expit(np.asarray(logit, np.float64))
    assert_allclose(gradients(bernoulli_log_prob, x, logit, argnums=1), expected)


@pytest.mark.parametrize("x", [0.0, 1.0])
@pytest.mark.parametrize("logit", [-1e3, 1e3])
def test_a_certain_answer_is_finite(x, logit):
    arguments = single(x, logit)
    assert_allclose(bernoulli_log_prob(*arguments), 0 if (x > 0) == (logit > 0) else -1e3)
    assert_allclose(gradients(bernoulli_log_prob, *arguments, argnums=1), x - (logit > 0))


@pytest.mark.parametrize("scale", [1.0, 1e3])
def test_levels_are_numpys_log_softmax(rng, scale):
    (logits,) = single(rng.normal(0, scale, (7, *SHAPE)))
    level = rng.integers(0, 7, SHAPE)
    expected = special.log_softmax(np.asarray(logits, np.float64), axis=0)
    found = categorical_log_prob(jnp.asarray(level), logits)
    assert found.shape == SHAPE
    assert_allclose(found, np.take_along_axis(expected, level[None], 0)[0])


def test_gradient_of_levels_is_one_hot_less_softmax(rng):
    (logits,) = single(rng.normal(0, 3, (7, *SHAPE)))
    level = rng.integers(0, 7, SHAPE)
    one_hot = np.moveaxis(np.eye(7)[level], -1, 0)
    found = gradients(lambda logits: categorical_log_prob(jnp.asarray(level), logits), logits, argnums=0)
    assert_allclose(found, one_hot - special.softmax(np.asarray(logits, np.float64), axis=0))


def test_a_level_that_there_is_not_has_no_probability():
    level, logits = jnp.array([-1, 0, 3]), jnp.zeros((3, 3))
    np.testing.assert_array_equal(np.exp(categorical_log_prob(level, logits)) > 0, [False, True, False])
    gradient = gradients(lambda logits: categorical_log_prob(level, logits), logits, argnums=0)
    assert_allclose(gradient[:, 1], np.array([1, 0, 0]) - 1 / 3)
    np.testing.assert_array_equal(gradient[:, [0, 2]], np.zeros((3, 2)))


def test_levels_of_one_row():
    assert_allclose(categorical_log_prob(jnp.array(1), jnp.zeros(4)), -np.log(4))


@pytest.mark.parametrize(
    "found",
    [
        lambda x: discretised_logistic_log_prob(x, x + 1, x, x, lowest=x == 0),
        lambda x: bernoulli_log_prob(x, x),
        lambda x: categorical_log_prob(x.astype(int), x[None]),
    ],
)
def test_float32_stays_float32(found):
    assert found(jnp.zeros(3)).dtype == jnp.float32
