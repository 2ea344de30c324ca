"""All that a site's courier can send, parsed to the last byte against the egress table of docs/threat_model.md."""

from __future__ import annotations

import base64
import logging
import re
import types
import typing
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, Literal

import pytest
from pydantic import BaseModel, StringConstraints

from ldp_client.evaluation_set import is_held_out
from ldp_client.imaging.xray import patient_key
from ldp_client.site import data_set
from ldp_client.wire.answer import unpack_answer
from ldp_client.wire.campaign import Approval, Policy
from ldp_client.wire.canonical import AnyWire, Wire, parse
from ldp_client.wire.chain import (
    Abandon,
    ApprovalEntry,
    Charge,
    LedgerEntry,
    PolicyEntry,
    Query,
    Seal,
    parse_entry,
)
from ldp_client.wire.envelope import (
    APPROVAL,
    BATCH,
    HEADER,
    POLICY,
    STATE,
    Keyring,
    OneKey,
    close_envelope,
    open_envelope,
)
from ldp_client.wire.exchange import Batch, BatchHeader, Payload, SiteState
from ldp_client.wire.record import record_digest, unpack
from ldp_client.wire.signing import unseal
from tests.client.conftest import new_world as new_world
from tests.client.evaluations import RULE, make_evaluation
from tests.client.world import (
    OFFICER,
    SEALING,
    MakeWorld,
    World,
    configure,
    dicom_bytes,
    make_campaign,
    pictures,
)

TABLE = Path(__file__).parent.parent / "docs" / "threat_model.md"
# Bytes that hold another document of the table, or the record or answer itself.
NESTED: dict[tuple[type[Wire], str], tuple[type[Wire], ...]] = {
    (Batch, "entries"): (PolicyEntry, ApprovalEntry, Charge, Query, Seal, Abandon),
    (PolicyEntry, "envelope"): (Policy,),
    (ApprovalEntry, "envelope"): (Approval,),
    (Payload, "record"): (),
}


# --- the models against the table


def leaves(annotation: Any, metadata: tuple[Any, ...] = ()) -> Iterator[tuple[Any, tuple[Any, ...]]]:
    """The types inside a field's type, each with the constraints that stand on it."""
    origin = typing.get_origin(annotation)
    if origin is Annotated:
        inner, *constraints = typing.get_args(annotation)
        yield from leaves(inner, (*metadata, *constraints))
    elif origin in (typing.Union, types.UnionType, tuple):
        for argument in typing.get_args(annotation):
            if argument is not Ellipsis:
                yield from leaves(argument, metadata)
    else:
        yield annotation, metadata


def fields_of(model: type[BaseModel]) -> Iterator[tuple[str, Any, tuple[Any, ...]]]:
    """(field, type, constraints) of a model, tuples and unions taken apart."""
    for name, info in model.model_fields.items():
        for leaf, metadata in leaves(info.annotation, tuple(info.metadata)):
            yield name, leaf, metadata


def closure(*roots: type[BaseModel]) -> set[type[BaseModel]]:
    """Every model that can lie inside one of these."""
    reached: set[type[BaseModel]] = set()
    todo = list(roots)
    while todo:
        model = todo.pop()
        if model in reached:
            continue
        reached.add(model)
        for name, leaf, _ in fields_of(model):
            if isinstance(leaf, type) and issubclass(leaf, BaseModel):
                todo.append(leaf)
            todo += NESTED.get((model, name), ())  # type: ignore[call-overload]
    return reached


UP = closure(SiteState, BatchHeader, Batch)


def table() -> set[tuple[str, str]]:
    """(document, field) of each row below the heading "Egress"."""
    section = TABLE.read_text(encoding="utf-8").split("\n## Egress\n", 1)[1].split("\n## ", 1)[0]
    rows = [
        [cell.strip() for cell in line.strip().strip("|").split("|")]
        for line in section.splitlines()
        if line.startswith("|")
    ]
    header, _, *body = rows
    assert header == ["document", "field", "what it says"]
    assert all(len(row) == 3 and all(row) for row in body)
    assert len(body) == len({tuple(row[:2]) for row in body})
    return {(row[0], row[1]) for row in body}


