import errno
import os
import shutil
import threading
import time
import zipfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from picture_helpers import SIDE, face, write_faces, write_zip

from vae_jax.data.errors import DataError
from vae_jax.data.parts import TEST, TRAIN, VALIDATION
from vae_jax.images import listing, readers
from vae_jax.images import pictures as module
from vae_jax.images.cache import prepare_images
from vae_jax.images.decoding import SUFFIXES, PictureError, decode
from vae_jax.images.drawn_faces import ATTRIBUTES, draw_face
from vae_jax.images.listing import Found
from vae_jax.images.pictures import DRAWN_FACES, drawn_faces, find_pictures, list_tfds, read_path, seeded_parts

COUNT = 6
NAMES = [f"{i:06}.jpg" for i in range(COUNT)]
PARTS = [0, 0, 0, 1, 2, 2]
MALE = [1, -1, 1, 1, -1, -1]
ALL_PARTS = (TRAIN, VALIDATION, TEST)


def write_lists(folder: Path, suffix: str, parts=PARTS, male=MALE) -> None:
    """Both lists of the six pictures, in Kaggle's form (csv) or the original one (txt)."""
    folder.mkdir(parents=True, exist_ok=True)
    comma, blank = (",", "image_id,Male") if suffix == "csv" else (" ", f"{COUNT}\nMale")
    rows = [comma.join(map(str, row)) for row in zip(NAMES, parts, strict=True)]
    (folder / f"list_eval_partition.{suffix}").write_text(
        "\n".join(["image_id,partition", *rows] if suffix == "csv" else rows)
    )
    rows = [comma.join(map(str, row)) for row in zip(NAMES, male, strict=True)]
    (folder / f"list_attr_celeba.{suffix}").write_text("\n".join([blank, *rows]))


def assert_the_six(found) -> None:
    """The six faces, each under its own name, with what the lists say of them."""
    assert [Path(name).name for name in found.names] == NAMES
    np.testing.assert_array_equal(found.parts, PARTS)
    assert found.attribute_names == ("Male",)
    np.testing.assert_array_equal(found.attributes, np.array(MALE)[:, None])
    assert found.parts.dtype == found.attributes.dtype == np.int8
    assert found.notices == ()
    assert not found.synthetic
    assert_reads_faces(found)


def assert_reads_faces(found) -> None:
    for i in range(len(found.names)):
        np.testing.assert_array_equal(found.reader.read(i, 16, "none"), decode(face(i), 16))


def refusal(path: Path) -> str:
    """Reads a bad folder or file and returns the message after its name, which is one line."""
    with pytest.raises(DataError) as caught:
        read_path(path)
    message = str(caught.value)
    assert message.startswith(f"{path}: ")
    assert len(message.splitlines()) == 1
    return message.removeprefix(f"{path}: ")


def zipped_faces(path: Path, prefix: str = "img_align_celeba/") -> Path:
    return write_zip(path, {prefix + name: face(i) for i, name in enumerate(NAMES)})


# Folders


def test_flat_folder_without_lists(tmp_path):
    found = read_path(write_faces(tmp_path, ["a.jpg", "b.JPEG", "c.png", "d.PNG"]))
    assert found.names == ("a.jpg", "b.JPEG", "c.png", "d.PNG")
    assert found.attributes.shape == (4, 0)
    assert found.attribute_names == ()
    assert found.source == str(tmp_path)
    assert_reads_faces(found)


@pytest.mark.parametrize("suffix", ["csv", "txt"])
@pytest.mark.parametrize("images", ["", "img_align_celeba", "img_align_celeba/img_align_celeba", "celeba/Img"])
def test_lists_at_the_root_of_any_layout(tmp_path, images, suffix):
    write_faces(tmp_path / images, NAMES)
    write_lists(tmp_path, suffix)
    assert_the_six(read_path(tmp_path))


@pytest.mark.parametrize("suffix", ["csv", "txt"])
def test_lists_in_a_folder_of_their_own(tmp_path, suffix):
    write_faces(tmp_path / "Img", NAMES)
    write_lists(tmp_path / "Anno", suffix)
    assert_the_six(read_path(tmp_path))


@pytest.mark.parametrize("suffix", ["csv", "txt"])
def test_naming_the_image_folder_finds_the_lists_beside_it(tmp_path, suffix):
    write_lists(tmp_path, suffix)
    assert_the_six(read_path(write_faces(tmp_path / "img_align_celeba", NAMES)))


