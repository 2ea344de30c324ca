"""Thousands of damaged submissions, states and headers: each is refused in words or committed whole, never in part.

Mutations of what an honest site says: of the bytes as they travel, and, by a site that signs and seals whatever it
likes, of the document inside. The seed is fixed; a failure prints the mutation's number.
"""

from __future__ import annotations

import json
import random
from typing import Any

import pytest
from hospital import Hospital
from sqlalchemy import func, select
from world import World

from ldp_client.wire.chain import ZERO, walk
from ldp_client.wire.document import Document
from ldp_client.wire.envelope import HEADER, STATE, OneKey, close_envelope, open_envelope
from ldp_client.wire.exchange import sealed_digest
from server.store import sites, tables

Ready = tuple[Hospital, int]
EVIDENCE = ("entries", "policies", "approvals", "charges", "settlements", "records", "refusals", "batches", "central")
MUTATIONS, SITES = 250, 60
NUMBERS = (0, -1, 1, 2**63 - 1, 2**63, 2**200, 0.5)
TEXTS = ("", "a", "0" * 64, "f" * 64, "../../etc", "\x00", "é" * 50)
INTERESTING: tuple[Any, ...] = (None, True, *NUMBERS, *TEXTS, [], {}, [[]])


def damaged(body: bytes, dice: random.Random) -> bytes:
    """The bytes with one to four changes: a bit, a byte, a piece cut out, repeated or moved."""
    for _ in range(dice.randint(1, 4)):
        place = dice.randrange(len(body)) if body else 0
        end = place + dice.choice([1, 2, 8, 64, 500])
        before, piece, after = body[:place], body[place:end], body[end:]
        body = dice.choice(
            [
                before + bytes([dice.randrange(256)]) + body[place + 1 :],
                before + after,
                before + piece + piece + after,
                piece + after,
                before,
                body + piece,
            ]
        )
    return body


def places(value: Any, path: tuple[str | int, ...] = ()) -> list[tuple[str | int, ...]]:
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [found for key, part in inner for found in [(*path, key), *places(part, (*path, key))]]


def changed(document: bytes, dice: random.Random) -> bytes:
    """The document with one to three of its values replaced, removed or swapped; still JSON, mostly still canonical."""
    value = json.loads(document)
    for _ in range(dice.randint(1, 3)):
        path = dice.choice(places(value))
        holder = value
        for key in path[:-1]:
            holder = holder[key]
        choice = dice.randrange(4)
        if choice == 0:
            del holder[path[-1]]
        elif choice == 1 and isinstance(holder, list):
            holder.append(holder[path[-1]])
        elif choice == 2 and isinstance(holder, list):
            dice.shuffle(holder)
        else:
            holder[path[-1]] = dice.choice(INTERESTING)
        if not places(value):
            break
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode(errors="replace")


def plausible(entry: bytes, dice: random.Random) -> bytes:
    """An entry that reads well and says something else: another place, loss, campaign or commitment."""
    value = json.loads(entry)
    fields = value["entry"]
    name = dice.choice(sorted(fields.keys() - {"kind"}))
    fields[name] = dice.choice([1, 2, 3, 5, 7, 10**12]) if isinstance(fields[name], int) else "f" * 64
    return json.dumps(value, sort_keys=True, separators=(",", ":")).encode()


def held(world: World) -> dict[str, int]:
    with world.centre.database.snapshot() as connection:
        counts = {
            name: connection.execute(select(func.count()).select_from(tables.metadata.tables[name])).scalar_one()
            for name in EVIDENCE
        }
        return counts | {"sequence": connection.execute(select(tables.sites.c.sequence)).scalar_one()}


@pytest.fixture
def waiting(world: World, ready: Ready) -> tuple[World, Hospital, bytes]:
    """A centre that waits for a batch of seven entries, and its sealed bytes."""
    anne, approval = ready
    anne.release(world.campaign, approval, 2)
    sent = anne.pack_up()
    world.announce(anne, sent)
    return world, anne, sent.sealed


def test_damaged_bytes_leave_nothing_but_incidents(waiting: tuple[World, Hospital, bytes]) -> None:
    world, anne, sealed = waiting
    before, dice = held(world), random.Random(1)  # noqa: S311
    for number in range(MUTATIONS):
        hostile = damaged(sealed, dice)
        # Now and then the changes undo one another: those are the honest bytes.
        if hostile != sealed:
            world.centre.submit(anne.site, hostile)
        assert held(world) == before, number
    world.centre.submit(anne.site, sealed)
    assert held(world)["sequence"] == anne.sequence


def test_what_a_site_signs_and_announces_is_committed_whole_or_not_at_all(world: World) -> None:
    """A hostile site chains, signs, seals and announces whatever it likes: only the contents stand against it."""
    dice, whole = random.Random(2), 0  # noqa: S311
    for number in range(SITES):
        site = world.join(f"site-{number}")
        site.release(world.campaign, site.approve(world.campaign, site.adopt()), 2)
        place = dice.randrange(1, len(site.bodies))
        bodies = list(site.bodies)
        bodies[place] = (changed, damaged, plausible)[number % 3](bodies[place], dice)
        payloads = site.payloads if number % 2 else site.payloads[: dice.randrange(3)]
        site.heads[1:] = walk(site.ledger_id, 1, ZERO, bodies)
        batch = site.batch(entries=tuple(bodies[1:]), previous_head=site.heads[1], payloads=tuple(payloads))
        sent = site.pack_up(batch)
        world.announce(site, sent)
        world.centre.submit(site.site, sent.sealed)
        with world.centre.database.snapshot() as connection:
            known = sites.find(connection, site.site)
            stored = {
                name: connection.execute(
                    select(func.count()).select_from(table).where(table.c.site == site.site)
                ).scalar_one()
                for name in ("entries", "batches", "records", "refusals")
                for table in [tables.metadata.tables[name]]
            }
        if known.sequence == 1:
            assert stored == {"entries": 1, "batches": 0, "records": 0, "refusals": 0}, number
            continue
        whole += 1
        assert (known.sequence, known.head) == (len(bodies), site.heads[-1]), number
        assert (stored["entries"], stored["batches"]) == (len(bodies), 1), number
        seals = sum(b'"kind":"seal"' in body for body in bodies)
        assert stored["records"] + stored["refusals"] == seals, number
    # Both ways were taken: some batches parse and are evidence, others do not.
    assert 5 < whole < SITES - 5


@pytest.mark.parametrize(("kind", "envelope_type"), [("state", STATE), ("header", HEADER)])
def test_hostile_documents_never_stop_the_centre(
    waiting: tuple[World, Hospital, bytes], kind: str, envelope_type: str
) -> None:
    world, anne, sealed = waiting
    honest = anne.state().body if kind == "state" else anne.pack_up(anne.batch()).announcement
    _, payload = open_envelope(honest, envelope_type, OneKey(anne.site, anne.signer.public_key))
    before, dice = held(world), random.Random(3)  # noqa: S311
    for number in range(MUTATIONS):
        if number % 2:
            envelope = close_envelope(envelope_type, changed(payload, dice), anne.signer)
        else:
            envelope = damaged(honest, dice)
        world.centre.answer(anne.site, [Document(kind, envelope)])
        assert held(world) == before, number
    # And the honest batch still goes its way.
    assert sealed_digest(sealed) in world.centre.wanted(anne.site)
    world.centre.submit(anne.site, sealed)
    assert held(world)["sequence"] == 7
