"""A broken reference fails the build of the documentation."""

import logging
from pathlib import Path

import pytest

MKDOCS_YML = Path(__file__).parent.parent / "mkdocs.yml"


def build(folder: Path, page: str, docstring: str) -> None:
    """Builds a page about a module, with the project's own settings."""
    pytest.importorskip("mkdocstrings", reason="bash run.sh docs installs what builds the documentation")
    from mkdocs.commands.build import build
    from mkdocs.config import load_config

    (folder / "docs").mkdir()
    (folder / "docs" / "index.md").write_text(f"# Page\n\n{page}\n\n::: part\n")
    (folder / "part.py").write_text(f'"""{docstring}"""\n')
    config = load_config(
        str(MKDOCS_YML), docs_dir=str(folder / "docs"), site_dir=str(folder / "site"), nav=["index.md"]
    )
    config.plugins["mkdocstrings"].config.handlers["python"]["paths"] = [str(folder)]
    build(config)


def test_sound_references_build(tmp_path):
    build(tmp_path, "[Itself](index.md#page), and [a module][part].", "A part, see [`part`][].")
    assert 'href="#part"' in (tmp_path / "site" / "index.html").read_text()


@pytest.mark.parametrize(
    ("page", "docstring", "name"),
    [
        ("[No such page](nowhere.md).", "A part.", "nowhere.md"),
        ("[No such heading](index.md#nowhere).", "A part.", "#nowhere"),
        ("![No such figure](nowhere.png)", "A part.", "nowhere.png"),
        ("[No such object][part.nothing].", "A part.", "part.nothing"),
        ("::: part.nothing", "A part.", "part.nothing"),
        ("", "A part that names [another][part.nothing].", "part.nothing"),
    ],
    ids=["page", "heading", "figure", "object", "object to show", "object in a docstring"],
)
def test_broken_reference_fails(tmp_path, caplog, page, docstring, name):
    with caplog.at_level(logging.WARNING), pytest.raises(SystemExit):
        build(tmp_path, page, docstring)
    assert name in caplog.text
