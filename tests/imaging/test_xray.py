"""The keys by which an X-ray and its patient are known inside a site."""

from __future__ import annotations

import hashlib
import hmac
import unicodedata

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ldp_client.errors import ParameterError
from ldp_client.imaging.xray import Radiograph, XRay, XRayKey, image_unit_key, normal_id, patient_key, xray_key

SECRET = b"s" * 32
IDS = st.text(min_size=1, max_size=40).filter(lambda text: normal_id(text) != "")
PADDING = st.text(alphabet=" \t\0\u00a0\u3000", max_size=4)


@given(st.text(max_size=60))
def test_the_normal_spelling_is_normal_already(text: str) -> None:
    assert normal_id(normal_id(text)) == normal_id(text)


@given(IDS, PADDING, PADDING, st.sampled_from(["NFC", "NFD", "NFKC", "NFKD"]))
def test_one_id_in_two_spellings_is_one_patient(number: str, before: str, after: str, form: str) -> None:
    other = before + unicodedata.normalize(form, number) + after  # type: ignore[arg-type]
    assert patient_key(SECRET, "A", number) == patient_key(SECRET, "A", other)


@given(IDS, IDS, st.text(max_size=10), st.text(max_size=10))
def test_two_patients_or_issuers_are_told_apart(first: str, second: str, left: str, right: str) -> None:
    same = (normal_id(left), normal_id(first)) == (normal_id(right), normal_id(second))
    assert (patient_key(SECRET, left, first) == patient_key(SECRET, right, second)) == same


def test_the_patient_key_is_the_documented_hash() -> None:
    expected = hmac.new(SECRET, b"ldp-glow/patient-key/v1\0Clinic\0 42".replace(b" ", b""), hashlib.sha256).digest()
    assert patient_key(SECRET, "Clinic", "\uff14\uff12 ") == expected


@pytest.mark.parametrize("number", ["", "  ", "\0\0", "\u3000"])
def test_an_empty_id_has_no_key(number: str) -> None:
    with pytest.raises(ParameterError, match="empty patient id; give the id, or set the X-ray aside"):
        patient_key(SECRET, "", number)


def test_a_short_secret_gives_no_key() -> None:
    with pytest.raises(ParameterError, match="a secret of 31 bytes; the site's secret has at least 32"):
        patient_key(b"s" * 31, "", "1")


def test_another_secret_gives_another_key() -> None:
    assert patient_key(SECRET, "", "1") != patient_key(b"t" * 32, "", "1")


def test_the_key_of_pixels_does_not_depend_on_their_layout_in_memory() -> None:
    grey = np.arange(6, dtype=np.uint16).reshape(2, 3)
    assert xray_key(SECRET, grey) == xray_key(SECRET, np.asfortranarray(grey))
    assert xray_key(SECRET, grey) == xray_key(SECRET, np.repeat(grey, 2, axis=1)[:, ::2])


def test_shape_type_and_every_pixel_enter_the_key() -> None:
    grey = np.zeros((2, 6), dtype=np.uint8)
    changed = grey.copy()
    changed[1, 5] = 1
    others = [changed, grey.reshape(3, 4), grey.reshape(6, 2), np.zeros((2, 3), dtype=np.uint16)]
    assert xray_key(SECRET, grey) not in {xray_key(SECRET, other) for other in others}


def test_pixels_in_colour_have_no_key() -> None:
    with pytest.raises(ParameterError, match=r"shape \(2, 2, 3\) and type uint8; give one greyscale image"):
        xray_key(SECRET, np.zeros((2, 2, 3), dtype=np.uint8))


def test_each_image_is_a_unit_of_its_own_when_the_unit_is_image() -> None:
    first, second = XRayKey(b"a" * 32), XRayKey(b"b" * 32)
    assert image_unit_key(SECRET, first) != image_unit_key(SECRET, second)
    assert image_unit_key(SECRET, first) != first


def test_a_repr_shows_neither_pixels_nor_keys_nor_label() -> None:
    grey = np.full((2, 2), 77, dtype=np.uint8)
    key = patient_key(SECRET, "", "1")
    shown = repr(XRay(grey, False, None, 8, key, XRayKey(b"k" * 32), "pneumonia")) + repr(
        Radiograph(grey, False, None, 8, key)
    )
    assert "77" not in shown
    assert "b'" not in shown
    assert "pneumonia" not in shown
