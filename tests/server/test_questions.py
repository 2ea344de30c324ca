"""What can be asked of the centre from its command line, and a site's export held against it in words."""

from __future__ import annotations

import base64
import json
import sys
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from hospital import Hospital, a_campaign
from sqlalchemy import delete, select, text
from world import World

from ldp_client.errors import ChainError, CloneError, ForkError, SignerError
from ldp_client.wire.canonical import canonical_bytes
from ldp_client.wire.envelope import CAMPAIGN, CHECKPOINT, close_envelope
from ldp_client.wire.exchange import Checkpoint
from server.centre import publish
from server.cli.main import main
from server.reconcile import compare
from server.store import tables
from server.store.export import write_export

Ready = tuple[Hospital, int]


class Terminal:
    """Types `ldp-server` commands at the centre's folder."""

    def __init__(self, world: World, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
        self._world, self._monkeypatch, self._capsys = world, monkeypatch, capsys
        self.out = self.err = ""

    def __call__(self, *arguments: str | Path) -> int:
        state = str(self._world.config.parent)
        self._monkeypatch.setattr(sys, "argv", ["ldp-server", *map(str, arguments), "--state", state])
        self._capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            main()
        self.out, self.err = self._capsys.readouterr()
        return int(ended.value.code or 0)

    def rows(self, *arguments: str) -> list[dict[str, Any]]:
        assert self(*arguments, "--format", "json") == 0, self.err
        rows: list[dict[str, Any]] = json.loads(self.out)
        return rows


@pytest.fixture
def gathered(world: World, ready: Ready) -> World:
    """Two batches of anne on two days, one of bert; a second campaign that only bert takes part in."""
    anne, approval = ready
    anne.release(world.campaign, approval, 2)
    world.deliver(anne)
    anne.release(world.campaign, approval, 1)
    sent = anne.pack_up(day="2030-02-20")
    world.announce(anne, sent)
    world.accept(anne, sent)
    second = a_campaign("second")
    publish(world.centre, second)
    bert = world.join("bert")
    bert.release(second, bert.approve(second, bert.adopt()), 1)
    world.deliver(bert)
    return world


@pytest.fixture
def ldp(gathered: World, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Terminal:
    return Terminal(gathered, monkeypatch, capsys)


def test_budgets_are_shown_for_all_sites_or_one(ldp: Terminal) -> None:
    anne, bert = ldp.rows("budget", "show")
    assert (anne["site"], anne["entries"], anne["records"]) == ("anne", 9, 3)
    assert (anne["spent_per_unit"], anne["agreed_per_unit"], anne["remaining_per_unit"]) == ("4", "10", "6")
    assert ldp.rows("budget", "show", "--site", "bert") == [bert]
    assert ldp("budget", "show", "--site", "carl") == 2
    assert "no site carl is enrolled here" in ldp.err


FIRST, SECOND = ("anne", "2030-01-15", "pneumonia", 2), ("anne", "2030-02-20", "pneumonia", 1)
OTHER = ("bert", "2030-01-15", "second", 1)


@pytest.mark.parametrize(
    ("options", "found"),
    [
        ((), [FIRST, SECOND, OTHER]),
        (("--site", "bert"), [OTHER]),
        (("--campaign", "second"), [OTHER]),
        (("--since", "2030-02-01"), [SECOND]),
        (("--until", "2030-02-01", "--site", "anne"), [FIRST]),
    ],
    ids=str,
)
def test_history_is_filtered(ldp: Terminal, options: tuple[str, ...], found: list[tuple[str, str, str, int]]) -> None:
    rows = ldp.rows("budget", "history", *options)
    assert [(row["site"], row["day"], row["campaign"], row["charges"]) for row in rows] == found
    assert {row["bound_per_unit"] for row in rows} == {"4"}


@pytest.mark.parametrize(
    ("options", "found"),
    [
        ((), ["campaign", "enrolment", "batch", "batch", "campaign", "enrolment", "batch"]),
        (("--site", "anne"), ["enrolment", "batch", "batch"]),
        (("--campaign", "second"), ["campaign", "batch"]),
        (("--since", "2030-02-01"), ["batch"]),
        (("--until", "2030-02-01"), ["batch", "batch"]),
    ],
    ids=str,
)
def test_log_is_filtered(ldp: Terminal, options: tuple[str, ...], found: list[str]) -> None:
    assert [row["kind"] for row in ldp.rows("ledger", "log", *options)] == found


def test_one_line_or_entry_is_shown_in_full(ldp: Terminal) -> None:
    shown = {row["field"]: row["value"] for row in ldp.rows("ledger", "show", "3")}
    assert (shown["kind"], shown["site"], shown["first"], shown["sequence"]) == ("batch", "anne", "2", "7")
    assert shown["head"] != shown["central_head"]
    shown = {row["field"]: row["value"] for row in ldp.rows("ledger", "show", "4", "--site", "anne")}
    assert (shown["kind"], shown["micro_epsilon"]) == ("charge", "2000000")
    assert ldp("ledger", "show", "99") == 2
    assert "the central ledger has no entry 99 here; it ends at entry" in ldp.err
    assert ldp("ledger", "show", "99", "--site", "anne") == 2
    assert "the ledger of site anne has no entry 99 here; it ends at entry" in ldp.err


@pytest.mark.parametrize(
    ("options", "count"),
    [
        ((), 14),
        (("--site", "anne"), 9),
        (("--campaign", "second"), 2),
        (("--since", "2030-02-01"), 2),
        (("--until", "2030-02-01"), 10),
        (("--campaign", "pneumonia", "--since", "2030-02-01"), 2),
    ],
    ids=str,
)
def test_entries_are_written_as_rows(ldp: Terminal, tmp_path: Path, options: tuple[str, ...], count: int) -> None:
    out = tmp_path / "rows.jsonl"
    assert ldp("ledger", "export", "--as", "jsonl", "--out", out, *options) == 0, ldp.err
    assert ldp.out == f"wrote {count} lines to {out}\n"
    rows = [json.loads(line) for line in out.read_text().splitlines()]
    assert len(rows) == count
    # A seal belongs to the campaign of its charge.
    assert all(row["campaign"] for row in rows if row["kind"] in ("charge", "seal"))


@pytest.mark.parametrize(
    "command",
    [
        ("ledger", "log"),
        ("ledger", "show", "4"),
        ("ledger", "export", "--as", "csv", "--out", "x"),
        ("budget", "history"),
    ],
)
def test_a_mistyped_site_is_named_and_not_an_empty_answer(ldp: Terminal, command: tuple[str, ...]) -> None:
    assert ldp(*command, "--site", "ann") == 2
    assert "no site ann is enrolled here" in ldp.err
    assert not Path("x").exists()


def test_a_part_of_a_ledger_is_no_proof(ldp: Terminal, tmp_path: Path) -> None:
    assert ldp("ledger", "export", "--out", tmp_path / "x", "--site", "anne") == 2
    assert "a part of a ledger proves nothing" in ldp.err


def test_a_site_is_suspended_resumed_and_gets_another_node(ldp: Terminal, gathered: World, tmp_path: Path) -> None:
    assert ldp("site", "suspend", "anne") == 0
    assert [row["suspended"] for row in ldp.rows("site", "list")] == ["yes", "no"]
    assert ldp("site", "resume", "anne") == 0
    assert [row["suspended"] for row in ldp.rows("site", "list")] == ["no", "no"]
    anne = gathered.hospitals["anne"]
    anne.node = ec.generate_private_key(ec.SECP384R1())
    (tmp_path / "anne.enrolment").write_bytes(anne.enrolment())
    assert ldp("site", "replace-node", tmp_path / "anne.enrolment") == 0
    assert gathered.centre.site_of(anne.node_key_pem) == "anne"
    assert ldp("site", "replace-node", tmp_path / "none") == 2
    assert "cannot be read (No such file or directory); ask the site for it again" in ldp.err


# --- reconcile


def site_export(world: World, hospital: Hospital, path: Path, *, receipts: list[bytes], entries: int = 0) -> Path:
    """What the site would write: its entries up to `entries`, the campaigns, these receipts and as many headers."""
    count, keys = entries or hospital.sequence, world.centre.keys
    lines: list[dict[str, Any]] = [
        {
            "type": "ledger",
            "side": "site",
            "format": 1,
            "site": hospital.site,
            "ledger_id": hospital.ledger_id,
            "signing_key": hospital.signer.public_key.hex(),
            "centre_signing_key": keys.signing.public_key.hex(),
        }
    ]
    for campaign in (world.campaign, a_campaign("second")):
        envelope = close_envelope(CAMPAIGN, canonical_bytes(campaign), keys.signing)
        lines.append({"type": "document", "kind": "campaign", "body": base64.b64encode(envelope).decode()})
    for sequence, (body, head) in enumerate(zip(hospital.bodies, hospital.heads[1:], strict=True), 1):
        if sequence <= count:
            entry = {"sequence": sequence, "body": base64.b64encode(body).decode(), "head": head}
            lines.append({"type": "entry", **entry})
    headers = select(tables.headers.c.envelope).where(tables.headers.c.site == hospital.site)
    with world.centre.database.snapshot() as connection:
        announced = list(connection.execute(headers.order_by(tables.headers.c.first)).scalars())
    for header in announced[: len(receipts)]:
        lines.append({"type": "document", "kind": "header", "body": base64.b64encode(header).decode()})
    for receipt in receipts:
        lines.append({"type": "document", "kind": "receipt", "body": base64.b64encode(receipt).decode()})
    checkpoint = Checkpoint(
        party=hospital.site, ledger_id=hospital.ledger_id, sequence=count, head=hospital.heads[count]
    )
    envelope = close_envelope(CHECKPOINT, canonical_bytes(checkpoint), hospital.signer)
    lines.append({"type": "checkpoint", "body": base64.b64encode(envelope).decode()})
    path.write_text("".join(json.dumps(line, sort_keys=True, separators=(",", ":")) + "\n" for line in lines))
    return path


def receipts(world: World, site: str) -> list[bytes]:
    return [document.body for document in world.centre.offer(site) if document.kind == "receipt"]


def compared(world: World, path: Path) -> str:
    with world.centre.database.snapshot() as connection:
        return "\n".join(compare(connection, path, world.centre.keys.signing.public_key))


def test_two_sides_that_know_the_same_say_so(gathered: World, tmp_path: Path, ldp: Terminal) -> None:
    anne = gathered.hospitals["anne"]
    path = site_export(gathered, anne, tmp_path / "anne.jsonl", receipts=receipts(gathered, "anne"))
    assert ldp("ledger", "reconcile", path) == 0, ldp.err
    assert ldp.out.splitlines() == [
        "site anne: the export has 9 entries, the centre 9; all that both have are the same",
        "  2 receipts are the same on both sides",
    ]


def test_what_was_not_sent_or_not_heard_yet_is_no_contradiction(gathered: World, tmp_path: Path) -> None:
    anne = gathered.hospitals["anne"]
    anne.release(gathered.campaign, 3, 1)
    path = site_export(gathered, anne, tmp_path / "anne.jsonl", receipts=receipts(gathered, "anne")[:1])
    said = compared(gathered, path)
    assert "entries 10 to 11 have not reached the centre" in said
    assert "the site has not filed the receipt of entries 8 to 9" in said


def test_an_export_that_ends_early_is_named(gathered: World, tmp_path: Path) -> None:
    anne = gathered.hospitals["anne"]
    path = site_export(gathered, anne, tmp_path / "anne.jsonl", receipts=receipts(gathered, "anne")[:1], entries=7)
    assert "entries 8 to 9 are not in the export: it is older than what the centre has, or" in compared(gathered, path)


def test_refused_records_are_counted(gathered: World, tmp_path: Path) -> None:
    anne = gathered.hospitals["anne"]
    anne.seal(gathered.campaign, anne.charge(gathered.campaign, 3), b"not a record")
    gathered.deliver(anne)
    path = site_export(gathered, anne, tmp_path / "anne.jsonl", receipts=receipts(gathered, "anne"))
    assert "1 records were refused and their charges stay spent (contents)" in compared(gathered, path)


def test_another_history_is_found_at_its_first_entry(gathered: World, tmp_path: Path, ldp: Terminal) -> None:
    anne = gathered.hospitals["anne"]
    other = anne.copy()
    del other.bodies[7:], other.heads[8:]
    other.release(gathered.campaign, 3, 1)
    path = site_export(gathered, other, tmp_path / "other.jsonl", receipts=receipts(gathered, "anne")[:1])
    with pytest.raises(ForkError, match="site anne, entry 8: the export has another entry than the centre committed"):
        compared(gathered, path)
    assert ldp("ledger", "reconcile", path) == 6


def test_another_ledger_of_the_site_is_a_clone(gathered: World, tmp_path: Path) -> None:
    stranger = Hospital("anne", gathered.centre.keys.sealing.public_key)
    with pytest.raises(CloneError, match=r"site anne was enrolled with ledger .* the export is of .*: another"):
        compared(gathered, site_export(gathered, stranger, tmp_path / "x.jsonl", receipts=[]))


def test_a_receipt_that_the_centre_has_lost_is_found(gathered: World, tmp_path: Path) -> None:
    """The centre's database was restored from a backup: the site holds what the centre does not remember."""
    anne = gathered.hospitals["anne"]
    path = site_export(gathered, anne, tmp_path / "anne.jsonl", receipts=receipts(gathered, "anne"))
    with gathered.centre.database.transaction() as connection:
        on = "" if connection.dialect.name == "sqlite" else " ON batches"
        name = "batches_no_delete" if connection.dialect.name == "sqlite" else "batches_kept"
        connection.execute(text(f"DROP TRIGGER {name}{on}"))
        connection.execute(delete(tables.batches).where(tables.batches.c.first == 8))
    with pytest.raises(
        ChainError, match="site anne, entry 8: the site holds a receipt that this centre has no trace of"
    ):
        compared(gathered, path)


def test_a_centres_export_is_no_sites(gathered: World, tmp_path: Path) -> None:
    with gathered.centre.database.snapshot() as connection:
        write_export(connection, gathered.centre.keys.signing, tmp_path / "centre.jsonl")
    with pytest.raises(SignerError, match="a site's export is compared with this ledger; this file is a centre's"):
        compared(gathered, tmp_path / "centre.jsonl")
