"""Signed envelopes: the signed bytes come out, or nothing does."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ldp_client.errors import EnvelopeError, FormatError, LdpError, VerificationError
from ldp_client.wire.envelope import (
    APPROVAL,
    CAMPAIGN,
    POLICY,
    Keys,
    OneKey,
    close_envelope,
    open_envelope,
    open_introduction,
)
from ldp_client.wire.signing import SigningKey, key_id

ALICE, BOB = SigningKey(b"a" * 32), SigningKey(b"b" * 32)
KNOWN = Keys({"alice": ALICE.public_key, "bob": BOB.public_key})
PAYLOAD = b'{"a":1}'
SIGNED = close_envelope(CAMPAIGN, PAYLOAD, ALICE)


def test_an_envelope_says_who_signed_and_gives_back_the_signed_bytes() -> None:
    assert open_envelope(SIGNED, CAMPAIGN, KNOWN) == ("alice", PAYLOAD)
    assert open_envelope(close_envelope(POLICY, b"", BOB), POLICY, KNOWN) == ("bob", b"")
    assert open_envelope(SIGNED, CAMPAIGN, OneKey("the centre", ALICE.public_key)) == ("the centre", PAYLOAD)


@given(st.binary(max_size=200))
def test_any_payload_comes_back(payload: bytes) -> None:
    assert open_envelope(close_envelope(CAMPAIGN, payload, ALICE), CAMPAIGN, KNOWN) == ("alice", payload)


@pytest.mark.parametrize("payload", [PAYLOAD, b""], ids=["payload", "empty"])
def test_one_flipped_bit_anywhere_is_refused(payload: bytes) -> None:
    """Every bit, not a sample: an unsigned length byte used to be free to grow where the payload was empty."""
    envelope = close_envelope(CAMPAIGN, payload, ALICE)
    for bit in range(8 * len(envelope)):
        broken = bytearray(envelope)
        broken[bit // 8] ^= 1 << bit % 8
        with pytest.raises(VerificationError):
            open_envelope(bytes(broken), CAMPAIGN, KNOWN)


@pytest.mark.parametrize("payload", [PAYLOAD, b""], ids=["payload", "empty"])
def test_a_truncated_or_extended_envelope_is_refused(payload: bytes) -> None:
    envelope = close_envelope(CAMPAIGN, payload, ALICE)
    for length in range(len(envelope)):
        with pytest.raises(VerificationError):
            open_envelope(envelope[:length], CAMPAIGN, KNOWN)
    for tail in (b"\x00", b" ", envelope):
        with pytest.raises(EnvelopeError, match="the signature does not belong to these bytes and this key"):
            open_envelope(envelope + tail, CAMPAIGN, KNOWN)


@given(st.binary(max_size=300))
def test_bytes_from_anywhere_are_refused_and_never_crash(junk: bytes) -> None:
    for attempt in (junk, b"LDPE\x01" + junk, SIGNED[:102] + junk):
        if attempt != SIGNED:
            with pytest.raises(LdpError):
                open_envelope(attempt, CAMPAIGN, KNOWN)


@pytest.mark.parametrize("junk", [b"", b"LDPE\x01", b"LDPE\x02" + SIGNED[5:], SIGNED[:101], b"\x00" * 200])
def test_other_bytes_are_no_envelope(junk: bytes) -> None:
    with pytest.raises(FormatError, match="these bytes are not a signed envelope of this version"):
        open_envelope(junk, CAMPAIGN, KNOWN)


def test_a_policy_cannot_pass_for_an_approval() -> None:
    with pytest.raises(EnvelopeError, match=f"expected a signed {APPROVAL}; found an envelope of another type"):
        open_envelope(close_envelope(POLICY, PAYLOAD, ALICE), APPROVAL, KNOWN)


def test_the_signature_covers_the_type_and_not_the_bytes_alone() -> None:
    """The same length of type: only the signature can notice the exchange."""
    one, other = "ldp-glow/policy/v1", "ldp-glow/header/v1"
    relabelled = close_envelope(one, PAYLOAD, ALICE).replace(one.encode(), other.encode())
    with pytest.raises(EnvelopeError, match="the signature does not belong to these bytes and this key"):
        open_envelope(relabelled, other, KNOWN)


def test_moving_the_border_between_type_and_payload_is_refused() -> None:
    signed = close_envelope("ab", b"cd", ALICE)
    with pytest.raises(EnvelopeError, match="found an envelope of another type"):
        open_envelope(signed, "abc", KNOWN)
    moved = signed[:101] + b"\x03" + signed[102:]
    with pytest.raises(EnvelopeError, match="the signature does not belong"):
        open_envelope(moved, "abc", KNOWN)


def test_an_unknown_signer_is_refused() -> None:
    signed = close_envelope(CAMPAIGN, PAYLOAD, SigningKey(b"c" * 32))
    with pytest.raises(EnvelopeError, match="the signer is not known here; enrol it first"):
        open_envelope(signed, CAMPAIGN, KNOWN)
    with pytest.raises(EnvelopeError, match="expected a document signed by the centre; found another signer"):
        open_envelope(signed, CAMPAIGN, OneKey("the centre", ALICE.public_key))


def test_one_partys_signature_under_anothers_name_is_refused() -> None:
    alices, bobs = SIGNED, close_envelope(CAMPAIGN, PAYLOAD, BOB)
    stolen = alices[:37] + bobs[37:101] + alices[101:]
    with pytest.raises(EnvelopeError, match="they were altered or signed by somebody else"):
        open_envelope(stolen, CAMPAIGN, KNOWN)


def test_a_key_that_is_no_point_of_the_curve_verifies_nothing() -> None:
    for key in (b"", b"short", b"\xff" * 32):
        signed = SIGNED[:5] + key_id(key) + SIGNED[37:]
        with pytest.raises(EnvelopeError, match="the signature does not belong to these bytes and this key"):
            open_envelope(signed, CAMPAIGN, OneKey("nobody", key))


# --- introductions


def who(payload: bytes) -> tuple[str, bytes]:
    if payload != b"I am Bob":
        raise FormatError("no introduction")
    return "bob", BOB.public_key


def test_an_introduction_proves_that_the_holder_of_the_named_key_wrote_it() -> None:
    assert open_introduction(close_envelope(POLICY, b"I am Bob", BOB), POLICY, who) == b"I am Bob"


def test_an_introduction_in_another_partys_name_is_refused() -> None:
    with pytest.raises(EnvelopeError, match="expected a document signed by bob; found another signer"):
        open_introduction(close_envelope(POLICY, b"I am Bob", ALICE), POLICY, who)


@pytest.mark.parametrize("junk", [b"", b"LDPE\x01", SIGNED, b"I am Bob", b"\x00" * 120 + b"I am Bob"])
def test_other_bytes_are_no_introduction(junk: bytes) -> None:
    with pytest.raises(VerificationError):
        open_introduction(junk, POLICY, who)


def test_an_introduction_of_another_type_is_refused() -> None:
    with pytest.raises(EnvelopeError, match="found an envelope of another type"):
        open_introduction(close_envelope("ldp-glow/header/v1", b"I am Bob", BOB), POLICY, who)
