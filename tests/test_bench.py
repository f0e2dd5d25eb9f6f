import json
import math
import os
import sys
from pathlib import Path

import jax
import numpy as np
import pytest
from rich.console import Console

from benchmarks import bench, limits, rows, stand_in
from benchmarks.limits import Cost, Rates
from benchmarks.results import Result
from benchmarks.sides import Command, Side, SideError, check_parameters, race
from experiments.command_line import run
from vae_jax.images.digits import Digits
from vae_jax.networks import conv_vae, dense_vae
from vae_jax.tables.transactions import read_csv

PEERS = Path(bench.__file__).parent / "peers"
# A side that sleeps for so many milliseconds a unit, and says something on stdout that is no answer.
SLEEPER = """
import sys, time
sys.path.insert(0, {peers!r})
from serve import serve
def work(count):
    print("words of a library")
    time.sleep({seconds} * count)
serve({name!r}, work, 10, "nothing", {parameters})
"""


def sleeper(name: str, seconds: float, parameters: int | None = None) -> Command:
    code = SLEEPER.format(peers=str(PEERS), seconds=seconds, name=name, parameters=parameters)
    return Command([sys.executable, "-c", code], os.environ, name)


def test_race_of_a_fast_and_a_slow_side():
    found = race([sleeper("fast", 0.002, 5), sleeper("slow", 0.008, 5)], 3, 0.05)
    assert list(found.rates) == ["fast", "slow"]
    assert all(len(rates) == 3 for rates in found.rates.values())
    assert found.left_out == {"fast": "nothing", "slow": "nothing"}
    # Sleeping takes at least as long as asked, so these are upper bounds.
    assert max(found.rates["fast"]) <= 10 / 0.002
    assert max(found.rates["slow"]) <= 10 / 0.008
    assert np.median(found.rates["fast"]) > np.median(found.rates["slow"])


def test_peer_that_fails_is_named_with_its_reason_and_ours_must_run():
    broken = Command([sys.executable, "-c", "raise ImportError('no torch')"], os.environ, "torch, eager")
    missing = Command(["/no/such/python"], os.environ, "keras, fit")
    found = race([sleeper("fast", 0.001), broken, missing], 1, 0.01)
    assert found.failed["torch, eager"] == "ImportError: no torch"
    assert "/no/such/python" in found.failed["keras, fit"]
    with pytest.raises(SideError, match="torch, eager: ImportError: no torch"):
        race([broken, sleeper("fast", 0.001)], 1, 0.01)


def test_models_of_other_sizes_are_refused():
    check_parameters({"ours": 5, "theirs": 5, "forest": None})
    with pytest.raises(SideError, match="theirs: its model has 6 parameters, that of ours has 5"):
        check_parameters({"ours": 5, "theirs": 6})


def test_a_waiting_side_ends_with_its_block():
    with Side(sleeper("fast", 0.001)) as side:
        process = side._process
        assert side.measure(2) >= 0.002
        assert side.ready["peak_bytes"] > 1e6
    assert process.poll() is not None


RATES = {"ours": [40.0, 60.0, 50.0], "slow": [10.0, 10.0, 10.0], "best": [20.0, 20.0, 25.0]}


def test_medians_ratios_and_record():
    record = Result("row", "rows/s", RATES, limit=100.0, failed={"broken": "why"}).record()
    assert (record["ours"], record["peers"]) == (50.0, {"slow": 10.0, "best": 20.0})
    assert record["best_peer"] == "best"
    assert record["ratio_to_best_peer"] == 2.0  # the median of 2, 3 and 2
    assert record["ratio_spread"] == [2.0, 3.0]
    assert record["ratio_to_limit"] == 0.5
    assert record["failed"] == {"broken": "why"}
    assert json.loads(json.dumps(record)) == record


def test_ratios_of_durations_are_the_other_way_round():
    record = Result("row", "s", RATES, limit=25.0, lower_is_better=True).record()
    assert record["best_peer"] == "slow"
    assert record["ratio_to_best_peer"] == 0.2
    assert record["ratio_to_limit"] == 0.5


