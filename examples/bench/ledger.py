"""The ledgers' figures: how fast what is spent becomes durable."""

from __future__ import annotations

import statistics
import tempfile
from datetime import date
from pathlib import Path

from examples.bench.one_site import approved_site
from examples.bench.rows import Row, row, seconds
from ldp_client.ledger.store import ChargeRequest, OpenCharge
from ldp_client.privacy.noise import SystemSource

ENTRIES = 20_000


def charge_and_seal() -> Row:
    """Charged and sealed entries a second in durable batches of 100, against a fixed figure."""
    day = date.today().isoformat()
    with tempfile.TemporaryDirectory() as folder, approved_site(Path(folder), 1) as (site, campaign):
        source = SystemSource()

        def work() -> None:
            for _ in range(0, ENTRIES // 2, 100):
                requests = [ChargeRequest(source(32), source(32), source(32)) for _ in range(100)]
                charges = site.ledger.charge(campaign, requests, day)
                site.ledger.seal([(charge, b"x" * 26) for charge in charges if isinstance(charge, OpenCharge)], day)

        work()
        taken = statistics.median(seconds(work) for _ in range(3))
    return row("charge and seal", 100, "entries/s", ENTRIES / taken, 20_000.0, 1.0)


def rows() -> list[Row]:
    """Every figure of this suite."""
    return [charge_and_seal()]
