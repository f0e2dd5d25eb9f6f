"""The loss's terms against float64 NumPy, in value and gradient."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import special, stats

from vae_jax.distributions import kl_standard_normal
from vae_jax.networks import Bernoulli, Gaussian, Observation
from vae_jax.objectives import RECONSTRUCTIONS, Objective, Terms, bernoulli, gaussian, mse, rmse

pytestmark = pytest.mark.usefixtures("compiled_well")

EVENTS = [(7,), (4, 3, 2)]
# float32 carries 7 digits; a sum of two dozen terms loses at most one or two of them.
RTOL = 1e-5


@pytest.fixture(params=EVENTS, ids=["features", "image"])
def batch(request, rng):
    """x, mean and log_var of three examples, as float32 and the same numbers as float64 of shape (3, -1)."""
    shape = (3, *request.param)
    single = [jnp.asarray(rng.normal(size=shape), jnp.float32) for _ in range(3)]
    return single, [np.asarray(array, np.float64).reshape(3, -1) for array in single]


def test_mse(batch):
    (x, mean, _), (x64, mean64, _) = batch
    actual = mse(x, Observation(mean, None))
    assert actual.shape == (3,)
    np.testing.assert_allclose(actual, ((x64 - mean64) ** 2).mean(1), rtol=RTOL)


def test_rmse(batch):
    (x, mean, _), (x64, mean64, _) = batch
    actual = rmse(x, Observation(mean, None))
    assert actual.shape == (3,)
    np.testing.assert_allclose(actual, np.sqrt(((x64 - mean64) ** 2).mean(1)), rtol=RTOL)


def test_gaussian(batch):
    (x, mean, log_var), (x64, mean64, log_var64) = batch
    actual = gaussian(x, Observation(mean, log_var))
    assert actual.shape == (3,)
    np.testing.assert_allclose(actual, -stats.norm.logpdf(x64, mean64, np.exp(log_var64 / 2)).sum(1), rtol=RTOL)


def test_values_by_hand():
    x, mean = jnp.array([[3.0, 4.0]]), jnp.zeros((1, 2))
    assert mse(x, Observation(mean, None)) == 12.5
    np.testing.assert_allclose(rmse(x, Observation(mean, None)), [3.5355339], rtol=1e-6)
    # log 2 pi + (9 + 16) / 2
    np.testing.assert_allclose(gaussian(x, Observation(mean, jnp.zeros((1, 2)))), [1.8378771 + 12.5], rtol=1e-6)


def test_mse_gradient(batch):
    (x, mean, _), (x64, mean64, _) = batch
    actual = jax.grad(lambda mean: mse(x, Observation(mean, None)).sum())(mean)
    np.testing.assert_allclose(actual.reshape(3, -1), -2 * (x64 - mean64) / x64.shape[1], rtol=RTOL)


def test_rmse_gradient(batch):
    (x, mean, _), (x64, mean64, _) = batch
    actual = jax.grad(lambda mean: rmse(x, Observation(mean, None)).sum())(mean)
    root = np.sqrt(((x64 - mean64) ** 2).mean(1, keepdims=True))
    np.testing.assert_allclose(actual.reshape(3, -1), -(x64 - mean64) / (x64.shape[1] * root), rtol=RTOL)


def test_gaussian_gradient(batch):
    (x, mean, log_var), (x64, mean64, log_var64) = batch
    by_mean, by_log_var = jax.grad(lambda *args: gaussian(x, Observation(*args)).sum(), argnums=(0, 1))(mean, log_var)
    standardised = (x64 - mean64) * np.exp(-log_var64)
    np.testing.assert_allclose(by_mean.reshape(3, -1), -standardised, rtol=RTOL)
    expected = 0.5 * (1 - (x64 - mean64) * standardised)
    # 1 minus a number near 1 leaves the rounding of 1, 1e-7.
    np.testing.assert_allclose(by_log_var.reshape(3, -1), expected, rtol=RTOL, atol=1e-6)


@pytest.mark.parametrize("event", EVENTS, ids=["features", "image"])
def test_rmse_gradient_is_zero_where_the_error_is(event):
    x = jnp.ones((2, *event))
    # The first example is exact; the second is off by 0.5 everywhere, so its slope is -sign / (number of features).
    mean = x.at[1].add(-0.5)
    value, gradient = jax.value_and_grad(lambda mean: rmse(x, Observation(mean, None)).sum())(mean)
    assert value == 0.5
    np.testing.assert_array_equal(gradient[0], np.zeros(event))
    np.testing.assert_allclose(gradient[1], np.full(event, -1 / np.prod(event)), rtol=RTOL)


@pytest.mark.parametrize("event", EVENTS, ids=["features", "image"])
def test_bernoulli_in_value_and_gradient(rng, event):
    x, logits = rng.uniform(size=(3, *event)).astype(np.float32), 3 * rng.normal(size=(3, *event)).astype(np.float32)
    x[0], logits[1] = x[0].round(), 40.0  # bits; far in a tail
    actual = bernoulli(jnp.asarray(x), Bernoulli(jnp.asarray(logits)))
    x64, logits64 = x.astype(np.float64), logits.astype(np.float64)
    expected = np.logaddexp(0, logits64) - x64 * logits64
    assert actual.shape == (3,)
    np.testing.assert_allclose(actual, expected.reshape(3, -1).sum(1), rtol=RTOL)
    slope = jax.grad(lambda logits: bernoulli(jnp.asarray(x), Bernoulli(logits)).sum())(jnp.asarray(logits))
    np.testing.assert_allclose(slope, special.expit(logits64) - x64, rtol=RTOL, atol=1e-6)


def test_bernoulli_without_logits_is_refused():
    with pytest.raises(ValueError, match="bernoulli=True"):
        bernoulli(jnp.zeros((2, 3)), Observation(jnp.zeros((2, 3)), None))  # pyright: ignore[reportArgumentType]


def test_gaussian_without_a_log_variance_is_refused():
    with pytest.raises(ValueError, match="learned_variance=True"):
        gaussian(jnp.zeros((2, 3)), Observation(jnp.zeros((2, 3)), None))


@pytest.mark.parametrize("reconstruction", [mse, rmse, gaussian])
def test_a_decoder_of_another_shape_is_refused(reconstruction):
    # Grey pictures and a decoder of three colours; and a table, and a decoder of one feature.
    for x, shape in (((2, 4, 4, 1), (2, 4, 4, 3)), ((2, 3), (2, 1))):
        observation = Observation(jnp.zeros(shape), jnp.zeros(shape))
        with pytest.raises(ValueError, match=r"^x is of shape \(2, .* of \(2, .*: expected the same$"):
            reconstruction(jnp.zeros(x), observation)


def test_logits_of_another_shape_are_refused():
    with pytest.raises(ValueError, match=r"^x is of shape \(2, 3\), and what the decoder gives of \(2, 1\)"):
        bernoulli(jnp.zeros((2, 3)), Bernoulli(jnp.zeros((2, 1))))


def test_reconstructions_by_name():
    assert {"rmse": rmse, "mse": mse, "gaussian": gaussian} == RECONSTRUCTIONS


def test_terms_are_the_reconstruction_and_the_kl_of_each_example(batch):
    (x, mean, log_var), _ = batch
    posterior = Gaussian(jnp.array([[0.0, 0.0], [1.0, 0.0], [1.0, 2.0]]), jnp.zeros((3, 2)))
    observation = Observation(mean, log_var)
    terms = Objective(gaussian).terms(x, posterior, observation)
    np.testing.assert_array_equal(terms.reconstruction, gaussian(x, observation))
    # KL of a shifted unit Gaussian is half its squared mean.
    np.testing.assert_array_equal(terms.kl, [0.0, 0.5, 2.5])


TERMS = Terms(jnp.array([1.0, 2.0]), jnp.array([10.0, 40.0]))


def test_loss_is_weight_times_reconstruction_plus_kl():
    np.testing.assert_array_equal(Objective().loss(TERMS), [11.0, 42.0])
    np.testing.assert_array_equal(Objective(weight=100.0).loss(TERMS), [110.0, 240.0])


def test_loss_without_warmup_does_not_depend_on_the_step():
    for step in (0, 7):
        np.testing.assert_array_equal(Objective(weight=3.0).loss(TERMS, jnp.int32(step)), [13.0, 46.0])


@pytest.mark.parametrize(("step", "share"), [(0, 0.0), (2, 0.25), (4, 0.5), (8, 1.0), (9, 1.0), (1000, 1.0)])
def test_kl_warmup(step, share):
    objective = Objective(weight=3.0, kl_warmup_steps=8)
    np.testing.assert_array_equal(objective.loss(TERMS, jnp.int32(step)), [3 + 10 * share, 6 + 40 * share])


def test_no_step_means_after_the_warmup():
    np.testing.assert_array_equal(Objective(weight=3.0, kl_warmup_steps=8).loss(TERMS), [13.0, 46.0])


def test_a_term_that_is_not_one_number_an_example_is_refused():
    x, observation = jnp.zeros((3, 3, 3)), Observation(jnp.zeros((3, 3, 3)), None)
    posterior = Gaussian(jnp.zeros((3, 2)), jnp.zeros((3, 2)))
    with pytest.raises(ValueError, match=r"reconstruction: expected shape \(3,\), .* not \(3, 3\)"):
        Objective(lambda x, observation: jnp.abs(x - observation.mean).sum(-1)).terms(x, posterior, observation)


def test_divergence_can_be_replaced():
    def half(mean, log_var):
        return kl_standard_normal(mean, log_var) / 2

    posterior = Gaussian(jnp.ones((2, 3)), jnp.zeros((2, 3)))
    observation = Observation(jnp.zeros((2, 4)), None)
    np.testing.assert_array_equal(
        Objective(divergence=half).terms(jnp.zeros((2, 4)), posterior, observation).kl, [0.75, 0.75]
    )
