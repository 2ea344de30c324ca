"""Generated files: DICOM built tag by tag, and a plain X-ray to put into them."""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import Any

import numpy as np
import pydicom
import pytest
from numpy.typing import NDArray
from pydicom.dataset import FileDataset, FileMetaDataset
from pydicom.uid import UID, ExplicitVRLittleEndian

MakeDicom = Callable[..., bytes]


@pytest.fixture
def secret() -> bytes:
    return bytes(range(32))


@pytest.fixture
def pixels() -> NDArray[np.uint8]:
    return np.arange(40 * 50, dtype=np.uint32).reshape(40, 50).astype(np.uint8)


@pytest.fixture
def make_dicom(pixels: NDArray[np.uint8]) -> MakeDicom:
    """A chest radiograph as DICOM bytes; keywords set tags, None removes one."""

    def make(image: NDArray[Any] = pixels, *, syntax: UID = ExplicitVRLittleEndian, **tags: object) -> bytes:
        meta = FileMetaDataset()
        meta.TransferSyntaxUID = syntax
        meta.MediaStorageSOPClassUID = UID("1.2.840.10008.5.1.4.1.1.1.1")
        meta.MediaStorageSOPInstanceUID = UID("1.2.3")
        dataset = FileDataset("", {}, file_meta=meta, preamble=b"\0" * 128)
        kept: dict[str, object] = {
            "SOPClassUID": "1.2.840.10008.5.1.4.1.1.1.1",
            "SOPInstanceUID": "1.2.3",
            "Modality": "DX",
            "BodyPartExamined": "CHEST",
            "ViewPosition": "PA",
            "PatientID": "P-1",
            "PatientName": "Mustermann^Erika",
            "SamplesPerPixel": 1,
            "PhotometricInterpretation": "MONOCHROME2",
            "Rows": image.shape[0],
            "Columns": image.shape[1],
            "BitsAllocated": 8 * image.dtype.itemsize,
            "BitsStored": 8 * image.dtype.itemsize,
            "HighBit": 8 * image.dtype.itemsize - 1,
            "PixelRepresentation": int(image.dtype.kind == "i"),
            "PixelData": image.tobytes(),
            **tags,
        }
        for keyword, value in kept.items():
            if value is not None:
                setattr(dataset, keyword, value)
        dataset["PixelData"].VR = "OW"
        dataset["PixelData"].is_undefined_length = syntax.is_encapsulated
        written = io.BytesIO()
        pydicom.dcmwrite(written, dataset, enforce_file_format=True)
        return written.getvalue()

    return make
