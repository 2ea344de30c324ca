"""What a site and the centre say to each other. Every document travels in a signed envelope."""

from __future__ import annotations

import hashlib
from enum import StrEnum
from typing import Annotated, ClassVar, Literal

from pydantic import StringConstraints

from ldp_client.wire.campaign import Day
from ldp_client.wire.canonical import Count, Digest, PlainText, Position, SiteId, Wire, canonical_bytes, digest
from ldp_client.wire.chain import Genesis, PublicKey

Nonce = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]


class SiteCode(StrEnum):
    """All that a site ever says about itself: no reason in words, no count."""

    READY = "ready"
    NEEDS_WITNESS = "needs_witness"
    SENDING = "sending"
    CLONE = "clone"
    ROLLBACK = "rollback"


class CampaignCode(StrEnum):
    """All that a site ever says about a campaign."""

    OFFERED = "offered"
    APPROVED = "approved"
    REFUSED = "refused"
    COMPLETE = "complete"


class RefusalCode(StrEnum):
    """Why a record was not stored. The charge behind it stays counted: it was authentic."""

    UNKNOWN_CAMPAIGN = "unknown_campaign"
    NOT_APPROVED = "not_approved"
    EXPIRED = "expired"
    LOSS_MISMATCH = "loss_mismatch"
    CONTENTS = "contents"
    RECORD_DIGEST = "record_digest"
    NO_CHARGE = "no_charge"
    BUDGET = "budget_exceeded"
    REPEATED = "repeated"


class IncidentCode(StrEnum):
    """Why a submission left nothing but a row among the incidents."""

    SEAL = "seal"
    SIGNATURE = "signature"
    PARSE = "parse"
    SIGNER = "signer"
    DIGEST = "digest"
    NOT_GRANTED = "not_granted"
    OUT_OF_ORDER = "out_of_order"
    CHAIN = "chain"
    FORK = "fork"
    CLONE = "clone"
    ROLLBACK = "rollback"


class Enrolment(Wire):
    """How a site introduces itself to a centre, out of band, signed by its own key."""

    schema_version: Literal[1] = 1
    site: SiteId
    name: Annotated[PlainText, StringConstraints(min_length=1, max_length=100)]
    genesis: Genesis
    node_key: Annotated[str, StringConstraints(max_length=1000)]


class CentreCard(Wire):
    """What a site pins of its centre when it is installed."""

    schema_version: Literal[1] = 1
    name: Annotated[PlainText, StringConstraints(min_length=1, max_length=100)]
    signing_key: PublicKey
    sealing_key: PublicKey


class CampaignAnswer(Wire):
    """One campaign, one code."""

    campaign: Digest
    code: CampaignCode


class SiteState(Wire):
    """Where the site's ledger stands, which receipt it has filed, and, when it wants to release, a nonce to witness."""

    schema_version: Literal[1] = 1
    site: SiteId
    ledger_id: Digest
    sequence: Position
    head: Digest
    acknowledged: Count
    code: SiteCode
    nonce: Nonce | None
    campaigns: tuple[CampaignAnswer, ...]


class Witness(Wire):
    """The centre's answer to a nonce: this is as far as I know your ledger."""

    schema_version: Literal[1] = 1
    nonce: Nonce
    site: SiteId
    ledger_id: Digest
    sequence: Position
    head: Digest


class BatchHeader(Wire):
    """What a site is about to send: entries first..last, which continue `previous_head` and end at `head`."""

    schema_version: Literal[1] = 1
    site: SiteId
    ledger_id: Digest
    first: Position
    last: Position
    previous_head: Digest
    head: Digest
    records: Count
    sealed_digest: Digest
    sealed_bytes: Position
    day: Day


def header_id(header: BatchHeader) -> str:
    """The header's digest, which a grant cites."""
    return digest("ldp-glow/header", canonical_bytes(header))


def sealed_digest(sealed: bytes) -> str:
    """SHA-256 of a batch's sealed bytes: its name in headers and receipts, and of its file in the spool."""
    return hashlib.sha256(sealed).hexdigest()


class Payload(Wire):
    """The record that a Seal entry names."""

    # In the order of the alphabet, so that the fast writer writes the canonical bytes.
    record: bytes
    seal: Position


class Batch(Wire):
    """Consecutive ledger entries and the records of the Seals among them. Signed inside, sealed outside."""

    in_order: ClassVar[bool] = True
    entries: tuple[bytes, ...]
    first: Position
    ledger_id: Digest
    payloads: tuple[Payload, ...]
    previous_head: Digest
    schema_version: Literal[1] = 1
    site: SiteId


class Grant(Wire):
    """The centre's leave to send the batch of one header: it continues what the centre has."""

    schema_version: Literal[1] = 1
    site: SiteId
    ledger_id: Digest
    header: Digest


class Refusal(Wire):
    """A Seal whose record was not stored, and the code why."""

    seal: Position
    code: RefusalCode


class Receipt(Wire):
    """The centre has committed a batch: its place in the central ledger, and what became of its records."""

    schema_version: Literal[1] = 1
    site: SiteId
    ledger_id: Digest
    first: Position
    sequence: Position
    head: Digest
    header: Digest
    batch_digest: Digest
    central_sequence: Position
    central_head: Digest
    refused: tuple[Refusal, ...]


class CentralEntry(Wire):
    """One line of the central ledger, chained like a site's (`wire.chain.link`, with the centre's own ledger id).

    kind "enrolment": `site` joined, its genesis head in `head`. kind "campaign": `reference` is the campaign published.
    kind "batch": entries first..sequence of `site` were committed up to `head`; `reference` is the batch digest.
    """

    schema_version: Literal[1] = 1
    kind: Literal["enrolment", "campaign", "batch"]
    site: SiteId | None = None
    ledger_id: Digest | None = None
    first: Count = 0
    sequence: Count = 0
    head: Digest | None = None
    reference: Digest
    refused: tuple[Refusal, ...] = ()


class Checkpoint(Wire):
    """One side's own statement of where its ledger stands, signed for an export."""

    schema_version: Literal[1] = 1
    party: Annotated[PlainText, StringConstraints(max_length=100)]
    ledger_id: Digest
    sequence: Count
    head: Digest
