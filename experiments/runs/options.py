"""The options that all experiments share."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class RunOptions:
    """Where a run is kept, and how it is resumed, logged and spread over processes."""

    save_every: int = 5
    """Epochs between checkpoints."""
    run_dir: str | None = None
    """Folder to write the run to, new or empty; by default runs/<command>/<time>."""
    resume: str | None = None
    """Continue a run: its folder, its name, or no value for the latest run. The run keeps the options it was started \
with; only options that name locations, such as --data, may change."""
    logger: str | None = None
    """Also log to your own tool: MODULE:FUNCTION is called with the options and returns a function that is called \
with each epoch's record. The docs show Weights & Biases and MLflow."""
    coordinator: str | None = None
    """For several processes started without a launcher: HOST:PORT of process 0, the same for all of them."""
    num_processes: int | None = None
    """With --coordinator: the total number of processes."""
    process_id: int | None = None
    """With --coordinator: the number of this process, from 0."""
