"""From one file to one radiograph: opened without following links, capped, told apart by its signature."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import Literal

from ldp_client.imaging.dicom import is_dicom, read_dicom
from ldp_client.imaging.limits import MAX_FILE_BYTES
from ldp_client.imaging.quarantine import Reason, set_aside
from ldp_client.imaging.raster import is_raster, read_raster
from ldp_client.imaging.xray import Radiograph, XRay, image_unit_key, xray_key

Unit = Literal["patient", "image"]


def read_radiograph(path: Path, secret: bytes) -> Radiograph:
    """Read a DICOM, PNG or JPEG file; the signature decides, not the name.

    Raises:
        QuarantinedError: the file is set aside; the text quotes neither its name nor its contents.
    """
    data = _read_bytes(path)
    if is_dicom(data):
        return read_dicom(data, secret)
    if is_raster(data):
        return read_raster(data)
    raise set_aside(Reason.UNREADABLE, "neither DICOM (with its preamble) nor PNG nor JPEG")


def read_xray(path: Path, *, label: str, unit: Unit, secret: bytes) -> XRay:
    """Read one X-ray by itself, as `DataSet.read` reads one of many.

    Args:
        path: a DICOM, PNG or JPEG file.
        label: the label's name.
        unit: with "patient", the patient is the one the file names, or None; with "image", the X-ray itself.
        secret: the site's patient secret.

    Raises:
        QuarantinedError: the file is set aside.
    """
    radiograph = read_radiograph(path, secret)
    identity = xray_key(secret, radiograph.pixels)
    return XRay(
        pixels=radiograph.pixels,
        inverted=radiograph.inverted,
        window=radiograph.window,
        bits=radiograph.bits,
        patient=radiograph.patient if unit == "patient" else image_unit_key(secret, identity),
        identity=identity,
        label=label,
    )


def _read_bytes(path: Path) -> bytes:
    size = 0
    data = None
    try:
        # O_NOFOLLOW: a link could point at a key. O_NONBLOCK: opening a pipe must not wait for a writer.
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        with os.fdopen(descriptor, "rb") as file:
            status = os.fstat(descriptor)
            size = status.st_size
            if stat.S_ISREG(status.st_mode) and size <= MAX_FILE_BYTES:
                data = file.read(MAX_FILE_BYTES + 1)
    except OSError:
        pass
    if size > MAX_FILE_BYTES or (data is not None and len(data) > MAX_FILE_BYTES):
        raise set_aside(Reason.TOO_LARGE, f"a file of more than {MAX_FILE_BYTES >> 20} MiB")
    if data is None:
        # Outside the handler: the system's error quotes the name, which may be a patient's.
        raise set_aside(Reason.UNREADABLE, "no regular file that this user may read")
    return data
