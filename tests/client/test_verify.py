"""An export verifies as it is, and in no other way: every byte of it counts."""

from __future__ import annotations

import base64
import gc
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ldp_client.errors import ConfigurationError, VerificationError
from ldp_client.export import write_export
from ldp_client.ledger.store import ChargeRequest, OpenCharge, SiteLedger
from ldp_client.site import open_site
from ldp_client.verify import main, verify_export
from ldp_client.wire.canonical import canonical_bytes, parse
from ldp_client.wire.chain import Abandon, Charge, Genesis, LedgerEntry, Seal, entry_body, link, parse_entry
from ldp_client.wire.envelope import CHECKPOINT, RECEIPT, OneKey, close_envelope, open_envelope
from ldp_client.wire.exchange import BatchHeader, Checkpoint, Receipt
from tests.client.second_reader import Refused, cost, read_site_export
from tests.client.world import CENTRE, TODAY, World, make_campaign, make_world

Lines = list[dict[str, Any]]
VECTORS = Path(__file__).parents[1] / "vectors"
RELEASES = ("one_hot", "codebook", "latent", "dp_glow", "image")


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A site that has released three X-rays and has receipts for all of it; and its export."""
    world = make_world(tmp_path_factory.mktemp("finished") / "north", count=3)
    agent = world.release()
    for _ in range(3):
        world.round()
        agent.step()
    write_export(world.site, world.folder / "export.jsonl")
    yield world
    world.site.close()


@pytest.fixture
def body(finished: World) -> bytes:
    return (finished.folder / "export.jsonl").read_bytes()


def refusal(tmp_path: Path, body: bytes) -> str:
    """Why these bytes are no verified export; exit code 6."""
    file = tmp_path / "changed.jsonl"
    file.write_bytes(body)
    with pytest.raises(VerificationError) as refused:
        verify_export(file)
    assert refused.value.exit_code == 6
    return str(refused.value)


def parsed(body: bytes) -> Lines:
    return [json.loads(line) for line in body.splitlines()]


def written(lines: Lines) -> bytes:
    return b"".join(json.dumps(line, sort_keys=True, separators=(",", ":")).encode() + b"\n" for line in lines)


# --- a true export


def test_export_of_a_real_run_verifies(finished: World) -> None:
    verified = verify_export(finished.folder / "export.jsonl")
    (history,) = verified.histories
    assert (verified.side, verified.party, verified.sequence) == ("site", "north", finished.site.ledger.head().sequence)
    assert (history.sealed, len(history.open), verified.receipts) == (3, 0, 3)
    assert str(history.bound) == "2"
    assert "3 records, 0 open charges, 1 campaigns; epsilon per unit at most 2 of 8" in verified.lines()[1]


def receipts_of(body: bytes) -> list[Receipt]:
    """The receipts in an export, in the order of the chain."""
    owner = OneKey("the centre", CENTRE.public_key)
    envelopes = [base64.b64decode(line["body"]) for line in parsed(body) if line.get("kind") == "receipt"]
    receipts = [parse(Receipt, open_envelope(envelope, RECEIPT, owner)[1]) for envelope in envelopes]
    return sorted(receipts, key=lambda receipt: receipt.first)


def without_receipts(body: bytes, *dropped: int) -> bytes:
    """The export without its receipts of these numbers, as somebody who holds no key can make it."""
    gone = [receipt for number, receipt in enumerate(receipts_of(body)) if number in dropped]
    lines = [
        line for line in parsed(body) if line.get("kind") != "receipt" or receipts_of(written([line]))[0] not in gone
    ]
    assert len(parsed(body)) - len(lines) == len(dropped)
    return written(lines)


@pytest.mark.parametrize("kept", range(4))
def test_report_says_how_far_receipts_reach(tmp_path: Path, body: bytes, kept: int) -> None:
    """Whether the last receipts were never given or left out, nobody can tell from the file: so the reader is told."""
    file = tmp_path / "export.jsonl"
    file.write_bytes(without_receipts(body, *range(kept, 3)))
    verified = verify_export(file)
    reach = receipts_of(body)[kept - 1].sequence if kept else 1
    assert verified.reached == {"north": reach}
    assert verified.lines()[2:] == [
        f"  north: receipts reach entry {reach} of 9",
        f"  {kept} receipts agree with these entries",
    ]
    assert (reach == 9) == (kept == 3)


@pytest.mark.parametrize(("dropped", "found"), [((0,), 1), ((1,), 2), ((0, 1), 2)])
def test_receipt_missing_before_another_is_found(
    tmp_path: Path, body: bytes, dropped: tuple[int, ...], found: int
) -> None:
    receipts = receipts_of(body)
    end = 1 if 0 in dropped else receipts[0].sequence
    text = f"site north, entry {receipts[found].first}: the centre's receipt does not follow the one that ends at entry"
    text += f" {end}; one is missing or stands there twice"
    assert text in refusal(tmp_path, without_receipts(body, *dropped))


def test_receipt_that_stands_there_twice_is_found(tmp_path: Path, body: bytes) -> None:
    lines = parsed(body)
    first = next(line for line in lines if line.get("kind") == "receipt")
    assert "one is missing or stands there twice" in refusal(tmp_path, written([lines[0], first, *lines[1:]]))


def test_export_says_nothing_of_who_is_who(finished: World, body: bytes) -> None:
    connection = finished.site.ledger._connection
    blobs = b"".join(base64.b64decode(line["body"]) for line in parsed(body) if "body" in line)
    for row in connection.execute("SELECT unit, salt, xray FROM openings"):
        for secret in row:
            assert secret.hex().encode() not in body + blobs
            assert base64.b64encode(secret)[:40] not in body + blobs
            assert secret not in blobs


def test_export_never_overwrites_a_file(finished: World) -> None:
    with pytest.raises(ConfigurationError, match=r"cannot be made \(File exists\); name a new file"):
        write_export(finished.site, finished.folder / "export.jsonl")
    with pytest.raises(ConfigurationError, match="No such file or directory"):
        write_export(finished.site, finished.folder / "nowhere" / "export.jsonl")


def test_export_that_fails_half_way_leaves_nothing(finished: World, monkeypatch: pytest.MonkeyPatch) -> None:
    def unreadable(_ledger: SiteLedger) -> None:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(SiteLedger, "headers", unreadable)
    before = sorted(finished.folder.iterdir())
    with pytest.raises(ConfigurationError, match="cannot be made"):
        write_export(finished.site, finished.folder / "second.jsonl")
    assert sorted(finished.folder.iterdir()) == before


def test_export_while_an_agent_works_is_of_one_moment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The agent seals, sends and files a receipt between two steps of an export that somebody else has begun."""
    world = make_world(tmp_path / "north", count=1)
    auditor = open_site(world.folder)
    written = auditor.ledger.documents

    def meanwhile(kind: str) -> list[tuple[str, bytes]]:
        if kind == "campaign" and not world.receipts:
            agent = world.release()
            for _ in range(3):
                world.round()
                agent.step()
        return written(kind)

    monkeypatch.setattr(auditor.ledger, "documents", meanwhile)
    for name, sequence in (("before.jsonl", 2), ("after.jsonl", 5)):
        write_export(auditor, tmp_path / name)
        verified = verify_export(tmp_path / name)
        assert (verified.sequence, verified.reached) == (sequence, {"north": sequence if sequence > 2 else 1})
    auditor.close()
    world.site.close()


