"""From files of pictures to a prepared set: formats, faults, layouts, lists, and a preparation that is cut short."""

import errno
import os
import struct
import zipfile
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from vae_jax.data import image_cache, pictures
from vae_jax.data.batches import stream_batches
from vae_jax.data.decoding import PictureError, decode
from vae_jax.data.drawn_faces import ATTRIBUTES, draw_face
from vae_jax.data.errors import DataError
from vae_jax.data.image_cache import prepare_images
from vae_jax.data.pictures import find_pictures, list_tfds, read_path
from vae_jax.data.splits import TEST, TRAIN, VALIDATION

GRADIENT = np.repeat(np.linspace(0, 255, 40).astype(np.uint8)[:, None, None], 40, 1).repeat(3, 2)


def file_of(picture: Image.Image, folder: Path, kind: str = "png", **options) -> bytes:
    path = folder / f"picture.{kind}"
    picture.save(path, **options)
    return path.read_bytes()


def png_that_claims(width: int, height: int) -> bytes:
    def chunk(name: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"0")) + chunk(b"IEND", b"")


@pytest.mark.parametrize(
    "convert",
    [
        lambda rgb: Image.fromarray(rgb[..., 0]),
        lambda rgb: Image.fromarray(rgb).convert("P", palette=Image.Palette.ADAPTIVE),
        lambda rgb: Image.fromarray(rgb[..., 0].astype(np.uint16) * 257),
        lambda rgb: Image.fromarray(np.dstack([rgb, np.full_like(rgb[..., :1], 255)])),
    ],
    ids=["grey", "palette", "16 bits", "alpha"],
)
def test_other_formats_become_the_same_rgb(convert, tmp_path):
    expected = decode(file_of(Image.fromarray(GRADIENT), tmp_path), 32)
    np.testing.assert_allclose(decode(file_of(convert(GRADIENT), tmp_path), 32).astype(int), expected, atol=2)


def test_cmyk_is_converted(tmp_path):
    red = np.zeros((40, 40, 3), np.uint8)
    red[..., 0] = 200
    decoded = decode(file_of(Image.fromarray(red).convert("CMYK"), tmp_path, "jpg", quality=95), 16)
    np.testing.assert_allclose(decoded.mean((0, 1)), [200, 0, 0], atol=12)


def test_transparency_is_laid_on_white(tmp_path):
    clear = Image.fromarray(np.zeros((20, 20, 4), np.uint8))
    assert decode(file_of(clear, tmp_path), 16).min() == 255


def test_exif_rotation_is_undone(tmp_path):
    exif = Image.Exif()
    exif[0x112] = 6  # turned a quarter to the right
    decoded = decode(file_of(Image.fromarray(GRADIENT), tmp_path, "jpg", exif=exif, quality=95), 16).astype(int)
    assert decoded[:, 0].mean() > decoded[:, -1].mean() + 150  # the gradient now runs from right to left


def test_crops(tmp_path):
    wide = np.zeros((20, 60, 3), np.uint8)
    wide[:, 20:40] = 255  # the square in the middle
    data = file_of(Image.fromarray(wide), tmp_path)
    assert decode(data, 16, "center").min() == 255
    squeezed = decode(data, 18, "none")
    assert squeezed[:, 8:10].min() == 255
    assert squeezed[:, :4].max() == 0
    with pytest.raises(ValueError, match="unknown crop 'left'"):
        decode(data, 16, "left")


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"hello, this is a text file", "not a JPEG or PNG"),
        (b"", "not a JPEG or PNG"),
        (png_that_claims(60_000, 60_000), "pixels"),
        (png_that_claims(12_000, 9_000), "108,000,000|12,000 x 9,000 pixels are more than"),
        (png_that_claims(1, 1), "1 x 1 pixels are too few"),
        (png_that_claims(50, 50), "damaged"),
    ],
)
def test_pictures_that_can_not_be_used(data, reason):
    with pytest.raises(PictureError, match=reason):
        decode(data, 16)


