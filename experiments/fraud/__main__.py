"""Card transactions: train VAEs on genuine rows, score held-out rows by reconstruction probability, plot and report."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from experiments.command_line import run
from experiments.fraud.inputs import FRAUD, describe_data, kinds_table, left_out_recipes, notices
from experiments.fraud.models import train_recipe
from experiments.fraud.outputs import conclude
from experiments.fraud.results import apply, evaluate
from experiments.runs import processes, stopping
from experiments.runs.experiment import announce
from experiments.runs.progress import console
from experiments.startup import prepare_jax


def main(arguments: Sequence[str]) -> None:
    """Runs the experiment."""
    output = console()
    with stopping.immediate(), processes.together():
        config, inputs, opened = FRAUD.start(arguments)
        announce(output, describe_data(inputs), opened, notices(inputs) + left_out_recipes(config, inputs))
        if table := kinds_table(inputs):
            output.print(table)
        chosen = inputs.recipes(config)
        with FRAUD.resumable(opened):
            states = {recipe: train_recipe(recipe, config, inputs, opened, output) for recipe in chosen}
            outcomes = {recipe: apply(recipe, states[recipe], config, inputs) for recipe in chosen}
            if processes.finish():
                results = {recipe: evaluate(recipe, outcomes[recipe], config, inputs, opened) for recipe in outcomes}
                conclude(config, inputs, opened, results, output)


if __name__ == "__main__":
    prepare_jax()
    sys.exit(run(main, sys.argv[1:]))