def test_export_with_an_open_and_an_abandoned_charge_verifies(tmp_path: Path) -> None:
    world = make_world(tmp_path / "north", count=1)
    world.offer()
    world.agent().step()
    world.approve()
    requests = [ChargeRequest(bytes([n]) * 32, bytes([n]) * 32, b"s" * 32) for n in range(2)]
    charges = world.site.ledger.charge(world.campaign, requests, TODAY.isoformat())
    assert isinstance(charges[0], OpenCharge)
    world.site.ledger.abandon(charges[0])
    write_export(world.site, tmp_path / "export.jsonl")
    world.site.close()
    (history,) = verify_export(tmp_path / "export.jsonl").histories
    assert (history.sealed, list(history.open)) == (0, [5])


def test_verifier_runs_as_a_program(finished: World, tmp_path: Path, body: bytes) -> None:
    changed = tmp_path / "changed.jsonl"
    changed.write_bytes(body.replace(b'"head":"', b'"head":"0', 1))
    command = [sys.executable, "-m", "ldp_client.verify"]
    good = subprocess.run([*command, finished.folder / "export.jsonl"], capture_output=True, text=True, check=False)
    assert (good.returncode, good.stderr) == (0, "")
    assert "site ledger of north: verified" in good.stdout
    bad = subprocess.run(
        [*command, finished.folder / "export.jsonl", changed], capture_output=True, text=True, check=False
    )
    assert bad.returncode == 6
    assert bad.stderr.startswith(f"{changed}: NOT verified: site north, entry 1")