def test_table_lists_every_field_of_every_document_that_goes_up() -> None:
    assert {(model.__name__, name) for model in UP for name in model.model_fields} == table()


def test_every_kind_of_entry_is_in_the_table_but_genesis() -> None:
    kinds = {model.__name__ for model in typing.get_args(LedgerEntry)}
    assert kinds - {document for document, _ in table()} == {"Genesis"}


@pytest.mark.parametrize("model", sorted(UP, key=lambda model: model.__name__), ids=lambda model: model.__name__)
def test_no_field_that_goes_up_takes_free_text(model: type[BaseModel]) -> None:
    assert model.model_config["extra"] == "forbid"
    assert model.model_config["strict"] is True
    for name, leaf, metadata in fields_of(model):
        where = f"{model.__name__}.{name}"
        if leaf is bytes:
            assert any(key[1] == name and getattr(key[0], "__name__", key[0]) == model.__name__ for key in NESTED), (
                where
            )
        elif leaf is str:
            patterns = [item.pattern for item in metadata if isinstance(item, StringConstraints)]
            assert len(patterns) == 1, f"{where} is text without a pattern"
            assert_closed(str(patterns[0]), where)
        else:
            known = leaf in (int, bool, type(None)) or typing.get_origin(leaf) is Literal
            assert known or issubclass(leaf, StrEnum | BaseModel), where


def assert_closed(pattern: str, where: str) -> None:
    """A pattern that neither a name nor a sentence can match."""
    assert pattern.startswith("^"), where
    assert pattern.endswith("$"), where
    for text in ("Erika Mustermann", "Mustermann^Erika", "/data/xrays/7.dcm", "suspected tuberculosis", "", "ü" * 64):
        assert re.search(pattern, text) is None, where


# --- a whole exchange with planted canaries

CAMPAIGN = make_campaign(unit="patient", cap=2)
EVALUATION = make_evaluation()
COUNT = 12
CANARIES = [
    *(f"Mustermann^Erika{index}" for index in range(COUNT)),
    "PAT-4711-",
    *(f"knee-of-mister-{index}" for index in range(COUNT)),
    "suspected tuberculosis",
    "Doctor Seltsam",
    "ward seven",
    "holiday picture",
    "archive-of-doctor",
    "normal",
    "pneumonia",
    "patient",
    "labels.csv",
]
# "patient" and the label names may stand in a policy as the word for the unit, and nowhere else.
WORDS = {"patient"}


def patients(secret: bytes) -> list[str]:
    """Three patients who are released and two who are held out."""
    names = [f"PAT-4711-{number}" for number in range(100)]
    held = [is_held_out(secret, patient_key(secret, "", name), RULE.share_percent) for name in names]
    inside, outside = (
        [name for name, one in zip(names, held, strict=True) if one is wanted] for wanted in (True, False)
    )
    return outside[:3] + inside[:2]


def plant(folder: Path, patients: list[str]) -> None:
    """X-rays whose names, tags and rows are full of what must not leave."""
    images, labels = pictures(COUNT, seed=21)
    inner = folder / "archive-of-doctor"
    inner.mkdir(parents=True)
    rows = ["file,label"]
    for index in range(COUNT):
        name = f"archive-of-doctor/knee-of-mister-{index}.dcm"
        tags = {
            "PatientName": f"Mustermann^Erika{index}",
            "StudyDescription": "suspected tuberculosis",
            "ReferringPhysicianName": "Doctor Seltsam",
            "InstitutionalDepartmentName": "ward seven",
        }
        (folder / name).write_bytes(dicom_bytes(images[index], patients[index % 5], **tags))
        rows.append(f"{name},{('normal', 'pneumonia')[int(labels[index])]}")
    (folder / "holiday picture.jpg").write_bytes(b"holiday picture")
    (folder / "labels.csv").write_text("\n".join(rows) + "\n")


