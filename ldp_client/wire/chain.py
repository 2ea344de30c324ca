"""Ledger entries and the hash chain that makes them insert-only in fact, not by promise.

    h(0) = 32 zero bytes,   h(n) = SHA-256(label, ledger id, n, h(n-1), body of entry n)

Entries carry no time: the order of a ledger says nothing about a working day.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Collection, Iterable
from functools import lru_cache
from typing import Annotated, Literal, NamedTuple

from pydantic import Field, StringConstraints

from ldp_client.privacy.loss import MAX_MICRO_EPSILON
from ldp_client.wire.canonical import (
    MAX_INTEGER,
    Digest,
    MicroEpsilon,
    Position,
    SiteId,
    Wire,
    canonical_bytes,
    digest,
    framed,
    parse,
)

ZERO = "0" * 64
PublicKey = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]
MAX_ENTRY_BYTES = 1 << 16


class Genesis(Wire):
    """Entry 1: whose ledger it is, who signs for it, and a commitment to the secret that hashes its units."""

    kind: Literal["genesis"] = "genesis"
    schema_version: Literal[1] = 1
    site: SiteId
    ledger_id: Digest
    signing_key: PublicKey
    officer_keys: tuple[PublicKey, ...]
    secret_commitment: Digest


class PolicyEntry(Wire):
    """The site's policy, in the officer's envelope."""

    kind: Literal["policy"] = "policy"
    envelope: bytes


class ApprovalEntry(Wire):
    """The officer's approval of a campaign, in the officer's envelope."""

    kind: Literal["approval"] = "approval"
    envelope: bytes


class Charge(Wire):
    """A unit was charged, before anything was drawn. `subject` is a fresh salted commitment to the unit.

    The campaign's digest fixes the mechanism specs, and with them the loss: an entry repeats only the number.
    """

    kind: Literal["charge"] = "charge"
    subject: Digest
    campaign: Digest
    approval: Position
    micro_epsilon: MicroEpsilon


class Seal(Wire):
    """The charge was used: this record, and no other, was drawn for it."""

    kind: Literal["seal"] = "seal"
    charge: Position
    record: Digest


class Query(Wire):
    """Every unit of the site's evaluation set was charged `micro_epsilon`, before its one histogram was drawn.

    `subjects` commits to the set and hides who is in it and how many: one entry, whatever its size. A Seal or an
    Abandon settles it as it does a charge.
    """

    kind: Literal["query"] = "query"
    subjects: Digest
    campaign: Digest
    approval: Position
    micro_epsilon: MicroEpsilon


class Abandon(Wire):
    """The charge stays spent and no record will come of it."""

    kind: Literal["abandon"] = "abandon"
    charge: Position


class KeyRotation(Wire):
    """A key of the site or of an officer is replaced (`wire.rotation`): the same bytes in three envelopes.

    `by_old` is null where the old key is lost.
    """

    kind: Literal["key_rotation"] = "key_rotation"
    by_officer: bytes
    by_new: bytes
    by_old: bytes | None


LedgerEntry = Genesis | PolicyEntry | ApprovalEntry | Charge | Seal | Abandon | Query | KeyRotation


class EntryBody(Wire):
    """What the chain hashes: one entry, told apart by its kind."""

    entry: Annotated[LedgerEntry, Field(discriminator="kind")]


# Charges and seals are nearly all of a ledger, and each has one shape: they are written and read by it, ten times
# faster than by the general way, which decides about everything that does not have exactly this shape. Tests hold the
# two against each other.
_CHARGE = re.compile(
    rb'\{"entry":\{"approval":([1-9][0-9]{0,18}),"campaign":"([0-9a-f]{64})","kind":"charge",'
    rb'"micro_epsilon":([1-9][0-9]{0,12}),"subject":"([0-9a-f]{64})"\}\}'
)
_SEALS = b'{"entry":{"charge":'
_SEAL = re.compile(rb'\{"entry":\{"charge":([1-9][0-9]{0,18}),"kind":"seal","record":"([0-9a-f]{64})"\}\}')


def charge_body(subject: str, campaign: str, approval: int, micro_epsilon: int) -> bytes:
    """The canonical bytes of a Charge."""
    return (
        f'{{"entry":{{"approval":{approval},"campaign":"{campaign}","kind":"charge",'
        f'"micro_epsilon":{micro_epsilon},"subject":"{subject}"}}}}'
    ).encode()


def seal_body(charge: int, record: str) -> bytes:
    """The canonical bytes of a Seal."""
    return f'{{"entry":{{"charge":{charge},"kind":"seal","record":"{record}"}}}}'.encode()


def entry_body(entry: LedgerEntry) -> bytes:
    """The canonical bytes that are hashed and kept."""
    if isinstance(entry, Charge):
        return charge_body(entry.subject, entry.campaign, entry.approval, entry.micro_epsilon)
    if isinstance(entry, Seal):
        return seal_body(entry.charge, entry.record)
    return canonical_bytes(EntryBody(entry=entry))


def parse_entry(body: bytes) -> LedgerEntry:
    """Read an entry back.

    Raises:
        FormatError: not the canonical bytes of an entry this version knows.
    """
    found = _SEAL.fullmatch(body)
    if found is not None and int(found[1]) <= MAX_INTEGER:
        return Seal(charge=int(found[1]), record=found[2].decode())
    found = _CHARGE.fullmatch(body)
    if found is not None and int(found[1]) <= MAX_INTEGER and int(found[3]) <= MAX_MICRO_EPSILON:
        return Charge(
            subject=found[4].decode(),
            campaign=found[2].decode(),
            approval=int(found[1]),
            micro_epsilon=int(found[3]),
        )
    return parse(EntryBody, body, limit=MAX_ENTRY_BYTES).entry


class ChargeTerms(NamedTuple):
    """What a Charge says to whoever cannot open its subject."""

    campaign: str
    approval: int
    micro_epsilon: int

    @property
    def kind(self) -> Literal["charge"]:
        """As a Charge has it."""
        return "charge"


class SealTerms(NamedTuple):
    """What a Seal says."""

    charge: int
    record: str

    @property
    def kind(self) -> Literal["seal"]:
        """As a Seal has it."""
        return "seal"


_SEAL_OR_CHARGE = re.compile(_SEAL.pattern + rb"|" + _CHARGE.pattern)


Said = ChargeTerms | SealTerms | Genesis | PolicyEntry | ApprovalEntry | Abandon | Query | KeyRotation


def read_entry(body: bytes) -> Said:
    """As `parse_entry`, for a reader of thousands: of a Charge or a Seal, no more than its terms are made.

    Raises:
        FormatError: as `parse_entry`.
    """
    found = _SEAL_OR_CHARGE.fullmatch(body)
    if found is not None:
        sealed, record, approval, campaign, cost, _ = found.groups()
        if sealed is not None:
            charge = int(sealed)
            if charge <= MAX_INTEGER:
                return SealTerms(charge, record.decode())
        elif int(approval) <= MAX_INTEGER and int(cost) <= MAX_MICRO_EPSILON:
            return ChargeTerms(campaign.decode(), int(approval), int(cost))
    entry = parse(EntryBody, body, limit=MAX_ENTRY_BYTES).entry
    if isinstance(entry, Charge):
        return ChargeTerms(entry.campaign, entry.approval, entry.micro_epsilon)
    return SealTerms(entry.charge, entry.record) if isinstance(entry, Seal) else entry


_OF_32 = (32).to_bytes(8, "big")


def charge_terms(body: bytes) -> tuple[str, int, int] | None:
    """(campaign, approval, millionths of epsilon) of a body that has the shape of a Charge; None of any other.

    For a reader of millions, who has accepted the same terms before: an entry is not made.
    """
    found = _CHARGE.fullmatch(body)
    return None if found is None else (found[2].decode(), int(found[1]), int(found[3]))


def sealed_charge(body: bytes) -> int | None:
    """The charge that is used by a body that has the shape of a Seal; None of any other."""
    # A Charge, as every other entry is, is not looked at in full.
    found = _SEAL.fullmatch(body) if body.startswith(_SEALS) else None
    return None if found is None else int(found[1])


@lru_cache(maxsize=64)
def _link_prefix(ledger_id: str) -> bytes:
    """What the hashes of one ledger have in common: label, ledger id, and the length of the number that follows."""
    return framed(b"ldp-glow/entry") + framed(bytes.fromhex(ledger_id)) + (8).to_bytes(8, "big")


def link(ledger_id: str, sequence: int, previous: str, body: bytes) -> str:
    """The chain's head after one more entry, in hex: digest("ldp-glow/entry", ledger id, n, h(n-1), body)."""
    return Chain(ledger_id, previous).add(sequence, body)