def test_truncated_jpeg(tmp_path):
    data = file_of(Image.fromarray(GRADIENT), tmp_path, "jpg")
    with pytest.raises(PictureError, match="damaged"):
        decode(data[: len(data) // 2], 16)


def save_pictures(folder: Path, names: list[str], size: int = 20) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for i, name in enumerate(names):
        Image.fromarray(np.full((size, size, 3), 10 * i, np.uint8)).save(folder / name)


CSV = {
    "list_eval_partition.csv": "image_id,partition\n1.png,0\n2.png,1\n3.png,2\n",
    "list_attr_celeba.csv": "image_id,Male,Smiling\n1.png,-1,1\n2.png,1,1\n3.png,1,-1\n",
}
TXT = {
    "list_eval_partition.txt": "1.png 0\n2.png 1\n3.png 2\n",
    "list_attr_celeba.txt": "3\nMale Smiling\n1.png -1  1\n2.png  1  1\n3.png  1 -1\n",
}
NAMES = ["1.png", "2.png", "3.png"]


@pytest.mark.parametrize("lists", [CSV, TXT], ids=["csv", "txt"])
@pytest.mark.parametrize(
    ("images", "named"),
    [("img_align_celeba/img_align_celeba", "."), ("img_align_celeba", "."), ("img_align_celeba", "img_align_celeba")],
    ids=["kaggle", "torchvision", "the folder itself"],
)
def test_layouts_and_lists(lists, images, named, tmp_path):
    save_pictures(tmp_path / images, NAMES)
    save_pictures(tmp_path / images / "__MACOSX", ["1.png"])
    (tmp_path / images / "._1.png").write_text("not a picture")
    for name, text in lists.items():
        (tmp_path / name).write_text(text)
    found = read_path(tmp_path / named)
    assert [Path(name).name for name in found.names] == NAMES
    assert found.parts.tolist() == [TRAIN, VALIDATION, TEST]
    assert found.attribute_names == ("Male", "Smiling")
    assert found.attributes.tolist() == [[-1, 1], [1, 1], [1, -1]]
    assert found.notices == ()


def test_lists_that_do_not_match(tmp_path):
    save_pictures(tmp_path, [*NAMES, "4.png"])
    (tmp_path / "list_eval_partition.csv").write_text("image_id,partition\n1.png,2\n2.png,1\n3.png,0\nabsent.png,0\n")
    found = read_path(tmp_path)
    assert found.parts.tolist() == [TEST, VALIDATION, TRAIN, TRAIN]
    assert any("does not list 1 of the pictures" in notice for notice in found.notices)
    assert any("lists 1 pictures that are not there" in notice for notice in found.notices)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("image_id,partition\n1.png,0\n2.png,7\n", "2.png has '7', expected one of 0, 1, 2"),
        ("image_id,partition\n1.png,0\n1.png,1\n", "1.png is listed more than once, with different values"),
        ("image_id,partition\nother.png,0\n", "lists none of the 3 pictures"),
        ("image_id,partition,more\n1.png,0,0\n", "3 columns"),
        ("", "malformed"),
    ],
)
def test_malformed_lists_are_refused(text, reason, tmp_path):
    save_pictures(tmp_path, NAMES)
    (tmp_path / "list_eval_partition.csv").write_text(text)
    with pytest.raises(DataError, match=rf"list_eval_partition\.csv: {reason}"):
        read_path(tmp_path)


def test_rows_that_say_the_same_twice_are_fine(tmp_path):
    save_pictures(tmp_path, NAMES)
    (tmp_path / "list_eval_partition.csv").write_text("image_id,partition\n1.png,2\n1.png,2\n2.png,1\n3.png,0\n")
    assert read_path(tmp_path).parts.tolist() == [TEST, VALIDATION, TRAIN]


