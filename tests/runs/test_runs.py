import errno
import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import threading
import time
from dataclasses import asdict, dataclass
from pathlib import Path

import pytest
from run_helpers import write_config

from experiments.command_line import Interrupted, RunError, UsageError
from experiments.fraud.config import FraudConfig
from experiments.fraud.inputs import FRAUD
from experiments.runs import loop, run_folder

PROJECT = Path(run_folder.__file__).resolve().parents[2]


@dataclass(frozen=True)
class Config:
    epochs: int = 3
    dims: tuple[int, ...] = (4, 2)
    name: str | None = None


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch) -> Path:
    """Runs go below an empty folder."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def same_second(monkeypatch) -> str:
    """Stops the clock that names runs."""
    monkeypatch.setattr(time, "strftime", lambda form: "2025-01-31_12-00-00")
    return "2025-01-31_12-00-00"


def close(run: run_folder.Run) -> run_folder.Run:
    """Does what the end of the process does."""
    run.close()
    return run


def refusal(call, *arguments, error_type: type[Exception] = UsageError) -> str:
    with pytest.raises(error_type) as caught:
        call(*arguments)
    assert len(str(caught.value).splitlines()) == 1
    return str(caught.value)


def contents(folder: Path) -> dict[str, str]:
    return {path.name: path.read_text() for path in folder.iterdir()}


def test_a_run_holds_its_config():
    run = run_folder.create("fraud", None, Config())
    assert run.folder.parent == Path("runs/fraud")
    assert json.loads((run.folder / "config.json").read_text()) == {"epochs": 3, "dims": [4, 2], "name": None}


def test_runs_of_the_same_second_get_folders_of_their_own(same_second):
    created = [run_folder.create("fraud", None, Config(epochs=i)) for i in range(3)]
    assert [run.folder.name for run in created] == [same_second, f"{same_second}_2", f"{same_second}_3"]
    assert [json.loads((run.folder / "config.json").read_text())["epochs"] for run in created] == [0, 1, 2]


def test_runs_created_at_once_get_folders_of_their_own(same_second):
    created, start = [], threading.Barrier(8)

    def create(i: int) -> None:
        start.wait()
        created.append((i, run_folder.create("fraud", None, Config(epochs=i))))

    threads = [threading.Thread(target=create, args=(i,)) for i in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len({run.folder for _, run in created}) == 8
    for i, run in created:
        assert json.loads((run.folder / "config.json").read_text())["epochs"] == i
    assert Path("runs/fraud/latest").resolve() in {run.folder.resolve() for _, run in created}
    assert len(list(Path("runs/fraud").iterdir())) == 9  # the runs and latest, and no other link


def test_latest_points_to_the_newest(same_second):
    for _ in range(3):
        run = run_folder.create("fraud", None, Config())
        assert Path("runs/fraud/latest").is_symlink()
        assert Path("runs/fraud/latest").resolve() == run.folder.resolve()


def test_latest_survives_moving_the_folder_of_runs(folder):
    run = run_folder.create("fraud", None, Config())
    os.rename("runs", "kept")
    assert Path("kept/fraud/latest").resolve() == folder / "kept" / "fraud" / run.folder.name


def test_latest_is_replaced_without_a_gap(same_second):
    run_folder.create("fraud", None, Config())
    gaps, done = [], threading.Event()

    def watch() -> None:
        while not done.is_set():
            try:
                Path("runs/fraud/latest/config.json").read_text()
            except OSError as error:
                gaps.append(error)

    watcher = threading.Thread(target=watch)
    watcher.start()
    for _ in range(30):
        run_folder.create("fraud", None, Config())
    done.set()
    watcher.join()
    assert not gaps


def test_experiments_have_a_latest_each():
    fraud, faces = run_folder.create("fraud", None, Config()), run_folder.create("celeba", None, Config())
    assert Path("runs/fraud/latest").resolve() == fraud.folder.resolve()
    assert Path("runs/celeba/latest").resolve() == faces.folder.resolve()


@pytest.mark.parametrize("exists", [False, True])
def test_run_dir_may_be_new_or_empty(folder, exists):
    if exists:
        Path("some/where").mkdir(parents=True)
    run = run_folder.create("fraud", "some/where", Config())
    assert run.folder == Path("some/where")
    assert (run.folder / "config.json").is_file()
    assert not Path("runs").exists()


def test_run_dir_that_is_not_empty_is_refused():
    Path("mine").mkdir()
    Path("mine/thesis.txt").write_text("precious")
    message = refusal(run_folder.create, "fraud", "mine", Config())
    assert message.startswith("--run-dir mine: not empty")
    assert "--resume mine" in message
    assert contents(Path("mine")) == {"thesis.txt": "precious"}
    Path("mine").rename("my thesis")
    assert "--resume 'my thesis'," in refusal(run_folder.create, "fraud", "my thesis", Config())


def test_the_command_to_continue_can_be_pasted_whatever_the_folder_is_called(capsys):
    run = close(run_folder.create("fraud", "my run", Config()))
    with pytest.raises(Interrupted), FRAUD.resumable(run):
        raise Interrupted(signal.SIGTERM)
    assert capsys.readouterr().err == "stopped; continue with: bash run.sh fraud --resume 'my run'\n"


def test_a_run_that_has_ended_can_be_opened_again_in_the_same_process():
    """Also while something refers to it, such as the traceback of its error."""
    run = run_folder.create("fraud", "mine", Config())
    assert "another process is using this run" in refusal(run_folder.reopen, "fraud", "mine")
    with pytest.raises(RuntimeError), FRAUD.resumable(run):
        raise RuntimeError
    assert run_folder.reopen("fraud", "mine").writes


def test_run_dir_of_another_run_is_refused():
    close(run_folder.create("fraud", "mine", Config()))
    assert refusal(run_folder.create, "fraud", "mine", Config()).startswith("--run-dir mine: not empty")


@pytest.mark.parametrize("place", ["file", "file/run", "file/some/run"])
def test_run_dir_that_cannot_be_written_is_refused(place):
    Path("file").write_text("not a folder")
    assert refusal(run_folder.create, "fraud", place, Config()).startswith(f"can't write in {place}: ")
    assert Path("file").read_text() == "not a folder"


def test_default_place_that_cannot_be_written_is_refused():
    Path("runs").write_text("not a folder")
    assert refusal(run_folder.create, "fraud", None, Config()).startswith("can't write in runs/fraud: ")


def test_a_run_is_found_by_latest_name_and_path(folder):
    run = close(run_folder.create("fraud", None, Config()))
    run_folder.create("fraud", None, Config())
    for name in (run.folder.name, str(run.folder), f"{run.folder}/", str(folder / run.folder)):
        assert close(run_folder.reopen("fraud", name)).folder == folder / run.folder
    run = close(run_folder.create("fraud", None, Config()))
    assert close(run_folder.reopen("fraud", "latest")).folder == folder / run.folder


def test_a_run_in_a_folder_of_its_own_is_found_by_path(folder):
    close(run_folder.create("fraud", "some/where", Config()))
    assert close(run_folder.reopen("fraud", "some/where")).folder == folder / "some" / "where"


@pytest.mark.parametrize(
    "name",
    ["latest", "nope", "no/such/run", "/no/such/run", pytest.param("x" * 300, id="longer than a name may be")],
)
def test_a_missing_run_is_refused(name):
    assert refusal(run_folder.reopen, "fraud", name).startswith(f"--resume {name}: no run at ")


def test_a_folder_that_is_no_run_is_left_alone():
    Path("mine").mkdir()
    assert refusal(run_folder.reopen, "fraud", "mine").startswith("--resume mine: no run at ")
    assert contents(Path("mine")) == {}


def test_reopening_changes_nothing():
    run = close(run_folder.create("fraud", None, Config()))
    before = contents(run.folder)
    close(run_folder.reopen("fraud", "latest"))
    assert contents(run.folder) == before


def test_an_open_run_is_refused(folder):
    run = run_folder.create("fraud", None, Config())
    # A lock belongs to an open file, not to a process: a second open here meets it as another process would.
    expected = f"{folder / run.folder}: another process is using this run"
    assert refusal(run_folder.reopen, "fraud", "latest") == expected
    close(run)
    reopened = run_folder.reopen("fraud", "latest")
    assert refusal(run_folder.reopen, "fraud", "latest") == expected
    close(reopened)


def test_another_process_is_refused_and_its_death_frees_the_run():
    program = """
