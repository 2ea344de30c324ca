"""Reading DICOM: what is taken, what is set aside, and that no text of the file comes out."""

from __future__ import annotations

import contextlib
import io
import logging
import zlib
from collections.abc import Callable
from typing import Any

import numpy as np
import pydicom
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image
from pydicom.encaps import encapsulate
from pydicom.uid import (
    UID,
    DeflatedExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    RLELossless,
)

from ldp_client.errors import QuarantinedError
from ldp_client.imaging.dicom import ALLOWED_TAGS, read_dicom
from ldp_client.imaging.xray import patient_key

MakeDicom = Callable[..., bytes]
SECONDARY = "1.2.840.10008.5.1.4.1.1.7"
NAME = "Mustermann"


def refusal(data: bytes, secret: bytes) -> str:
    with pytest.raises(QuarantinedError) as caught:
        read_dicom(data, secret)
    assert NAME not in str(caught.value)
    assert caught.value.__cause__ is None
    assert caught.value.__context__ is None  # the decoder's own error quotes the file
    return str(caught.value)


def test_a_radiograph_is_read_with_its_patient_as_a_hash(
    make_dicom: MakeDicom, pixels: NDArray[np.uint8], secret: bytes
) -> None:
    read = read_dicom(make_dicom(IssuerOfPatientID="Clinic"), secret)
    assert np.array_equal(read.pixels, pixels)
    assert read.pixels.dtype == np.uint8
    assert (read.inverted, read.window, read.bits) == (False, None, 8)
    assert read.patient == patient_key(secret, "Clinic", "P-1")


def test_a_file_without_patient_names_nobody(make_dicom: MakeDicom, secret: bytes) -> None:
    assert read_dicom(make_dicom(PatientID=None), secret).patient is None
    assert read_dicom(make_dicom(PatientID="  "), secret).patient is None


def test_only_allowed_tags_are_asked_of_the_decoder() -> None:
    personal = {"PatientName", "PatientBirthDate", "PatientSex", "StudyDate", "InstitutionName", "StudyDescription"}
    assert not personal & set(ALLOWED_TAGS)


def test_silent_tags_leave_the_word_to_the_labels_file(make_dicom: MakeDicom, secret: bytes) -> None:
    read_dicom(make_dicom(BodyPartExamined=None, ViewPosition=None), secret)
    read_dicom(make_dicom(Modality=None), secret)


@pytest.mark.parametrize("part", ["CHEST", "chest", "THORAX", "CHEST PA", "LUNG"])
def test_the_chest_has_several_names(make_dicom: MakeDicom, secret: bytes, part: str) -> None:
    with pydicom.config.disable_value_validation():
        data = make_dicom(BodyPartExamined=part)
    read_dicom(data, secret)


def test_monochrome1_is_inverted(make_dicom: MakeDicom, secret: bytes) -> None:
    assert read_dicom(make_dicom(PhotometricInterpretation="MONOCHROME1"), secret).inverted


@pytest.mark.parametrize(
    ("tags", "reason", "text"),
    [
        ({"Modality": "CT"}, "not_radiograph", "Modality is not CR, DX or RG"),
        ({"Modality": None, "SOPClassUID": "1.2.840.10008.5.1.4.1.1.2"}, "not_radiograph", "Modality is not"),
        ({"SOPClassUID": "1.2.840.10008.5.1.4.1.1.1.1.1"}, "not_radiograph", "the SOP class is not CR, DX for present"),
        ({"Modality": "OT", "SOPClassUID": SECONDARY}, "secondary_capture", "instead of a capture of a screen"),
        (
            {"SOPClassUID": SECONDARY, "ImageType": ["DERIVED", "SECONDARY"]},
            "secondary_capture",
            "a derived picture",
        ),
        ({"PhotometricInterpretation": "PALETTE COLOR"}, "secondary_capture", "a derived picture"),
        ({"BodyPartExamined": "KNEE"}, "not_chest", "another part than the chest; leave it out, or correct"),
        ({"BodyPartExamined": "TSPINE"}, "not_chest", "another part than the chest"),
        ({"ViewPosition": "LL"}, "not_frontal", "only frontal views"),
        ({"BurnedInAnnotation": "YES"}, "burned_in_annotation", "text in the pixels may name the patient"),
        ({"NumberOfFrames": "2"}, "multi_frame", "more than one frame; export the one frame"),
        ({"Rows": 27}, "too_small", "27 x 50 pixels, where each side needs at least 28"),
        ({"Rows": 60000, "Columns": 60000}, "too_large", "60000 x 60000 pixels"),
        ({"BitsStored": 12, "BitsAllocated": 12}, "unreadable", "12 bits stored in 12, where 1 to 16 in 8 or 16"),
        ({"BitsStored": 9}, "unreadable", "9 bits stored in 8"),
        ({"PhotometricInterpretation": None}, "unreadable", "PhotometricInterpretation is missing"),
        ({"Rows": None}, "unreadable", "Rows is missing or not a whole number"),
        ({"RescaleSlope": "0"}, "unreadable", "a rescale slope that is not above 0"),
        ({"Rows": 400}, "unreadable", "the DICOM decoder stopped"),
    ],
)
def test_what_is_no_chest_radiograph_is_set_aside_with_its_reason(
    make_dicom: MakeDicom, secret: bytes, tags: dict[str, Any], reason: str, text: str
) -> None:
    message = refusal(make_dicom(**tags), secret)
    assert message.startswith(f"set aside ({reason}): ")
    assert text in message


