"""Compiles the project's programs for accelerators that this machine does not have, and reads off what they would cost.

    bash run.sh lower --help

PyPI's CUDA plugin compiles for the description of a card, and its `libtpu` for a TPU slice, on any machine. The
compilers tell memory and collectives, and that for TPUs operations and bytes; for a card they are those of `limits.py`
and the sizes of what its kernels read and write. The time at best is the longest of what memory, arithmetic, launches
and links allow by the data sheets; nothing has run.
"""

from __future__ import annotations

import os
import re
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

os.environ |= {"JAX_PLATFORMS": "cpu", "TPU_SKIP_MDS_QUERY": "1", "TPU_WORKER_HOSTNAMES": "localhost"}
os.environ["TF_CPP_MIN_LOG_LEVEL"] = "2"  # else the CUDA plugin complains that there is no card

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.experimental import topologies
from jax.sharding import Mesh, NamedSharding, PartitionSpec

import vae_jax
from benchmarks import limits
from experiments.command_line import UsageError, parse, run
from experiments.runs.progress import console
from vae_jax.detector import passes, recipes
from vae_jax.detector.settings import Settings
from vae_jax.training.parallel import AXIS, compile_parallel, data_mesh, replicated, sharded

H100 = """gpu_device_info { threads_per_block_limit: 1024 threads_per_warp: 32 shared_memory_per_block: 49152
shared_memory_per_core: 233472 threads_per_core_limit: 2048 core_count: 132 fpus_per_core: 128
block_dim_limit_x: 2147483647 block_dim_limit_y: 65535 block_dim_limit_z: 65535 memory_bandwidth: 3352320000000
l2_cache_size: 52428800 clock_rate_ghz: 1.98 device_memory_size: 84942979072 shared_memory_per_block_optin: 232448
cuda_compute_capability { major: 9 } registers_per_core_limit: 65536 registers_per_block_limit: 65536 }
platform_name: "CUDA" dnn_version_info { major: 9 minor: 8 } device_description_str: "NVIDIA H100 80GB HBM3" """
LAUNCH = 2e-6  # seconds of a kernel on a GPU, however small
ROWS, FEATURES, ROWS_A_STEP, PICTURES_A_STEP, GENERATED, SCORED = 20_000, 29, 128, 512, 64, 16_384
LOOP_STEPS = 8
NO_WORK = {"parameter", "get-tuple-element", "tuple", "constant", "bitcast", "after-all", "partition-id", "replica-id"}
SIZES = {"f32": 4, "bf16": 2, "s32": 4, "u32": 4, "u8": 1, "pred": 1}
COLLECTIVES = ("all-reduce", "all-gather", "reduce-scatter", "collective-permute", "all-to-all")


@dataclass(frozen=True)
class Chip:
    """A device by its data sheet: operations/s in bfloat16 (TF32 is half on a GPU), bytes/s of memory and of links."""

    operations: float
    memory: float
    links: float
    sizes: dict[int, str]


CHIPS = {
    "h100": Chip(989e12, 3.35e12, 450e9, {1: ""}),
    "v5e": Chip(197e12, 0.82e12, 200e9, {1: "v5e:1x1", 4: "v5e:2x2", 16: "v5e:4x4", 256: "v5e:16x16"}),
    "v6e": Chip(918e12, 1.64e12, 448e9, {1: "v6e:1x1", 4: "v6e:2x2", 16: "v6e:4x4", 256: "v6e:16x16"}),
}


@dataclass(frozen=True)
class LowerConfig:
    """Compile every program for accelerators that are not there."""

    chips: tuple[str, ...] = tuple(CHIPS)
    """Kinds of device: h100, v5e, v6e."""
    sizes: tuple[int, ...] = (1, 4, 16, 256)
    """Numbers of TPU chips."""
    only: tuple[str, ...] = ()
    """Programs whose names begin with one of these; by default all."""
    output: str | None = None
    """Markdown file for the table."""


@dataclass(frozen=True)
class Program:
    """A compiled function, the shapes of its arguments, and operations of one device in a step.

    `loop` is the same as a loop of steps, to count kernels.
    """

    function: Callable
    arguments: tuple
    operations: float
    loop: tuple[Callable, tuple] | None = None


@dataclass(frozen=True)
class Found:
    """What a compiler told: bytes and operations of one device and step."""

    seconds: float
    peak: float
    operations: float
    bytes: float
    kernels: int | None
    collectives: Counter
    collective_bytes: float


