"""The site ledger: what it refuses, what it keeps, and that nothing is ever charged twice."""

from __future__ import annotations

import sqlite3
import sys
from pathlib import Path

import pytest

from ldp_client.cli.main import main
from ldp_client.errors import (
    BudgetExceededError,
    ChainError,
    ConfigurationError,
    DamagedError,
    EnvelopeError,
    PolicyRefusedError,
    WaitingError,
)
from ldp_client.export import write_export
from ldp_client.ledger.store import ChargeRequest, OpenCharge, SiteLedger
from ldp_client.privacy.loss import PrivacyLoss
from ldp_client.site import open_site
from ldp_client.verify import verify_export
from ldp_client.wire.campaign import campaign_id
from ldp_client.wire.canonical import canonical_bytes
from ldp_client.wire.chain import Charge, link, parse_entry, subject_commitment
from ldp_client.wire.envelope import POLICY, close_envelope
from ldp_client.wire.signing import SigningKey
from tests.client.crashing import PROCESSES, charge_for_a_while, charge_one_by_one, start, wait
from tests.client.older_ledgers import downgrade
from tests.client.world import TODAY, MakeWorld, World, make_campaign, make_policy, make_site

DAY = TODAY.isoformat()
PER_PATIENT = make_campaign(name="patients", unit="patient", cap=2)


def request(unit: str, xray: str) -> ChargeRequest:
    """A unit and an X-ray by short names."""
    return ChargeRequest(unit.encode().ljust(32, b"."), xray.encode().ljust(32, b"."), b"s" * 32)


def requests(*pairs: str) -> list[ChargeRequest]:
    """ "ab" is X-ray b of unit a."""
    return [request(pair[0], pair) for pair in pairs]


def outcome(answers: list[OpenCharge | BudgetExceededError]) -> str:
    """ "+" for a charge, "-" for a refusal."""
    return "".join("-" if isinstance(answer, BudgetExceededError) else "+" for answer in answers)


@pytest.fixture
def approved(new_world: MakeWorld) -> World:
    """A site whose officer has approved a campaign with two X-rays per patient, epsilon 2 each, of 8 in all."""
    world = new_world(PER_PATIENT, make_campaign(), count=2)
    world.approve()
    return world


# --- a ledger on disk


def test_ledger_is_never_begun_anew(world: World) -> None:
    with pytest.raises(ConfigurationError, match="exists already; a ledger is never overwritten or begun anew"):
        SiteLedger.create(world.folder / "ledger.sqlite3", world.site.ledger.genesis)


def test_missing_ledger_names_the_way_out(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"there is no ledger at .*create the site"):
        SiteLedger.open(tmp_path / "ledger.sqlite3")


def test_file_that_is_no_ledger_is_refused(tmp_path: Path) -> None:
    (tmp_path / "ledger.sqlite3").write_bytes(b"not a database" * 100)
    with pytest.raises(ConfigurationError, match="is not a ledger; restore it from its backup"):
        SiteLedger.open(tmp_path / "ledger.sqlite3")


def test_ledger_of_another_version_is_refused(world: World) -> None:
    world.site.ledger._connection.execute("PRAGMA user_version = 99")
    with pytest.raises(ConfigurationError, match="schema version 99, this program reads 1 to 5; install the matching"):
        SiteLedger.open(world.folder / "ledger.sqlite3")


def test_ledger_of_the_first_version_is_brought_to_the_present_one(approved: World, tmp_path: Path) -> None:
    ledger = approved.site.ledger
    charges = ledger.charge(PER_PATIENT, requests("a1", "a2", "b1"), DAY)
    assert isinstance(charges[0], OpenCharge)
    ledger.seal([(charges[0], b"record")], DAY)
    before = list(ledger.rows())
    approved.site.close()
    downgrade(approved.folder / "ledger.sqlite3", 1)
    approved.reopen()
    ledger = approved.site.ledger
    assert list(ledger.rows()) == before
    assert ledger._connection.execute("PRAGMA foreign_key_check").fetchall() == []
    assert ledger._connection.execute("PRAGMA foreign_keys").fetchone() == (1,)
    assert ledger.open_charges(approved.name) == list(charges[1:])
    assert ledger.spent(request("a", "").unit) == PrivacyLoss.of(4)
    assert outcome(ledger.charge(PER_PATIENT, requests("a3", "b2"), DAY)) == "-+"
    with pytest.raises(sqlite3.IntegrityError, match="the ledger is insert-only"):
        ledger._connection.execute("DELETE FROM openings")
    approved.offer()
    approved.agent().step()
    write_export(approved.site, tmp_path / "export.jsonl")
    assert verify_export(tmp_path / "export.jsonl").sequence == before[-1].sequence + 1