import dataclasses, time
from experiments.runs import run_folder
run = run_folder.create("fraud", "mine", dataclasses.make_dataclass("Config", [])())
print("open", flush=True)
time.sleep(60)
"""
    environment = os.environ | {"PYTHONPATH": str(PROJECT)}
    holder = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, env=environment)
    assert holder.stdout.readline() == b"open\n"
    assert "another process is using this run" in refusal(run_folder.reopen, "fraud", "mine")
    holder.kill()
    holder.wait()
    holder.stdout.close()
    close(run_folder.reopen("fraud", "mine"))


KILLED = """
import dataclasses, os, signal, sys
from experiments.command_line import UsageError
from experiments.runs import run_folder

Config, place = dataclasses.make_dataclass("Config", []), sys.argv[1] if len(sys.argv) > 1 else None

def create():
    return run_folder.create("fraud", place and f"{place}/{step}", Config(), {"deep/inputs.json": [1]})

def kill_at(step):
    left = [step]
    def count(event, arguments):
        if event in ("open", "os.mkdir", "os.rename", "os.symlink"):
            left[0] -= 1
            if left[0] < 0:
                os.kill(os.getpid(), signal.SIGKILL)
    sys.addaudithook(count)

step, status = -1, None
while status != 0:
    step += 1
    if not (child := os.fork()):
        kill_at(step)
        create()
        os._exit(0)
    status = os.waitpid(child, 0)[1]
    try:
        run = run_folder.reopen("fraud", f"{place}/{step}" if place else "latest")
    except UsageError:
        run = create()
    assert run.read_json("deep/inputs.json") == [1]
    run.close()
