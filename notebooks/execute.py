"""Runs notebooks from a clean kernel and writes them back with their outputs: all of them, or those that are named."""

from __future__ import annotations

import sys
from pathlib import Path

import nbformat
from nbclient import NotebookClient

FOLDER = Path(__file__).parent


def execute(path: Path) -> nbformat.NotebookNode:
    """Runs a notebook whole, in its own folder, as Jupyter does.

    Args:
      path: the notebook.

    Returns:
      The notebook with its outputs, and without the times at which its cells ran.

    Raises:
      nbclient.exceptions.CellExecutionError: if a cell raises.
    """
    notebook = nbformat.read(path, as_version=4)
    # "python3" is the kernel of the interpreter that runs this, if ipykernel is installed there.
    client = NotebookClient(
        notebook, kernel_name="python3", record_timing=False, resources={"metadata": {"path": str(path.parent)}}
    )
    return client.execute()


if __name__ == "__main__":
    for path in map(Path, sys.argv[1:] or sorted(FOLDER.glob("*.ipynb"))):
        nbformat.write(execute(path), path)
