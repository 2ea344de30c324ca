"""From stored pixels to the flow's input: exact, the same everywhere."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from ldp_client.errors import ParameterError
from ldp_client.flow.preprocess import prepare

DEFAULTS: dict[str, Any] = {"inverted": False, "window": None, "bits": 8, "content": 4, "size": 4}


def grey(pixels: NDArray[Any], **options: Any) -> NDArray[np.int64]:
    """The 8-bit values behind `prepare`'s tensor, (size, size)."""
    tensor = prepare(pixels, **{**DEFAULTS, **options})
    values = tensor.double().numpy()[0] * 256 - 0.5
    assert (values == np.rint(values)).all()
    whole: NDArray[np.int64] = np.rint(values).astype(np.int64)
    return whole


def random_pixels(*shape: int, high: int = 256, dtype: type = np.uint8) -> NDArray[Any]:
    return np.random.default_rng(0).integers(0, high, shape).astype(dtype)


def test_a_28_px_image_comes_through_pixel_exact_inside_black_padding() -> None:
    pixels = random_pixels(28, 28)
    out = grey(pixels, content=28, size=32)
    assert (out[2:30, 2:30] == pixels).all()
    assert out.sum() == pixels.sum()


def test_all_256_values_survive() -> None:
    pixels = np.arange(256, dtype=np.uint8).reshape(16, 16)
    assert (grey(pixels, content=16, size=16) == pixels).all()


def test_the_tensor_is_float32_strictly_inside_zero_and_one() -> None:
    tensor = prepare(np.array([[0, 255], [255, 0]], np.uint8), **{**DEFAULTS, "content": 2, "size": 2})
    assert tensor.shape == (1, 2, 2)
    assert str(tensor.dtype) == "torch.float32"
    assert 0 < tensor.min() < tensor.max() < 1


def test_inverted_pixels_come_out_as_the_negative() -> None:
    pixels = random_pixels(4, 4)
    assert (grey(pixels, inverted=True) == 255 - pixels.astype(int)).all()


def test_twelve_bits_span_the_full_range_and_larger_values_saturate() -> None:
    pixels = np.array([[0, 4095], [2048, 65535]], np.uint16)
    assert grey(pixels, bits=12, content=2, size=2).tolist() == [[0, 255], [128, 255]]


def test_a_window_follows_the_dicom_formula_and_then_inverts() -> None:
    pixels = np.array([[0, 1000], [1500, 2000]], np.uint16)
    # PS3.3 C.11.2.1.2.1: ((x - (c - 0.5)) / (w - 1) + 0.5) * 255 with c = 1500, w = 1000
    expected = [[0, 0], [round(((1500 - 1499.5) / 999 + 0.5) * 255), 255]]
    assert grey(pixels, bits=12, window=(1500, 1000), content=2, size=2).tolist() == expected
    negative = (255 - np.array(expected)).tolist()
    assert grey(pixels, bits=12, window=(1500, 1000), content=2, size=2, inverted=True).tolist() == negative


def test_the_middle_square_is_kept() -> None:
    wide = np.hstack([np.full((4, 3), 9, np.uint8), random_pixels(4, 4), np.full((4, 3), 9, np.uint8)])
    assert (grey(wide) == wide[:, 3:7]).all()
    assert (grey(wide.T.copy()) == wide.T[3:7]).all()


def test_resizing_averages_areas() -> None:
    pixels = random_pixels(12, 12)
    means = pixels.reshape(4, 3, 4, 3).mean((1, 3))
    assert (grey(pixels) == np.floor(means + 0.5)).all()


@given(st.integers(1, 40), st.integers(0, 255), st.integers(1, 9))
def test_a_flat_image_of_any_size_stays_flat(side: int, value: int, content: int) -> None:
    assert (grey(np.full((side, side), value, np.uint8), content=content, size=content) == value).all()


@given(st.integers(1, 30), st.integers(1, 30), st.integers(1, 12))
def test_resizing_commutes_with_mirroring(height: int, width: int, content: int) -> None:
    side = min(height, width)
    pixels = random_pixels(side, side)
    mirrored = grey(pixels[:, ::-1], content=content, size=content)
    assert (mirrored == grey(pixels, content=content, size=content)[:, ::-1]).all()


def test_the_largest_detector_is_averaged_without_a_rounding_error() -> None:
    pixels = np.full((3000, 3000), 65535, np.uint16)
    pixels[0, 0] = 0
    assert grey(pixels, bits=16, content=28, size=32)[2:30, 2:30].min() == 255


@pytest.mark.parametrize(
    "pixels",
    [
        np.zeros((2, 2, 3), np.uint8),
        np.zeros((2, 2), np.float32),
        np.zeros((0, 4), np.uint8),
        np.zeros((2, 2), np.int16),
    ],
)
def test_what_is_not_one_greyscale_image_is_refused(pixels: NDArray[Any]) -> None:
    with pytest.raises(ParameterError, match=r"asked to prepare pixels of shape .* give one greyscale image"):
        prepare(pixels, **DEFAULTS)


@pytest.mark.parametrize(("content", "size"), [(0, 4), (5, 4)])
def test_content_that_does_not_fit_is_refused(content: int, size: int) -> None:
    with pytest.raises(ParameterError, match=rf"asked for {content} px inside {size} px"):
        prepare(random_pixels(4, 4), **{**DEFAULTS, "content": content, "size": size})


@pytest.mark.parametrize("bits", [0, 9])
def test_impossible_bits_are_refused(bits: int) -> None:
    with pytest.raises(ParameterError, match=rf"asked for {bits} bits stored in uint8 pixels; give 1 to 8"):
        prepare(random_pixels(4, 4), **{**DEFAULTS, "bits": bits})


@pytest.mark.parametrize(
    "window", [(float("nan"), 10.0), (10.0, 1.0), (10.0, float("inf")), (1e20, 2.0), (-1.7e308, 1.7e308)]
)
def test_an_unusable_window_is_refused(window: tuple[float, float]) -> None:
    with pytest.raises(ParameterError, match=r"a window that is not finite or spans nothing; leave it out"):
        prepare(random_pixels(4, 4), **{**DEFAULTS, "window": window})