@pytest.mark.parametrize("suffix", ["csv", "txt"])
@pytest.mark.parametrize("within", ["", "celeba/Anno/"])
def test_lists_within_a_zip(tmp_path, within, suffix):
    write_lists(tmp_path / "lists", suffix)
    members = {f"celeba/{name}": face(i) for i, name in enumerate(NAMES)}
    lists = {within + path.name: path.read_bytes() for path in (tmp_path / "lists").iterdir()}
    path = write_zip(tmp_path / "celeba.zip", members | lists)
    assert_the_six(read_path(path))
    write_lists(tmp_path, suffix, parts=[1, 1, 1, 2, 0, 0])  # those beside it go first
    np.testing.assert_array_equal(read_path(path).parts, [1, 1, 1, 2, 0, 0])


def test_lists_within_a_zip_that_can_not_be_used_are_named(tmp_path, monkeypatch):
    members = {name: face(i) for i, name in enumerate(NAMES)}
    path = write_zip(tmp_path / "a.zip", members | {"list_eval_partition.txt": b"000000.jpg 9"})
    with pytest.raises(DataError, match=r"a\.zip/list_eval_partition\.txt: 000000\.jpg has .9., expected"):
        read_path(path)
    monkeypatch.setattr(listing, "MOST_BYTES", 10)
    assert refusal(path) == "list_eval_partition.txt has 12 bytes, more than 10"


@pytest.mark.parametrize("suffix", ["csv", "txt"])
def test_lists_may_begin_with_a_byte_order_mark(tmp_path, suffix):
    write_faces(tmp_path, NAMES)
    write_lists(tmp_path, suffix)
    for path in tmp_path.glob(f"list_*.{suffix}"):
        path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())
    assert_the_six(read_path(tmp_path))


def test_lists_beside_any_other_folder_are_not_taken(tmp_path):
    write_lists(tmp_path, "csv")
    assert read_path(write_faces(tmp_path / "holidays", NAMES)).attribute_names == ()


def test_one_list_alone(tmp_path):
    write_faces(tmp_path, NAMES)
    write_lists(tmp_path, "csv")
    (tmp_path / "list_eval_partition.csv").unlink()
    found = read_path(tmp_path, seed=3)
    np.testing.assert_array_equal(found.parts, seeded_parts(COUNT, 3))
    np.testing.assert_array_equal(found.attributes[:, 0], MALE)


def test_notices_of_both_lists(tmp_path):
    write_faces(tmp_path, [*NAMES[:-1], "new.jpg"])
    write_lists(tmp_path, "csv")
    assert read_path(tmp_path).notices == (
        "list_eval_partition.csv does not list 1 of the pictures; they are used for training",
        "list_eval_partition.csv lists 1 pictures that are not there",
        "list_attr_celeba.csv does not list 1 of the pictures; their attributes are unknown",
        "list_attr_celeba.csv lists 1 pictures that are not there",
    )


@pytest.mark.parametrize(
    "name", [".hidden.jpg", "._000000.jpg", ".thumbs/a.jpg", "__MACOSX/a.jpg", "sub/__MACOSX/a.jpg", "a.txt", "a.gif"]
)
def test_hidden_and_other_files_are_passed_over(tmp_path, name):
    write_faces(tmp_path / "folder", [*NAMES, name])
    assert read_path(tmp_path / "folder").names == tuple(NAMES)
    path = write_zip(tmp_path / "a.zip", {name: face(i) for i, name in enumerate([*NAMES, name])})
    assert read_path(path).names == tuple(NAMES)
    assert read_path(path).notices == ()


def test_one_name_in_two_folders_is_refused_only_if_lists_must_tell_them_apart(tmp_path):
    write_faces(tmp_path, ["a/000001.jpg", "b/000001.jpg", "b/000002.jpg"])
    assert read_path(tmp_path).names == ("a/000001.jpg", "b/000001.jpg", "b/000002.jpg")
    write_lists(tmp_path, "csv")
    assert refusal(tmp_path).startswith("000001.jpg is there more than once")


