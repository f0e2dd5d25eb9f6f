"""Programs that compile quickly."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax


def compile_quickly(function: Callable, **options: Any) -> Callable:
    """`jax.jit` for small programs, which on a CPU take longer to compile than to run.

    XLA then spends less time on them: half to a third, for programs that are as fast to a few percent.
    """
    quick = {
        "xla_backend_optimization_level": 1,
        "xla_cpu_use_fusion_emitters": False,
        "xla_cpu_parallel_codegen_split_count": 2,
    }
    return jax.jit(function, compiler_options=quick if jax.default_backend() == "cpu" else None, **options)