def test_a_wrapped_radiograph_counts_when_its_modality_says_so(make_dicom: MakeDicom, secret: bytes) -> None:
    read_dicom(make_dicom(SOPClassUID=SECONDARY), secret)


def test_signed_pixels_start_at_zero_and_the_window_moves_with_them(make_dicom: MakeDicom, secret: bytes) -> None:
    image = np.linspace(-2048, 2047, 1600).astype(np.int16).reshape(40, 40)
    read = read_dicom(make_dicom(image, BitsStored=12, HighBit=11, WindowCenter="0", WindowWidth="400"), secret)
    assert read.pixels.dtype == np.uint16
    assert (read.pixels.min(), read.pixels.max()) == (0, 4095)
    assert np.array_equal(read.pixels.astype(int) - 2048, image)
    assert (read.window, read.bits) == ((2048.0, 400.0), 12)


def test_the_window_is_turned_back_into_stored_values(make_dicom: MakeDicom, secret: bytes) -> None:
    data = make_dicom(WindowCenter=["100", "9"], WindowWidth=["40", "9"], RescaleSlope="2", RescaleIntercept="-20")
    assert read_dicom(data, secret).window == (60.0, 20.0)


def test_a_window_that_spans_nothing_is_left_out(make_dicom: MakeDicom, secret: bytes) -> None:
    assert read_dicom(make_dicom(WindowCenter="100", WindowWidth="1"), secret).window is None


def test_unused_bits_do_not_count(make_dicom: MakeDicom, secret: bytes) -> None:
    image = np.full((30, 30), 0xF123, dtype=np.uint16)
    read = read_dicom(make_dicom(image, BitsStored=12, HighBit=11), secret)
    assert np.unique(read.pixels).tolist() == [0x123]


def test_implicit_little_endian_is_read(make_dicom: MakeDicom, secret: bytes, pixels: NDArray[np.uint8]) -> None:
    assert np.array_equal(read_dicom(make_dicom(syntax=ImplicitVRLittleEndian), secret).pixels, pixels)


@pytest.mark.parametrize("syntax", [JPEG2000Lossless, RLELossless])
def test_compressed_pixels_are_read_without_loss(make_dicom: MakeDicom, secret: bytes, syntax: UID) -> None:
    image = np.arange(48 * 48, dtype=np.uint16).reshape(48, 48)
    plain = pydicom.dcmread(io.BytesIO(make_dicom(image, BitsStored=12, HighBit=11)))
    plain.compress(syntax)
    written = io.BytesIO()
    pydicom.dcmwrite(written, plain, enforce_file_format=True)
    assert np.array_equal(read_dicom(written.getvalue(), secret).pixels, image)


def jpeg(image: NDArray[np.uint8]) -> bytes:
    written = io.BytesIO()
    Image.fromarray(image).save(written, format="JPEG", quality=100)
    return written.getvalue()


