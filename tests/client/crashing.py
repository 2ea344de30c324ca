"""Real processes that work at a site and are killed at a chosen point of the road.

The points are reached through arguments that the product takes anyway: a byte source, a ledger, the spool's disk, the
sealer. A process here is forked from a server that has imported everything once, so that it starts in milliseconds.
"""

from __future__ import annotations

import dataclasses
import multiprocessing
import os
import signal
import time
from collections.abc import Callable, Collection, Iterable, Sequence
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

from ldp_client.errors import BudgetExceededError
from ldp_client.ledger.queries import OpenQuery
from ldp_client.ledger.store import ChargeRequest, OpenCharge, SiteLedger
from ldp_client.privacy.noise import SystemSource
from ldp_client.site import open_site
from ldp_client.spool import Disk, Inbox, Outbox
from ldp_client.wire.campaign import Campaign
from ldp_client.wire.evaluation import Asked, Evaluation
from ldp_client.wire.signing import seal
from tests.client.world import TODAY, World

PROCESSES = multiprocessing.get_context("forkserver")
PROCESSES.set_forkserver_preload(["tests.client.crashing"])


def start(work: Callable[..., None], *arguments: Any) -> BaseProcess:
    """Begin work in a process of its own."""
    process = PROCESSES.Process(target=work, args=arguments)
    process.start()
    return process


def wait(process: BaseProcess) -> int | None:
    """Its exit code; minus the signal that killed it."""
    process.join(60)
    return process.exitcode


class Fuse:
    """Kills its process, without any clean-up, when `point` is passed for the `number`-th time."""

    def __init__(self, point: str, number: int) -> None:
        self._point, self._left = point, number

    def passing(self, point: str) -> None:
        if point == self._point:
            self._left -= 1
            if self._left == 0:
                os.kill(os.getpid(), signal.SIGKILL)


class FusedSource:
    """The operating system's bytes. Before it gives any it passes "draw" between charge and seal, else "begin" for the
    first of an agent's step (a nonce, or the shuffle) and "salt" for what follows."""

    def __init__(self, fuse: Fuse) -> None:
        self._fuse, self._real, self._calls = fuse, SystemSource(), 0
        self.fresh = True
        self.charged = False

    def __call__(self, count: int) -> bytes:
        self._fuse.passing("draw" if self.charged else "begin" if self.fresh else "salt")
        self.fresh = False
        return self._real(count)


class FusedLedger(SiteLedger):
    """A ledger on disk. Passes "before X", "inside X" (all written, not committed) and "after X" for each step X."""

    fuse: Fuse
    source: FusedSource
    step = ""

    def _chain(self, kind: str, bodies: Sequence[bytes]) -> range:
        sequences = super()._chain(kind, bodies)
        self.fuse.passing(f"inside {self.step}")
        return sequences

    def _pass(self, step: str, work: Callable[[], Any]) -> Any:
        self.step = step
        self.fuse.passing(f"before {step}")
        result = work()
        self.fuse.passing(f"after {step}")
        return result

    def charge(
        self, campaign: Campaign, requests: Sequence[ChargeRequest], today: str
    ) -> list[OpenCharge | BudgetExceededError]:
        answers: list[OpenCharge | BudgetExceededError] = self._pass(
            "charge", lambda: SiteLedger.charge(self, campaign, requests, today)
        )
        self.source.charged = True
        return answers

    def seal(self, records: Iterable[tuple[OpenCharge, bytes]], day: str) -> None:
        self._pass("seal", lambda: SiteLedger.seal(self, records, day))
        self.source.charged = False

    def query(self, evaluation: Evaluation, units: Collection[bytes], salt: bytes, today: str) -> OpenQuery:
        query: OpenQuery = self._pass("query", lambda: SiteLedger.query(self, evaluation, units, salt, today))
        self.source.charged = True
        return query

    def open_query(self, campaign: str) -> OpenQuery | None:
        found = super().open_query(campaign)
        self.source.charged = found is not None
        return found

    def answer(self, query: OpenQuery, payload: bytes, day: str) -> None:
        self._pass("answer", lambda: SiteLedger.answer(self, query, payload, day))
        self.source.charged = False

    def file_batch(self, *fields: Any) -> None:
        self._pass("batch", lambda: SiteLedger.file_batch(self, *fields))

    def complete(self, campaign: str) -> None:
        self._pass("complete", lambda: SiteLedger.complete(self, campaign))


class FusedDisk(Disk):
    """The spool's disk. Passes "write", "rename" and "sync" after each has happened."""

    def __init__(self, fuse: Fuse) -> None:
        self._fuse = fuse

    def write(self, path: Path, body: bytes) -> None:
        super().write(path, body)
        self._fuse.passing(f"write {path.parent.name}")

    def rename(self, source: Path, target: Path) -> None:
        super().rename(source, target)
        self._fuse.passing(f"rename {target.parent.name}")

    def remove(self, path: Path) -> None:
        super().remove(path)
        self._fuse.passing(f"remove {path.parent.name}")

    def sync_folder(self, folder: Path) -> None:
        super().sync_folder(folder)
        self._fuse.passing(f"sync {folder.name}")


def work(folder: Path, asked: Asked, point: str, number: int, rounds: int = 4) -> None:
    """An agent, with an honest centre beside it, from an approval to acknowledged batches; or to its end."""
    fuse = Fuse(point, number)
    site = open_site(folder)
    site.ledger.close()
    FusedLedger.fuse, FusedLedger.source = fuse, FusedSource(fuse)
    ledger = FusedLedger.open(folder / "ledger.sqlite3")
    disk = FusedDisk(fuse)
    spool = folder / "spool"
    site = dataclasses.replace(site, ledger=ledger, outbox=Outbox(spool, disk), inbox=Inbox(spool))
    world = World(folder, site, [asked] if isinstance(asked, Campaign) else [])
    world.evaluations += [asked] if isinstance(asked, Evaluation) else []

    def sealer(inner: bytes, key: bytes) -> bytes:
        sealed = seal(inner, key)
        fuse.passing("sealed")
        return sealed

    agent = world.agent(source=FusedLedger.source, sealer=sealer, today=lambda: TODAY)
    for _ in range(rounds):
        agent.step()
        world.round()
        FusedLedger.source.fresh = True
    site.close()


def charge_one_by_one(folder: Path, campaign: Campaign, unit: bytes, name: str, barrier: Any) -> None:
    """Charge twenty X-rays of one unit, at the same time as another process."""
    ledger = SiteLedger.open(folder / "ledger.sqlite3")
    barrier.wait()
    for index in range(20):
        request = ChargeRequest(unit, f"{name}{index}".encode().ljust(32, b"."), b"s" * 32)
        ledger.charge(campaign, [request], TODAY.isoformat())
    ledger.close()


def charge_for_a_while(folder: Path, campaign: Campaign, name: str, barrier: Any, seconds: float) -> None:
    """Charge and seal in batches until the time is over, and leave the number of batches in a file."""
    ledger, done = SiteLedger.open(folder / "ledger.sqlite3"), 0
    barrier.wait()
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        requests = [ChargeRequest(os.urandom(32), os.urandom(32), os.urandom(32)) for _ in range(20)]
        charges = ledger.charge(campaign, requests, TODAY.isoformat())
        ledger.seal([(charge, b"record") for charge in charges if isinstance(charge, OpenCharge)], TODAY.isoformat())
        done += 1
    ledger.close()
    (folder / name).write_text(str(done))