def test_repeated_name_is_found_quickly_among_many():
    names = [f"a/{i}.jpg" for i in range(40_000)] + ["b/39999.jpg"]
    started = time.monotonic()
    with pytest.raises(DataError, match=r"39999\.jpg is there more than once"):
        module._list(Found(names, None, [Path("list_attr_celeba.csv")], "", "", []), Path("x"), 0, "")
    assert time.monotonic() - started < 5


def test_link_to_nowhere_is_a_picture_that_can_not_be_used(tmp_path):
    write_faces(tmp_path, ["a.jpg"])
    (tmp_path / "b.jpg").symlink_to(tmp_path / "gone.jpg")
    found = read_path(tmp_path)
    assert_reads_faces(SimpleNamespace(names=found.names[:1], reader=found.reader))
    with pytest.raises(PictureError, match=r"^No such file or directory$"):
        found.reader.read(1, 16, "none")


def test_a_disk_that_fails_is_no_fault_of_the_picture(tmp_path, monkeypatch):
    write_faces(tmp_path, ["a.png"])
    found = read_path(tmp_path)

    def fail(path):
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(Path, "read_bytes", fail)
    with pytest.raises(DataError, match=r"a\.png: can't be read \(Input/output error\)"):
        found.reader.read(0, 16, "none")


def test_names_that_are_not_utf_8_are_left_out(tmp_path):
    write_faces(tmp_path, ["a.png", "b.png"])
    (tmp_path / "b.png").rename(tmp_path / os.fsdecode(b"caf\xe9.png"))
    found = read_path(tmp_path)
    assert found.names == ("a.png",)
    assert found.notices == (r"1 pictures whose names are not UTF-8 are left out, e.g. caf\xe9.png",)


@pytest.mark.parametrize("change", ["content", "name", "more"])
def test_fingerprint_changes_with_the_pictures(tmp_path, change):
    write_faces(tmp_path, ["a.png", "b.png"])
    os.utime(tmp_path / "b.png", (1, 1))
    before = read_path(tmp_path).fingerprint
    assert read_path(tmp_path).fingerprint == before
    if change == "content":
        (tmp_path / "b.png").write_bytes(face(9) + b"longer")
        os.utime(tmp_path / "b.png", (1, 1))
    elif change == "name":
        (tmp_path / "b.png").rename(tmp_path / "c.png")
    else:
        write_faces(tmp_path, ["a.png", "b.png", "c.png"])
    assert read_path(tmp_path).fingerprint != before


def test_copies_have_one_fingerprint_and_stamps_of_their_own(tmp_path):
    write_faces(tmp_path / "a", ["a.png", "b.png"])
    zipped_faces(tmp_path / "a.zip")
    shutil.copytree(tmp_path / "a", tmp_path / "b")
    shutil.copy(tmp_path / "a.zip", tmp_path / "b.zip")
    os.utime(tmp_path / "b" / "b.png", (1, 1))
    os.utime(tmp_path / "b.zip", (1, 1))
    for one, other in (("a", "b"), ("a.zip", "b.zip")):
        first, second = read_path(tmp_path / one), read_path(tmp_path / other)
        assert first.fingerprint == second.fingerprint
        assert first.stamp != second.stamp


# Zips


@pytest.mark.parametrize("prefix", ["", "img_align_celeba/", "./"])
def test_zip_is_read_in_place(tmp_path, prefix):
    path = zipped_faces(tmp_path / "img_align_celeba.zip", prefix)
    found = read_path(path)
    assert [Path(name).name for name in found.names] == NAMES
    assert found.source == str(path)
    assert_reads_faces(found)
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("suffix", ["csv", "txt"])
def test_lists_beside_a_zip(tmp_path, suffix):
    write_lists(tmp_path, suffix)
    assert_the_six(read_path(zipped_faces(tmp_path / "celeba.zip")))


@pytest.mark.parametrize("name", ["../x.jpg", "a/../../x.jpg", "/tmp/x.jpg", "..\\x.jpg", "C:\\x.jpg"])
def test_entries_that_lead_out_of_a_zip_are_left_out(tmp_path, name):
    found = read_path(write_zip(tmp_path / "a.zip", {"a.jpg": face(0), name: face(1)}))
    assert found.names == ("a.jpg",)
    assert found.notices == (f"1 entries whose path leads out of the zip are left out, e.g. {name}",)
    assert_reads_faces(found)


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_last_of_equal_names_in_a_zip_counts(tmp_path):
    found = read_path(write_zip(tmp_path / "a.zip", [("a.jpg", face(5)), ("b.jpg", face(1)), ("a.jpg", face(0))]))
    assert found.names == ("a.jpg", "b.jpg")
    assert found.notices == ("1 repeated names in the zip: the last picture of each name counts",)
    assert_reads_faces(found)


