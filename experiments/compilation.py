"""Compiled programs kept on disk, so that a second start of an experiment does not compile them again."""

from __future__ import annotations

import hashlib
import os
import platform
from pathlib import Path

import jax

FOLDER = Path("~/.cache/vae_jax/compiled")


def keep_compiled_programs() -> None:
    """Turns on JAX's compilation cache, in a folder for this kind of processor.

    Does nothing where the environment says what to do (JAX_COMPILATION_CACHE_DIR, JAX_ENABLE_COMPILATION_CACHE), or
    where the folder can't be written.
    """
    if {"JAX_COMPILATION_CACHE_DIR", "JAX_ENABLE_COMPILATION_CACHE"} & os.environ.keys():
        return
    folder = FOLDER.expanduser() / _processor()
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError:
        return
    if os.access(folder, os.W_OK):
        jax.config.update("jax_compilation_cache_dir", str(folder))
        # All programs: an experiment compiles dozens of small ones, which together take longer than the large ones.
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)


def _processor() -> str:
    """A name for the instructions this processor has: programs compiled for others may not run on it, or run slowly."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        features = next(line for line in lines if line.startswith(("flags", "Features")))
    except (OSError, StopIteration):
        features = platform.processor()
    return f"{platform.machine()}-{hashlib.sha256(features.encode()).hexdigest()[:12]}"
