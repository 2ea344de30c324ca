"""What lies beside the chain in a site's ledger, altered on the disk: `ledger verify` says so and names the entry."""

from __future__ import annotations

import sys

import pytest

from ldp_client.cli.main import main
from ldp_client.errors import ChainError, DamagedError
from ldp_client.ledger.store import ChargeRequest, OpenCharge
from tests.client.evaluations import RULE, make_evaluation
from tests.client.world import TODAY, MakeWorld, World, make_campaign

DAY = TODAY.isoformat()
PER_PATIENT = make_campaign(name="patients", unit="patient", cap=2)
EVALUATION, ABANDONED = make_evaluation(), make_evaluation(name="again")


@pytest.fixture
def kept(new_world: MakeWorld) -> World:
    """Charges 4 to 6: 4 sealed by 7, 5 given up by 8, 6 open. Query 11 is answered by 12, query 13 given up by 14."""
    world = new_world(PER_PATIENT, count=2, units=("patient",), lifetime_micro_epsilon=100_000_000, evaluations=RULE)
    world.evaluations.extend([EVALUATION, ABANDONED])
    world.approve()
    ledger = world.site.ledger
    requests = [
        ChargeRequest(name.ljust(32, b"u"), name.ljust(32, b"x"), name.ljust(32, b"s")) for name in (b"a", b"b", b"c")
    ]
    sealed, given_up, left = ledger.charge(PER_PATIENT, requests, DAY)
    assert isinstance(sealed, OpenCharge)
    assert isinstance(given_up, OpenCharge)
    assert isinstance(left, OpenCharge)
    ledger.seal([(sealed, b"record")], DAY)
    ledger.abandon(given_up)
    for evaluation in (EVALUATION, ABANDONED):
        world.approve(evaluation)
    query = ledger.query(EVALUATION, [b"v" * 32, b"w" * 32], bytes(32), DAY)
    ledger.answer(query, b"answer", DAY)
    ledger.abandon_query(ledger.query(ABANDONED, [b"v" * 32], bytes(32), DAY))
    assert [sealed.sequence, given_up.sequence, left.sequence, query.sequence] == [4, 5, 6, 11]
    return world


def alter(world: World, statement: str) -> None:
    """As a disk or a hand would: past the triggers and the foreign keys."""
    connection = world.site.ledger._connection
    connection.execute("PRAGMA foreign_keys = OFF")
    connection.execute("PRAGMA ignore_check_constraints = ON")
    for (trigger,) in connection.execute("SELECT name FROM sqlite_schema WHERE type = 'trigger'").fetchall():
        connection.execute(f"DROP TRIGGER {trigger}")
    assert connection.execute(statement).rowcount == 1


def test_an_unaltered_ledger_holds(
    kept: World, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    kept.offer()
    kept.agent().step()
    kept.site.ledger.check_kept()
    monkeypatch.setattr(sys, "argv", ["ldp-client", "ledger", "verify", "--state", str(kept.folder)])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 0, capsys.readouterr().err
    assert (
        "what is kept beside the chain (whose each charge was, each record) agrees with it" in capsys.readouterr().out
    )


@pytest.mark.parametrize(
    ("statement", "entry", "what"),
    [
        ("UPDATE openings SET unit = zeroblob(32) WHERE charge = 6", 6, "whose charge it was"),
        ("UPDATE openings SET salt = zeroblob(32) WHERE charge = 4", 4, "whose charge it was"),
        ("UPDATE openings SET campaign = 'x' WHERE charge = 5", 5, "whose charge it was"),
        ("UPDATE openings SET micro_epsilon = 1 WHERE charge = 4", 4, "whose charge it was"),
        ("DELETE FROM openings WHERE charge = 6", 6, "whose charge it was"),
        ("INSERT INTO openings VALUES (7, 'x', zeroblob(32), zeroblob(32), zeroblob(32), 1)", 7, "belongs to no entry"),
        ("UPDATE seals SET payload = x'00' WHERE charge = 4", 7, "the record that it seals"),
        ("UPDATE seals SET payload = NULL WHERE charge = 4", 7, "the record that it seals"),
        ("UPDATE seals SET payload = x'00' WHERE charge = 5", 8, "the record that it seals or gives up"),
        ("UPDATE seals SET charge = 6 WHERE charge = 5", 8, "the record that it seals or gives up"),
        ("DELETE FROM seals WHERE charge = 5", 8, "the record that it seals or gives up"),
        ("INSERT INTO seals VALUES (6, 6, NULL, '')", 6, "belongs to no entry"),
        ("UPDATE queries SET salt = zeroblob(31) WHERE query = 11", 11, "whom the evaluation charged"),
        ("UPDATE queries SET micro_epsilon = 1 WHERE query = 13", 13, "whom the evaluation charged"),
        ("UPDATE queries SET campaign = 'x' WHERE query = 11", 11, "whom the evaluation charged"),
        ("DELETE FROM query_units WHERE query = 13", 13, "whom the evaluation charged"),
        ("INSERT INTO query_units VALUES (11, zeroblob(32))", 11, "whom the evaluation charged"),
        ("INSERT INTO query_units VALUES (4, zeroblob(32))", 4, "belongs to no entry"),
        ("UPDATE answers SET payload = x'00' WHERE query = 11", 12, "the record that it seals"),
        ("DELETE FROM answers WHERE query = 13", 14, "the record that it seals or gives up"),
    ],
)  # fmt: skip
def test_what_was_altered_is_named(kept: World, statement: str, entry: int, what: str) -> None:
    alter(kept, statement)
    with pytest.raises(ChainError, match=rf"^entry {entry}: .*{what}"):
        kept.site.ledger.check_kept()


def test_rows_that_cannot_be_read_say_so(kept: World) -> None:
    alter(kept, "UPDATE openings SET campaign = CAST(x'ff' AS TEXT) WHERE charge = 5")
    with pytest.raises(DamagedError, match="does not read as it was written"):
        kept.site.ledger.check_kept()


def test_an_xray_that_was_altered_on_the_disk_is_noticed(kept: World) -> None:
    """No entry commits to it, and it could be charged anew; but the index still has it as it was."""
    kept.site.close()
    file = kept.folder / "ledger.sqlite3"
    body = file.read_bytes()
    place = body.index(b"c".ljust(32, b"x"))
    file.write_bytes(body[:place] + b"C" + body[place + 1 :])
    kept.reopen()
    with pytest.raises(DamagedError, match="does not read as it was written"):
        kept.site.ledger.check_kept()
