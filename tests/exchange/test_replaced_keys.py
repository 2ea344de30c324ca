"""A real site and a real centre, a courier between them in memory, and keys that are replaced, lost and stolen."""

from __future__ import annotations

import base64
import json
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from exchange_pair import OFFICER, SECOND, THIRD, XRAYS, Pair, founded

from ldp_client.cli.main import main
from ldp_client.errors import ConfigurationError, EnvelopeError, SignerError, VerificationError, WaitingError
from ldp_client.ledger.store import SiteLedger
from ldp_client.officer import approve
from ldp_client.rotation import rotate_key, rotate_officer
from ldp_client.site import enrolment
from ldp_client.supernode import create_node_key
from ldp_client.verify import verify_export
from ldp_client.wire.campaign import campaign_id
from ldp_client.wire.exchange import SiteCode
from ldp_client.wire.signing import SigningKey, create_secret, fingerprint
from server.centre import (
    open_centre,
    publish,
    replace_node,
    revoke_key,
)
from server.centre import (
    rotate_key as enter_rotation,
)
from server.config import initialise
from server.store import log, sites
from server.store.queries import incidents
from tests.client.second_reader import Refused, read_site_export
from tests.client.world import make_campaign, make_site


@pytest.fixture
def pair(tmp_path: Path) -> Iterator[Pair]:
    with founded(tmp_path, open_centre(initialise(tmp_path / "centre", "Centre"))) as pair:
        yield pair


def test_a_key_is_replaced_and_everything_goes_on(pair: Pair) -> None:
    first = pair.release("before")
    document = pair.rotate()
    # What the new key signs is not believed before the rotation was entered, and the site releases nothing meanwhile.
    second = pair.begin("after")
    pair.carry(3)
    assert pair.agent.step() is SiteCode.NEEDS_WITNESS
    assert set(pair.codes()) == {"signature"}
    assert pair.site.ledger.counts(campaign_id(second)) == (0, 0)
    entered = enter_rotation(pair.centre, document)
    assert fingerprint(entered.signing_key) == fingerprint(pair.site.signer.public_key)
    # The same file again changes nothing.
    assert enter_rotation(pair.centre, document) == entered
    pair.finish()
    assert (pair.records(first), pair.records(second)) == (XRAYS, XRAYS)
    pair.exports()
    with pair.centre.database.snapshot() as connection:
        assert [line.entry.kind for line in log.lines(connection)].count("rotation") == 1
    assert {row.kind for row in pair.site.ledger.log()} >= {"key_rotation"}


def test_what_the_lost_key_had_signed_and_not_delivered_is_signed_anew(pair: Pair) -> None:
    campaign = pair.begin("one")
    # Released, announced and granted; one batch arrives and its receipt is lost, the others are lost too.
    while len(pair.centre.wanted("north")) < 4:
        pair.carry(lose_batches=True)
    pair.carry(lose_batches=True)
    waiting = pair.centre.wanted("north")
    stale = {name: pair.site.outbox.batch(name) or b"" for name in waiting}
    pair.centre.submit("north", stale[waiting[0]])
    (pair.site.folder / "keys" / "site.key").unlink()
    document = pair.rotate(lost=True)
    assert json.loads(document)["entry"]["by_old"] is None
    enter_rotation(pair.centre, document)
    # The old key's bytes come too late, granted or not.
    for body in stale.values():
        pair.centre.submit("north", body)
    assert set(pair.codes()) == {"signature"}
    pair.finish()
    assert pair.records(campaign) == XRAYS
    assert pair.site.ledger.counts(campaign_id(campaign)) == (XRAYS, XRAYS)
    pair.exports()
    with pair.centre.database.snapshot() as connection:
        assert "fork" not in {incident.code for incident in incidents(connection)}


