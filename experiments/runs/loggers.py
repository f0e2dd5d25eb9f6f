"""A user's own logger beside `metrics.jsonl` and TensorBoard, such as Weights & Biases or MLflow."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Any, cast

from experiments.command_line import UsageError

# Takes the run's options, and returns what is called with the record of each epoch.
Logger = Callable[[dict[str, Any]], Callable[[dict[str, Any]], object]]


def find(name: str | None) -> Logger | None:
    """Finds a logger by its name.

    Args:
      name: `MODULE:FUNCTION`, the module in the working directory or installed; None for no logger.

    Returns:
      The function, not yet called.

    Raises:
      UsageError: if there is no such thing.
    """
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
