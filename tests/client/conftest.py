"""A real site on disk, a real centre's keys, real phantoms; only the encoder is a small stand-in, passed as an argument."""

from __future__ import annotations

import datetime
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from ldp_client import desk
from ldp_client.agent import Agent
from ldp_client.imaging.dataset import write_dataset
from ldp_client.imaging.phantoms import phantoms
from ldp_client.privacy.spec import joint_laplace
from ldp_client.site import Site, create_site, data_set, open_site
from ldp_client.wire.campaign import Approval, Campaign, Plan, Policy, campaign_id, plan_id, policy_id
from ldp_client.wire.canonical import canonical_bytes
from ldp_client.wire.document import Document
from ldp_client.wire.envelope import APPROVAL, CAMPAIGN, GRANT, POLICY, WITNESS, close_envelope
from ldp_client.wire.exchange import CentreCard, Grant, Witness
from ldp_client.wire.signing import SealingKey, SigningKey

TODAY = datetime.date(2030, 1, 15)
LABELS = ("normal", "pneumonia")


class MeanEncoder:
    """Two numbers for each X-ray: mean and spread of its pixels. Stands in where GLOW itself is not the matter."""

    digest = "e" * 64
    dimension = 2
    size = content = 28

    def prepare(self, pixels: NDArray[np.uint8], *, inverted: bool, window: object, bits: int) -> torch.Tensor:
        return torch.from_numpy(pixels.astype(np.float32) / 255)[None]

    def encode(self, images: torch.Tensor) -> NDArray[np.float64]:
        flat = images.reshape(len(images), -1).double().numpy()
        return np.stack([flat.mean(axis=1) - 0.5, flat.std(axis=1) - 0.2], axis=1) * 8


@dataclass
class World:
    """One site, its officer, and the keys of its centre."""

    folder: Path
    site: Site
    officer: SigningKey
    centre: SigningKey
    sealing: SealingKey
    campaign: Campaign

    def offer(self, *documents: Document) -> None:
        """What the courier would lay into the inbox, besides the campaign."""
        body = close_envelope(CAMPAIGN, canonical_bytes(self.campaign), self.centre)
        self.site.inbox.mirror([Document("campaign", body), *documents])

    def approve(self) -> None:
        """The officer's part."""
        policy = self.site.ledger.policy()
        assert policy is not None
        plan = Plan(
            campaign=campaign_id(self.campaign),
            policy=policy_id(policy[1]),
            unit="image",
            records=0,
            units=0,
            units_at_cap=0,
            units_without_budget=0,
            quarantined=0,
            micro_epsilon_per_record=1,
            bound_micro_epsilon_per_unit=1,
        )
        genesis = self.site.ledger.genesis
        approval = Approval(
            site=genesis.site,
            ledger_id=genesis.ledger_id,
            campaign=campaign_id(self.campaign),
            policy=policy_id(policy[1]),
            plan=plan_id(plan),
            expires="2030-12-31",
        )
        envelope = close_envelope(APPROVAL, canonical_bytes(approval), self.officer)
        self.site.ledger.file_approval(envelope, self.campaign)

    def witness(self, nonce: str, sequence: int = 1, head: str | None = None, ledger_id: str | None = None) -> Document:
        """The centre's answer to a nonce."""
        genesis = self.site.ledger.genesis
        known = Witness(
            nonce=nonce,
            site=genesis.site,
            ledger_id=ledger_id or genesis.ledger_id,
            sequence=sequence,
            head=head or self.site.ledger.head_at(sequence) or "0" * 64,
        )
        return Document("witness", close_envelope(WITNESS, canonical_bytes(known), self.centre))

    def grant(self, header: str) -> Document:
        """The centre's leave for one header."""
        genesis = self.site.ledger.genesis
        grant = Grant(site=genesis.site, ledger_id=genesis.ledger_id, header=header)
        return Document("grant", close_envelope(GRANT, canonical_bytes(grant), self.centre))

    def agent(self, **changes: object) -> Agent:
        """An agent with the stand-in encoder and a fixed clock."""
        return Agent(self.site, encoder=MeanEncoder(), today=lambda: TODAY, **changes)  # type: ignore[arg-type]

    def reopen(self) -> None:
        """As after a restart of the machine."""
        self.site.close()
        self.site = open_site(self.folder)


def make_campaign(**changes: object) -> Campaign:
    """A campaign like the demo's, ending in 2030."""
    release = joint_laplace(epsilon=2, classes=2, bottleneck_dimension=2, radius=1)
    fields: dict[str, object] = {
        "name": "pneumonia",
        "purpose": "test",
        "encoder": MeanEncoder.digest,
        "release": release,
        "label_names": LABELS,
        "unit": "image",
        "cap": 1,
        "micro_epsilon_per_record": release.loss.micro_epsilon,
        "ends": "2030-12-31",
    }
    return Campaign(**(fields | changes))  # type: ignore[arg-type]


def make_policy(**changes: object) -> Policy:
    """A policy that allows `make_campaign`."""
    fields: dict[str, object] = {
        "site": "north",
        "serial": 1,
        "encoders": (MeanEncoder.digest,),
        "units": ("patient", "image"),
        "lifetime_micro_epsilon": 8_000_000,
    }
    return Policy(**(fields | changes))  # type: ignore[arg-type]


def make_world(folder: Path, count: int = 30) -> World:
    """A new site with phantoms, a pinned centre and a policy in force."""
    officer, centre, sealing = SigningKey(b"o" * 32), SigningKey(b"c" * 32), SealingKey(b"s" * 32)
    folder.mkdir(parents=True, exist_ok=True)
    site = create_site(folder, "north", "North Hospital", (officer.public_key,))
    site.outbox.create()
    site.inbox.create()
    card = CentreCard(name="Centre", signing_key=centre.public_key.hex(), sealing_key=sealing.public_key.hex())
    (folder / "centre.json").write_bytes(canonical_bytes(card))
    images, labels = phantoms(count, 28, seed=1, pneumonia_share=0.5)
    write_dataset(folder / "xrays", images, labels, LABELS)
    site.ledger.file_policy(close_envelope(POLICY, canonical_bytes(make_policy()), officer))
    return World(folder, site, officer, centre, sealing, make_campaign())


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    """A fresh site."""
    made = make_world(tmp_path / "north")
    yield made
    made.site.close()


__all__ = ["TODAY", "World", "data_set", "desk", "make_campaign", "make_policy", "make_world"]
