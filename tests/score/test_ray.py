"""`--engine ray` gives what the command gives. `.venv-cluster`, by `bash run.sh score --engine ray`, has Ray."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
from run_helpers import ROOT, refused

WHY = "needs Ray: .venv-cluster/bin/python -m pytest tests/score/test_ray.py; bash run.sh score --engine ray makes it"
ray = pytest.importorskip("ray", reason=WHY)

import experiments.score.__main__ as score  # noqa: E402
from experiments.command_line import run  # noqa: E402
from experiments.score import on_ray  # noqa: E402
from vae_jax import VAEDetector  # noqa: E402

COUNT = 3_000
READ = {
    "parquet": pd.read_parquet,
    "csv": pd.read_csv,
    "jsonl": lambda path: pd.read_json(path, lines=True, precise_float=True),
}


def table(seed: int) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    frame = pd.DataFrame(rng.normal(size=(COUNT, 3)) @ rng.normal(size=(3, 4)), columns=list("abcd"))
    return frame.assign(city=rng.choice(["Rome", "Oslo", "x; y"], COUNT), id=[f"r{i}" for i in range(COUNT)])


MODELLED = {"numbers": ["a", "b", "c", "d"], "words": ["a", "b", "city"]}


@pytest.fixture(scope="module")
def models(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("models")
    for name, columns in MODELLED.items():
        VAEDetector(recipe="gaussian", hidden_dims=(8,), epochs=1).fit(table(0)[columns]).save(folder / name)
    return folder


@pytest.fixture(scope="module")
def rows(tmp_path_factory) -> Path:
    """A folder of tables in two formats, with a file in a folder of its own."""
    folder = tmp_path_factory.mktemp("rows")
    (folder / "more").mkdir()
    table(1).to_csv(folder / "b.csv", index=False, sep=";")
    table(2).to_parquet(folder / "more" / "a.parquet", row_group_size=500)
    table(3).to_parquet(folder / "a.parquet", row_group_size=250)
    return folder


@pytest.fixture(scope="module")
def cluster() -> Iterator[None]:
    """Two nodes of one core each, on this machine."""
    from ray.cluster_utils import Cluster

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_worker_niceness", "0")  # or they starve on a busy machine
        nodes = Cluster(initialize_head=True, head_node_args={"num_cpus": 1})
        nodes.add_node(num_cpus=1)
        patch.setenv("RAY_ADDRESS", nodes.address)
        yield
        nodes.shutdown()


@pytest.fixture
def small_parts(monkeypatch) -> None:
    """As many parts as there are row groups."""
    monkeypatch.setattr(on_ray, "PART", 1)


def words(model: Path, source: Path, output: Path, *options: str) -> list[str]:
    return ["--model", str(model), "--input", str(source), "--output", str(output), *options]


def of_command(model: Path, rows: Path, folder: Path, *options: str) -> pd.DataFrame:
    """What the command says of each file, in the order of their names."""
    found = []
    for file in sorted(path for path in rows.rglob("*") if path.is_file()):
        assert run(score.main, words(model, file, folder / "one.parquet", *options)) == 0
        found.append(pd.read_parquet(folder / "one.parquet").assign(file=str(file)))
    return pd.concat(found, ignore_index=True)


def parts(folder: Path) -> list[Path]:
    return sorted(folder.glob("part-*"))


def assert_same(output: Path, expected: pd.DataFrame, kind: str = "parquet") -> None:
    assert sorted(path.name for path in output.iterdir()) == [on_ray.DONE, *(path.name for path in parts(output))]
    found = pd.concat([READ[kind](path) for path in parts(output)], ignore_index=True)
    assert found.columns[0] == "file"
    pd.testing.assert_frame_equal(found[expected.columns], expected, check_dtype=False, check_exact=True)


@pytest.mark.usefixtures("cluster", "small_parts")
@pytest.mark.parametrize(("model", "kind"), [("numbers", "parquet"), ("words", "csv"), ("words", "jsonl")])
def test_rows_scores_and_their_order_are_the_commands(model, kind, models, rows, capsys, tmp_path):
    options = ["--keep", "id", *(["--explain", "2"] if kind != "jsonl" else [])]
    expected = of_command(models / model, rows, tmp_path, *options)
    capsys.readouterr()
    engine = ["--engine", "ray", "--format", kind]
    assert run(score.main, words(models / model, rows, tmp_path / "out", *options, *engine)) == 0
    said = capsys.readouterr()
    assert said.out == ""
    anomalies = (expected["decision"] == "anomaly").sum()
    assert f"{len(expected):,} rows scored" in said.err.splitlines()[-1]
    assert f": {anomalies:,} anomal" in said.err.splitlines()[-1]
    assert_same(tmp_path / "out", expected, kind)
    assert len(parts(tmp_path / "out")) == 12 + 1 + 6


def workers() -> list[int]:
    """The processes of workers that were started by this one."""
    lines = subprocess.run(["ps", "-eo", "pid,ppid,args"], capture_output=True, text=True, check=True).stdout
    processes = [line.split(None, 2) for line in lines.splitlines()[1:]]
    ours = {os.getpid()}
    for _ in range(5):  # generations
        ours |= {int(pid) for pid, parent, _ in processes if int(parent) in ours}
    return [int(pid) for pid, _, name in processes if name.startswith("ray::MapWorker") and int(pid) in ours]


def test_workers_killed_in_the_middle_lose_nothing(models, cluster, small_parts, tmp_path):
    (tmp_path / "rows").mkdir()
    pd.concat([table(4)] * 10).to_parquet(tmp_path / "rows" / "many.parquet", row_group_size=300)
    expected = of_command(models / "numbers", tmp_path / "rows", tmp_path)
    output, killed, left = tmp_path / "out", [], []

    def kill() -> None:
        end = time.monotonic() + 200
        while len(parts(output)) < 10 and time.monotonic() < end:
            time.sleep(0.01)
        for process in workers():
            os.kill(process, signal.SIGKILL)
            killed.append(process)
        left.append(100 - len(parts(output)))

    killing = threading.Thread(target=kill)
    killing.start()
    status = run(score.main, words(models / "numbers", tmp_path / "rows", output, "--engine", "ray"))
    killing.join()
    assert status == 0
    assert len(killed) == 2
    assert left[0] > 20
    assert_same(output, expected)


@pytest.mark.usefixtures("cluster")
def test_workers_find_the_code_where_it_is_installed(models, tmp_path):
    (tmp_path / "packages").mkdir()
    (tmp_path / "packages" / "vae_jax").symlink_to(ROOT / "vae_jax")
    (tmp_path / "packages" / "vae_jax_experiments").symlink_to(ROOT / "experiments")
    table(6).to_parquet(tmp_path / "rows.parquet")
    path = f"import sys; sys.path.insert(0, {str(tmp_path / 'packages')!r})"
    script = f"{path}; from vae_jax_experiments.__main__ import main; sys.exit(main())"
    arguments = words(models / "numbers", tmp_path / "rows.parquet", tmp_path / "out", "--engine", "ray")
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    command = [sys.executable, "-P", "-c", script, "score", *arguments]
    subprocess.run(command, env=environment, cwd=tmp_path, check=True)
    assert len(pd.read_parquet(tmp_path / "out" / "part-000000.parquet")) == COUNT


def test_a_broken_row_ends_it_with_one_line(models, cluster, capsys, tmp_path):
    (tmp_path / "rows").mkdir()
    frame = table(5)[["a", "b", "c", "d"]]
    frame.to_csv(tmp_path / "rows" / "1.csv", index=False)
    frame.astype(object).replace({"b": {frame["b"][7]: "often"}}).to_csv(tmp_path / "rows" / "2.csv", index=False)
    arguments = words(models / "numbers", tmp_path / "rows", tmp_path / "out", "--engine", "ray")
    line = refused(score.main, arguments, capsys)
    assert f"{tmp_path / 'rows' / '2.csv'}: row 7 (line 9): column b" in line
    assert not (tmp_path / "out" / on_ray.DONE).exists()


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--output", "-"], "--output -: --engine ray takes"),
        (["--input", "-"], "--input -: --engine ray takes"),
        (["--input", "none"], "--input none: "),
        (["--input", "empty"], "--input empty: a folder without files"),
        (["--input", "full"], "notes.txt: its name ends in none of .csv"),
        (["--input-format", "xlsx"], "--input-format xlsx: --engine ray reads no Excel files"),
        (["--output", "full"], "--output full: not empty; name a new folder"),
        (["--output", "full/notes.txt"], "--output full/notes.txt: "),
        (["--output", "nowhere://bucket/x"], "--output nowhere://bucket/x: "),
        (["--rejects", "r.csv"], "--rejects r.csv: not with --engine ray"),
        (["--keep", "file"], "--keep file: the output has a column of this name"),
        (["--workers", "0"], "--workers 0: expected 1 or more"),
        (["--explain", "9"], "--explain 9: expected 0 to 4"),
        (["--model", "none"], "--model none: "),
    ],
)
def test_refused_before_a_cluster_is_started(options, said, models, rows, monkeypatch, capsys, tmp_path):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "notes.txt").write_text("hello")
    monkeypatch.setattr(ray, "init", lambda **_: pytest.fail("started"))
    arguments = words(models / "numbers", rows, tmp_path / "out", "--engine", "ray", *options)
    assert said in refused(score.main, arguments, capsys)


def test_row_groups_are_kept_together_up_to_the_size_of_a_part(tmp_path, monkeypatch):
    table(0).to_parquet(tmp_path / "rows.parquet", row_group_size=400)  # the last one has 200
    monkeypatch.setattr(on_ray, "PART", 1_000)
    _, found = on_ray.find_parts(str(tmp_path / "rows.parquet"), None)
    assert [part["groups"] for part in found] == [(0, 3), (3, 6), (6, 8)]
    assert pq.ParquetFile(tmp_path / "rows.parquet").num_row_groups == 8
