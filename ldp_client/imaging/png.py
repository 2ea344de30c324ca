"""PNG as bytes: written without any text, and cut down to its pixels before it is read.

Reference: PNG (Third Edition), W3C 2025, section 5 (chunks) and 11.2 (the critical ones).
"""

from __future__ import annotations

import io

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ldp_client.errors import ParameterError
from ldp_client.imaging.quarantine import Reason, set_aside

SIGNATURE = b"\x89PNG\r\n\x1a\n"
_PIXELS = {b"IHDR", b"PLTE", b"IDAT", b"IEND"}


def png_bytes(pixels: NDArray[np.uint8 | np.uint16]) -> bytes:
    """Return a PNG of grey (H, W) uint8 or uint16, or colour (H, W, 3) uint8; lossless, no text, no time.

    Raises:
        ParameterError: another shape or type, or nothing to write.
    """
    grey = pixels.ndim == 2 and pixels.dtype in (np.uint8, np.uint16)
    colour = pixels.ndim == 3 and pixels.shape[2] == 3 and pixels.dtype == np.uint8
    if pixels.size == 0 or not (grey or colour):
        raise ParameterError(
            f"asked for a PNG of shape {pixels.shape} and type {pixels.dtype}; "
            "give (H, W) uint8 or uint16, or (H, W, 3) uint8"
        )
    written = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(pixels)).save(written, format="PNG")
    return written.getvalue()


def pixels_only(data: bytes) -> bytes:
    """Return the PNG without its ancillary chunks: no text, profile, date or transparency reaches the decoder.

    That also disarms compressed text (zTXt, iTXt, iCCP), which a decoder would inflate on opening.

    Raises:
        QuarantinedError: unreadable; a chunk runs past the end, or the last one is missing; or the file turns its
            pixels by an eXIf chunk.
    """
    kept = [SIGNATURE]
    at, kind = len(SIGNATURE), b""
    while kind != b"IEND":
        kind = data[at + 4 : at + 8]
        end = at + 12 + int.from_bytes(data[at : at + 4], "big")
        if end > len(data) or len(kind) < 4:
            raise set_aside(Reason.UNREADABLE, "a PNG that ends before its last chunk")
        if kind in _PIXELS:
            kept.append(data[at:end])
        elif kind == b"eXIf" and orientation(data[at + 8 : end - 4]) != 1:
            raise set_aside(Reason.UNREADABLE, "an image that EXIF turns or mirrors")
        at = end
    return b"".join(kept)


def orientation(exif: bytes) -> int:
    """The orientation in a block of EXIF, 1 (upright) when it says none."""
    tags = Image.Exif()
    tags.load(exif)
    return int(tags.get(0x0112, 1))
