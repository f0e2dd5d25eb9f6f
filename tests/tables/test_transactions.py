import contextlib
import gzip
import io
import threading
import time
import zipfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import kagglehub
import numpy as np
import pandas as pd
import pytest
import requests

from vae_jax.data import downloads
from vae_jax.data.errors import DataError
from vae_jax.tables.own_table import Reading
from vae_jax.tables.synthetic import simulate_transactions
from vae_jax.tables.transactions import COLUMNS, FEATURES, load_transactions, read_csv, read_table

ROWS = 6
FRAUD_ROW = 2
ZIP_DATA = 30 + len("a.csv")  # where the data of a zip with this member begins


def table(rows: int = ROWS) -> list[list[str]]:
    """A header and rows of cells: in row i, Time is 10 i, Vj is i + j / 100, Amount is i + 0.5; one fraud."""
    body = [
        [str(10 * i), *(str(i + j / 100) for j in range(1, 29)), str(i + 0.5), "1" if i == FRAUD_ROW else "0"]
        for i in range(rows)
    ]
    return [list(COLUMNS), *body]


def text_of(cells: list[list[str]], separator: str = ",", end: str = "\n") -> bytes:
    return "".join(separator.join(line) + end for line in cells).encode()


def with_cell(row: int, column: str, value: str) -> bytes:
    cells = table()
    cells[row + 1][COLUMNS.index(column)] = value
    return text_of(cells)


def with_line(place: int, line: list[str]) -> bytes:
    """The table with a line put in before line `place` (0 = the header)."""
    cells = table()
    return text_of([*cells[:place], line, *cells[place:]])


def renamed(changes: dict[str, str]) -> bytes:
    header, *body = table()
    return text_of([[changes.get(name, name) for name in header], *body])


def without(*columns: str) -> bytes:
    kept = [j for j, name in enumerate(COLUMNS) if name not in columns]
    return text_of([[line[j] for j in kept] for line in table()])


def zipped(members: dict[str, bytes], compression: int = zipfile.ZIP_DEFLATED) -> bytes:
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w", compression) as archive:
        for name, member in members.items():
            archive.writestr(name, member)
    return content.getvalue()


def patched_zip(offset: int, value: int) -> bytes:
    """A zip with one byte of its member's two headers changed; `offset` counts in the header inside the archive."""
    content = bytearray(zipped({"a.csv": PLAIN}))
    content[offset] = value
    content[content.index(b"PK\x01\x02") + offset + 2] = value
    return bytes(content)


def damaged(content: bytes, offset: int, value: int = 0xFF) -> bytes:
    """An archive with one byte changed. Where compressed data begins, 0xff is a kind of block that does not exist."""
    assert content[offset] != value
    return content[:offset] + bytes([value]) + content[offset + 1 :]


def refusal(path: Path) -> str:
    """Reads a bad file and returns the message after the file's name, which is one line."""
    with pytest.raises(DataError) as caught:
        read_csv(path)
    message = str(caught.value)
    assert message.startswith(f"{path}: ")
    assert len(message.splitlines()) == 1
    return message.removeprefix(f"{path}: ")


PLAIN = text_of(table())

GOOD = {
    "plain": PLAIN,
    "no line end at the end": PLAIN.rstrip(),
    "crlf": text_of(table(), end="\r\n"),
    "semicolons": text_of(table(), separator=";"),
    "quoted": text_of([[f'"{cell}"' for cell in line] for line in table()]),
    "quoted semicolons": text_of([[f'"{cell}"' for cell in line] for line in table()], separator=";"),
    "spaces after commas": text_of(table(), separator=", "),
    "byte order mark": b"\xef\xbb\xbf" + PLAIN,
    "columns reversed": text_of([line[::-1] for line in table()]),
    "class as 1.0": text_of([[*line[:-1], f"{line[-1]}.0" if i else line[-1]] for i, line in enumerate(table())]),
    "tabs": text_of(table(), separator="\t"),
    "gzip": gzip.compress(PLAIN),
    "gzip of crlf with a byte order mark": gzip.compress(b"\xef\xbb\xbf" + text_of(table(), end="\r\n")),
    "zip": zipped({"creditcard.csv": PLAIN}),
    "zip, stored": zipped({"creditcard.csv": PLAIN}, zipfile.ZIP_STORED),
    "zip, in a folder, capitals": zipped({"archive/CREDITCARD.CSV": PLAIN, "archive/readme.txt": b"hello"}),
    "zip made on a Mac": zipped({"creditcard.csv": PLAIN, "__MACOSX/._creditcard.csv": b"\0\5\x16\7"}),
}


