"""Digits: train VAEs and importance-weighted autoencoders, estimate log p(x), and compare with the papers."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from experiments.command_line import run
from experiments.mnist.inputs import MNIST, describe_data, notices
from experiments.mnist.models import models, plane_model, train
from experiments.mnist.outputs import conclude
from experiments.runs import processes, stopping
from experiments.runs.experiment import announce
from experiments.runs.progress import console
from experiments.startup import prepare_jax
from vae_jax.training.parallel import on_one_device


def main(arguments: Sequence[str]) -> None:
    """Runs the experiment."""
    output = console()
    with stopping.immediate(), processes.together():
        config, inputs, opened = MNIST.start(arguments)
        announce(output, describe_data(inputs), opened, notices(inputs))
        with MNIST.resumable(opened):
            found = models(config)
            extra = [plane_model(config)] if config.plane_epochs and config.figure == "iwae" else []
            trained = {}
            for model in [*extra, *found]:
                trained[model.name] = train(model, config, inputs, opened, output, trained)
            if processes.finish():
                trained = {name: on_one_device(state) for name, state in trained.items()}
                plane = trained.pop("plane", None)
                conclude(config, inputs, opened, found, trained, plane, output)


if __name__ == "__main__":
    prepare_jax()
    sys.exit(run(main, sys.argv[1:]))
