"""`python -m examples.faults`: kill and break everything while three hospitals release and a centre gathers."""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import json
import logging
import random
import sys
import time
from collections import Counter
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np

from examples.demo import network as demo
from examples.demo.hospitals import Country, Hospital
from examples.demo.network import Network
from examples.demo.output import begin
from examples.faults.between import Weather, bad_network
from examples.faults.breaks import NoMountError, SmallDisk, jump, small_disk
from examples.faults.machines import Machines, machines
from examples.faults.storm import Fault, Storm
from examples.faults.verdict import Verdict, judge
from examples.private_postgres import PostgresMissingError, PrivatePostgres, private_postgres
from ldp_client import desk
from ldp_client.errors import LdpError
from ldp_client.flow.installed import open_bundle
from ldp_client.imaging.phantoms import phantoms
from ldp_client.processes import free_port, unwinding_on_sigterm
from ldp_client.site import open_site
from ldp_client.wire.campaign import Campaign, campaign_id
from server.centre import publish

log = logging.getLogger("faults")
SITES = ("st-anna", "lakeside", "north")
CROWDED, WRONG_CLOCK = SITES[0], SITES[1]
"""Whose disk is small, and whose clock jumps."""
DISK_MEGABYTES = 48
WEATHER = 0.02
"""Share of requests lost, of replies lost, and of requests doubled."""


@dataclasses.dataclass(frozen=True)
class Drill:
    """How much of everything. Kills are by process, each kind a number; a fault is struck as often as its number."""

    kills: dict[str, int]
    faults: dict[str, int]
    pace_seconds: float
    xrays: int
    patience_seconds: float


QUICK = Drill(
    {"agent": 6, "courier": 6, "supernode": 2, "serverapp": 2, "superlink": 2, "centre": 2},
    {"disk full": 1, "ledger read-only": 1, "clock jumps": 2, "PostgreSQL restarts": 1},
    pace_seconds=1.0,
    xrays=40,
    patience_seconds=240.0,
)
FULL = Drill(
    {"agent": 66, "courier": 60, "supernode": 20, "serverapp": 20, "superlink": 20, "centre": 20},
    {"disk full": 4, "ledger read-only": 4, "clock jumps": 6, "PostgreSQL restarts": 5},
    pace_seconds=1.0,
    xrays=60,
    patience_seconds=600.0,
)


def main() -> int:
    """Run the drill; 0, or 1 if anything happened that must not."""
    parser = argparse.ArgumentParser(prog="python -m examples.faults", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="20 kills instead of 200")
    parser.add_argument("--sqlite", action="store_true", help="the centre on SQLite; PostgreSQL otherwise")
    parser.add_argument("--seed", type=int, default=None, help="of the order of faults; the moments differ each time")
    parser.add_argument("--out", type=Path, default=Path("build/faults"))
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", stream=sys.stderr)
    for noisy in ("httpx", "alembic", "ldp_client.processes"):
        logging.getLogger(noisy).setLevel(logging.ERROR)
    seed = random.SystemRandom().randrange(1 << 32) if arguments.seed is None else arguments.seed
    log.info("the order of faults is that of --seed %d", seed)
    drill = QUICK if arguments.quick else FULL
    try:
        with unwinding_on_sigterm():
            found = run(drill, arguments.out, random.Random(seed), postgres=not arguments.sqlite)  # noqa: S311
    except (PostgresMissingError, NoMountError) as missing:
        print(f"faults: {missing}", file=sys.stderr)
        return 2
    for fault in found:
        print(f"faults: {fault}", file=sys.stderr)
    return 1 if found else 0


def run(drill: Drill, out: Path, dice: random.Random, *, postgres: bool) -> tuple[str, ...]:
    """The whole drill; what happened that must not. Writes OUT/faults.json."""
    started = time.monotonic()
    begin(out)
    state = (out / "state").resolve()
    state.mkdir()
    with contextlib.ExitStack() as stack:
        server = stack.enter_context(private_postgres()) if postgres else None
        country = _country(drill.xrays)
        url = None if server is None else server.create_database("ldp_faults")
        network = demo.build(state, country, open_bundle(country.encoder, Path()), url)
        stack.callback(network.close)
        for site in network.sites.values():
            # Small chunks and batches: many moments between two of them.
            toml = site.folder / "agent.toml"
            toml.write_text(toml.read_text() + "\n[release]\nchunk = 5\nrecords_per_batch = 12\n")
            # Only the agent and the officer open the ledger from now on: its disk will be remounted.
            site.close()
        disk = stack.enter_context(small_disk(state / CROWDED / "agent", DISK_MEGABYTES))
        clock = state / "days"
        clock.write_text("0")
        weather = Weather(dice)
        port, edge = free_port(), network.centre.config.exchange.port
        tls = state / "centre" / "tls"
        with (
            bad_network(port, f"127.0.0.1:{edge}", tls, weather),
            machines(network, port, {WRONG_CLOCK: clock}) as running,
        ):
            faults = _faults(drill.faults, running, disk, clock, server, dice)
            storm = Storm(running, drill.kills, faults, drill.pace_seconds, dice)
            campaigns = _gather_through(network, storm, weather, drill.patience_seconds)
        verdict = judge(network, campaigns, dict.fromkeys(SITES, drill.xrays), out / "export")
        report = _report(running, storm, weather, verdict, campaigns, time.monotonic() - started)
    (out / "faults.json").write_text(json.dumps(report, indent=2) + "\n")
    print(json.dumps(report, indent=2))
    return verdict.faults


