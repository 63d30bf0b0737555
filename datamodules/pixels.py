"""Decodes image files of any mode into RGB pixels, naming those that cannot be decoded.

    image = decode(path.read_bytes(), str(path))    # PIL, mode RGB

Grey, palette, CMYK and the like are converted; transparency is laid over white; 16-bit grey is scaled to 8 bits (PIL's
own conversion cuts it at 255 in some versions). Cameras of 12 bits write 16-bit files whose largest value is 4,095:
such an image would be black, so the first one is named in the log, and `white` says which value is white. Pixels stay
as stored: a camera's orientation tag is not applied, as in the usual ImageNet pipelines.
"""

import io
import logging

import numpy as np
from PIL import Image, ImageFile

from datamodules.errors import DataError
from datamodules.formats.guard import reading

log = logging.getLogger(__name__)

DEEP = 65535  # largest value of a 16-bit image
DARK = 0.25  # an image whose largest value is at most this share of white may have fewer bits than its file
_told: set[int] = set()  # values of white for which an image was named


def decode(data: bytes, name: str, white: int = DEEP) -> Image.Image:
    """The first frame of an image file as a PIL image of mode RGB. white: of grey images with more than 8 bits.

    Raises DataError, with `name` in it: not an image, truncated or damaged, or without a known range of values.
    """
    ImageFile.LOAD_TRUNCATED_IMAGES = False  # a library that sets it would turn damaged images into grey areas
    with reading(f"{name} cannot be decoded as an image ({len(data)} bytes)"):
        image = Image.open(io.BytesIO(data))
        if image.format == "PNG":
            Image.open(io.BytesIO(data)).verify()  # the checksums, which decoding does not compare
        image.load()
        return to_rgb(image, name, white)


def to_rgb(image: Image.Image, name: str, white: int = DEEP) -> Image.Image:
    """RGB from any mode of PIL. Raises DataError for modes whose range of values is unknown."""
    mode = image.mode
    if mode == "RGB" and "transparency" not in image.info:
        return image
    if mode.startswith("I"):  # I;16, I;16B, or I, which holds the 16-bit PNG in some versions of PIL
        values = np.asarray(image).astype(np.int64)
        low, high = (int(values.min()), int(values.max())) if values.size else (0, 0)
        if low < 0 or high > DEEP:
            raise DataError(f"{name} holds values from {low} to {high}; 16-bit images hold 0 to {DEEP}.")
        if high > white:
            raise DataError(f"{name} holds values up to {high}, and {white} is said to be white (data.white).")
        _name_dark(name, high, white)
        return Image.fromarray(np.rint(values / (white / 255)).astype(np.uint8)).convert("RGB")
    if mode == "F":
        raise DataError(f"{name} is a floating-point image: nothing says which value is white.")
    if "transparency" in image.info or mode in ("RGBA", "LA", "PA", "RGBa", "La"):
        image = image.convert("RGBA")
        white = Image.new("RGBA", image.size, (255, 255, 255, 255))
        image = Image.alpha_composite(white, image)
    return image.convert("RGB")


def _name_dark(name: str, high: int, white: int) -> None:
    """Warns of the first image that seems to have fewer bits than its file."""
    if 0 < high <= DARK * white and white not in _told:
        _told.add(white)
        bits = next(bits for bits in (8, 10, 12, 14, 16) if high < 2**bits)
        log.warning(
            "%s: its largest value is %d where %d is white, so it becomes dark or black. If its values have %d bits: "
            "data.white=%d. Others are not named",
            name, high, white, bits, 2**bits - 1,
        )  # fmt: skip
