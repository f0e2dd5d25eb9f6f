"""Readers of files: whatever the input, a result or one error in one line. The long form is `benchmarks/faults`."""

import gzip
from collections.abc import Sequence

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from benchmarks.faults.outcome import Outcome, write_line, write_section
from benchmarks.faults.readers import reader_of
from benchmarks.faults.readers.reader import Reader, WrongError, try_one
from vae_jax.data.errors import DataError, one_line

# Those that take some thousandths of a second; models and checkpoints are damaged one by one in their own tests.
QUICK = ("transactions", "table", "score_parquet", "picture", "picture_zip", "lists", "idx")
SLOW = ("kdd99", "run", "columns", "excel", "parquet", "score_csv", "score_json", "score_columns")


@st.composite
def damaged(draw, reader: Reader, seeds: Sequence[bytes]) -> bytes:
    """A valid input with some bytes overwritten, put in or taken out."""
    data = draw(st.sampled_from(seeds))
    piece = st.one_of(st.sampled_from([b"", *reader.words]), st.binary(max_size=4))
    for _ in range(draw(st.integers(0, 4))):
        start = draw(st.integers(0, len(data)))
        end = min(len(data), start + draw(st.integers(0, 8)))
        data = data[:start] + draw(piece) + data[end:]
    return data


@pytest.mark.parametrize(("name", "examples"), [*((name, 80) for name in QUICK), *((name, 20) for name in SLOW)])
def test_whatever_the_input_it_is_read_rightly_or_refused_in_one_line(name, examples, tmp_path):
    reader = reader_of(name)
    read = reader.prepare(tmp_path)

    @settings(max_examples=examples, deadline=None, derandomize=True, database=None, suppress_health_check=HealthCheck)
    @given(damaged(reader, reader.seeds()))
    def check(data):
        try_one(reader, read, data)

    check()


@pytest.mark.parametrize("name", [*QUICK, *SLOW])
def test_valid_inputs_are_read(name, tmp_path):
    reader = reader_of(name)
    read = reader.prepare(tmp_path)
    assert all(try_one(reader, read, data) for data in reader.seeds() if data)


def test_what_is_read_wrongly_or_refused_in_two_lines_is_a_fault(tmp_path):
    class TwoLinesError(ValueError):
        pass

    def refuse(data):
        raise TwoLinesError("one\ntwo")

    with pytest.raises(WrongError, match="not a message of one line"):
        try_one(Reader("", list, lambda folder: refuse, TwoLinesError), refuse, b"")
    with pytest.raises(KeyError):
        try_one(Reader("", list, lambda folder: refuse, DataError), {}.__getitem__, b"")


def test_a_message_stays_one_line_and_gives_a_terminal_no_orders():
    assert one_line("é\n\x1b[2J\u2028\ud800") == "é\\n\\x1b[2J\\u2028\\ud800"
    assert str(DataError("a\nb")) == "a\\nb"


def test_idx_files_that_are_packed_and_damaged_are_refused(tmp_path):
    reader = reader_of("idx")
    read = reader.prepare(tmp_path)
    for name in range(4):
        whole = next(seed for seed in reader.seeds() if seed[0] == name + 4)
        for i in range(12, len(whole), 7):
            try_one(reader, read, whole[:i] + bytes([whole[i] ^ 0xFF]) + whole[i + 1 :])


@pytest.mark.parametrize("cell", ["inf", "nan", "", "1e31", "many"])
def test_connections_that_are_no_finite_numbers_are_named(cell, tmp_path):
    reader = reader_of("kdd99")
    text = reader.seeds()[0].replace(b",0,", f",{cell},".encode(), 1)
    with pytest.raises(DataError, match=r"line 1, column src_bytes: .* is no finite number"):
        reader.prepare(tmp_path)(text)


@pytest.mark.parametrize(
    "data",
    [b"\x1f\x8b", gzip.compress(b"0" * 99, mtime=0)[:-9], gzip.compress(b"1,2\n", mtime=0), b"", b",\n" * 9],
    ids=["its magic number", "cut off", "two columns", "empty", "empty cells"],
)
def test_connections_that_can_not_be_unpacked_or_are_others_are_refused(data, tmp_path):
    with pytest.raises(DataError, match="kddcup"):
        reader_of("kdd99").prepare(tmp_path)(data)


def test_a_reader_that_is_counted_again_gets_a_new_line_and_the_others_keep_theirs(tmp_path):
    path = tmp_path / "FAULTS.md"
    for title in ("Kills", "Input"):
        write_section(
            path, title, "faults", "a machine", [Outcome("text", 1, 1), Outcome("zips", 2, 2, figures="1 read")]
        )
    before = path.read_text()
    write_line(path, "Input", Outcome("zips", 30, 30, figures="7 read"))
    head, old, tail = before.rpartition("| zips (1 read) | 2 | 2 | nothing |")
    assert old
    assert path.read_text() == f"{head}| zips (7 read) | 30 | 30 | nothing |{tail}"
    with pytest.raises(ValueError, match="not one line of 'text files'"):
        write_line(path, "Input", Outcome("text files", 1, 1))