def _country(xrays: int) -> Country:
    """Phantoms, a few for each site; a lifetime budget for as many campaigns as the drill lasts."""
    images, labels = phantoms(3 * xrays, 28, seed=5, pneumonia_share=0.5)
    parts = np.split(np.arange(3 * xrays), 3)
    hospitals = tuple(
        Hospital(site, site, images[rows], labels[rows].astype(np.int64))
        for site, rows in zip(SITES, parts, strict=True)
    )
    return Country(
        "synthetic chest phantoms",
        encoder="shipped:kermany28",
        unit="image",
        cap=1,
        epsilon="1",
        lifetime="100000",
        public_images=images[:0],
        hospitals=hospitals,
        test_images=images[:0],
        test_labels=labels[:0].astype(np.int64),
    )


def _faults(
    wanted: dict[str, int],
    running: Machines,
    disk: SmallDisk,
    clock: Path,
    server: PrivatePostgres | None,
    dice: random.Random,
) -> list[Fault]:
    def fill() -> bool:
        disk.fill()
        return True

    def free() -> bool:
        disk.free()
        # As the person would who has made room: the agent tries again at once.
        return running.kill("agent", CROWDED) or True

    def lock() -> bool:
        # While the agent starts again, nobody but the courier has a file there open to write.
        running.kill("agent", CROWDED)
        return disk.read_only(True)

    def leap() -> bool:
        # By days, by a year, back, and beyond the end of every campaign.
        jump(clock, dice.choice([-400, -1, 1, 30, 400, 40_000]))
        return True

    def right() -> bool:
        jump(clock, 0)
        return True

    def postgres_down() -> bool:
        if server is None:
            return False
        server.stop(crash=dice.random() < 0.5)
        return True

    def postgres_up() -> bool:
        if server is not None:
            server.start()
        return True

    kinds = {
        "disk full": (fill, free, 6.0),
        "ledger read-only": (lock, lambda: disk.read_only(False), 6.0),
        "clock jumps": (leap, right, 8.0),
        "PostgreSQL restarts": (postgres_down, postgres_up, 3.0),
    }
    return [
        Fault(name, *kinds[name])
        for name, count in wanted.items()
        for _ in range(count)
        if server is not None or name != "PostgreSQL restarts"
    ]


def _gather_through(network: Network, storm: Storm, weather: Weather, patience_seconds: float) -> list[str]:
    """One campaign after the other until the storm is over, and the last one to its end in fair weather.

    Raises:
        TimeoutError: a campaign does not come to its end.
    """
    done: list[str] = []
    under_way = False
    while True:
        campaign = network.campaign
        if done:
            campaign = campaign.model_copy(update={"name": f"round-{len(done) + 1}"})
            while not _tried(partial(_publish, network, campaign)):
                storm.blow()
                time.sleep(0.2)
        approved: set[str] = set()
        until, left = time.monotonic() + patience_seconds, storm.left
        next_look = 0.0
        while True:
            # It begins when all sites have the first campaign: what is killed is at work, not starting.
            under_way = under_way or len(approved) == len(SITES)
            if under_way:
                storm.blow()
                weather.storm(0.0 if storm.over else WEATHER)
            now = time.monotonic()
            if storm.left != left:
                left, until = storm.left, now + patience_seconds
            if now >= next_look:
                next_look = now + 1.0
                approved |= {site for site in SITES if site not in approved and _approve(network, site, campaign)}
                if len(approved) == len(SITES) and _tried(network.centre.finished):
                    break
            if now > until:
                raise TimeoutError(
                    f"campaign {campaign.name} is not finished after {patience_seconds:g} s; see {network.folder}/logs"
                )
            time.sleep(0.05)
        done.append(campaign_id(campaign))
        log.info("%d campaigns worked off, %d kills and faults to come", len(done), storm.left)
        if storm.over:
            return done


def _publish(network: Network, campaign: Campaign) -> bool:
    return bool(publish(network.centre, campaign))


def _approve(network: Network, site: str, campaign: Campaign) -> bool:
    """What the officer does as soon as the campaign has come; whether it is done."""

    def approve() -> bool:
        with contextlib.closing(open_site(network.folder / site / "agent")) as opened:
            if campaign not in desk.campaigns(opened):
                return False
            if not opened.ledger.has_approval(campaign_id(campaign)):
                demo.approve(opened, campaign)
            return True

    return _tried(approve)


def _tried(what: Callable[[], bool]) -> bool:
    """Its answer, or False while a disk or a database is broken: that is what is drilled here."""
    try:
        return what()
    except LdpError as refusal:
        log.info("not now: %s", str(refusal)[:150])
    except Exception as error:
        log.info("not now: %s: %s", type(error).__name__, str(error)[:150])
    return False


def _report(
    running: Machines, storm: Storm, weather: Weather, verdict: Verdict, campaigns: list[str], seconds: float
) -> dict[str, object]:
    return {
        "kills": running.killed,
        "sealed": verdict.sealed,
        "arrived": verdict.arrived,
        "lost": verdict.lost,
        "doubled": verdict.doubled,
        "double_charged": verdict.double_charged,
        "reconciled": verdict.reconciled == len(SITES),
        "other_faults": dict(storm.happened + +Counter(weather.counts)),
        "campaigns": len(campaigns),
        "seconds": round(seconds),
        "violations": list(verdict.faults),
    }


if __name__ == "__main__":
    raise SystemExit(main())