def test_a_name_in_two_folders_with_a_list_is_refused(tmp_path):
    save_pictures(tmp_path / "a", NAMES)
    save_pictures(tmp_path / "b", ["2.png"])
    read_path(tmp_path)  # without a list there is no doubt
    (tmp_path / "list_eval_partition.csv").write_text(CSV["list_eval_partition.csv"])
    with pytest.raises(DataError, match=r"2\.png is there more than once"):
        read_path(tmp_path)


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_zip_in_place(tmp_path):
    save_pictures(tmp_path / "from", NAMES)
    with zipfile.ZipFile(tmp_path / "img_align_celeba.zip", "w") as archive:
        for name in NAMES:
            archive.write(tmp_path / "from" / name, f"img_align_celeba/{name}")
        archive.write(tmp_path / "from" / "3.png", "img_align_celeba/1.png")  # once more, and now another picture
        archive.write(tmp_path / "from" / "1.png", "../escapes.png")
    for name, text in CSV.items():
        (tmp_path / name).write_text(text)
    found = read_path(tmp_path / "img_align_celeba.zip")
    assert found.parts.tolist() == [TRAIN, VALIDATION, TEST]
    assert any("leads out of the zip" in notice for notice in found.notices)
    assert any("repeated" in notice for notice in found.notices)
    images = prepare_images(found, 16, "none", tmp_path / "cache", workers=3)
    assert images.pixels[:, 0, 0, 0].tolist() == [20, 10, 20]
    assert not (tmp_path.parent / "escapes.png").exists()


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"<!DOCTYPE html><html>Quota exceeded</html>", "HTML page.*Google Drive.*--data kaggle"),
        (b"PK\x03\x04 cut off", "not a readable zip.*--data kaggle"),
    ],
)
def test_what_is_no_zip(data, reason, tmp_path):
    (tmp_path / "celeba.zip").write_bytes(data)
    with pytest.raises(DataError, match=reason):
        read_path(tmp_path / "celeba.zip")


def test_nothing_there(tmp_path):
    with pytest.raises(DataError, match="no picture here"):
        read_path(tmp_path)
    with pytest.raises(DataError, match="nowhere: no such file or folder"):
        find_pictures(str(tmp_path / "nowhere"))


def test_seeded_split_and_limit():
    found = find_pictures("synthetic", limit=100, seed=3)
    assert [int((found.parts == part).sum()) for part in (TRAIN, VALIDATION, TEST)] == [70, 10, 20]
    some = pictures._some(found, 50, seed=1)
    assert [int((some.parts == part).sum()) for part in (TRAIN, VALIDATION, TEST)] == [35, 5, 10]
    assert some.names == pictures._some(found, 50, seed=1).names != pictures._some(found, 50, seed=2).names
    row = found.names.index(some.names[7])
    np.testing.assert_array_equal(some.reader.read(7, 16, "none"), found.reader.read(row, 16, "none"))
    assert some.attributes[7].tolist() == found.attributes[row].tolist()


def test_auto_takes_the_first_that_is_there(tmp_path, monkeypatch):
    tried = []

    def kaggle(*arguments):
        tried.append("kaggle")
        raise DataError("kaggle failed")

    def tfds():
        tried.append("tfds")
        raise DataError("tfds failed")

    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("VAE_JAX_DATA", raising=False)
    monkeypatch.setattr(pictures, "download_from_kaggle", kaggle)
    monkeypatch.setattr(pictures, "read_tfds", tfds)
    monkeypatch.setattr(pictures, "network_answers", lambda: False)
    assert find_pictures("auto", limit=10).synthetic
    assert tried == []
    monkeypatch.setattr(pictures, "network_answers", lambda: True)
    with pytest.raises(DataError, match="tfds failed"):
        find_pictures("auto")
    assert tried == ["kaggle", "tfds"]
    with pytest.raises(DataError, match="kaggle failed"):
        find_pictures("kaggle")
    assert tried == ["kaggle", "tfds", "kaggle"]
    save_pictures(tmp_path / "data" / "celeba", NAMES)
    assert find_pictures("auto").source == "data/celeba"
    save_pictures(tmp_path / "mine" / "celeba", NAMES)
    monkeypatch.setenv("VAE_JAX_DATA", str(tmp_path / "mine"))
    assert find_pictures("auto").source == str(tmp_path / "mine" / "celeba")


