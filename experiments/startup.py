"""What a command sets before JAX starts: compiled programs that are kept, and what makes a processor fast.

Nothing here changes a result by more than rounding. benchmarks/RESULTS.md has what each was measured to bring.
"""

from __future__ import annotations

import ctypes
import hashlib
import os
import platform
import warnings
from importlib.util import find_spec
from pathlib import Path

import jax

COMPILED = Path("~/.cache/vae_jax/compiled")
ACCELERATORS = ("jax_cuda12_plugin", "jax_cuda13_plugin", "jax_rocm7_plugin", "libtpu")  # packages, one for each kind
# Parameters of glibc's mallopt, from its malloc.h.
TRIM_THRESHOLD, MMAP_MAX, ARENA_MAX = -1, -4, -8


def prepare_jax(large_arrays: bool = False) -> None:
    """Call once, before the first use of a device.

    Args:
      large_arrays: whether the work is on arrays of megabytes, as with pictures.
    """
    keep_compiled_programs()
    if large_arrays and not _accelerated():
        keep_memory()


def keep_compiled_programs() -> None:
    """Turns on JAX's compilation cache, in a folder for this kind of processor.

    Does nothing where the environment says what to do (JAX_COMPILATION_CACHE_DIR, JAX_ENABLE_COMPILATION_CACHE), or
    where the folder can't be written. A program that was not kept whole, because a process was killed or a disk was
    full, is compiled again, which is no news for a user.
    """
    if {"JAX_COMPILATION_CACHE_DIR", "JAX_ENABLE_COMPILATION_CACHE"} & os.environ.keys():
        return
    warnings.filterwarnings("ignore", "Error (reading|writing) persistent compilation cache")
    folder = COMPILED.expanduser() / _processor()
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError:
        return
    if os.access(folder, os.W_OK):
        jax.config.update("jax_compilation_cache_dir", str(folder))
        # All programs: an experiment compiles dozens of small ones, which together take longer than the large ones.
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)


def keep_memory() -> None:
    """Lets glibc keep what is freed.

    XLA asks for the memory of a step's intermediate arrays anew at each step, hundreds of megabytes for faces, and
    getting it from the system page by page takes as long as the computation. Only for large arrays: for small ones the
    cores would wait for each other at the one arena.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)  # glibc alone has it
    if mallopt is not None:
        mallopt(MMAP_MAX, 0)
        mallopt(TRIM_THRESHOLD, 2**31 - 1)
        mallopt(ARENA_MAX, 1)  # other arenas than the first can't grow large enough


def use_cores(count: int) -> None:
    """Makes devices of this processor's cores, as many as divide a number of things evenly.

    XLA's own threads hand over to each other in steps so small that two cores take longer than one, so each device gets
    one thread; and no device is made that has nothing to do, because its thread would be asked to help the others.
    Does nothing where there is an accelerator, where somebody has said how many devices to make, or where there are
    several processes. Call before the first use of a device.

    Args:
      count: of the models, or of the examples in a batch.
    """
    named = jax.config.jax_num_cpu_devices != -1  # pyright: ignore[reportAttributeAccessIssue]
    if named or _accelerated() or jax.distributed.is_initialized():
        return
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    jax.config.update("jax_num_cpu_devices", max(n for n in range(1, cores + 1) if count % n == 0))
    os.environ.setdefault("NPROC", "1")  # read by XLA: threads to divide an operation among


def _accelerated() -> bool:
    return any(map(find_spec, ACCELERATORS))


def _processor() -> str:
    """A name for the instructions this processor has: programs compiled for others may not run on it, or run slowly."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        features = next(line for line in lines if line.startswith(("flags", "Features")))
    except (OSError, StopIteration):
        features = platform.processor()
    return f"{platform.machine()}-{hashlib.sha256(features.encode()).hexdigest()[:12]}"
