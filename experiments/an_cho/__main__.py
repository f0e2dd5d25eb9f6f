"""An & Cho 2015: anomalous digits and attacks, by reconstruction probability and by the methods it is compared with."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from experiments.an_cho.inputs import AN_CHO, describe_data
from experiments.an_cho.outputs import conclude
from experiments.an_cho.pieces import run_pieces
from experiments.command_line import run
from experiments.runs import processes, stopping
from experiments.runs.experiment import announce
from experiments.runs.progress import console
from experiments.startup import prepare_jax


def main(arguments: Sequence[str]) -> None:
    """Runs the experiments."""
    output = console()
    with stopping.immediate(), processes.together():
        config, inputs, opened = AN_CHO.start(arguments)
        announce(output, describe_data(config, inputs), opened, inputs.notices)
        with AN_CHO.resumable(opened):
            results = run_pieces(config, inputs, opened, output)
            if processes.finish():
                conclude(config, inputs, opened, results, output)


if __name__ == "__main__":
    prepare_jax(large_arrays=True)
    sys.exit(run(main, sys.argv[1:]))
