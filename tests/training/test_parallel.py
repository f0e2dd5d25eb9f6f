"""The same step on one device, under pmap and under shard_map: four devices give what one gives."""

import functools
import math
import re

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from helpers import assert_close, assert_same, compilations, stack, tiny_data, tiny_state
from jax.sharding import PartitionSpec

from experiments.celeba.model import PictureChunks
from vae_jax.importance import SampledBound
from vae_jax.networks import conv_vae
from vae_jax.objectives import Objective, gaussian, mse
from vae_jax.training import batch_noise, create_train_state, stream_key, train_epoch, train_step
from vae_jax.training.checkpoints import Checkpoints
from vae_jax.training.parallel import (
    AXIS,
    compile_parallel,
    data_mesh,
    divide,
    on_one_device,
    own_rows,
    replicate,
    replicated,
    sharded,
)

pytestmark = pytest.mark.usefixtures("compiled_well")

# 3 steps of 8 rows, 2 on each of four devices, and 2 rows that are left out.
ROWS, BATCH, STEPS = 26, 8, 3
# Gradients are summed in another order; parameters are of order 1, so this is a few units in the last place.
TOLERANCE = 1e-6
STATE_AND_INFO = (replicated, replicated)
SGD = optax.sgd(1e-2)


@pytest.fixture(scope="module")
def state():
    # With noise on the encoder's input, which has to be divided among the devices as the latent's is.
    return tiny_state(objective=Objective(gaussian, input_noise=0.3), hidden=())


@pytest.fixture(scope="module")
def data():
    return tiny_data(ROWS)


def mesh_of(devices):
    return data_mesh(jax.devices()[:devices])


def test_there_are_four_devices():
    assert jax.device_count() == 4


def test_data_mesh_has_one_axis_over_the_devices_asked_for():
    assert data_mesh().shape == {AXIS: 4}
    assert mesh_of(2).shape == {AXIS: 2}
    assert list(mesh_of(2).devices) == jax.devices()[:2]


def test_replicate_puts_every_array_whole_on_every_device():
    tree = replicate({"a": np.arange(6.0, dtype=np.float32), "key": jax.random.key(0)}, data_mesh())
    for leaf in tree.values():
        assert leaf.sharding.device_set == set(jax.devices())
        assert leaf.sharding.is_fully_replicated
    np.testing.assert_array_equal(tree["a"], np.arange(6.0))
    assert_same(tree["key"], jax.random.key(0))


def test_compile_parallel_gives_each_device_its_shard():
    def on_each_device(x, y):
        return x.sum()[None], jax.lax.psum(x.sum(), AXIS), y + jax.lax.axis_index(AXIS)

    function = compile_parallel(
        on_each_device, data_mesh(), (sharded, replicated), (sharded, replicated, PartitionSpec(AXIS))
    )
    sums, total, indices = function(jnp.arange(8.0), jnp.zeros(1))
    np.testing.assert_array_equal(sums, [0 + 1, 2 + 3, 4 + 5, 6 + 7])
    assert total == 28
    np.testing.assert_array_equal(indices, [0, 1, 2, 3])


