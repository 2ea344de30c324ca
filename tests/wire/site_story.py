"""A site's ledger told entry by entry, with real keys and envelopes, for tests that need one."""

from __future__ import annotations

import hashlib

from ldp_client.privacy.release_design import joint_laplace
from ldp_client.wire.campaign import Approval, Campaign, Policy, campaign_id, policy_id
from ldp_client.wire.canonical import canonical_bytes
from ldp_client.wire.chain import (
    ZERO,
    ApprovalEntry,
    Charge,
    Genesis,
    LedgerEntry,
    PolicyEntry,
    Seal,
    entry_body,
    link,
)
from ldp_client.wire.envelope import APPROVAL, POLICY, close_envelope
from ldp_client.wire.history import SiteHistory
from ldp_client.wire.signing import SigningKey

SITE, OFFICER, STRANGER = (SigningKey(bytes([number]) * 32) for number in (11, 12, 13))
LEDGER, OTHER_LEDGER = (hashlib.sha256(name).hexdigest() for name in (b"one ledger", b"another"))
ENCODER = hashlib.sha256(b"encoder").hexdigest()


def campaign(**changes: object) -> Campaign:
    """Epsilon 2 per record, two records per patient."""
    fields: dict[str, object] = {
        "name": "pneumonia",
        "purpose": "Pneumonia",
        "encoder": ENCODER,
        "release": joint_laplace(epsilon=2, classes=2, bottleneck_dimension=2, radius=1),
        "label_names": ("normal", "pneumonia"),
        "unit": "patient",
        "cap": 2,
        "micro_epsilon_per_record": 2_000_000,
        "ends": "2026-12-31",
    }
    return Campaign(**{**fields, **changes})  # type: ignore[arg-type]


def policy(**changes: object) -> Policy:
    """A lifetime of epsilon 5: room for one campaign."""
    fields: dict[str, object] = {
        "site": "site-a",
        "serial": 1,
        "encoders": (ENCODER,),
        "lifetime_micro_epsilon": 5_000_000,
    }
    return Policy(**{**fields, **changes})  # type: ignore[arg-type]


def approval(of: Campaign, under: Policy, **changes: object) -> Approval:
    fields: dict[str, object] = {
        "site": "site-a",
        "ledger_id": LEDGER,
        "campaign": campaign_id(of),
        "policy": policy_id(under),
        "plan": "0" * 64,
        "expires": "2026-12-31",
    }
    return Approval(**{**fields, **changes})  # type: ignore[arg-type]


def genesis(**changes: object) -> Genesis:
    fields: dict[str, object] = {
        "site": "site-a",
        "ledger_id": LEDGER,
        "signing_key": SITE.public_key.hex(),
        "officer_keys": (OFFICER.public_key.hex(),),
        "secret_commitment": "5" * 64,
    }
    return Genesis(**{**fields, **changes})  # type: ignore[arg-type]


def signed_policy(document: Policy, by: SigningKey = OFFICER) -> PolicyEntry:
    return PolicyEntry(envelope=close_envelope(POLICY, canonical_bytes(document), by))


def signed_approval(document: Approval, by: SigningKey = OFFICER) -> ApprovalEntry:
    return ApprovalEntry(envelope=close_envelope(APPROVAL, canonical_bytes(document), by))


def charge(of: Campaign, cites: int, micro_epsilon: int = 2_000_000) -> Charge:
    return Charge(subject="7" * 64, campaign=campaign_id(of), approval=cites, micro_epsilon=micro_epsilon)


def seal(of: int) -> Seal:
    return Seal(charge=of, record="8" * 64)


def beginning() -> list[LedgerEntry]:
    """Entries 1 to 3: genesis, policy, approval. A charge may follow as entry 4 and cite entry 3."""
    return [genesis(), signed_policy(policy()), signed_approval(approval(campaign(), policy()))]


def read(entries: list[LedgerEntry], *, strict: bool, known: tuple[Campaign, ...] | None = None) -> SiteHistory:
    """Chain the entries and read them."""
    campaigns = (campaign(),) if known is None else known
    history = SiteHistory("site-a", LEDGER, {campaign_id(one): one for one in campaigns}, strict=strict)
    head = ZERO
    for sequence, entry in enumerate(entries, 1):
        body = entry_body(entry)
        head = link(LEDGER, sequence, head, body)
        history.add(sequence, body, head)
    return history