def main(arguments: Sequence[str]) -> None:
    """Compiles, prints the table and writes the file."""
    config = parse(LowerConfig, "bash run.sh lower", arguments)
    for kind in config.chips:
        if kind not in CHIPS:
            raise UsageError(f"--chips {kind}: expected {', '.join(CHIPS)}")
    known = {size for chip in CHIPS.values() for size in chip.sizes}
    for size in config.sizes:
        if size not in known:
            raise UsageError(f"--sizes {size}: expected {', '.join(map(str, sorted(known)))}")
    if config.output and not os.path.isdir(os.path.dirname(os.path.abspath(config.output))):
        raise UsageError(f"--output {config.output}: there is no such folder")
    titles = ("device", "chips", "program", "compiles in", "peak memory", "operations", "bytes", "kernels a step")
    titles += ("collectives", "at best a step", "by")
    output, rows = console(), []
    output.print(" | ".join(titles), soft_wrap=True)
    for kind in config.chips:
        for size, topology in CHIPS[kind].sizes.items():
            if kind != "h100" and size not in config.sizes:
                continue
            with without_stderr():
                mesh = data_mesh(devices_of(kind, topology))
            for name, build in PROGRAMS.items():
                if config.only and not name.startswith(config.only):
                    continue
                row = measure(kind, mesh, name, build)
                output.print(" | ".join(row), soft_wrap=True)
                rows.append(row)
    if config.output:
        with open(config.output, "w", encoding="utf-8") as file:
            lines = [titles, ["---"] * len(titles), *rows]
            file.writelines(f"| {' | '.join(line)} |\n" for line in lines)


@contextmanager
def without_stderr() -> Iterator[None]:
    """Without what the compilers' libraries say about devices that are not there."""
    kept, nothing = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    os.dup2(nothing, 2)
    try:
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nothing)


def devices_of(kind: str, topology: str) -> list[Any]:
    """The devices of a card, or of a TPU slice, that is only described."""
    if kind != "h100":
        bounds = {"chips_per_host_bounds": (1, 1, 1)} if topology.endswith("1x1") else {}
        return list(topologies.get_topology_desc(platform="tpu", topology_name=topology, **bounds).devices)
    jax.devices()  # finds the plugins
    described = topologies.get_topology_desc(platform="cuda", topology_name="", target_config=H100, topology="1x1x1")
    return list(described.devices)


def measure(kind: str, mesh: Mesh, name: str, build: Callable[[Mesh], Program]) -> tuple[str, ...]:
    """A row of the table."""
    try:
        found = compile_for(kind, build(mesh))
    except Exception as error:
        return kind, str(mesh.size), name, f"no: {str(error).splitlines()[0][:100]}", *[""] * 7
    chip = CHIPS[kind]
    operations = chip.operations if "bfloat16" in name or kind != "h100" else chip.operations / 2
    seconds = {
        "arithmetic": found.operations / operations,
        "memory": found.bytes / chip.memory,
        "links": 2 * found.collective_bytes / chip.links,
        "launches": (found.kernels or 0) * LAUNCH if kind == "h100" else 0.0,
    }
    slowest = max(seconds, key=lambda part: seconds[part])
    moved = ", ".join(f"{count} {what}" for what, count in found.collectives.items())
    return (
        kind,
        str(mesh.size),
        name,
        f"{found.seconds:.0f} s",
        scaled(found.peak, "B"),
        scaled(found.operations, ""),
        scaled(found.bytes, "B"),
        "" if found.kernels is None else str(found.kernels),
        f"{moved}, {scaled(found.collective_bytes, 'B')}" if moved else "none",
        f"{1e6 * seconds[slowest]:,.3g} µs",
        slowest,
    )


def scaled(value: float, unit: str) -> str:
    """A number with a prefix."""
    for factor, prefix in ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")):
        if value >= factor:
            return f"{value / factor:.3g} {prefix}{unit}"
    return f"{value:.3g} {unit}".strip()


def compile_for(kind: str, program: Program) -> Found:
    """Compiles a program, and on a GPU its loop."""
    started = time.perf_counter()
    compiled = program.function.lower(*program.arguments).compile()
    seconds = time.perf_counter() - started
    memory, text = compiled.memory_analysis(), compiled.as_text()
    cost = compiled.cost_analysis()
    if cost is None:  # the CUDA compiler tells none
        cost = {"flops": program.operations, "bytes accessed": bytes_moved(text)}
    kernels = None
    if kind == "h100":
        loop = program.loop
        body = loop[0].lower(*loop[1]).compile().as_text() if loop else text
        kernels = kernels_of_loop(body) if loop else count_kernels(computations(body), entry(body))
    collectives, moved = collectives_of(text)
    arguments = memory.argument_size_in_bytes + memory.output_size_in_bytes - memory.alias_size_in_bytes
    peak = memory.temp_size_in_bytes + arguments
    return Found(seconds, peak, cost["flops"], cost["bytes accessed"], kernels, collectives, moved)


