import numpy as np
import pytest
from picture_helpers import encoded, raw_png
from PIL import Image

from vae_jax.images.decoding import PictureError, decode

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


@pytest.mark.parametrize("orientation", STORED)
@pytest.mark.parametrize("crop", ["none", "center"])
def test_exif_rotation_is_undone(orientation, crop):
    exif = Image.Exif()
    exif[0x0112] = orientation
    picture = decode(encoded(STORED[orientation], "JPEG", quality=95, exif=exif), 16, crop)
    corners = picture[[3, 3, 12, 12], [3, 12, 3, 12]].astype(int)
    assert np.abs(corners - [RED, GREEN, BLUE, YELLOW]).max() < 12


def test_garbled_exif_data_do_not_matter():
    plainly = encoded(QUARTERS, "JPEG")
    garbled = encoded(QUARTERS, "JPEG", exif=b"Exif\0\0nonsense")
    assert plainly != garbled
    np.testing.assert_array_equal(decode(garbled, 16), decode(plainly, 16))


JPEG, PNG = encoded(NOISE, "JPEG"), encoded(NOISE)

BAD = {
    "empty": (b"", "not a JPEG or PNG picture"),
    "text": (b"hello, world\n" * 100, "not a JPEG or PNG picture"),
    "html": (b"<!DOCTYPE html><html></html>", "not a JPEG or PNG picture"),
    "another format": (encoded(NOISE, "GIF"), "not a JPEG or PNG picture"),
    "half a jpeg": (JPEG[: len(JPEG) // 2], "damaged (image file is truncated"),
    "jpeg header alone": (JPEG[:30], "damaged ("),
    "half a png": (PNG[: len(PNG) // 2], "damaged (image file is truncated"),
    "png with damaged data": (PNG[:100] + bytes(50) + PNG[150:], "damaged ("),
    "one pixel": (encoded(np.zeros((1, 1, 3), np.uint8)), "1 x 1 pixels are too few"),
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