def walk(ledger_id: str, first: int, previous: str, bodies: Iterable[bytes]) -> list[str]:
    """The heads after each of several entries that follow `previous`."""
    add = Chain(ledger_id, previous).add
    return [add(sequence, body) for sequence, body in enumerate(bodies, start=first)]


class Chain:
    """The head of a chain, for one who adds many entries: as `link`, without reading back what it has written."""

    __slots__ = ("_head", "_prefix")

    def __init__(self, ledger_id: str, head: str = ZERO) -> None:
        self._prefix, self._head = _link_prefix(ledger_id), bytes.fromhex(head)

    def add(self, sequence: int, body: bytes) -> str:
        """The head after one more entry, in hex."""
        self._head = hashlib.sha256(
            b"".join(
                (self._prefix, sequence.to_bytes(8, "big"), _OF_32, self._head, len(body).to_bytes(8, "big"), body)
            )
        ).digest()
        return self._head.hex()


_SUBJECT = framed(b"ldp-glow/subject")


def subject_commitment(unit_key: bytes, salt: bytes) -> str:
    """A hiding and binding commitment to a unit: SHA-256 over its key and 32 fresh random bytes.

    Two charges of one unit share nothing that can be compared; the site, which keeps the salts, can open them to its
    own auditor and to nobody else.
    """
    return hashlib.sha256(_SUBJECT + framed(unit_key) + framed(salt)).hexdigest()


def subjects_commitment(unit_keys: Collection[bytes], salt: bytes) -> str:
    """A hiding and binding commitment to a set of units: its size is hidden as well, by 32 fresh random bytes."""
    return digest("ldp-glow/subjects", salt, *sorted(unit_keys))
