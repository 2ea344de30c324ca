"""The centre's export is what the stranger's verifier reads."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

import pytest
from hospital import Hospital, a_campaign
from world import World

from ldp_client.errors import ConfigurationError, VerificationError
from ldp_client.verify import main as verifier
from ldp_client.verify import verify_export
from ldp_client.wire.canonical import canonical_bytes, parse
from ldp_client.wire.chain import ZERO, link
from ldp_client.wire.envelope import CHECKPOINT, close_envelope
from ldp_client.wire.exchange import CentralEntry, Checkpoint, Refusal, RefusalCode
from server.centre import publish
from server.store.export import write_export

Ready = tuple[Hospital, int]


def exported(world: World, path: Path) -> Path:
    with world.centre.database.snapshot() as connection:
        lines = write_export(connection, world.centre.keys.signing, path)
    assert lines == len(path.read_text().splitlines())
    return path


def test_the_export_of_an_honest_centre_verifies(world: World, ready: Ready, tmp_path: Path) -> None:
    anne, approval = ready
    anne.release(world.campaign, approval, 3)
    world.deliver(anne)
    anne.release(world.campaign, approval, 1)
    world.deliver(anne)
    bert = world.join("bert")
    bert.release(world.campaign, bert.approve(world.campaign, bert.adopt()), 1)
    world.deliver(bert)
    verified = verify_export(exported(world, tmp_path / "centre.jsonl"))
    assert (verified.side, verified.receipts) == ("centre", 3)
    assert {history.site: str(history.bound) for history in verified.histories} == {
        site: str(world.budget(site).spent) for site in ("anne", "bert")
    }
    assert not (tmp_path / "centre.jsonl.part").exists()


def test_an_export_never_overwrites_a_file_and_names_what_it_cannot_make(world: World, tmp_path: Path) -> None:
    path = exported(world, tmp_path / "centre.jsonl")
    before = path.read_bytes()
    for place, found in ((path, "File exists"), (tmp_path / "nowhere" / "x.jsonl", "No such file or directory")):
        with pytest.raises(ConfigurationError, match=rf"cannot be made \({found}\); name a new file"):
            exported(world, place)
    assert path.read_bytes() == before


def test_what_intake_refuses_is_what_the_verifier_says_should_be_refused(
    world: World, anne: Hospital, tmp_path: Path
) -> None:
    second = a_campaign("second")
    publish(world.centre, second)
    anne.release(world.campaign, 1, 1)
    policy = anne.adopt(lifetime_micro_epsilon=6_000_000)
    approval = anne.approve(world.campaign, policy)
    anne.release(world.campaign, approval, 2)
    anne.seal(world.campaign, anne.charge(world.campaign, approval, micro_epsilon=1_000_000))
    anne.release(a_campaign("not-ours"), approval, 1)
    anne.release(second, anne.approve(second, policy), 1)
    anne.release(world.campaign, approval, 1)
    anne.seal(world.campaign, 999)
    anne.adopt(1)
    anne.approve(world.campaign, policy, signer=anne.signer)
    receipt = world.deliver(anne)
    verified = verify_export(exported(world, tmp_path / "centre.jsonl"))
    (history,) = verified.histories
    assert sorted(history.faulty_seals) == sorted(refusal.seal for refusal in receipt.refused)
    assert len(history.faulty_seals) == 6
    assert str(history.bound) == str(world.budget().spent)


def test_one_flipped_bit_anywhere_is_found_and_placed(
    world: World, ready: Ready, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """All of the first line, which has no signature of its own; every forty-first byte of each other line, beginning
    at another one, and its end. One bit, another at each place."""
    anne, approval = ready
    anne.release(world.campaign, approval, 2)
    world.deliver(anne)
    bert = world.join("bert")
    bert.release(world.campaign, bert.approve(world.campaign, bert.adopt()), 1)
    world.deliver(bert)
    body = exported(world, tmp_path / "centre.jsonl").read_bytes()
    place, changed = 0, tmp_path / "changed.jsonl"
    for number, line in enumerate(body.splitlines(keepends=True), 1):
        for at in range(len(line)):
            if number == 1 or (at + 5 * number) % 41 == 0 or at == len(line) - 1:
                flipped = line[at] ^ 1 << (at % 8)
                changed.write_bytes(body[: place + at] + bytes([flipped]) + body[place + at + 1 :])
                assert verifier([str(changed)]) == 6
                text = capsys.readouterr().err
                # What the first line says is compared with the lines and entries below it.
                placed = ["line "] if number == 1 else [f"line {number}", f"line {number + 1}"]
                assert "entry " in text or any(one in text for one in placed), f"line {number}, byte {at}: {text}"
        place += len(line)


def test_an_export_with_one_changed_entry_does_not_verify(world: World, ready: Ready, tmp_path: Path) -> None:
    anne, _ = ready
    world.deliver(anne)
    path = exported(world, tmp_path / "centre.jsonl")
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    changed = next(line for line in lines if line["type"] == "entry" and line["sequence"] == 2)
    body = base64.b64decode(changed["body"]).replace(b'"kind":"policy"', b'"kind":"policz"')
    changed["body"] = base64.b64encode(body).decode()
    path.write_text("".join(json.dumps(line, sort_keys=True, separators=(",", ":")) + "\n" for line in lines))
    with pytest.raises(VerificationError, match="entry 2"):
        verify_export(path)


def test_a_central_line_that_says_nothing_known_is_named(world: World, ready: Ready, tmp_path: Path) -> None:
    """Chained as it should be, so that only what it says stands against it."""
    path = exported(world, tmp_path / "centre.jsonl")
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    last = [line for line in lines if line["type"] == "central"][-1]
    before = [line for line in lines if line["type"] == "central"][-2]
    body = b'{"kind":"dream"}'
    last["head"] = link(lines[0]["ledger_id"], last["sequence"], before["head"], body)
    last["body"] = base64.b64encode(body).decode()
    path.write_text("".join(json.dumps(line, sort_keys=True, separators=(",", ":")) + "\n" for line in lines))
    with pytest.raises(VerificationError, match=f"central entry {last['sequence']}: these bytes are no CentralEntry"):
        verify_export(path)


def rewritten(world: World, path: Path, kind: str, **changes: Any) -> Path:
    """The export of a centre that chains and signs anew what it had said otherwise in the last line of a kind."""
    lines = [json.loads(line) for line in exported(world, path).read_text().splitlines()]
    head, sequence = ZERO, 0
    central = [line for line in lines if line["type"] == "central"]
    for line in central:
        entry = parse(CentralEntry, base64.b64decode(line["body"]))
        if entry.kind == kind:
            sequence = line["sequence"]
            entry = entry.model_copy(update=changes)
        body = canonical_bytes(entry)
        head = line["head"] = link(lines[0]["ledger_id"], line["sequence"], head, body)
        line["body"] = base64.b64encode(body).decode()
    checkpoint = Checkpoint(party=lines[0]["name"], ledger_id=lines[0]["ledger_id"], sequence=len(central), head=head)
    envelope = close_envelope(CHECKPOINT, canonical_bytes(checkpoint), world.centre.keys.signing)
    lines[-1]["body"] = base64.b64encode(envelope).decode()
    path.write_text("".join(json.dumps(line, sort_keys=True, separators=(",", ":")) + "\n" for line in lines))
    assert sequence
    return path


@pytest.mark.parametrize(
    ("kind", "changes", "text"),
    [
        (
            "enrolment",
            {"reference": "1" * 64},
            "central entry 2 cites another enrolment than the one that the site sig",
        ),
        ("batch", {"reference": "1" * 64}, "central entry 3 cites another batch than the one that the site signed"),
        (
            "batch",
            {"refused": (Refusal(seal=5, code=RefusalCode.CONTENTS),)},
            "central entry 3 is not what the receipt of site anne, entry 2, says of it",
        ),
    ],
)
def test_a_central_ledger_rewritten_after_its_receipts_is_found(
    world: World, ready: Ready, tmp_path: Path, kind: str, changes: dict[str, Any], text: str
) -> None:
    anne, approval = ready
    anne.release(world.campaign, approval, 1)
    world.deliver(anne)
    path = rewritten(world, tmp_path / "centre.jsonl", kind, **changes)
    with pytest.raises(VerificationError, match=text):
        verify_export(path)


def test_no_record_is_in_the_export(world: World, ready: Ready, tmp_path: Path) -> None:
    anne, approval = ready
    anne.release(world.campaign, approval, 1)
    world.deliver(anne)
    (record,) = world.records()
    text = exported(world, tmp_path / "centre.jsonl").read_text()
    assert base64.b64encode(record.payload).decode() not in text
    assert '"type":"record"' not in text
