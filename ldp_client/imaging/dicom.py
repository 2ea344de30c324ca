"""Reads a chest radiograph from DICOM: an allow-list of tags, and of the patient only a keyed hash.

No other tag is parsed, and none but the pixels, the window and the hash survives this file. What a tag says is
believed when it says no; where it is silent, the row in the labels file is the hospital's word that the file is a
frontal chest radiograph. docs/data.md has the rules as a table.
"""

from __future__ import annotations

import io
import math
import re
from typing import Any

import numpy as np
import pydicom
from numpy.typing import NDArray
from pydicom.encaps import get_frame
from pydicom.filereader import read_dataset
from pydicom.pixels.decoders.base import get_decoder
from pydicom.uid import UID, RLELossless

from ldp_client.errors import QuarantinedError
from ldp_client.imaging.codestream import coded_frame
from ldp_client.imaging.discretion import discreet
from ldp_client.imaging.limits import check_size
from ldp_client.imaging.quarantine import Reason, set_aside
from ldp_client.imaging.xray import PatientKey, Radiograph, normal_id, patient_key

ALLOWED_TAGS = (
    "SOPClassUID",
    "Modality",
    "ImageType",
    "BodyPartExamined",
    "ViewPosition",
    "BurnedInAnnotation",
    "PatientID",
    "IssuerOfPatientID",
    "SamplesPerPixel",
    "PhotometricInterpretation",
    "NumberOfFrames",
    "Rows",
    "Columns",
    "BitsAllocated",
    "BitsStored",
    "PixelRepresentation",
    "WindowCenter",
    "WindowWidth",
    "RescaleSlope",
    "RescaleIntercept",
    "PixelData",
)

_RADIOGRAPHS = {"1.2.840.10008.5.1.4.1.1.1", "1.2.840.10008.5.1.4.1.1.1.1"}  # CR, DX for presentation
_SECONDARY = "1.2.840.10008.5.1.4.1.1.7"  # and its multi-frame children .1 to .4
_MODALITIES = {"CR", "DX", "RG"}
_CHEST = {"CHEST", "CHESTPA", "CHESTAP", "PORTCHEST", "CHESTPORT", "THORAX", "LUNG", "LUNGS"}
_NOT_FRONTAL = {"LL", "RL", "LLD", "RLD", "LLO", "RLO", "LAT", "LATERAL"}
_META_START = 132  # preamble and "DICM"


def is_dicom(data: bytes) -> bool:
    """Whether these bytes carry DICOM's signature (PS3.10 7.1)."""
    return data[128:132] == b"DICM"


def read_dicom(data: bytes, secret: bytes) -> Radiograph:
    """Read one radiograph.

    Args:
        data: the whole file, no longer than `limits.MAX_FILE_BYTES`.
        secret: the site's patient secret.

    Returns:
        The radiograph; `patient` is None when the file has no PatientID.

    Raises:
        QuarantinedError: the file is set aside; the text never quotes a tag.
    """
    fault = None
    with discreet():
        try:
            return _read(data, secret)
        except QuarantinedError:
            raise
        except Exception as error:  # a hostile or broken file can make the decoder raise anything at all
            fault = type(error).__name__
    # Raised outside the handler, so that the decoder's error, which quotes the file, is not chained to it.
    raise set_aside(Reason.UNREADABLE, f"the DICOM decoder stopped ({fault})")


def _read(data: bytes, secret: bytes) -> Radiograph:
    _check_transfer_syntax(data)
    tags: list[Any] = [*ALLOWED_TAGS]
    dataset = pydicom.dcmread(io.BytesIO(data), specific_tags=tags)
    _check_kind(dataset)
    height, width = _whole(dataset, "Rows"), _whole(dataset, "Columns")
    check_size(height, width)
    pixels, bits, lift = _decode(dataset, height, width)
    return Radiograph(
        pixels=pixels,
        inverted=_text(dataset, "PhotometricInterpretation") == "MONOCHROME1",
        window=_window(dataset, lift),
        bits=bits,
        patient=_patient(dataset, secret),
    )


def _check_transfer_syntax(data: bytes) -> None:
    """Look at the file meta group alone: a deflated data set would be inflated, without limit, on reading."""
    group = io.BytesIO(data)
    group.seek(_META_START)
    meta = read_dataset(group, False, True, stop_when=lambda tag, vr, length: tag.group != 2)
    syntax = UID(_text(meta, "TransferSyntaxUID"))
    known = syntax.is_transfer_syntax and not syntax.is_deflated
    if not known or (syntax.is_encapsulated and not get_decoder(syntax).is_available):
        raise set_aside(Reason.UNREADABLE, "a transfer syntax that cannot be decoded here")


