import dataclasses
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from experiments.fraud.config import FraudConfig

RUN_SH = Path(__file__).parent.parent / "run.sh"
PYTHON_THAT_ECHOES = '#!/bin/sh\n[ "$1" = -c ] && exit 0\nprintf "%s\\n" "$@"\nexit 7\n'


@pytest.fixture
def project(tmp_path) -> Path:
    """A folder with run.sh alone, so that nothing can reach the environment of the real one."""
    folder = tmp_path / "my project"
    folder.mkdir()
    shutil.copy(RUN_SH, folder)
    return folder


@pytest.fixture
def tools(tmp_path) -> Path:
    """A folder that comes first in PATH."""
    folder = tmp_path / "tools"
    folder.mkdir()
    return folder


def script(path: Path, text: str) -> Path:
    path.write_text(text)
    path.chmod(0o755)
    return path


def bash(run_sh: Path, *arguments: str, cwd: Path | None = None, **environment: str) -> subprocess.CompletedProcess:
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("VAE_JAX_")}
    command = ["bash", str(run_sh), *arguments]
    return subprocess.run(command, capture_output=True, text=True, env=inherited | environment, cwd=cwd, timeout=120)


def assert_refused(done: subprocess.CompletedProcess, *words: str) -> None:
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr.startswith("error: ")
    assert done.stderr.count("\n") == 1
    for word in words:
        assert word in done.stderr


@pytest.mark.parametrize("arguments", [["help"], [], ["-h"], ["--help"]])
def test_help(project, arguments):
    done = bash(project / "run.sh", *arguments)
    assert done.returncode == 0
    assert done.stderr == ""
    assert done.stdout.startswith("usage: bash run.sh COMMAND")
    for word in (
        "fraud",
        "score",
        "sweep",
        "bench",
        "lower",
        "faults",
        "test",
        "check",
        "docs",
        "VAE_JAX_PYTHON",
        "VAE_JAX_BENCH_PYTHON",
        "VAE_JAX_DATA",
    ):
        assert word in done.stdout
    assert [path.name for path in project.iterdir()] == ["run.sh"]


@pytest.mark.parametrize("command", ["frod", "fraud ", "--epochs", "test*"])
def test_unknown_command(project, command):
    assert_refused(bash(project / "run.sh", command), f"'{command}'", "bash run.sh help")
    assert [path.name for path in project.iterdir()] == ["run.sh"]


def test_python_that_does_not_exist(project):
    done = bash(project / "run.sh", "fraud", VAE_JAX_PYTHON="/no/such/python")
    assert_refused(done, "VAE_JAX_PYTHON=/no/such/python")
    assert [path.name for path in project.iterdir()] == ["run.sh"]


@pytest.mark.parametrize(
    "version", ["echo Python 3.9.7", "echo Python 3.9.7 >&2", "exit 1", "printf 'ls 9\\nby us\\n'"]
)
def test_python_that_is_too_old_or_none(project, tools, version):
    python = script(tools / "python", f"#!/bin/sh\ncase $1 in --version) {version} ;; *) exit 1 ;; esac\n")
    done = bash(project / "run.sh", "fraud", VAE_JAX_PYTHON=str(python))
    assert_refused(done, str(python), "3.11", "VAE_JAX_PYTHON", "3.9.7" if "3.9.7" in version else "")
    assert [path.name for path in project.iterdir()] == ["run.sh"]


def test_python_without_gradio_is_told_which_requirements_have_it(project, tools):
    python = script(tools / "python", '#!/bin/sh\n[ -z "$3" ] || echo "$3"\n')
    done = bash(project / "run.sh", "explore", VAE_JAX_PYTHON=str(python))
    assert_refused(done, "lacks gradio; install requirements-explore.txt into it")


def test_words_and_exit_code_pass_through_unchanged(project, tools):
    python = script(tools / "python", PYTHON_THAT_ECHOES)
    done = bash(project / "run.sh", "fraud", "--data", "a  b*", "", VAE_JAX_PYTHON=str(python))
    assert done.stdout.splitlines() == ["-m", "experiments", "fraud", "--data", "a  b*", ""]
    assert done.returncode == 7
    assert [path.name for path in project.iterdir()] == ["run.sh"]


@pytest.mark.parametrize("command", ["fraud", "sweep", "test"])
def test_python_may_be_a_relative_path(project, tools, command):
    script(tools / "python", PYTHON_THAT_ECHOES)
    done = bash(project / "run.sh", command, cwd=tools, VAE_JAX_PYTHON="./python")
    assert done.stderr == ""
    assert done.returncode == 7


