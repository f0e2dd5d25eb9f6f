"""The options that all experiments have."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class RunOptions:
    """Where a run is kept, how it is continued, logged and spread over processes."""

    save_every: int = 5
    """Epochs between checkpoints."""
    run_dir: str | None = None
    """Folder of the run, new or empty; by default runs/<command>/<time>."""
    resume: str | None = None
    """Continue a run: its folder, or nothing for the latest. It keeps the options it was started with; only those \
that say where things are, such as --data, may change."""
    logger: str | None = None
    """MODULE:FUNCTION that is called with the options and returns what is called with each epoch's record, to log \
elsewhere too; the docs show Weights & Biases and MLflow."""
    coordinator: str | None = None
    """With several processes that no launcher starts: HOST:PORT at which process 0 is reached, the same for all."""
    num_processes: int | None = None
    """With --coordinator: how many processes there are."""
    process_id: int | None = None
    """With --coordinator: which of them this is, from 0."""