def _check_kind(dataset: pydicom.Dataset) -> None:
    if _text(dataset, "NumberOfFrames") not in ("", "1"):
        raise set_aside(Reason.MULTI_FRAME, "more than one frame")
    sop_class, modality = _text(dataset, "SOPClassUID"), _text(dataset, "Modality")
    captured = sop_class == _SECONDARY or sop_class.startswith(_SECONDARY + ".")
    if modality not in _MODALITIES and not (modality == "" and sop_class in _RADIOGRAPHS):
        # OT and SC are what a capture of a screen says of itself.
        reason = Reason.SECONDARY_CAPTURE if captured else Reason.NOT_RADIOGRAPH
        raise set_aside(reason, "Modality is not CR, DX or RG")
    if not captured and sop_class not in _RADIOGRAPHS and sop_class != "":
        raise set_aside(Reason.NOT_RADIOGRAPH, "the SOP class is not CR, DX for presentation or secondary capture")
    photometric = _text(dataset, "PhotometricInterpretation")
    if not photometric:
        raise set_aside(Reason.UNREADABLE, "PhotometricInterpretation is missing")
    grey = photometric in ("MONOCHROME1", "MONOCHROME2")
    kind = _text(dataset, "ImageType").split("\\")
    # Gateways and public collections wrap true radiographs as secondary capture, Modality CR or DX and no ImageType;
    # a screen says SECONDARY or has colour.
    if (captured and "SECONDARY" in kind[1:2]) or not grey or _whole(dataset, "SamplesPerPixel") != 1:
        raise set_aside(Reason.SECONDARY_CAPTURE, "a derived picture (ImageType SECONDARY, or not MONOCHROME)")
    part = re.sub("[^A-Z]", "", _text(dataset, "BodyPartExamined"))
    if part and part not in _CHEST:
        raise set_aside(Reason.NOT_CHEST, "BodyPartExamined is another part than the chest")
    if _text(dataset, "ViewPosition") in _NOT_FRONTAL:
        raise set_aside(Reason.NOT_FRONTAL, "ViewPosition is a lateral, decubitus or oblique view")
    if _text(dataset, "BurnedInAnnotation") == "YES":
        raise set_aside(Reason.BURNED_IN_ANNOTATION, "BurnedInAnnotation is YES")


def _decode(dataset: pydicom.Dataset, height: int, width: int) -> tuple[NDArray[np.uint8 | np.uint16], int, int]:
    """Return unsigned pixels, bits stored, and what was added to make signed values start at 0."""
    allocated, bits = _whole(dataset, "BitsAllocated"), _whole(dataset, "BitsStored")
    if allocated not in (8, 16) or not 1 <= bits <= allocated:
        raise set_aside(Reason.UNREADABLE, f"{bits} bits stored in {allocated}, where 1 to 16 in 8 or 16 are read")
    syntax = dataset.file_meta.TransferSyntaxUID
    plugin = ""
    if syntax.is_encapsulated:
        if syntax == RLELossless:
            plugin = "pylibjpeg"  # stops at the frame's size, where pydicom's own decoder inflates first
        elif coded_frame(get_frame(dataset.PixelData, 0, number_of_frames=1)) != (height, width, 1):
            # Some decoders turn colour into grey on their own, some do not: neither is what the header says.
            raise set_aside(Reason.UNREADABLE, "the compressed pixels have another size than the header says")
    stored = get_decoder(syntax).as_array(dataset, decoding_plugin=plugin)[0]
    if stored.shape != (height, width) or stored.dtype.kind not in "ui" or stored.dtype.itemsize > 2:
        raise set_aside(Reason.UNREADABLE, "the decoded pixels are not what the header says")
    lift = 1 << (bits - 1) if _whole(dataset, "PixelRepresentation", 0) else 0
    # Values outside the stored bits are a fault of the writer; they saturate, as in a viewer.
    values = np.clip(stored.astype(np.int32) + lift, 0, (1 << bits) - 1)
    return values.astype(np.uint8 if allocated == 8 else np.uint16), bits, lift


def _window(dataset: pydicom.Dataset, lift: int) -> tuple[float, float] | None:
    """The first window, in the units of the returned pixels; None when there is none or it spans nothing.

    One so far off that its two edges are the same float spans nothing either (`flow.preprocess.prepare` would refuse
    it in the middle of a release). DICOM states it after the rescale, pixel * slope + intercept (PS3.3 C.11.2.1.2);
    this undoes that.
    """
    centre, width = _first_number(dataset, "WindowCenter"), _first_number(dataset, "WindowWidth")
    slope, intercept = _first_number(dataset, "RescaleSlope", 1.0), _first_number(dataset, "RescaleIntercept", 0.0)
    if slope is None or intercept is None or slope <= 0:
        raise set_aside(Reason.UNREADABLE, "a rescale slope that is not above 0")
    if centre is None or width is None:
        return None
    centre, width = (centre - intercept) / slope + lift, width / slope
    low, high = centre - 0.5 - (width - 1) / 2, centre - 0.5 + (width - 1) / 2
    return (centre, width) if math.isfinite(low) and math.isfinite(high) and low < high else None


def _patient(dataset: pydicom.Dataset, secret: bytes) -> PatientKey | None:
    number = _text(dataset, "PatientID", upper=False)
    if not normal_id(number):
        return None
    return patient_key(secret, _text(dataset, "IssuerOfPatientID", upper=False), number)


def _text(dataset: pydicom.Dataset, keyword: str, *, upper: bool = True) -> str:
    """A tag's text, "" when absent or empty; several values joined as they stand in the file."""
    value = dataset.get(keyword)
    if value is None:
        return ""
    text = str(value) if isinstance(value, str | int) else "\\".join(str(part) for part in value)
    return text.strip(" \0").upper() if upper else text


def _whole(dataset: pydicom.Dataset, keyword: str, default: int | None = None) -> int:
    value = dataset.get(keyword, default)
    if not isinstance(value, int) or value < 0:
        raise set_aside(Reason.UNREADABLE, f"{keyword} is missing or not a whole number")
    return value


def _first_number(dataset: pydicom.Dataset, keyword: str, default: float | None = None) -> float | None:
    value = dataset.get(keyword)
    if value is None or value == "":
        return default
    first = value if isinstance(value, str | int | float) else next(iter(value))
    number = float(first)
    return number if math.isfinite(number) else None
