"""The commands that need no clone of the repository: what `run.sh` runs, and the console script `vae-jax`.

The experiments are installed as `vae_jax_experiments`, because any user may have a folder named `experiments`. While a
command runs, the package goes by that name all the same, because its modules import each other by it.
"""

from __future__ import annotations

import runpy
import signal
import sys
from importlib.util import find_spec
from pathlib import Path

from . import fill_closed_streams

COMMANDS = {  # module and help of each; run.sh has the same
    "fraud": ("fraud", "train on card transactions, or a table of your own; find anomalies, plot and report"),
    "celeba": ("celeba", "train on faces; reconstruct, generate, measure, plot and report"),
    "mnist": ("mnist", "reproduce two papers' figures on MNIST: log p(x) of VAEs and IWAEs, and the bound by latents"),
    "an-cho": ("an_cho", "reproduce An & Cho 2015: anomalous digits and network attacks by reconstruction probability"),
    "score": ("score", "score your own rows with a model saved by fraud or by VAEDetector"),
    "faces": (
        "celeba.faces",
        "make pictures with a trained face model: sample, reconstruct, interpolate, traverse, edit",
    ),
    "explore": (
        "explore",
        "look into finished runs in the browser: draw and edit faces, move the boundary of transactions",
    ),
    "export": ("export", "a trained model as ONNX (any language, browsers) or StableHLO (JAX alone)"),
    "sweep": ("fraud.sweep", "compare weights of the reconstruction term in fraud's report recipe"),
    "celeba-sweep": ("celeba.sweep", "compare weights of the reconstruction term in celeba"),
}
IN_A_CLONE = ("adbench", "bench", "lower", "faults", "test", "oldest", "check", "docs")


def main() -> int:
    """Runs a command as `python -m` does, so that whatever it sets before JAX starts is set here, too."""
    name, *rest = sys.argv[1:] or ["--help"]
    if name in ("help", "-h", "--help"):
        print(usage())
        return 0
    if name == "--version":
        print(f"vae_jax {version()}")
        return 0
    fill_closed_streams()
    if name in IN_A_CLONE:
        return _refuse(f"{name} needs a clone of the repository: bash run.sh {name}")
    if name not in COMMANDS:
        return _refuse(f"unknown command '{name}'; vae-jax --help lists them")
    # Ctrl-C ends the imports, which take seconds, and what comes after a command, at once and without a traceback, as
    # SIGTERM does. While it runs, a command has its own way.
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    name_experiments()
    sys.argv[1:] = rest
    try:
        runpy.run_module(f"experiments.{COMMANDS[name][0]}", run_name="__main__", alter_sys=True)
    except ModuleNotFoundError as error:
        if error.name is None or error.name.partition(".")[0] in ("experiments", "vae_jax"):
            raise
        extra = name if name in ("explore", "export") else "commands"
        return _refuse(f"vae-jax {name} needs {error.name}; pip install 'vae_jax[{extra}]' installs all it needs")
    return 0


def name_experiments() -> None:
    """Lets modules import each other by the package's name in a clone."""
    sys.modules["experiments"] = sys.modules[str(__package__)]


def usage() -> str:
    """The commands, each with a line of help."""
    return "\n".join(
        [
            "usage: vae-jax COMMAND [options]",
            "",
            *(f"  {name:13} {text}" for name, (_, text) in COMMANDS.items()),
            "",
            "Every command lists its options with --help. vae-jax --version tells the version.",
            "",
            f"A clone of the repository has more, by bash run.sh COMMAND: {', '.join(IN_A_CLONE)}.",
            "",
            "  VAE_JAX_DATA=DIR  folder with creditcard/creditcard.csv, celeba/, mnist/ and kdd99/",
        ]
    )


def version() -> str:
    """The library's version, without importing it, and JAX with it, which takes seconds."""
    package = find_spec("vae_jax")
    assert package is not None
    assert package.origin is not None
    return runpy.run_path(str(Path(package.origin).with_name("version.py")))["__version__"]


def _refuse(message: str) -> int:
    print(f"error: {message}", file=sys.stderr)
    return 2


if __name__ == "__main__":
    sys.exit(main())