@pytest.mark.parametrize("content", GOOD.values(), ids=GOOD)
@pytest.mark.parametrize("name", ["creditcard.csv", "creditcard.zip", "creditcard"])
def test_reads_any_good_file_whatever_its_name(tmp_path, content, name):
    path = tmp_path / name
    path.write_bytes(content)
    frame = read_csv(str(path))
    assert tuple(frame.columns) == COLUMNS
    i, j = np.arange(ROWS)[:, None], np.arange(1, 29)
    np.testing.assert_array_equal(frame["Time"], 10 * np.arange(ROWS))
    np.testing.assert_allclose(frame[list(FEATURES[:-1])], i + j / 100, rtol=1e-15)
    np.testing.assert_array_equal(frame["Amount"], np.arange(ROWS) + 0.5)
    np.testing.assert_array_equal(frame["Class"], np.arange(ROWS) == FRAUD_ROW)


BAD_FILES = {
    "empty": (b"", "empty"),
    "blank": (b" \r\n\n", "empty"),
    "gzip of nothing": (gzip.compress(b""), "empty"),
    "header only": (PLAIN.partition(b"\n")[0], "no rows"),
    "header and line end": (PLAIN.partition(b"\n")[0] + b"\n", "no rows"),
    "no header": (text_of(table()[1:]), "no header"),
    "blank line before the header": (with_line(0, [""]), "no header"),
    "another table": (b"name,age\nAda,36\n", "missing 'Time', 'V1', 'V2', 'V3', 'V4' …, unexpected 'name', 'age'"),
    "binary": (bytes(range(256)), "not a text file"),
    "picture": (b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR", "not a text file"),
    "utf-16": (PLAIN.decode().encode("utf-16"), "not a text file"),
    "zero byte": (PLAIN[:400] + b"\0" + PLAIN[400:], "not a text file"),
    "one endless line": (b"x" * 200_000, "no header"),
    "missing column": (without("V7"), "missing 'V7'"),
    "missing columns": (without("V7", "Class"), "missing 'V7', 'Class'"),
    "extra column": (text_of([[*line, f"{i}"] for i, line in enumerate(table())]), "unexpected '0'"),
    "index column": (text_of([["" if i == 0 else str(i), *x] for i, x in enumerate(table())]), "unexpected ''"),
    "renamed column": (renamed({"Class": "Label"}), "missing 'Class', unexpected 'Label'"),
    "small letters": (renamed({"Time": "time"}), "missing 'Time', unexpected 'time'"),
    "repeated column": (renamed({"V2": "V1"}), "repeated 'V1'"),
    "every row too long": (
        text_of([table()[0], *([*line, "9"] for line in table()[1:])]),
        "31 columns, the rows have 32",
    ),
    "every row too short": (
        text_of([table()[0], *(line[:-1] for line in table()[1:])]),
        "31 columns, the rows have 30",
    ),
    "second row too long": (with_line(2, [*table()[1], "9"]), "line 3"),
    "fourth row too long": (with_line(4, [*table()[1], "9"]), "line 5"),
    "quote that never ends": (with_cell(3, "Time", '"30'), "row 4"),
    "last row cut in a cell": (
        PLAIN[: PLAIN.rindex(b"5.26") + 2],
        "row 5 (line 7), column V27: blank (is the file truncated?)",
    ),
    "last row cut before Class": (PLAIN[:-2], "row 5 (line 7), column Class: blank (is the file truncated?)"),
    "truncated gzip": (gzip.compress(PLAIN)[:-20], "truncated"),
    "gzip cut in half": (gzip.compress(PLAIN)[: len(gzip.compress(PLAIN)) // 2], "truncated"),
    "gzip header alone": (b"\x1f\x8b", "truncated"),
    "gzip with damaged data": (damaged(gzip.compress(PLAIN), 10), "damaged"),
    "gzip with a wrong checksum": (damaged(gzip.compress(PLAIN), -8, 0 if gzip.compress(PLAIN)[-8] else 1), "damaged"),
    "zip with damaged data": (damaged(zipped({"a.csv": PLAIN}), ZIP_DATA), "damaged"),
    "stored zip with damaged data": (damaged(zipped({"a.csv": PLAIN}, zipfile.ZIP_STORED), ZIP_DATA), "damaged"),
    "truncated zip": (zipped({"a.csv": PLAIN})[:-10], "truncated"),
    "zip header alone": (b"PK\3\4", "damaged"),
    "encrypted zip": (patched_zip(6, 1), "encrypted"),
    "zip with another compression": (patched_zip(8, 9), "compression"),
}


@pytest.mark.parametrize(("content", "words"), BAD_FILES.values(), ids=BAD_FILES)
def test_bad_files_are_refused_in_one_line(tmp_path, content, words):
    path = tmp_path / "creditcard.csv"
    path.write_bytes(content)
    assert words in refusal(path)


@pytest.mark.parametrize(("names", "count"), [(["a.csv", "b.csv"], 2), (["a.txt"], 0)])
def test_zip_must_hold_one_table(tmp_path, names, count):
    path = tmp_path / "creditcard.zip"
    path.write_bytes(zipped(dict.fromkeys(names, PLAIN)))
    assert refusal(path) == f"expected one .csv file in the zip, found {count}"


def test_carriage_returns_alone_end_in_rows_or_a_data_error(tmp_path):
    path = tmp_path / "creditcard.csv"
    path.write_bytes(text_of(table(), end="\r"))
    with contextlib.suppress(DataError):
        assert len(read_csv(path)) == ROWS


@pytest.mark.parametrize("value", ["abc", "NaN", "nan", "NA", "inf", "-inf", "1e999", "1,5", "0x10", "True", "1 2"])
def test_cell_that_is_no_finite_number_is_named(tmp_path, value):
    path = tmp_path / "creditcard.csv"
    path.write_bytes(with_cell(3, "V5", f'"{value}"'))
    message = refusal(path)
    assert message.startswith("row 3 (line 5), column V5: ")
    assert message.endswith(" is not a finite number")


def test_cell_that_is_too_large_is_named(tmp_path):
    path = tmp_path / "creditcard.csv"
    path.write_bytes(with_cell(3, "V5", "1e200"))
    assert refusal(path) == "row 3 (line 5), column V5: '1e+200' is beyond ±1e+30"


@pytest.mark.parametrize("value", ["", " ", '""'])
def test_blank_cell_is_named(tmp_path, value):
    path = tmp_path / "creditcard.csv"
    path.write_bytes(with_cell(3, "V5", value))
    assert refusal(path) == "row 3 (line 5), column V5: blank"


def test_cell_of_a_table_in_another_order_is_named(tmp_path):
    path = tmp_path / "creditcard.csv"
    path.write_bytes(text_of([line.split(",")[::-1] for line in with_cell(3, "V5", "abc").decode().splitlines()]))
    assert refusal(path) == "row 3 (line 5), column V5: 'abc' is not a finite number"


@pytest.mark.parametrize("row", [0, 3])
def test_blank_line_is_named(tmp_path, row):
    path = tmp_path / "creditcard.csv"
    path.write_bytes(with_line(row + 1, [""]))
    assert refusal(path) == f"row {row} (line {row + 2}), column Time: blank"


@pytest.mark.parametrize("value", ["2", "0.5", "-1"])
def test_class_other_than_0_and_1_is_named(tmp_path, value):
    path = tmp_path / "creditcard.csv"
    path.write_bytes(with_cell(3, "Class", value))
    assert refusal(path) == f"row 3 (line 5), column Class: {value} is neither 0 (genuine) nor 1 (fraud)"


def test_first_bad_row_of_a_column_is_named(tmp_path):
    cells = table()
    cells[2][5] = cells[4][5] = "x"
    path = tmp_path / "creditcard.csv"
    path.write_bytes(text_of(cells))
    assert refusal(path).startswith("row 1 (line 3), column V5")


def test_missing_file(tmp_path):
    assert refusal(tmp_path / "nowhere.csv") == "no such file"


def test_folder(tmp_path):
    assert refusal(tmp_path) == "can't be read (Is a directory)"


def test_path_below_a_file(tmp_path):
    (tmp_path / "file").write_bytes(PLAIN)
    assert refusal(tmp_path / "file" / "creditcard.csv").startswith("can't be read")


class Outside:
    """The world outside: folders with tables of different lengths, and a network that may be there."""

    ROWS = {"environment": 3, "data": 4, "kaggle": 5}  # noqa: RUF012 (never changed)

    def __init__(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
        self.tmp_path, self.monkeypatch = tmp_path, monkeypatch
        self.downloads = self.requests = 0
        self.online, self.failure = False, None
        (tmp_path / "work").mkdir()
        monkeypatch.chdir(tmp_path / "work")
        monkeypatch.delenv("VAE_JAX_DATA", raising=False)
        monkeypatch.setenv("KAGGLEHUB_CACHE", str(tmp_path / "kagglehub"))
        monkeypatch.setattr(requests, "head", self._head)
        monkeypatch.setattr(kagglehub, "dataset_download", self._download)

    def provide(self, place: str) -> Path:
        """Puts a table at one of the places that `auto` looks at."""
        if place == "kaggle":
            self.online = True
            return self._write(self.tmp_path / "cache" / "creditcard.csv", place)
        if place == "environment":
            self.monkeypatch.setenv("VAE_JAX_DATA", str(self.tmp_path / "mine"))
        folder = self.tmp_path / "mine" if place == "environment" else Path("data")
        return self._write(folder / "creditcard" / "creditcard.csv", place)

    def _write(self, path: Path, place: str) -> Path:
        path.parent.mkdir(parents=True)
        path.write_bytes(text_of(table(self.ROWS[place])))
        return path

    def _head(self, url: str, **options) -> None:
        self.requests += 1
        if not self.online:
            raise requests.ConnectionError("no network")

    def _download(self, handle: str) -> str:
        self.downloads += 1
        assert handle == "mlg-ulb/creditcardfraud"
        if self.failure:
            raise self.failure
        return str(self.tmp_path / "cache")


@pytest.fixture
def outside(tmp_path, monkeypatch):
    return Outside(tmp_path, monkeypatch)


@pytest.mark.parametrize("first", range(4))
def test_auto_takes_the_first_place_that_has_a_table(outside, first):
    places = ["environment", "data", "kaggle", "synthetic"]
    paths = [outside.provide(place) for place in places[first:-1]]
    found = load_transactions()
    assert len(found) == Outside.ROWS.get(places[first], 50_000)
    assert found.synthetic == (places[first] == "synthetic")
    if paths:
        assert found.source == ("Kaggle: " if places[first] == "kaggle" else "") + str(paths[0])
    assert outside.requests == (first >= 2)
    assert outside.downloads == (first == 2)


def test_auto_passes_over_an_environment_folder_without_the_file(outside, monkeypatch, tmp_path):
    monkeypatch.setenv("VAE_JAX_DATA", str(tmp_path))
    outside.provide("data")
    assert len(load_transactions("auto")) == 4


def test_auto_does_not_pass_over_a_bad_file(outside):
    path = outside.provide("environment")
    outside.provide("data")
    path.write_bytes(b"")
    with pytest.raises(DataError, match="empty"):
        load_transactions("auto")


def test_auto_does_not_simulate_when_a_download_fails(outside):
    outside.online, outside.failure = True, OSError("disk full")
    with pytest.raises(DataError, match="disk full"):
        load_transactions("auto")


@pytest.mark.parametrize("source", ["auto", "kaggle"])
def test_an_earlier_download_is_read_without_a_network(outside, source):
    """So that a run on downloaded data continues when the network is gone."""
    downloads = outside.tmp_path / "kagglehub" / "datasets" / "mlg-ulb" / "creditcardfraud"
    for version in ("2", "10", "11"):  # the last one was cut off
        outside._write(downloads / "versions" / version / "creditcard.csv", "kaggle")
        if version != "11":
            (downloads / f"{version}.complete").touch()
    assert load_transactions(source).source == f"Kaggle: {downloads / 'versions' / '10' / 'creditcard.csv'}"
    assert outside.requests == outside.downloads == 0


def test_path_never_falls_back(outside):
    outside.provide("environment")
    outside.provide("kaggle")
    with pytest.raises(DataError, match=r"^mine\.csv: no such file$"):
        load_transactions("mine.csv")
    assert outside.requests == outside.downloads == 0


def test_path_is_read(outside, tmp_path):
    path = tmp_path / "mine.gz"
    path.write_bytes(gzip.compress(text_of(table(7))))
    found = load_transactions(str(path))
    assert len(found) == 7
    assert found.source == str(path)
    assert not found.synthetic


@pytest.mark.parametrize("drop", [(), ("V28",), tuple(f"V{i}" for i in range(1, 20))])
@pytest.mark.parametrize("suffix", ["csv", "parquet"])
@pytest.mark.parametrize("keep_time", [False, True])
def test_time_is_the_column_whatever_the_file(tmp_path, suffix, drop, keep_time):
    frame = pd.read_csv(io.BytesIO(text_of(table(40))))[::-1]
    path = tmp_path / f"newest_first.{suffix}"
    frame.to_csv(path, index=False) if suffix == "csv" else frame.to_parquet(path, index=False)
    found = load_transactions(str(path), keep_time, drop=drop)
    np.testing.assert_array_equal(found.time, frame["Time"])
    assert not found.in_file_order
    assert ("Time" in found.feature_names) == keep_time
    assert not set(drop) & set(found.feature_names)


@pytest.mark.parametrize("end", ["", "x"])
def test_time_as_text_is_missing_where_it_is_none(tmp_path, end):
    path = tmp_path / "a.csv"
    path.write_bytes(with_cell(3, "Time", f"3{end}" if end else ""))
    found = load_transactions(str(path), reading=Reading(encoding="utf-8"))
    np.testing.assert_array_equal(found.time, [0, 10, 20, np.nan, 40, 50])


def test_kaggle_never_falls_back(outside):
    outside.provide("data")
    outside.failure = requests.ConnectionError("no network")
    with pytest.raises(DataError, match="no network"):
        load_transactions("kaggle")


def test_kaggle_is_asked_though_there_is_a_file(outside):
    outside.provide("data")
    outside.provide("kaggle")
    assert len(load_transactions("kaggle")) == 5


def test_synthetic_looks_at_nothing_else(outside):
    outside.provide("environment")
    outside.provide("kaggle")
    found = load_transactions("synthetic")
    assert found.synthetic
    assert "simulated" in found.source
    assert outside.requests == outside.downloads == 0


def test_synthetic_follows_the_seed(outside):
    first, again, other = (load_transactions("synthetic", seed=seed).features for seed in (0, 0, 1))
    np.testing.assert_array_equal(first, again)
    assert (first != other).any()


@pytest.mark.parametrize(
    ("failure", "reason"),
    [
        (OSError("403 Client Error\n\nYou have no permission\n"), "403 Client Error"),
        (zipfile.BadZipFile(), "BadZipFile"),
        (RuntimeError("x" * 5000), "xxx"),
    ],
)
def test_failed_download_names_the_alternatives_in_one_line(outside, failure, reason):
    outside.failure = failure
    with pytest.raises(DataError) as caught:
        load_transactions("kaggle")
    message = str(caught.value)
    assert len(message.splitlines()) == 1
    assert len(message) < 500
    for words in ("mlg-ulb/creditcardfraud", reason, "--data PATH/creditcard.csv", "--data synthetic"):
        assert words in message


def test_a_second_download_waits_for_the_first_and_uses_it(outside, monkeypatch):
    folder = outside.tmp_path / "kagglehub" / "datasets" / "owner" / "set"
    begun = []

    def download(name: str) -> str:
        begun.append(name)
        time.sleep(0.2)
        (folder / "versions" / "1").mkdir(parents=True)
        (folder / "1.complete").touch()
        return str(folder / "versions" / "1")

    monkeypatch.setattr(kagglehub, "dataset_download", download)
    with ThreadPoolExecutor(2) as threads:
        found = list(threads.map(lambda _: downloads.download_from_kaggle("owner/set", "FOLDER"), range(2)))
    assert found == [folder / "versions" / "1"] * 2
    assert begun == ["owner/set"]


def test_without_a_home_there_is_no_earlier_download_and_none_is_made(outside, monkeypatch):
    def fail() -> str:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr("kagglehub.config.get_cache_folder", fail)
    assert load_transactions("auto").synthetic
    with pytest.raises(DataError, match=r"failed \(Could not determine home directory"):
        load_transactions("kaggle")


def test_download_without_the_file(outside):
    with pytest.raises(DataError, match=r"creditcard\.csv: no such file$"):
        load_transactions("kaggle")


@pytest.mark.parametrize("online", [True, False])
def test_network_answers_where_there_is_one(outside, online):
    outside.online = online
    assert downloads.network_answers() == online


def test_network_that_hangs_is_given_up(monkeypatch):
    release = threading.Event()
    monkeypatch.setattr(downloads, "NETWORK_TIMEOUT", 0.1)
    monkeypatch.setattr(requests, "head", lambda *args, **options: release.wait(60))
    started = time.monotonic()
    assert not downloads.network_answers()
    assert time.monotonic() - started < 10
    release.set()


@pytest.mark.parametrize("keep_time", [False, True])
def test_time_is_a_feature_if_asked(tmp_path, keep_time):
    path = tmp_path / "creditcard.csv"
    path.write_bytes(PLAIN)
    found = load_transactions(str(path), keep_time)
    assert found.feature_names == (("Time",) if keep_time else ()) + FEATURES
    assert found.features.shape == (ROWS, 30 if keep_time else 29)
    assert found.features.dtype == np.float64
    assert found.labels.dtype == np.int64
    np.testing.assert_array_equal(found.time, 10 * np.arange(ROWS))
    np.testing.assert_array_equal(found.features[:, -1], np.arange(ROWS) + 0.5)
    if keep_time:
        np.testing.assert_array_equal(found.features[:, 0], found.time)


def test_time_of_a_table_of_other_columns_is_not_asked_for_in_vain(tmp_path):
    path = tmp_path / "mine.csv"
    path.write_text("a,b\n1.5,2\n2.5,3\n")
    with pytest.raises(DataError, match=r"^--keep-time: .*mine\.csv has other columns"):
        load_transactions(str(path), keep_time=True)


def test_real_transactions(real_transactions):
    found = load_transactions(str(real_transactions))
    assert found.features.shape == (27_594, 29)
    assert found.labels.sum() == 492
    assert len(found) == len(found.time) == 27_594
    assert (np.diff(found.time) >= 0).all()
    assert np.isfinite(found.features).all()
    np.testing.assert_allclose(found.features[0, [0, -1]], [-1.3598071336738, 149.62], rtol=1e-15)


def test_numbers_are_read_to_the_last_digit(tmp_path, rng):
    cells = table(50)
    for row in cells[1:]:
        row[1:29] = map(repr, rng.normal(size=28).tolist())
    (tmp_path / "long.csv").write_bytes(text_of(cells))
    found = load_transactions(str(tmp_path / "long.csv"))
    np.testing.assert_array_equal(found.features[:, :28], [[float(cell) for cell in row[1:29]] for row in cells[1:]])


@pytest.mark.parametrize(
    ("content", "fingerprint"),
    [
        (
            "a,b,label\n0.1,-1.1,0\n-0.34364633301279866,3,1\n",
            "35b4f5aaa339f924d83f15571da69baaf37a77600cd3a55b1bb8871be98add11",
        ),
        (
            "a,b,label\n0.1,red,0\n-0.34364633301279866,,1\n",
            "e89fd6803f3b85d14314f1919cb4983420d177b1977cff0745adfcd7ff2b7fa5",
        ),
    ],
    ids=["numbers", "words and a gap"],
)
def test_fingerprint_is_the_same_with_any_versions_of_libraries(tmp_path, content, fingerprint):
    """As recorded. A run is continued on data of the fingerprint that it was started with."""
    (tmp_path / "a.csv").write_text(content)
    assert load_transactions(str(tmp_path / "a.csv"), label="label").fingerprint == fingerprint
    for old, new in (("0.1", "0.2"), (",1\n", ",0\n"), ("-0.34364633301279866", "-0.3436463330127986")):
        (tmp_path / "b.csv").write_text(content.replace(old, new))
        assert load_transactions(str(tmp_path / "b.csv"), label="label").fingerprint != fingerprint


OTHER = b"amount;hour;country;stolen\n1.5;3;DE;0\n2.5;4;FR;1\n9;5;DE;0\n"


@pytest.fixture
def other(tmp_path):
    path = tmp_path / "other.csv"
    path.write_bytes(OTHER)
    return path


def test_a_table_of_other_columns(other):
    found = load_transactions(str(other), label="stolen", drop=("country",))
    assert found.feature_names == ("amount", "hour")
    np.testing.assert_array_equal(found.features, [[1.5, 3], [2.5, 4], [9, 5]])
    np.testing.assert_array_equal(found.labels, [0, 1, 0])
    np.testing.assert_array_equal(found.time, [0, 1, 2])
    assert not found.synthetic


def test_words_and_gaps_are_a_frame_of_cells_as_they_are(other):
    found = load_transactions(str(other), label="stolen")
    assert found.features.to_dict("list") == {
        "amount": ["1.5", "2.5", "9"],
        "hour": ["3", "4", "5"],
        "country": ["DE", "FR", "DE"],
    }
    np.testing.assert_array_equal(found.labels, [0, 1, 0])


def test_what_only_tells_rows_apart_is_left_out_of_numbers_with_a_notice(tmp_path):
    path = tmp_path / "mine.csv"
    paid = [f"${amount}" for amount in range(30)]
    pd.DataFrame({"id": range(100, 130), "amount": np.linspace(0, 1, 30), "paid": paid}).to_csv(path, index=False)
    found = load_transactions(str(path))
    assert found.feature_names == ("amount", "paid")
    assert found.notices == ("Left out: id (id: counts the rows).",)


def test_equal_rows_have_equal_codes_whatever_their_id(tmp_path):
    path = tmp_path / "mine.csv"
    cities = ["Rome", "Oslo"] * 15
    pd.DataFrame({"key": [f"k{i}" for i in range(30)], "city": cities, "n": [None, 1.5] * 15}).to_csv(path, index=False)
    assert np.unique(load_transactions(str(path)).codes(), axis=0).shape == (2, 2)


def test_the_ulb_set_with_gaps_keeps_its_label_and_leaves_time_out(tmp_path):
    path = tmp_path / "creditcard.csv"
    frame = simulate_transactions(rows=200)
    frame.loc[3, "V7"] = np.nan
    frame.to_csv(path, index=False)
    found = load_transactions(str(path))
    assert found.feature_names == FEATURES
    assert found.features["V7"].tolist()[3] is None
    np.testing.assert_array_equal(found.labels, frame["Class"])


def test_without_a_label_all_rows_are_genuine(tmp_path):
    path = tmp_path / "plain.csv"
    path.write_text("a,b\n1,2\n3,4\n")
    frame, labels = read_table(path)
    assert list(frame.columns) == ["a", "b"]
    np.testing.assert_array_equal(labels, [0, 0])


def test_labels_may_be_words(tmp_path):
    path = tmp_path / "words.csv"
    path.write_text("a,bad\n1,True\n3,False\n")
    np.testing.assert_array_equal(read_table(path, "bad")[1], [1, 0])


def test_the_ulb_set_with_its_own_label_named_is_itself(tmp_path):
    path = tmp_path / "creditcard.csv"
    path.write_bytes(PLAIN)
    assert load_transactions(str(path), label="Class").feature_names == FEATURES


@pytest.mark.parametrize(
    ("label", "drop", "expected"),
    [
        ("fraud", (), "--label fraud: no such column; there are amount, hour, country, stolen"),
        ("stolen", ("land",), "--drop land: no such column"),
        ("hour", ("country",), "row 0 (line 2), column hour: 3 is neither 0 (genuine) nor 1 (fraud)"),
        ("stolen", ("country", "amount", "hour"), "no column is left"),
    ],
)
def test_what_is_wrong_with_another_table_is_said_by_name(other, label, drop, expected):
    with pytest.raises(DataError) as refused:
        load_transactions(str(other), label=label, drop=drop)
    assert str(refused.value).startswith(f"{other}: ")
    assert expected in str(refused.value)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("content", "place"),
    [
        ("lab,x\n0,1\n1,2\nmaybe,3\n", "row 2 (line 4), column lab"),
        ("lab,x\n0,1\n\n1,2\n , \nmaybe,3\n", "row 3 (line 6), column lab"),
        ('lab,"x\n(EUR)"\n0,"1\n"\n1,2\nmaybe,3\n', "row 2 (line 6), column lab"),
        ("lab,x\n0,1\n\n,2\n", "row 1 (line 4), column lab: blank"),
        ("lab,x\n0,1\n\n2,2\n", "row 1 (line 4), column lab: 2 is neither"),
    ],
)
def test_the_line_is_that_of_the_file_whatever_lines_precede(content, place, tmp_path):
    path = tmp_path / "mine.csv"
    path.write_text(content)
    with pytest.raises(DataError) as refused:
        load_transactions(str(path), label="lab")
    assert str(refused.value).startswith(f"{path}: {place}")


def test_the_line_is_the_sheets_row_in_excel_and_parquet_has_none(tmp_path):
    rows = [[None, None], ["lab", "x"], [0, 1], [None, None], [1, 2], [None, 3]]
    pd.DataFrame(rows).to_excel(tmp_path / "mine.xlsx", header=False, index=False)
    pd.DataFrame({"none": [1, 2, 3], "lab": [0, 1, None], "x": [1, 2, 3]}).to_parquet(tmp_path / "mine.parquet")
    for name, place in (("mine.xlsx", "row 2 (line 6), column lab"), ("mine.parquet", "row 2, column lab")):
        with pytest.raises(DataError) as refused:
            load_transactions(str(tmp_path / name), label="lab", drop=("none",) if name == "mine.parquet" else ())
        assert str(refused.value) == f"{tmp_path / name}: {place}: blank"
        whole = load_transactions(str(tmp_path / name), drop=("lab",))
        assert whole.row_numbers.tolist() == [0, 1, 2]


def test_lines_of_separators_alone_count_as_rows_and_blank_ones_do_not(tmp_path):
    path = tmp_path / "mine.csv"
    path.write_text('x,y\nred,1\n\nblue,2\n,\n"dark\nblue",3\ngreen,4\n')
    table = load_transactions(str(path))
    assert table.row_numbers.tolist() == [0, 1, 3, 4]
    assert list(table.places.lines) == [2, 4, 6, 8]
    as_pandas = pd.read_csv(path)["x"].dropna()
    assert as_pandas.index.tolist() == table.row_numbers.tolist()
    path.write_text("x,y\nred,1\nblue,2\n")
    assert load_transactions(str(path)).row_numbers.tolist() == [0, 1]


def test_a_table_that_resembles_the_ulb_set_is_read_as_another_if_its_label_is_said(tmp_path):
    path = tmp_path / "creditcard_2023.csv"
    frame = simulate_transactions(rows=2_000).drop(columns="Time")
    frame.insert(0, "id", np.arange(2_000))
    frame.to_csv(path, index=False)
    with pytest.raises(DataError, match=r"missing 'Time', unexpected 'id'; as a table of its own: --label Class$"):
        load_transactions(str(path))
    found = load_transactions(str(path), label="Class")
    assert found.feature_names == FEATURES
    assert found.labels.sum() == frame["Class"].sum() > 0
    assert found.notices == ("Left out: id (id: counts the rows).",)


def test_the_ulb_set_without_some_columns_keeps_its_label_and_leaves_time_out(tmp_path):
    path = tmp_path / "creditcard.csv"
    simulate_transactions(rows=2_000).to_csv(path, index=False)
    found = load_transactions(str(path), drop=("V1",))
    assert found.feature_names == FEATURES[1:]
    assert found.labels.sum() > 0
    assert load_transactions(str(path), keep_time=True, drop=("V1",)).feature_names == ("Time", *FEATURES[1:])


@pytest.mark.parametrize(
    ("options", "named"), [({"label": "Class"}, "--label Class"), ({"drop": ("V1",)}, "--drop V1")]
)
@pytest.mark.parametrize("source", ["auto", "kaggle", "synthetic"])
def test_columns_are_named_only_of_a_file(source, options, named):
    with pytest.raises(DataError, match=f"{named}: for a file of one's own"):
        load_transactions(source, **options)


def test_a_column_without_a_name_is_refused_by_its_place(tmp_path):
    path = tmp_path / "mine.csv"
    pd.DataFrame({"amount": [1.0, 2.0]}, index=[7.5, 3.5]).to_csv(path)
    with pytest.raises(DataError, match="column 1 of 2 has no name; name it, or leave it out with --drop ''"):
        load_transactions(str(path))
    assert load_transactions(str(path), drop=("",)).feature_names == ("amount",)
