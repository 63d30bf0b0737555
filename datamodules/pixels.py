"""Decodes image files of any mode into RGB pixels, naming those that cannot be decoded.

    image = decode(path.read_bytes(), str(path))    # PIL, mode RGB

Grey, palette, CMYK and the like are converted; transparency is laid over white; 16-bit grey is scaled to 8 bits (PIL's
own conversion cuts it at 255 in some versions). Pixels stay as stored: a camera's orientation tag is not applied, as in
the usual ImageNet pipelines.
"""

import io

import numpy as np
from PIL import Image, ImageFile

from datamodules.errors import DataError
from datamodules.formats.guard import reading

DEEP = 65535  # largest value of a 16-bit image


def decode(data: bytes, name: str) -> Image.Image:
    """The first frame of an image file as a PIL image of mode RGB.

    Raises DataError, with `name` in it: not an image, truncated or damaged, or without a known range of values.
    """
    ImageFile.LOAD_TRUNCATED_IMAGES = False  # a library that sets it would turn damaged images into grey areas
    with reading(f"{name} cannot be decoded as an image ({len(data)} bytes)"):
        image = Image.open(io.BytesIO(data))
        if image.format == "PNG":
            Image.open(io.BytesIO(data)).verify()  # the checksums, which decoding does not compare
        image.load()
        return to_rgb(image, name)


def to_rgb(image: Image.Image, name: str) -> Image.Image:
    """RGB from any mode of PIL. Raises DataError for modes whose range of values is unknown."""
    mode = image.mode
    if mode == "RGB" and "transparency" not in image.info:
        return image
    if mode.startswith("I"):  # I;16, I;16B, or I, which holds the 16-bit PNG in some versions of PIL
        values = np.asarray(image).astype(np.int64)
        low, high = (int(values.min()), int(values.max())) if values.size else (0, 0)
        if low < 0 or high > DEEP:
            raise DataError(f"{name} holds values from {low} to {high}; 16-bit images hold 0 to {DEEP}.")
        return Image.fromarray(np.rint(values / (DEEP / 255)).astype(np.uint8)).convert("RGB")
    if mode == "F":
        raise DataError(f"{name} is a floating-point image: nothing says which value is white.")
    if "transparency" in image.info or mode in ("RGBA", "LA", "PA", "RGBa", "La"):
        image = image.convert("RGBA")
        white = Image.new("RGBA", image.size, (255, 255, 255, 255))
        image = Image.alpha_composite(white, image)
    return image.convert("RGB")
