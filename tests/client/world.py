"""A real site on disk, and what its centre does. Doubles are arguments: the encoder, the clock, the byte source."""

from __future__ import annotations

import datetime
import hashlib
import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path

import numpy as np
import pydicom
import torch
from numpy.typing import NDArray
from pydicom.dataset import FileDataset, FileMetaDataset
from pydicom.uid import UID, ExplicitVRLittleEndian

from ldp_client.agent import Agent
from ldp_client.imaging.phantoms import phantoms
from ldp_client.imaging.png import png_bytes
from ldp_client.privacy.release_design import joint_laplace
from ldp_client.site import Site, create_site, open_site
from ldp_client.wire.campaign import Approval, Campaign, Policy, campaign_id, policy_id
from ldp_client.wire.canonical import canonical_bytes, parse
from ldp_client.wire.document import Document
from ldp_client.wire.envelope import (
    APPROVAL,
    CAMPAIGN,
    EVALUATION,
    GRANT,
    HEADER,
    POLICY,
    RECEIPT,
    STATE,
    WITNESS,
    OneKey,
    close_envelope,
    open_envelope,
)
from ldp_client.wire.evaluation import Asked, Evaluation, asked_id
from ldp_client.wire.exchange import BatchHeader, CentreCard, Grant, Receipt, SiteState, Witness, header_id
from ldp_client.wire.signing import SealingKey, SigningKey

TODAY = datetime.date(2030, 1, 15)
LABELS = ("normal", "pneumonia")
MakeWorld = Callable[..., "World"]
OFFICER, CENTRE, SEALING = SigningKey(b"o" * 32), SigningKey(b"c" * 32), SealingKey(b"s" * 32)
PLAN = hashlib.sha256(b"a plan").hexdigest()


class MeanEncoder:
    """Two numbers for each X-ray: mean and spread of its pixels. Stands in where GLOW itself is not the matter."""

    digest = "e" * 64
    dimension = 2
    size = content = 28

    def prepare(self, pixels: NDArray[np.uint8], *, inverted: bool, window: object, bits: int) -> torch.Tensor:
        return torch.from_numpy(pixels.astype(np.float32) / (2**bits - 1))[None]

    def encode(self, images: torch.Tensor) -> NDArray[np.float64]:
        flat = images.flatten(1).double().numpy()
        return np.stack([flat.mean(axis=1) - 0.5, flat.std(axis=1) - 0.2], axis=1) * 8

    def output(self, source: str, images: torch.Tensor) -> NDArray[np.float64]:
        return self.encode(images) if source == "bottleneck" else images.flatten(1).double().numpy()

    def output_dimension(self, source: str) -> int:
        return self.dimension if source == "bottleneck" else self.size**2


class Stream:
    """A byte source: the same bytes in the same order, for every object of the same name."""

    def __init__(self, name: str = "stream") -> None:
        self._name, self._count = name, 0

    def __call__(self, count: int) -> bytes:
        self._count += 1
        return hashlib.shake_256(f"{self._name} {self._count}".encode()).digest(count)


