"""The user's own logger, such as Weights & Biases or MLflow, beside `metrics.jsonl` and TensorBoard."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Any, cast

from experiments.command_line import UsageError

# Takes the run's options; returns a function that is called with each epoch's record.
Logger = Callable[[dict[str, Any]], Callable[[dict[str, Any]], object]]


def find(name: str | None) -> Logger | None:
    """Imports the logger `MODULE:FUNCTION`, from the working directory or installed; raises UsageError if it can't."""
    if name is None:
        return None
    module_name, _, function_name = name.partition(":")
    try:
        found = getattr(importlib.import_module(module_name), function_name)
    except (ImportError, ValueError, AttributeError) as error:
        raise UsageError(f"--logger {name}: expected MODULE:FUNCTION; {error}") from None
    if not callable(found):
        raise UsageError(f"--logger {name}: {function_name} is not a function")
    return cast(Logger, found)
