import errno
import os
import shutil
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace

import numpy as np
import pytest
from picture_helpers import CountingReader, counted, face, unusable, write_faces, write_zip

from vae_jax.data import image_cache
from vae_jax.data.errors import DataError
from vae_jax.images import cache as cache_module
from vae_jax.images.cache import prepare_images
from vae_jax.images.decoding import FORMAT_NAMES, decode
from vae_jax.images.drawn_faces import draw_face
from vae_jax.images.pictures import find_pictures, read_path

SIZE = 16
COUNT = 19  # of the pictures of a counting reader
BLOCK = 4


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch):
    """Five blocks, the last of three pictures."""
    monkeypatch.setattr(image_cache, "BLOCK", BLOCK)


def expected(count: int = COUNT, left_out=()) -> np.ndarray:
    pixels = np.stack([draw_face(0, i, SIZE)[0] for i in range(count)])
    pixels[list(left_out)] = 0
    return pixels


def prepare_until_killed(cache, row: int, failures=None) -> CountingReader:
    """A preparation that ends at a picture, as Ctrl-C would end it."""
    reader = CountingReader({**(failures or {}), row: KeyboardInterrupt()})
    with pytest.raises(KeyboardInterrupt):
        prepare_images(counted(COUNT, reader), SIZE, "none", cache, workers=1)
    return reader


def notes(cache):
    """The notes of progress of the only preparation there."""
    (path,) = cache.glob("*.partial/blocks.jsonl")
    return path


@pytest.mark.parametrize("crop", ["none", "center"])
@pytest.mark.parametrize("workers", [1, 3, None])
def test_pixels_are_those_of_each_file(tmp_path, crop, workers):
    names = [f"{i:02}.png" for i in range(10)]
    found = read_path(write_faces(tmp_path / "faces", names))
    images = prepare_images(found, SIZE, crop, tmp_path / "cache", workers=workers)
    np.testing.assert_array_equal(images.pixels, [decode(face(i), SIZE, crop) for i in range(10)])
    assert images.pixels.dtype == np.uint8
    assert isinstance(images.pixels, np.memmap)
    assert not images.pixels.flags.writeable
    assert images.left_out == {}
    np.testing.assert_array_equal(images.usable, np.arange(10))
    assert images.pictures is found


def test_second_call_decodes_nothing(tmp_path):
    first, second = CountingReader(), CountingReader()
    prepare_images(counted(COUNT, first), SIZE, "none", tmp_path)
    images = prepare_images(counted(COUNT, second), SIZE, "none", tmp_path)
    assert sorted(first.read_rows) == list(range(COUNT))
    assert second.read_rows == []
    np.testing.assert_array_equal(images.pixels, expected())


def test_a_prepared_set_is_read_from_a_cache_that_can_not_be_written(tmp_path, monkeypatch):
    prepare_images(counted(COUNT, CountingReader()), SIZE, "none", tmp_path)

    def refuse(path):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))

    monkeypatch.setattr(cache_module, "_locked", refuse)
    images = prepare_images(counted(COUNT, CountingReader()), SIZE, "none", tmp_path)
    np.testing.assert_array_equal(images.pixels, expected())


@pytest.mark.parametrize(
    ("size", "crop", "fingerprint", "stamp"),
    [
        (17, "none", "counted", ""),
        (16, "center", "counted", ""),
        (16, "none", "other", ""),
        (16, "none", "counted", "later"),
    ],
)
def test_other_size_crop_or_pictures_make_another_set(tmp_path, size, crop, fingerprint, stamp):
    prepare_images(counted(COUNT, CountingReader()), SIZE, "none", tmp_path)
    reader = CountingReader()
    images = prepare_images(counted(COUNT, reader, fingerprint, stamp), size, crop, tmp_path)
    assert len(reader.read_rows) == COUNT
    assert images.pixels.shape == (COUNT, size, size, 3)
    again = CountingReader()
    prepare_images(counted(COUNT, again), SIZE, "none", tmp_path)
    assert again.read_rows == []  # the first one is still there


