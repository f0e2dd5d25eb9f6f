"""The VAE for columns of different kinds: likelihoods in float64, gaps, and what it learns of levels it never saw."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from helpers import random_params
from scipy import special, stats

from vae_jax import networks
from vae_jax.distributions import log_prob_per_dimension
from vae_jax.networks import columns
from vae_jax.networks.columns import (
    HIDDEN,
    LOGISTIC_SD,
    NO_LEVEL,
    SMOOTHING,
    UNKNOWN,
    ColumnConstants,
    ColumnLayout,
    ColumnObservation,
    column_likelihood,
    column_vae,
    dense,
    fit_column_constants,
)
from vae_jax.networks.outputs import OBSERVATION_LOG_VAR
from vae_jax.objectives import Objective
from vae_jax.training import create_train_state, train_epoch

# One program each; operation by operation, every one would be compiled on its own.
log_prob = jax.jit(ColumnObservation.log_prob, static_argnames="smoothed")
expand = jax.jit(columns.expand, static_argnames="layout")
encode, decode = (jax.jit(function, static_argnames="vae") for function in (networks.encode, networks.decode))

# float32 carries 7 digits; an exponential and a few sums lose one of them.
RTOL = 1e-5
ATOL = 2e-5

LAYOUT = ColumnLayout(numbers=2, counts=2, answers=2, levels=(4, 4, 8))
SHARES = ((0.5, 0.3, 0.2, 0.0), (0.6, 0.4, 0.0, 0.0), (0.3, 0.2, 0.2, 0.1, 0.1, 0.1, 0.0, 0.0))
LAYOUTS = [
    LAYOUT,
    ColumnLayout(numbers=2),
    ColumnLayout(counts=1),
    ColumnLayout(answers=1),
    ColumnLayout(levels=(4,)),
    ColumnLayout(answers=1, levels=(4, 4)),
]
COUNT_MEAN, COUNT_SD, COUNT_LOG = (3.0, 1.2), (2.0, 0.8), (0.0, 1.0)
COUNTS = np.array([[0, 0], [1, 1], [7, 200], [40, 3]])
UNKNOWN_SHARE = (0.01, 0.002)


def constants_of(layout):
    equal = ColumnConstants.of(layout)
    if layout != LAYOUT:
        return equal
    return equal._replace(
        count_mean=jnp.array(COUNT_MEAN),
        count_sd=jnp.array(COUNT_SD),
        count_log=jnp.array(COUNT_LOG),
        frequencies=jnp.array([0.7, 0.1, *(share for shares in SHARES for share in shares)]),
        unknown=jnp.array(UNKNOWN_SHARE),
    )


def rows_of(layout, shape, rng):
    """Rows without gaps, with each kind of value."""
    parts = [
        rng.normal(size=(*shape, layout.numbers)),
        standardised(rng.integers(0, 9, (*shape, layout.counts)), layout),
        rng.integers(0, 3, (*shape, layout.answers)),
        *(rng.integers(0, levels, (*shape, 1)) for levels in layout.levels),
    ]
    return jnp.asarray(np.concatenate(parts, -1), jnp.float32)


def standardised(counts, layout=LAYOUT):
    _, mean, sd, is_log, *_ = (np.asarray(constant, np.float64) for constant in constants_of(layout))
    return (np.where(is_log > 0, np.log1p(counts), counts) - mean) / sd


def observation_of(layout, shape, rng):
    measured = (*shape, layout.measured)
    return ColumnObservation(
        mean=jnp.asarray(rng.normal(size=measured), jnp.float32),
        log_var=jnp.asarray(rng.uniform(-2, 2, measured), jnp.float32),
        logits=jnp.asarray(rng.normal(size=(*shape, layout.logits)), jnp.float32),
        constants=constants_of(layout),
        layout=layout,
    )


def assert_allclose(actual, expected):
    np.testing.assert_allclose(actual, expected, rtol=RTOL, atol=ATOL)


@pytest.fixture
def case(rng):
    return rows_of(LAYOUT, (40,), rng), observation_of(LAYOUT, (40,), rng)


def test_a_number_has_the_gaussian_density(case):
    x, observation = case
    expected = log_prob_per_dimension(x[:, :2], observation.mean[:, :2], observation.log_var[:, :2])
    np.testing.assert_array_equal(log_prob(observation, x)[:, :2], expected)


@pytest.mark.parametrize("column", [0, 1], ids=["as it is", "logarithm"])
def test_a_count_has_the_probability_of_its_bin(rng, column):
    observation = observation_of(LAYOUT, (len(COUNTS),), rng)
    x = np.full((len(COUNTS), LAYOUT.parts), np.nan)
    x[:, 2:4] = standardised(COUNTS)
    found = log_prob(observation, jnp.asarray(x, jnp.float32))[:, 2 + column]

    count = COUNTS[:, column].astype(np.float64)
    edges = [count - 0.5, count + 0.5]
    if COUNT_LOG[column]:
        edges = [np.log1p(edge) for edge in edges]
    below, above = ((edge - COUNT_MEAN[column]) / COUNT_SD[column] for edge in edges)
    mean, log_var = (np.asarray(of[:, 2 + column], np.float64) for of in (observation.mean, observation.log_var))
    logistic = stats.logistic(mean, np.exp(log_var / 2) / LOGISTIC_SD)
    # The smaller of both tails, or the difference of two numbers near 1 would have no digits.
    inside = np.where(below > mean, logistic.sf(below) - logistic.sf(above), logistic.cdf(above) - logistic.cdf(below))
    expected = np.where(count == 0, logistic.logcdf(above), np.log(inside))
    # A count is kept standardised in float32, which leaves its place an error of 1e-7 of the largest.
    np.testing.assert_allclose(found, expected, rtol=1e-4)


def test_a_counts_variance_is_that_of_its_logistic():
    assert_allclose(stats.logistic.std(), LOGISTIC_SD)


def test_probabilities_of_all_counts_add_up_to_1(rng):
    observation = observation_of(LAYOUT, (1,), rng)
    counts = np.arange(3000)
    x = np.full((len(counts), LAYOUT.parts), np.nan)
    x[:, 2:4] = standardised(np.stack([counts, counts], 1))
    wide = jax.tree.map(lambda of: jnp.repeat(of, len(counts), 0) if of.ndim == 2 else of, observation)
    probability = jnp.exp(log_prob(wide, jnp.asarray(x, jnp.float32))[:, 2:4]).sum(0)
    np.testing.assert_allclose(probability, 1, rtol=1e-3)  # the logarithm's tail has a thousandth beyond 3,000


@pytest.mark.parametrize("count", [-3.0, -1.0, 1e6])
def test_a_count_that_is_none_is_finite_in_value_and_gradient(rng, count):
    observation = observation_of(LAYOUT, (1,), rng)
    x = np.full((1, LAYOUT.parts), np.nan)
    with np.errstate(divide="ignore", invalid="ignore"):
        x[:, 2:4] = np.clip(np.nan_to_num(standardised(np.full((1, 2), count)), nan=-10), -10, 10)
    value, gradient = value_and_gradient(observation, jnp.asarray(x, jnp.float32))
    assert np.isfinite(value)
    assert all(np.isfinite(leaf).all() for leaf in gradient)


def test_yes_and_no_share_what_unknown_leaves(case):
    x, observation = case
    logits = np.asarray(observation.logits[:, :2], np.float64)
    unknown = np.array(UNKNOWN_SHARE)
    given = np.asarray(x[:, 4:6])
    answered = np.log1p(-unknown) + stats.bernoulli.logpmf(given == 1, special.expit(logits))
    assert set(given.ravel()) == {0, 1, UNKNOWN}
    assert_allclose(log_prob(observation, x)[:, 4:6], np.where(given == UNKNOWN, np.log(unknown), answered))


def test_a_category_has_the_softmax_of_its_logits(case):
    x, observation = case
    logits = np.split(np.asarray(observation.logits, np.float64), [2, 6, 10], axis=1)[1:]
    for part, of_levels in enumerate(logits, start=6):
        level = np.asarray(x[:, part]).astype(int)
        expected = special.log_softmax(of_levels, axis=1)[np.arange(len(x)), level]
        assert_allclose(log_prob(observation, x)[:, part], expected)


@pytest.mark.parametrize("level", [-1.0, 50.0])
def test_a_level_that_there_is_not_has_no_probability(case, level):
    x, observation = case
    other = x.at[:, 6].set(level)
    for smoothed in (False, True):
        found = log_prob(observation, other, smoothed=smoothed)
        np.testing.assert_array_equal(found[:, 6], np.full(len(x), -np.inf))
        np.testing.assert_array_equal(found[:, 7:], log_prob(observation, x, smoothed=smoothed)[:, 7:])


def test_levels_that_only_fill_up_have_no_probability_at_the_start(rng):
    vae, params = new_model(LAYOUT)
    observation = decode(vae, params, jnp.asarray(rng.normal(size=(5, 2)), jnp.float32))
    levels = np.split(np.asarray(observation.logits), [2, 6, 10], axis=1)[1:]
    for of_levels, shares in zip(levels, SHARES, strict=True):
        filling = special.softmax(of_levels, axis=1)[:, np.array(shares) == 0]
        # The weights of five random rows move a logit by a few units.
        assert (filling < 1e3 * NO_LEVEL).all()


def test_smoothing_mixes_in_the_frequencies(case):
    x, observation = case
    x = jnp.where(x == UNKNOWN, x - (jnp.arange(LAYOUT.parts) < 6)[None], x)  # answers that are known
    weights = 0.1 * observation.constants.frequencies
    constants = observation.constants._replace(smoothing=weights.at[:2].mul(0.1))  # of answers 1 %, of levels 10 %
    observation = observation.replace(constants=constants)
    smoothed, plain = log_prob(observation, x, smoothed=True), log_prob(observation, x)
    np.testing.assert_array_equal(smoothed[:, :4], plain[:, :4])
    for answer, share in enumerate((0.7, 0.1)):
        yes, no = (log_prob(observation, x.at[:, 4 + answer].set(value))[:, 4 + answer] for value in (1, 0))
        expected = 0.99 * plain[:, 4 + answer] + 0.01 * (share * yes + (1 - share) * no)
        assert_allclose(smoothed[:, 4 + answer], expected)
    for part, shares in enumerate(SHARES, start=6):
        of_levels = [log_prob(observation, x.at[:, part].set(level))[:, part] for level in range(len(shares))]
        expected = 0.9 * plain[:, part] + 0.1 * sum(s * of for s, of in zip(shares, of_levels, strict=True))
        assert_allclose(smoothed[:, part], expected)


def test_the_reconstruction_term_is_minus_the_smoothed_sum(case):
    x, observation = case
    assert_allclose(jax.jit(column_likelihood)(x, observation), -log_prob(observation, x, smoothed=True).sum(-1))


@jax.jit
def value_and_gradient(observation, x):
    """The sum of log probabilities, and its gradients by mean, log variance and logits."""

    def total(mean, log_var, logits):
        return observation.replace(mean=mean, log_var=log_var, logits=logits).log_prob(x, smoothed=True).sum()

    return jax.value_and_grad(total, (0, 1, 2))(observation.mean, observation.log_var, observation.logits)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_gaps_have_no_part_in_value_and_gradient(rng, layout):
    x, observation = rows_of(layout, (30,), rng), observation_of(layout, (30,), rng)
    gap = rng.random(x.shape) < 0.4
    gap[:3] = True
    with_gaps = jnp.where(gap, jnp.nan, x)
    found = log_prob(observation, with_gaps)
    np.testing.assert_array_equal(found, jnp.where(gap, 0.0, log_prob(observation, x)))

    value, (by_mean, by_log_var, by_logits) = value_and_gradient(observation, with_gaps)
    assert np.isfinite(value)
    hidden_inputs = [gap[:, [p]] for p in range(layout.parts)]
    measured = gap[:, : layout.measured]
    logits = [hidden_inputs[layout.measured + a] for a in range(layout.answers)]
    first = layout.measured + layout.answers
    logits += [hidden_inputs[first + c].repeat(levels, 1) for c, levels in enumerate(layout.levels)]
    for gradient, hidden in ((by_mean, measured), (by_log_var, measured), (by_logits, logits)):
        hidden = np.concatenate(hidden, 1) if isinstance(hidden, list) and hidden else np.asarray(hidden)
        assert np.isfinite(gradient).all()
        if gradient.size:
            assert (np.asarray(gradient)[hidden] == 0).all()
            assert (np.asarray(gradient)[~hidden] != 0).mean() > 0.5


@functools.cache
def new_model(layout):
    vae = column_vae(layout, (6,), latent_dim=2)
    return vae, fit_column_constants(random_params(vae, layout.parts), constants_of(layout))


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_whole_row_of_gaps_trains_without_nan(rng, layout):
    vae, params = new_model(layout)
    x = rows_of(layout, (8,), rng).at[:2].set(jnp.nan)

    def loss(params, x):
        _, observation = vae.apply(params, x, jnp.zeros((len(x), 2)))
        return column_likelihood(x, observation).sum()

    value_and_grad = jax.jit(jax.value_and_grad(loss))
    value, gradient = value_and_grad(params, x)
    assert np.isfinite(value)
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(gradient))
    assert all((leaf == 0).all() for leaf in jax.tree.leaves(gradient["bounds"]))
    value, gradient = value_and_grad(params, jnp.full_like(x, jnp.nan))
    assert value == 0
    assert all((leaf == 0).all() for leaf in jax.tree.leaves(gradient))


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("shape", [(), (2, 3)])
def test_any_batch_axes_lead(rng, layout, shape):
    vae, params = new_model(layout)
    x = rows_of(layout, shape, rng)
    posterior = encode(vae, params, x)
    assert posterior.mean.shape == posterior.log_var.shape == (*shape, 2)
    observation = decode(vae, params, posterior.mean)
    assert observation.mean.shape == observation.log_var.shape == (*shape, layout.measured)
    assert observation.logits.shape == (*shape, layout.logits)
    found = log_prob(observation, x)
    assert found.shape == (*shape, layout.parts)
    assert found.dtype == jnp.float32
    flat = log_prob(decode(vae, params, posterior.mean.reshape(-1, 2)), x.reshape(-1, layout.parts))
    assert_allclose(found.reshape(flat.shape), flat)


def test_log_variances_stay_within_the_constants(rng):
    vae, params = new_model(LAYOUT)
    highest = jnp.array([0.0, 1.0, 2.0, 3.0])
    params = fit_column_constants(params, constants_of(LAYOUT)._replace(highest_log_var=highest))
    log_var = decode(vae, params, jnp.asarray(1e3 * rng.normal(size=(50, 2)), jnp.float32)).log_var
    # Rounding of the bound.
    assert (log_var <= highest[None] + 1e-5).all()
    assert (log_var >= OBSERVATION_LOG_VAR[0] - 1e-5).all()


def test_the_encoders_input_by_hand():
    layout = ColumnLayout(numbers=1, counts=1, answers=3, levels=(4, 4))
    x = jnp.array([[0.5, -2.0, 1, 0, UNKNOWN, 0, 3], [*[jnp.nan] * 7], [0.0, jnp.nan, jnp.nan, 1, 0, jnp.nan, 1]])
    expected = [
        [0.5, -2, 1, -1, 0, *[0, 0, 0, 0, 0], *[1, 0, 0, 0], *[0, 0, 0, 1]],
        [0, 0, 0, 0, 0, *[1, 1, 1, 1, 1], *[0, 0, 0, 0], *[0, 0, 0, 0]],
        [0, 0, 0, 1, -1, *[0, 1, 1, 0, 0], *[0, 0, 0, 0], *[0, 1, 0, 0]],
    ]
    found = expand(layout, x)
    np.testing.assert_array_equal(found, expected)
    assert found.shape[1] == layout.inputs
    np.testing.assert_array_equal(expand(layout, x[:, None, :])[:, 0], expected)
    # Without masks, and without the levels that none or all rows have.
    without = np.array(expected, np.float32)[:, [0, 1, 2, 3, 4, 10, 15, 17]]
    np.testing.assert_array_equal(dense(layout, np.asarray(x)), without)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_the_encoders_input_is_as_wide_as_told(rng, layout):
    assert expand(layout, rows_of(layout, (5,), rng)).shape == (5, layout.inputs)


def test_in_training_a_tenth_is_hidden_and_numbers_have_noise(rng):
    vae, _ = new_model(LAYOUT)
    x = rows_of(LAYOUT, (20_000,), rng).at[0].set(jnp.nan)
    noise = jnp.asarray(rng.normal(size=x.shape), jnp.float32)
    found = np.asarray(vae.corrupt(x, noise, 0.3))
    hidden = np.isnan(found)
    assert hidden[0].all()
    # Four standard deviations of a mean of 20,000 cells.
    np.testing.assert_allclose(hidden[1:].mean(0), HIDDEN, atol=4 * np.sqrt(HIDDEN * (1 - HIDDEN) / 20_000))
    numbers, others = np.s_[:, : LAYOUT.measured], np.s_[:, LAYOUT.measured :]
    np.testing.assert_array_equal(found[others][~hidden[others]], np.asarray(x)[others][~hidden[others]])
    added = (found - np.asarray(x))[numbers][~hidden[numbers]]
    # Seven standard deviations of the mean and of the standard deviation of that many independent numbers.
    assert abs(added.mean()) < 7 * 0.3 / np.sqrt(added.size)
    assert abs(added.std() - 0.3) < 7 * 0.3 / np.sqrt(2 * added.size)


def test_without_a_scale_cells_are_hidden_and_nothing_else(rng):
    vae, _ = new_model(LAYOUT)
    x = rows_of(LAYOUT, (50,), rng)
    found = vae.corrupt(x, jnp.asarray(rng.normal(size=x.shape), jnp.float32), 0.0)
    assert np.isnan(found).any()
    np.testing.assert_array_equal(found, jnp.where(jnp.isnan(found), found, x))


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_new_model_begins_at_the_frequencies(layout):
    vae, params = new_model(layout)
    constants = constants_of(layout)
    # Without kernels, so that biases are left.
    params = jax.tree.map(lambda leaf: 0 * leaf if leaf.ndim == 2 else leaf, params)
    observation = decode(vae, params, jnp.zeros((1, 2)))
    kept = ColumnConstants.divided(layout, params["bounds"]["decoder"]["constants"])
    np.testing.assert_array_equal(kept.frequencies, constants.frequencies)
    logits = np.asarray(observation.logits[0], np.float64)
    probabilities = [*special.expit(logits[: layout.answers])]
    place = layout.answers
    for levels in layout.levels:
        probabilities += [*special.softmax(logits[place : place + levels])]
        place += levels
    assert_allclose(np.array(probabilities), constants.frequencies)


def test_constants_are_not_trained(rng):
    state = trained(rng, epochs=1)
    constants = ColumnConstants.divided(RARE, state.params["bounds"]["decoder"]["constants"])
    for found, expected in zip(constants, RARE_CONSTANTS, strict=True):
        np.testing.assert_array_equal(found, expected)


RARE = ColumnLayout(numbers=1, answers=1, levels=(4,))
RARE_SHARE = 1 / 500
RARE_CONSTANTS = ColumnConstants.of(RARE)._replace(
    frequencies=jnp.array([RARE_SHARE, 0.6 - RARE_SHARE, 0.4, RARE_SHARE, 0.0]),
    smoothing=jnp.array([SMOOTHING * RARE_SHARE, 0.006, 0.004, RARE_SHARE, 0.0]),
    unknown=jnp.array([RARE_SHARE]),
)


def trained(rng, epochs):
    """A model of rows that tell the category by a number, without any yes and any rare value."""
    level = (rng.random(512) < 0.4).astype(np.float32)
    x = np.stack([2 * level - 0.8 + 0.3 * rng.normal(size=512), np.zeros(512), level], 1).astype(np.float32)
    vae = column_vae(RARE, (8,), latent_dim=1)
    objective = Objective(column_likelihood, input_noise=0.3)
    state = create_train_state(jax.random.key(0), vae, objective, optax.nadam(1e-2), (3,))
    state = state.replace(params=fit_column_constants(state.params, RARE_CONSTANTS))
    state = state.replace(opt_state=state.optimizer.init(state.params))
    epoch = jax.jit(train_epoch, static_argnums=2)
    for _ in range(epochs):
        state, info = epoch(state, jnp.asarray(x), 64)
        assert np.isfinite(info["loss"]).all()
    return state


def test_what_training_never_saw_keeps_a_probability(rng):
    state = trained(rng, epochs=75)  # 600 steps
    observation = decode(state.vae, state.params, jnp.linspace(-1, 1, 41)[:, None])
    logits = np.asarray(observation.logits, np.float64)
    levels = special.softmax(logits[:, 1:], axis=1)
    assert levels[:, 0].max() > 0.9  # it has learned to tell the levels apart
    assert levels[:, 1].max() > 0.9
    # The minimum is where smoothing puts it: a level at its share, a yes at a hundredth of it.
    for never_seen, minimum in ((special.expit(logits[:, 0]), SMOOTHING * RARE_SHARE), (levels[:, 2], RARE_SHARE)):
        assert (never_seen > 0.1 * minimum).all()
        assert (never_seen < 2 * RARE_SHARE).all()
    assert 0.3 * RARE_SHARE < np.median(levels[:, 2]) < 3 * RARE_SHARE


def test_levels_are_in_ascending_order():
    with pytest.raises(ValueError, match=r"levels=\(8, 4\): expected in ascending order"):
        ColumnLayout(levels=(8, 4))


def test_a_layout_made_with_lists_is_the_one_made_with_tuples():
    listed = ColumnLayout(numbers=1, levels=[4, 8])
    assert listed == ColumnLayout(numbers=1, levels=(4, 8))
    assert hash(column_vae(listed, [8])) == hash(column_vae(listed, (8,)))


def test_categories_of_equally_many_levels_are_together():
    layout = ColumnLayout(numbers=1, answers=2, levels=(4, 4, 8, 16, 16))
    assert list(layout.categories()) == [(3, 2, 4, 2), (5, 1, 8, 10), (6, 2, 16, 18)]
    assert list(ColumnLayout(numbers=1).categories()) == []