def test_records_of_tensorflow_datasets(tmp_path):
    def record(value: int, smiling: bool) -> dict:
        picture = Image.fromarray(np.full((20, 20, 3), value, np.uint8))
        return {"image": file_of(picture, tmp_path), "attributes": {"Smiling": smiling, "Male": True}}

    found = list_tfds([[record(10, True), record(20, False)], [record(30, True)], [record(40, False)]])
    assert found.parts.tolist() == [TRAIN, TRAIN, VALIDATION, TEST]
    assert found.attribute_names == ("Male", "Smiling")
    assert found.attributes.tolist() == [[1, 1], [1, -1], [1, 1], [1, -1]]
    assert [found.reader.read(i, 16, "none").max() for i in range(4)] == [10, 20, 30, 40]


def test_tensorflow_datasets_that_fails(monkeypatch):
    tfds = pytest.importorskip("tensorflow_datasets")

    class NonMatchingChecksumError(Exception):
        pass

    def fail(*arguments, **options):
        raise NonMatchingChecksumError("Artifact https://drive, expected\nmore lines")

    monkeypatch.setattr(tfds, "builder", fail)
    with pytest.raises(DataError, match=r"quota is used up; use --data kaggle") as caught:
        pictures.read_tfds()
    assert "\n" not in str(caught.value)


@pytest.fixture
def drawn():
    """Forty drawn faces."""
    return find_pictures("synthetic", limit=40)


class Counting(pictures.Reader):
    """Counts what is read, and stops the program at a given number."""

    def __init__(self, reader, stop_at=None):
        self.reader, self.stop_at, self.count = reader, stop_at, 0

    def read(self, index, size, crop):
        self.count += 1
        if self.count == self.stop_at:
            raise KeyboardInterrupt
        return self.reader.read(index, size, crop)


def with_reader(listed, reader):
    return pictures.Pictures(**{**vars(listed), "reader": reader})


def test_prepared_once(drawn, tmp_path):
    reader, seen = Counting(drawn.reader), []
    listed = with_reader(drawn, reader)
    images = prepare_images(listed, 16, "none", tmp_path, lambda done, total: seen.append((done, total)))
    assert seen[-1] == (40, 40)
    assert images.pixels.dtype == np.uint8
    for i in (0, 17, 39):
        np.testing.assert_array_equal(images.pixels[i], drawn.reader.read(i, 16, "none"))
    prepare_images(listed, 16, "none", tmp_path)
    assert reader.count == 40
    prepare_images(listed, 32, "none", tmp_path)
    assert reader.count == 80
    prepare_images(listed, 16, "center", tmp_path)
    assert reader.count == 120


def test_a_changed_picture_makes_a_new_set(tmp_path):
    save_pictures(tmp_path / "pictures", NAMES)
    prepare_images(read_path(tmp_path / "pictures"), 16, "none", tmp_path / "cache")
    Image.fromarray(np.full((20, 20, 3), 77, np.uint8)).save(tmp_path / "pictures" / "2.png")
    images = prepare_images(read_path(tmp_path / "pictures"), 16, "none", tmp_path / "cache")
    assert images.pixels[1].max() == 77


def test_a_preparation_that_was_killed_goes_on(drawn, tmp_path, monkeypatch):
    monkeypatch.setattr(image_cache, "BLOCK", 4)
    with pytest.raises(KeyboardInterrupt):
        prepare_images(with_reader(drawn, Counting(drawn.reader, 25)), 16, "none", tmp_path, workers=1)
    (notes,) = tmp_path.glob("*.partial/blocks.jsonl")
    finished = notes.read_text().count("start")
    assert finished >= 1
    with notes.open("a") as file:
        file.write('{"start": 3')  # what it was writing when it was killed
    reader = Counting(drawn.reader)
    images = prepare_images(with_reader(drawn, reader), 16, "none", tmp_path)
    assert reader.count == 40 - 4 * finished
    expected = np.stack([drawn.reader.read(i, 16, "none") for i in range(40)])
    np.testing.assert_array_equal(images.pixels, expected)
    assert not list(tmp_path.glob("*.partial"))


