import sys

import numpy as np
import pytest
from picture_helpers import encoded, raw_png, raw_tiff
from PIL import Image

from vae_jax.images.decoding import PictureError, decode, reads_heic

RED, GREEN, BLUE, YELLOW = (220, 20, 20), (20, 220, 20), (20, 20, 220), (220, 220, 20)
STRIPES = np.repeat(np.array([[RED, GREEN, BLUE]], np.uint8), (10, 20, 10), axis=1).repeat(20, axis=0)  # 40 wide
QUARTERS = np.array([[RED, GREEN], [BLUE, YELLOW]], np.uint8).repeat(24, axis=0).repeat(32, axis=1)  # 64 wide
NOISE = np.random.default_rng(0).integers(0, 256, (60, 50, 3), np.uint8)


def plain(mode: str, colour, **options) -> bytes:
    return encoded(Image.new(mode, (20, 24), colour), **options)


def palette(**options) -> bytes:
    picture = Image.new("P", (20, 24), 1)
    picture.putpalette([0, 0, 0, 10, 200, 30])
    return encoded(picture, **options)


def deep(value: int, **options) -> bytes:
    return encoded(np.full((24, 20), value, np.uint16), **options)


PLAIN = {
    "rgb": (plain("RGB", RED), RED),
    "grey": (plain("L", 77), (77, 77, 77)),
    "grey jpeg": (plain("L", 77, kind="JPEG"), (77, 77, 77)),
    "black and white": (plain("1", 1), (255, 255, 255)),
    "cmyk": (plain("CMYK", (0, 255, 255, 0), kind="JPEG"), (255, 0, 0)),
    "cmyk, black ink": (plain("CMYK", (0, 0, 0, 255), kind="JPEG"), (0, 0, 0)),
    "palette": (palette(), (10, 200, 30)),
    "palette, transparent": (palette(transparency=1), (255, 255, 255)),
    "palette, another colour transparent": (palette(transparency=0), (10, 200, 30)),
    "rgba, opaque": (plain("RGBA", (*RED, 255)), RED),
    "rgba, transparent": (plain("RGBA", (*RED, 0)), (255, 255, 255)),
    "rgba, half transparent": (plain("RGBA", (255, 0, 100, 51)), (255, 204, 224)),
    "grey, half transparent": (plain("LA", (0, 51)), (204, 204, 204)),
    "rgb, one colour transparent": (plain("RGB", RED, transparency=RED), (255, 255, 255)),
    "16-bit, black": (deep(0), (0, 0, 0)),
    "16-bit, dark": (deep(2 * 257), (2, 2, 2)),
    "16-bit, middle": (deep(100 * 257), (100, 100, 100)),
    "16-bit, white": (deep(65535), (255, 255, 255)),
    "16-bit grey, transparent": (deep(1000, transparency=1000), (255, 255, 255)),
    "16-bit grey, another grey transparent": (deep(100 * 257, transparency=1000), (100, 100, 100)),
    "16-bit colours": (
        raw_png(20, 24, 16, 2, (b"\0" + np.array([100 * 257, 65535, 0], ">u2").tobytes() * 20) * 24),
        (100, 255, 0),
    ),
    "webp": (plain("RGB", RED, kind="WEBP", lossless=True), RED),
    "webp, half transparent": (plain("RGBA", (255, 0, 100, 51), kind="WEBP", lossless=True), (255, 204, 224)),
    "avif, transparent": (plain("RGBA", (*RED, 0), kind="AVIF"), (255, 255, 255)),
    "avif, grey": (plain("L", 77, kind="AVIF", quality=100), (77, 77, 77)),
    "bmp": (plain("RGB", RED, kind="BMP"), RED),
    "bmp, grey": (plain("L", 77, kind="BMP"), (77, 77, 77)),
    "bmp, palette": (palette(kind="BMP"), (10, 200, 30)),
    "tiff": (plain("RGB", RED, kind="TIFF"), RED),
    "tiff, cmyk": (plain("CMYK", (0, 255, 255, 0), kind="TIFF"), (255, 0, 0)),
    "tiff, palette": (palette(kind="TIFF"), (10, 200, 30)),
    "tiff, black and white": (plain("1", 1, kind="TIFF"), (255, 255, 255)),
    "tiff, half transparent": (plain("RGBA", (255, 0, 100, 51), kind="TIFF"), (255, 204, 224)),
    "tiff, 16-bit": (encoded(np.full((24, 20), 100 * 257, np.uint16), "TIFF"), (100, 100, 100)),
    "tiff, 16-bit colours": (raw_tiff(20, 24, np.array([100 * 257, 65535, 0])), (100, 255, 0)),
}