def test_verifier_explains_itself(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 2
    assert main(["--help"]) == 0
    assert capsys.readouterr().out.count("usage: python -m ldp_client.verify EXPORT...") == 2
    assert main(["/nowhere/export.jsonl"]) == 2
    assert "cannot be read (No such file or directory); name an export" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["campaign", *(f"release_{kind}" for kind in RELEASES)])
def test_second_reader_finds_what_each_release_costs(name: str) -> None:
    campaign = json.loads(json.loads((VECTORS / f"{name}.json").read_text())["bytes"])
    assert cost(campaign["release"]) == campaign["micro_epsilon_per_record"]


def test_second_reader_written_from_the_format_page_agrees(finished: World, tmp_path: Path, body: bytes) -> None:
    verified = verify_export(finished.folder / "export.jsonl")
    second = read_site_export(finished.folder / "export.jsonl")
    (history,) = verified.histories
    assert (second.heads[-1], len(second.heads) - 1) == (verified.head, verified.sequence)
    assert (second.sealed, second.open, set(second.charged)) == (
        history.sealed,
        set(history.open),
        set(history.charged),
    )
    file = tmp_path / "changed.jsonl"
    for place in range(0, len(body), 97):
        file.write_bytes(body[:place] + bytes([body[place] ^ 1]) + body[place + 1 :])
        with pytest.raises((Refused, LookupError, ValueError, TypeError)):
            read_site_export(file)
        with pytest.raises(VerificationError):
            verify_export(file)


# --- changed bytes


def test_one_flipped_bit_anywhere_is_found_and_placed(tmp_path: Path, body: bytes) -> None:
    """The first sixty bytes of each line, and of the rest every thirteenth. One bit, another at each place."""
    starts = [0, *(index + 1 for index, byte in enumerate(body[:-1]) if byte == ord("\n"))]
    number = 0
    for position in range(len(body)):
        if position in starts:
            number += 1
        if position - starts[number - 1] > 60 and position % 13 and body[position] != ord("\n"):
            continue
        changed = bytearray(body)
        changed[position] ^= 1 << (position % 8)
        text = refusal(tmp_path, bytes(changed))
        # What the first line says is compared with the lines and entries below it.
        places = "line " if number == 1 else f"line {number}"
        assert places in text or "entry " in text, f"byte {position}: {text}"


@pytest.mark.parametrize("keep", range(1, 15))
def test_export_that_was_cut_off_is_refused(tmp_path: Path, body: bytes, keep: int) -> None:
    lines = body.splitlines(keepends=True)
    assert keep < len(lines)
    assert "has no checkpoint at its end; it is cut off" in refusal(tmp_path, b"".join(lines[:keep]))


def test_verifying_leaves_the_collector_as_it_found_it(tmp_path: Path, body: bytes) -> None:
    (tmp_path / "cut.jsonl").write_bytes(body[:-50])
    (tmp_path / "whole.jsonl").write_bytes(body)
    for before in (True, False):
        (gc.enable if before else gc.disable)()
        try:
            verify_export(tmp_path / "whole.jsonl")
            with pytest.raises(VerificationError):
                verify_export(tmp_path / "cut.jsonl")
            assert gc.isenabled() == before
        finally:
            gc.enable()


