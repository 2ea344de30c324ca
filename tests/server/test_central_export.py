"""The centre's export is what the stranger's verifier reads."""

from __future__ import annotations

import base64
import json
from pathlib import Path

import pytest
from hospital import Hospital, a_campaign
from world import World

from ldp_client.errors import VerificationError
from ldp_client.verify import main as verifier
from ldp_client.verify import verify_export
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
    """Every forty-first byte of each line, beginning at another one, and its end. One bit, another at each place."""
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
            if (at + 5 * number) % 41 == 0 or at == len(line) - 1:
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


def test_no_record_is_in_the_export(world: World, ready: Ready, tmp_path: Path) -> None:
    anne, approval = ready
    anne.release(world.campaign, approval, 1)
    world.deliver(anne)
    (record,) = world.records()
    text = exported(world, tmp_path / "centre.jsonl").read_text()
    assert base64.b64encode(record.payload).decode() not in text
    assert '"type":"record"' not in text