@pytest.mark.parametrize("text", [b"entries_no_update", b"purpose", None])
def test_damaged_ledger_ends_with_six_and_quotes_nothing(
    approved: World, text: bytes | None, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """In a trigger's name, in a document, in the last entry's hash."""
    head = approved.site.ledger.head().head.encode()
    approved.offer()
    approved.agent().step()
    approved.site.close()
    file = approved.folder / "ledger.sqlite3"
    body = file.read_bytes()
    place = body.index(text or head)
    file.write_bytes(body[:place] + b"\xff" + body[place + 1 :])
    monkeypatch.setattr(sys, "argv", ["ldp-client", "ledger", "verify", "--state", str(approved.folder)])
    with pytest.raises(SystemExit) as ended:
        main()
    said = capsys.readouterr().err
    assert (ended.value.code, said.startswith("ldp-client: ")) == (6, True), said
    assert "\xff" not in said
    assert "\ufffd" not in said


def test_a_charge_on_a_damaged_ledger_says_so(approved: World) -> None:
    """And not that its disk is full and what it holds whole."""
    approved.site.ledger.charge(PER_PATIENT, requests("a1"), DAY)
    approved.site.ledger._connection.execute("DROP TRIGGER openings_no_update")
    approved.site.ledger._connection.execute("UPDATE openings SET campaign = CAST(x'ff' AS TEXT)")
    approved.reopen()
    with pytest.raises(DamagedError, match="does not read as it was written"):
        approved.site.ledger.charge(PER_PATIENT, requests("a2"), DAY)


def test_ledger_with_dangling_rows_is_left_as_it_was(approved: World) -> None:
    approved.site.ledger.charge(PER_PATIENT, requests("a1"), DAY)
    approved.site.close()
    path = approved.folder / "ledger.sqlite3"
    downgrade(path, 1)
    with sqlite3.connect(path) as connection:
        connection.execute("PRAGMA foreign_keys = OFF")
        connection.execute("INSERT INTO seals VALUES (99, 98, NULL, '')")
    connection.close()
    with pytest.raises(ConfigurationError, match="the ledger's table seals names rows that are gone; restore"):
        SiteLedger.open(path)
    with sqlite3.connect(path) as connection:
        assert connection.execute("PRAGMA user_version").fetchone() == (1,)
        assert connection.execute("SELECT count(*) FROM entries").fetchone() == (4,)
    connection.close()


def test_ledger_without_its_genesis_entry_is_refused(world: World) -> None:
    world.site.close()
    with sqlite3.connect(world.folder / "ledger.sqlite3") as connection:
        connection.execute("DROP TRIGGER entries_no_delete")
        connection.execute("DELETE FROM entries")
    connection.close()
    with pytest.raises(ChainError, match="no such entry; restore it from its backup"):
        SiteLedger.open(world.folder / "ledger.sqlite3")


def test_ledger_whose_first_entry_is_no_genesis_is_refused(world: World) -> None:
    body = next(world.site.ledger.rows(2, 2)).body
    world.site.close()
    with sqlite3.connect(world.folder / "ledger.sqlite3") as connection:
        connection.execute("DROP TRIGGER entries_no_update")
        connection.execute("UPDATE entries SET body = ? WHERE sequence = 1", (body,))
    connection.close()
    with pytest.raises(ChainError, match="does not begin with a genesis entry"):
        SiteLedger.open(world.folder / "ledger.sqlite3")


def test_ledger_files_are_for_their_owner_alone(world: World) -> None:
    assert (world.folder / "ledger.sqlite3").stat().st_mode & 0o777 == 0o600


def test_commits_are_flushed_to_the_disk(world: World) -> None:
    connection = world.site.ledger._connection
    assert connection.execute("PRAGMA synchronous").fetchone() == (2,)
    assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)


def test_site_opened_with_another_patient_secret_is_refused(world: World) -> None:
    world.site.close()
    (world.folder / "keys" / "secret.key").write_bytes(b"x" * 32)
    with pytest.raises(
        ConfigurationError, match="not the secret this ledger was begun with: patients would be counted"
    ):
        open_site(world.folder)