def test_empty_file_is_no_export(tmp_path: Path) -> None:
    assert "line 1: changed.jsonl is not a ledger export" in refusal(tmp_path, b"")


def test_entries_in_another_order_are_refused(tmp_path: Path, body: bytes) -> None:
    lines = parsed(body)
    first = next(index for index, line in enumerate(lines) if line["type"] == "entry")
    for index in range(first, len(lines) - 2):
        swapped = list(lines)
        swapped[index], swapped[index + 1] = swapped[index + 1], swapped[index]
        assert "site north, entry" in refusal(tmp_path, written(swapped))
        missing = lines[:index] + lines[index + 1 :]
        assert "site north, entry" in refusal(tmp_path, written(missing))


def test_nothing_may_follow_the_checkpoint(tmp_path: Path, body: bytes) -> None:
    lines = parsed(body)
    assert f"line {len(lines) + 1}: an export ends with its checkpoint" in refusal(
        tmp_path, written([*lines, lines[1]])
    )


def test_line_that_json_would_also_write_otherwise_is_refused(tmp_path: Path, body: bytes) -> None:
    lines = body.splitlines(keepends=True)
    lines[2] = lines[2].replace(b'":', b'": ', 1)
    assert "line 3 of the export is damaged" in refusal(tmp_path, b"".join(lines))


@pytest.mark.parametrize(
    ("change", "text"),
    [
        (lambda lines: lines[0].update(format=2), "line 1: changed.jsonl is not a ledger export"),
        (lambda lines: lines[0].update(side="hospital"), "line 1: changed.jsonl is not a ledger export"),
        (lambda lines: lines[0].update(signing_key="00"), "line 1 of the export holds no public key 'signing_key'"),
        (lambda lines: lines[0].update(ledger_id="x"), "line 1 of the export holds no ledger id"),
        (lambda lines: lines[0].update(ledger_id="0" * 64), "site north, entry 1"),
        (lambda lines: lines[0].update(site="south"), "site south, entry 1"),
        (
            lambda lines: lines[0].update(signing_key="0" * 64),
            "entry 1: the genesis entry names another signing key than the export",
        ),
        (lambda lines: lines[0].update(centre_signing_key="0" * 64), "line 2 of the export (campaign)"),
        (lambda lines: lines[1].update(kind="letter"), "line 2 of the export (letter): a document of an unknown kind"),
        (lambda lines: lines[1].update(type="letter"), "line 2 of the export is of an unknown kind"),
        (
            lambda lines: lines[1].update(kind="\x1b[2J"),
            "line 2 of the export has a 'kind' that lines of its type cannot",
        ),
        (lambda lines: lines[0].update(site="a\nb"), "line 1 of the export has a 'site' that lines of its type cannot"),
        (lambda lines: lines[0].update(name="x"), "line 1 of the export has other fields than lines of its type have"),
        (lambda lines: lines[1].pop("kind"), "line 2 of the export has other fields than lines of its type have"),
        (lambda lines: lines[1].update(body=7), "line 2 of the export has no text field 'body'"),
        (lambda lines: lines[1].update(body="===="), "line 2 of the export is damaged"),
        (lambda lines: lines[-3].update(sequence="1"), "of the export has no whole number 'sequence'"),
        (lambda lines: lines[-3].update(sequence=True), "of the export has no whole number 'sequence'"),
        (lambda lines: lines.pop(1), "is not in the export"),
    ],
)
def test_refusal_names_what_is_wrong(tmp_path: Path, body: bytes, change: Callable[[Lines], object], text: str) -> None:
    lines = parsed(body)
    change(lines)
    assert text in refusal(tmp_path, written(lines))


# --- a site that signs what is not true