@dataclass
class Leaving:
    """One piece of bytes that left the agent, opened as far as it goes."""

    name: str
    body: bytes


@dataclass
class Exchange:
    """What a whole exchange put into the outbox, and the site it came from."""

    world: World
    documents: list[tuple[str, bytes]]
    batches: list[bytes]
    log: str


@pytest.fixture
def exchange(new_world: MakeWorld, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> Exchange:
    """Everything that lay in the outbox at any step, until the centre had acknowledged all of it."""
    caplog.set_level(logging.DEBUG, "ldp_client")
    world = new_world(CAMPAIGN, folder=tmp_path / "site", count=1, units=("patient",), evaluations=RULE)
    world.evaluations.append(EVALUATION)
    plant(tmp_path / "site" / "planted", patients(world.site.secret))
    file = world.folder / "agent.toml"
    file.write_text(file.read_text().replace("xrays", "planted"))
    configure(world, chunk=5, records_per_batch=3)
    outbox = world.site.outbox
    documents: dict[tuple[str, bytes], None] = {}
    batches: dict[bytes, None] = {}
    agent = world.agent()
    world.offer()
    for step in range(8):
        agent.step()
        if step == 0:
            world.approve()
            world.approve(EVALUATION)
        for document in outbox.documents():
            documents[document.kind, document.body] = None
        for path in (outbox.folder / "batch").iterdir():
            batches[path.read_bytes()] = None
        assert sum(1 for path in outbox.folder.rglob("*") if path.is_file()) == len(outbox.documents()) + len(
            list((outbox.folder / "batch").iterdir())
        )
        if step < 7:
            world.round()
    assert world.headers() == []
    return Exchange(world, list(documents), list(batches), caplog.text)


def opened(exchange: Exchange) -> Iterator[Leaving]:
    """Every byte string that left, and every one inside it; each parses as exactly a document of the table."""
    site = OneKey("the site", exchange.world.site.signer.public_key)
    officer = OneKey("the officer", OFFICER.public_key)
    for kind, body in exchange.documents:
        model: type[Wire] = {"state": SiteState, "header": BatchHeader}[kind]
        yield Leaving(kind, body)
        yield Leaving(model.__name__, whole(body, {"state": STATE, "header": HEADER}[kind], site, model)[0])
    for sealed in exchange.batches:
        yield Leaving("sealed", sealed)
        inner = unseal(sealed, SEALING)
        payload, batch = whole(inner, BATCH, site, Batch)
        yield Leaving("Batch", payload)
        for body in batch.entries:
            entry = parse_entry(body)
            yield Leaving(type(entry).__name__, body)
            if isinstance(entry, PolicyEntry):
                yield Leaving("Policy", whole(entry.envelope, POLICY, officer, Policy)[0])
            elif isinstance(entry, ApprovalEntry):
                yield Leaving("Approval", whole(entry.envelope, APPROVAL, officer, Approval)[0])
        for item in batch.payloads:
            if item.record == answer_of(exchange.world):
                unpack_answer(item.record, EVALUATION.histogram)
                yield Leaving("answer", item.record)
            else:
                unpack(item.record, CAMPAIGN.release)
                yield Leaving("record", item.record)


def answer_of(world: World) -> bytes:
    """The sealed histogram of the one evaluation that was answered."""
    (payload,) = world.site.ledger._connection.execute("SELECT payload FROM answers").fetchone()
    return bytes(payload)


def whole(envelope: bytes, payload_type: str, keys: Keyring, model: type[AnyWire]) -> tuple[bytes, AnyWire]:
    """Open an envelope, and check that it is nothing but its head, its signature and the canonical bytes of a model."""
    payload = open_envelope(envelope, payload_type, keys)[1]
    document = parse(model, payload)
    key = OFFICER if payload_type in (POLICY, APPROVAL) else None
    if key is not None:
        # Ed25519 is deterministic: the envelope has no room for anything else.
        assert envelope == close_envelope(payload_type, payload, key)
    assert len(envelope) == 5 + 32 + 64 + 1 + len(payload_type) + len(payload)
    return payload, document


def spellings(secret: bytes) -> set[bytes]:
    """How a secret could stand in bytes: as it is, in hex, in base64 at each of its three offsets."""
    found = {secret, secret.hex().encode(), secret.hex().upper().encode()}
    for offset in range(3):
        coded = base64.b64encode(bytes(offset) + secret)
        found.add(coded[-(-8 * offset // 6) : -4])
    return found | {coded.translate(bytes.maketrans(b"+/", b"-_")) for coded in found}


def test_every_byte_that_leaves_parses_as_the_table_says(exchange: Exchange) -> None:
    names = {leaving.name for leaving in opened(exchange)}
    assert names == {
        *("state", "header", "sealed", "record", "answer", "SiteState", "BatchHeader", "Batch"),
        *("PolicyEntry", "Policy", "ApprovalEntry", "Approval", "Charge", "Query", "Seal"),
    }


def test_batches_hold_each_entry_and_each_record_once_and_nothing_else(exchange: Exchange) -> None:
    ledger = exchange.world.site.ledger
    site = OneKey("the site", exchange.world.site.signer.public_key)
    chain = {row.sequence: row.body for row in ledger.rows(2)}
    entries: dict[int, bytes] = {}
    records = 0
    for sealed in exchange.batches:
        batch = whole(unseal(sealed, SEALING), BATCH, site, Batch)[1]
        seals = []
        for sequence, body in enumerate(batch.entries, batch.first):
            assert sequence not in entries
            entries[sequence] = body
            entry = parse_entry(body)
            if isinstance(entry, Seal):
                seals.append((sequence, entry))
        assert [item.seal for item in batch.payloads] == [sequence for sequence, _ in seals]
        for item, (_, seal) in zip(batch.payloads, seals, strict=True):
            of = parse_entry(chain[seal.charge])
            assert isinstance(of, Charge | Query)
            assert seal.record == record_digest(of.campaign, seal.charge, item.record)
            records += isinstance(of, Charge)
    assert entries == chain
    # Three patients with two or three X-rays, two of each at most. The two who are held out have one answer together.
    assert records == ledger.counts(exchange.world.name)[0] == 6
    assert sum(isinstance(parse_entry(body), Seal) for body in entries.values()) == records + 1


def test_no_canary_leaves_and_none_is_logged(exchange: Exchange) -> None:
    for canary in CANARIES:
        for coded in (
            canary.encode(),
            canary.lower().encode(),
            canary.encode("utf-16-le"),
            canary.encode().hex().encode(),
        ):
            for leaving in opened(exchange):
                allowed = canary in WORDS and leaving.name in ("Policy", "PolicyEntry")
                assert allowed or coded not in leaving.body, f"{canary} left in {leaving.name}"
        # A campaign's own name is the centre's word, and here it is that of a label.
        assert canary not in exchange.log.replace("campaign pneumonia", ""), f"{canary} was logged"


def test_no_key_of_patient_or_xray_leaves(exchange: Exchange) -> None:
    world = exchange.world
    items = data_set(world.site, CAMPAIGN).items
    connection = world.site.ledger._connection
    salts = [row[0] for row in connection.execute("SELECT salt FROM openings UNION ALL SELECT salt FROM queries")]
    assert len(salts) == 7
    secrets = {world.site.secret, *(item.patient for item in items), *(item.identity for item in items), *salts}
    bodies = list(opened(exchange))
    for secret in secrets:
        for coded in spellings(bytes(secret)):
            assert len(coded) >= 32
            assert all(coded not in leaving.body for leaving in bodies)
        assert bytes(secret).hex() not in exchange.log


def test_a_planted_secret_would_have_been_found() -> None:
    """The twin of the two above: the spellings that they look for are those in which bytes stand in documents."""
    secret = bytes(range(224, 256))
    for before in range(3):
        for encode in (base64.b64encode, base64.urlsafe_b64encode):
            text = encode(b"x" * before + secret + b"more")
            assert any(coded in text for coded in spellings(secret))
