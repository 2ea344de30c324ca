"""The ledgers' figures: how fast what is spent becomes durable."""

from __future__ import annotations

import multiprocessing
import statistics
import tempfile
import time
from datetime import date
from functools import partial
from pathlib import Path

from examples.bench.gathering import gather_megabytes
from examples.bench.large_centre import large_centre
from examples.bench.long_export import write_long_export
from examples.bench.one_exchange import waiting_exchange
from examples.bench.one_site import approved_site
from examples.bench.rows import ROUNDS, Row, row, seconds
from ldp_client.ledger.store import ChargeRequest, OpenCharge, SiteLedger
from ldp_client.privacy.noise import SystemSource
from ldp_client.verify import verify_export
from ldp_client.wire.campaign import Campaign
from server.store.queries import budgets

ENTRIES = 20_000
BEFORE = 80_000
"""Entries that the ledger holds already: its speed must not depend on its age."""
MILLION = 1_000_000
SITES, QUERIES = 1_000, 200
RECORDS = 25_000
PROCESSES, SHARED_SECONDS = 4, 5.0


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


def four_processes() -> Row:
    """Entries of the slowest of four processes that charge and seal at once, beside those of the fastest."""
    with tempfile.TemporaryDirectory() as folder:
        with approved_site(Path(folder), 1) as (site, campaign):
            state = site.folder
        workers = multiprocessing.get_context("fork")
        with workers.Pool(PROCESSES) as pool:
            pool.map(_nothing, range(PROCESSES), chunksize=1)
            until = time.time() + SHARED_SECONDS
            done = pool.starmap(_charge_until, [(state, campaign, until)] * PROCESSES, chunksize=1)
    return row("charge and seal, slowest of 4", PROCESSES, "batches", min(done), max(done), 0.5)


def _nothing(_: int) -> None:
    """All workers are up when each has done this."""
    time.sleep(1.0)


def _charge_until(state: Path, campaign: Campaign, until: float) -> int:
    """Batches of 100 charged and sealed until a time."""
    source, day, done = SystemSource(), date.today().isoformat(), 0
    with SiteLedger.open(state / "ledger.sqlite3") as ledger:
        while time.time() < until:
            requests = [ChargeRequest(source(32), source(32), source(32)) for _ in range(50)]
            charges = ledger.charge(campaign, requests, day)
            ledger.seal([(charge, b"x" * 26) for charge in charges if isinstance(charge, OpenCharge)], day)
            done += 1
    return done


def verify_million() -> Row:
    """Seconds to verify a site's export of a million entries offline, against a fixed figure."""
    with tempfile.TemporaryDirectory() as folder:
        export = Path(folder) / "export.jsonl"
        write_long_export(export, MILLION)
        taken = statistics.median(seconds(lambda: verify_export(export)) for _ in range(3))
    return row("verify 1M", MILLION, "s", taken, 10.0, 1.0, better="lower")


def budget_query() -> Row:
    """95th percentile of the milliseconds that the budgets of all sites take, over ten million entries."""
    with tempfile.TemporaryDirectory() as folder:
        database = large_centre(Path(folder) / "centre", sites=SITES, entries=10 * MILLION)
        try:

            def ask() -> None:
                with database.snapshot() as connection:
                    budgets(connection)

            ask()
            taken = sorted(seconds(ask) for _ in range(QUERIES))
        finally:
            database.close()
    return row(
        "budget query p95", f"10M over {SITES}", "ms", 1e3 * taken[QUERIES * 95 // 100], 50.0, 1.0, better="lower"
    )


def intake_records() -> Row:
    """Records a second from sealed batches to committed receipts, in batches of 500, against a fixed figure."""
    with (
        tempfile.TemporaryDirectory() as folder,
        waiting_exchange(Path(folder), RECORDS, records_per_batch=500) as exchange,
    ):
        part = len(exchange.sealed) // ROUNDS

        def submit(start: int) -> None:
            for sealed in exchange.sealed[start : start + part]:
                exchange.centre.submit(exchange.site, sealed)

        taken = statistics.median(seconds(partial(submit, index * part)) for index in range(ROUNDS))
    return row("intake records", 500, "records/s", RECORDS / len(exchange.sealed) * part / taken, 20_000.0, 1.0)


def rows() -> list[Row]:
    """Every figure of this suite."""
    return [
        charge_and_seal(),
        four_processes(),
        verify_million(),
        budget_query(),
        intake_records(),
        gather_megabytes(),
    ]
