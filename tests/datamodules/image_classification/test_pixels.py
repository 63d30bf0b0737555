"""Images of every kind of pixel become RGB."""

import io

import numpy as np
import pytest
from PIL import Image

from datamodules.errors import DataError
from datamodules.pixels import decode
from tests.datamodules.image_classification.small import encoded, names_of, open_images

RAMP = np.arange(256, dtype=np.uint8).reshape(16, 16)


def rgb(image: Image.Image, form: str, **options) -> np.ndarray:
    decoded = decode(encoded(image, form, **options), "image")
    assert decoded.mode == "RGB"
    return np.asarray(decoded)


@pytest.mark.parametrize("form", ["PNG", "TIFF"])
def test_sixteen_bit_grey_is_scaled_not_cut(form):
    deep = np.linspace(0, 65535, 256).round().astype(np.uint16).reshape(16, 16)
    expected = np.array([[round(int(value) * 255 / 65535) for value in row] for row in deep])
    found = rgb(Image.fromarray(deep), form)
    assert (found == expected[..., None]).all() and len(np.unique(found)) == 256


def test_sixteen_bit_grey_as_older_pil_opens_it():
    """Mode I: whole numbers of 32 bits, of which a 16-bit PNG uses 0..65535."""
    from datamodules.pixels import to_rgb

    found = np.asarray(to_rgb(Image.fromarray(np.array([[0, 257, 65535]], dtype=np.int32)), "old"))
    assert found[0].tolist() == [[0, 0, 0], [1, 1, 1], [255, 255, 255]]
    for values, message in (([[0, 70000]], "from 0 to 70000"), ([[-1, 5]], "from -1 to 5")):
        with pytest.raises(DataError, match=rf"wide holds values {message}"):
            to_rgb(Image.fromarray(np.array(values, dtype=np.int32)), "wide")


def test_grey_becomes_three_equal_channels():
    assert (rgb(Image.fromarray(RAMP), "PNG") == RAMP[..., None]).all()
    assert (rgb(Image.fromarray(RAMP > 99), "PNG") == ((RAMP > 99) * 255)[..., None]).all()


def test_a_palette_gives_its_colours():
    image = Image.fromarray(RAMP % 3).convert("P")
    image.putpalette([255, 0, 0, 0, 255, 0, 1, 2, 3])
    colours = np.array([[255, 0, 0], [0, 255, 0], [1, 2, 3]])
    assert (rgb(image, "PNG") == colours[RAMP % 3]).all()
    assert (rgb(image, "GIF") == colours[RAMP % 3]).all()


def test_cmyk_is_ink_on_white():
    """R = 255 (1 - C)(1 - K), within JPEG's loss."""
    inks = {(0, 0, 0, 0): (255, 255, 255), (255, 0, 0, 0): (0, 255, 255), (0, 0, 255, 0): (255, 255, 0),
            (0, 0, 0, 255): (0, 0, 0), (0, 255, 0, 128): (127, 0, 127)}  # fmt: skip
    for ink, colour in inks.items():
        found = rgb(Image.new("CMYK", (16, 16), ink), "JPEG", quality=95).astype(int)
        assert np.abs(found - colour).max() <= 4, ink


def test_transparency_is_laid_over_white():
    pixels = np.zeros((1, 3, 4), np.uint8)
    pixels[0, :, 0], pixels[0, :, 3] = 200, (255, 0, 51)
    white = rgb(Image.fromarray(pixels), "PNG")[0].tolist()
    assert white[0] == [200, 0, 0] and white[1] == [255, 255, 255]
    assert np.abs(np.array(white[2]) - [0.2 * 200 + 0.8 * 255, 0.8 * 255, 0.8 * 255]).max() <= 1
    grey = np.array([[[10, 255], [10, 0]]], np.uint8)
    assert rgb(Image.fromarray(grey, "LA"), "PNG")[0].tolist() == [[10, 10, 10], [255, 255, 255]]


def test_a_transparent_palette_entry_is_white():
    image = Image.fromarray(RAMP % 2).convert("P")
    image.putpalette([10, 20, 30, 40, 50, 60])
    found = rgb(image, "PNG", transparency=1)
    assert (found == np.where((RAMP % 2)[..., None], 255, [10, 20, 30])).all()


def test_a_sixteen_bit_image_through_the_whole_datamodule(folder):
    deep = np.full((16, 16), 32768, np.uint16)
    file = io.BytesIO()
    Image.fromarray(deep).save(file, "PNG")
    (folder / "val/n01/zz.png").write_bytes(file.getvalue())
    data = open_images(folder, mean=[0.0] * 3, std=[1.0] * 3)
    index = names_of(data, "test").index("n01/zz.png")
    assert data.pictures["test"][index]["image"].unique().tolist() == pytest.approx([128 / 255])


def test_floating_point_pixels_are_refused():
    with pytest.raises(DataError, match="image is a floating-point image"):
        decode(encoded(Image.fromarray(np.zeros((4, 4), np.float32)), "TIFF"), "image")


def tiff(values: np.ndarray) -> bytes:
    return encoded(Image.fromarray(values.astype(np.int32)), "TIFF")


@pytest.mark.parametrize("high, bits", [(255, 8), (4095, 12), (16383, 14)])
def test_images_that_use_fewer_bits_than_their_file_are_named_once(monkeypatch, caplog, high, bits):
    monkeypatch.setattr("datamodules.pixels._told", set())
    values = np.linspace(0, high, 256).round().reshape(16, 16)
    for name in ("first.tif", "second.tif"):
        decode(tiff(values), name)
    assert f"first.tif: its largest value is {high} where 65535 is white" in caplog.text
    assert f"have {bits} bits: data.white={high}" in caplog.text and "second.tif" not in caplog.text
    caplog.clear()
    found = np.asarray(decode(tiff(values), "told.tif", white=high))
    assert found[..., 0].ravel().tolist() == [round(v * 255 / high) for v in values.ravel()] and not caplog.records


def test_a_value_beyond_white_is_refused_and_bright_images_are_not_named(monkeypatch, caplog):
    monkeypatch.setattr("datamodules.pixels._told", set())
    decode(tiff(np.full((4, 4), 40000)), "bright.tif")
    decode(tiff(np.zeros((4, 4))), "black.tif")
    assert not caplog.records
    with pytest.raises(DataError, match=r"values up to 5000, and 4095 is said to be white \(data\.white\)"):
        decode(tiff(np.full((4, 4), 5000)), "over.tif", white=4095)


def test_white_reaches_the_images_of_the_data_module(folder):
    file = io.BytesIO()
    Image.fromarray(np.full((16, 16), 2048, np.uint16)).save(file, "PNG")
    (folder / "val/n01/zz.png").write_bytes(file.getvalue())
    data = open_images(folder, mean=[0.0] * 3, std=[1.0] * 3, white=4095, corrupt="skip")
    index = names_of(data, "test").index("n01/zz.png")
    assert data.pictures["test"][index]["image"].unique().tolist() == pytest.approx([128 / 255])
