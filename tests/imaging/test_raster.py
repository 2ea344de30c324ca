"""Reading PNG and JPEG."""

from __future__ import annotations

import io
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image, PngImagePlugin

from ldp_client.errors import ParameterError, QuarantinedError
from ldp_client.imaging.codestream import coded_frame
from ldp_client.imaging.png import pixels_only, png_bytes
from ldp_client.imaging.raster import read_raster

GREY = np.arange(40 * 50, dtype=np.uint32).reshape(40, 50).astype(np.uint8)


def saved(image: Image.Image, kind: str, **options: Any) -> bytes:
    written = io.BytesIO()
    image.save(written, format=kind, **options)
    return written.getvalue()


def chunk(kind: bytes, body: bytes) -> bytes:
    return len(body).to_bytes(4, "big") + kind + body + zlib.crc32(kind + body).to_bytes(4, "big")


def header(height: int, width: int) -> bytes:
    return chunk(b"IHDR", width.to_bytes(4, "big") + height.to_bytes(4, "big") + b"\x08\0\0\0\0")


def refusal(data: bytes) -> str:
    with pytest.raises(QuarantinedError) as caught:
        read_raster(data)
    assert caught.value.__context__ is None
    return str(caught.value)


@pytest.mark.parametrize("pixels", [GREY, GREY.astype(np.uint16) * 257])
def test_png_comes_back_pixel_for_pixel(pixels: NDArray[np.uint8 | np.uint16]) -> None:
    read = read_raster(png_bytes(pixels))
    assert np.array_equal(read.pixels, pixels)
    assert read.pixels.dtype == pixels.dtype
    assert (read.inverted, read.window, read.bits, read.patient) == (False, None, 8 * pixels.itemsize, None)


def test_a_grey_jpeg_is_read() -> None:
    assert read_raster(saved(Image.fromarray(GREY), "JPEG")).pixels.shape == (40, 50)


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "LA", "P"])
def test_colour_that_is_grey_in_truth_is_read(mode: str) -> None:
    assert np.array_equal(read_raster(saved(Image.fromarray(GREY).convert(mode), "PNG")).pixels, GREY)


def test_true_colour_is_no_radiograph() -> None:
    colour = np.stack([GREY, GREY, GREY // 2], axis=2)
    assert "set aside (not_radiograph): a picture in colour" in refusal(png_bytes(colour))


def test_a_transparent_part_is_no_radiograph() -> None:
    clear = np.dstack([GREY, GREY, GREY, np.full_like(GREY, 254)])
    assert "with transparent parts" in refusal(saved(Image.fromarray(clear), "PNG"))


def test_one_bit_and_cmyk_are_unreadable() -> None:
    assert "neither grey of 8 or 16 bits nor RGB" in refusal(saved(Image.fromarray(GREY > 99), "PNG"))
    assert "neither grey of 8 or 16 bits nor RGB" in refusal(saved(Image.fromarray(GREY).convert("CMYK"), "JPEG"))


def test_deep_colour_is_refused_rather_than_cut_to_eight_bits() -> None:
    data = bytearray(png_bytes(GREY))
    data[24:26] = b"\x10\x02"
    assert "a PNG of 16 bits with colour or transparency" in refusal(bytes(data))


@pytest.mark.parametrize("kind", ["JPEG", "PNG"])
def test_a_turned_image_is_refused(kind: str) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    assert "an image that EXIF turns or mirrors" in refusal(saved(Image.fromarray(GREY), kind, exif=exif))


@pytest.mark.parametrize("kind", ["JPEG", "PNG"])
def test_an_upright_image_with_exif_is_read(kind: str) -> None:
    exif = Image.Exif()
    exif[0x0112] = 1
    exif[0x010E] = "Mustermann"
    assert read_raster(saved(Image.fromarray(GREY), kind, exif=exif)).pixels.shape == (40, 50)


def test_text_in_a_png_never_reaches_the_decoder() -> None:
    info = PngImagePlugin.PngInfo()
    info.add_text("Patient", "Mustermann")
    info.add_itxt("Patient", "Mustermann", zip=True)
    data = saved(Image.fromarray(GREY), "PNG", pnginfo=info)
    assert b"Mustermann" in data
    assert b"Patient" not in pixels_only(data)
    assert np.array_equal(read_raster(data).pixels, GREY)


def test_a_png_written_here_holds_no_text_and_no_time() -> None:
    data = png_bytes(GREY)
    assert pixels_only(data) == data


def test_a_bomb_is_refused_by_its_header() -> None:
    bomb = b"\x89PNG\r\n\x1a\n" + header(60_000, 60_000) + chunk(b"IDAT", b"") + chunk(b"IEND", b"")
    assert "set aside (too_large): 60000 x 60000 pixels" in refusal(bomb)
    frame = saved(Image.fromarray(GREY), "JPEG")
    start = frame.index(b"\xff\xc0")
    large = frame[: start + 5] + b"\xea\x60\xea\x60" + frame[start + 9 :]
    assert "set aside (too_large): 60000 x 60000 pixels" in refusal(large)


def test_a_second_header_does_not_pass_the_check() -> None:
    data = png_bytes(GREY)
    end = 8 + 25
    assert "an image that states two sizes" in refusal(data[:end] + header(3000, 3000) + data[end:])


def test_the_frame_header_is_found_behind_fill_bytes_and_bare_markers() -> None:
    data = saved(Image.fromarray(GREY), "JPEG")
    assert coded_frame(data[:2] + b"\xff\xff\xff\xd0" + data[2:])[:2] == (40, 50)


def test_a_tiny_image_is_too_small() -> None:
    assert "set aside (too_small): 27 x 50 pixels" in refusal(png_bytes(GREY[:27]))


@pytest.mark.parametrize("kind", ["JPEG", "PNG"])
def test_an_image_cut_short_is_unreadable(kind: str) -> None:
    data = saved(Image.fromarray(GREY), kind)
    for length in (9, 30, len(data) // 2, len(data) - 30):
        assert refusal(data[:length]).startswith(("set aside (unreadable)", "set aside (too_small)"))


@pytest.mark.parametrize("kind", ["JPEG", "PNG"])
@given(changes=st.lists(st.tuples(st.integers(0, 5000), st.integers(0, 255)), min_size=1, max_size=4))
@settings(deadline=None)
def test_damaged_images_are_read_or_set_aside_and_never_break_the_run(
    kind: str, changes: list[tuple[int, int]]
) -> None:
    data = bytearray(saved(Image.fromarray(GREY), kind))
    for at, value in changes:
        data[at % len(data)] = value
    try:
        read = read_raster(bytes(data))
    except QuarantinedError:
        return
    assert read.pixels.ndim == 2
    assert read.pixels.dtype in (np.uint8, np.uint16)


def test_a_damaged_png_is_unreadable() -> None:
    data = bytearray(png_bytes(GREY))
    data[60] ^= 0xFF
    assert "the image decoder stopped" in refusal(bytes(data))


def test_a_png_without_its_end_is_unreadable() -> None:
    assert "a PNG that ends before its last chunk" in refusal(png_bytes(GREY)[:-12])


@pytest.mark.parametrize("shape", [(0, 4), (2, 2, 4), (5,)])
def test_what_is_no_picture_is_not_written(shape: tuple[int, ...], tmp_path: Path) -> None:
    with pytest.raises(ParameterError, match=r"asked for a PNG of shape .* give \(H, W\) uint8 or uint16"):
        png_bytes(np.zeros(shape, dtype=np.uint8))
