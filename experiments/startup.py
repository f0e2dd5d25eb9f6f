"""Settings made before JAX starts: the compilation cache, and what makes a CPU fast.

They change no result by more than rounding; benchmarks/RESULTS.md has the measured gain of each.
"""

from __future__ import annotations

import ctypes
import hashlib
import logging
import os
import platform
import sys
import time
import types
import warnings
import zlib
from importlib.util import find_spec
from pathlib import Path

import jax

from vae_jax.data.errors import printable

COMPILED = Path("~/.cache/vae_jax/compiled")
ACCELERATORS = ("jax_cuda12_plugin", "jax_cuda13_plugin", "jax_rocm7_plugin", "libtpu")  # one package per kind
ZSTANDARD = b"\x28\xb5\x2f\xfd"  # how what it compressed begins; JAX takes it where it is installed, and else zlib
# Parameters of glibc's mallopt, from its malloc.h.
TRIM_THRESHOLD, MMAP_MAX, ARENA_MAX = -1, -4, -8


def prepare_jax(large_arrays: bool = False) -> None:
    """Call before the first use of a device; `large_arrays` means arrays of megabytes, as with pictures."""
    hush_checkpoints()
    escape_warnings()
    keep_compiled_programs()
    if large_arrays and not _accelerated():
        keep_memory()


def hush_checkpoints() -> None:
    """Keeps Orbax from printing tracebacks beside the one line of an error.

    It logs what it then raises; and when a save or a restore has failed, its other reads and writes fail unheard, or
    report to an event loop that is closed by then.
    """
    for name in ("absl", "asyncio"):
        logging.getLogger(name).setLevel(logging.CRITICAL)

    def raised(kind: type[BaseException], error: BaseException, traceback: types.TracebackType | None) -> None:
        if not _is_late(error):
            sys.__excepthook__(kind, error, traceback)

    def dropped(what: sys.UnraisableHookArgs) -> None:
        if not _is_late(what.exc_value):
            sys.__unraisablehook__(what)

    sys.excepthook, sys.unraisablehook = raised, dropped


def _is_late(error: BaseException | None) -> bool:
    return isinstance(error, RuntimeError) and str(error) == "Event loop is closed"


def escape_warnings() -> None:
    """Keeps what libraries quote from files in their warnings from giving the terminal orders."""
    as_text = warnings.formatwarning
    warnings.formatwarning = lambda *warning, **line: printable(as_text(*warning, **line))


def keep_compiled_programs() -> None:
    """Turns on JAX's compilation cache, in a folder for this kind of CPU.

    Unless the environment configures the cache (JAX_COMPILATION_CACHE_DIR, JAX_ENABLE_COMPILATION_CACHE), or the folder
    is another user's or not writable, or the user has no home. An entry cut short by a killed process or a full disk is
    silently compiled again, and replaced.
    """
    warnings.filterwarnings("ignore", "Error (reading|writing) persistent compilation cache")
    if {"JAX_COMPILATION_CACHE_DIR", "JAX_ENABLE_COMPILATION_CACHE"} & os.environ.keys():
        return
    try:
        folder = COMPILED.expanduser() / _processor()
        folder.mkdir(parents=True, exist_ok=True)
        _remove_cut_off(folder)
    except (OSError, RuntimeError):  # the latter is pathlib's word for no home
        return
    if os.access(folder, os.W_OK):
        jax.config.update("jax_compilation_cache_dir", str(folder))
        # Cache every program: dozens of small ones together take longer to compile than the large ones.
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)


def _remove_cut_off(folder: Path) -> None:
    """Removes entries of the compilation cache that were not written to their end, which JAX would never replace.

    Each is looked at once, at the first start after it was written.
    """
    begun, checked = time.time(), folder / ".checked"
    since = checked.stat().st_mtime if checked.exists() else 0.0
    for entry in folder.glob("*-cache"):
        try:
            if entry.stat().st_mtime >= since and not _is_whole(entry.read_bytes()):
                entry.unlink()
        except OSError:  # another process has removed it, or it is another user's
            continue
    checked.touch()
    os.utime(checked, (begun, begun))


def _is_whole(compressed: bytes) -> bool:
    decompressor = zlib.decompressobj()
    try:
        decompressor.decompress(compressed)
    except zlib.error:
        return compressed.startswith(ZSTANDARD)
    return decompressor.eof


def keep_memory() -> None:
    """Makes glibc keep freed memory.

    XLA allocates a step's intermediate arrays anew at each step, hundreds of megabytes for faces, and getting them from
    the system page by page takes as long as the computation. Only for large arrays: with small ones, the cores would
    contend for the single arena.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)  # glibc only
    if mallopt is not None:
        mallopt(MMAP_MAX, 0)
        mallopt(TRIM_THRESHOLD, 2**31 - 1)
        mallopt(ARENA_MAX, 1)  # arenas other than the first can't grow large enough


def use_cores(count: int | None) -> None:
    """Makes devices of the CPU cores, as many as divide `count`: the number of models, or of examples in a batch.

    None leaves one device with XLA's own threads, the fastest for products of some hundred rows and columns.

    Each device gets one thread: XLA's own threads hand over in steps so small that two cores take longer than one. No
    device is left idle, because its thread would be asked to help the others. Does nothing with an accelerator, an
    explicit number of devices or several processes. Call before the first use of a device.
    """
    named = jax.config.jax_num_cpu_devices != -1  # pyright: ignore[reportAttributeAccessIssue]
    if count is None or named or _accelerated() or jax.distributed.is_initialized():
        return
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    jax.config.update("jax_num_cpu_devices", max(n for n in range(1, cores + 1) if count % n == 0))
    os.environ.setdefault("NPROC", "1")  # XLA's number of threads per operation


def _accelerated() -> bool:
    return any(map(find_spec, ACCELERATORS))


def _processor() -> str:
    """A name for this CPU's instruction set: programs compiled for another may not run, or run slowly."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        features = next(line for line in lines if line.startswith(("flags", "Features")))
    except (OSError, StopIteration):
        features = platform.processor()
    return f"{platform.machine()}-{hashlib.sha256(features.encode()).hexdigest()[:12]}"
