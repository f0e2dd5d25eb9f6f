"""Epochs in parts, batches from outside, and pixels as bytes: the same steps, in every bit."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from helpers import FEATURES, assert_close, assert_same, compilations, tiny_data, tiny_state
from jax.sharding import NamedSharding, PartitionSpec

from vae_jax.objectives import Objective, gaussian
from vae_jax.training import (
    as_float,
    binarise,
    epoch_order,
    evaluate,
    stream_key,
    train_batches,
    train_epoch,
    train_step,
    train_steps,
)
from vae_jax.training.epoch import epoch_batches, train_in_order
from vae_jax.training.parallel import AXIS, compile_parallel, data_mesh, replicate, replicated
from vae_jax.training.permutation import random_permutation

pytestmark = pytest.mark.usefixtures("compiled_well")

# 6 steps of 8 rows, and 3 rows that are left out.
ROWS, BATCH, STEPS = 51, 8, 6
# An epoch in parts. A scan of a single step is compiled in another way, and from JAX 0.12 on it rounds in another way.
PARTS = (5, 1) if jax.__version_info__ < (0, 12) else (4, 2)


@pytest.fixture(scope="module")
def state():
    # With noise on the encoder's input and a KL that changes with the step: all that could tell two steps apart.
    return tiny_state(objective=Objective(gaussian, input_noise=0.3, kl_warmup_steps=20), hidden=())


@pytest.fixture(scope="module")
def data():
    return tiny_data(ROWS)


# Compiled once for each number of steps.
@pytest.fixture(scope="module")
def steps():
    return jax.jit(partial(train_steps, batch_size=BATCH), static_argnames="num_steps")


@pytest.fixture(scope="module")
def epoch():
    return jax.jit(partial(train_epoch, batch_size=BATCH))


@pytest.fixture(scope="module")
def batches():
    return jax.jit(train_batches)


def in_parts(state, parts, advance):
    """Calls `advance(state, first, count)` for each part; the last state, and the info of all steps."""
    infos, first = [], 0
    for count in parts:
        state, info = advance(state, first, count)
        infos.append(info)
        first += count
    return state, {name: np.concatenate([info[name] for info in infos]) for name in infos[0]}


def rows_of(state, data, first, count):
    """The batches of these steps, gathered on the host."""
    epoch, within = divmod(first, STEPS)
    order = np.asarray(epoch_order(state.key, epoch, len(data)))[: STEPS * BATCH].reshape(STEPS, BATCH)
    return np.asarray(data)[order[within : within + count]]


def two_epochs(state, data, epoch):
    middle, first = epoch(state, data)
    end, second = epoch(middle, data)
    return middle, end, {name: np.concatenate([first[name], second[name]]) for name in first}


def test_epoch_order_is_a_permutation_of_its_own_for_each_epoch():
    key = jax.random.key(3)
    orders = [np.asarray(epoch_order(key, number, ROWS)) for number in range(3)]
    for order in orders:
        np.testing.assert_array_equal(np.sort(order), np.arange(ROWS))
    assert len({order.tobytes() for order in [*orders, np.asarray(epoch_order(jax.random.key(4), 0, ROWS))]}) == 4
    assert_same(epoch_order(key, 1, ROWS), orders[1])
    assert_same(jax.jit(epoch_order, static_argnums=2)(key, jnp.int32(1), ROWS), orders[1])
    assert_same(orders[1], random_permutation(stream_key(key, "shuffle", 1), ROWS))


def test_an_epoch_in_parts_is_the_epoch(state, data, steps, epoch):
    middle, end, expected = two_epochs(state, data, epoch)
    after, info = in_parts(state, PARTS, lambda state, _, count: steps(state, data, num_steps=count))
    assert after.step == STEPS
    assert_same(after, middle)
    # And into the next one, whose order is another.
    after, info_second = in_parts(after, PARTS, lambda state, _, count: steps(state, data, num_steps=count))
    assert after.step == 2 * STEPS
    assert_same(after, end)
    for name, values in expected.items():
        np.testing.assert_array_equal(np.concatenate([info[name], info_second[name]]), values)
    assert info["loss"].shape == (STEPS,)
    assert not np.isin(info["loss"], info_second["loss"]).any()


def test_a_batch_of_more_than_all_examples_is_refused(state, data, mesh):
    message = f"^batch_size={ROWS + 1}: expected at most {ROWS}, the number of examples"
    of_devices = compile_parallel(
        partial(train_epoch, batch_size=ROWS + 1, axis_name=AXIS), mesh, (replicated, replicated), STATE_AND_INFO
    )
    for call in (
        lambda: train_epoch(state, data, ROWS + 1),
        lambda: train_steps(state, data, ROWS + 1, num_steps=1),
        lambda: epoch_batches(state.key, 0, ROWS, ROWS + 1),
        lambda: of_devices(state, data),
    ):
        with pytest.raises(ValueError, match=message):
            call()
    assert epoch_batches(state.key, 0, ROWS, ROWS).shape == (1, ROWS)


@pytest.mark.parametrize("batch_size", [0, -1])
def test_a_batch_of_nothing_is_refused(state, data, batch_size):
    with pytest.raises(ValueError, match=rf"^batch_size={batch_size}: expected at least 1"):
        train_epoch(state, data, batch_size)


def test_a_batch_without_examples_is_refused(state, data):
    with pytest.raises(ValueError, match="expected at least one example"):
        jax.eval_shape(train_step, state, data[:0], state.key)
    with pytest.raises(ValueError, match="expected at least one example"):
        jax.eval_shape(train_batches, state, data[None, :0])


def test_more_steps_than_an_epoch_has_are_refused(state, data):
    with pytest.raises(ValueError, match=r"^num_steps=2: expected at most 1, the steps of an epoch"):
        train_steps(state, data, len(data), num_steps=2)


def test_batches_from_outside_are_the_resident_steps(state, data, steps, batches):
    parts = PARTS + PARTS
    resident, expected = in_parts(state, parts, lambda state, _, count: steps(state, data, num_steps=count))
    streamed, info = in_parts(
        state, parts, lambda state, first, count: batches(state, rows_of(state, data, first, count))
    )
    assert_same(streamed, resident)
    assert_same(info, expected)
    # Other rows are other steps.
    other, _ = batches(state, rows_of(state, data, 1, 5))
    same, _ = batches(state, rows_of(state, data, 0, 5))
    kernels = [made.params["params"]["encoder"]["mean"]["kernel"] for made in (other, same)]
    assert not np.array_equal(*kernels)


def test_no_second_compilation(state, data, steps, batches):
    calls = [
        lambda state, first: steps(state, data, num_steps=1),
        lambda state, first: batches(state, rows_of(state, data, first, 1)),
    ]
    for call in calls:
        after, _ = call(state, 0)
        rows_of(state, data, 0, 1)  # compiles the order, if no other test has done so
        before = compilations()
        for first in (1, 2):
            after, _ = call(after, first)
        assert compilations() == before
        assert after.step == 3


# Four devices, each with two rows of every batch.
STATE_AND_INFO = (replicated, replicated)


@pytest.fixture(scope="module")
def mesh():
    return data_mesh()


@pytest.fixture(scope="module")
def resident_on_mesh(state, data, mesh):
    """One epoch in parts on the mesh, with the data whole on every device."""
    functions = {
        count: compile_parallel(
            partial(train_steps, batch_size=BATCH, num_steps=count, axis_name=AXIS),
            mesh,
            (replicated, replicated),
            STATE_AND_INFO,
        )
        for count in PARTS
    }
    rows = replicate(data, mesh)
    return in_parts(replicate(state, mesh), PARTS, lambda state, _, count: functions[count](state, rows))


def streamed_on_mesh(state, data, mesh):
    spec = PartitionSpec(None, AXIS)
    function = compile_parallel(partial(train_batches, axis_name=AXIS), mesh, (replicated, spec), STATE_AND_INFO)

    def advance(state, first, count):
        rows = jax.device_put(rows_of(state, data, first, count), NamedSharding(mesh, spec))
        assert {shard.data.shape for shard in rows.addressable_shards} == {(count, BATCH // 4, data.shape[1])}
        return function(state, rows)

    return in_parts(replicate(state, mesh), PARTS, advance), (function, advance)


def test_four_devices_agree_with_one(state, data, steps, resident_on_mesh):
    after, info = resident_on_mesh
    expected, expected_info = in_parts(state, PARTS, lambda state, _, count: steps(state, data, num_steps=count))
    assert after.step == expected.step == STEPS
    # Gradients are summed in another order; parameters are of order 1.
    assert_close(after.params, expected.params, atol=1e-6)
    assert_close(info, expected_info, atol=1e-6, rtol=1e-6)


def test_streamed_equals_resident_on_four_devices(state, data, mesh, resident_on_mesh):
    (after, info), (_, advance) = streamed_on_mesh(state, data, mesh)
    expected, expected_info = resident_on_mesh
    assert_same(after, expected)
    assert_same(info, expected_info)
    # Five steps were compiled for in the first part.
    compiled = compilations()
    again, _ = advance(after, STEPS, PARTS[0])
    assert compilations() == compiled
    assert again.step == STEPS + PARTS[0]


# Pixels


@pytest.fixture(scope="module")
def pixels():
    """Rows of bytes. Nothing here looks at their shape."""
    return np.random.default_rng(0).integers(0, 256, (ROWS, FEATURES), np.uint8)


def test_as_float_scales_bytes_and_nothing_else():
    scaled = as_float(jnp.arange(256).astype(jnp.uint8))
    assert scaled.dtype == jnp.float32
    np.testing.assert_allclose(scaled, np.arange(256) / 255, rtol=1e-7)
    for x in (jnp.array([0.5, 300.0]), jnp.array([1.0], jnp.bfloat16), jnp.array([3, 255])):
        assert as_float(x) is x


def test_bits_are_zeros_and_ones():
    np.testing.assert_array_equal(as_float(jnp.array([True, False])), np.array([1, 0], np.float32))
    assert as_float(jnp.array([True])).dtype == jnp.float32


def test_binarise_takes_whole_numbers_alone():
    with pytest.raises(ValueError, match=r"^pixels of dtype float32: expected uint8"):
        binarise(jax.random.key(0), jnp.full(3, 0.5))


def test_binarise_draws_each_bit_with_its_pixels_probability():
    pixels = jnp.repeat(jnp.arange(256).astype(jnp.uint8)[None], 20_000, axis=0)
    bits = binarise(jax.random.key(0), pixels)
    assert bits.dtype == bool
    share, expected = bits.mean(0), np.arange(256) / 255
    assert (share[0], share[255]) == (0, 1)
    assert (abs(share - expected) <= 5 * np.sqrt(expected * (1 - expected) / 20_000) + 1e-6).all()


def test_a_step_on_bytes_is_the_step_on_floats(pixels):
    # Plain gradient descent: Adam would make much of the last bit of a gradient near 0.
    state = tiny_state(objective=Objective(weight=10.0), optimizer=optax.sgd(0.1), learned_variance=False, hidden=())
    step, key, batch = jax.jit(train_step), jax.random.key(1), pixels[:BATCH]
    actual, info = step(state, batch, key)
    expected, expected_info = step(state, batch.astype(np.float32) / 255, key)
    # A division may be compiled as a product with the reciprocal, one unit in the last place apart.
    assert_close(actual, expected, atol=1e-6)
    assert_close(info, expected_info, atol=0, rtol=1e-6)
    # And it is not the step on 0..255.
    _, unscaled = step(state, batch.astype(np.float32), key)
    assert unscaled["reconstruction"] > 50 * info["reconstruction"]


def test_evaluate_on_bytes(state, pixels):
    measure = jax.jit(lambda x: evaluate(state, x, jnp.zeros((BATCH, 2))))
    batch = pixels[:BATCH]
    assert_close(measure(batch), measure(batch.astype(np.float32) / 255), atol=1e-6, rtol=1e-6)


def test_bytes_resident_and_streamed(state, pixels, steps, batches):
    rows = rows_of(state, pixels, 0, 1)
    assert rows.dtype == np.uint8
    resident, expected = steps(state, jnp.asarray(pixels), num_steps=1)
    streamed, info = batches(state, rows)
    assert_same(streamed, resident)
    assert_same(info, expected)


def test_an_epoch_on_numpys_arrays_without_jit(state, data):
    after, info = train_epoch(state, np.asarray(data), BATCH)
    expected, expected_info = train_epoch(state, data, BATCH)
    assert_same(after, expected)
    assert_same(info, expected_info)


def test_an_epoch_in_a_given_order_with_traced_numbers(state, data, epoch):
    """One program for other numbers of rows, and of steps, and other numbers in the objective."""

    @jax.jit
    def in_order(state, data, batches, count, noise, warmup):
        objective = state.objective.replace(input_noise=noise, kl_warmup_steps=warmup)
        after, info = train_in_order(state.replace(objective=objective), data, batches, count)
        return after.replace(objective=state.objective), info

    padded = jnp.pad(data, [(0, 13), (0, 0)])
    batches = jnp.pad(epoch_batches(state.key, 0, ROWS, BATCH), [(0, 4), (0, 0)])
    after, info = in_order(state, padded, batches, STEPS, 0.3, 20)
    expected, expected_info = epoch(state, data)
    assert_close(after, expected, atol=1e-6, rtol=1e-6)
    assert_close({name: of[:STEPS] for name, of in info.items()}, expected_info, atol=1e-5, rtol=1e-5)
    assert all((of[STEPS:] == 0).all() for of in info.values())
    before = compilations()
    fewer, _ = in_order(state, padded, batches, 2, 0.1, 0)
    assert compilations() == before
    assert fewer.step == 2
