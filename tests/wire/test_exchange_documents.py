"""What the two sides say: codes from closed lists, whole numbers that fit, and limits both ends keep."""

from __future__ import annotations

import hashlib

import pytest
from pydantic import ValidationError

from ldp_client.errors import FormatError
from ldp_client.wire.canonical import MAX_DOCUMENT_BYTES
from ldp_client.wire.document import (
    DOWN_KINDS,
    MAX_DOCUMENTS,
    MAX_OFFER_BYTES,
    UP_KINDS,
    Document,
    file_name,
    within_limits,
)
from ldp_client.wire.exchange import (
    BatchHeader,
    CampaignAnswer,
    CampaignCode,
    Refusal,
    SiteCode,
    SiteState,
    header_id,
    sealed_digest,
)


def state(**changes: object) -> SiteState:
    fields: dict[str, object] = {
        "site": "site-a",
        "ledger_id": "1" * 64,
        "sequence": 1,
        "head": "2" * 64,
        "acknowledged": 0,
        "code": SiteCode.READY,
        "nonce": None,
        "campaigns": (CampaignAnswer(campaign="3" * 64, code=CampaignCode.OFFERED),),
    }
    return SiteState(**{**fields, **changes})  # type: ignore[arg-type]


def header(**changes: object) -> BatchHeader:
    fields: dict[str, object] = {
        "site": "site-a",
        "ledger_id": "1" * 64,
        "first": 1,
        "last": 2,
        "previous_head": "0" * 64,
        "head": "2" * 64,
        "records": 0,
        "sealed_digest": "4" * 64,
        "sealed_bytes": 1,
        "day": "2026-01-01",
    }
    return BatchHeader(**{**fields, **changes})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "changes",
    [
        {"code": "because the disk is full"},
        {"reason": "free text"},
        {"sequence": 0},
        {"sequence": 2**63},
        {"acknowledged": -1},
        {"nonce": "short"},
        {"site": "Site A"},
        {"head": "2" * 63},
    ],
)
def test_a_site_says_codes_and_numbers_and_nothing_else(changes: dict[str, object]) -> None:
    with pytest.raises(ValidationError, match=next(iter(changes))):
        state(**changes)


@pytest.mark.parametrize(
    "changes",
    [{"first": 0}, {"last": 2**63}, {"records": -1}, {"sealed_bytes": 0}, {"day": "today"}, {"day": "2026-02-30"}],
)
def test_a_header_holds_possible_numbers_and_a_day_of_the_calendar(changes: dict[str, object]) -> None:
    with pytest.raises(ValidationError, match=next(iter(changes))):
        header(**changes)


def test_a_refusal_names_a_code() -> None:
    with pytest.raises(ValidationError, match="code"):
        Refusal(seal=1, code="other")  # type: ignore[arg-type]


def test_a_headers_id_follows_every_field() -> None:
    assert header_id(header()) == header_id(header())
    assert len({header_id(header()), header_id(header(last=3)), header_id(header(day="2026-01-02"))}) == 3


def test_a_sealed_batch_is_named_by_its_sha_256() -> None:
    assert sealed_digest(b"x") == hashlib.sha256(b"x").hexdigest() == file_name(b"x") == Document("header", b"x").name


@pytest.mark.parametrize("kind", ["", "secret", "../campaign", "batch"])
def test_a_document_of_an_unknown_kind_is_refused_without_quoting_it(kind: str) -> None:
    with pytest.raises(
        FormatError, match=r"a document is one of campaign, receipt, .*; found another kind; ask"
    ) as refusal:
        Document(kind, b"x")
    assert not kind or f"found {kind}" not in str(refusal.value)


@pytest.mark.parametrize("kind", DOWN_KINDS + UP_KINDS)
def test_a_document_has_a_size(kind: str) -> None:
    Document(kind, bytes(MAX_DOCUMENT_BYTES))
    with pytest.raises(FormatError, match=f"at most {MAX_DOCUMENT_BYTES} bytes; found {MAX_DOCUMENT_BYTES + 1}; ask"):
        Document(kind, bytes(MAX_DOCUMENT_BYTES + 1))


def test_an_offer_takes_the_longest_beginning_within_its_limits() -> None:
    small = [Document("receipt", b"x")] * (MAX_DOCUMENTS + 5)
    assert len(within_limits(small)) == MAX_DOCUMENTS
    large = [Document("receipt", bytes(MAX_DOCUMENT_BYTES))] * 20
    assert len(within_limits(large)) == MAX_OFFER_BYTES // MAX_DOCUMENT_BYTES
    assert within_limits([]) == []