def test_site_opened_with_another_key_is_refused(world: World) -> None:
    world.site.close()
    (world.folder / "keys" / "site.key").write_bytes(b"x" * 32)
    with pytest.raises(ConfigurationError, match="the ledger belongs to site north and its key"):
        open_site(world.folder)


def test_ledger_of_another_site_is_refused(world: World) -> None:
    world.site.close()
    file = world.folder / "agent.toml"
    file.write_text(file.read_text().replace('"north"', '"south"'))
    with pytest.raises(ConfigurationError, match=r"the ledger belongs to site north .* are another site's"):
        open_site(world.folder)


@pytest.mark.parametrize("table", ["entries", "openings", "seals", "batches", "documents", "decisions"])
@pytest.mark.parametrize(
    "change", ["UPDATE {0} SET rowid = rowid", "DELETE FROM {0}", "INSERT OR REPLACE INTO {0} VALUES (?)"]
)
def test_no_table_gives_up_a_row(world: World, table: str, change: str) -> None:
    agent = world.release()
    world.round()
    agent.step()
    world.round()
    agent.step()
    connection = world.site.ledger._connection
    rows = connection.execute(f"SELECT * FROM {table}").fetchall()  # noqa: S608
    assert rows
    # The last column of an entry is derived and takes no value.
    row = rows[-1][:-1] if table == "entries" else rows[-1]
    parameters = row if "?" in change else ()
    change = change.replace("(?)", f"({', '.join('?' * len(row))})")
    with pytest.raises(sqlite3.IntegrityError, match="the ledger is insert-only"):
        connection.execute(change.format(table), parameters)
    assert connection.execute(f"SELECT * FROM {table}").fetchall() == rows  # noqa: S608


def test_entry_that_leaves_a_gap_is_refused(world: World) -> None:
    with pytest.raises(sqlite3.IntegrityError, match="FOREIGN KEY constraint failed"):
        world.site.ledger._connection.execute("INSERT INTO entries VALUES (9, 'policy', x'00', ?)", ("0" * 64,))


def test_every_entry_is_chained_to_the_one_before(approved: World) -> None:
    ledger = approved.site.ledger
    ledger.charge(PER_PATIENT, requests("a1"), DAY)
    head = "0" * 64
    for row in ledger.rows():
        head = link(ledger.genesis.ledger_id, row.sequence, head, row.body)
        assert row.head == head


# --- policies


def test_first_policy_is_in_force(world: World) -> None:
    found = world.site.ledger.policy()
    assert found == (2, make_policy())


@pytest.mark.parametrize("serial", [1, 2])
def test_policy_whose_serial_is_not_higher_is_refused(world: World, serial: int) -> None:
    world.set_policy(serial=2)
    with pytest.raises(
        PolicyRefusedError, match=f"serial {serial}; the one in force has 2. Raise the serial: an older"
    ):
        world.set_policy(serial=serial)
    assert world.site.ledger.head().sequence == 3


def test_policy_of_another_site_is_refused(world: World) -> None:
    with pytest.raises(PolicyRefusedError, match="the policy is for site south; this ledger belongs to north"):
        world.set_policy(site="south", serial=2)


def test_policy_signed_by_nobody_known_is_refused(world: World) -> None:
    envelope = close_envelope(POLICY, canonical_bytes(make_policy(serial=2)), SigningKey(b"x" * 32))
    with pytest.raises(EnvelopeError, match="the signer is not an officer of this site"):
        world.site.ledger.file_policy(envelope)


def test_approval_without_a_policy_is_refused(tmp_path: Path) -> None:
    refusal = pytest.raises(PolicyRefusedError, match="no policy is in force; the officer signs one")
    with make_site(tmp_path / "new").ledger as ledger, refusal:
        ledger._check_approval(None, PER_PATIENT)  # type: ignore[arg-type]


# --- approvals


@pytest.mark.parametrize(
    "change", [{"site": "south"}, {"ledger_id": "0" * 64}, {"campaign": "0" * 64}, {"policy": "0" * 64}], ids=str
)
def test_approval_of_something_else_is_refused(world: World, change: dict[str, str]) -> None:
    before = world.site.ledger.head()
    with pytest.raises(PolicyRefusedError, match="given for another site, ledger, campaign or policy; approve the"):
        world.approve(**change)
    assert world.site.ledger.head() == before


def test_approval_of_what_the_policy_forbids_is_refused(new_world: MakeWorld) -> None:
    world = new_world(make_campaign(epsilon=3), count=1)
    with pytest.raises(PolicyRefusedError, match="the campaign asks epsilon 3 per record; the policy allows 2"):
        world.approve()


