"""One chest X-ray inside the site, and the two keyed hashes by which it and its patient are known there.

Neither key leaves the site: a patient key would link a patient's records, and a ledger entry carries a fresh salted
commitment to it instead.
"""

from __future__ import annotations

import hashlib
import hmac
import re
import unicodedata
from dataclasses import dataclass, field
from typing import NewType

import numpy as np
from numpy.typing import NDArray

from ldp_client.errors import ParameterError

PatientKey = NewType("PatientKey", bytes)
XRayKey = NewType("XRayKey", bytes)

MIN_SECRET_BYTES = 32
_PATIENT = b"ldp-glow/patient-key/v1"
_XRAY = b"ldp-glow/xray-key/v1"
_IMAGE_UNIT = b"ldp-glow/image-unit/v1"


@dataclass(frozen=True)
class Radiograph:
    """What one file holds: pixels as stored, and how to read them.

    Attributes:
        pixels: (H, W) uint8 or uint16, as stored (signed values shifted up to start at 0).
        inverted: True for MONOCHROME1, where large values are dark.
        window: DICOM window centre and width in the units of `pixels`, or None.
        bits: bits stored, 1 to 16.
        patient: key of the patient named in the file itself, or None (PNG and JPEG name nobody).
    """

    # Nothing of a file may come into a log by way of a repr.
    pixels: NDArray[np.uint8 | np.uint16] = field(repr=False)
    inverted: bool
    window: tuple[float, float] | None
    bits: int
    patient: PatientKey | None = field(repr=False)


@dataclass(frozen=True)
class XRay:
    """One labelled X-ray as the release takes it.

    Attributes:
        pixels, inverted, window, bits: as in `Radiograph`.
        patient: key of the privacy unit: the patient, or this very image when the unit is `image`; None when the
            X-ray was read alone and its file names no patient.
        identity: key of the pixels; equal pixels have equal keys, whatever file they are in.
        label: the label's name.
    """

    pixels: NDArray[np.uint8 | np.uint16] = field(repr=False)
    inverted: bool
    window: tuple[float, float] | None
    bits: int
    patient: PatientKey | None = field(repr=False)
    identity: XRayKey = field(repr=False)
    label: str = field(repr=False)


def normal_id(text: str) -> str:
    """Return the one spelling under which an id is known: NFKC, without NUL and control padding, stripped.

    Two spellings of one id would give one patient two budgets; two ids that fall together only share one, which
    overstates what is spent. So the rule leans towards falling together.
    """
    folded = unicodedata.normalize("NFKC", text)
    # Control characters (DICOM pads with NUL) count as space; runs of space as one: exports differ in both.
    return re.sub(r"[\s\x00-\x1f\x7f-\x9f]+", " ", folded).strip()


def patient_key(secret: bytes, issuer: str, patient_id: str) -> PatientKey:
    """Pseudonym of a patient: HMAC-SHA256 under the site's secret over issuer and id, both in their normal spelling.

    Args:
        secret: the site's patient secret, at least 32 bytes. It never rotates: a new one would open a new budget.
        issuer: who gave the id (IssuerOfPatientID), or "".
        patient_id: the id.

    Returns:
        32 bytes.

    Raises:
        ParameterError: a short secret, or an id of nothing but space.
    """
    number = normal_id(patient_id)
    if not number:
        raise ParameterError("asked for the key of an empty patient id; give the id, or set the X-ray aside")
    # NUL cannot occur in a normal spelling, so ("A", "B C") and ("A B", "C") stay apart.
    parts = (normal_id(issuer), number)
    return PatientKey(_keyed(secret, _PATIENT, *(part.encode("utf-8", "surrogatepass") for part in parts)))


def xray_key(secret: bytes, pixels: NDArray[np.uint8 | np.uint16]) -> XRayKey:
    """Identity of an X-ray: HMAC-SHA256 under the site's secret over shape, type and pixels (little endian, C order).

    Args:
        secret: the site's patient secret, at least 32 bytes.
        pixels: (H, W) uint8 or uint16.

    Returns:
        32 bytes.

    Raises:
        ParameterError: a short secret, or pixels of another shape or type.
    """
    if pixels.ndim != 2 or pixels.dtype not in (np.uint8, np.uint16):
        raise ParameterError(
            f"asked for the key of pixels of shape {pixels.shape} and type {pixels.dtype}; "
            "give one greyscale image (H, W) of uint8 or uint16"
        )
    height, width = pixels.shape
    little = np.ascontiguousarray(pixels, dtype=pixels.dtype.newbyteorder("<"))
    header = f"{height} {width} {pixels.dtype.itemsize}".encode()
    return XRayKey(_keyed(secret, _XRAY, header, little.tobytes()))


def image_unit_key(secret: bytes, identity: XRayKey) -> PatientKey:
    """Key of the privacy unit when the unit is `image`: each X-ray is a unit of its own.

    Raises:
        ParameterError: a short secret.
    """
    return PatientKey(_keyed(secret, _IMAGE_UNIT, identity))


def _keyed(secret: bytes, *parts: bytes) -> bytes:
    if len(secret) < MIN_SECRET_BYTES:
        raise ParameterError(
            f"asked for a key under a secret of {len(secret)} bytes; the site's secret has at least {MIN_SECRET_BYTES}"
        )
    # Only the last part may hold a NUL, so the parts cannot be read in two ways.
    return hmac.new(secret, b"\0".join(parts), hashlib.sha256).digest()