def test_zip_is_read_by_several_threads(tmp_path):
    found = read_path(write_zip(tmp_path / "a.zip", {f"{i:03}.png": face(i) for i in range(60)}))
    barrier = threading.Barrier(4)

    def read(worker: int) -> list[np.ndarray]:
        barrier.wait()
        return [found.reader.read(i, 16, "none") for i in range(worker, 60, 4)]

    with ThreadPoolExecutor(4) as pool:
        for worker, read_pictures in enumerate(pool.map(read, range(4))):
            np.testing.assert_array_equal(read_pictures, [decode(face(i), 16) for i in range(worker, 60, 4)])


@pytest.mark.parametrize("compression", [zipfile.ZIP_DEFLATED, zipfile.ZIP_STORED])
def test_damaged_entry_is_a_picture_that_can_not_be_used(tmp_path, compression):
    path = tmp_path / "a.zip"
    with zipfile.ZipFile(path, "w", compression) as archive:
        archive.writestr("a.jpg", face(0))
        archive.writestr("b.jpg", face(1))
    content = bytearray(path.read_bytes())
    content[content.rindex(b"b.jpg", 0, content.index(b"PK\1\2")) + len(b"b.jpg")] = 0xFF  # its first byte of data
    path.write_bytes(content)
    found = read_path(path)
    np.testing.assert_array_equal(found.reader.read(0, 16, "none"), decode(face(0), 16))
    with pytest.raises(PictureError, match="can't be unpacked"):
        found.reader.read(1, 16, "none")


def test_fingerprint_changes_with_the_zip(tmp_path):
    before = read_path(zipped_faces(tmp_path / "a.zip")).fingerprint
    assert read_path(tmp_path / "a.zip").fingerprint == before
    with zipfile.ZipFile(tmp_path / "a.zip", "a") as archive:
        archive.writestr("another.png", face(9))
    assert read_path(tmp_path / "a.zip").fingerprint != before


QUOTA = "Google Drive serves one when its download quota is used up"
HTML = b"<!DOCTYPE html><html><title>Google Drive - Quota exceeded</title></html>"


@pytest.mark.parametrize("page", [HTML, b"\n  " + HTML, HTML.lower(), b"<html><body></body></html>"])
def test_page_instead_of_a_zip(tmp_path, page):
    (tmp_path / "img_align_celeba.zip").write_bytes(page)
    message = refusal(tmp_path / "img_align_celeba.zip")
    for words in (QUOTA, "--data kaggle", "--data tfds", "--data synthetic", "unpack the pictures"):
        assert words in message


def test_a_disk_that_fails_is_no_fault_of_a_picture_in_a_zip(tmp_path, monkeypatch):
    found = read_path(zipped_faces(tmp_path / "a.zip"))
    for error, kind, words in (
        (OSError(errno.EIO, os.strerror(errno.EIO)), DataError, r"a\.zip: can't be read \(Input/output error\)"),
        (OSError(errno.EINVAL, os.strerror(errno.EINVAL)), PictureError, "can't be unpacked"),
        (OSError("Invalid data stream"), PictureError, "can't be unpacked"),  # bzip2's
    ):
        monkeypatch.setattr(zipfile.ZipExtFile, "read", lambda *_, error=error: (_ for _ in ()).throw(error))
        with pytest.raises(kind, match=words):
            found.reader.read(0, 16, "none")


@pytest.mark.parametrize("content", [b"", b"hello\n", face(0), b"PK\3\4"], ids=["empty", "text", "picture", "start"])
def test_file_that_is_no_zip(tmp_path, content):
    (tmp_path / "a.zip").write_bytes(content)
    message = refusal(tmp_path / "a.zip")
    assert "not a readable zip" in message
    assert "--data kaggle" in message
    assert "Google Drive" not in message


@pytest.mark.parametrize("share", [0.5, 0.9, 0.99])
def test_truncated_zip(tmp_path, share):
    content = zipped_faces(tmp_path / "a.zip").read_bytes()
    (tmp_path / "a.zip").write_bytes(content[: int(share * len(content))])
    assert "not a readable zip" in refusal(tmp_path / "a.zip")