def test_pictures_left_out(tmp_path):
    save_pictures(tmp_path / "pictures", [f"{i}.png" for i in range(8)])
    (tmp_path / "pictures" / "3.png").write_text("not a picture")
    images = prepare_images(read_path(tmp_path / "pictures"), 16, "none", tmp_path / "cache")
    assert dict(images.left_out) == {"3.png": "not a JPEG or PNG picture"}
    assert images.usable.tolist() == [0, 1, 2, 4, 5, 6, 7]
    assert sorted(np.concatenate([images.rows(part) for part in (TRAIN, VALIDATION, TEST)])) == images.usable.tolist()


def test_no_usable_picture(tmp_path):
    (tmp_path / "a.jpg").write_text("not a picture")
    with pytest.raises(DataError, match=r"none of the 1 pictures can be used; a\.jpg: not a JPEG"):
        prepare_images(read_path(tmp_path), 16, "none", tmp_path / "cache")


def test_full_disk(drawn, tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(image_cache.shutil, "disk_usage", lambda path: type("Usage", (), {"free": 1_000})())
        with pytest.raises(DataError, match=r"--cache .* GB are needed"):
            prepare_images(drawn, 16, "none", tmp_path)

    def full(*arguments):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "posix_fallocate", full)
    with pytest.raises(DataError, match="No space left on device; name another --cache"):
        prepare_images(drawn, 16, "none", tmp_path)


def test_cache_that_can_not_be_made(drawn, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match="can't prepare the pictures in"):
        prepare_images(drawn, 16, "none", tmp_path / "file" / "cache")


@pytest.mark.parametrize("first", [0, 1, 4, 7])
def test_streamed_batches_are_the_order_in_turn(rng, first):
    pixels = rng.integers(0, 256, (30, 4, 4, 3)).astype(np.uint8)
    rows = np.arange(5, 27)  # 22 pictures: 5 batches of 4 in an epoch

    def order(epoch):
        return np.random.default_rng(epoch).permutation(len(rows))

    expected = np.concatenate([pixels[rows[order(epoch)][:20]].reshape(5, 4, 4, 4, 3) for epoch in range(3)])
    groups, step = stream_batches(pixels, rows, order, 4, 2, first), first
    while step < 12:
        group = next(groups)
        assert len(group) <= 2
        np.testing.assert_array_equal(group, expected[step : step + len(group)])
        step += len(group)


def test_drawn_faces():
    picture, labels = draw_face(0, 3, 32)
    assert picture.shape == (32, 32, 3)
    assert picture.dtype == np.uint8
    np.testing.assert_array_equal(draw_face(0, 3, 32)[0], picture)
    assert (draw_face(0, 4, 32)[0] != picture).mean() > 0.5
    assert (draw_face(1, 3, 32)[0] != picture).mean() > 0.5
    assert draw_face(0, 3, None)[1] == labels
    assert set(labels) <= {-1, 1}


def test_drawn_attributes_show():
    """Where an attribute is drawn, pictures with it and without it differ on average as they should."""
    drawn = [draw_face(0, i, 32) for i in range(200)]
    faces = np.stack([picture for picture, _ in drawn]).astype(float).mean(-1)
    labels = np.array([label for _, label in drawn])

    def difference(name, rows, columns):
        has = labels[:, ATTRIBUTES.index(name)] == 1
        region = faces[:, rows, columns].mean((1, 2))
        return region[has].mean() - region[~has].mean()

    assert difference("Blond_Hair", slice(4, 9), slice(10, 22)) > 20
    assert difference("Pale_Skin", slice(19, 21), slice(11, 21)) > 20
    assert difference("Eyeglasses", slice(13, 17), slice(9, 23)) < -4
    assert difference("Bald", slice(2, 6), slice(12, 20)) > 5


def test_real_photographs(tmp_path):
    data = os.environ.get("VAE_JAX_DATA")
    if not data or not Path(data, "celeba").exists():
        pytest.skip("real data: VAE_JAX_DATA is not set, or has no celeba")
    found = find_pictures(str(Path(data, "celeba")), limit=60)
    images = prepare_images(found, 32, "center", tmp_path)
    assert len(images.usable) == len(found.names)
    assert all(len(images.rows(part)) for part in (TRAIN, VALIDATION, TEST))
    male = found.attributes[:, found.attribute_names.index("Male")]
    assert set(male.tolist()) == {-1, 1}
    assert 60 < images.pixels.mean() < 180