def noise_of(devices: int, key: jax.Array, event_shape: tuple[int, ...] = (2,)) -> jax.Array:
    """The noise of a batch that is divided among devices."""
    draw = functools.partial(batch_noise, local_batch=BATCH // devices, event_shape=event_shape, axis_name=AXIS)
    return compile_parallel(draw, mesh_of(devices), replicated, sharded)(key)


@pytest.mark.parametrize("event_shape", [(2,), (3, 2), ()])
@pytest.mark.parametrize("impl", ["threefry2x32", "rbg"])
@pytest.mark.parametrize("partitionable", [True, False])
def test_batch_noise_does_not_depend_on_the_number_of_devices(event_shape, impl, partitionable):
    key = jax.random.key(0, impl=impl)
    with jax.threefry_partitionable(partitionable):
        whole = batch_noise(key, BATCH, event_shape)
        for devices in (1, 2, 4):
            np.testing.assert_array_equal(noise_of(devices, key, event_shape), whole)


def test_batch_noise_in_64_bits_does_not_depend_on_the_number_of_devices():
    with jax.enable_x64(True):
        whole = batch_noise(jax.random.key(0), BATCH, (2,))
        assert whole.dtype == np.float64
        np.testing.assert_array_equal(noise_of(4, jax.random.key(0)), whole)


def test_batch_noise_of_several_models_does_not_depend_on_the_number_of_devices():
    keys = jax.random.split(jax.random.key(0), 3)
    draw = functools.partial(batch_noise, local_batch=BATCH // 4, event_shape=(2,), axis_name=AXIS)
    noise = compile_parallel(jax.vmap(draw), mesh_of(4), replicated, PartitionSpec(None, AXIS))(keys)
    np.testing.assert_array_equal(noise, jax.vmap(lambda key: batch_noise(key, BATCH, (2,)))(keys))


def test_a_device_draws_its_own_rows_and_no_others():
    key = jax.ShapeDtypeStruct((), jax.random.key(0).dtype)
    draw = functools.partial(batch_noise, local_batch=16, event_shape=(5,), axis_name=AXIS)
    text = compile_parallel(draw, mesh_of(4), replicated, sharded).lower(key).compile().as_text()
    assert max(math.prod(map(int, shape.split(","))) for shape in re.findall(r"32\[([\d,]+)\]", text)) == 16 * 5


def test_a_batch_that_does_not_divide_evenly_is_refused(state, data):
    epoch = functools.partial(train_epoch, batch_size=6, axis_name=AXIS)
    with pytest.raises(ValueError, match="batch_size=6: expected a multiple of 4, the number of devices"):
        compile_parallel(epoch, mesh_of(4), (replicated, replicated), STATE_AND_INFO)(state, data)


def test_train_step_agrees_under_jit_pmap_and_shard_map(state, data):
    mesh = data_mesh()
    parallel_step = functools.partial(train_step, axis_name=AXIS)
    by_jit = jax.jit(train_step)
    by_pmap = jax.pmap(parallel_step, axis_name=AXIS, in_axes=(None, 0, None), out_axes=None)
    by_shard_map = compile_parallel(parallel_step, mesh, (replicated, sharded, replicated), STATE_AND_INFO)

    single, mapped, on_mesh = state, state, replicate(state, mesh)
    for step in range(5):
        batch, key = data[step : step + BATCH], stream_key(state.key, "noise", step)
        single, single_info = by_jit(single, batch, key)
        mapped, mapped_info = by_pmap(mapped, batch.reshape(4, 2, -1), key)
        on_mesh, on_mesh_info = by_shard_map(on_mesh, batch, key)
        # After the first step and after each further one.
        for other, info in [(mapped, mapped_info), (on_mesh, on_mesh_info)]:
            assert other.step == single.step == step + 1
            assert_close(other.params, single.params, atol=TOLERANCE)
            assert_close(info, single_info, atol=TOLERANCE, rtol=TOLERANCE)


BOUND = SampledBound(gaussian, num_samples=2, doubly_reparameterised=True)


@pytest.mark.parametrize("objective", [Objective(gaussian, input_noise=0.3), BOUND])
def test_a_step_under_shard_maps_own_check_is_that_of_one_device(data, objective):
    # With plain gradient descent: Adam would hide a gradient that is a sum over devices.
    state = tiny_state(objective=objective, optimizer=SGD, hidden=())
    step = functools.partial(train_step, axis_name=AXIS)
    mapped = jax.shard_map(step, mesh=data_mesh(), in_specs=(replicated, sharded, replicated), out_specs=replicated)
    found, found_info = jax.jit(mapped)(state, data[:BATCH], state.key)
    single, info = jax.jit(train_step)(state, data[:BATCH], state.key)
    assert_close(found.params, single.params, atol=TOLERANCE)
    assert_close(found_info, info, atol=TOLERANCE, rtol=TOLERANCE)
    epoch = functools.partial(train_epoch, batch_size=BATCH, axis_name=AXIS)
    mapped = jax.shard_map(epoch, mesh=data_mesh(), in_specs=replicated, out_specs=replicated)
    assert jax.eval_shape(mapped, state, data)[1]["loss"].shape == (STEPS,)


@functools.cache
def epoch_on(devices):
    """An epoch, compiled over a mesh."""
    epoch = functools.partial(train_epoch, batch_size=BATCH, axis_name=AXIS)
    return compile_parallel(epoch, mesh_of(devices), (replicated, replicated), STATE_AND_INFO)


@pytest.fixture(scope="module")
def two_epochs(data):
    """Trains a state for two epochs on one device, without a mesh."""
    epoch = jax.jit(functools.partial(train_epoch, batch_size=BATCH))

    def train(state):
        state, _ = epoch(state, data)
        return epoch(state, data)

    return train


@pytest.mark.parametrize("devices", [1, 2, 4])
def test_train_epoch_agrees_on_every_mesh_and_compiles_once(state, data, two_epochs, devices):
    mesh, epoch = mesh_of(devices), epoch_on(devices)
    after, rows = replicate(state, mesh), replicate(data, mesh)
    after, _ = epoch(after, rows)
    compiled = compilations()
    after, info = epoch(after, rows)
    assert compilations() == compiled
    expected, expected_info = two_epochs(state)
    assert after.step == expected.step == 2 * STEPS
    assert_close(after.params, expected.params, atol=TOLERANCE)
    assert_close(info, expected_info, atol=TOLERANCE, rtol=TOLERANCE)
    assert_same(after.key, state.key)


def test_a_state_that_is_not_on_the_mesh_compiles_again():
    # What `replicate` is for; and the proof that a compilation would be seen where there must be none.
    mesh = data_mesh()
    double = compile_parallel(lambda x: 2 * x, mesh, replicated, replicated)
    for start, expected in [(jnp.ones(3), 1), (replicate(np.ones(3, np.float32), mesh), 0)]:
        x = double(start)
        compiled = compilations()
        double(x)
        assert compilations() - compiled == expected
        double = compile_parallel(lambda x: 2 * x, mesh, replicated, replicated)


def test_vmapped_models_agree_on_the_mesh(state, data, two_epochs):
    def epoch(states, rows):
        return jax.vmap(lambda state: train_epoch(state, rows, BATCH, AXIS))(states)

    mesh = data_mesh()
    models = [state, tiny_state(1, objective=state.objective, hidden=())]
    on_mesh = compile_parallel(epoch, mesh, (replicated, replicated), STATE_AND_INFO, donate_argnums=0)
    after, rows = replicate(stack(*models), mesh), replicate(data, mesh)
    for _ in range(2):
        after, info = on_mesh(after, rows)
    assert info["loss"].shape == (2, STEPS)
    for number, model in enumerate(models):
        expected, expected_info = two_epochs(model)
        one = jax.tree.map(lambda leaf, number=number: leaf[number], (jax.device_get(after.params), info))
        assert_close(one, (expected.params, expected_info), atol=TOLERANCE, rtol=TOLERANCE)


@pytest.mark.parametrize(("saved_on", "resumed_on"), [(4, 1), (1, 4)])
def test_a_run_continues_on_another_number_of_devices(state, data, two_epochs, tmp_path, saved_on, resumed_on):
    saved, _ = epoch_on(saved_on)(replicate(state, mesh_of(saved_on)), replicate(data, mesh_of(saved_on)))
    mesh = mesh_of(resumed_on)
    with Checkpoints(tmp_path / "checkpoints") as checkpoints:
        checkpoints.save(STEPS, saved, 1.0)
        restored = checkpoints.restore(replicate(state, mesh), STEPS)
    assert_same(jax.device_get(restored.params), jax.device_get(saved.params))
    for leaf in jax.tree.leaves(restored):
        assert leaf.sharding.device_set == set(mesh.devices.flat)
    after, info = epoch_on(resumed_on)(restored, replicate(data, mesh))
    expected, expected_info = two_epochs(state)
    assert_close((after.params, info), (expected.params, expected_info), atol=TOLERANCE, rtol=TOLERANCE)


def test_on_one_device_takes_one_copy():
    tree = on_one_device(replicate({"a": np.arange(6.0, dtype=np.float32), "key": jax.random.key(0)}, data_mesh()))
    for leaf in tree.values():
        assert leaf.sharding.device_set == {jax.devices()[0]}
    np.testing.assert_array_equal(tree["a"], np.arange(6.0))
    assert_same(tree["key"], jax.random.key(0))


@pytest.mark.parametrize("devices", [1, 4])
@pytest.mark.parametrize("axis", [0, 1])
def test_divide_gives_each_device_its_rows(devices, axis):
    mesh = mesh_of(devices)
    np.testing.assert_array_equal(own_rows(mesh, 8), np.arange(8))  # one process has them all
    x = np.arange(64).reshape(8, 8)
    divided = divide(x, mesh, axis)
    np.testing.assert_array_equal(divided, x)
    for i, shard in enumerate(sorted(divided.addressable_shards, key=lambda shard: shard.device.id)):
        np.testing.assert_array_equal(shard.data, np.split(x, devices, axis)[i])


def test_what_a_model_makes_of_pictures_does_not_depend_on_the_number_of_devices():
    """Bit for bit: on each device the same program sees the same pictures."""
    vae = conv_vae(16, latent_dim=2, filters=(4, 4))
    shape = (16, 16, 3)
    model = create_train_state(jax.random.key(0), vae, Objective(mse), optax.adam(1e-3), shape)
    pixels = np.random.default_rng(0).integers(0, 256, (150, *shape), np.uint8)
    rows = np.arange(2, 148)  # a chunk and a part of one on two devices, a part of one on four
    found = []
    for devices in (1, 2, 4):
        mesh = mesh_of(devices)
        found.append(PictureChunks(model, mesh).encode(replicate(model, mesh), pixels, rows))
    assert found[0].mean.shape == (146, 2)
    for other in found[1:]:
        assert_same(other, found[0])