def test_python_may_be_a_name_in_path(project, tools):
    script(tools / "mypython", PYTHON_THAT_ECHOES)
    done = bash(project / "run.sh", "test", "-q", VAE_JAX_PYTHON="mypython", PATH=f"{tools}:{os.environ['PATH']}")
    words = done.stdout.splitlines()
    assert words[:2] == ["-m", "pytest"]
    assert words[-1] == "-q"


def test_experiments_run_where_the_user_is_and_tests_in_the_project(project, tools):
    python = script(tools / "python", '#!/bin/sh\n[ "$1" = -c ] && exit 0\npwd\necho "$PYTHONPATH"\n')
    for command, place in (("fraud", tools), ("test", project)):
        done = bash(project / "run.sh", command, cwd=tools, VAE_JAX_PYTHON=str(python), PYTHONPATH="/mine")
        assert done.stdout.splitlines() == [str(place), f"{project}:/mine"]


def test_environment_is_made_once_and_again_for_other_requirements(project, tools):
    log = project.parent / "log"
    environment_python = '#!/bin/sh\\n[ "$1" = -c ] || echo "ran $2"\\n'
    script(
        tools / "uv",
        f"""#!/bin/bash
if [ "$1" = venv ]; then
  mkdir -p "${{!#}}/bin"
  printf '{environment_python}' >"${{!#}}/bin/python"
  chmod +x "${{!#}}/bin/python"
  echo venv >>'{log}'
else
  cat "${{!#}}" >>'{log}'
fi
""",
    )
    script(tools / "nvidia-smi", "#!/bin/sh\necho 'GPU 0: one'\n")
    path = f"{tools}:{os.environ['PATH']}"
    logged = []
    for requirements in ("jax[cuda12]==1\nnumpy\n", "jax[cuda12]==1\nnumpy\n", "jax[cuda12]==2\n"):
        (project / "requirements.txt").write_text(requirements)
        done = bash(project / "run.sh", "fraud", PATH=path)
        assert (done.returncode, done.stdout) == (0, "ran experiments\n")
        logged.append(log.read_text())
        log.write_text("")
    assert logged == ["venv\njax[cuda12]==1\nnumpy\n", "", "jax[cuda12]==2\n"]


PYTHON3 = """#!/bin/sh
[ "$1" = -c ] && exit
[ "$2" = venv ] || exit 3
echo venv >>'{log}'
rm -f '{replaced}'
mkdir -p "$3/bin"
cp '{environment}' "$3/bin/python"
"""
PYTHON_OF_AN_ENVIRONMENT = """#!/bin/sh
case "$*" in
  -c*) [ ! -e '{replaced}' ] ;;
  "-m pip install"*) echo install >>'{log}' ;;
  "-m pip --version") [ -e '{log}' ] ;;
  *) echo "ran $2" ;;
esac
"""


def test_environment_that_was_half_made_or_has_another_python_by_now_is_made_again(project, tools):
    log, replaced, environment = (project.parent / name for name in ("log", "replaced", "environment"))
    names = {"log": log, "replaced": replaced, "environment": environment}
    script(environment, PYTHON_OF_AN_ENVIRONMENT.format(**names))
    script(tools / "python3", PYTHON3.format(**names))
    script(tools / "nvidia-smi", "#!/bin/sh\necho 'GPU 0: one'\n")
    (project / "requirements.txt").write_text("numpy\n")
    half_made = project / ".venv" / "bin"
    half_made.mkdir(parents=True)
    shutil.copy(environment, half_made / "python")  # without pip, until there is a log
    logged = []
    for is_replaced in (False, False, True, False):
        if is_replaced:
            replaced.touch()
        done = bash(project / "run.sh", "fraud", PATH=f"{tools}:/usr/bin:/bin")  # without uv
        assert (done.returncode, done.stdout) == (0, "ran experiments\n"), done.stderr
        logged.append(log.read_text())
        log.write_text("")
    assert logged == ["venv\ninstall\n", "", "venv\ninstall\n", ""]


def test_a_search_path_for_folders_changes_nothing(project, tools):
    python = script(tools / "python", '#!/bin/sh\n[ "$1" = -c ] && exit 0\necho "$PYTHONPATH"\n')
    here = project.parent
    run_sh = (project / "run.sh").relative_to(here)
    done = bash(run_sh, "fraud", cwd=here, CDPATH=str(here), VAE_JAX_PYTHON=str(python), PYTHONPATH="/mine")
    assert done.stdout == f"{project}:/mine\n"


