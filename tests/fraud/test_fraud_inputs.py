"""How a run tells that it is continued on the data that it was started with, and what it says about them."""

import hashlib
import io
from dataclasses import replace
from pathlib import Path

import jax
import numpy as np
import pandas as pd
import pytest

from experiments.command_line import UsageError
from experiments.fraud.config import FraudConfig, check
from experiments.fraud.inputs import FEW_ROWS, Inputs, kinds_table, notices, prepare
from experiments.runs.progress import console


def read(path: Path, change: tuple[str, str] = ("", ""), words: bool = False) -> Inputs:
    """Reads a hundred rows, written to a file after a change."""
    rng = np.random.default_rng(0)
    second = ["red", "blue"] if words else [1, 2]
    rows = [f"{x!r},{rng.choice(second)},{i % 5 // 4}\n" for i, x in enumerate(rng.normal(size=100).tolist())]
    path.write_text("".join(["a,b,label\n", *rows]).replace(*change, 1))
    return prepare(FraudConfig(data=str(path), label="label", batch_size=8))


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"label": "label", "drop": ("label",)}, "--drop label: also --label label; say one of them"),
        ({"category": ("a", "b"), "number": ("b",)}, "--category b: also --number b; say one of them"),
        ({"drop": ("a",), "id": ("a",)}, "--id a: also --drop a; say one of them"),
    ],
)
def test_a_column_named_by_two_options_is_refused(options, expected):
    with pytest.raises(UsageError) as refused:
        check(FraudConfig(**options))
    assert str(refused.value) == expected


def test_an_anomaly_needs_a_label(tmp_path):
    read(tmp_path / "a.csv")
    with pytest.raises(UsageError, match=r"^--anomaly 1: needs --label COLUMN$"):
        prepare(FraudConfig(data=str(tmp_path / "a.csv"), anomaly="1"))


@pytest.mark.parametrize("words", [False, True])
def test_data_are_recognised_by_what_is_in_the_file(tmp_path, words):
    saved = read(tmp_path / "a.csv", words=words).describe()
    assert read(tmp_path / "moved.csv", words=words).recognise(saved)
    first = "0.12573022"  # digits that the first row begins with
    for change in ((first, "0.12573023"), (",0\n", ",1\n"), ("a,b", "c,b")):
        assert not read(tmp_path / "a.csv", change, words).recognise(saved)


@pytest.mark.parametrize("words", [False, True])
def test_data_are_recognised_whatever_the_last_digits_of_what_was_learned(tmp_path, words):
    """Those differ with the version of NumPy and with the processor."""
    inputs = read(tmp_path / "a.csv", words=words)
    other = replace(inputs, x=np.nextafter(inputs.x, np.float32(np.inf)))
    if not words:
        other = replace(other, features=replace(inputs.features, mean=np.nextafter(inputs.features.mean, np.inf)))
    assert other.recognise(inputs.describe())


def test_tables_of_words_are_recognised_as_earlier_versions_described_them(tmp_path):
    inputs = read(tmp_path / "a.csv", words=True)
    earlier = hashlib.sha256(inputs.x.tobytes() + inputs.table.labels.tobytes()).hexdigest()
    assert inputs.recognise({**inputs.describe(), "fingerprint": earlier})
    assert not read(tmp_path / "b.csv", ("red", "blue"), True).recognise({"fingerprint": earlier})


def test_hostile_names_of_columns_are_printed_as_they_are_but_for_control_characters(tmp_path):
    name = "\x1b]0;PWNED\x1b[31m[red] Größe"
    inputs = read(tmp_path / "data.csv", ("a,b", f"{name},b"), words=True)
    output = console(io.StringIO())
    output.print(kinds_table(inputs))
    assert r"\x1b]0;PWNED\x1b[31m[red] Größe " in output.file.getvalue()


@pytest.mark.parametrize("words", [False, True])
def test_what_another_value_in_a_constant_column_means_is_told(tmp_path, words):
    path = tmp_path / "a.csv"
    read(path, words=words)
    pd.read_csv(path).assign(rate=0.05).to_csv(path, index=False)
    inputs = prepare(FraudConfig(data=str(path), label="label"))
    assert "Constant in the training rows: rate. Any other value looks like an anomaly." in notices(inputs)


def test_several_processes_need_a_whole_batch(tmp_path, monkeypatch):
    read(tmp_path / "a.csv")
    monkeypatch.setattr(jax, "process_count", lambda: 2)
    with pytest.raises(UsageError, match=r"^--batch-size 128: more than the \d+ training rows$"):
        prepare(FraudConfig(data=str(tmp_path / "a.csv")))


def test_a_boundary_on_few_rows_is_told(tmp_path):
    inputs = read(tmp_path / "a.csv")
    (notice,) = [notice for notice in notices(inputs) if notice.startswith("Few validation rows")]
    assert f"{len(inputs.genuine_validation)} genuine ones" in notice
    many = replace(inputs, split=replace(inputs.split, validation=np.zeros(FEW_ROWS, int)))
    assert not [notice for notice in notices(many) if notice.startswith("Few")]
