"""Steps and epochs: pure, compiled once, and cut anywhere without a trace."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from helpers import (
    FEATURES,
    assert_close,
    assert_same,
    compilations,
    numpy_decode,
    numpy_encode,
    stack,
    tiny_data,
    tiny_state,
    to_numpy,
)
from scipy import stats

from vae_jax.distributions import kl_standard_normal
from vae_jax.networks import bound_sd, dense_vae
from vae_jax.objectives import Objective, gaussian
from vae_jax.training import (
    active_latents,
    batch_noise,
    create_train_state,
    stream_key,
    train_epoch,
    train_step,
    validate,
)
from vae_jax.training.permutation import random_permutation

pytestmark = pytest.mark.usefixtures("compiled_well")

# 3 steps of 8 rows, and 2 rows that are left out.
ROWS, BATCH, STEPS = 26, 8, 3


@pytest.fixture(scope="module")
def state():
    return tiny_state()


@pytest.fixture(scope="module")
def data():
    return tiny_data(ROWS)


# All tests call these two with the same shapes, so that each is compiled once.
@pytest.fixture(scope="module")
def step():
    return jax.jit(lambda *args: train_step(*args))


@pytest.fixture(scope="module")
def epoch():
    return jax.jit(lambda *args: train_epoch(*args, BATCH))


@pytest.fixture(scope="module")
def compiled_validate():
    return jax.jit(validate)


def test_create_train_state_depends_on_the_key_alone(state):
    # Compiled as one, which takes less time than compiling each of its operations.
    create = jax.jit(
        lambda seed: create_train_state(
            jax.random.key(seed), state.vae, state.objective, state.optimizer, event_shape=(FEATURES,)
        )
    )
    first, other = create(0), create(1)
    assert first.step == 0
    assert first.step.dtype == jnp.int32
    assert_same(first.key, jax.random.key(0))
    assert jax.tree.structure(first) == jax.tree.structure(state)
    assert_same(create(0), first)
    kernel, other_kernel = (made.params["params"]["encoder"]["mean"]["kernel"] for made in (first, other))
    assert not np.array_equal(kernel, other_kernel)
    assert_same(first.opt_state, state.optimizer.init(first.params))


def test_the_callers_key_outlives_a_donated_state(state):
    key = jax.random.key(5)
    created = create_train_state(key, state.vae, state.objective, state.optimizer, (FEATURES,))
    jax.jit(lambda state: state.replace(step=state.step + 1), donate_argnums=0)(created)
    assert_same(key, jax.random.key(5))


def test_train_step_is_pure(state, data, step):
    before = to_numpy(state)
    key = jax.random.key(1)
    first, second = step(state, data[:BATCH], key), step(state, data[:BATCH], key)
    assert_same(first, second)
    for (name, old), (_, now) in zip(before, to_numpy(state), strict=True):
        np.testing.assert_array_equal(old, now, err_msg=name)
    # And it did take a step.
    assert first[0].step == 1
    bias, bias_after = (made.params["params"]["decoder"]["mean"]["bias"] for made in (state, first[0]))
    assert not np.array_equal(bias, bias_after)
    assert_same(first[0].key, state.key)


def test_train_step_jitted_equals_eager(data):
    # The smallest of models, because every operation of an eager step is compiled by itself.
    state = tiny_state(objective=Objective(), optimizer=optax.sgd(0.1), learned_variance=False, hidden=())
    key = jax.random.key(1)
    jitted, eager = (function(state, data[:BATCH], key) for function in (jax.jit(train_step), train_step))
    # float32 rounding in another order; parameters and loss are of order 1.
    assert_close(jitted, eager, atol=1e-6, rtol=1e-6)


def test_train_step_is_the_optimisers_step_along_the_gradient_of_the_mean_loss(data):
    # Everything that the objective can change, at half of the KL's warm-up.
    objective = Objective(gaussian, weight=2.0, kl_warmup_steps=10, input_noise=0.5)
    state = tiny_state(objective=objective, optimizer=optax.sgd(0.1)).replace(step=jnp.int32(5))
    key, batch = jax.random.key(1), data[:BATCH]
    noise_key, input_key = jax.random.split(key)
    noise, input_noise = jax.random.normal(noise_key, (BATCH, 2)), jax.random.normal(input_key, batch.shape)

    def mean_loss(params):
        # The encoder sees the noise, but the clean row is to be returned.
        posterior, observation = state.vae.apply(params, batch + 0.5 * input_noise, noise)
        kl = kl_standard_normal(posterior.mean, posterior.log_var).mean()
        reconstruction = gaussian(batch, observation).mean()
        # The loss that is told has the whole KL.
        info = {"loss": 2 * reconstruction + kl, "reconstruction": reconstruction, "kl": kl}
        return 2 * reconstruction + 0.5 * kl, info

    gradient, expected_info = jax.jit(jax.grad(mean_loss, has_aux=True))(state.params)
    after, info = jax.jit(train_step)(state, batch, key)
    # float32 rounding of numbers of order 1 and 10, compiled in two ways.
    assert_close(after.params, jax.tree.map(lambda p, g: p - 0.1 * g, state.params, gradient), atol=1e-6)
    assert_close(info, expected_info, atol=1e-6, rtol=1e-6)


def test_weight_decay_leaves_the_bounds_of_a_decoder_alone(data):
    vae = dense_vae(FEATURES, (4,), learned_variance=True, bounded=True)
    optimizer = optax.adamw(0.01, weight_decay=0.5)
    state = create_train_state(jax.random.key(0), vae, Objective(gaussian), optimizer, (FEATURES,))
    state = state.replace(params=bound_sd(state.params, 2.0 + jnp.arange(FEATURES)))
    after, _ = jax.jit(train_step)(state, data, jax.random.key(1))
    assert_same(after.params["bounds"], state.params["bounds"])
    kernel = state.params["params"]["decoder"]["mean"]["kernel"]
    assert (after.params["params"]["decoder"]["mean"]["kernel"] != kernel).all()


def test_training_drives_the_loss_down(data, state, epoch, compiled_validate):
    first, losses = compiled_validate(state, data)["loss"], []
    for _ in range(60):
        state, info = epoch(state, data)
        losses.append(np.mean(info["loss"]))
    # The rows lie near a line: most of their variance can be explained.
    assert np.mean(losses[-5:]) < first - 2
    assert compiled_validate(state, data)["loss"] < first - 2


def test_no_second_compilation(state, data, step, epoch):
    after = state
    batch, keys = data[:BATCH], [stream_key(state.key, "noise", number) for number in range(3)]
    for number in range(3):
        before = compilations()
        after, _ = step(after, batch, keys[number])
        assert compilations() == before or number == 0
    assert step._cache_size() == 1
    after = state
    for number in range(3):
        before = compilations()
        after, _ = epoch(after, data)
        assert compilations() == before or number == 0
    assert epoch._cache_size() == 1


def test_an_epoch_is_its_steps_in_a_loop(state, data, step, epoch):
    looped, infos = state, []
    for number in range(2):
        order = random_permutation(stream_key(state.key, "shuffle", number), ROWS)
        for rows in order[: STEPS * BATCH].reshape(STEPS, BATCH):
            looped, info = step(looped, data[rows], stream_key(state.key, "noise", looped.step))
            infos.append(info)
    first, info_first = epoch(state, data)
    second, info_second = epoch(first, data)
    assert second.step == 2 * STEPS
    assert info_first["loss"].shape == (STEPS,)
    # The same arithmetic, compiled inside and outside of a scan; parameters are of order 1.
    assert_close(second, looped, atol=1e-6, rtol=1e-6)
    for name in ("loss", "reconstruction", "kl"):
        scanned = np.concatenate([info_first[name], info_second[name]])
        np.testing.assert_allclose(scanned, [info[name] for info in infos], rtol=1e-5, atol=1e-6)


def test_a_run_can_be_cut_after_any_epoch(state, data, epoch):
    half, _ = epoch(state, data)
    straight, info_straight = epoch(half, data)
    # All that survives a cut is arrays: the rest is built anew.
    key_data, *arrays = jax.device_get((jax.random.key_data(half.key), half.step, half.params, half.opt_state))
    step, params, opt_state = jax.tree.map(jnp.array, arrays)
    key = jax.random.wrap_key_data(key_data)
    continued = tiny_state(seed=99).replace(step=step, params=params, opt_state=opt_state, key=key)
    continued, info_continued = epoch(continued, data)
    assert_same(continued, straight)
    assert_same(info_continued, info_straight)


def test_each_epoch_uses_each_row_at_most_once_in_a_new_order():
    # Row i is the number 2^i, and the "reconstruction" is the row itself: a batch's mean, times its size, is then a
    # sum in which every bit tells of one row. float32 holds 24 bits exactly.
    rows, batch, steps = 11, 4, 2
    data = jnp.exp2(jnp.arange(rows, dtype=jnp.float32))[:, None]
    objective = Objective(lambda x, observation: x[:, 0])
    state = create_train_state(jax.random.key(0), dense_vae(1, (2,), 1), objective, optax.set_to_zero(), (1,))
    epoch = jax.jit(functools.partial(train_epoch, batch_size=batch))
    epochs = []
    for _ in range(6):
        state, info = epoch(state, data)
        sums = [int(value) for value in np.asarray(info["reconstruction"]) * batch]
        used = [[row for row in range(rows) if total >> row & 1] for total in sums]
        assert [len(rows_of_step) for rows_of_step in used] == [batch] * steps
        assert len(set(used[0]) | set(used[1])) == steps * batch
        epochs.append(used)
    assert len({str(used) for used in epochs}) == 6
    # No row is always left out: 3 of 11 are in one epoch, which for the same row six times over is one in 2,400.
    assert {row for used in epochs for rows_of_step in used for row in rows_of_step} == set(range(rows))


def test_stream_key_depends_on_each_of_its_arguments():
    calls = [
        (key, stream, step)
        for key in (0, 1)
        for stream in ("noise", "shuffle", "validation", "init")
        for step in (0, 1, 2)
    ]
    keys = {
        tuple(np.asarray(jax.random.key_data(stream_key(jax.random.key(key), stream, step))).tolist())
        for key, stream, step in calls
    }
    assert len(keys) == len(calls) == 24


def test_stream_key_is_the_same_at_every_call_and_when_compiled():
    key = jax.random.key(5)
    assert_same(stream_key(key, "noise", 7), stream_key(key, "noise", 7))
    assert_same(jax.jit(lambda step: stream_key(key, "noise", step))(jnp.int32(7)), stream_key(key, "noise", 7))
    assert_same(stream_key(key, "noise"), stream_key(key, "noise", 0))
    # crc32("noise"), worked out elsewhere: it must not change between processes or versions.
    assert_same(stream_key(key, "noise", 7), jax.random.fold_in(jax.random.fold_in(key, 0xFDA99629), 7))


def test_batch_noise_is_standard_normal_and_follows_its_key():
    noise = batch_noise(jax.random.key(0), 5000, (2, 1))
    assert noise.shape == (5000, 2, 1)
    # Four standard errors of a mean and of a variance over 10,000 draws.
    assert abs(np.mean(noise)) < 0.04
    assert abs(np.var(noise) - 1) < 4 * np.sqrt(2 / 10_000)
    assert_same(noise, batch_noise(jax.random.key(0), 5000, (2, 1)))


def test_vmapped_models_equal_single_ones(data, epoch):
    singles = [tiny_state(seed) for seed in (3, 4)]
    epochs = jax.jit(jax.vmap(functools.partial(train_epoch, batch_size=BATCH), in_axes=(0, None)))
    trained, info = epochs(stack(*singles), data)
    for model, single in enumerate(singles):
        expected, expected_info = epoch(single, data)
        # Batched matrix products may sum in another order; parameters are of order 1.
        for (name, all_models), (_, one) in zip(to_numpy(trained), to_numpy(expected), strict=True):
            np.testing.assert_allclose(all_models[model], one, atol=1e-5, err_msg=name)
        np.testing.assert_allclose(info["loss"][model], expected_info["loss"], rtol=1e-5)


def test_validate_is_the_same_at_every_call_and_at_every_step(state, data, epoch, compiled_validate):
    validate = compiled_validate
    first = validate(state, data)
    assert_same(validate(state, data), first)
    # The noise does not depend on the step: only the parameters do.
    trained, _ = epoch(state, data)
    assert_same(validate(trained.replace(params=state.params), data), first)
    assert validate(trained, data)["loss"] != first["loss"]


def test_validate_measures_means_over_the_rows(state, data, compiled_validate):
    x, noise = np.asarray(data), np.asarray(jax.random.normal(stream_key(state.key, "validation"), (ROWS, 2)))
    mean, log_var = numpy_encode(state.params, x)
    decoded, decoded_log_var = numpy_decode(state.params, mean + np.exp(log_var / 2) * noise)
    reconstruction = -stats.norm.logpdf(x, decoded, np.exp(decoded_log_var / 2)).sum(1).mean()
    kl = 0.5 * (mean**2 + np.exp(log_var) - 1 - log_var).sum(1).mean()
    measured = compiled_validate(state, data)
    assert set(measured) == {"loss", "reconstruction", "kl", "active_latents"}
    # float32 against float64.
    np.testing.assert_allclose(measured["reconstruction"], reconstruction, rtol=1e-5)
    np.testing.assert_allclose(measured["kl"], kl, rtol=1e-5)
    np.testing.assert_allclose(measured["loss"], reconstruction + kl, rtol=1e-5)
    assert measured["active_latents"] == (mean.var(0) > 0.01).sum()


def test_active_latents():
    # Population variances: 0, just below 0.01, just above it, and 1; a large mean is not a variance.
    sign = jnp.array([[-1.0], [1.0]])
    means = jnp.array([[100.0, 0.0, 0.0, 5.0]]) + sign * jnp.array([[0.0, 0.099, 0.101, 1.0]])
    np.testing.assert_array_equal(active_latents(means), [False, False, True, True])


def test_input_noise_reaches_the_encoder_alone():
    """With a decoder that ignores z, corrupting the encoder's input leaves the reconstruction as it was."""
    clean = tiny_state()
    noisy = clean.replace(objective=clean.objective.replace(input_noise=0.5))
    deaf = jax.tree_util.tree_map_with_path(
        lambda path, leaf: leaf * 0 if "decoder" in str(path) and "Dense_0" in str(path) else leaf, clean.params
    )
    data, key = tiny_data(BATCH), jax.random.key(1)
    info_clean = train_step(clean.replace(params=deaf), data, key)[1]
    info_noisy = train_step(noisy.replace(params=deaf), data, key)[1]
    assert info_noisy["reconstruction"] == info_clean["reconstruction"]
    assert info_noisy["kl"] != info_clean["kl"]
    assert validate(noisy, data) == validate(clean, data)
