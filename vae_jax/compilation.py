"""How programs are compiled: quickly, and for 32 bits."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache, wraps
from typing import Any, ParamSpec, TypeVar

import jax

Arguments = ParamSpec("Arguments")
Result = TypeVar("Result")

# Options of XLA on a CPU.
QUICK = {
    "xla_backend_optimization_level": 1,
    "xla_cpu_use_fusion_emitters": False,
    "xla_cpu_parallel_codegen_split_count": 2,
}


def compile_quickly(function: Callable, **options: Any) -> Callable:
    """`jax.jit` for small programs, which on a CPU take longer to compile than to run.

    XLA then spends less time on them: half to a third. Programs of a few large products are as fast to a few percent, a
    loop of many small operations takes up to 1.7 times as long.
    """
    return jax.jit(function, compiler_options=_known() if jax.default_backend() == "cpu" else None, **options)


@cache
def quick_program(function: Callable, *static_argnames: str) -> Callable:
    """`compile_quickly`, once for a function, at its first use: on import JAX could not be configured any more."""
    return compile_quickly(function, static_argnames=static_argnames)


@cache
def _known() -> dict[str, Any]:
    """Those of `QUICK` that this version of XLA knows: such options come and go, and it refuses others."""
    return {name: value for name, value in QUICK.items() if _is_known(name, value)}


def _is_known(name: str, value: Any) -> bool:
    try:
        jax.jit(lambda: 0, compiler_options={name: value}).lower().compile()
    except jax.errors.JaxRuntimeError:
        return False
    return True


def in_32_bits(function: Callable[Arguments, Result]) -> Callable[Arguments, Result]:
    """Computes alike where a program has set `jax_enable_x64`, or a seed would give other models and noise there.

    A thread that the function starts needs this anew.
    """

    @wraps(function)
    def wrapped(*arguments: Arguments.args, **named: Arguments.kwargs) -> Result:
        with jax.enable_x64(False):
            return function(*arguments, **named)

    return wrapped