def test_zip_that_may_not_be_read(tmp_path, monkeypatch):
    def refuse(*arguments, **options):
        raise PermissionError(13, "Permission denied")

    path = zipped_faces(tmp_path / "a.zip")
    monkeypatch.setattr(zipfile, "ZipFile", refuse)
    assert refusal(path) == "can't be read (Permission denied)"


@pytest.mark.parametrize("members", [{}, {"a.txt": b"hello"}, {"../a.jpg": face(0)}], ids=["empty", "text", "unsafe"])
def test_zip_without_a_picture(tmp_path, members):
    assert refusal(write_zip(tmp_path / "a.zip", members)).startswith("no picture here")


def test_every_format_is_found_by_its_name(tmp_path):
    names = [f"a{suffix}" for suffix in SUFFIXES] + [f"B{suffix.upper()}" for suffix in SUFFIXES]
    write_faces(tmp_path / "faces", [*names, "c.gif", "d.raw"])
    assert sorted(read_path(tmp_path / "faces").names) == sorted(names)
    members = {name: face(0) for name in [*names, "c.gif"]}
    assert sorted(read_path(write_zip(tmp_path / "a.zip", members)).names) == sorted(names)


def test_folder_without_a_picture(tmp_path):
    (tmp_path / "notes.txt").write_text("hello")
    expected = "expected files ending in .jpg, .jpeg, .png, .webp, .avif, .bmp, .tif, .tiff, .heic, .heif"
    assert refusal(tmp_path) == f"no picture here, but notes.txt; {expected}"
    (tmp_path / "notes.txt").unlink()
    assert refusal(tmp_path) == f"no picture here; {expected}"


@pytest.mark.parametrize("name", ["nowhere", "nowhere.zip", "file/below"])
def test_missing_path(tmp_path, name):
    (tmp_path / "file").write_text("hello")
    assert refusal(tmp_path / name) == "no such file or folder"


# Parts and limits


@pytest.mark.parametrize("count", [1, 10, 99, 1000])
def test_seeded_parts_have_their_shares(count):
    parts = seeded_parts(count, 0)
    counts = np.bincount(parts, minlength=3)
    np.testing.assert_allclose(counts, [0.7 * count, 0.1 * count, 0.2 * count], atol=1)
    assert counts.sum() == count
    np.testing.assert_array_equal(parts, seeded_parts(count, 0))


def test_seeded_parts_follow_the_seed_and_mix_the_pictures():
    first, other = seeded_parts(1000, 0), seeded_parts(1000, 1)
    assert 300 < (first != other).sum() < 600
    np.testing.assert_allclose([(half == TRAIN).mean() for half in np.split(first, 2)], 0.7, atol=0.07)


def listed(tmp_path: Path, counts: tuple[int, int, int]) -> Path:
    """A folder of pictures whose list has so many of each part, and the attribute i-th bit of the name's number."""
    parts = np.repeat(ALL_PARTS, counts)
    names = [f"{i:04}.jpg" for i in range(len(parts))]
    for name in names:
        (tmp_path / name).write_bytes(name.encode())
    (tmp_path / "list_eval_partition.txt").write_text(
        "\n".join(f"{name} {part}" for name, part in zip(names, parts, strict=True))
    )
    (tmp_path / "list_attr_celeba.txt").write_text(
        "\n".join(["?", "Odd", *(f"{name} {1 if i % 2 else -1}" for i, name in enumerate(names))])
    )
    return tmp_path


def test_limit_keeps_the_shares_of_the_parts(tmp_path):
    found = find_pictures(str(listed(tmp_path, (60, 10, 30))), limit=20)
    np.testing.assert_array_equal(np.bincount(found.parts), [12, 2, 6])
    assert found.source == f"{tmp_path} (20 of 100)"
    assert sorted(set(found.names)) == list(found.names)
    for name, part, odd in zip(found.names, found.parts, found.attributes[:, 0], strict=True):
        number = int(name[:4])
        assert part == (0 if number < 60 else 1 if number < 70 else 2)
        assert odd == (1 if number % 2 else -1)


