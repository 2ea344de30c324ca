"""The power fails between any two steps of an evaluation: what was spent may be overstated, never understated.

As in test_crash.py, a real process is killed at one point and a second one finishes the work.
"""

from __future__ import annotations

import shutil
import signal
from pathlib import Path

import pytest

from ldp_client.export import write_export, write_openings
from ldp_client.ledger.store import SiteLedger
from ldp_client.openings import check_openings
from ldp_client.privacy.loss import PrivacyLoss
from ldp_client.site import open_site
from ldp_client.spool import Outbox
from tests.client.crashing import start, wait, work
from tests.client.evaluations import RULE, make_evaluation
from tests.client.world import make_campaign, make_world

EVALUATION = make_evaluation()

# (point, how often it was passed, queries on disk, answers on disk)
POINTS = [
    ("begin", 2, 0, 0),  # the salt of the commitment: all X-rays are scored by then
    ("before query", 1, 0, 0),
    ("inside query", 1, 0, 0),
    ("after query", 1, 1, 0),
    ("draw", 1, 1, 0),
    ("before answer", 1, 1, 0),
    ("inside answer", 1, 1, 0),
    ("after answer", 1, 1, 1),
    ("before complete", 1, 1, 1),
    ("after complete", 1, 1, 1),
    ("sealed", 2, 1, 1),
    ("after batch", 2, 1, 1),
    ("rename header", 2, 1, 1),
    ("rename batch", 2, 1, 1),
]
Tables = dict[str, list[tuple[object, ...]]]


@pytest.fixture(scope="module")
def approved_site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A site that is ready to answer, to be copied for each case."""
    folder = tmp_path_factory.mktemp("approved") / "north"
    patients = [f"P{index % 8}" for index in range(12)]
    world = make_world(folder, make_campaign(), count=12, patients=patients, units=("patient",), evaluations=RULE)
    world.campaigns, world.evaluations = [], [EVALUATION]
    world.offer()
    world.agent().step()
    world.approve(EVALUATION)
    world.site.close()
    return folder


@pytest.fixture
def folder(approved_site: Path, tmp_path: Path) -> Path:
    """A copy of it."""
    return shutil.copytree(approved_site, tmp_path / "north")


def look(folder: Path) -> Tables:
    """What lies in the ledger, in the order in which it was written."""
    with SiteLedger.open(folder / "ledger.sqlite3") as ledger:
        return {
            "entries": ledger._connection.execute("SELECT * FROM entries ORDER BY sequence").fetchall(),
            "queries": ledger._connection.execute("SELECT * FROM queries").fetchall(),
            "units": ledger._connection.execute("SELECT * FROM query_units ORDER BY unit").fetchall(),
            "answers": ledger._connection.execute("SELECT * FROM answers").fetchall(),
            "batches": ledger._connection.execute("SELECT * FROM batches ORDER BY first").fetchall(),
        }


def sent(folder: Path) -> set[bytes]:
    outbox = Outbox(folder / "spool")
    names = [path.name for path in (folder / "spool" / "outbox" / "batch").iterdir()]
    return {body for name in names if (body := outbox.batch(name)) is not None}


@pytest.mark.parametrize(("point", "number", "queried", "answered"), POINTS)
def test_power_fails(folder: Path, point: str, number: int, queried: int, answered: int) -> None:
    assert wait(start(work, folder, EVALUATION, point, number)) == -signal.SIGKILL
    crashed = look(folder)
    assert (len(crashed["queries"]), len(crashed["answers"])) == (queried, answered)
    assert sent(folder) <= {row[4] for row in crashed["batches"]}

    assert wait(start(work, folder, EVALUATION, "", 0)) == 0
    finished = look(folder)
    # Nobody is charged twice, nothing sealed is drawn again, and what was announced is what is sent.
    assert all(finished[name][: len(rows)] == rows for name, rows in crashed.items())
    assert (len(finished["queries"]), len(finished["answers"])) == (1, 1)
    check_ledger(folder)


def check_ledger(folder: Path) -> None:
    """Chain, signatures, sums and openings hold, the centre has everything, and each unit of the set has paid once."""
    with SiteLedger.open(folder / "ledger.sqlite3") as ledger:
        assert ledger.acknowledged() == ledger.head().sequence
        units = ledger.queried_units()
        assert {ledger.spent(unit) for unit in units} <= {PrivacyLoss.of(1)}
    site = open_site(folder)
    write_export(site, folder / "export.jsonl")
    write_openings(site, folder / "openings.jsonl")
    site.close()
    assert check_openings(folder / "export.jsonl", folder / "openings.jsonl").units == len(units)


def test_crash_at_every_start_charges_once(folder: Path) -> None:
    assert wait(start(work, folder, EVALUATION, "after query", 1)) == -signal.SIGKILL
    first = look(folder)
    for point in ("draw", "before answer", "inside answer"):
        assert wait(start(work, folder, EVALUATION, point, 1)) == -signal.SIGKILL
        assert look(folder)["queries"] == first["queries"]
        assert look(folder)["answers"] == []
    assert wait(start(work, folder, EVALUATION, "", 0)) == 0
    check_ledger(folder)