def test_campaign_that_nobody_approved_waits(world: World) -> None:
    with pytest.raises(WaitingError, match="campaign pneumonia has not been approved; the officer runs `ldp-client"):
        world.site.ledger.charge(world.campaign, requests("a1"), DAY)
    assert world.site.ledger.charged_xrays(world.name) == set()


def test_approval_no_longer_holds_under_a_new_policy(approved: World) -> None:
    approved.set_policy(serial=2)
    with pytest.raises(PolicyRefusedError, match="approve the campaign again"):
        approved.site.ledger.charge(PER_PATIENT, requests("a1"), DAY)
    approved.approve()
    assert outcome(approved.site.ledger.charge(PER_PATIENT, requests("a1"), DAY)) == "+"


@pytest.mark.parametrize(("expires", "today"), [("2030-01-14", DAY), ("2031-06-01", "2031-01-01")])
def test_nothing_is_charged_after_the_last_day_of_approval_or_campaign(
    approved: World, expires: str, today: str
) -> None:
    approved.approve(expires=expires)
    with pytest.raises(WaitingError, match="campaign patients or its approval has ended; nothing is drawn any more"):
        approved.site.ledger.charge(PER_PATIENT, requests("a1"), today)
    assert approved.site.ledger.charged_xrays(approved.name) == set()


def test_last_day_of_an_approval_is_a_day_of_it(approved: World) -> None:
    approved.approve(expires=DAY)
    assert outcome(approved.site.ledger.charge(PER_PATIENT, requests("a1"), DAY)) == "+"


# --- charges


def test_charge_cites_its_approval_and_its_loss(approved: World) -> None:
    ledger = approved.site.ledger
    (charge,) = ledger.charge(PER_PATIENT, requests("a1"), DAY)
    assert isinstance(charge, OpenCharge)
    entry = parse_entry(next(ledger.rows(charge.sequence)).body)
    subject = subject_commitment(request("a", "a1").unit, b"s" * 32)
    assert entry == Charge(subject=subject, campaign=approved.name, approval=3, micro_epsilon=2_000_000)
    assert ledger.spent(request("a", "a1").unit) == PrivacyLoss.of(2)


def test_cap_counts_the_xrays_of_one_call_and_of_earlier_calls(approved: World) -> None:
    ledger = approved.site.ledger
    assert outcome(ledger.charge(PER_PATIENT, requests("a1", "b1", "a2", "a3", "b2"), DAY)) == "+++-+"
    assert outcome(ledger.charge(PER_PATIENT, requests("a4", "c1"), DAY)) == "-+"
    assert ledger.counts(approved.name) == (0, 5)


def test_refusal_says_what_was_asked_and_what_is_left(approved: World) -> None:
    answers = approved.site.ledger.charge(PER_PATIENT, requests("a1", "a2", "a3"), DAY)
    refusal = answers[-1]
    assert isinstance(refusal, BudgetExceededError)
    assert refusal.exit_code == 4
    assert str(refusal) == (
        "the release asks epsilon 2 of a unit (patient) that has 0 left; "
        "lower the campaign's epsilon or leave this patient out"
    )


def test_refused_release_leaves_no_ledger_row(approved: World) -> None:
    ledger = approved.site.ledger
    ledger.charge(PER_PATIENT, requests("a1", "a2"), DAY)
    before, openings = ledger.head(), ledger.charged_xrays(approved.name)
    assert outcome(ledger.charge(PER_PATIENT, requests("a3"), DAY)) == "-"
    assert (ledger.head(), ledger.charged_xrays(approved.name)) == (before, openings)


def test_two_campaigns_add_up_to_one_lifetime_budget(new_world: MakeWorld) -> None:
    other = make_campaign(name="other", unit="patient", cap=2)
    world = new_world(PER_PATIENT, other, count=1, lifetime_micro_epsilon=6_000_000)
    ledger = world.site.ledger
    for campaign in world.campaigns:
        world.approve(campaign)
    assert outcome(ledger.charge(PER_PATIENT, requests("a1", "a2", "b1"), DAY)) == "+++"
    assert [ledger.room(other, request(unit, "").unit, PrivacyLoss.of(6)) for unit in "abc"] == [1, 2, 2]
    before = ledger.head()
    refused = (
        r"asks epsilon 4 of a unit \(patient\) that has 2 left; after the campaigns charged before; ask for a smaller"
    )
    with pytest.raises(BudgetExceededError, match=refused) as refusal:
        ledger.charge(other, requests("c1"), DAY)
    assert refusal.value.exit_code == 4
    with pytest.raises(BudgetExceededError, match=refused):
        world.approve(other)
    assert ledger.head() == before
    assert ledger.campaigns_charged() == [str(campaign_id(PER_PATIENT))]
    world.set_policy(serial=2, lifetime_micro_epsilon=8_000_000)
    world.approve(other)
    assert outcome(ledger.charge(other, requests("a1", "a2", "b1", "b2", "b3"), DAY)) == "++++-"
    assert ledger.spent(request("a", "a1").unit) == ledger.largest_spent() == PrivacyLoss.of(8)