@dataclass
class World:
    """One site, and what its officer and its centre do. The centre is honest and believes everything."""

    folder: Path
    site: Site
    campaigns: list[Campaign]
    receipts: list[Document] = field(default_factory=list)
    pulled: dict[str, bytes] = field(default_factory=dict)
    evaluations: list[Evaluation] = field(default_factory=list)

    @property
    def campaign(self) -> Campaign:
        return self.campaigns[0]

    @property
    def name(self) -> str:
        """The first campaign's id."""
        return campaign_id(self.campaign)

    # --- the officer

    def approve(self, wanted: Asked | None = None, /, **changes: object) -> int:
        """Sign and file an approval; `changes` make it another than it should be."""
        wanted = wanted or self.campaign
        found = self.site.ledger.policy()
        assert found is not None
        genesis = self.site.ledger.genesis
        fields: dict[str, object] = {
            "site": genesis.site,
            "ledger_id": genesis.ledger_id,
            "campaign": asked_id(wanted),
            "policy": policy_id(found[1]),
            "plan": PLAN,
            "expires": "2030-12-31",
        }
        approval = Approval(**(fields | changes))  # type: ignore[arg-type]
        return self.site.ledger.file_approval(close_envelope(APPROVAL, canonical_bytes(approval), OFFICER), wanted)

    def set_policy(self, **changes: object) -> None:
        """Sign a policy and put it into force."""
        self.site.ledger.file_policy(close_envelope(POLICY, canonical_bytes(make_policy(**changes)), OFFICER))

    # --- the centre, and the courier between

    def offer(self, *documents: Document) -> None:
        """Lay the campaigns, the evaluations and these documents into the inbox, and nothing else."""
        offered = [signed("campaign", one) for one in (*self.campaigns, *self.evaluations)]
        self.site.inbox.mirror([*offered, *documents])

    def witness(self, nonce: str, sequence: int = 1, **changes: object) -> Document:
        """The centre's answer to a nonce: it knows the ledger up to `sequence`."""
        genesis = self.site.ledger.genesis
        fields: dict[str, object] = {
            "nonce": nonce,
            "site": genesis.site,
            "ledger_id": genesis.ledger_id,
            "sequence": sequence,
            "head": self.site.ledger.head_at(sequence) or "0" * 64,
        }
        return signed("witness", Witness(**(fields | changes)))  # type: ignore[arg-type]

    def grant(self, header: str, **changes: object) -> Document:
        """The centre's leave for one header."""
        genesis = self.site.ledger.genesis
        fields: dict[str, object] = {"site": genesis.site, "ledger_id": genesis.ledger_id, "header": header}
        return signed("grant", Grant(**(fields | changes)))  # type: ignore[arg-type]

    def receipt(self, header: BatchHeader, **changes: object) -> Document:
        """The centre has committed the batch of a header."""
        fields: dict[str, object] = {
            "site": header.site,
            "ledger_id": header.ledger_id,
            "first": header.first,
            "sequence": header.last,
            "head": header.head,
            "header": header_id(header),
            "batch_digest": header.sealed_digest,
            "central_sequence": len(self.receipts) + 1,
            "central_head": "c" * 64,
            "refused": (),
        }
        return signed("receipt", Receipt(**(fields | changes)))  # type: ignore[arg-type]

    def state(self) -> SiteState:
        """What the outbox says of the site."""
        (envelope,) = (document.body for document in self.site.outbox.documents() if document.kind == "state")
        return parse(SiteState, open_envelope(envelope, STATE, OneKey("the site", self.site.signer.public_key))[1])

    def headers(self) -> list[BatchHeader]:
        """The headers in the outbox, in the order of their entries."""
        site = OneKey("the site", self.site.signer.public_key)
        headers = [
            parse(BatchHeader, open_envelope(document.body, HEADER, site)[1])
            for document in self.site.outbox.documents()
            if document.kind == "header"
        ]
        return sorted(headers, key=lambda header: header.first)

    def round(self) -> None:
        """One exchange: pull what was granted, acknowledge it, answer the nonce, grant what is announced."""
        state, grants, acknowledged = self.state(), [], 1
        for header in self.headers():
            body = self.site.outbox.batch(header.sealed_digest)
            if body is None:
                grants.append(self.grant(header_id(header)))
            elif header.sealed_digest not in self.pulled:
                self.pulled[header.sealed_digest] = body
                self.receipts.append(self.receipt(header))
        if self.receipts:
            acknowledged = max(self.site.ledger.acknowledged(), 1)
        witnesses = [] if state.nonce is None else [self.witness(state.nonce, acknowledged)]
        self.offer(*self.receipts, *grants, *witnesses)

    # --- the site

    def agent(self, **changes: object) -> Agent:
        """An agent with the stand-in encoder and a fixed clock."""
        fields: dict[str, object] = {"encoder": MeanEncoder(), "today": lambda: TODAY}
        return Agent(self.site, **(fields | changes))  # type: ignore[arg-type]

    def reopen(self) -> None:
        """As after a restart of the machine."""
        self.site.close()
        self.site = open_site(self.folder)

    def release(self, agent: Agent | None = None) -> Agent:
        """Offer, approve, witness: the agent has released when this returns."""
        agent = agent or self.agent()
        self.offer()
        agent.step()
        for one in (*self.campaigns, *self.evaluations):
            self.approve(one)
        agent.step()
        self.round()
        agent.step()
        return agent


