"""`python -m examples.bench`: each figure beside its peer's, in one run, as a ratio; written to build/bench/road.json.

Rows: {name, size, unit, better, ours, theirs, ratio, target, met}. Where the target is a fixed figure, `theirs` is that
figure and the target is 1. The two sides alternate, and medians are taken; note what else the machine was doing.
"""

from __future__ import annotations

import json
import os
import platform
import statistics
import tempfile
import time
from collections.abc import Callable
from datetime import date
from fractions import Fraction
from pathlib import Path

import opendp.prelude as dp
import torch
from rich.console import Console
from rich.table import Table

from examples.bench.one_site import approved_site
from ldp_client.flow.encoder import Encoder
from ldp_client.flow.installed import open_bundle
from ldp_client.ledger.store import ChargeRequest, OpenCharge
from ldp_client.privacy.noise import SystemSource, discrete_laplace
from ldp_client.release import release
from ldp_client.site import data_set

ROUNDS = 5
SAMPLES = 1_000_000
OPENDP_SAMPLES = 20_000
XRAYS = 512
ENTRIES = 20_000
DAY = date.today().isoformat()
Row = dict[str, object]


def seconds(work: Callable[[], object]) -> float:
    """Wall-clock time of one call."""
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def alternate(ours: Callable[[], object], theirs: Callable[[], object]) -> tuple[float, float]:
    """Median seconds of both sides, taken in turns, after one round to warm up."""
    ours(), theirs()
    pairs = [(seconds(ours), seconds(theirs)) for _ in range(ROUNDS)]
    return statistics.median(pair[0] for pair in pairs), statistics.median(pair[1] for pair in pairs)


def row(name: str, size: int, unit: str, ours: float, theirs: float, target: float) -> Row:
    """A figure where higher is better."""
    ratio = ours / theirs
    return {
        "name": name,
        "size": size,
        "unit": unit,
        "better": "higher",
        "ours": round(ours, 1),
        "theirs": round(theirs, 1),
        "ratio": round(ratio, 3),
        "target": target,
        "met": ratio >= target,
    }


def laplace(name: str, scale: int, target: float) -> Row:
    """Exact discrete Laplace samples a second, against OpenDP's sampler on a vector of integers."""
    dp.enable_features("contrib")
    space = dp.vector_domain(dp.atom_domain(T="i64")), dp.l1_distance(T="i64")
    measure = dp.m.make_laplace(*space, scale=float(scale))
    zeros, source = [0] * OPENDP_SAMPLES, SystemSource()
    ours, theirs = alternate(
        lambda: discrete_laplace(Fraction(scale), SAMPLES, source),
        lambda: measure(zeros),
    )
    return row(f"laplace scale {name}", SAMPLES, "samples/s", SAMPLES / ours, OPENDP_SAMPLES / theirs, target)


def charge_and_seal() -> Row:
    """Charged and sealed entries a second in durable batches of 100, against a fixed figure."""
    with tempfile.TemporaryDirectory() as folder, approved_site(Path(folder), 1) as (site, campaign):
        source = SystemSource()

        def work() -> None:
            for _ in range(0, ENTRIES // 2, 100):
                requests = [ChargeRequest(source(32), source(32), source(32)) for _ in range(100)]
                charges = site.ledger.charge(campaign, requests, DAY)
                site.ledger.seal([(charge, b"x" * 26) for charge in charges if isinstance(charge, OpenCharge)], DAY)

        work()
        taken = statistics.median(seconds(work) for _ in range(3))
    return row("charge and seal", 100, "entries/s", ENTRIES / taken, 20_000.0, 1.0)


def file_to_record() -> Row:
    """X-ray files to sealed records, against the same files decoded and encoded without privacy or ledger."""
    encoder = open_bundle("shipped:kermany28", Path())
    pairs = [_road_and_bare(encoder) for _ in range(ROUNDS)]
    ours, theirs = (statistics.median(pair[side] for pair in pairs) for side in (0, 1))
    return row("file to sealed record", XRAYS, "images/s", XRAYS / ours, XRAYS / theirs, 0.8)


def _road_and_bare(encoder: Encoder) -> tuple[float, float]:
    with tempfile.TemporaryDirectory() as folder, approved_site(Path(folder), XRAYS) as (site, campaign):
        held, source = data_set(site, campaign), SystemSource()

        def bare() -> None:
            for start in range(0, XRAYS, 100):
                xrays = [held.read(item) for item in held.items[start : start + 100]]
                encoder.encode(
                    torch.stack(
                        [encoder.prepare(x.pixels, inverted=x.inverted, window=x.window, bits=x.bits) for x in xrays]
                    )
                )

        bare()
        without = seconds(bare)
        road = seconds(
            lambda: release(campaign, held, ledger=site.ledger, encoder=encoder, source=source, today=date.today)
        )
        return road, without


def main() -> None:
    """Measure everything, print it, write it."""
    rows = [
        laplace("1", 1, 100),
        laplace("1e3", 1_000, 100),
        laplace("1e6", 1_000_000, 50),
        charge_and_seal(),
        file_to_record(),
    ]
    out = Path("build") / "bench"
    out.mkdir(parents=True, exist_ok=True)
    (out / "road.json").write_text(json.dumps(rows, indent=2) + "\n")
    table = Table(
        title=f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}"
    )
    for name in rows[0]:
        table.add_column(name)
    for one in rows:
        table.add_row(*(f"{value:,}" if isinstance(value, float) else str(value) for value in one.values()))
    Console(width=140).print(table)
    if not all(one["met"] for one in rows):
        print("some targets were missed")


if __name__ == "__main__":
    main()