def computations(text: str) -> dict[str, list[str]]:
    """The instructions of each computation of a compiled program's text."""
    found: dict[str, list[str]] = {}
    lines: list[str] = []
    for line in text.splitlines():
        start = re.match(r"(?:ENTRY )?%?([\w.\-]+) .*\{$", line)
        if start and not line.startswith(" "):
            lines = found[start[1]] = []
        else:
            lines.append(line)
    return found


def entry(text: str) -> str:
    """The name of the computation that a program begins with."""
    found = re.search(r"^ENTRY %?([\w.\-]+)", text, re.MULTILINE)
    assert found
    return found[1]


def count_kernels(of: dict[str, list[str]], name: str) -> int:
    """The number of kernels and copies that a computation launches; a loop in it counts as one pass."""
    count = 0
    for line in of.get(name, ()):
        instruction = re.match(r"\s+(?:ROOT )?%?[\w.\-]+ = .*?\s([\w\-]+)\(", line)
        if not instruction or instruction[1] in NO_WORK or instruction[1].endswith("-done"):
            continue
        called = re.search(r"(?:to_apply|body)=%?([\w.\-]+)", line) if instruction[1] in ("call", "while") else None
        count += count_kernels(of, called[1]) if called else 1
    return count


def bytes_moved(text: str) -> float:
    """Bytes that the kernels of a program without loops read and write, each array once."""
    sizes, moved = {}, 0.0
    for line in computations(text)[entry(text)]:
        found = re.match(r"\s+(?:ROOT )?%?([\w.\-]+) = (.*?)\s([\w\-]+)\((.*)", line)
        if found:
            name, result, operation, rest = found.groups()
            sizes[name] = bytes_of(result)
            if operation not in NO_WORK and not operation.endswith("-done"):
                operands = re.findall(r"%([\w.\-]+)", rest.partition(")")[0])
                moved += sizes[name] + sum(sizes.get(operand, 0.0) for operand in operands)
    return moved


def bytes_of(shapes: str) -> float:
    """Bytes of all arrays in a type as text."""
    found = re.findall(r"\b(f32|bf16|s32|u32|u8|pred)\[([\d,]*)\]", shapes)
    return float(sum(SIZES[kind] * np.prod([int(n) for n in of.split(",") if n]) for kind, of in found))


def kernels_of_loop(text: str) -> int:
    """Kernels in the body of the largest loop: the training steps."""
    of = computations(text)
    return max(count_kernels(of, body) for body in re.findall(r"while\(.*?body=%?([\w.\-]+)", text))


def collectives_of(text: str) -> tuple[Counter, float]:
    """How many collectives of each kind there are, and the bytes of their results."""
    kinds, moved = Counter(), 0.0
    for line in text.splitlines():
        found = re.match(rf"\s+(?:ROOT )?%?[\w.\-]+ = (.*?)\s({'|'.join(COLLECTIVES)})(?:-start)?\(", line)
        if found:
            kinds[found[2]] += 1
            moved += bytes_of(found[1])
    return kinds, moved


def placed(tree: Any, mesh: Mesh, spec: PartitionSpec) -> Any:
    """Shapes on the devices of a mesh."""
    sharding = NamedSharding(mesh, spec)
    return jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding), tree)


def array(mesh: Mesh, spec: PartitionSpec, *shape: int, dtype: Any = jnp.float32) -> jax.ShapeDtypeStruct:
    """The shape of one array on a mesh."""
    return jax.ShapeDtypeStruct(shape, dtype, sharding=NamedSharding(mesh, spec))


def keys(mesh: Mesh) -> Any:
    """The shape of a key on a mesh."""
    return placed(jax.eval_shape(lambda: jax.random.key(0)), mesh, replicated)


def table_models(recipe: str, models: int, mesh: Mesh) -> Program:
    """Steps of so many models on each device."""
    settings = Settings(recipe=recipe, num_models=models * mesh.size).resolved(ROWS, FEATURES)  # pyright: ignore[reportArgumentType]
    state = placed(recipes.state_shapes(settings, np.zeros((ROWS, FEATURES), np.float32)), mesh, sharded)

    def step(state: Any, batches: jax.Array, key: jax.Array):
        return passes.each_model(lambda of: vae_jax.train_step(of[0], of[1], key), (state, batches))

    def loop(state: Any, rows: jax.Array):
        return passes.each_model(lambda state: vae_jax.train_steps(state, rows, ROWS_A_STEP, LOOP_STEPS), state)

    batches = array(mesh, sharded, settings.num_models, ROWS_A_STEP, FEATURES)
    rows = array(mesh, replicated, ROWS, FEATURES)
    return Program(
        compile_parallel(step, mesh, (sharded, sharded, replicated), (sharded, sharded)),
        (state, batches, keys(mesh)),
        models * step_operations(recipe),
        (compile_parallel(loop, mesh, (sharded, replicated), (sharded, sharded)), (state, rows)),
    )


