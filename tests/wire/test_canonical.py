"""One document, one byte string."""

from __future__ import annotations

import hashlib
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError
from site_story import campaign, genesis

from ldp_client.errors import FormatError
from ldp_client.wire.campaign import Campaign, Plan, campaign_id
from ldp_client.wire.canonical import MAX_DOCUMENT_BYTES, MAX_INTEGER, canonical_bytes, digest, parse, raw_digest
from ldp_client.wire.exchange import CentreCard, Payload


def test_canonical_bytes_are_sorted_dense_utf_8_without_a_float() -> None:
    body = canonical_bytes(campaign(purpose="größer ≥ 肺"))
    assert body == json.dumps(json.loads(body), sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()
    assert "größer ≥ 肺".encode() in body
    json.loads(body, parse_float=lambda text: pytest.fail(f"a float: {text}"))


@given(st.binary(max_size=50), st.integers(1, MAX_INTEGER))
def test_any_bytes_survive_the_way_through_json(record: bytes, seal: int) -> None:
    document = Payload(seal=seal, record=record)
    assert parse(Payload, canonical_bytes(document)) == document


text = st.text(st.characters(exclude_categories=["Cc", "Cf", "Cs", "Zl", "Zp"]), min_size=1, max_size=100)


@given(text)
def test_any_plain_text_survives_the_way_through_json(name: str) -> None:
    card = CentreCard(name=name, signing_key="a" * 64, sealing_key="b" * 64)
    assert parse(CentreCard, canonical_bytes(card)) == card


@pytest.mark.parametrize("character", ["\x00", "\n", "\x1b", "\x7f", "\x9b", "\u202e", "\u2066", "\u200b", "\u2028"])
def test_text_that_would_move_a_readers_terminal_or_eyes_is_refused(character: str) -> None:
    with pytest.raises(ValidationError, match="String should match pattern"):
        CentreCard(name=f"a{character}b", signing_key="a" * 64, sealing_key="b" * 64)
    with pytest.raises(ValidationError, match="String should match pattern"):
        campaign(purpose=f"a{character}b")


def test_equal_documents_have_one_id_and_a_changed_one_another() -> None:
    assert campaign_id(campaign()) == campaign_id(campaign())
    assert campaign_id(campaign()) != campaign_id(campaign(purpose="Another"))


def test_the_limit_is_the_callers() -> None:
    body = canonical_bytes(campaign())
    assert parse(Campaign, body, limit=len(body)) == campaign()
    with pytest.raises(FormatError, match=f"a Campaign has at most {len(body) - 1} bytes; found {len(body)}"):
        parse(Campaign, body, limit=len(body) - 1)
    assert MAX_DOCUMENT_BYTES == 1 << 20


def test_another_kind_of_document_is_refused_by_name_of_the_kind_asked_for() -> None:
    with pytest.raises(FormatError, match="these bytes are no Plan that this version can read"):
        parse(Plan, canonical_bytes(campaign()))


def test_documents_are_frozen_and_take_no_other_field() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        genesis().site = "site-b"
    with pytest.raises(ValidationError, match="Extra inputs"):
        genesis(patient="x")


# --- digests


def test_a_digest_is_sha_256_over_lengths_and_parts() -> None:
    parts = (b"label", b"one", b"")
    message = b"".join(len(part).to_bytes(8, "big") + part for part in parts)
    assert raw_digest("label", b"one", b"") == hashlib.sha256(message).digest()
    assert digest("label", b"one", b"") == hashlib.sha256(message).hexdigest()


@given(st.lists(st.binary(max_size=12), max_size=4), st.lists(st.binary(max_size=12), max_size=4))
def test_no_two_lists_of_parts_share_a_digest(first: list[bytes], second: list[bytes]) -> None:
    assert (digest("x", *first) == digest("x", *second)) == (first == second)


def test_moving_a_border_between_parts_or_label_changes_the_digest() -> None:
    assert len({digest("ab", b"c"), digest("a", b"bc"), digest("abc"), digest("ab", b"c", b""), digest("ab", b"")}) == 5
