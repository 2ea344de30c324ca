"""Reads a radiograph from PNG or JPEG: grey of 8 or 16 bits, or colour that is grey in truth."""

from __future__ import annotations

import io

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ldp_client.errors import QuarantinedError
from ldp_client.imaging.codestream import coded_frame
from ldp_client.imaging.discretion import discreet
from ldp_client.imaging.limits import check_size
from ldp_client.imaging.png import SIGNATURE, pixels_only
from ldp_client.imaging.quarantine import Reason, set_aside
from ldp_client.imaging.xray import Radiograph

_JPEG = b"\xff\xd8\xff"
_DEEP_COLOUR = {2, 4, 6}  # PNG colour types that the decoder would cut from 16 to 8 bits


def is_raster(data: bytes) -> bool:
    """Whether these bytes carry the signature of PNG or JPEG."""
    return data.startswith((SIGNATURE, _JPEG))


def read_raster(data: bytes) -> Radiograph:
    """Read one radiograph. It names no patient, has no window, and large values are bright.

    Args:
        data: the whole file, no longer than `limits.MAX_FILE_BYTES`.

    Raises:
        QuarantinedError: the file is set aside; the text never quotes it.
    """
    fault = None
    with discreet():
        try:
            pixels = _read_png(data) if data.startswith(SIGNATURE) else _read_jpeg(data)
        except QuarantinedError:
            raise
        except Exception as error:  # a hostile or broken file can make the decoder raise anything at all
            fault = type(error).__name__
    if fault is not None:  # outside the handler: the decoder's text is not chained to ours
        raise set_aside(Reason.UNREADABLE, f"the image decoder stopped ({fault})")
    return Radiograph(pixels=pixels, inverted=False, window=None, bits=8 * pixels.dtype.itemsize, patient=None)


def _read_png(data: bytes) -> NDArray[np.uint8 | np.uint16]:
    width, height = int.from_bytes(data[16:20], "big"), int.from_bytes(data[20:24], "big")
    check_size(height, width)
    if data[24] == 16 and data[25] in _DEEP_COLOUR:
        raise set_aside(Reason.UNREADABLE, "a PNG of 16 bits with colour or transparency")
    with Image.open(io.BytesIO(pixels_only(data)), formats=("PNG",)) as image:
        return _grey(image, (width, height))


def _read_jpeg(data: bytes) -> NDArray[np.uint8 | np.uint16]:
    height, width, _ = coded_frame(data)
    check_size(height, width)
    with Image.open(io.BytesIO(data), formats=("JPEG",)) as image:
        if image.getexif().get(0x0112, 1) != 1:
            # Refused, not turned: a wrong entry would silently lay the patient on the side.
            raise set_aside(Reason.UNREADABLE, "an image that EXIF turns or mirrors")
        return _grey(image, (width, height))


def _grey(image: Image.Image, size: tuple[int, int]) -> NDArray[np.uint8 | np.uint16]:
    if image.size != size:
        # A second header in the file would be decoded at its own size, past the check above.
        raise set_aside(Reason.UNREADABLE, "an image that states two sizes")
    if image.mode == "L":
        return np.asarray(image, dtype=np.uint8)
    if image.mode.startswith("I;16"):
        return np.asarray(image).astype(np.uint16)
    if image.mode not in ("RGB", "RGBA", "LA", "P"):
        raise set_aside(Reason.UNREADABLE, "neither grey of 8 or 16 bits nor RGB")
    channels = np.asarray(image.convert("RGBA"))
    first = channels[:, :, 0]
    if any(not np.array_equal(first, channels[:, :, other]) for other in (1, 2)) or channels[:, :, 3].min() < 255:
        raise set_aside(Reason.NOT_RADIOGRAPH, "a picture in colour or with transparent parts")
    return np.ascontiguousarray(first)
