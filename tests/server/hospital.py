"""A site in memory: real keys, a real chain, really noised records, really sealed batches."""

from __future__ import annotations

import os
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from ldp_client.privacy.drawing import draw, prepare
from ldp_client.privacy.histogram import Histogram, count, histogram
from ldp_client.privacy.noise import SystemSource
from ldp_client.privacy.release_design import joint_laplace
from ldp_client.wire.answer import pack_answer
from ldp_client.wire.campaign import Approval, Campaign, Policy, campaign_id, policy_id
from ldp_client.wire.canonical import canonical_bytes
from ldp_client.wire.chain import (
    ZERO,
    ApprovalEntry,
    Charge,
    Genesis,
    LedgerEntry,
    PolicyEntry,
    Query,
    Seal,
    entry_body,
    link,
)
from ldp_client.wire.document import Document
from ldp_client.wire.envelope import APPROVAL, BATCH, ENROLMENT, HEADER, POLICY, STATE, close_envelope
from ldp_client.wire.evaluation import Asked, Evaluation, asked_id
from ldp_client.wire.exchange import (
    Batch,
    BatchHeader,
    CampaignAnswer,
    CampaignCode,
    Enrolment,
    Payload,
    SiteCode,
    SiteState,
    sealed_digest,
)
from ldp_client.wire.record import codebook_seed, pack, record_digest
from ldp_client.wire.signing import SigningKey, seal

ENCODER = "e" * 64
TODAY = "2030-01-15"


def a_campaign(name: str = "pneumonia", **changes: Any) -> Campaign:
    """Epsilon 2 per record, two records per patient: epsilon 4 per patient."""
    release = changes.pop("release", joint_laplace(epsilon=2, classes=2, bottleneck_dimension=2, radius=1))
    given = {
        "name": name,
        "purpose": "find pneumonia",
        "encoder": ENCODER,
        "release": release,
        "label_names": ("normal", "pneumonia"),
        "unit": "patient",
        "cap": 2,
        "micro_epsilon_per_record": release.loss.micro_epsilon,
        "ends": "2030-12-31",
    }
    return Campaign(**{**given, **changes})


def an_evaluation(name: str = "held-out", **changes: Any) -> Evaluation:
    """Epsilon 1 of each patient of the set, once; two X-rays of each at most; four bins."""
    spec = changes.pop("histogram", histogram(epsilon=1, classes=2, bins=4, cap=2))
    given = {
        "name": name,
        "purpose": "how well it does",
        "encoder": ENCODER,
        "classifier": b"a card",
        "label_names": ("normal", "pneumonia"),
        "histogram": spec,
        "edges": ("-1", "0", "1"),
        "unit": "patient",
        "cap": 2,
        "micro_epsilon_per_unit": spec.loss.micro_epsilon,
        "ends": "2030-12-31",
    }
    return Evaluation(**{**given, **changes})


def noised(campaign: Asked, site: str = "st-anne", charge: int = 4) -> bytes:
    """The record of one drawn X-ray, or the answer to an evaluation of three of them."""
    if isinstance(campaign, Evaluation):
        counts = count(campaign.histogram, ["a", "a", "b"], np.array([0, 0, 1]), np.array([1, 2, 3]))
        return pack_answer(Histogram(campaign.histogram)(counts, SystemSource()))
    spec = campaign.release
    outputs = np.random.default_rng(3).normal(size=(1, spec.input_dimension))
    seed = codebook_seed(campaign_id(campaign), site, charge)
    return pack(draw(spec, prepare(spec, outputs, np.array([1])), [seed], SystemSource()))[0]


@dataclass
class Sent:
    """A batch ready to leave, and the signed header that announces it."""

    header: BatchHeader
    announcement: bytes
    sealed: bytes


