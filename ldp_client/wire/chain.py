"""Ledger entries and the hash chain that makes them insert-only in fact, not by promise.

    h(0) = 32 zero bytes,   h(n) = SHA-256(label, ledger id, n, h(n-1), body of entry n)

Entries carry no time: the order of a ledger says nothing about a working day.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated, Literal

from pydantic import Field, StringConstraints

from ldp_client.wire.canonical import Digest, MicroEpsilon, Position, SiteId, Wire, canonical_bytes, parse, raw_digest

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


class Abandon(Wire):
    """The charge stays spent and no record will come of it."""

    kind: Literal["abandon"] = "abandon"
    charge: Position


LedgerEntry = Genesis | PolicyEntry | ApprovalEntry | Charge | Seal | Abandon


class _AnyEntry(Wire):
    entry: Annotated[LedgerEntry, Field(discriminator="kind")]


def entry_body(entry: LedgerEntry) -> bytes:
    """The canonical bytes that are hashed and kept."""
    return canonical_bytes(_AnyEntry(entry=entry))


def parse_entry(body: bytes) -> LedgerEntry:
    """Read an entry back.

    Raises:
        FormatError: not the canonical bytes of an entry this version knows.
    """
    return parse(_AnyEntry, body, limit=MAX_ENTRY_BYTES).entry


def link(ledger_id: str, sequence: int, previous: str, body: bytes) -> str:
    """The chain's head after one more entry, in hex."""
    return raw_digest(
        "ldp-glow/entry", bytes.fromhex(ledger_id), sequence.to_bytes(8, "big"), bytes.fromhex(previous), body
    ).hex()


def walk(ledger_id: str, first: int, previous: str, bodies: Iterable[bytes]) -> list[str]:
    """The heads after each of several entries that follow `previous`."""
    heads = []
    for sequence, body in enumerate(bodies, start=first):
        previous = link(ledger_id, sequence, previous, body)
        heads.append(previous)
    return heads


def subject_commitment(unit_key: bytes, salt: bytes) -> str:
    """A hiding and binding commitment to a unit: SHA-256 over its key and 32 fresh random bytes.

    Two charges of one unit share nothing that can be compared; the site, which keeps the salts, can open them to its
    own auditor and to nobody else.
    """
    return raw_digest("ldp-glow/subject", unit_key, salt).hex()
