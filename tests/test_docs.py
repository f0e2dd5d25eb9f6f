"""A broken reference fails the build of the documentation."""

import logging
import re
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


@pytest.mark.parametrize("package", ["vae_jax", "experiments"])
def test_contributing_lists_the_house_in_the_order_of_imports(package):
    root = MKDOCS_YML.parent
    tree = (root / "CONTRIBUTING.md").read_text().partition(f"\n{package}/ ")[2].partition("\n  ")[2]
    lines = re.split(r"\n  (?! )", re.split(r"\n(?! )", tree)[0])
    names = [re.split(r"\s{2,}", line)[0].split() for line in lines]  # before what is said of them
    place = {name.removesuffix(".py").rstrip("/"): i for i, of_line in enumerate(names) for name in of_line}
    for path in (root / package).glob("**/*.py"):
        own = path.relative_to(root / package).parts[0].removesuffix(".py")
        for name in re.findall(rf"^ *from {package}(?:\.| import )(\w+)", path.read_text(), re.MULTILINE):
            if own in place and name in place and name != own:
                assert place[name] < place[own], f"{own} imports {name}, which is below it"
