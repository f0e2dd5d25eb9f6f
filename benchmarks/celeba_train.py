"""Training of the face model: images/s beside PyTorch's on the same machine, both sides in turn.

    python benchmarks/celeba_train.py --peer-python PYTHON_WITH_TORCH

Both sides wait while the other one works. The first steps of each (compilation, allocation) are left out.
"""

import argparse
import functools
import subprocess
import time
from pathlib import Path

import jax
import numpy as np
import optax

import vae_jax

PEER = Path(__file__).parent / "torch_celeba.py"


def our_steps(batch: int):
    """Returns a function that takes so many steps and gives the seconds they took."""
    create = functools.partial(
        vae_jax.create_train_state,
        vae=vae_jax.conv_vae(),
        objective=vae_jax.Objective(vae_jax.rmse, 2000.0),
        optimizer=optax.adam(5e-4),
        event_shape=(128, 128, 3),
    )
    state = jax.jit(create)(jax.random.key(0))
    data = np.random.default_rng(0).integers(0, 256, (4 * batch, 128, 128, 3), np.uint8)
    data = jax.device_put(data)
    step = jax.jit(
        functools.partial(vae_jax.train_steps, batch_size=batch, num_steps=1), donate_argnums=0, static_argnums=()
    )

    def run(count: int) -> float:
        nonlocal state
        started = time.perf_counter()
        for _ in range(count):
            state, _ = step(state, data)
        jax.block_until_ready(state)
        return time.perf_counter() - started

    run(2)
    return run


def their_steps(python: str, batch: int, *options: str):
    """The same by the peer, in a process of its own; and what it calls itself."""
    process = subprocess.Popen(
        [python, PEER, str(batch), *options], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdin
    assert process.stdout
    name = process.stdout.readline().strip()

    def run(count: int) -> float:
        print(count, file=process.stdin, flush=True)
        return float(process.stdout.readline())

    run(2)
    return run, name


def main() -> None:
    """Prints a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--peer-python", required=True, help="interpreter that has PyTorch")
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--steps", type=int, default=8, help="steps in a round")
    parser.add_argument("--rounds", type=int, default=7)
    options = parser.parse_args()
    sides = {"vae_jax": our_steps(options.batch)}
    for how in ((), ("--compile",)):
        run, name = their_steps(options.peer_python, options.batch, *how)
        sides[name] = run
    rates = {name: [] for name in sides}
    for _ in range(options.rounds):
        for name, run in sides.items():
            rates[name].append(options.batch * options.steps / run(options.steps))
    best = max(np.median(found) for name, found in rates.items() if name != "vae_jax")
    print(
        f"images/s at 128 x 128, batch {options.batch}, float32, {jax.devices()[0].device_kind}, jax {jax.__version__}"
    )
    for name, found in rates.items():
        low, middle, high = np.quantile(found, [0, 0.5, 1])
        print(f"{name:32} median {middle:7.1f}   {low:7.1f} to {high:7.1f}   {middle / best:5.2f} x the best peer")


if __name__ == "__main__":
    main()