def test_lower_budget_of_a_new_policy_holds_at_once(approved: World) -> None:
    ledger = approved.site.ledger
    ledger.charge(PER_PATIENT, requests("a1"), DAY)
    approved.set_policy(serial=2, lifetime_micro_epsilon=4_000_000)
    approved.approve()
    assert outcome(ledger.charge(PER_PATIENT, requests("a2", "a3", "b1"), DAY)) == "+-+"
    assert ledger.room(PER_PATIENT, request("b", "b1").unit, PrivacyLoss.of(1)) == 0


def test_xray_is_charged_once_per_campaign_ever(approved: World) -> None:
    ledger = approved.site.ledger
    ledger.charge(PER_PATIENT, requests("a1"), DAY)
    before = ledger.head()
    with pytest.raises(WaitingError, match="charged for campaign patients already, by another process; nothing was"):
        ledger.charge(PER_PATIENT, requests("b1", "a1"), DAY)
    assert ledger.head() == before
    assert ledger.spent(request("b", "b1").unit) == PrivacyLoss(0)


def test_xray_under_another_campaign_is_charged_anew(approved: World) -> None:
    image = approved.campaigns[1]
    approved.approve(image)
    approved.site.ledger.charge(PER_PATIENT, requests("a1"), DAY)
    assert outcome(approved.site.ledger.charge(image, requests("a1"), DAY)) == "+"


def test_merged_units_have_spent_what_both_have(approved: World) -> None:
    ledger = approved.site.ledger
    ledger.charge(PER_PATIENT, requests("a1", "b1", "c1"), DAY)
    kept, joined = request("a", "").unit, request("b", "").unit
    assert ledger.merge(kept, joined) == PrivacyLoss.of(4)
    assert ledger.spent(kept) == ledger.spent(joined) == ledger.largest_spent() == PrivacyLoss.of(4)
    assert ledger.charged_in(approved.name, joined) == 2
    # Both are at the cap of two now, in one call as in two; the third patient is not.
    assert outcome(ledger.charge(PER_PATIENT, requests("a2", "b2", "c2"), DAY)) == "--+"
    with pytest.raises(ConfigurationError, match="the two ids are counted as one patient already; nothing was changed"):
        ledger.merge(joined, kept)
    # A third id of the same person, joined to the one that is gone: all are one, after a restart as well.
    assert ledger.merge(joined, request("d", "").unit) == PrivacyLoss.of(4)
    approved.reopen()
    ledger = approved.site.ledger
    assert [ledger.root(request(unit, "").unit) for unit in "abd"] == [kept] * 3
    assert outcome(ledger.charge(PER_PATIENT, requests("d1"), DAY)) == "-"
    assert {charge.unit for charge in ledger.open_charges(approved.name)} == {kept, request("c", "").unit}


def test_merged_units_share_the_room_of_one_call(approved: World) -> None:
    ledger = approved.site.ledger
    ledger.merge(request("a", "").unit, request("b", "").unit)
    assert outcome(ledger.charge(PER_PATIENT, requests("a1", "b1", "a2"), DAY)) == "++-"


def test_another_process_hears_of_a_merge(approved: World) -> None:
    with SiteLedger.open(approved.folder / "ledger.sqlite3") as other:
        assert other.spent(request("a", "").unit) == PrivacyLoss(0)
        approved.site.ledger.charge(PER_PATIENT, requests("b1", "b2"), DAY)
        approved.site.ledger.merge(request("a", "").unit, request("b", "").unit)
        assert outcome(other.charge(PER_PATIENT, requests("a1"), DAY)) == "-"
        with pytest.raises(sqlite3.IntegrityError, match="the ledger is insert-only"):
            other._connection.execute("DELETE FROM merges")


# --- seals and abandons


