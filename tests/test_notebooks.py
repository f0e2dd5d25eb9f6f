"""The notebooks run whole, and are kept with outputs that came from running them whole."""

import re
from pathlib import Path

import nbformat
import pytest

from notebooks.execute import FOLDER, execute

NOTEBOOKS = sorted(FOLDER.glob("*.ipynb"))
# Where somebody's files would be; a notebook's own words name none of these.
MACHINE_PATH = re.compile(r"(?<![\w.])/(home|root|Users|work|tmp|var|usr|opt|mnt|srv|data)/|[A-Z]:\\")
LARGEST_BYTES = 600_000

each = pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)


def code_cells(notebook: nbformat.NotebookNode) -> list[nbformat.NotebookNode]:
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def test_there_are_four() -> None:
    assert [path.stem for path in NOTEBOOKS] == ["claims", "faces", "fraud", "research"]


@each
def test_runs_whole_at_a_small_size(path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VAE_JAX_NOTEBOOK_SMALL", "1")
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    notebook = execute(path)  # raises if a cell does
    assert [cell.execution_count for cell in code_cells(notebook)] == list(range(1, len(code_cells(notebook)) + 1))
    written = "".join(output.get("text", "") for cell in code_cells(notebook) for output in cell.outputs)
    assert "nan" not in written.lower().split()


@each
def test_is_kept_with_the_outputs_of_one_run(path: Path) -> None:
    notebook = nbformat.read(path, as_version=4)
    cells = code_cells(notebook)
    assert [cell.execution_count for cell in cells] == list(range(1, len(cells) + 1))
    outputs = [output for cell in cells for output in cell.outputs]
    assert {output.output_type for output in outputs} == {"stream", "display_data"}  # no error, and no forgotten value
    assert any({"image/png", "image/jpeg"} & output.get("data", {}).keys() for output in outputs)
    assert all(output.name == "stdout" for output in outputs if output.output_type == "stream")
    assert not any("execution" in cell.metadata for cell in cells)  # the times at which cells ran


@each
def test_names_no_path_of_a_machine_and_stays_small(path: Path) -> None:
    notebook = nbformat.read(path, as_version=4)
    texts = [cell.source for cell in notebook.cells]
    for cell in code_cells(notebook):
        for output in cell.outputs:
            texts += [output.get("text", ""), output.get("data", {}).get("text/plain", "")]
    for text in texts:
        assert not MACHINE_PATH.search(text), text
    assert path.stat().st_size < LARGEST_BYTES