def test_result_without_peers_or_limit():
    record = Result("row", "s", {"ours": [1.0]}).record()
    assert record["peers"] == {}
    assert [record[name] for name in ("ratio_to_best_peer", "ratio_to_limit", "limit", "ratio_spread")] == [None] * 4


def test_tables_show_every_side():
    result = Result("row", "rows/s", RATES, limit=100.0, failed={"broken": "why"})
    output = Console(width=200, record=True, file=open(os.devnull, "w"))  # noqa: SIM115
    output.print(bench.result_table(result))
    output.print(bench.summary_table([result.record()]))
    text = output.export_text()
    for word in ("ours", "slow", "best", "broken", "did not run: why", "2.00 (2.00 to 3.00)", "40 to 60"):
        assert word in text


def test_command_writes_the_file(tmp_path, monkeypatch, capsys):
    def measure(b):
        found = b.race([sleeper("ours", 0.001), sleeper("peer", 0.002)])
        return Result("row", "rows/s", found.rates)

    monkeypatch.setattr(rows, "ROWS", {"row": rows.Row(("cpu",), measure)})
    path = tmp_path / "bench.json"
    assert run(bench.main, ["--only", "row", "--rounds", "2", "--seconds", "0.01", "--output", str(path)]) == 0
    record = json.loads(path.read_text())
    assert [result["name"] for result in record["results"]] == ["row"]
    assert len(record["results"][0]["rounds"]["ours"]) == 2
    assert {"processor", "gpu", "cores", "os", "python", "packages", "peers", "commit", "command"} == set(
        record["machine"]
    )
    assert "peer" in capsys.readouterr().out
    assert [file.name for file in tmp_path.iterdir()] == ["bench.json"]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--only", "frod"], ["--only frod", "fraud_train_report", "import_time"]),
        (["--only", "fraud_trai"], ["--only fraud_trai"]),
        (["--only", "celeba_train_gpu"], ["--only celeba_train_gpu", "suite cpu"]),
        (["--rounds", "0"], ["--rounds 0"]),
        (["--output", "/no/such/folder/x.json"], ["--output /no/such/folder/x.json"]),
    ],
)
def test_refusals_are_one_line(arguments, words, capsys):
    assert run(bench.main, arguments) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert error.count("\n") == 1
    for word in words:
        assert word in error


def test_rows_are_chosen_by_name_or_beginning():
    def choose(*words, suite="cpu"):
        return bench.choose(bench.BenchConfig(suite=suite, only=words))

    assert choose("fraud_train") == ["fraud_train_report", "fraud_train_gaussian", "fraud_train_models"]
    assert choose("mnist_train") == ["mnist_train_vae", "mnist_train_iwae"]
    assert choose("mnist", suite="gpu") == choose("mnist") == [*choose("mnist_train"), "mnist_log_likelihood"]
    assert choose("scaling", "import_time") == ["import_time", "scaling"]
    assert "celeba_train_gpu_bfloat16" in choose(suite="gpu")
    assert "celeba_train_gpu_bfloat16" not in choose()


def test_operations_of_transactions():
    # By hand: 29 x 20 + 20 x 10 + 10 x 8 and two heads of 8 x 2; then 2 x 8 + 8 x 10 + 10 x 20 and 20 x 29.
    encoder, decoder = 580 + 200 + 80 + 32, 16 + 80 + 200 + 580
    assert sum(limits.fraud_encoder(29)) == encoder
    assert sum(limits.fraud_decoder(29, False)) == decoder
    assert sum(limits.fraud_decoder(29, True)) == decoder + 580
    assert limits.fraud_training(29, False) == Cost(2 * (3 * (encoder + decoder) - 580), 116)
    assert limits.fraud_scoring(29, False, 100) == Cost(2 * (encoder + 100 * decoder), 4 * (29 + 29 + 2))


