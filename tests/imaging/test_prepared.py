"""What imaging lets through, the flow takes: no file that passed the scan stops a release in its middle."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable

import numpy as np
import pydicom
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from ldp_client.errors import QuarantinedError
from ldp_client.flow.preprocess import prepare
from ldp_client.imaging.dicom import read_dicom
from ldp_client.imaging.png import png_bytes
from ldp_client.imaging.raster import read_raster
from ldp_client.imaging.xray import Radiograph

MakeDicom = Callable[..., bytes]

# Decimal strings as a scanner, or a hostile file, may write them.
NUMBERS = st.one_of(
    st.sampled_from(["0", "1", "2", "-1", "1e30", "-1e30", "1e300", "1.7e308", "1e-300", "5e-324", "1e999", "nan"]),
    st.floats(allow_nan=False, allow_infinity=False).map(repr),
    st.integers(-70_000, 70_000).map(str),
)


def is_taken(radiograph: Radiograph) -> bool:
    """`prepare` raises nothing and every value is inside (0, 1)."""
    tensor = prepare(
        radiograph.pixels,
        inverted=radiograph.inverted,
        window=radiograph.window,
        bits=radiograph.bits,
        content=28,
        size=32,
    )
    return tensor.shape == (1, 32, 32) and bool(((tensor > 0) & (tensor < 1)).all())


@pytest.mark.parametrize(
    ("centre", "width"), [("1e30", "2"), ("-1e30", "2"), ("1e308", "1.7e308"), ("1e17", "2"), ("5e16", "3")]
)
def test_a_window_too_far_off_to_span_anything_is_left_out(
    make_dicom: MakeDicom, secret: bytes, centre: str, width: str
) -> None:
    read = read_dicom(make_dicom(WindowCenter=centre, WindowWidth=width), secret)
    assert read.window is None
    assert is_taken(read)


@given(
    centre=NUMBERS,
    width=NUMBERS,
    slope=NUMBERS,
    intercept=NUMBERS,
    bits=st.sampled_from([(np.uint8, 8), (np.uint8, 1), (np.uint16, 12), (np.int16, 12), (np.int16, 16)]),
    photometric=st.sampled_from(["MONOCHROME1", "MONOCHROME2"]),
)
@example("1e30", "2", "1", "0", (np.uint8, 8), "MONOCHROME2")
@example("0.5", "1.0000000000000002", "1", "0", (np.uint16, 16), "MONOCHROME1")
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=200)
def test_every_dicom_that_is_read_is_prepared(
    make_dicom: MakeDicom,
    secret: bytes,
    centre: str,
    width: str,
    slope: str,
    intercept: str,
    bits: tuple[type, int],
    photometric: str,
) -> None:
    dtype, stored = bits
    image: NDArray[np.integer] = np.linspace(0, 2**stored - 1, 30 * 40).reshape(30, 40).astype(np.int64).astype(dtype)
    with pydicom.config.disable_value_validation(), contextlib.suppress(QuarantinedError):
        data = make_dicom(
            image,
            WindowCenter=centre,
            WindowWidth=width,
            RescaleSlope=slope,
            RescaleIntercept=intercept,
            BitsStored=stored,
            HighBit=stored - 1,
            PhotometricInterpretation=photometric,
        )
        read = read_dicom(data, secret)
        assert read.window is None or all(math.isfinite(number) for number in read.window)
        assert is_taken(read)


@given(changes=st.lists(st.tuples(st.integers(128, 2600), st.integers(0, 255)), max_size=4))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
def test_every_damaged_dicom_that_is_still_read_is_prepared(
    make_dicom: MakeDicom, secret: bytes, changes: list[tuple[int, int]]
) -> None:
    data = bytearray(make_dicom(WindowCenter="100", WindowWidth="40"))
    for at, value in changes:
        data[at % len(data)] = value
    with contextlib.suppress(QuarantinedError):
        assert is_taken(read_dicom(bytes(data), secret))


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@given(height=st.integers(28, 60), width=st.integers(28, 60))
@settings(deadline=None, max_examples=20)
def test_every_png_that_is_read_is_prepared(height: int, width: int, dtype: type) -> None:
    ramp: NDArray[np.uint8 | np.uint16] = np.arange(height * width).reshape(height, width).astype(dtype)
    assert is_taken(read_raster(png_bytes(ramp)))
