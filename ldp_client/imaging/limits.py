"""What a file may at most ask of this machine, checked before anything is decoded."""

from __future__ import annotations

from ldp_client.imaging.quarantine import Reason, set_aside

MAX_FILE_BYTES = 128 << 20  # a 16-bit film of 43 x 43 cm at 0.1 mm has 37 MB
MAX_PIXELS = 50_000_000
MAX_SIDE = 20_000
MIN_SIDE = 28  # PneumoniaMNIST's size, the smallest an encoder here takes


def check_size(height: int, width: int) -> None:
    """Refuse an image that is too small to be a radiograph or too large to decode.

    Raises:
        QuarantinedError: too_small or too_large.
    """
    if min(height, width) < MIN_SIDE:
        raise set_aside(Reason.TOO_SMALL, f"{height} x {width} pixels, where each side needs at least {MIN_SIDE}")
    if max(height, width) > MAX_SIDE or height * width > MAX_PIXELS:
        raise set_aside(
            Reason.TOO_LARGE, f"{height} x {width} pixels, where a side has at most {MAX_SIDE} and all {MAX_PIXELS}"
        )
