"""The power fails between any two steps of the road: what was spent may be overstated, never understated.

Each case kills a real process (SIGKILL, no clean-up) at one point, looks at what lies on the disk, lets a second
process finish the work, and looks again.
"""

from __future__ import annotations

import shutil
import signal
from dataclasses import dataclass
from pathlib import Path

import pytest

from ldp_client.export import write_export
from ldp_client.ledger.store import SiteLedger
from ldp_client.privacy.loss import PrivacyLoss
from ldp_client.site import open_site
from ldp_client.spool import Outbox
from ldp_client.verify import verify_export
from tests.client.crashing import start, wait, work
from tests.client.world import configure, make_campaign, make_world

CAMPAIGN = make_campaign(unit="patient", cap=2)
XRAYS, CHUNK = 6, 3
PATIENTS = ("a", "a", "b", "b", "c", "d")

ORDERED = {"entries": "sequence", "openings": "charge", "seals": "sequence", "batches": "first"}

# (point, how often it was passed, charges on disk, records on disk)
POINTS = [
    ("begin", 1, 0, 0),  # the nonce
    ("begin", 2, 0, 0),  # the shuffle
    ("salt", 1, 0, 0),
    ("before charge", 1, 0, 0),
    ("inside charge", 1, 0, 0),
    ("after charge", 1, 3, 0),
    ("draw", 1, 3, 0),
    ("draw", 2, 3, 0),
    ("before seal", 1, 3, 0),
    ("inside seal", 1, 3, 0),
    ("after seal", 1, 3, 3),
    ("salt", 4, 3, 3),
    ("inside charge", 2, 3, 3),
    ("after charge", 2, 6, 3),
    ("draw", 20, 6, 3),
    ("inside seal", 2, 6, 3),
    ("after seal", 2, 6, 6),
    ("before complete", 1, 6, 6),
    ("after complete", 1, 6, 6),
    ("sealed", 2, 6, 6),  # the first batch is of policy and approval, before the release
    ("before batch", 2, 6, 6),
    ("after batch", 2, 6, 6),
    ("write header", 2, 6, 6),
    ("rename header", 2, 6, 6),
    ("sync header", 2, 6, 6),
    ("write batch", 2, 6, 6),
    ("rename batch", 2, 6, 6),
    ("sync batch", 2, 6, 6),
    ("remove header", 3, 6, 6),
    ("write state", 4, 6, 6),
    ("rename state", 4, 6, 6),
]


@dataclass(frozen=True)
class Disk:
    """All that must survive, in the order in which it was written."""

    entries: list[tuple[object, ...]]
    openings: list[tuple[object, ...]]
    seals: list[tuple[object, ...]]
    batches: list[tuple[object, ...]]
    outbox: frozenset[bytes]

    def continues(self, earlier: Disk) -> bool:
        """Nothing that lay on the disk before is gone or different."""
        pairs = zip(
            (earlier.entries, earlier.openings, earlier.seals, earlier.batches),
            (self.entries, self.openings, self.seals, self.batches),
            strict=True,
        )
        return all(after[: len(before)] == before for before, after in pairs)


def look(folder: Path) -> Disk:
    """Read the ledger and the sealed bytes in the outbox as they lie there."""
    with SiteLedger.open(folder / "ledger.sqlite3") as ledger:
        tables = [
            ledger._connection.execute(f"SELECT * FROM {table} ORDER BY {key}").fetchall()  # noqa: S608
            for table, key in ORDERED.items()
        ]
    outbox = Outbox(folder / "spool")
    names = [path.name for path in (folder / "spool" / "outbox" / "batch").iterdir()]
    return Disk(*tables, frozenset(body for name in names if (body := outbox.batch(name)) is not None))