def step_operations(recipe: str) -> float:
    """Operations of a step of one model."""
    return ROWS_A_STEP * limits.fraud_training(FEATURES, recipe == "gaussian").operations


def table_batches(recipe: str, mesh: Mesh) -> Program:
    """Steps of one model, whose batch is divided among the devices."""
    settings = Settings(recipe=recipe).resolved(ROWS, FEATURES)  # pyright: ignore[reportArgumentType]
    state = placed(recipes.state_shapes(settings, np.zeros((ROWS, FEATURES), np.float32)), mesh, replicated)

    def step(state: Any, rows: jax.Array, key: jax.Array):
        return passes.each_model(lambda state: vae_jax.train_step(state, rows, key, AXIS), state)

    rows = array(mesh, sharded, ROWS_A_STEP * mesh.size, FEATURES)
    compiled = compile_parallel(step, mesh, (replicated, sharded, replicated), (replicated, replicated))
    return Program(compiled, (state, rows, keys(mesh)), step_operations(recipe))


def table_scores(recipe: str, mesh: Mesh) -> Program:
    """Reconstruction probabilities by one model, as its detector computes them: without the features' contributions."""
    settings = Settings(recipe=recipe).resolved(ROWS, FEATURES)  # pyright: ignore[reportArgumentType]
    state = recipes.state_shapes(settings, np.zeros((ROWS, FEATURES), np.float32))
    sds = array(mesh, replicated, 1, FEATURES) if recipe == "report" else None
    score = partial(vae_jax.score_models, state.vae, mesh=mesh, num_samples=100)
    rows = array(mesh, sharded, SCORED * mesh.size, FEATURES)
    return Program(
        jax.jit(lambda params, x, key, sds: score(params, x, key, residual_sd=sds).log_reconstruction_prob),
        (placed(state.params, mesh, replicated), rows, keys(mesh), sds),
        SCORED * limits.fraud_scoring(FEATURES, recipe == "gaussian", 100).operations,
    )


def face_state(dtype: str) -> Any:
    """The shapes of the face model's state."""
    vae = vae_jax.conv_vae(dtype=None if dtype == "float32" else jnp.bfloat16)
    objective, optimizer = vae_jax.Objective(weight=2000.0), optax.adam(5e-4)
    create = partial(vae_jax.create_train_state, vae=vae, objective=objective, optimizer=optimizer)
    return jax.eval_shape(partial(create, event_shape=(128, 128, 3)), jax.eval_shape(lambda: jax.random.key(0)))


def faces(dtype: str, mesh: Mesh) -> Program:
    """Steps of the face model, whose batch is divided among the devices."""
    state, batch = placed(face_state(dtype), mesh, replicated), PICTURES_A_STEP * mesh.size
    pixels = partial(array, mesh, dtype=jnp.uint8)
    step, loop = partial(vae_jax.train_step, axis_name=AXIS), partial(vae_jax.train_batches, axis_name=AXIS)
    divided, both = PartitionSpec(None, AXIS), (replicated, replicated)
    return Program(
        compile_parallel(step, mesh, (replicated, sharded, replicated), both, donate_argnums=0),
        (state, pixels(sharded, batch, 128, 128, 3), keys(mesh)),
        PICTURES_A_STEP * limits.face_training(PICTURES_A_STEP, 4).operations,
        (
            compile_parallel(loop, mesh, (replicated, divided), both, donate_argnums=0),
            (state, pixels(divided, LOOP_STEPS, batch, 128, 128, 3)),
        ),
    )


def generation(mesh: Mesh) -> Program:
    """New faces."""
    state = face_state("float32")
    latents = array(mesh, sharded, GENERATED * mesh.size, state.vae.latent_dim)
    decode = compile_parallel(partial(vae_jax.decode, state.vae), mesh, (replicated, sharded), sharded)
    operations = GENERATED * limits.face_generating(GENERATED).operations
    return Program(decode, (placed(state.params, mesh, replicated), latents), operations)


PROGRAMS: dict[str, Callable[[Mesh], Program]] = {
    **{
        f"{recipe}, {models} model{'s' * (models > 1)} a device": partial(table_models, recipe, models)
        for recipe in ("report", "gaussian")
        for models in (1, 8, 64)
    },
    "gaussian, 1 model, 128 rows a device": partial(table_batches, "gaussian"),
    "scores, report": partial(table_scores, "report"),
    "scores, gaussian": partial(table_scores, "gaussian"),
    "faces, float32": partial(faces, "float32"),
    "faces, bfloat16": partial(faces, "bfloat16"),
    "generation": generation,
}


if __name__ == "__main__":
    sys.exit(run(main, sys.argv[1:]))