def forged(world: World, lines: Lines, change: Callable[[list[LedgerEntry]], None]) -> bytes:
    """An export whose entries were changed by somebody who holds the site's key: chain and checkpoint are made anew."""
    entries = [parse_entry(base64.b64decode(line["body"])) for line in lines if line["type"] == "entry"]
    change(entries)
    ledger_id, head = world.site.ledger.genesis.ledger_id, "0" * 64
    made: Lines = [
        line for line in lines if line["type"] in ("ledger", "document") and line.get("kind", "campaign") == "campaign"
    ]
    for sequence, entry in enumerate(entries, 1):
        body = entry_body(entry)
        head = link(ledger_id, sequence, head, body)
        made.append({"type": "entry", "sequence": sequence, "body": base64.b64encode(body).decode(), "head": head})
    checkpoint = Checkpoint(party="north", ledger_id=ledger_id, sequence=len(entries), head=head)
    envelope = close_envelope(CHECKPOINT, canonical_bytes(checkpoint), world.site.signer)
    made.append({"type": "checkpoint", "body": base64.b64encode(envelope).decode()})
    return written(made)


def cheaper(entries: list[LedgerEntry]) -> None:
    charge = entries[3]
    assert isinstance(charge, Charge)
    entries[3] = charge.model_copy(update={"micro_epsilon": 1})


def unapproved(entries: list[LedgerEntry]) -> None:
    charge = entries[3]
    assert isinstance(charge, Charge)
    entries[3] = charge.model_copy(update={"approval": 2})


def another_campaign(entries: list[LedgerEntry]) -> None:
    charge = entries[3]
    assert isinstance(charge, Charge)
    entries[3] = charge.model_copy(update={"campaign": "0" * 64})


def sealed_twice(entries: list[LedgerEntry]) -> None:
    entries.append(entries[-1])


def sealed_without_charge(entries: list[LedgerEntry]) -> None:
    entries.append(Seal(charge=1, record="0" * 64))


def abandoned_after_seal(entries: list[LedgerEntry]) -> None:
    entries.append(Abandon(charge=4))


def two_beginnings(entries: list[LedgerEntry]) -> None:
    entries.append(entries[0])


def no_policy(entries: list[LedgerEntry]) -> None:
    del entries[1]


def another_officer(entries: list[LedgerEntry]) -> None:
    genesis = entries[0]
    assert isinstance(genesis, Genesis)
    entries[0] = genesis.model_copy(update={"officer_keys": ("0" * 64,)})


def older_policy(entries: list[LedgerEntry]) -> None:
    entries.append(entries[1])


@pytest.mark.parametrize(
    ("change", "text"),
    [
        (cheaper, "entry 4: charged epsilon 0.000001, the specs cost 2"),
        (unapproved, "entry 4: entry 2 is no approval of this campaign under the policy in force"),
        (another_campaign, "entry 4: the campaign 000000000000 that it was charged for is not in the export"),
        (sealed_twice, "entry 10: charge 6 does not exist or was settled before"),
        (sealed_without_charge, "entry 10: charge 1 does not exist or was settled before"),
        (abandoned_after_seal, "entry 10: charge 4 does not exist or was settled before"),
        (two_beginnings, "entry 10: a ledger begins with its genesis entry and has no other"),
        (no_policy, "entry 2: the approval was given under another policy than the one in force"),
        (another_officer, "entry 2: the signer is not an officer of this site; use a key whose public half"),
        (older_policy, "entry 10: the policy is of another site or not newer than the one in force"),
    ],
)
def test_well_signed_untruth_is_refused(
    finished: World, tmp_path: Path, body: bytes, change: Callable[[list[LedgerEntry]], None], text: str
) -> None:
    assert text in refusal(tmp_path, forged(finished, parsed(body), change))


def test_well_signed_history_without_changes_verifies(finished: World, tmp_path: Path, body: bytes) -> None:
    """The twin of the test above: it is the change that is refused, not the forging."""
    (tmp_path / "same.jsonl").write_bytes(forged(finished, parsed(body), lambda entries: None))
    assert verify_export(tmp_path / "same.jsonl").sequence == 9


