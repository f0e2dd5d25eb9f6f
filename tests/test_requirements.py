"""Versions are written down in several files, which have to agree."""

import re
import tomllib
from pathlib import Path

import pytest
import yaml

from vae_jax.version import __version__

PROJECT = Path(__file__).parent.parent


def _versions(lines: list[str]) -> dict[str, str]:
    """`{name: version}` of requirements such as `jax[tpu]==0.10`, without comments and unpinned names."""
    found = (re.match(r"([A-Za-z0-9_.-]+)(?:\[.*\])?[=>]=([\d.]+)$", line) for line in lines)
    return {match[1]: match[2] for match in found if match}


def _pinned(name: str) -> dict[str, str]:
    return _versions((PROJECT / name).read_text().splitlines())


def _padded(version: str) -> tuple[int, ...]:
    parts = [int(part) for part in version.split(".")]
    return tuple(parts + [0] * (3 - len(parts)))


def test_oldest_versions_are_those_that_the_package_allows():
    project = tomllib.loads((PROJECT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    tested_here = [
        extras[name] for name in extras if name not in ("cluster", "explore", "export")
    ]  # they have their environments
    allowed = _versions(sum(tested_here, project["dependencies"]))
    assert len(allowed) > 10
    oldest = _pinned("requirements-oldest.txt")
    assert {name: _padded(oldest[name]) for name in allowed} == {name: _padded(allowed[name]) for name in allowed}
    tested = _pinned("requirements.txt")
    rest = {name: version for name, version in oldest.items() if name not in allowed}
    assert rest == {name: tested[name] for name in rest}
    assert tested.keys() <= oldest.keys()


@pytest.mark.parametrize(
    "name",
    [f"requirements-{name}.txt" for name in ("lower", "bench", "export", "explore", "cluster")],
)
def test_other_environments_share_the_tested_versions(name):
    tested = _pinned("requirements.txt")
    shared = {package: version for package, version in _pinned(name).items() if package in tested}
    assert shared == {package: tested[package] for package in shared}


def test_the_lock_has_the_tested_versions_and_a_hash_of_each():
    entries = re.split(r"\n(?=\S)", (PROJECT / "requirements.lock").read_text())
    found = {}
    for entry in entries:
        if match := re.match(r"([a-z0-9][A-Za-z0-9._-]*)==([\d.]+)", entry):
            found[match[1]] = match[2]
            assert "--hash=sha256:" in entry, entry
    tested = {re.sub("[-_.]+", "-", name.lower()): version for name, version in _pinned("requirements.txt").items()}
    assert len(tested) > 20
    assert {name: found.get(name) for name in tested} == tested
    licences = (PROJECT / "docs" / "licences.md").read_text()
    assert [name for name in found if not re.search(rf"[ |]{re.escape(name)}[, ]", licences)] == []


def test_the_citation_names_the_version():
    assert yaml.safe_load((PROJECT / "CITATION.cff").read_text())["version"] == __version__


def test_every_package_is_packed():
    tools = tomllib.loads((PROJECT / "pyproject.toml").read_text())["tool"]["setuptools"]
    found = [
        ".".join([name, *path.parent.relative_to(PROJECT / folder).parts])
        for name, folder in tools["package-dir"].items()
        for path in (PROJECT / folder).rglob("__init__.py")
    ]
    assert sorted(tools["packages"]) == sorted(found)