@pytest.mark.parametrize(("data", "colour"), PLAIN.values(), ids=PLAIN)
def test_every_kind_of_picture_becomes_rgb(data, colour):
    picture = decode(data, 16)
    assert picture.shape == (16, 16, 3)
    assert picture.dtype == np.uint8
    assert np.abs(picture.astype(int) - colour).max() <= 1


@pytest.mark.parametrize("size", [1, 16, 33, 100])
def test_size(size):
    assert decode(encoded(NOISE), size).shape == (size, size, 3)


def test_picture_of_the_right_size_keeps_every_pixel():
    square = NOISE[:50]
    np.testing.assert_array_equal(decode(encoded(square), 50), square)
    np.testing.assert_array_equal(decode(encoded(square), 50, "center"), square)
    np.testing.assert_array_equal(decode(encoded(NOISE), 50, "center"), NOISE[5:55])


def test_crop_none_squeezes_the_whole_picture():
    picture = decode(encoded(STRIPES), 16)
    np.testing.assert_array_equal(picture[:, [1, 8, 14]], np.tile(np.array([RED, GREEN, BLUE], np.uint8), (16, 1, 1)))


@pytest.mark.parametrize("turn", [0, 1])
def test_crop_center_cuts_the_middle_square(turn):
    picture = decode(encoded(np.rot90(STRIPES, turn)), 16, "center")
    np.testing.assert_array_equal(picture, np.broadcast_to(np.array(GREEN, np.uint8), (16, 16, 3)))


STORED = {  # how a camera stores a picture under each EXIF orientation
    1: QUARTERS,
    2: QUARTERS[:, ::-1],
    3: QUARTERS[::-1, ::-1],
    4: QUARTERS[::-1],
    5: QUARTERS.swapaxes(0, 1),
    6: np.rot90(QUARTERS),
    7: np.rot90(QUARTERS, 2).swapaxes(0, 1),
    8: np.rot90(QUARTERS, -1),
}


def written(picture: np.ndarray, kind: str, **options) -> bytes:
    """A file of any format; the test is skipped where it takes pillow-heif, and that is not there."""
    if kind == "HEIF" and not reads_heic():
        pytest.skip("pillow-heif, which is optional, is not installed")
    return encoded(picture, kind, quality=95, **options)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "AVIF", "BMP", "TIFF", "HEIF"])
def test_every_format_is_read(kind):
    corners = decode(written(QUARTERS, kind), 16)[[3, 3, 12, 12], [3, 12, 3, 12]].astype(int)
    assert np.abs(corners - [RED, GREEN, BLUE, YELLOW]).max() < 12


@pytest.mark.parametrize("orientation", STORED)
@pytest.mark.parametrize(
    ("kind", "crop"),
    [("JPEG", "none"), ("JPEG", "center"), *((kind, "none") for kind in ("PNG", "WEBP", "AVIF", "TIFF", "HEIF"))],
)
def test_exif_rotation_is_undone(kind, orientation, crop):
    exif = Image.Exif()
    exif[0x0112] = orientation
    picture = decode(written(STORED[orientation], kind, exif=exif.tobytes()), 16, crop)
    corners = picture[[3, 3, 12, 12], [3, 12, 3, 12]].astype(int)
    assert np.abs(corners - [RED, GREEN, BLUE, YELLOW]).max() < 12


