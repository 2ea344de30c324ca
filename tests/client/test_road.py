"""From the inbox to the outbox: what the agent does with an approved and witnessed campaign."""

from __future__ import annotations

import datetime

from conftest import World
from ldp_client import desk
from ldp_client.export import write_export
from ldp_client.verify import verify_export
from ldp_client.wire.campaign import campaign_id
from ldp_client.wire.exchange import SiteCode


def test_approved_and_witnessed_campaign_is_released_once(world: World) -> None:
    agent = world.agent()
    world.offer()
    assert agent.step() is SiteCode.SENDING  # the policy entry waits for its receipt
    world.approve()
    assert agent.step() is SiteCode.NEEDS_WITNESS
    assert agent._nonce is not None
    world.offer(world.witness(agent._nonce))
    assert agent.step() is SiteCode.SENDING
    name = campaign_id(world.campaign)
    assert world.site.ledger.counts(name) == (30, 30)
    headers = world.site.ledger.unacknowledged(1)
    assert [d.kind for d in world.site.outbox.documents()].count("header") == len(headers)
    world.offer(*(world.grant(header) for header, _ in headers))
    agent.step()
    assert all(world.site.outbox.batch(__import__("hashlib").sha256(world.site.ledger.sealed_batch(h)).hexdigest()) for h, _ in headers)
    out = world.folder / "export.jsonl"
    write_export(world.site, out)
    print("\n".join(verify_export(out).lines()))
