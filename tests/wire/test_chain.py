"""The hash chain: any change, gap, overlap or other history shows."""

from __future__ import annotations

import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st
from site_story import LEDGER, OTHER_LEDGER, beginning, campaign, charge, seal

from ldp_client.errors import FormatError
from ldp_client.privacy.loss import MAX_MICRO_EPSILON
from ldp_client.wire.canonical import MAX_INTEGER, canonical_bytes, parse
from ldp_client.wire.chain import (
    MAX_ENTRY_BYTES,
    ZERO,
    Abandon,
    Charge,
    ChargeTerms,
    EntryBody,
    LedgerEntry,
    PolicyEntry,
    Seal,
    SealTerms,
    charge_body,
    entry_body,
    link,
    parse_entry,
    read_entry,
    seal_body,
    subject_commitment,
    walk,
)

ENTRIES = [*beginning(), charge(campaign(), 3), seal(4), charge(campaign(), 3), Abandon(charge=6)]
BODIES = [entry_body(entry) for entry in ENTRIES]
HEADS = walk(LEDGER, 1, ZERO, BODIES)


def test_every_kind_of_entry_reads_back() -> None:
    assert [parse_entry(body) for body in BODIES] == ENTRIES


DIGESTS = st.binary(min_size=32, max_size=32).map(bytes.hex)
NUMBERS = st.integers(1, MAX_INTEGER)
CHARGES = st.builds(
    Charge, subject=DIGESTS, campaign=DIGESTS, approval=NUMBERS, micro_epsilon=st.integers(1, MAX_MICRO_EPSILON)
)


@given(st.one_of(CHARGES, st.builds(Seal, charge=NUMBERS, record=DIGESTS)))
def test_the_short_way_to_write_and_read_an_entry_is_the_general_one(entry: LedgerEntry) -> None:
    body = canonical_bytes(EntryBody(entry=entry))
    assert entry_body(entry) == body
    assert parse_entry(body) == entry == parse(EntryBody, body).entry
    assert parse_entry(body).model_fields_set <= entry.model_fields_set | {"kind"}


@given(st.one_of(CHARGES, st.builds(Seal, charge=NUMBERS, record=DIGESTS)), st.data())
def test_the_short_way_refuses_what_the_general_one_refuses(entry: LedgerEntry, data: st.DataObject) -> None:
    body = bytearray(entry_body(entry))
    place, byte = data.draw(st.integers(0, len(body) - 1)), data.draw(st.integers(0, 255))
    body[place] = byte
    try:
        expected: LedgerEntry | None = parse(EntryBody, bytes(body)).entry
    except FormatError:
        expected = None
    try:
        found: LedgerEntry | None = parse_entry(bytes(body))
    except FormatError:
        found = None
    assert found == expected
    try:
        terms = read_entry(bytes(body))
    except FormatError:
        terms = None
    assert terms == (None if expected is None else said(expected))


def said(entry: LedgerEntry) -> object:
    """What is left of an entry for a reader of thousands."""
    if isinstance(entry, Charge):
        return ChargeTerms(entry.campaign, entry.approval, entry.micro_epsilon)
    return SealTerms(entry.charge, entry.record) if isinstance(entry, Seal) else entry


def test_a_reader_of_thousands_reads_every_kind_of_entry() -> None:
    assert [read_entry(body) for body in BODIES] == [said(entry) for entry in ENTRIES]
    assert [read_entry(body).kind for body in BODIES] == [entry.kind for entry in ENTRIES]


@pytest.mark.parametrize(
    "body",
    [
        charge_body("b" * 64, "a" * 64, MAX_INTEGER + 1, 1),
        charge_body("b" * 64, "a" * 64, 1, MAX_MICRO_EPSILON + 1),
        seal_body(MAX_INTEGER + 1, "a" * 64),
    ],
    ids=["approval", "loss", "charge"],
)
def test_numbers_beyond_their_range_are_refused_on_the_short_way_too(body: bytes) -> None:
    with pytest.raises(FormatError, match="that this version can read"):
        parse_entry(body)
    with pytest.raises(FormatError, match="that this version can read"):
        read_entry(body)


def test_a_head_is_the_hash_of_label_ledger_place_previous_head_and_body() -> None:
    parts = (b"ldp-glow/entry", bytes.fromhex(LEDGER), (1).to_bytes(8, "big"), bytes(32), BODIES[0])
    message = b"".join(len(part).to_bytes(8, "big") + part for part in parts)
    assert link(LEDGER, 1, ZERO, BODIES[0]) == hashlib.sha256(message).hexdigest() == HEADS[0]


def test_a_walk_can_be_taken_up_at_any_entry() -> None:
    for start in range(1, len(BODIES)):
        assert walk(LEDGER, start + 1, HEADS[start - 1], BODIES[start:]) == HEADS[start:]
    assert walk(LEDGER, 8, HEADS[-1], []) == []


@given(st.data())
def test_one_flipped_bit_changes_every_head_from_there_on(data: st.DataObject) -> None:
    place = data.draw(st.integers(0, len(BODIES) - 1))
    bit = data.draw(st.integers(0, 8 * len(BODIES[place]) - 1))
    broken = bytearray(BODIES[place])
    broken[bit // 8] ^= 1 << bit % 8
    heads = walk(LEDGER, 1, ZERO, [*BODIES[:place], bytes(broken), *BODIES[place + 1 :]])
    assert heads[:place] == HEADS[:place]
    assert not set(heads[place:]) & set(HEADS)


def test_leaving_out_exchanging_or_doubling_an_entry_changes_the_head() -> None:
    others = [
        [*BODIES[:3], *BODIES[4:]],
        [*BODIES[:3], BODIES[4], BODIES[3], *BODIES[5:]],
        [*BODIES[:4], *BODIES[3:]],
    ]
    for bodies in others:
        assert HEADS[-1] not in walk(LEDGER, 1, ZERO, bodies)
    assert HEADS[-1] not in walk(OTHER_LEDGER, 1, ZERO, BODIES)
    assert HEADS[-1] not in walk(LEDGER, 2, ZERO, BODIES)


def test_an_entry_has_a_size() -> None:
    body = entry_body(PolicyEntry(envelope=b"x" * MAX_ENTRY_BYTES))
    with pytest.raises(FormatError, match=f"at most {MAX_ENTRY_BYTES} bytes; found {len(body)}"):
        parse_entry(body)


# --- subjects


def test_two_charges_of_one_unit_share_nothing() -> None:
    salts = [bytes([number]) * 32 for number in range(50)]
    assert len({subject_commitment(b"unit", salt) for salt in salts}) == 50


def test_a_commitment_opens_to_its_unit_and_salt_and_to_no_other_split_of_the_bytes() -> None:
    commitment = subject_commitment(b"unit", b"s" * 32)
    assert commitment == subject_commitment(b"unit", b"s" * 32)
    assert commitment != subject_commitment(b"units", b"s" * 31)
    assert commitment != subject_commitment(b"uni", b"t" + b"s" * 32)