def test_peers_of_the_benchmark_get_an_environment_of_their_own(project, tools):
    python = script(tools / "python", '#!/bin/sh\n[ "$1" = -c ] && exit 0\necho "$2 $VAE_JAX_BENCH_PYTHON"\n')
    made = 'mkdir -p "$last/bin"; printf "#!/bin/sh\\n" >"$last/bin/python"; chmod +x "$last/bin/python"'
    log = project.parent / "log"
    text = f"""#!/bin/bash
last="${{!#}}"
if [ "$1" = venv ]; then {made}; else echo "$@" | grep -o "/.*/python" >>'{log}'; cat "$last" >>'{log}'; fi
"""
    script(tools / "uv", text)
    script(tools / "nvidia-smi", "#!/bin/sh\necho 'GPU 0: one'\n")  # so that no other package index is looked for
    (project / "requirements-bench.txt").write_text("torch==1\n")
    environment = {"PATH": f"{tools}:{os.environ['PATH']}", "VAE_JAX_PYTHON": str(python)}
    done = bash(project / "run.sh", "bench", **environment)
    peers = project / ".venv-bench" / "bin" / "python"
    assert done.stdout == f"benchmarks.bench {peers}\n"
    assert log.read_text() == f"{peers}\ntorch==1\n"
    done = bash(project / "run.sh", "bench", **environment, VAE_JAX_BENCH_PYTHON="/mine")
    assert done.stdout == "benchmarks.bench /mine\n"
    assert log.read_text() == f"{peers}\ntorch==1\n"


@pytest.mark.parametrize(
    ("arguments", "environment"),
    [
        (["--engine", "ray"], ".venv-cluster"),
        (["--engine=ray", "--model", "m"], ".venv-cluster"),
        (["--model", "m", "--engine", "ray", "--workers", "2"], ".venv-cluster"),
        (["--model", "ray"], ".venv"),
        (["--help"], ".venv"),
    ],
)
def test_scoring_on_a_cluster_has_an_environment_of_its_own(arguments, environment, project, tools):
    made = 'mkdir -p "$last/bin"; printf "#!/bin/sh\\necho \\$0" >"$last/bin/python"; chmod +x "$last/bin/python"'
    script(tools / "uv", f'#!/bin/bash\nlast="${{!#}}"\nif [ "$1" = venv ]; then {made}; fi\n')
    script(tools / "nvidia-smi", "#!/bin/sh\necho 'GPU 0: one'\n")
    for name in ("requirements.txt", "requirements-cluster.txt"):
        (project / name).write_text("numpy\n")
    done = bash(project / "run.sh", "score", *arguments, PATH=f"{tools}:{os.environ['PATH']}")
    assert done.stdout == f"{project / environment / 'bin' / 'python'}\n"


def test_failed_installation_is_said_and_tried_again(project, tools):
    script(tools / "uv", '#!/bin/sh\n[ "$1" = venv ] && exit\necho no network >&2\nexit 3\n')
    (project / "requirements.txt").write_text("jax[cuda12]==1\n")
    for _ in range(2):
        done = bash(project / "run.sh", "fraud", PATH=f"{tools}:{os.environ['PATH']}")
        assert done.returncode == 1
        assert "no network" in done.stderr
        assert done.stderr.splitlines()[-1] == "error: installing requirements.txt failed; see above"


def test_modules_where_the_user_is_are_not_run(tmp_path):
    for name in ("jax", "tyro", "importlib", "experiments/__init__", "experiments/__main__"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / f"{name}.py").write_text("raise SystemExit('run')")
    done = bash(RUN_SH, "score", "--help", cwd=tmp_path, VAE_JAX_PYTHON=sys.executable)
    assert (done.returncode, done.stderr) == (0, "")
    assert "usage: bash run.sh score" in done.stdout


def test_fraud_help_shows_each_option_with_its_default():
    done = bash(RUN_SH, "fraud", "--help", VAE_JAX_PYTHON=sys.executable, COLUMNS="100")
    assert done.returncode == 0, done.stderr
    text = " ".join(done.stdout.replace("│", " ").split())
    for field in dataclasses.fields(FraudConfig):
        value = " ".join(map(str, field.default)) if isinstance(field.default, tuple) else str(field.default)
        option = re.escape(f"--{field.name.replace('_', '-')}")
        assert re.search(rf" {option}[ ,](?:(?!\(default: ).)*\(default: {re.escape(value)}\)", text), field.name
