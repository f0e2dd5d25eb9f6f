"""The user's own logger, such as Weights & Biases or MLflow, beside `metrics.jsonl` and TensorBoard."""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, cast

from experiments.command_line import UsageError, refusal

# Takes the run's options; returns a function that is called with each epoch's record.
Logger = Callable[[dict[str, Any]], Callable[[dict[str, Any]], object]]


def find(name: str | None) -> Logger | None:
    """Imports the logger `MODULE:FUNCTION`, installed or from the working directory; raises UsageError if it can't."""
    if name is None:
        return None
    module_name, _, function_name = name.partition(":")
    try:
        with _working_directory_last():
            found = getattr(importlib.import_module(module_name), function_name)
    except (ImportError, ValueError, AttributeError) as error:
        raise refusal("logger", name, f"MODULE:FUNCTION or None; {error}") from None
    if not callable(found):
        raise UsageError(f"--logger {name}: {function_name} is not a function")
    return cast(Logger, found)


@contextmanager
def _working_directory_last() -> Iterator[None]:
    """Lets modules be imported from the working directory, if they are nowhere else."""
    here = os.getcwd()
    if here in sys.path:
        yield
        return
    sys.path.append(here)
    try:
        yield
    finally:
        sys.path.remove(here)