def signed(kind: str, document: Asked | Witness | Grant | Receipt, key: SigningKey = CENTRE) -> Document:
    """A document in the centre's envelope."""
    types = {"campaign": CAMPAIGN, "witness": WITNESS, "grant": GRANT, "receipt": RECEIPT}
    payload_type = EVALUATION if isinstance(document, Evaluation) else types[kind]
    return Document(kind, close_envelope(payload_type, canonical_bytes(document), key))


def make_campaign(**changes: object) -> Campaign:
    """A campaign like the demo's, ending in 2030."""
    epsilon = changes.pop("epsilon", 2)
    release = joint_laplace(epsilon=epsilon, classes=2, bottleneck_dimension=2, radius=1)  # type: ignore[arg-type]
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


@lru_cache
def pictures(count: int, seed: int = 1) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Phantoms and their labels, drawn once."""
    return phantoms(count, 28, seed=seed, pneumonia_share=0.5)


def write_xrays(
    folder: Path,
    images: NDArray[np.uint8],
    labels: Sequence[int] | NDArray[np.uint8],
    names: Sequence[str],
    patients: Sequence[str] | None = None,
) -> None:
    """A hospital's folder of PNG files under these names, with its labels file."""
    folder.mkdir(parents=True)
    rows = ["file,label" if patients is None else "file,label,patient"]
    for index, name in enumerate(names):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(png_bytes(images[index]))
        row = f"{name},{LABELS[int(labels[index])]}"
        rows.append(row if patients is None else f"{row},{patients[index]}")
    (folder / "labels.csv").write_text("\n".join(rows) + "\n", encoding="utf-8")


def make_site(folder: Path) -> Site:
    """A new site with a pinned centre, and neither X-rays nor policy."""
    folder.mkdir(parents=True, exist_ok=True)
    site = create_site(folder, "north", "North Hospital", (OFFICER.public_key,))
    site.create_spool()
    card = CentreCard(name="Centre", signing_key=CENTRE.public_key.hex(), sealing_key=SEALING.public_key.hex())
    (folder / "centre.json").write_bytes(canonical_bytes(card))
    return site


def make_world(
    folder: Path, *campaigns: Campaign, count: int = 30, patients: Sequence[str] | None = None, **policy: object
) -> World:
    """A new site with phantoms, a pinned centre and a policy in force."""
    world = World(folder, make_site(folder), list(campaigns) or [make_campaign()])
    images, labels = pictures(count)
    names = [f"{index:03}.png" for index in range(count)]
    write_xrays(folder / "xrays", images, labels, names, patients)
    world.set_policy(**policy)
    return world


def configure(world: World, **release: int) -> None:
    """Write [release] keys into agent.toml and open the site again."""
    lines = "".join(f"{key} = {value}\n" for key, value in release.items())
    file = world.folder / "agent.toml"
    file.write_text(file.read_text() + "\n[release]\n" + lines)
    world.reopen()


def dicom_bytes(image: NDArray[np.uint8], patient: str, **tags: str) -> bytes:
    """A chest radiograph as a DICOM file of this patient; `tags` are further keywords."""
    meta = FileMetaDataset()
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    meta.MediaStorageSOPClassUID = UID("1.2.840.10008.5.1.4.1.1.1.1")
    meta.MediaStorageSOPInstanceUID = UID("1.2.3")
    dataset = FileDataset("", {}, file_meta=meta, preamble=b"\0" * 128)
    dataset.SOPClassUID, dataset.SOPInstanceUID = meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID
    dataset.Modality, dataset.BodyPartExamined, dataset.ViewPosition = "DX", "CHEST", "PA"
    dataset.PatientID = patient
    dataset.SamplesPerPixel, dataset.PhotometricInterpretation = 1, "MONOCHROME2"
    dataset.Rows, dataset.Columns = image.shape
    dataset.BitsAllocated = dataset.BitsStored = 8
    dataset.HighBit, dataset.PixelRepresentation = 7, 0
    dataset.add_new("PixelData", "OB", image.tobytes())
    for keyword, value in tags.items():
        setattr(dataset, keyword, value)
    written = io.BytesIO()
    pydicom.dcmwrite(written, dataset, enforce_file_format=True)
    return written.getvalue()