@pytest.mark.parametrize("kind", ["folder", "zip"])
def test_changed_picture_is_decoded_anew(tmp_path, kind):
    def prepared(changed: int) -> np.ndarray:
        if kind == "folder":
            path = write_faces(tmp_path / "faces", ["a.png", "b.png"])
            (path / "b.png").write_bytes(face(changed))
            os.utime(path / "b.png", (changed, changed))
        else:
            path = write_zip(tmp_path / "faces.zip", {"a.png": face(0), "b.png": face(changed)})
            os.utime(path, (changed, changed))
        return prepare_images(read_path(path), SIZE, "none", tmp_path / "cache").pixels

    for changed in (1, 2):
        np.testing.assert_array_equal(prepared(changed), [decode(face(i), SIZE) for i in (0, changed)])


def test_limited_choice_is_not_mistaken_for_another(tmp_path):
    """A list of parts that appears later changes which pictures a limit chooses."""
    names = [f"{i:02}.png" for i in range(20)]
    folder = str(write_faces(tmp_path / "faces", names))
    lists = [None, "\n".join(f"{name} {i % 3}" for i, name in enumerate(names))]
    for text in lists:
        if text:
            (tmp_path / "faces" / "list_eval_partition.txt").write_text(text)
        images = prepare_images(find_pictures(folder, limit=9), SIZE, "none", tmp_path / "cache")
        faces = [decode(face(int(name[:2])), SIZE) for name in images.pictures.names]
        np.testing.assert_array_equal(images.pixels, faces)


def test_zip_is_read_by_several_workers(tmp_path):
    path = write_zip(tmp_path / "a.zip", {f"{i:03}.png": face(i) for i in range(50)})
    images = prepare_images(read_path(path), SIZE, "none", tmp_path / "cache", workers=4)
    np.testing.assert_array_equal(images.pixels, [decode(face(i), SIZE) for i in range(50)])


# Pictures that can't be used


def test_unusable_pictures_are_left_out_with_their_reasons(tmp_path):
    for _ in range(2):  # prepared, then found prepared
        reader = CountingReader({2: unusable("torn"), 3: unusable("burnt"), 18: unusable("lost")})
        images = prepare_images(counted(COUNT, reader), SIZE, "none", tmp_path)
        assert images.left_out == {"2": "torn", "3": "burnt", "18": "lost"}
        np.testing.assert_array_equal(images.usable, [i for i in range(COUNT) if i not in (2, 3, 18)])
        np.testing.assert_array_equal(images.pixels, expected(left_out=[2, 3, 18]))
        assert [images.rows(part).tolist() for part in range(3)] == [
            [0, 6, 9, 12, 15],
            [1, 4, 7, 10, 13, 16],
            [5, 8, 11, 14, 17],
        ]


def test_reasons_are_those_of_the_files(tmp_path):
    write_faces(tmp_path / "faces", ["a.png", "d.png"])
    (tmp_path / "faces" / "b.jpg").write_text("hello")
    (tmp_path / "faces" / "c.jpg").symlink_to(tmp_path / "gone")
    images = prepare_images(read_path(tmp_path / "faces"), SIZE, "none", tmp_path / "cache")
    assert images.left_out == {"b.jpg": f"not a {FORMAT_NAMES} picture", "c.jpg": "No such file or directory"}
    np.testing.assert_array_equal(images.usable, [0, 3])


@pytest.mark.parametrize(("name", "again"), [("a.HEIC", True), ("a.jpg", False)])
def test_heic_pictures_are_prepared_anew_once_they_can_be_read(tmp_path, monkeypatch, name, again):
    write_faces(tmp_path / "faces", ["b.jpg", name])

    def prepare(reads_heic: bool):
        monkeypatch.setattr(cache_module, "reads_heic", lambda: reads_heic)
        done = []
        prepare_images(
            read_path(tmp_path / "faces"), SIZE, "none", tmp_path / "cache", report=lambda *counts: done.append(counts)
        )
        return bool(done)

    assert [prepare(False), prepare(False), prepare(True), prepare(True)] == [True, False, again, False]