def test_lower_budget_later_does_not_make_an_honest_history_a_false_one(tmp_path: Path) -> None:
    """Each charge is judged by the policy that stood when it was made."""
    campaigns = [make_campaign(name=f"number-{index}", epsilon=2) for index in range(2)]
    world = make_world(tmp_path / "north", *campaigns, count=3, lifetime_micro_epsilon=4_000_000)
    world.release()
    world.set_policy(serial=2, lifetime_micro_epsilon=2_000_000)
    write_export(world.site, tmp_path / "export.jsonl")
    assert verify_export(tmp_path / "export.jsonl").histories[0].bound.micro_epsilon == 4_000_000
    world.site.close()


def test_more_than_the_lifetime_budget_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The ledger of a faulty program: two campaigns that the policy allows one by one, and not together."""
    monkeypatch.setattr(SiteLedger, "_check_bound", lambda *_: None)
    campaigns = [make_campaign(name=f"number-{index}", epsilon=2) for index in range(2)]
    world = make_world(tmp_path / "north", *campaigns, count=1, lifetime_micro_epsilon=3_000_000)
    world.offer()
    world.agent().step()
    for index, campaign in enumerate(campaigns):
        world.approve(campaign)
        # Another unit each time: the site's own filter has nothing to refuse, the bound over campaigns has.
        world.site.ledger.charge(campaign, [ChargeRequest(bytes([index]) * 32, b"x" * 32, b"s" * 32)], "2030-01-15")
    write_export(world.site, tmp_path / "export.jsonl")
    world.site.close()
    text = refusal(tmp_path, (tmp_path / "export.jsonl").read_bytes())
    assert "entry 6: the bound per unit over all campaigns is 4, the lifetime budget 3" in text


def test_receipt_of_another_history_is_refused(finished: World, tmp_path: Path, body: bytes) -> None:
    lines = parsed(body)
    other = BatchHeader(
        site="north",
        ledger_id=finished.site.ledger.genesis.ledger_id,
        first=2,
        last=3,
        previous_head="0" * 64,
        head="1" * 64,
        records=0,
        sealed_digest="2" * 64,
        sealed_bytes=1,
        day=TODAY.isoformat(),
    )
    for change, text in (
        ({}, "site north, entry 3: the centre's receipt names another history"),
        ({"sequence": 99}, "site north, entry 99: the centre's receipt names another history"),
        ({"site": "south"}, "a receipt speaks of another ledger than those exported (site south)"),
        ({"ledger_id": "3" * 64}, "a receipt speaks of another ledger than those exported (site north)"),
    ):
        receipt = finished.receipt(other, **change).body
        line = {"type": "document", "kind": "receipt", "body": base64.b64encode(receipt).decode()}
        assert text in refusal(tmp_path, written([lines[0], line, *lines[1:]]))


@pytest.mark.parametrize("change", [{"header": "1" * 64}, {"batch_digest": "1" * 64}], ids=str)
def test_receipt_of_other_bytes_than_were_announced_is_refused(
    finished: World, tmp_path: Path, body: bytes, change: dict[str, object]
) -> None:
    last = receipts_of(body)[-1]
    envelope = close_envelope(RECEIPT, canonical_bytes(last.model_copy(update=change)), CENTRE)
    lines = parsed(without_receipts(body, 2))
    lines.insert(1, {"type": "document", "kind": "receipt", "body": base64.b64encode(envelope).decode()})
    text = f"entry {last.first}: the centre's receipt is of another batch than the one that the site's signed header"
    assert text in refusal(tmp_path, written(lines))


def test_checkpoint_of_another_place_is_refused(finished: World, tmp_path: Path, body: bytes) -> None:
    lines = parsed(body)
    ledger = finished.site.ledger
    for sequence, head in ((8, ledger.head_at(8)), (9, "0" * 64)):
        checkpoint = Checkpoint(party="north", ledger_id=ledger.genesis.ledger_id, sequence=sequence, head=head)
        envelope = close_envelope(CHECKPOINT, canonical_bytes(checkpoint), finished.site.signer)
        lines[-1]["body"] = base64.b64encode(envelope).decode()
        assert f"the signed checkpoint stands at entry {sequence} of another history" in refusal(
            tmp_path, written(lines)
        )
