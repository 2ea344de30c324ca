"""From the inbox to the outbox: what the agent does with an approved and witnessed campaign."""

from __future__ import annotations

import datetime
import logging

import pytest

from ldp_client.agent import Agent
from ldp_client.wire.canonical import parse
from ldp_client.wire.chain import Seal, parse_entry
from ldp_client.wire.envelope import BATCH, OneKey, open_envelope
from ldp_client.wire.exchange import Batch, SiteCode
from ldp_client.wire.record import record_digest, unpack
from ldp_client.wire.signing import unseal
from tests.client.world import SEALING, TODAY, MeanEncoder, World, configure


def test_campaign_goes_from_offer_to_receipt(world: World) -> None:
    agent = world.agent()
    world.offer()
    assert agent.step() is SiteCode.SENDING  # the policy entry waits for its receipt
    world.approve()
    assert agent.step() is SiteCode.NEEDS_WITNESS
    world.round()
    assert agent.step() is SiteCode.SENDING
    assert world.site.ledger.counts(world.name) == (30, 30)
    for _ in range(3):
        world.round()
        code = agent.step()
    assert code is SiteCode.READY
    assert world.headers() == []
    assert world.site.ledger.acknowledged() == world.site.ledger.head().sequence


def test_what_the_centre_pulls_holds_every_entry_and_every_record_once(world: World) -> None:
    configure(world, chunk=7, records_per_batch=11)
    agent = world.release()
    for _ in range(3):
        world.round()
        agent.step()
    site = OneKey("the site", world.site.signer.public_key)
    entries: dict[int, bytes] = {}
    records: dict[int, bytes] = {}
    for sealed in world.pulled.values():
        batch = parse(Batch, open_envelope(unseal(sealed, SEALING), BATCH, site)[1])
        entries |= dict(enumerate(batch.entries, batch.first))
        records |= {payload.seal: payload.record for payload in batch.payloads}
    assert entries == {row.sequence: row.body for row in world.site.ledger.rows(2)}
    assert len(records) == 30
    for sequence, record in records.items():
        entry = parse_entry(entries[sequence])
        assert isinstance(entry, Seal)
        assert entry.record == record_digest(world.name, entry.charge, record)
        unpack(record, world.campaign.release)
    assert len(world.pulled) > 3


def test_released_campaign_is_complete_and_never_released_again(world: World) -> None:
    agent = world.release()
    before = world.site.ledger.head()
    for _ in range(4):
        world.round()
        agent.step()
    assert world.site.ledger.head() == before
    assert world.state().campaigns[0].code == "complete"


def test_progress_is_reported_to_the_screen(world: World) -> None:
    configure(world, chunk=20)
    seen: list[tuple[str, int, int]] = []
    world.release(world.agent(report=lambda campaign, done, total: seen.append((campaign.name, done, total))))
    assert seen == [("pneumonia", 20, 30), ("pneumonia", 30, 30)]


def test_every_chunk_but_the_last_is_full(world: World) -> None:
    configure(world, chunk=8)
    world.release()
    kinds = "".join(row.kind[0] for row in world.site.ledger.rows(4))
    assert kinds == "c" * 8 + "s" * 8 + "c" * 8 + "s" * 8 + "c" * 8 + "s" * 8 + "c" * 6 + "s" * 6


def test_campaign_past_its_last_day_is_not_released(world: World, caplog: pytest.LogCaptureFixture) -> None:
    agent = Agent(world.site, encoder=MeanEncoder(), today=lambda: datetime.date(2031, 1, 1))  # type: ignore[arg-type]
    with caplog.at_level(logging.WARNING):
        world.release(agent)
        agent.step()
    assert world.site.ledger.counts(world.name) == (0, 0)
    refusals = [record.getMessage() for record in caplog.records]
    assert refusals == ["campaign pneumonia or its approval has ended; nothing is drawn any more"]  # told once


def test_headers_bear_the_day_and_entries_bear_no_time(world: World) -> None:
    world.release()
    assert {header.day for header in world.headers()} == {TODAY.isoformat()}
    assert all(b"2030-01-15" not in row.body for row in world.site.ledger.rows())