def test_jpeg_baseline_is_read(make_dicom: MakeDicom, secret: bytes) -> None:
    image = np.full((40, 50), 90, dtype=np.uint8)
    data = make_dicom(image, syntax=JPEGBaseline8Bit, PixelData=encapsulate([jpeg(image)]))
    assert np.unique(read_dicom(data, secret).pixels).tolist() == [90]


def test_a_codestream_of_another_size_is_not_decoded(make_dicom: MakeDicom, secret: bytes) -> None:
    large = jpeg(np.zeros((900, 900), dtype=np.uint8))
    message = refusal(make_dicom(syntax=JPEGBaseline8Bit, PixelData=encapsulate([large])), secret)
    assert "the compressed pixels have another size than the header says" in message


def test_a_codestream_without_a_header_is_not_decoded(make_dicom: MakeDicom, secret: bytes) -> None:
    message = refusal(make_dicom(syntax=JPEG2000Lossless, PixelData=encapsulate([b"\0" * 64])), secret)
    assert "compressed pixels without a readable frame header" in message


def test_a_codestream_in_colour_is_not_read_as_grey(make_dicom: MakeDicom, secret: bytes) -> None:
    colour = jpeg(np.zeros((40, 50, 3), dtype=np.uint8))
    message = refusal(make_dicom(syntax=JPEGBaseline8Bit, PixelData=encapsulate([colour])), secret)
    assert message.startswith("set aside (unreadable): ")


def test_a_decoder_that_returns_another_shape_is_not_believed(
    make_dicom: MakeDicom, secret: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Decoder:
        is_available = True

        def as_array(self, dataset: pydicom.Dataset, decoding_plugin: str) -> tuple[NDArray[np.uint8], dict[str, int]]:
            return np.zeros((2, 40, 50), dtype=np.uint8), {}

    monkeypatch.setattr("ldp_client.imaging.dicom.get_decoder", lambda syntax: Decoder())
    assert "the decoded pixels are not what the header says" in refusal(make_dicom(), secret)


@given(changes=st.lists(st.tuples(st.integers(128, 2600), st.integers(0, 255)), min_size=1, max_size=4))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
def test_damaged_files_are_read_or_set_aside_and_never_break_the_run(
    make_dicom: MakeDicom, secret: bytes, changes: list[tuple[int, int]]
) -> None:
    data = bytearray(make_dicom())
    for at, value in changes:
        data[at % len(data)] = value
    with contextlib.suppress(QuarantinedError):
        read = read_dicom(bytes(data), secret)
        assert read.pixels.ndim == 2
        assert read.pixels.dtype in (np.uint8, np.uint16)


@pytest.mark.parametrize("syntax", [UID("1.2.3.4"), UID("1.2.840.10008.1.2.4.100"), UID("")])
def test_an_unknown_transfer_syntax_is_set_aside(make_dicom: MakeDicom, secret: bytes, syntax: UID) -> None:
    data = make_dicom().replace(b"1.2.840.10008.1.2.1\0", str(syntax).encode().ljust(20, b"\0"))
    assert "a transfer syntax that cannot be decoded here" in refusal(data, secret)


def test_a_deflated_file_is_not_inflated(make_dicom: MakeDicom, secret: bytes) -> None:
    plain = make_dicom(syntax=DeflatedExplicitVRLittleEndian, PatientID="P-1")
    bomb = zlib.compressobj(wbits=-15)
    data = plain[:300] + bomb.compress(b"\0" * 1_000_000) + bomb.flush()
    assert "a transfer syntax that cannot be decoded here" in refusal(data, secret)


@pytest.mark.parametrize("length", [132, 140, 200, 400, 900])
def test_a_file_cut_short_is_unreadable(make_dicom: MakeDicom, secret: bytes, length: int) -> None:
    assert refusal(make_dicom()[:length], secret).startswith("set aside (unreadable): ")


def test_broken_tags_warn_and_log_nothing_of_the_file(
    make_dicom: MakeDicom, secret: bytes, caplog: pytest.LogCaptureFixture, recwarn: pytest.WarningsRecorder
) -> None:
    with pydicom.config.disable_value_validation():
        data = make_dicom(PatientID=NAME * 20, PixelData=b"\0" * 2500)  # too long an id, too many pixels
    with caplog.at_level(logging.DEBUG):
        read_dicom(data, secret)
        refusal(data[:600], secret)
    assert not recwarn.list
    assert NAME not in caplog.text