def test_a_revoked_key_is_believed_no_more_until_another_takes_its_place(pair: Pair) -> None:
    first = pair.release("one")
    second = pair.begin("two")
    pair.carry(2)
    before = pair.records(second)
    assert revoke_key(pair.centre, "north").revoked
    revoke_key(pair.centre, "north")
    pair.carry(4)
    assert pair.records(second) == before
    assert pair.centre.wanted("north") == []
    assert "signature" in pair.codes()
    # A centre does not wait for a site whose key is revoked.
    assert pair.centre.finished()
    other = enrolment(pair.site, create_node_key(pair.folder / "other" / "node").read_text())
    with pytest.raises(EnvelopeError, match=r"the key of site north was revoked here, .* `ldp-server site rotate-key`"):
        replace_node(pair.centre, other)
    enter_rotation(pair.centre, pair.rotate(lost=True))
    pair.finish()
    assert (pair.records(first), pair.records(second)) == (XRAYS, XRAYS)
    _, theirs = pair.exports()
    kinds = [json.loads(line)["type"] for line in theirs.read_text().splitlines()]
    assert kinds.count("central") > 4


def test_a_node_is_replaced_by_the_key_in_force_and_by_no_other(pair: Pair) -> None:
    stale = enrolment(pair.site, create_node_key(pair.folder / "a" / "node").read_text())
    enter_rotation(pair.centre, pair.rotate())
    with pytest.raises(SignerError, match="only its own key in force can name its new node"):
        replace_node(pair.centre, stale)
    replace_node(pair.centre, enrolment(pair.site, create_node_key(pair.folder / "b" / "node").read_text()))


def test_an_officers_key_is_replaced_in_the_ledger_and_both_sides_follow(pair: Pair) -> None:
    pair.release("one")
    rotate_officer(pair.site, OFFICER.public_key.hex(), THIRD, SECOND)
    second = make_campaign(name="two", epsilon=1, ends="2099-12-31")
    publish(pair.centre, second)
    pair.carry(3)
    with pytest.raises(EnvelopeError, match="the signer is not an officer of this site; use a key whose public half"):
        approve(pair.site, second, OFFICER)
    # What it had signed before stands: the policy is still in force.
    approve(pair.site, second, THIRD)
    pair.finish()
    assert pair.records(second) == XRAYS
    with pair.centre.database.snapshot() as connection:
        found = sites.find(connection, "north")
    assert found.officer_keys == (THIRD.public_key, SECOND.public_key)
    pair.exports()
    with pytest.raises(VerificationError, match="puts a key into force that this ledger has known before; make a new"):
        rotate_officer(pair.site, SECOND.public_key.hex(), OFFICER, SECOND)
    with pytest.raises(VerificationError, match="the rotation replaces a key that is not in force at its place"):
        rotate_officer(pair.site, OFFICER.public_key.hex(), SigningKey(b"r" * 32), SECOND)


def test_a_stranger_replaces_no_key(pair: Pair) -> None:
    pair.site.close()
    with pytest.raises(EnvelopeError, match="the signer is not an officer of this site"):
        rotate_key(pair.site.folder, THIRD, lost=False)
    # The key file is what it was, and the next attempt takes up the one that was made.
    pair.restart()
    enter_rotation(pair.centre, pair.rotate())
    assert not (pair.site.folder / "keys" / "site.key.new").exists()


def test_a_crash_between_the_entry_and_the_key_file_is_mended(pair: Pair) -> None:
    keys = pair.site.folder / "keys"
    old = (keys / "site.key").read_bytes()
    document = pair.rotate()
    (keys / "site.key").rename(keys / "site.key.new")
    (keys / "site.key").write_bytes(old)
    (keys / "site.key").chmod(0o600)
    pair.restart()
    assert not (keys / "site.key.new").exists()
    enter_rotation(pair.centre, document)
    pair.release("one")


