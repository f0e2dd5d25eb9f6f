"""Pictures and zips of them made to hurt: links, devices, bombs, names of no encoding."""

import contextlib
import gzip
import os
import struct
import zipfile

import numpy as np
import pytest
from picture_helpers import encoded, face, raw_png, write_faces

from vae_jax.data.errors import DataError
from vae_jax.images import readers
from vae_jax.images.decoding import PictureError, decode
from vae_jax.images.digits import FILES, find_digits
from vae_jax.images.pictures import read_path

BMP = b"BM" + struct.pack("<IIIIiiHHIIiiII", 1000, 0, 54, 40, 2**31 - 1, -(2**31), 1, 24, 0, 0, 1, 1, 0, 0)


def reasons(path):
    """Why each picture can't be used, by name."""
    found, pictures = {}, read_path(path)
    for i, name in enumerate(pictures.names):
        try:
            pictures.reader.read(i, 16, "none")
        except PictureError as error:
            found[name] = str(error)
    return found


def test_pipes_and_devices_called_like_pictures_are_left_out(tmp_path):
    write_faces(tmp_path, ["a.png"])
    os.mkfifo(tmp_path / "b.png")
    (tmp_path / "c.png").symlink_to("/dev/zero")
    assert reasons(tmp_path) == {"b.png": "not a file", "c.png": "not a file"}


def test_a_file_that_is_too_long_is_left_out(tmp_path):
    write_faces(tmp_path, ["a.png"])
    with open(tmp_path / "b.png", "wb") as file:
        file.truncate(10**12)
    assert reasons(tmp_path) == {"b.png": "1,000,000,000,000 bytes are more than 100,000,000"}


def test_a_link_in_a_zip_is_no_picture(tmp_path):
    link = zipfile.ZipInfo("b.png")
    link.external_attr = 0o120777 << 16
    with zipfile.ZipFile(tmp_path / "p.zip", "w") as archive:
        archive.writestr("a.png", face(0))
        archive.writestr(link, "/etc/passwd")
    assert set(reasons(tmp_path / "p.zip")) == {"b.png"}


def test_a_member_that_is_longer_than_its_zip_says_is_not_unpacked(tmp_path):
    with zipfile.ZipFile(tmp_path / "p.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a.png", bytes(1 << 20))
    content = (tmp_path / "p.zip").read_bytes()
    (tmp_path / "p.zip").write_bytes(content.replace(struct.pack("<I", 1 << 20), struct.pack("<I", 10)))
    assert reasons(tmp_path / "p.zip")["a.png"].startswith("can't be unpacked (Bad CRC-32")


def test_a_member_of_many_bytes_is_not_unpacked_whatever_its_zip_says(tmp_path, monkeypatch):
    monkeypatch.setattr(readers, "MOST_BYTES", 1_000)
    with zipfile.ZipFile(tmp_path / "p.zip", "w", zipfile.ZIP_BZIP2) as archive:
        archive.writestr("a.png", bytes(1 << 20))
    assert reasons(tmp_path / "p.zip") == {"a.png": "unpacked, it has more than 1,000 bytes"}


@pytest.mark.parametrize("kind", [zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_a_damaged_member_is_a_picture_that_can_not_be_used(kind, tmp_path):
    with zipfile.ZipFile(tmp_path / "p.zip", "w", kind) as archive:
        archive.writestr("a.png", face(0))
    content = bytearray((tmp_path / "p.zip").read_bytes())
    content[45:90] = b"\xff" * 45
    (tmp_path / "p.zip").write_bytes(content)
    assert reasons(tmp_path / "p.zip")["a.png"].startswith("can't be unpacked (")


def test_a_zip_whose_names_are_not_what_they_say_is_refused(tmp_path):
    with zipfile.ZipFile(tmp_path / "p.zip", "w") as archive:
        archive.writestr("é.png", face(0))
    content = (tmp_path / "p.zip").read_bytes()
    (tmp_path / "p.zip").write_bytes(content.replace("é".encode(), b"\xff\xff"))
    with pytest.raises(DataError, match=r"p\.zip: not a folder and not a readable zip"):
        read_path(tmp_path / "p.zip")


def test_lists_in_a_zip_that_are_longer_than_it_says_are_refused(tmp_path):
    with zipfile.ZipFile(tmp_path / "p.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a.png", face(0))
        archive.writestr("list_eval_partition.txt", b"a.png 0\n" * (1 << 17))
    content = (tmp_path / "p.zip").read_bytes()
    (tmp_path / "p.zip").write_bytes(content.replace(struct.pack("<I", 1 << 20), struct.pack("<I", 8)))
    with pytest.raises(DataError, match=r"malformed \(Bad CRC-32"):
        read_path(tmp_path / "p.zip")


@pytest.mark.parametrize(
    "data",
    [
        raw_png(2**31 - 1, 2**31 - 1, 8, 2, b""),
        raw_png(20, 20, 8, 2, b""),
        BMP,
        BMP[:30],
        b"II*\0" + struct.pack("<IHHHII", 8, 1, 256, 4, 2**32 - 1, 2**32 - 1),
        b"RIFF" + struct.pack("<I", 2**32 - 1) + b"WEBPVP8X" + struct.pack("<IIQ", 10, 0, 2**64 - 1),
    ],
)
def test_headers_that_lie_are_refused_in_one_line(data):
    with pytest.raises(PictureError) as error:
        decode(data, 16)
    assert str(error.value).isprintable()


def test_every_byte_of_a_picture_may_be_another():
    for kind in ("PNG", "JPEG", "BMP", "WEBP", "TIFF"):
        whole = encoded(np.zeros((16, 16, 3), np.uint8), kind)
        for i in range(0, min(len(whole), 400), 3):
            with contextlib.suppress(PictureError):
                assert decode(whole[:i] + bytes([whole[i] ^ 0xFF]) + whole[i + 1 :], 16).shape == (16, 16, 3)


def test_a_bomb_of_digits_is_not_unpacked(tmp_path):
    for name in FILES:
        kind = 1 if "labels" in name else 3
        sizes = (1,) if kind == 1 else (1, 28, 28)
        header = struct.pack(f">{1 + kind}i", 0x800 + kind, *sizes)
        with gzip.open(tmp_path / f"{name}.gz", "wb") as file:
            file.write(header + bytes(10_000_000))
    with pytest.raises(DataError, match="has more bytes than its header says"):
        find_digits(str(tmp_path))