@pytest.mark.parametrize("kind", ["PNG", "WEBP", "AVIF", "TIFF", "HEIF"])
def test_of_several_pictures_the_first_is_taken(kind):
    others = [Image.new("RGB", (64, 48), colour) for colour in (RED, BLUE)]
    file = written(np.full((48, 64, 3), GREEN, np.uint8), kind, save_all=True, append_images=others)
    assert np.abs(decode(file, 16).astype(int) - GREEN).max() < 12


@pytest.mark.parametrize("brand", [b"heic", b"mif1"])
def test_heic_without_pillow_heif_names_the_remedy(monkeypatch, brand):
    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    reads_heic.cache_clear()
    with pytest.raises(PictureError, match=r"^reading HEIC needs pillow-heif: pip install pillow-heif$"):
        decode(b"\0\0\0\x18ftyp" + brand + bytes(4) + b"mif1heic" + bytes(200), 16)
    reads_heic.cache_clear()


def test_garbled_exif_data_do_not_matter():
    plainly = encoded(QUARTERS, "JPEG")
    garbled = encoded(QUARTERS, "JPEG", exif=b"Exif\0\0nonsense")
    assert plainly != garbled
    np.testing.assert_array_equal(decode(garbled, 16), decode(plainly, 16))


JPEG, PNG, WEBP, TIFF = (encoded(NOISE, kind) for kind in ("JPEG", "PNG", "WEBP", "TIFF"))

NO_PICTURE = "not a JPEG, PNG, WebP, AVIF, BMP, TIFF or HEIC picture"
BAD = {
    "empty": (b"", NO_PICTURE),
    "text": (b"hello, world\n" * 100, NO_PICTURE),
    "html": (b"<!DOCTYPE html><html></html>", NO_PICTURE),
    "another format": (encoded(NOISE, "GIF"), NO_PICTURE),
    "half a jpeg": (JPEG[: len(JPEG) // 2], "damaged (image file is truncated"),
    "jpeg header alone": (JPEG[:30], "damaged ("),
    "half a png": (PNG[: len(PNG) // 2], "damaged (image file is truncated"),
    "png with damaged data": (PNG[:100] + bytes(50) + PNG[150:], "damaged ("),
    "one pixel": (encoded(np.zeros((1, 1, 3), np.uint8)), "1 x 1 pixels are too few"),
    "half a webp": (WEBP[: len(WEBP) // 2], "damaged ("),
    "half a tiff": (TIFF[: len(TIFF) // 2], "damaged ("),
    "tiff of floats": (encoded(np.ones((20, 20), np.float32), "TIFF"), "samples of 32 bits or with a sign"),
    "narrow": (encoded(np.zeros((500, 15, 3), np.uint8)), "15 x 500 pixels are too few"),
    "too large": (raw_png(10_001, 10_000, 8, 2, b""), "10,001 x 10,000 pixels are more than 100,000,000"),
    "decompression bomb": (raw_png(60_000, 60_000, 8, 2, b""), "exceeds limit"),
    "largest header": (raw_png(2**31 - 1, 2**31 - 1, 8, 2, b""), "exceeds limit"),
}


@pytest.mark.parametrize(("data", "words"), BAD.values(), ids=BAD)
def test_what_is_no_good_picture_is_refused_in_one_line(data, words):
    with pytest.raises(PictureError) as caught:
        decode(data, 16)
    assert words in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1


def test_unknown_crop_is_refused():
    with pytest.raises(ValueError, match=r"^unknown crop 'middle': expected one of none, center$") as caught:
        decode(PNG, 16, "middle")
    assert not isinstance(caught.value, PictureError)