@dataclass
class Hospital:
    """A site that keeps its chain in a list. `sealing_key` is the centre's."""

    site: str
    sealing_key: bytes
    signer: SigningKey = field(default_factory=lambda: SigningKey(os.urandom(32)))
    officer: SigningKey = field(default_factory=lambda: SigningKey(os.urandom(32)))
    node: ec.EllipticCurvePrivateKey = field(default_factory=lambda: ec.generate_private_key(ec.SECP384R1()))
    ledger_id: str = field(default_factory=lambda: os.urandom(32).hex())
    bodies: list[bytes] = field(default_factory=list)
    heads: list[str] = field(default_factory=lambda: [ZERO])
    payloads: list[Payload] = field(default_factory=list)
    sent: int = 1

    def __post_init__(self) -> None:
        if not self.bodies:
            self.append(self.genesis)

    @property
    def genesis(self) -> Genesis:
        return Genesis(
            site=self.site,
            ledger_id=self.ledger_id,
            signing_key=self.signer.public_key.hex(),
            officer_keys=(self.officer.public_key.hex(),),
            secret_commitment="5" * 64,
        )

    @property
    def node_key_ssh(self) -> str:
        return self.node.public_key().public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH).decode() + " node@hospital"

    @property
    def node_key_pem(self) -> str:
        return self.node.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()

    @property
    def sequence(self) -> int:
        return len(self.bodies)

    def copy(self) -> Hospital:
        """What somebody has who copied the disk."""
        return replace(self, bodies=list(self.bodies), heads=list(self.heads), payloads=list(self.payloads))

    def enrolment(self, signer: SigningKey | None = None, **changes: Any) -> bytes:
        given = {"site": self.site, "name": "St. Anne", "genesis": self.genesis, "node_key": self.node_key_ssh}
        return close_envelope(ENROLMENT, canonical_bytes(Enrolment(**{**given, **changes})), signer or self.signer)

    # --- the chain

    def append(self, entry: LedgerEntry) -> int:
        body = entry_body(entry)
        self.heads.append(link(self.ledger_id, len(self.bodies) + 1, self.heads[-1], body))
        self.bodies.append(body)
        return len(self.bodies)

    def adopt(self, serial: int = 1, *, signer: SigningKey | None = None, **changes: Any) -> Policy:
        """Put a policy into the chain: lifetime epsilon 10 per patient."""
        given = {"site": self.site, "serial": serial, "encoders": (ENCODER,), "lifetime_micro_epsilon": 10_000_000}
        policy = Policy(**{**given, **changes})
        envelope = close_envelope(POLICY, canonical_bytes(policy), signer or self.officer)
        self.append(PolicyEntry(envelope=envelope))
        return policy

    def approve(self, campaign: Asked, policy: Policy, /, signer: SigningKey | None = None, **changes: Any) -> int:
        given = {
            "site": self.site,
            "ledger_id": self.ledger_id,
            "campaign": asked_id(campaign),
            "policy": policy_id(policy),
            "plan": "1" * 64,
            "expires": "2030-06-30",
        }
        approval = Approval(**{**given, **changes})
        envelope = close_envelope(APPROVAL, canonical_bytes(approval), signer or self.officer)
        return self.append(ApprovalEntry(envelope=envelope))

    def charge(self, campaign: Asked, approval: int, micro_epsilon: int | None = None) -> int:
        cost = campaign.micro_epsilon_per_record if isinstance(campaign, Campaign) else 1_000_000
        return self.append(
            Charge(
                subject=os.urandom(32).hex(),
                campaign=asked_id(campaign),
                approval=approval,
                micro_epsilon=micro_epsilon or cost,
            )
        )

    def query(self, evaluation: Asked, approval: int, micro_epsilon: int = 1_000_000) -> int:
        return self.append(
            Query(
                subjects=os.urandom(32).hex(),
                campaign=asked_id(evaluation),
                approval=approval,
                micro_epsilon=micro_epsilon,
            )
        )

    def seal(self, campaign: Asked, charge: int, payload: bytes | None = None) -> int:
        record = noised(campaign, self.site, charge) if payload is None else payload
        sequence = self.append(Seal(charge=charge, record=record_digest(asked_id(campaign), charge, record)))
        self.payloads.append(Payload(seal=sequence, record=record))
        return sequence

    def release(self, campaign: Campaign, approval: int, records: int) -> list[int]:
        charges = [self.charge(campaign, approval) for _ in range(records)]
        return [self.seal(campaign, charge) for charge in charges]

    # --- what leaves

    def batch(self, **changes: Any) -> Batch:
        """Everything since the last batch."""
        given = {
            "site": self.site,
            "ledger_id": self.ledger_id,
            "first": self.sent + 1,
            "previous_head": self.heads[self.sent],
            "entries": tuple(self.bodies[self.sent :]),
            "payloads": tuple(self.payloads),
        }
        return Batch(**{**given, **changes})

    def pack_up(self, batch: Batch | None = None, **changes: Any) -> Sent:
        """Sign, seal and announce; `changes` go into the header. The next batch begins after this one."""
        batch = self.batch() if batch is None else batch
        sealed = seal(close_envelope(BATCH, canonical_bytes(batch), self.signer), self.sealing_key)
        given = {
            "site": self.site,
            "ledger_id": self.ledger_id,
            "first": batch.first,
            "last": batch.first + len(batch.entries) - 1,
            "previous_head": batch.previous_head,
            "head": self.heads[-1],
            "records": len(batch.payloads),
            "sealed_digest": sealed_digest(sealed),
            "sealed_bytes": len(sealed),
            "day": TODAY,
        }
        header = BatchHeader(**{**given, **changes})
        self.sent, self.payloads = self.sequence, []
        return Sent(header, close_envelope(HEADER, canonical_bytes(header), self.signer), sealed)

    def state(self, answered: dict[Asked, CampaignCode] | None = None, /, **changes: Any) -> Document:
        answers = tuple(CampaignAnswer(campaign=asked_id(c), code=code) for c, code in (answered or {}).items())
        given = {
            "site": self.site,
            "ledger_id": self.ledger_id,
            "sequence": self.sequence,
            "head": self.heads[-1],
            "acknowledged": 1,
            "code": SiteCode.READY,
            "nonce": None,
            "campaigns": answers,
        }
        state = SiteState(**{**given, **changes})
        return Document("state", close_envelope(STATE, canonical_bytes(state), self.signer))