def test_no_usable_picture_is_refused(tmp_path):
    reader = CountingReader({i: unusable(f"spoilt {i}") for i in range(COUNT)})
    for _ in range(2):
        with pytest.raises(DataError) as caught:
            prepare_images(counted(COUNT, reader), SIZE, "none", tmp_path)
        assert str(caught.value) == "a counting reader: none of the 19 pictures can be used; 0: spoilt 0"


def test_unknown_crop_is_refused_before_anything_is_written(tmp_path):
    with pytest.raises(ValueError, match="unknown crop 'middle'"):
        prepare_images(counted(COUNT, CountingReader()), SIZE, "middle", tmp_path / "cache")
    assert not (tmp_path / "cache").exists()


# Preparations that are killed


def test_killed_preparation_goes_on_where_it_was(tmp_path):
    killed = prepare_until_killed(tmp_path, 10)
    assert set(range(10)) <= set(killed.read_rows)
    reader = CountingReader()
    images = prepare_images(counted(COUNT, reader), SIZE, "none", tmp_path)
    assert sorted(reader.read_rows) == list(range(8, COUNT))
    np.testing.assert_array_equal(images.pixels, expected())
    assert not list(tmp_path.glob("*.partial"))


@pytest.mark.parametrize("row", [0, COUNT - 1])
def test_kill_at_the_first_or_last_picture(tmp_path, row):
    prepare_until_killed(tmp_path, row)
    reader = CountingReader()
    images = prepare_images(counted(COUNT, reader), SIZE, "none", tmp_path)
    assert sorted(reader.read_rows) == list(range(row // BLOCK * BLOCK, COUNT))
    np.testing.assert_array_equal(images.pixels, expected())


def test_what_was_left_out_before_a_kill_stays_left_out(tmp_path):
    prepare_until_killed(tmp_path, 10, {1: unusable("torn")})
    images = prepare_images(counted(COUNT, CountingReader({15: unusable("burnt")})), SIZE, "none", tmp_path)
    assert images.left_out == {"1": "torn", "15": "burnt"}
    np.testing.assert_array_equal(images.pixels, expected(left_out=[1, 15]))


def test_half_a_note_does_not_count(tmp_path):
    prepare_until_killed(tmp_path, 10)
    text = notes(tmp_path).read_text()
    notes(tmp_path).write_text(text[: text.index("}", text.index('"start": 4'))])
    reader = CountingReader()
    images = prepare_images(counted(COUNT, reader), SIZE, "none", tmp_path)
    assert sorted(reader.read_rows) == list(range(4, COUNT))
    np.testing.assert_array_equal(images.pixels, expected())


def test_half_a_note_does_not_spoil_the_next_ones(tmp_path):
    prepare_until_killed(tmp_path, 5)
    with open(notes(tmp_path), "a") as file:
        file.write('{"start": 4, "lef')
    prepare_until_killed(tmp_path, 13)
    reader = CountingReader()
    images = prepare_images(counted(COUNT, reader), SIZE, "none", tmp_path)
    assert sorted(reader.read_rows) == list(range(12, COUNT))
    np.testing.assert_array_equal(images.pixels, expected())


def test_notes_without_pixels_do_not_count(tmp_path):
    prepare_until_killed(tmp_path, 10)
    (notes(tmp_path).parent / image_cache.PIXELS).unlink()
    images = prepare_images(counted(COUNT, CountingReader()), SIZE, "none", tmp_path)
    np.testing.assert_array_equal(images.pixels, expected())


def test_two_at_once_prepare_a_set_once(tmp_path):
    reader = CountingReader()
    with ThreadPoolExecutor(2) as pool:
        both = list(
            pool.map(lambda _: prepare_images(counted(COUNT, reader), SIZE, "none", tmp_path, workers=1), range(2))
        )
    assert len(reader.read_rows) == COUNT
    for images in both:
        np.testing.assert_array_equal(images.pixels, expected())


def test_report_counts_up_to_all(tmp_path):
    reports = []
    prepare_images(
        counted(COUNT, CountingReader()), SIZE, "none", tmp_path, lambda *numbers: reports.append(numbers), workers=2
    )
    assert reports == [(0, 19), (4, 19), (8, 19), (12, 19), (16, 19), (19, 19)]


def test_report_goes_on_after_a_kill(tmp_path):
    prepare_until_killed(tmp_path, 10)
    reports = []
    prepare_images(counted(COUNT, CountingReader()), SIZE, "none", tmp_path, lambda *numbers: reports.append(numbers))
    assert reports == [(8, 19), (12, 19), (16, 19), (19, 19)]


# Disks


def refusal(cache) -> str:
    """Prepares where that can't work, and returns the message, which is one line."""
    with pytest.raises(DataError) as caught:
        prepare_images(counted(COUNT, CountingReader()), SIZE, "none", cache)
    assert len(str(caught.value).splitlines()) == 1
    return str(caught.value)


@pytest.mark.parametrize("free", [0, image_cache.SPARE, image_cache.SPARE + COUNT * SIZE**2 * 3 - 1])
def test_too_little_disk_is_refused_before_decoding(tmp_path, monkeypatch, free):
    with monkeypatch.context() as patch:
        patch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=free))
        assert refusal(tmp_path).startswith(f"--cache {tmp_path}: 0.0 GB are needed for the prepared pictures, ")
    assert not list(tmp_path.glob("*/pixels.npy"))
    np.testing.assert_array_equal(
        prepare_images(counted(COUNT, CountingReader()), SIZE, "none", tmp_path).usable[-1], 18
    )


