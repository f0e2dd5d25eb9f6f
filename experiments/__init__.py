"""The commands: one folder per experiment, and what they share."""

import os
import sys

# What starts them, as shown in help and errors. Installed, this package has another name: see `__main__.py`.
PROGRAM = "bash run.sh" if __name__ == "experiments" else "vae-jax"


def fill_closed_streams() -> None:
    """Opens something where a standard stream is closed, or the next file to be opened would take its place.

    Messages are dropped where standard error is closed, and what is written to a closed standard output fails. A closed
    standard input stays None, for whoever wants to read it.
    """
    if sys.stdin is None:
        os.open(os.devnull, os.O_RDONLY)
    if sys.stdout is None:
        sys.stdout = open(os.open(os.devnull, os.O_RDONLY), "w")  # noqa: SIM115 (for as long as the process lives)
    if sys.stderr is None:
        sys.stderr = open(os.devnull, "w")  # noqa: SIM115