def test_the_old_key_put_back_opens_nothing(pair: Pair) -> None:
    key = pair.site.folder / "keys" / "site.key"
    old = key.read_bytes()
    pair.rotate()
    key.write_bytes(old)
    with pytest.raises(ConfigurationError, match=r"agent.toml or keys/site.key are another site's"):
        pair.restart()
    with pytest.raises(ConfigurationError, match=r"keys/site.key is not the key in force; say --lost if that one is"):
        rotate_key(pair.site.folder, OFFICER, lost=False)
    enter_rotation(pair.centre, pair_document(pair))


def pair_document(pair: Pair) -> bytes:
    document, _ = rotate_key(pair.site.folder, OFFICER, lost=True)
    pair.restart()
    # The first rotation was never handed over: both are entered, in their order.
    bodies = [row.body for row in pair.site.ledger.rows() if row.kind == "key_rotation"]
    with pytest.raises(VerificationError, match="the rotation replaces a key that is not in force at its place"):
        enter_rotation(pair.centre, document)
    enter_rotation(pair.centre, bodies[0])
    return bodies[1]


def test_what_is_no_rotation_is_not_entered(pair: Pair) -> None:
    bodies = [row.body for row in pair.site.ledger.rows()]
    with pytest.raises(VerificationError, match="this file is no rotation of a key; ask the site for what"):
        enter_rotation(pair.centre, bodies[0])
    rotate_officer(pair.site, OFFICER.public_key.hex(), THIRD, OFFICER)
    (officers,) = [row.body for row in pair.site.ledger.rows() if row.kind == "key_rotation"]
    with pytest.raises(SignerError, match="of an officer's key: it is taken in when its entry arrives with the ledger"):
        enter_rotation(pair.centre, officers)


def test_a_rotation_that_was_tampered_with_convinces_neither_reader(pair: Pair) -> None:
    pair.release("one")
    enter_rotation(pair.centre, pair.rotate())
    rotate_officer(pair.site, OFFICER.public_key.hex(), THIRD, OFFICER)
    pair.release("two", THIRD)
    mine, _ = pair.exports()
    lines = mine.read_bytes().splitlines(keepends=True)
    rotations = [number for number, line in enumerate(lines) if b'"type":"entry"' in line and is_rotation(line)]
    assert len(rotations) == 2
    changed = pair.folder / "changed.jsonl"
    for number in rotations:
        for place in range(0, len(lines[number]), 11):
            bad = bytes([lines[number][place] ^ 1])
            line = lines[number][:place] + bad + lines[number][place + 1 :]
            changed.write_bytes(b"".join([*lines[:number], line, *lines[number + 1 :]]))
            with pytest.raises(VerificationError):
                verify_export(changed)
            with pytest.raises((Refused, LookupError, ValueError, TypeError)):
                read_site_export(changed)


def is_rotation(line: bytes) -> bool:
    return b'"kind":"key_rotation"' in base64.b64decode(json.loads(line)["body"])


def test_no_key_is_replaced_while_an_agent_works(pair: Pair) -> None:
    with pair.site.alone(), pytest.raises(WaitingError, match="an agent works for site north already"):
        rotate_key(pair.site.folder, OFFICER, lost=False)


def test_a_mistyped_file_is_refused_before_the_key_is_replaced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    site = make_site(tmp_path / "north")
    site.close()
    create_secret(tmp_path / "officer.key", OFFICER.secret)
    before = (site.folder / "keys" / "site.key").read_bytes()
    typed = ["site", "rotate-key", "--officer-key", str(tmp_path / "officer.key"), "--out", str(tmp_path / "no" / "x")]
    monkeypatch.setattr(sys, "argv", ["ldp-client", *typed, "--state", str(site.folder)])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 2
    assert "cannot be made (No such file or directory); name a new file" in capsys.readouterr().err
    assert (site.folder / "keys" / "site.key").read_bytes() == before
    with SiteLedger.open(site.folder / "ledger.sqlite3") as ledger:
        assert ledger.head().sequence == 1
