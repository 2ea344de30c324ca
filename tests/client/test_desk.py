"""The desk believes the pinned centre about this site and this ledger, and nobody about anything else."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from ldp_client import desk
from ldp_client.errors import ChainError, ConfigurationError
from ldp_client.wire.canonical import canonical_bytes
from ldp_client.wire.document import Document
from ldp_client.wire.envelope import CAMPAIGN, GRANT, RECEIPT, WITNESS, close_envelope
from ldp_client.wire.exchange import Grant, SiteCode, header_id
from ldp_client.wire.signing import SigningKey
from tests.client.world import World, make_campaign, signed

STRANGER = SigningKey(b"x" * 32)
NONCE = "ab" * 32


def prepared(world: World) -> World:
    """A site with one announced batch."""
    world.offer()
    world.agent().step()
    return world


DOCUMENTS: dict[str, Callable[[World], Document]] = {
    "receipt": lambda world: world.receipt(world.headers()[0]),
    "witness": lambda world: world.witness(NONCE),
    "grant": lambda world: world.grant(header_id(world.headers()[0])),
}


@pytest.mark.parametrize("kind", DOCUMENTS)
def test_document_of_the_centre_counts(world: World, kind: str) -> None:
    prepared(world).offer(DOCUMENTS[kind](world))
    mail = desk.read_mail(world.site)
    assert mail.conflict is None
    assert [witness.nonce for witness, _ in mail.witnesses] == [NONCE] * (kind == "witness")
    assert len(mail.granted) == (kind == "grant")
    assert world.site.ledger.acknowledged() == (2 if kind == "receipt" else 1)


def nothing_happened(world: World) -> bool:
    """Whether the inbox holds nothing that counts."""
    mail = desk.read_mail(world.site)
    return (mail.witnesses, mail.granted, mail.conflict) == ((), frozenset(), None)


@pytest.mark.parametrize("kind", DOCUMENTS)
def test_document_signed_by_another_key_is_passed_over(world: World, kind: str) -> None:
    body = DOCUMENTS[kind](prepared(world)).body
    payload = body[body.index(b"{") :]
    type_ = {"receipt": RECEIPT, "witness": WITNESS, "grant": GRANT}[kind]
    world.offer(Document(kind, close_envelope(type_, payload, STRANGER)))
    assert nothing_happened(world)
    assert world.site.ledger.acknowledged() == 1


@pytest.mark.parametrize("kind", DOCUMENTS)
@pytest.mark.parametrize("position", [0, 10, 40, 101, -1])
def test_altered_document_is_passed_over(world: World, kind: str, position: int) -> None:
    body = bytearray(DOCUMENTS[kind](prepared(world)).body)
    body[position] ^= 1
    world.offer(Document(kind, bytes(body)))
    assert nothing_happened(world)


@pytest.mark.parametrize("kind", DOCUMENTS)
def test_document_for_another_site_is_passed_over(world: World, kind: str) -> None:
    """Or a courier could stop this site with what the centre wrote to another."""
    prepared(world)
    header = world.headers()[0]
    documents = {
        "receipt": world.receipt(header, site="south", ledger_id="1" * 64),
        "witness": world.witness(NONCE, site="south", ledger_id="1" * 64),
        "grant": world.grant(header_id(header), site="south"),
    }
    world.offer(documents[kind])
    assert nothing_happened(world)


def test_document_under_the_name_of_another_kind_is_passed_over(world: World) -> None:
    prepared(world)
    world.offer(
        Document("grant", world.witness(NONCE).body),
        Document("witness", world.receipt(world.headers()[0]).body),
        Document("receipt", b"no envelope at all"),
        Document("campaign", b""),
    )
    assert nothing_happened(world)


def test_campaign_signed_by_another_key_is_not_offered(world: World) -> None:
    envelope = close_envelope(CAMPAIGN, canonical_bytes(make_campaign(name="forged")), STRANGER)
    world.offer(Document("campaign", envelope))
    desk.read_mail(world.site)
    assert [campaign.name for campaign in desk.campaigns(world.site)] == ["pneumonia"]


def test_campaign_stays_offered_when_the_inbox_forgets_it(world: World) -> None:
    world.offer()
    desk.read_mail(world.site)
    world.site.inbox.mirror([])
    desk.read_mail(world.site)
    assert [campaign.name for campaign in desk.campaigns(world.site)] == ["pneumonia"]


def test_site_without_a_pinned_centre_says_so(world: World) -> None:
    (world.folder / "centre.json").unlink()
    with pytest.raises(ConfigurationError, match=r"no centre is pinned: .* site pin FILE --fingerprint"):
        world.agent().step()


def test_card_that_was_rewritten_is_refused(world: World) -> None:
    card = world.folder / "centre.json"
    card.write_bytes(card.read_bytes() + b"\n")
    with pytest.raises(ConfigurationError, match="is not the centre's card as the centre wrote it"):
        world.agent().step()


# --- contradictions


@pytest.mark.parametrize("kind", ["receipt", "witness"])
@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"ledger_id": "1" * 64}, SiteCode.CLONE),
        ({"head": "2" * 64}, SiteCode.ROLLBACK),
        ({"sequence": 99}, SiteCode.ROLLBACK),
    ],
)
def test_centre_that_knows_another_history_stops_the_site(
    world: World, kind: str, change: dict[str, object], code: SiteCode
) -> None:
    prepared(world)
    document = world.receipt(world.headers()[0], **change) if kind == "receipt" else world.witness(NONCE, **change)  # type: ignore[arg-type]
    world.approve()
    world.offer(document)
    agent = world.agent()
    assert agent.step() is code
    assert world.state().code is code
    assert agent._nonce is None
    assert world.headers() == []
    assert world.site.ledger.counts(world.name) == (0, 0)
    assert world.site.ledger.acknowledged() == 1
    # A person is told, in a log and as an exit.
    assert [f"does not hold ({code.value}): it was restored from a backup" in told for told in agent._told] == [True]
    with pytest.raises(ChainError, match=r"Nothing is released or sent\. Stop the agent, put the newest") as refused:
        world.agent().release(0.0)
    assert (refused.value.exit_code, refused.value.code) == (6, code.value)


def test_contradiction_outweighs_a_good_witness(world: World) -> None:
    agent = world.agent()
    world.offer()
    agent.step()
    world.approve()
    agent.step()
    assert agent._nonce is not None
    world.offer(world.witness(agent._nonce), world.witness(NONCE, sequence=99, head="2" * 64))
    assert agent.step() is SiteCode.ROLLBACK
    assert world.site.ledger.counts(world.name) == (0, 0)


def test_ledger_put_back_from_a_copy_is_stopped_by_its_own_receipts(world: World) -> None:
    world.site.close()
    old = (world.folder / "ledger.sqlite3").read_bytes()
    world.reopen()
    world.release()
    for _ in range(2):
        world.round()
        world.agent().step()
    world.site.close()
    for extra in ("-wal", "-shm"):
        (world.folder / f"ledger.sqlite3{extra}").unlink(missing_ok=True)
    (world.folder / "ledger.sqlite3").write_bytes(old)
    world.reopen()
    world.offer(*world.receipts)
    assert world.agent().step() is SiteCode.ROLLBACK
    assert world.headers() == []


# --- what is laid out


def test_batch_lies_in_the_outbox_only_against_its_grant(world: World) -> None:
    world.release()
    batches = world.site.outbox.folder / "batch"
    first, _, third = world.headers()
    world.offer()
    world.agent().step()
    assert list(batches.iterdir()) == []
    world.offer(world.grant(header_id(third)))
    world.agent().step()
    assert [path.name for path in batches.iterdir()] == [third.sealed_digest]
    world.offer(world.grant("0" * 64), world.grant(header_id(first), ledger_id="1" * 64))
    world.agent().step()
    assert list(batches.iterdir()) == []


def test_grant_is_for_one_ledger(world: World) -> None:
    prepared(world)
    header = header_id(world.headers()[0])
    genesis = world.site.ledger.genesis
    world.offer(signed("grant", Grant(site=genesis.site, ledger_id="1" * 64, header=header)))
    assert desk.read_mail(world.site).granted == frozenset()


def test_header_goes_away_with_its_receipt(world: World) -> None:
    prepared(world)
    (header,) = world.headers()
    world.offer(world.receipt(header))
    world.agent().step()
    assert world.headers() == []
    assert world.state().acknowledged == header.last


def test_answers_are_one_word_each(world: World) -> None:
    world.campaigns.append(make_campaign(name="second"))
    agent = world.agent()
    world.offer()
    agent.step()
    assert [answer.code for answer in world.state().campaigns] == ["offered", "offered"]
    world.approve(world.campaigns[1])
    agent.step()
    assert [answer.code for answer in world.state().campaigns] == ["offered", "approved"]