def test_operations_of_faces():
    # By hand: 64 x 64 outputs of 9 x 3 x 32 taps, 32 x 32 of 9 x 32 x 64, 16 x 16 and 8 x 8 of 9 x 64 x 64, two heads.
    assert limits.face_encoder() == [3_538_944, 18_874_368, 9_437_184, 2_359_296, 1_638_400]
    assert limits.face_decoder() == [819_200, 2_359_296, 9_437_184, 18_874_368, 3_538_944]
    assert limits.face_training(64, 4).operations == 6 * 70_877_184 - 2 * 3_538_944
    shapes = jax.eval_shape(conv_vae().init, jax.random.key(0), np.zeros((1, 128, 128, 3)), np.zeros((1, 200)))
    assert sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(shapes)) == limits.FACE_PARAMETERS


def test_operations_of_digits():
    # By hand: 784 x 200, 200 x 200 and two heads of 200 x 50; then 50 x 200, 200 x 200 and 200 x 784 for each sample.
    assert rows.digit_layers(3) == [156_800, 40_000, 20_000, 30_000, 120_000, 470_400]
    vae = dense_vae(784, (200, 200), 50, bernoulli=True)
    shapes = jax.eval_shape(vae.init, jax.random.key(0), np.zeros((1, 784)), np.zeros((1, 50)))
    kernels = [leaf for leaf in jax.tree.leaves(shapes) if leaf.ndim == 2]
    assert sum(math.prod(leaf.shape) for leaf in kernels) == sum(rows.digit_layers(1))


def test_sides_of_digits_get_the_same_images_and_samples(tmp_path, monkeypatch):
    monkeypatch.setattr(rows, "result", lambda bench, name, unit, sides, cost: [json.loads(s.words[-1]) for s in sides])
    measured = rows.Bench("cpu", 1, 1.0, sys.executable, tmp_path)
    images, labels = np.zeros((1_000, 784), np.uint8), np.zeros(1_000, np.uint8)
    measured.__dict__["digits"] = Digits(images, labels, images, labels, "")
    for name, used in (("vae", 1_000), ("iwae", 240), ("log_likelihood", 26)):
        row = "mnist_log_likelihood" if name == "log_likelihood" else f"mnist_train_{name}"
        ours, *peers = rows.ROWS[row].measure(measured)
        assert [peer["how"] for peer in peers] == ["eager", "torch.compile"]
        assert np.load(ours["pixels"]).shape == (used, 784)
        given = ours.keys() - {"what", "name", "device"}
        assert all(peer[key] == ours[key] for peer in peers for key in given)


def test_limit_is_the_longer_of_both_times():
    rates = Rates(operations=1e9, bytes=1e8)
    assert Cost(1e6, 1e4).limit(rates) == pytest.approx(1e3)  # 1 ms of operations, 0.1 ms of bytes
    assert Cost(1e4, 1e6).limit(rates) == pytest.approx(1e2)  # 10 ms of bytes
    assert "1,000,000 operations at 1.0 G/s take 1e+03 µs" in Cost(1e6, 1e4).arithmetic(rates)


def test_stand_in_has_the_true_schema_and_counts(tmp_path):
    for name in ("one.csv", "two.csv"):
        stand_in.write_stand_in(tmp_path / name, 2_000, None, frauds=20)
    frame = read_csv(tmp_path / "one.csv")
    assert (len(frame), int(frame["Class"].sum())) == (2_000, 20)
    assert not frame.duplicated([f"V{i}" for i in range(1, 29)]).any()
    assert (tmp_path / "one.csv").read_bytes() == (tmp_path / "two.csv").read_bytes()


def test_fits_are_measured_in_processes_of_their_own(tmp_path, monkeypatch):
    monkeypatch.setattr(rows, "FITTED", ("isolation_forest",))
    measured = rows.Bench("cpu", 1, 1.0, "", tmp_path)
    found = [rows.fit(what, measured) for what in ("first", "second", "large", "score")]
    assert [result.name for result in found] == ["fit_first", "fit_second", "fit_large", "fit_score"]
    for result in found:
        assert len(result.values["isolation_forest"]) == 1
        assert min(result.values["isolation_forest"]) > 0
    monkeypatch.setattr(rows, "FITTED", ("unknown",))
    with pytest.raises(SideError, match="unknown: KeyError"):
        rows.fit("first", rows.Bench("cpu", 1, 1.0, sys.executable, tmp_path))
