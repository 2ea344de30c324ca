"""A centre and a site that has sealed many records for it: batches that wait for intake."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date
from pathlib import Path

import numpy as np
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from examples.bench.one_site import approved_site
from ldp_client.ledger.store import ChargeRequest, OpenCharge
from ldp_client.privacy.clipping import clip
from ldp_client.privacy.laplace import DiscreteLaplace
from ldp_client.privacy.noise import SystemSource
from ldp_client.privacy.release_spec import JointLaplaceSpec
from ldp_client.site import Site, enrolment
from ldp_client.submission import make_batches
from ldp_client.wire.campaign import Campaign
from ldp_client.wire.document import Document
from ldp_client.wire.record import pack
from server import centre as centres
from server.centre import Centre, open_centre
from server.config import CARD_NAME, initialise

CHUNK = 100
"""X-rays that are charged and sealed together, as the agent does."""


@dataclass(frozen=True)
class Exchange:
    """A centre that has granted every header, and the sealed batches behind them in order."""

    centre: Centre
    site: str
    sealed: list[bytes]


@contextmanager
def waiting_exchange(
    folder: Path, records: int, *, records_per_batch: int = 500, database_url: str | None = None
) -> Iterator[Exchange]:
    """Records drawn by the real mechanism, charged, sealed, batched, announced and granted; none is submitted."""
    centre = open_centre(initialise(folder / "centre", "Bench", database_url=database_url))
    try:
        with approved_site(folder, 1) as (site, campaign):
            (site.folder / "centre.json").write_bytes((folder / "centre" / CARD_NAME).read_bytes())
            release_records(site, campaign, records)
            make_batches(site.ledger, site.signer, site.centre, date.today(), records_per_batch=records_per_batch)
            centres.publish(centre, campaign)
            centres.enrol(centre, enrolment(site, _node_key()))
            headers = site.ledger.unacknowledged(0)
            centre.answer("bench", [Document("header", envelope) for _, envelope in headers])
            sealed = [site.ledger.sealed_batch(header) for header, _ in headers]
        yield Exchange(centre, "bench", [one for one in sealed if one is not None])
    finally:
        centre.close()


def release_records(site: Site, campaign: Campaign, records: int) -> None:
    """Charge, draw and seal so many records of nothing, by the real mechanism."""
    if not isinstance(campaign.release, JointLaplaceSpec):
        raise TypeError(f"the benchmark's site releases vectors; found {campaign.release.kind}")
    source, spec, day = SystemSource(), campaign.release.laplace, date.today().isoformat()
    for start in range(0, records, CHUNK):
        count = min(CHUNK, records - start)
        steps = DiscreteLaplace(spec)(clip(np.zeros((count, spec.dimension), dtype=np.int64), spec.clip), source)
        requests = [ChargeRequest(os.urandom(32), os.urandom(32), os.urandom(32)) for _ in range(count)]
        charges = [charge for charge in site.ledger.charge(campaign, requests, day) if isinstance(charge, OpenCharge)]
        site.ledger.seal(zip(charges, pack(steps), strict=True), day)


def _node_key() -> str:
    key = ec.generate_private_key(ec.SECP384R1()).public_key()
    return key.public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH).decode()