def test_charge_without_its_record_is_kept_open_over_a_restart(approved: World) -> None:
    charges = approved.site.ledger.charge(PER_PATIENT, requests("a1", "b1"), DAY)
    assert isinstance(charges[0], OpenCharge)
    approved.site.ledger.seal([(charges[0], b"record")], DAY)
    approved.reopen()
    assert approved.site.ledger.open_charges(approved.name) == [charges[1]]


def test_charge_is_settled_once(approved: World) -> None:
    ledger = approved.site.ledger
    first, second = ledger.charge(PER_PATIENT, requests("a1", "b1"), DAY)
    assert isinstance(first, OpenCharge)
    assert isinstance(second, OpenCharge)
    ledger.seal([(first, b"record")], DAY)
    before = ledger.head()
    for again in (lambda: ledger.seal([(second, b"x"), (first, b"other")], DAY), lambda: ledger.abandon(first)):
        with pytest.raises(WaitingError, match="a charge is settled already, by another process"):
            again()
    assert ledger.head() == before
    assert [payload for _, payload in ledger.payloads(1, 99)] == [b"record"]
    assert ledger.open_charges(approved.name) == [second]


def test_abandoned_charge_stays_spent(approved: World) -> None:
    ledger = approved.site.ledger
    charges = ledger.charge(PER_PATIENT, requests("a1", "a2"), DAY)
    for charge in charges:
        assert isinstance(charge, OpenCharge)
        ledger.abandon(charge)
    assert ledger.open_charges(approved.name) == []
    assert ledger.spent(request("a", "a1").unit) == PrivacyLoss.of(4)
    assert ledger.counts(approved.name) == (0, 2)
    assert outcome(ledger.charge(PER_PATIENT, requests("a3"), DAY)) == "-"
    with pytest.raises(WaitingError):
        ledger.charge(PER_PATIENT, requests("a1"), DAY)


# --- batches


def test_batch_is_kept_and_sent_again_as_the_same_bytes(world: World) -> None:
    agent = world.release()
    batches = {header: world.site.ledger.sealed_batch(header) for header, _ in world.site.ledger.unacknowledged(1)}
    headers = world.site.ledger.unacknowledged(1)
    world.round()
    agent.step()
    world.reopen()
    world.agent().step()
    assert world.site.ledger.unacknowledged(1) == headers
    assert {header: world.site.ledger.sealed_batch(header) for header, _ in headers} == batches
    with pytest.raises(WaitingError, match="another process has made this batch already; let one agent run at a time"):
        world.site.ledger.file_batch(2, 2, "other", b"", b"")


def test_unknown_header_has_no_batch(world: World) -> None:
    assert world.site.ledger.sealed_batch("0" * 64) is None


def test_answers_to_a_campaign_are_kept_in_order(approved: World) -> None:
    ledger = approved.site.ledger
    assert ledger.decision(approved.name) == "approved"
    ledger.decide(approved.name, "refused")
    ledger.decide(approved.name, "refused")
    assert ledger.decision(approved.name) == "refused"
    approved.approve()
    assert ledger.decision(approved.name) == "approved"


# --- two processes


def test_two_processes_together_never_pass_the_budget(approved: World, tmp_path: Path) -> None:
    barrier = PROCESSES.Barrier(2)
    unit = request("a", "").unit
    workers = [start(charge_one_by_one, approved.folder, PER_PATIENT, unit, name, barrier) for name in ("x", "y")]
    assert [wait(worker) for worker in workers] == [0, 0]
    assert approved.site.ledger.spent(request("a", "").unit) == PrivacyLoss.of(4)
    assert approved.site.ledger.counts(approved.name) == (0, 2)
    approved.offer()
    approved.agent().step()
    write_export(approved.site, tmp_path / "export.jsonl")
    assert verify_export(tmp_path / "export.jsonl").histories[0].sequence == 5


def test_four_processes_at_once_make_fair_progress(new_world: MakeWorld) -> None:
    world = new_world(make_campaign(), count=1)
    world.approve()
    barrier, names = PROCESSES.Barrier(4), ("w", "x", "y", "z")
    workers = [start(charge_for_a_while, world.folder, world.campaign, name, barrier, 3.0) for name in names]
    assert [wait(worker) for worker in workers] == [0] * 4
    done = [int((world.folder / name).read_text()) for name in names]
    # Each has at least half of its fair share: without the file lock, one process starves the others for seconds.
    assert min(done) >= sum(done) / 8, done
    assert world.site.ledger.counts(world.name) == (20 * sum(done), 20 * sum(done))
