"""Data parallelism: a mesh with one axis over all devices, and functions compiled for it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from vae_jax.compilation import compile_quickly

if TYPE_CHECKING:
    from jaxtyping import Int, Shaped

Tree = TypeVar("Tree")

AXIS = "data"

# The two placements of an array on the mesh.
replicated: PartitionSpec = PartitionSpec()
"""The whole array on every device."""
sharded: PartitionSpec = PartitionSpec(AXIS)
"""The first axis sharded over the devices."""


def data_mesh(devices: Sequence[jax.Device] | None = None) -> Mesh:
    """Makes a mesh with a single axis.

    Args:
      devices: devices to use; all by default.

    Returns:
      A mesh whose only axis is named "data".

    Examples:
      >>> import jax
      >>> import vae_jax
      >>> mesh = vae_jax.data_mesh()
      >>> mesh.axis_names, mesh.size == jax.device_count()
      (('data',), True)
    """
    devices = jax.devices() if devices is None else devices
    return jax.make_mesh((len(devices),), (AXIS,), axis_types=(AxisType.Auto,), devices=devices)


def compile_parallel(
    function: Callable,
    mesh: Mesh,
    in_specs: Any,
    out_specs: Any,
    donate_argnums: int | Sequence[int] = (),
    quickly: bool = False,
) -> Callable:
    """Compiles a function so that every device of the mesh runs it on its own shards.

    Args:
      function: what each device runs; it may use collectives over the axis "data".
      mesh: the devices.
      in_specs: a `PartitionSpec` for each argument (or tree of arguments): [`sharded`][] or [`replicated`][].
      out_specs: the same for the outputs.
      donate_argnums: arguments whose memory the outputs may reuse.
      quickly: whether to spend less time on compiling on a CPU, for a program that then takes up to 1.7 times as long.

    Returns:
      The compiled function.

    Examples:
      A training step with its batch sharded over all devices:

      >>> from functools import partial
      >>> import jax
      >>> import jax.numpy as jnp
      >>> import optax
      >>> import vae_jax
      >>> from vae_jax import replicated, sharded
      >>> mesh = vae_jax.data_mesh()
      >>> step = vae_jax.compile_parallel(
      ...     partial(vae_jax.train_step, axis_name="data"), mesh, (replicated, sharded, replicated), replicated
      ... )
      >>> vae = vae_jax.dense_vae(feature_dim=3, hidden_dims=(8,))
      >>> state = vae_jax.create_train_state(jax.random.key(0), vae, vae_jax.Objective(), optax.adam(1e-3), (3,))
      >>> batch = jnp.ones((8 * mesh.size, 3))
      >>> state, info = step(vae_jax.replicate(state, mesh), batch, jax.random.key(1))
      >>> int(state.step)
      1
    """
    # check_vma=False: with the check, the gradient of a replicated parameter is already a sum over devices, and a mean
    # over devices would leave it one. Without it functions behave as under jax.pmap.
    mapped = jax.shard_map(function, mesh=mesh, in_specs=in_specs, out_specs=out_specs, check_vma=False)
    return (compile_quickly if quickly else jax.jit)(mapped, donate_argnums=donate_argnums)


def replicate(tree: Tree, mesh: Mesh) -> Tree:
    """Replicates a tree over all devices. Without it, a compiled step compiles again when called on its own output.

    Args:
      tree: arrays; with several processes, the same in all of them.
      mesh: the devices.

    Returns:
      The same arrays, on the mesh.

    Examples:
      >>> import jax.numpy as jnp
      >>> import vae_jax
      >>> mesh = vae_jax.data_mesh()
      >>> params = vae_jax.replicate({"kernel": jnp.ones((3, 2))}, mesh)
      >>> params["kernel"].sharding.is_fully_replicated
      True
    """
    sharding = NamedSharding(mesh, replicated)
    if sharding.is_fully_addressable:
        return jax.device_put(tree, sharding)
    return jax.tree.map(lambda leaf: _replicate_from_each_process(leaf, sharding), tree)


def _replicate_from_each_process(leaf, sharding: NamedSharding) -> jax.Array:
    # Not device_put, which takes no typed keys here, and sends every array to all processes to check that they agree.
    if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
        data = _replicate_from_each_process(jax.random.key_data(leaf), sharding)
        return jax.random.wrap_key_data(data, impl=jax.random.key_impl(leaf))
    host = np.asarray(leaf)
    return jax.make_array_from_callback(host.shape, sharding, lambda index: host[index])


def on_one_device(tree: Tree) -> Tree:
    """Takes replicated arrays from this process's first device, for work without the other devices and processes."""
    return jax.tree.map(lambda leaf: leaf.addressable_data(0), tree)


def own_rows(mesh: Mesh, rows: int) -> Int[np.ndarray, " M"]:
    """Returns the indices, ascending, of this process's part of sharded `rows`, a multiple of the number of devices."""
    blocks = NamedSharding(mesh, sharded).addressable_devices_indices_map((rows,)).values()
    return np.sort(np.concatenate([np.arange(rows)[block] for block in blocks if block is not None]))


def divide(own: Shaped[np.ndarray, "..."], mesh: Mesh, axis: int = 0) -> jax.Array:
    """Shards an array along `axis` over the devices of all processes; `own` is this process's part, see `own_rows`."""
    rows = own.shape[axis] * mesh.size // mesh.local_mesh.size
    mine = own_rows(mesh, rows)

    def block(index: tuple[slice, ...] | None) -> np.ndarray:
        assert index is not None  # called only for this process's blocks
        start, stop, _ = index[axis].indices(rows)
        first = int(np.searchsorted(mine, start))
        return own[(slice(None),) * axis + (slice(first, first + stop - start),)]

    shape = (*own.shape[:axis], rows, *own.shape[axis + 1 :])
    sharding = NamedSharding(mesh, PartitionSpec(*[None] * axis, AXIS))
    return jax.make_array_from_callback(shape, sharding, block)
