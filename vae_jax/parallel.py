"""Data parallelism: one mesh axis over all devices, and a function compiled over it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

import jax
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

Tree = TypeVar("Tree")

AXIS = "data"

# The two ways in which an array can lie on the mesh: whole on every device, or its first axis divided.
replicated = PartitionSpec()
sharded = PartitionSpec(AXIS)


def data_mesh(devices: Sequence[jax.Device] | None = None) -> Mesh:
    """Makes a one-axis mesh.

    Args:
      devices: the devices to use; all by default.

    Returns:
      A mesh whose only axis is named "data".
    """
    devices = jax.devices() if devices is None else devices
    return jax.make_mesh((len(devices),), (AXIS,), axis_types=(AxisType.Auto,), devices=devices)


def compile_parallel(
    function: Callable, mesh: Mesh, in_specs, out_specs, donate_argnums: int | Sequence[int] = ()
) -> Callable:
    """Compiles a function so that every device of the mesh runs it on its own shards.

    Args:
      function: what one device does; it may use collectives over the axis "data".
      mesh: the devices.
      in_specs: a `PartitionSpec` for each argument (or tree of arguments): `sharded` or `replicated`.
      out_specs: the same for the outputs.
      donate_argnums: arguments whose memory the outputs may take over.

    Returns:
      The compiled function.
    """
    # check_vma=False: with the check on, the gradient by a replicated parameter is already a sum over devices, and
    # the step's own mean would be wrong; without it the step means the same here as under jax.pmap.
    mapped = jax.shard_map(function, mesh=mesh, in_specs=in_specs, out_specs=out_specs, check_vma=False)
    return jax.jit(mapped, donate_argnums=donate_argnums)


def replicate(tree: Tree, mesh: Mesh) -> Tree:
    """Puts every array of a tree on every device, where compiled functions expect it: otherwise the second call of a
    step, whose input is the first one's output, compiles once more.

    Args:
      tree: arrays.
      mesh: the devices.

    Returns:
      The same arrays, on the mesh.
    """
    return jax.device_put(tree, NamedSharding(mesh, replicated))
