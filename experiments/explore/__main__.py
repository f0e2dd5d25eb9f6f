"""Finished runs in the browser: faces to draw and edit, transactions to move the boundary over."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass

import tyro

from experiments import PROGRAM
from experiments.command_line import parse, require, run
from experiments.explore.finished import find
from experiments.explore.guard import own_names
from experiments.explore.server import listen, own_folder, serve
from experiments.runs import stopping
from experiments.runs.progress import console
from experiments.score.scoring import CHUNK
from experiments.startup import prepare_jax, use_cores

COMMAND = f"{PROGRAM} explore"


@dataclass(frozen=True)
class ExploreConfig:
    """Explore finished runs in the browser, until Ctrl-C.

    Nothing leaves this machine, and nothing is kept: uploaded files are removed as soon as they are read.
    """

    runs: tyro.conf.Positional[tuple[str, ...]] = ()
    """Runs of fraud and celeba: their folders, or names in runs/fraud and runs/celeba; by default all finished ones \
there."""
    host: str = "127.0.0.1"
    """Address to listen at; 0.0.0.0 shows the pages to everyone who reaches this machine."""
    port: int = 7860
    """Port to listen at."""
    names: tuple[str, ...] = ()
    """Further names under which browsers reach this machine, such as explorer.example.com; pages under others are \
refused. localhost, all IP addresses and, with --host, this machine's own names need not be given."""
    upload_megabytes: int = 20
    """Largest upload."""


def main(arguments: Sequence[str]) -> None:
    """Runs the command."""
    config = parse(ExploreConfig, COMMAND, arguments)
    require(
        config,
        [
            ("port", 0 < config.port < 2**16, "1 to 65535"),
            ("upload_megabytes", config.upload_megabytes > 0, "more than 0"),
        ],
    )
    with stopping.immediate(), own_folder():
        runs = find(config.runs)
        taken = listen(config.host, config.port)
        use_cores(CHUNK)
        host = f"[{config.host}]" if ":" in config.host else config.host
        count = f"{len(runs)} run{'s' * (len(runs) != 1)}"
        console().print(f"{count} at http://{host}:{config.port}; Ctrl-C ends", soft_wrap=True)
        serve(runs, taken, own_names(config.host, config.names), config.upload_megabytes)


if __name__ == "__main__":
    prepare_jax()
    sys.exit(run(main, sys.argv[1:]))
