"""A site's export of any length: real keys, a real chain, headers and receipts, written as the site would write it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from datetime import date
from pathlib import Path
from typing import Any

from examples.bench.one_site import LABELS
from ldp_client.privacy.release_design import joint_laplace
from ldp_client.wire.campaign import Approval, Campaign, Policy, campaign_id, policy_id
from ldp_client.wire.canonical import Wire, canonical_bytes
from ldp_client.wire.chain import (
    ZERO,
    ApprovalEntry,
    Genesis,
    PolicyEntry,
    charge_body,
    entry_body,
    link,
    seal_body,
)
from ldp_client.wire.envelope import APPROVAL, CAMPAIGN, CHECKPOINT, HEADER, POLICY, RECEIPT, close_envelope
from ldp_client.wire.exchange import BatchHeader, Checkpoint, Receipt, header_id
from ldp_client.wire.export_lines import written
from ldp_client.wire.signing import SigningKey

BATCH = 1000
"""Entries of one batch: a header and a receipt for each."""


def write_long_export(path: Path, entries: int) -> None:
    """Write an export of so many entries that verifies."""
    with path.open("wb") as file:
        for fields in _lines(entries):
            file.write(written(**fields))


def _lines(entries: int) -> Iterator[dict[str, Any]]:
    site, officer, centre = (SigningKey(os.urandom(32)) for _ in range(3))
    encoder, ledger_id = os.urandom(32).hex(), os.urandom(32).hex()
    release = joint_laplace(epsilon=2, classes=2, bottleneck_dimension=16, radius=1)
    campaign = Campaign(
        name="bench",
        purpose="measure",
        encoder=encoder,
        release=release,
        label_names=LABELS,
        unit="patient",
        cap=2,
        micro_epsilon_per_record=release.loss.micro_epsilon,
        ends="2099-12-31",
    )
    policy = Policy(site="bench", serial=1, encoders=(encoder,), lifetime_micro_epsilon=8_000_000)
    approval = Approval(
        site="bench",
        ledger_id=ledger_id,
        campaign=campaign_id(campaign),
        policy=policy_id(policy),
        plan="0" * 64,
        expires="2099-12-31",
    )
    genesis = Genesis(
        site="bench",
        ledger_id=ledger_id,
        signing_key=site.public_key.hex(),
        officer_keys=(officer.public_key.hex(),),
        secret_commitment="0" * 64,
    )
    yield {
        "type": "ledger",
        "side": "site",
        "format": 1,
        "site": "bench",
        "ledger_id": ledger_id,
        "signing_key": site.public_key.hex(),
        "centre_signing_key": centre.public_key.hex(),
    }
    yield _document("campaign", close_envelope(CAMPAIGN, canonical_bytes(campaign), centre))
    head, previous, first, signed = ZERO, ZERO, 2, []
    for sequence, body in enumerate(_bodies(genesis, policy, approval, officer, campaign, entries), 1):
        head = link(ledger_id, sequence, head, body)
        yield {"type": "entry", "sequence": sequence, "body": body, "head": head}
        if sequence == 1:
            previous = head
        elif sequence % BATCH == 0 or sequence == entries:
            signed += _exchanged(site, centre, ledger_id, first, sequence, previous, head)
            first, previous = sequence + 1, head
    yield from signed
    checkpoint = Checkpoint(party="bench", ledger_id=ledger_id, sequence=entries, head=head)
    envelope = close_envelope(CHECKPOINT, canonical_bytes(checkpoint), site)
    yield {"type": "checkpoint", "body": envelope}


def _bodies(
    genesis: Genesis, policy: Policy, approval: Approval, officer: SigningKey, campaign: Campaign, entries: int
) -> Iterator[bytes]:
    yield entry_body(genesis)
    yield entry_body(PolicyEntry(envelope=close_envelope(POLICY, canonical_bytes(policy), officer)))
    yield entry_body(ApprovalEntry(envelope=close_envelope(APPROVAL, canonical_bytes(approval), officer)))
    name, cost = campaign_id(campaign), campaign.micro_epsilon_per_record
    for sequence in range(4, entries + 1):
        digest = os.urandom(32).hex()
        # A hundred charges, then their seals, as the agent works.
        at = (sequence - 4) % 200
        yield charge_body(digest, name, 3, cost) if at < 100 else seal_body(sequence - 100, digest)


def _exchanged(
    site: SigningKey, centre: SigningKey, ledger_id: str, first: int, last: int, previous: str, head: str
) -> list[dict[str, Any]]:
    digest = os.urandom(32).hex()
    header = BatchHeader(
        site="bench",
        ledger_id=ledger_id,
        first=first,
        last=last,
        previous_head=previous,
        head=head,
        records=(last - first + 1) // 2,
        sealed_digest=digest,
        sealed_bytes=1,
        day=date.today().isoformat(),
    )
    receipt = Receipt(
        site="bench",
        ledger_id=ledger_id,
        first=first,
        sequence=last,
        head=head,
        header=header_id(header),
        batch_digest=digest,
        central_sequence=first,
        central_head=digest,
        refused=(),
    )
    return [
        _document("header", _signed(HEADER, header, site)),
        _document("receipt", _signed(RECEIPT, receipt, centre)),
    ]


def _signed(kind: str, document: Wire, signer: SigningKey) -> bytes:
    return close_envelope(kind, canonical_bytes(document), signer)


def _document(kind: str, body: bytes) -> dict[str, Any]:
    return {"type": "document", "kind": kind, "body": body}
