"""Nothing runs code from data: no pickle, no eval, no unsafe YAML, no np.load that unpickles."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
FILES = sorted(path for folder in ("vae_jax", "experiments") for path in (ROOT / folder).rglob("*.py"))
FORBIDDEN_MODULES = {"pickle", "cPickle", "dill", "cloudpickle", "joblib", "shelve", "marshal", "torch", "yaml"}
FORBIDDEN_CALLS = {"eval", "exec", "compile", "__import__", "read_pickle", "to_pickle", "read_hdf", "unsafe_load"}
BUILT_IN = {"eval", "exec", "compile", "__import__"}  # harmless as methods, such as jit's compile


def offences(source: str) -> list[str]:
    found = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found += [name.name for name in node.names if name.name.split(".")[0] in FORBIDDEN_MODULES]
        elif isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] in FORBIDDEN_MODULES:
            found.append(str(node.module))
        elif isinstance(node, ast.Call):
            if isinstance(node.func, ast.Name) and node.func.id in FORBIDDEN_CALLS:
                found.append(node.func.id)
            if isinstance(node.func, ast.Attribute) and node.func.attr in FORBIDDEN_CALLS - BUILT_IN:
                found.append(node.func.attr)
            found += [word.arg for word in node.keywords if word.arg == "allow_pickle"]
            found += ["shell=True" for word in node.keywords if word.arg == "shell"]
    return found


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_no_code_from_data(path):
    assert offences(path.read_text(encoding="utf-8")) == []


@pytest.mark.parametrize(
    "source",
    ["import pickle", "from joblib import load", "eval(x)", "pd.read_pickle(x)", "np.load(x, allow_pickle=True)"],
)
def test_offences_are_found(source):
    assert len(offences(source)) == 1
