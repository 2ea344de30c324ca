"""What changes while the agent works: labels, the date, the officer's mind, late X-rays, a second agent."""

from __future__ import annotations

import datetime
import logging
import threading

import pytest

from ldp_client.agent import HOLD_SECONDS
from ldp_client.errors import ConfigurationError, PolicyRefusedError, WaitingError
from ldp_client.ledger.store import ChargeRequest, SiteLedger
from ldp_client.officer import approve
from ldp_client.privacy.laplace import DiscreteLaplace
from ldp_client.privacy.loss import NOTHING
from ldp_client.privacy.release_design import joint_laplace
from ldp_client.release import release
from ldp_client.site import data_set
from ldp_client.submission import make_batches
from ldp_client.wire.exchange import SiteCode
from tests.client.test_agent import add_xray
from tests.client.world import OFFICER, TODAY, MakeWorld, MeanEncoder, Stream, World, configure, make_campaign

PATIENTS = make_campaign(unit="patient", cap=2)
DAY = TODAY.isoformat()


class FakeClock:
    """Seconds that pass when a test says so."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def __call__(self) -> float:
        return self.seconds


def run(world: World, **changes: object) -> object:
    """The release spine itself, on the first campaign."""
    fields: dict[str, object] = {"encoder": MeanEncoder(), "source": Stream(), "today": lambda: TODAY, "chunk": 10}
    return release(
        world.campaign,
        data_set(world.site, world.campaign),
        ledger=world.site.ledger,
        **(fields | changes),  # type: ignore[arg-type]
    )


# --- nothing that can be refused stands after the charge


def test_campaign_of_another_dimension_is_refused_before_anything_is_charged(new_world: MakeWorld) -> None:
    spec = joint_laplace(epsilon=2, classes=2, bottleneck_dimension=5, radius=1)
    world = new_world(make_campaign(release=spec), count=3)
    world.approve()
    with pytest.raises(PolicyRefusedError, match="releases 5 numbers and 2 labels; encoder and data set have 2 and 2"):
        run(world)
    assert world.site.ledger.counts(world.name) == (0, 0)


# --- a charge pays for one unit


def test_a_charge_never_pays_for_another_unit(new_world: MakeWorld) -> None:
    """Between a crash and the restart a film is given to another patient, who has paid nothing."""
    world = new_world(PATIENTS, count=1, patients=["a"])
    world.approve()
    item = data_set(world.site, PATIENTS).items[0]
    world.site.ledger.charge(PATIENTS, [ChargeRequest(item.patient, item.identity, b"s" * 32)], DAY)
    table = world.folder / "xrays" / "labels.csv"
    table.write_text(table.read_text().replace(",a\n", ",b\n"))
    other = data_set(world.site, PATIENTS).items[0]
    assert (other.identity, other.patient) != (item.identity, item.patient)
    run(world)
    assert world.site.ledger.counts(world.name) == (0, 1)
    assert world.site.ledger.open_charges(world.name) == []
    assert world.site.ledger.spent(other.patient) == NOTHING
    assert world.site.ledger.spent(item.patient) == PATIENTS.loss_per_record


# --- midnight


def test_batch_bears_the_day_of_its_last_draw_and_not_of_its_making(world: World) -> None:
    world.approve()
    run(world)
    tomorrow = TODAY + datetime.timedelta(days=1)
    make_batches(world.site.ledger, world.site.signer, world.site.centre, tomorrow)
    world.offer()
    agent = world.agent(today=lambda: tomorrow)
    agent.step()
    assert [header.day for header in world.headers() if header.records] == [DAY]


def test_run_that_crosses_the_last_day_stops_and_keeps_what_was_drawn(new_world: MakeWorld) -> None:
    world = new_world(make_campaign(ends=DAY), count=30)
    world.approve(expires=DAY)
    days = iter([TODAY, TODAY, TODAY + datetime.timedelta(days=1)])
    with pytest.raises(WaitingError, match="has ended; nothing is drawn any more"):
        run(world, today=lambda: next(days))
    assert world.site.ledger.counts(world.name) == (10, 10)
    make_batches(world.site.ledger, world.site.signer, world.site.centre, TODAY + datetime.timedelta(days=1))
    world.offer()
    world.agent(today=lambda: TODAY + datetime.timedelta(days=1)).step()
    assert [header.day for header in world.headers() if header.records] == [DAY]


# --- the officer's mind


def test_refusal_during_a_run_ends_it_at_the_next_charge(world: World) -> None:
    configure(world, chunk=10)

    def refuse(_campaign: object, done: int, _total: int) -> None:
        if done == 10:
            world.site.ledger.decide(world.name, "refused")

    agent = world.release(world.agent(report=refuse))
    assert world.site.ledger.counts(world.name) == (10, 10)
    assert world.site.ledger.decision(world.name) == "refused"
    assert [answer.code.value for answer in world.state().campaigns] == ["refused"]
    # What was drawn before is sent, and a new approval goes on where it ended.
    world.approve()
    assert agent.step() is SiteCode.NEEDS_WITNESS


def test_refusal_after_the_last_chunk_is_not_overwritten(world: World) -> None:
    world.approve()
    world.site.ledger.decide(world.name, "refused")
    world.site.ledger.complete(world.name)
    assert world.site.ledger.decision(world.name) == "refused"


def test_refused_release_is_held_and_not_tried_at_every_step(world: World) -> None:
    clock = FakeClock()
    encoder = MeanEncoder()
    encoder.digest = "d" * 64
    agent = world.release(world.agent(encoder=encoder, clock=clock))
    for _ in range(3):
        assert agent.step() is SiteCode.SENDING
    clock.seconds += HOLD_SECONDS + 1
    assert agent.step() is SiteCode.NEEDS_WITNESS


# --- late arrivals


def test_late_arrivals_are_found_and_released_without_a_new_approval(world: World) -> None:
    configure(world, late_batch=3)
    clock = FakeClock()
    agent = world.release(world.agent(clock=clock))
    for index in range(3):
        add_xray(world, f"late{index}.png", seed=300 + index)
    assert agent.step() is SiteCode.SENDING  # not looked for at every step: a look reads the whole folder
    clock.seconds += 3601
    assert agent.step() is SiteCode.NEEDS_WITNESS
    world.round()
    agent.step()
    assert world.site.ledger.counts(world.name) == (33, 33)


def test_too_few_late_arrivals_are_left_alone(world: World) -> None:
    configure(world, late_batch=3)
    clock = FakeClock()
    agent = world.release(world.agent(clock=clock))
    add_xray(world, "late.png", seed=300)
    clock.seconds += 3601
    assert agent.step() is SiteCode.SENDING
    assert world.site.ledger.counts(world.name) == (30, 30)


# --- one agent at a time


def test_second_agent_is_turned_away(world: World) -> None:
    stopped = threading.Event()
    stopped.set()
    with world.site.alone():
        second = World(world.folder, world.site, world.campaigns)
        with pytest.raises(WaitingError, match="an agent works for site north already; stop it first"):
            second.agent().run(stopped)
    world.agent().run(stopped)


def test_release_by_hand_says_that_the_witness_is_missing(world: World) -> None:
    world.offer()
    world.approve()
    agent = world.agent()
    with pytest.raises(
        WaitingError, match="has not witnessed this ledger within 0 s, so nothing was released"
    ) as found:
        agent.release(0.0)
    assert found.value.exit_code == 5
    nonce = world.state().nonce
    assert nonce is not None
    world.offer(world.witness(nonce))
    agent.release(0.0)
    assert world.site.ledger.counts(world.name) == (30, 30)


def test_release_by_hand_says_that_there_is_nothing_to_do(world: World, caplog: pytest.LogCaptureFixture) -> None:
    world.offer()
    with caplog.at_level(logging.INFO, "ldp_client.agent"):
        world.agent().release(0.0)
    assert "nothing is approved that is not released already; `ldp-client campaign list` says" in caplog.text
    caplog.clear()
    world.approve()
    agent = world.agent()
    agent.step()
    world.offer(world.witness(world.state().nonce))
    with caplog.at_level(logging.INFO, "ldp_client.agent"):
        agent.release(0.0)
    assert "30 records sealed" in caplog.text
    assert "nothing is approved" not in caplog.text


# --- large records


def test_batches_are_cut_by_bytes_too(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ldp_client.submission.MOST_BYTES", 3_000)
    world.approve()
    run(world)
    make_batches(world.site.ledger, world.site.signer, world.site.centre, TODAY)
    assert len(world.site.ledger.unacknowledged(0)) > 3  # one, with the limit as it is


def test_mechanism_is_the_last_thing_between_charge_and_seal(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """The order of the spine, seen from outside: charge, draw, seal, for each chunk."""
    order: list[str] = []
    charge, draw, seal = SiteLedger.charge, DiscreteLaplace.__call__, SiteLedger.seal
    monkeypatch.setattr(SiteLedger, "charge", lambda *a: (order.append("charge"), charge(*a))[1])
    monkeypatch.setattr(DiscreteLaplace, "__call__", lambda *a: (order.append("draw"), draw(*a))[1])
    monkeypatch.setattr(SiteLedger, "seal", lambda *a: (order.append("seal"), seal(*a))[1])
    world.approve()
    run(world)
    assert order == ["charge", "draw", "seal"] * 3


# --- receipts


def test_receipt_behind_a_gap_does_not_count_until_the_gap_is_closed(world: World) -> None:
    configure(world, records_per_batch=10)
    agent = world.release()
    world.round()
    agent.step()
    headers = world.headers()
    assert len(headers) >= 3
    first, second, third = (world.receipt(header) for header in headers[:3])
    world.offer(first, third)
    agent.step()
    assert world.site.ledger.acknowledged() == headers[0].last
    world.offer(second)
    agent.step()
    assert world.site.ledger.acknowledged() == headers[2].last


# --- days that are over


def test_campaign_that_has_ended_is_not_approved(new_world: MakeWorld) -> None:
    world = new_world(make_campaign(ends="2020-12-31"), count=1)
    world.offer()
    with pytest.raises(ConfigurationError, match="campaign pneumonia or the approval would have ended on 2020-12-31"):
        approve(world.site, world.campaign, OFFICER)
    assert not world.site.ledger.has_approval(world.name)


def test_approval_ends_with_its_campaign_at_the_latest(world: World) -> None:
    approve(world.site, world.campaign, OFFICER, "2999-12-31")
    assert world.site.ledger.standing_approval(world.campaign, DAY).approval.expires == world.campaign.ends
    with pytest.raises(ConfigurationError, match="expires on a day such as 2027-12-31; found 'soon'"):
        approve(world.site, world.campaign, OFFICER, "soon")
