"""The size and the number of colours that a compressed frame says it has, read before a decoder believes it.

A DICOM header can say 1024 x 1024 around a codestream of 60,000 x 60,000; the decoder allocates what the codestream
says. References: ITU-T T.81 B.2.2 (frame header), ITU-T T.87 (SOF55), ITU-T T.800 A.5.1 (SIZ).
"""

from __future__ import annotations

from ldp_client.imaging.quarantine import Reason, set_aside

# Start-of-frame markers: all of C0..CF but DHT, JPG and DAC; F7 is JPEG-LS.
_FRAME_STARTS = (set(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}) | {0xF7}
_NO_LENGTH = {0x01, *range(0xD0, 0xD9)}


def coded_frame(frame: bytes) -> tuple[int, int, int]:
    """Return (height, width, components) of a JPEG, JPEG-LS or JPEG 2000 codestream.

    Raises:
        QuarantinedError: unreadable; no such codestream, or no frame header in it.
    """
    if frame[:4] == b"\xff\x4f\xff\x51" and len(frame) >= 42:
        right, bottom, left, top = (int.from_bytes(frame[at : at + 4], "big") for at in (8, 12, 16, 20))
        return bottom - top, right - left, int.from_bytes(frame[40:42], "big")
    if frame[:2] == b"\xff\xd8":
        at = 2
        while at + 10 <= len(frame) and frame[at] == 0xFF:
            marker = frame[at + 1]
            if marker in _FRAME_STARTS:
                height, width = frame[at + 5 : at + 7], frame[at + 7 : at + 9]
                return int.from_bytes(height, "big"), int.from_bytes(width, "big"), frame[at + 9]
            if marker == 0xFF:
                at += 1
            elif marker in _NO_LENGTH:
                at += 2
            else:
                at += 2 + int.from_bytes(frame[at + 2 : at + 4], "big")
    raise set_aside(Reason.UNREADABLE, "compressed pixels without a readable frame header")