def test_just_enough_disk_will_do(tmp_path, monkeypatch):
    free = image_cache.SPARE + COUNT * SIZE**2 * 3
    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=free))
    assert len(prepare_images(counted(COUNT, CountingReader()), SIZE, "none", tmp_path).usable) == COUNT


def test_needed_space_is_not_asked_for_twice(tmp_path, monkeypatch):
    """The pixels of a killed preparation have theirs already."""
    prepare_until_killed(tmp_path, 10)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=0))
    assert len(prepare_images(counted(COUNT, CountingReader()), SIZE, "none", tmp_path).usable) == COUNT


def test_disk_that_is_full_is_one_line(tmp_path, monkeypatch):
    def full(*arguments):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(os, "posix_fallocate", full)
        message = refusal(tmp_path)
    assert message == f"can't prepare the pictures in {tmp_path}: No space left on device; name another --cache"
    images = prepare_images(counted(COUNT, CountingReader()), SIZE, "none", tmp_path)
    np.testing.assert_array_equal(images.pixels, expected())


def test_disk_space_is_claimed_at_once(tmp_path, monkeypatch):
    claimed = []
    monkeypatch.setattr(os, "posix_fallocate", lambda file, start, size: claimed.append((start, size)))
    prepare_images(counted(COUNT, CountingReader()), SIZE, "none", tmp_path)
    ((start, size),) = claimed
    assert start == 0
    assert size > COUNT * SIZE**2 * 3


@pytest.mark.parametrize("below", ["file", "file/cache"])
def test_cache_that_can_not_be_written(tmp_path, below):
    (tmp_path / "file").write_text("hello")
    message = refusal(tmp_path / below)
    assert message.startswith(f"can't prepare the pictures in {tmp_path / below}: ")
    assert message.endswith("name another --cache")


def test_folder_without_permission(tmp_path, monkeypatch):
    def refuse(*arguments, **options):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))

    monkeypatch.setattr(image_cache.np.lib.format, "open_memmap", refuse)
    assert "Permission denied; name another --cache" in refusal(tmp_path)


@pytest.mark.parametrize("damage", ["truncated pixels", "other pixels", "no list"])
def test_damaged_set_is_refused(tmp_path, damage):
    prepare_images(counted(COUNT, CountingReader()), SIZE, "none", tmp_path)
    (pixels,) = tmp_path.glob("*/pixels.npy")
    if damage == "no list":
        (pixels.parent / image_cache.LEFT_OUT).write_text("")
    else:
        pixels.write_bytes(pixels.read_bytes()[:-1000] if damage == "truncated pixels" else b"hello")
    assert "remove it to prepare the pictures anew" in refusal(tmp_path)