@pytest.fixture(scope="module")
def approved_site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A site that is ready to release, to be copied for each case."""
    world = make_world(tmp_path_factory.mktemp("approved") / "north", CAMPAIGN, count=XRAYS, patients=PATIENTS)
    configure(world, chunk=CHUNK, records_per_batch=4, late_batch=1)
    world.offer()
    world.agent().step()
    world.approve()
    world.site.close()
    return world.folder


@pytest.fixture
def folder(approved_site: Path, tmp_path: Path) -> Path:
    """A copy of it."""
    return shutil.copytree(approved_site, tmp_path / "north")


def check_invariants(disk: Disk) -> None:
    """Whatever happened: every record was charged, every byte that left was sealed, no X-ray was charged twice."""
    charges = {row[0] for row in disk.openings}
    assert {row[0] for row in disk.seals} <= charges
    assert len({(row[1], row[4]) for row in disk.openings}) == len(disk.openings)
    assert disk.outbox <= {row[4] for row in disk.batches}


@pytest.mark.parametrize(("point", "number", "charged", "sealed"), POINTS)
def test_power_fails(folder: Path, point: str, number: int, charged: int, sealed: int) -> None:
    assert wait(start(work, folder, CAMPAIGN, point, number)) == -signal.SIGKILL
    crashed = look(folder)
    check_invariants(crashed)
    assert (len(crashed.openings), len(crashed.seals)) == (charged, sealed)

    assert wait(start(work, folder, CAMPAIGN, "", 0)) == 0
    finished = look(folder)
    check_invariants(finished)
    # Nothing is charged twice, nothing sealed is drawn again, and what was announced is what is sent.
    assert finished.continues(crashed)
    assert len(finished.openings) == len(finished.seals) == XRAYS
    check_ledger(folder)


def check_ledger(folder: Path) -> None:
    """Chain, signatures and sums hold, the centre has everything, and each patient has spent two or four."""
    with SiteLedger.open(folder / "ledger.sqlite3") as ledger:
        spent = sorted(ledger.spent(unit).micro_epsilon for (unit,) in _units(ledger))
        assert spent == [2_000_000, 2_000_000, 4_000_000, 4_000_000]
        assert ledger.largest_spent() == PrivacyLoss.of(4)
        assert ledger.acknowledged() == ledger.head().sequence
    site = open_site(folder)
    write_export(site, folder / "export.jsonl")
    site.close()
    assert verify_export(folder / "export.jsonl").histories[0].sealed == XRAYS


def _units(ledger: SiteLedger) -> list[tuple[bytes]]:
    return ledger._connection.execute("SELECT DISTINCT unit FROM openings").fetchall()


def test_charge_left_open_is_taken_up_and_not_paid_again(folder: Path) -> None:
    wait(start(work, folder, CAMPAIGN, "before seal", 1))
    crashed = look(folder)
    wait(start(work, folder, CAMPAIGN, "after seal", 1))
    resumed = look(folder)
    # All three open charges stand among those sealed in time: none was forgotten, none paid anew.
    assert wait(start(work, folder, CAMPAIGN, "", 0)) == 0
    finished = look(folder)
    assert finished.continues(resumed)
    assert resumed.openings[:3] == crashed.openings == finished.openings[:3]
    assert {row[0] for row in crashed.openings} <= {row[0] for row in finished.seals}
    assert len(finished.openings) == XRAYS


def test_crash_at_every_start_only_overstates_what_was_spent(folder: Path) -> None:
    before = look(folder)
    for point in ("after charge", "draw", "before seal", "inside seal") * 2:
        assert wait(start(work, folder, CAMPAIGN, point, 1)) == -signal.SIGKILL
        after = look(folder)
        check_invariants(after)
        assert after.continues(before)
        assert CHUNK <= len(after.openings) <= XRAYS
        assert after.seals == []
        before = after
    assert wait(start(work, folder, CAMPAIGN, "", 0)) == 0
    check_ledger(folder)


def test_remainder_of_a_crashed_run_is_no_late_arrival(folder: Path) -> None:
    """What a crash leaves is the rest of one shuffled list: it goes, however few X-rays it is."""
    file = folder / "agent.toml"
    file.write_text(file.read_text().replace("late_batch = 1", "late_batch = 4"))
    wait(start(work, folder, CAMPAIGN, "after seal", 1))
    assert wait(start(work, folder, CAMPAIGN, "", 0)) == 0
    assert len(look(folder).seals) == 2 * CHUNK