def test_limited_pictures_are_read_from_the_right_files(tmp_path):
    write_faces(tmp_path, [f"{i:02}.png" for i in range(30)])
    found = find_pictures(str(tmp_path), limit=10)
    for i, name in enumerate(found.names):
        np.testing.assert_array_equal(found.reader.read(i, 16, "none"), decode(face(int(name[:2])), 16))


@pytest.mark.parametrize("limit", range(1, 8))
def test_limit_is_met_exactly(tmp_path, limit):
    found = find_pictures(str(listed(tmp_path, (2, 3, 3))), limit=limit)
    assert len(found.names) == limit
    np.testing.assert_allclose(np.bincount(found.parts, minlength=3), np.array([2, 3, 3]) * limit / 8, atol=1)


def test_limit_is_deterministic_and_follows_the_seed(tmp_path):
    path = str(listed(tmp_path, (60, 10, 30)))
    first, again, other = (find_pictures(path, 20, seed) for seed in (0, 0, 1))
    assert first.names == again.names != other.names
    assert first.fingerprint == again.fingerprint != other.fingerprint
    assert find_pictures(path, 30).fingerprint != first.fingerprint != find_pictures(path).fingerprint


def test_limited_choice_from_other_parts_has_another_fingerprint(tmp_path):
    """Or a prepared set would be taken for one of other pictures."""
    first = find_pictures(str(listed(tmp_path, (60, 10, 30))), 20)
    (tmp_path / "list_eval_partition.txt").unlink()
    second = find_pictures(str(tmp_path), 20)
    assert first.names != second.names
    assert first.fingerprint != second.fingerprint


def test_limit_beyond_what_is_there_changes_nothing(tmp_path):
    path = str(listed(tmp_path, (6, 1, 3)))
    whole, limited = find_pictures(path), find_pictures(path, limit=10)
    assert whole.names == limited.names
    assert whole.fingerprint == limited.fingerprint
    assert whole.source == limited.source == path


# Which source


