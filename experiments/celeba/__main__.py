"""Faces: prepare pictures, train a convolutional VAE, reconstruct, generate, measure and report."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from experiments.celeba.inputs import CELEBA, describe_data, notices
from experiments.celeba.model import PictureChunks, train
from experiments.celeba.outputs import conclude
from experiments.command_line import run
from experiments.runs import processes, stopping
from experiments.runs.experiment import announce
from experiments.runs.progress import console
from experiments.startup import prepare_jax
from vae_jax.training.parallel import on_one_device


def main(arguments: Sequence[str]) -> None:
    """Runs the experiment."""
    output = console()
    with stopping.immediate(), processes.together():
        config, inputs, opened = CELEBA.start(arguments)
        announce(output, describe_data(config, inputs), opened, notices(inputs))
        with CELEBA.resumable(opened):
            state = train(config, inputs, opened, output)
            chunks, pixels = PictureChunks(state), inputs.images.pixels
            training, held_out = (chunks.encode(state, pixels, rows) for rows in (inputs.train, inputs.test))
            if processes.finish():
                conclude(config, inputs, opened, on_one_device(state), training, held_out, output)


if __name__ == "__main__":
    prepare_jax(large_arrays=True)
    sys.exit(run(main, sys.argv[1:]))