print(step)
"""


@pytest.mark.parametrize("place", [None, "mine"])
def test_killed_at_any_step_of_its_making_a_folder_is_continued_or_begun_again(folder, place):
    environment = os.environ | {"PYTHONPATH": str(PROJECT)}
    command = [sys.executable, "-c", KILLED, *([place] if place else [])]
    result = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    assert int(result.stdout) > 10  # steps
    if place:
        left = {path.name for path in folder.rglob("*") if path.is_file()}
        assert left == {".lock", "format.json", "inputs.json", "config.json"}
    assert not list(folder.glob("runs/fraud/.*"))


def test_a_folder_with_more_than_the_first_files_of_a_run_is_refused():
    path = Path("mine/checkpoints/4/state")
    path.parent.mkdir(parents=True)
    path.write_text("precious")
    assert refusal(run_folder.create, "fraud", "mine", Config()).startswith("--run-dir mine: not empty")
    assert path.read_text() == "precious"


@pytest.mark.parametrize("config", [FraudConfig(), FraudConfig(hidden_dims=(3,), recipes=("gaussian",), run_dir="x")])
def test_config_comes_back(config):
    assert run_folder.read_config(run_folder.create("fraud", None, config), FraudConfig) == config


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (lambda record: record | {"momentum": 0.9}, "momentum"),
        (lambda record: {"old_name" if k == "name" else k: v for k, v in record.items()}, "old_name"),
    ],
)
def test_config_with_unknown_fields_is_refused_by_name(change, named):
    run = run_folder.create("fraud", None, Config())
    write_config(run.folder, change(asdict(Config())))
    expected = f"{run.folder / 'config.json'}: made by another command or version; it has {named}"
    assert refusal(run_folder.read_config, run, Config) == expected


def test_options_that_are_newer_than_a_run_have_their_defaults():
    run = run_folder.create("fraud", None, Config())
    write_config(run.folder, {name: value for name, value in asdict(Config()).items() if name != "dims"})
    assert run_folder.read_config(run, Config) == Config()


@pytest.mark.parametrize("content", [b"", b'{"epochs": 3, ', b"\xff\xfe\0", b"not json", b"[]", b"null", b"3"])
def test_damaged_config_is_refused(content):
    run = run_folder.create("fraud", None, Config())
    (run.folder / "config.json").write_bytes(content)
    assert refusal(run_folder.read_config, run, Config).startswith(f"{run.folder / 'config.json'}: damaged")


@pytest.mark.parametrize(
    "damage", [{"epochs": "3"}, {"epochs": True}, {"epochs": 3.5}, {"dims": [4, None]}, {"name": 2}]
)
def test_config_with_a_value_of_another_type_is_refused_by_name(damage):
    run = run_folder.create("fraud", None, Config())
    write_config(run.folder, asdict(Config()) | damage)
    ((name, value),) = damage.items()
    expected = f"{run.folder / 'config.json'}: damaged ({name} is {value!r})"
    assert refusal(run_folder.read_config, run, Config) == expected


def test_a_config_that_was_altered_since_is_refused():
    run = run_folder.create("fraud", None, Config())
    whole = (run.folder / "config.json").read_bytes()
    (run.folder / "config.json").write_bytes(whole.replace(b"3", b"7"))  # one bit's flip away
    expected = f"{run.folder / 'config.json'}: damaged (not as the run wrote it, by its checksum)"
    assert refusal(run_folder.read_config, run, Config) == expected
    (run.folder / "config.json").write_bytes(whole)
    assert run_folder.read_config(run, Config) == Config()


def test_a_run_of_before_has_no_checksum_of_its_config():
    run = run_folder.create("fraud", None, Config())
    run.write_json("format.json", {"format": 1, "vae_jax": "0.1.0"})
    run.write_json("config.json", asdict(Config(epochs=7)))
    assert run_folder.read_config(run, Config).epochs == 7


def test_run_has_a_format_and_one_of_before_had_none():
    run = run_folder.create("fraud", None, Config())
    assert run.read_json("format.json")["format"] == run_folder.FORMAT
    (run.folder / "format.json").unlink()
    assert run_folder.read_config(run, Config) == Config()


def test_newer_format_is_refused():
    run = run_folder.create("fraud", None, Config())
    run.write_json("format.json", {"format": run_folder.FORMAT + 1, "vae_jax": "9.9"})
    expected = f"{run.folder}: written by vae_jax 9.9 in format 2; this one reads up to 1"
    assert refusal(run_folder.read_config, run, Config) == expected


@pytest.mark.parametrize("content", ["{", "[]", "{}", '{"format": "2"}'])
def test_damaged_format_is_refused(content):
    run = run_folder.create("fraud", None, Config())
    (run.folder / "format.json").write_text(content)
    assert refusal(run_folder.read_config, run, Config).startswith(f"{run.folder / 'format.json'}: damaged")


def test_missing_json_is_refused():
    run = run_folder.create("fraud", None, Config())
    assert refusal(run.read_json, "inputs.json") == f"{run.folder / 'inputs.json'}: no such file"


def test_json_comes_back():
    run = run_folder.create("fraud", None, Config())
    record = {"a": [0.1, 1e-300, None, True], "b": {"c": "ü"}}
    run.write_json("deep/down/record.json", record)
    assert run.read_json("deep/down/record.json") == record


def test_json_holds_no_nan():
    run = run_folder.create("fraud", None, Config())
    run.write_json("record.json", {"a": 1})
    with pytest.raises(ValueError, match="not JSON compliant"):
        run.write_json("record.json", {"a": float("nan")})
    assert run.read_json("record.json") == {"a": 1}


def test_text_is_replaced_whole():
    run = run_folder.create("fraud", None, Config())
    for text in ("long " * 100, "ü\n", ""):
        run.write_text("report.html", text)
        assert (run.folder / "report.html").read_text(encoding="utf-8") == text
    assert not list(run.folder.glob("*.partial"))


def write_on_a_full_disk(run: run_folder.Run, monkeypatch: pytest.MonkeyPatch, when: str) -> str:
    """Writes report.html, and lets the disk fail while writing or while renaming; returns the message."""
    if when == "renaming":

        def fail(*arguments):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

        with monkeypatch.context() as patch:
            patch.setattr(os, "replace", fail)
            return refusal(run.write_text, "report.html", "new", error_type=RunError)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, hard))
    try:
        return refusal(run.write_text, "report.html", "new" * 10_000, error_type=RunError)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.mark.parametrize("when", ["writing", "renaming"])
@pytest.mark.parametrize("old", ["old", None])
def test_failing_disk_is_told_in_one_line_and_keeps_the_old_text(monkeypatch, when, old):
    run = run_folder.create("fraud", None, Config())
    if old:
        run.write_text("report.html", old)
    assert write_on_a_full_disk(run, monkeypatch, when).startswith(f"can't write in {run.folder}: ")
    assert contents(run.folder).get("report.html") == old


@pytest.mark.parametrize("when", ["writing", "renaming"])
def test_failing_disk_leaves_no_partial_file(monkeypatch, when):
    run = run_folder.create("fraud", None, Config())
    before = contents(run.folder)
    write_on_a_full_disk(run, monkeypatch, when)
    assert contents(run.folder) == before


def test_folder_that_cannot_be_made_is_told_in_one_line():
    run = run_folder.create("fraud", None, Config())
    (run.folder / "figures").write_text("not a folder")
    message = refusal(run.path, "figures", "curves.png", error_type=RunError)
    assert message.startswith(f"can't write in {run.folder}: ")


def test_other_processes_follow_a_run_and_write_nothing():
    made = run_folder.create("fraud", "run", Config())
    followed = run_folder.follow(str(made.folder.absolute()))  # in spite of the lock
    assert made.writes
    assert not followed.writes
    assert run_folder.read_config(followed, Config) == Config()
    before = contents(made.folder)
    followed.write_json("metrics.json", {})
    assert contents(made.folder) == before


def test_a_folder_that_other_processes_do_not_see_is_refused(folder):
    assert "--run-dir must be on a disk that all processes share" in refusal(run_folder.follow, str(folder / "nowhere"))


def test_a_folder_that_was_removed_does_not_come_back(folder):
    run = run_folder.create("fraud", "run", Config())
    shutil.rmtree("run")
    for write in (run.check, lambda: run.write_json("metrics.json", {}), lambda: run.path("figures", "curves.png")):
        assert refusal(write, error_type=RunError) == "run: removed while the run was using it"
    assert not Path("run").exists()


def test_a_log_that_was_removed_is_noticed_where_its_lines_are_counted(folder):
    run = run_folder.create("fraud", "run", Config())
    run.write_text(loop.METRICS_LOG, '{"recipe": "report", "epoch": 1}\n{"recipe": "gaus')
    assert loop.read_log(run, "report") == [{"recipe": "report", "epoch": 1}]
    line = "run/metrics.jsonl: the lines of gaussian were removed while the run was using them"
    assert refusal(loop.read_log, run, "gaussian", error_type=RunError) == line
    shutil.rmtree("run")
    assert refusal(loop.read_log, run, "report", error_type=RunError) == "run: removed while the run was using it"


def test_damaged_lines_of_a_log_are_left_out_and_named_unless_a_kill_has_cut_the_last(folder, capsys):
    run = run_folder.create("fraud", "run", Config())
    lines = [b'{"recipe": "report", "epoch": %d}' % epoch for epoch in (1, 2, 3, 4)]
    damaged = [lines[0], b'{"recipe": "\xff', b"[1]", b'{"recipe": "report"}', *lines[1:], lines[0][:-1]]
    Path("run/metrics.jsonl").write_bytes(b"\n".join(damaged))
    loop._forget_after(run, "report", 3)
    assert Path("run/metrics.jsonl").read_bytes() == b"".join(line + b"\n" for line in lines[:3])
    assert capsys.readouterr().err == "warning: run/metrics.jsonl: left out lines that are damaged: 2, 3, 4\n"
    Path("run/metrics.jsonl").write_bytes(b"\n".join([*lines, lines[0][:-1]]))
    assert len(loop.read_log(run, "report")) == 4
    assert capsys.readouterr().err == ""