class Outside:
    """The world outside: folders of different numbers of pictures, Kaggle, tensorflow-datasets, and a network."""

    COUNTS = {"environment": 3, "data": 4, "kaggle": 5, "tfds": 6}  # noqa: RUF012 (never changed)

    def __init__(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
        self.tmp_path, self.monkeypatch = tmp_path, monkeypatch
        self.online, self.asked, self.there = False, [], set()
        (tmp_path / "work").mkdir()
        monkeypatch.chdir(tmp_path / "work")
        monkeypatch.delenv("VAE_JAX_DATA", raising=False)
        monkeypatch.setenv("KAGGLEHUB_CACHE", str(tmp_path / "kagglehub"))
        monkeypatch.setattr(module, "network_answers", self._answers)
        monkeypatch.setattr(module, "download_from_kaggle", self._kaggle)
        monkeypatch.setattr(module, "read_tfds", self._tfds)

    def provide(self, *places: str) -> None:
        for place in places:
            self.there.add(place)
            if place == "environment":
                self.monkeypatch.setenv("VAE_JAX_DATA", str(self.tmp_path / "mine"))
                self._write(self.tmp_path / "mine" / "celeba", place)
            elif place == "data":
                self._write(Path("data/celeba"), place)
            else:
                self.online = True

    def _write(self, folder: Path, place: str) -> Path:
        return write_faces(folder, NAMES[: self.COUNTS[place]])

    def _answers(self) -> bool:
        self.asked.append("network")
        return self.online

    def _kaggle(self, name: str, by_hand: str) -> Path:
        self.asked.append("kaggle")
        assert name == "jessicali9530/celeba-dataset"
        assert by_hand.startswith("PATH/")
        if "kaggle" not in self.there:
            raise DataError("Kaggle failed")
        return self._write(self.tmp_path / "cache" / "img_align_celeba" / "img_align_celeba", "kaggle").parent

    def _tfds(self):
        self.asked.append("tfds")
        if "tfds" not in self.there:
            raise DataError("tfds failed")
        return drawn_faces(self.COUNTS["tfds"])


@pytest.fixture
def outside(tmp_path, monkeypatch):
    return Outside(tmp_path, monkeypatch)


@pytest.mark.parametrize(
    ("places", "asked"),
    [
        (["environment", "data", "kaggle", "tfds"], []),
        (["data", "kaggle", "tfds"], []),
        (["kaggle", "tfds"], ["network", "kaggle"]),
        (["tfds"], ["network", "kaggle", "tfds"]),
    ],
)
def test_auto_takes_the_first_place_that_has_pictures(outside, places, asked):
    outside.provide(*places)
    assert len(find_pictures().names) == Outside.COUNTS[places[0]]
    assert outside.asked == asked


def test_auto_draws_faces_where_there_is_no_network(outside):
    found = find_pictures("auto", limit=12, seed=4)
    assert found.synthetic
    assert len(found.names) == 12
    np.testing.assert_array_equal(found.reader.read(3, 16, "none"), draw_face(4, 3, 16)[0])
    assert outside.asked == ["network"]


def test_auto_says_where_kaggle_pictures_come_from(outside):
    outside.provide("kaggle")
    assert find_pictures().source == f"Kaggle: {outside.tmp_path / 'cache' / 'img_align_celeba'}"


def test_auto_passes_over_an_environment_folder_without_celeba(outside):
    outside.monkeypatch.setenv("VAE_JAX_DATA", str(outside.tmp_path))
    outside.provide("data")
    assert len(find_pictures().names) == 4


def test_auto_does_not_pass_over_a_bad_folder(outside):
    outside.provide("data", "kaggle")
    (outside.tmp_path / "mine" / "celeba").mkdir(parents=True)
    outside.monkeypatch.setenv("VAE_JAX_DATA", str(outside.tmp_path / "mine"))
    with pytest.raises(DataError, match="no picture here"):
        find_pictures()
    assert outside.asked == []


def test_auto_does_not_draw_faces_when_downloads_fail(outside):
    outside.online = True
    with pytest.raises(DataError, match="tfds failed"):
        find_pictures()
    assert outside.asked == ["network", "kaggle", "tfds"]


@pytest.mark.parametrize(
    ("source", "words", "asked"),
    [
        ("kaggle", "Kaggle failed", ["kaggle"]),
        ("tfds", "tfds failed", ["tfds"]),
        ("nowhere", "nowhere: no such file or folder", []),
    ],
)
def test_named_source_never_falls_back(outside, source, words, asked):
    outside.provide("environment", "data")
    outside.online = True
    with pytest.raises(DataError, match=words):
        find_pictures(source)
    assert outside.asked == asked


def test_synthetic_looks_at_nothing_else(outside):
    outside.provide("environment", "data", "kaggle", "tfds")
    found = find_pictures("synthetic", limit=7)
    assert found.synthetic
    assert len(found.names) == 7
    assert outside.asked == []


def test_path_is_read(outside, tmp_path):
    outside.provide("environment")
    assert len(find_pictures(str(zipped_faces(tmp_path / "a.zip"))).names) == COUNT
    assert outside.asked == []


def test_drawn_faces_have_names_attributes_and_parts():
    found = drawn_faces(50, seed=2)
    assert found.synthetic
    assert len(set(found.names)) == 50
    assert found.attribute_names == ATTRIBUTES
    np.testing.assert_array_equal(found.attributes, [draw_face(2, i, None)[1] for i in range(50)])
    np.testing.assert_array_equal(found.parts, seeded_parts(50, 2))
    assert len({found.fingerprint, drawn_faces(50, seed=3).fingerprint, drawn_faces(49, seed=2).fingerprint}) == 3
    assert len(find_pictures("synthetic").names) == DRAWN_FACES


# tensorflow-datasets


def record(index: int, **attributes: bool) -> dict:
    return {"image": face(index), "attributes": attributes}


SPLITS = {
    "train": [record(0, Young=True, Male=False), record(1, Young=False, Male=False), record(2, Young=True, Male=True)],
    "validation": [record(3, Young=True, Male=True)],
    "test": [record(4, Young=False, Male=True), record(5, Young=False, Male=False)],
}


def assert_lists_the_records(found) -> None:
    assert len(set(found.names)) == 6
    assert found.attribute_names == ("Male", "Young")
    np.testing.assert_array_equal(found.attributes, [[-1, 1], [-1, -1], [1, 1], [1, 1], [1, -1], [-1, -1]])
    np.testing.assert_array_equal(found.parts, [0, 0, 0, 1, 2, 2])
    assert found.parts.dtype == found.attributes.dtype == np.int8
    assert_reads_faces(found)


def test_records_are_listed():
    found = list_tfds(list(SPLITS.values()))
    assert_lists_the_records(found)
    with pytest.raises(IndexError):
        found.reader.read(6, 16, "none")


def test_tfds_is_asked_for_encoded_pictures(monkeypatch):
    tfds = pytest.importorskip("tensorflow_datasets")
    prepared = []

    def source(split: str, decoders: dict) -> list[dict]:
        assert prepared
        assert isinstance(decoders["image"], type(tfds.decode.SkipDecoding()))
        return SPLITS[split]

    def builder(name: str, file_format: str) -> SimpleNamespace:
        assert (name, file_format) == ("celeb_a", "array_record")
        return SimpleNamespace(download_and_prepare=lambda: prepared.append(name), as_data_source=source)

    monkeypatch.setattr(tfds, "builder", builder)
    found = find_pictures("tfds")
    assert_lists_the_records(found)
    assert found.source == "tensorflow-datasets: celeb_a"


class NonMatchingChecksumError(Exception):
    """Called as the one that tensorflow-datasets raises."""


@pytest.mark.parametrize(
    ("failure", "reason", "quota"),
    [
        (OSError("no network\n\nTraceback"), "OSError: no network)", False),
        (RuntimeError("x" * 5000), "RuntimeError: xxx", False),
        (AssertionError(), "AssertionError: AssertionError", False),
        (NonMatchingChecksumError("Artifact https://drive.google.com/x\nhas"), "NonMatchingChecksumError", True),
    ],
)
def test_tfds_that_fails_gives_one_line(monkeypatch, failure, reason, quota):
    def fail(*arguments, **options):
        raise failure

    monkeypatch.setattr(pytest.importorskip("tensorflow_datasets"), "builder", fail)
    with pytest.raises(DataError) as caught:
        find_pictures("tfds")
    message = str(caught.value)
    assert len(message.splitlines()) == 1
    assert len(message) < 500
    for words in (reason, "--data kaggle", "--data synthetic"):
        assert words in message
    assert ("quota" in message) == quota


# Real pictures


@pytest.fixture(scope="module")
def real_pictures() -> Path:
    """The real pictures; tests that need them are skipped where they are not to be had."""
    folder = os.environ.get("VAE_JAX_DATA")
    if not folder:
        pytest.skip("real data: VAE_JAX_DATA is not set")
    path = Path(folder) / "celeba"
    if not path.exists():
        pytest.skip(f"real data: {path} does not exist")
    return path


@pytest.mark.parametrize("crop", ["none", "center"])
def test_real_pictures(real_pictures, tmp_path, crop):
    found = find_pictures(limit=40)
    assert found.source.startswith(str(real_pictures))
    assert len(found.names) == 40
    assert found.notices == ()
    np.testing.assert_allclose(np.bincount(found.parts), [32, 4, 4], atol=1)
    male = found.attributes[:, found.attribute_names.index("Male")]
    assert set(male) == {-1, 1}
    images = prepare_images(found, SIDE, crop, tmp_path)
    assert not images.left_out
    assert [len(images.rows(part)) for part in ALL_PARTS] == np.bincount(found.parts).tolist()
    file = next(real_pictures.rglob(Path(found.names[7]).name))
    np.testing.assert_array_equal(images.pixels[7], decode(file.read_bytes(), SIDE, crop))
    assert images.pixels.std() > 30


def test_linked_folders_are_followed_but_not_in_circles(tmp_path):
    write_faces(tmp_path / "elsewhere", NAMES)
    (tmp_path / "celeba").mkdir()
    (tmp_path / "celeba" / "img_align_celeba").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "elsewhere" / "back").symlink_to(tmp_path / "celeba")
    assert [Path(name).name for name in read_path(tmp_path / "celeba").names] == NAMES


def test_folder_that_holds_only_the_official_zip(tmp_path):
    zipped_faces(tmp_path / "img_align_celeba.zip")
    write_lists(tmp_path, "txt")
    assert_the_six(read_path(tmp_path))


def test_entry_that_unpacks_to_too_much(tmp_path, monkeypatch):
    zipped_faces(tmp_path / "pictures.zip")
    monkeypatch.setattr(readers, "MOST_BYTES", 100)
    with pytest.raises(PictureError, match="unpacked, it has more than 100 bytes"):
        read_path(tmp_path / "pictures.zip").reader.read(0, 16, "none")
