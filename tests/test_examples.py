"""The examples of docstrings and of the pages in docs/ run, and no public name is without one."""

import doctest
import inspect
import pkgutil
import re
from pathlib import Path

import pytest

import vae_jax

DOCS = Path(__file__).parent.parent / "docs"
PAGES = sorted(DOCS.rglob("*.md"))


def public_names() -> set[str]:
    """What `vae_jax/__init__.py` offers that can be called, and what the modules among it define."""
    names = set()
    for name in vae_jax.__all__:
        value = getattr(vae_jax, name)
        if inspect.ismodule(value):
            own = (member for member, its in vars(value).items() if getattr(its, "__module__", "") == value.__name__)
            names |= {f"{value.__name__}.{member}" for member in own if not member.startswith("_")}
        elif callable(value):
            names.add(f"vae_jax.{name}")
    return names


def shown_names() -> set[str]:
    """What the API pages show, save module texts and constants."""
    names = {name for page in PAGES for name in re.findall(r"^::: (\S+)$", page.read_text(), re.MULTILINE)}
    return {name for name in names if callable(pkgutil.resolve_name(name))}


def test_api_pages_show_every_public_name():
    assert public_names() <= shown_names()


@pytest.mark.parametrize("name", sorted(public_names() | shown_names()))
def test_example(name):
    finder, runner, report = doctest.DocTestFinder(), doctest.DocTestRunner(), []
    # No globals: an example has to run as it stands.
    examples = [test for test in finder.find(pkgutil.resolve_name(name), name, globs={}) if test.examples]
    assert examples, f"{name} has no example"
    for test in examples:
        runner.run(test, out=report.append)
    assert runner.failures == 0, "".join(report)


@pytest.mark.parametrize(
    "page", [page for page in PAGES if "```python" in page.read_text()], ids=lambda page: page.stem
)
def test_code_of_page(page):
    is_code, lines = False, []
    for line in page.read_text().splitlines():
        is_code = line == "```python" or (is_code and line != "```")
        lines.append(line if is_code and line != "```python" else "")  # so that an error has the page's line number
    exec(compile("\n".join(lines), page, "exec"), {})
