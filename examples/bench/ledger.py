"""The ledgers' figures: how fast what is spent becomes durable."""

from __future__ import annotations

import statistics
import tempfile
from datetime import date
from functools import partial
from pathlib import Path

from examples.bench.one_site import approved_site
from examples.bench.rows import ROUNDS, Row, row, seconds
from ldp_client.ledger.store import ChargeRequest, OpenCharge
from ldp_client.privacy.noise import SystemSource

ENTRIES = 20_000
BEFORE = 80_000
"""Entries that the ledger holds already: its speed must not depend on its age."""


def charge_and_seal() -> Row:
    """Charged and sealed entries a second in durable batches of 100, against a fixed figure."""
    day = date.today().isoformat()
    with tempfile.TemporaryDirectory() as folder, approved_site(Path(folder), 1) as (site, campaign):
        source = SystemSource()

        def keys() -> list[tuple[bytes, bytes]]:
            return [(source(32), source(32)) for _ in range(ENTRIES // 2)]

        def work(units_and_xrays: list[tuple[bytes, bytes]]) -> None:
            for start in range(0, len(units_and_xrays), 100):
                part = units_and_xrays[start : start + 100]
                requests = [ChargeRequest(unit, xray, source(32)) for unit, xray in part]
                charges = site.ledger.charge(campaign, requests, day)
                site.ledger.seal([(charge, b"x" * 26) for charge in charges if isinstance(charge, OpenCharge)], day)

        for _ in range(BEFORE // ENTRIES):
            work(keys())
        rounds = [keys() for _ in range(ROUNDS)]
        taken = statistics.median(seconds(partial(work, part)) for part in rounds)
    return row("charge and seal", 100, "entries/s", ENTRIES / taken, 20_000.0, 1.0)


def rows() -> list[Row]:
    """Every figure of this suite."""
    return [charge_and_seal()]
