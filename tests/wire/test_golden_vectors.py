"""The format stands in files: what was written once reads the same for ever, and each known fault is refused."""

from __future__ import annotations

import json
import runpy
from pathlib import Path
from typing import Any

import pytest

from ldp_client.errors import FormatError, VerificationError
from ldp_client.privacy.release_spec import JointLaplaceSpec
from ldp_client.wire import campaign, evaluation, exchange, rotation
from ldp_client.wire.answer import unpack_answer
from ldp_client.wire.canonical import canonical_bytes, parse
from ldp_client.wire.chain import ZERO, Genesis, KeyRotation, entry_body, parse_entry, walk
from ldp_client.wire.envelope import OneKey, open_envelope
from ldp_client.wire.record import record_digest, unpack
from ldp_client.wire.rotation import KeysInForce, open_rotation
from ldp_client.wire.signing import SigningKey

FOLDER = Path(__file__).parent.parent / "vectors"
GOOD = sorted(path.stem for path in FOLDER.glob("*.json") if not path.stem.startswith("bad_"))
BAD = sorted(path.stem for path in FOLDER.glob("bad_*.json"))


def vector(name: str) -> dict[str, Any]:
    loaded: dict[str, Any] = json.loads((FOLDER / f"{name}.json").read_text())
    return loaded


def reread(kind: str, body: bytes) -> bytes:
    """Parse, and write again. A KeyRotation is opened as well, as entry 7 of the golden chain."""
    if kind == "LedgerEntry":
        return entry_body(parse_entry(body))
    if kind == "KeyRotation":
        entry, genesis = parse_entry(body), parse_entry(vector("entry_genesis")["bytes"].encode())
        assert isinstance(entry, KeyRotation)
        assert isinstance(genesis, Genesis)
        open_rotation(entry, KeysInForce.of(genesis), genesis.site, genesis.ledger_id, 7)
        return body
    found = next(module for module in (campaign, evaluation, exchange, rotation) if hasattr(module, kind))
    return canonical_bytes(parse(getattr(found, kind), body))


def test_the_builder_reproduces_every_file_byte_for_byte(tmp_path: Path) -> None:
    runpy.run_path(str(FOLDER / "build_vectors.py"))["main"](tmp_path)
    built = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    assert built == {path.name: path.read_bytes() for path in FOLDER.glob("*.json")}
    assert len(GOOD) >= 20
    assert len(BAD) >= 40


@pytest.mark.parametrize("name", [name for name in GOOD if "kind" in vector(name)])
def test_a_golden_document_reads_and_writes_as_the_same_bytes(name: str) -> None:
    body = vector(name)["bytes"].encode()
    assert reread(vector(name)["kind"], body) == body


@pytest.mark.parametrize("name", BAD)
def test_a_bad_document_is_refused_in_words_that_quote_nothing_of_it(name: str) -> None:
    bad = vector(name)
    body = bad["bytes"].encode() + b" " * bad.get("spaces", 0)
    # Bytes that cannot be read are no document; a rotation that can be read may still be nobody's to make.
    with pytest.raises(VerificationError if bad["kind"] == "KeyRotation" else FormatError) as refusal:
        reread(bad["kind"], body)
    assert bad["error"] in str(refusal.value)
    assert "Mrs Example" not in str(refusal.value)
    assert len(str(refusal.value)) < 400
    assert refusal.value.__cause__ is None  # pydantic's own text quotes the input


@pytest.mark.parametrize("name", ["entry_key_rotation", "entry_key_rotation_old_key_lost"])
def test_a_golden_rotation_is_believed_at_its_place(name: str) -> None:
    body = vector(name)["bytes"].encode()
    assert reread("KeyRotation", body) == body


def test_the_chain_has_the_heads_on_file() -> None:
    chain = vector("chain")
    assert walk(chain["ledger_id"], 1, ZERO, [body.encode() for body in chain["bodies"]]) == chain["heads"]


def test_the_envelope_on_file_opens() -> None:
    file = vector("envelope")
    centre = OneKey("the centre", SigningKey(bytes.fromhex(file["secret"])).public_key)
    name, payload = open_envelope(bytes.fromhex(file["hex"]), file["payload_type"], centre)
    assert (name, payload.decode()) == ("the centre", file["payload"])


def test_the_records_on_file_hold_the_integers_beside_them() -> None:
    file = vector("record")
    release: JointLaplaceSpec = parse(campaign.Campaign, vector("campaign")["bytes"].encode()).release
    assert [unpack(bytes.fromhex(record), release).tolist() for record in file["hex"]] == file["steps"]


def test_the_answer_on_file_holds_the_counts_beside_it() -> None:
    file, asked = vector("answer"), parse(evaluation.Evaluation, vector("evaluation")["bytes"].encode())
    payload = bytes.fromhex(file["hex"])
    assert unpack_answer(payload, asked.histogram).tolist() == file["counts"]
    assert record_digest(evaluation.asked_id(asked), 4, payload) == file["digest_at_query_4"]
