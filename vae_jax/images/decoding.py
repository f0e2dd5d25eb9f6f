"""Decodes image files to arrays of one size."""

from __future__ import annotations

import io
import warnings
from functools import cache
from typing import TYPE_CHECKING

import numpy as np

from vae_jax.data.errors import OneLineError, first_line

if TYPE_CHECKING:
    from jaxtyping import UInt8
    from PIL import Image

CROPS = ("none", "center")
SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".avif", ".bmp", ".tif", ".tiff", ".heic", ".heif")
FORMATS = ("JPEG", "PNG", "WEBP", "AVIF", "BMP", "TIFF")  # as Pillow calls them; HEIC takes pillow-heif
FORMAT_NAMES = "JPEG, PNG, WebP, AVIF, BMP, TIFF or HEIC"
HEIC_SUFFIXES = (".heic", ".heif")
HEIC_BRANDS = (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1")  # after `ftyp`, at byte 8
SMALLEST_SIDE = 16  # pixels; anything smaller is a tracking pixel or an icon, not a photograph
MOST_PIXELS = 100_000_000  # more is treated as a decompression bomb, a small file that fills the memory


class PictureError(OneLineError, ValueError):
    """An image that can't be used; the message says why, without the image's name.

    Examples:
      >>> from vae_jax.images.decoding import PictureError, decode
      >>> try:
      ...     decode(b"<html>", size=64)
      ... except PictureError as error:
      ...     print(error)
      not a JPEG, PNG, WebP, AVIF, BMP, TIFF or HEIC picture
    """


def decode(data: bytes, size: int, crop: str = "none") -> UInt8[np.ndarray, "size size 3"]:
    """Decodes an image file to an upright RGB image of one size.

    Args:
      data: the contents of a JPEG, PNG, WebP, AVIF, BMP or TIFF file or, with pillow-heif, a HEIC file. Grey, palette,
        CMYK and 16-bit images are converted, transparent ones laid on white. Of several images, the first is taken.
      size: height and width of the result.
      crop: `none` squeezes the whole image into the square; `center` cuts the largest square from its middle.

    Returns:
      The image, 0..255, with EXIF rotation undone.

    Raises:
      PictureError: if the data are not an image, are truncated, or have too few or too many pixels.
      ValueError: if `crop` is unknown.

    Examples:
      >>> import io
      >>> from PIL import Image
      >>> from vae_jax.images.decoding import decode
      >>> file = io.BytesIO()
      >>> Image.new("RGB", (40, 30), "red").save(file, "PNG")
      >>> picture = decode(file.getvalue(), size=16, crop="center")
      >>> picture.shape, picture[0, 0].tolist()
      ((16, 16, 3), [255, 0, 0])
    """
    from PIL import Image, ImageOps

    if crop not in CROPS:
        raise ValueError(f"unknown crop '{crop}': expected one of {', '.join(CROPS)}")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Pillow's own warnings about large images and odd EXIF data
            picture = Image.open(io.BytesIO(data), formats=(*FORMATS, "HEIF") if reads_heic() else FORMATS)
            width, height = picture.size
            if width * height > MOST_PIXELS:
                raise PictureError(f"{width:,} x {height:,} pixels are more than {MOST_PIXELS:,}")
            if min(width, height) < SMALLEST_SIDE:
                raise PictureError(f"{width} x {height} pixels are too few")
            rgb = _to_rgb(ImageOps.exif_transpose(picture))
    except (PictureError, MemoryError):
        raise
    except Image.UnidentifiedImageError as error:
        if data[4:8] == b"ftyp" and data[8:12] in HEIC_BRANDS and not reads_heic():
            raise PictureError("reading HEIC needs pillow-heif: pip install pillow-heif") from error
        raise PictureError(f"not a {FORMAT_NAMES} picture") from error
    except Exception as error:  # Pillow raises OSError, SyntaxError, ValueError, struct.error and others for damage
        raise PictureError(f"damaged ({first_line(error)[:100]})") from error
    if crop == "center":
        side = min(rgb.size)
        left, top = (rgb.width - side) // 2, (rgb.height - side) // 2
        # Crop first: `resize` with a box lets pixels outside the box bleed into its edge.
        rgb = rgb.crop((left, top, left + side, top + side))
    return np.asarray(rgb.resize((size, size), Image.Resampling.BILINEAR, reducing_gap=3.0))


@cache
def reads_heic() -> bool:
    """Whether pillow-heif is there, which then reads HEIC files for Pillow."""
    try:
        from pillow_heif import register_heif_opener  # pyright: ignore[reportMissingImports]
    except ImportError:
        return False
    register_heif_opener()
    return True


def _to_rgb(picture: Image.Image) -> Image.Image:
    from PIL import Image

    if picture.mode in ("I", "F"):  # from TIFF alone; nothing tells which number is white
        raise PictureError("samples of 32 bits or with a sign; expected 8 or 16 bits")
    if picture.mode.startswith("I"):
        values = np.array(picture, np.float64)
        if "transparency" in picture.info:
            values[values == picture.info["transparency"]] = 65535
        return Image.fromarray(np.clip(values / 257, 0, 255).round().astype(np.uint8)).convert("RGB")
    if picture.has_transparency_data:
        picture = picture.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", picture.size, "white"), picture).convert("RGB")
    return picture.convert("RGB")
