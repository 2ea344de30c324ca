"""The agent: a fresh witness for each release, and nothing that an X-ray can do stops the others."""

from __future__ import annotations

import logging
import threading
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from ldp_client.agent import Agent
from ldp_client.errors import LdpError, PolicyRefusedError
from ldp_client.imaging.png import png_bytes
from ldp_client.privacy.noise import SystemSource
from ldp_client.release import Released, release
from ldp_client.site import data_set
from ldp_client.wire.campaign import campaign_id
from ldp_client.wire.exchange import CampaignCode, SiteCode
from ldp_client.wire.record import unpack
from tests.client.world import (
    TODAY,
    MakeWorld,
    MeanEncoder,
    World,
    configure,
    make_campaign,
    pictures,
)

PATIENTS = make_campaign(unit="patient", cap=1)


def waiting(world: World, agent: Agent) -> str:
    """Bring an agent to the point where it asks for a witness; the nonce that it asks with."""
    world.offer()
    agent.step()
    world.approve()
    assert agent.step() is SiteCode.NEEDS_WITNESS
    nonce = world.state().nonce
    assert nonce is not None
    return nonce


def add_xray(world: World, name: str, label: str = "normal", seed: int = 99, patient: str | None = None) -> None:
    """One more file with its row."""
    (world.folder / "xrays" / name).write_bytes(png_bytes(pictures(1, seed)[0][0]))
    with (world.folder / "xrays" / "labels.csv").open("a") as table:
        table.write(f"{name},{label}" + (f",{patient}\n" if patient else "\n"))


# --- the witness


def test_nothing_is_released_without_a_witness(world: World) -> None:
    agent = world.agent()
    waiting(world, agent)
    for _ in range(3):
        world.offer()
        assert agent.step() is SiteCode.NEEDS_WITNESS
    assert world.site.ledger.counts(world.name) == (0, 0)


def test_nonce_stays_the_same_until_it_is_answered(world: World) -> None:
    agent = world.agent()
    nonce = waiting(world, agent)
    agent.step()
    assert world.state().nonce == nonce
    world.offer(world.witness(nonce))
    agent.step()
    assert world.state().nonce is None


def test_witness_of_another_nonce_releases_nothing(world: World) -> None:
    agent = world.agent()
    waiting(world, agent)
    world.offer(world.witness("0" * 64))
    assert agent.step() is SiteCode.NEEDS_WITNESS
    assert world.site.ledger.counts(world.name) == (0, 0)


def test_witness_serves_one_release(new_world: MakeWorld) -> None:
    first, second = make_campaign(), make_campaign(name="second")
    world = new_world(first, second, count=3)
    agent = world.agent()
    nonce = waiting(world, agent)
    world.offer(world.witness(nonce))
    agent.step()
    world.approve(second)
    assert agent.step() is SiteCode.NEEDS_WITNESS  # the old witness still lies in the inbox
    assert world.state().nonce not in (None, nonce)
    assert world.site.ledger.counts(campaign_id(second)) == (0, 0)


def test_nonce_is_gone_after_a_restart(world: World) -> None:
    """So a copy of the disk cannot use a witness that the original asked for."""
    nonce = waiting(world, world.agent())
    world.offer(world.witness(nonce))
    world.reopen()
    agent = world.agent()
    assert agent.step() is SiteCode.NEEDS_WITNESS
    assert world.state().nonce != nonce
    assert world.site.ledger.counts(world.name) == (0, 0)


# --- the officer's word


def test_refused_campaign_is_not_released(world: World) -> None:
    agent = world.agent()
    nonce = waiting(world, agent)
    world.site.ledger.decide(world.name, CampaignCode.REFUSED)
    world.offer(world.witness(nonce))
    agent.step()
    assert world.site.ledger.counts(world.name) == (0, 0)
    assert [answer.code for answer in world.state().campaigns] == ["refused"]


def test_refused_campaign_can_be_approved_after_all(world: World) -> None:
    agent = world.agent()
    world.offer()
    agent.step()
    world.site.ledger.decide(world.name, CampaignCode.REFUSED)
    world.approve()
    assert agent.step() is SiteCode.NEEDS_WITNESS
    world.round()
    agent.step()
    assert world.site.ledger.counts(world.name) == (30, 30)


def test_approval_under_an_old_policy_is_told_and_not_used(world: World, caplog: pytest.LogCaptureFixture) -> None:
    agent = world.agent()
    waiting(world, agent)
    world.set_policy(serial=2)
    assert agent.step() is SiteCode.SENDING
    assert world.state().code is SiteCode.SENDING
    assert "approve the campaign again" in caplog.text


def test_another_encoder_than_the_campaigns_is_refused(world: World, caplog: pytest.LogCaptureFixture) -> None:
    other = MeanEncoder()
    other.digest = "f" * 64
    world.release(world.agent(encoder=other))
    assert world.site.ledger.counts(world.name) == (0, 0)
    assert "the campaign names the encoder eeeeeeeeeeee; the one installed is ffffffffffff" in caplog.text
    with pytest.raises(PolicyRefusedError, match="Install that bundle and name it in"):
        release(
            world.campaign,
            data_set(world.site, world.campaign),
            ledger=world.site.ledger,
            encoder=other,  # type: ignore[arg-type]
            source=SystemSource(),
            today=lambda: TODAY,
        )


def test_campaign_that_cannot_be_released_does_not_stop_the_others(
    new_world: MakeWorld, caplog: pytest.LogCaptureFixture
) -> None:
    foreign = make_campaign(name="a-foreign-one", encoder="f" * 64)
    world = new_world(foreign, make_campaign(), count=4, encoders=(MeanEncoder.digest, "f" * 64))
    agent = world.release()
    for _ in range(3):
        world.round()
        agent.step()
    assert world.site.ledger.counts(world.name) == (0, 0)
    assert world.site.ledger.counts(campaign_id(world.campaigns[1])) == (4, 4)
    assert len(world.pulled) == 3  # policy, approvals, records
    assert caplog.text.count("the campaign names the encoder") == 1  # told once, not at every step


# --- X-rays


class Outputs(MeanEncoder):
    """Returns what it is told to, whatever the images are."""

    def __init__(self, *values: float) -> None:
        self._values = values

    def encode(self, images: object) -> NDArray[np.float64]:
        return np.tile(np.array(self._values), (len(images), 1))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "values",
    [(np.nan, np.nan), (np.inf, -np.inf), (0.0, 0.0), (1e300, -1e300), (np.nan, 5.0), (np.inf, 0.0), (1e-320, -0.0)],
)
def test_any_output_of_the_encoder_is_released_as_a_valid_record(
    new_world: MakeWorld, values: tuple[float, float]
) -> None:
    world = new_world(count=4)
    world.release(world.agent(encoder=Outputs(*values)))
    payloads = [payload for _, payload in world.site.ledger.payloads(1, 99)]
    assert len(payloads) == 4
    for payload in payloads:
        unpack(payload, world.campaign.release)


def released(world: World, campaign_index: int = 0) -> Released:
    """Scan the folder, then release it."""
    campaign = world.campaigns[campaign_index]
    return release(
        campaign,
        data_set(world.site, campaign),
        ledger=world.site.ledger,
        encoder=MeanEncoder(),  # type: ignore[arg-type]
        source=SystemSource(),
        today=lambda: TODAY,
    )


def test_file_that_vanishes_or_changes_after_the_scan_costs_nothing(world: World) -> None:
    world.approve()
    scanned = data_set(world.site, world.campaign)
    files = sorted((world.folder / "xrays").glob("*.png"))
    files[0].unlink()
    files[1].write_bytes(png_bytes(pictures(1, 77)[0][0]))
    files[2].write_bytes(b"no picture any more")
    gone = {item.identity for item in scanned.items if item.path in files[:3]}
    run = release(
        world.campaign,
        scanned,
        ledger=world.site.ledger,
        encoder=MeanEncoder(),  # type: ignore[arg-type]
        source=SystemSource(),
        today=lambda: TODAY,
        chunk=7,
    )
    assert run == Released(sealed=27, left_out=0, quarantined=3, waiting=0)
    assert not world.site.ledger.charged_xrays(world.name) & gone
    # Chunks are filled up, so that a gap does not tell how many files were in the way.
    kinds = "".join(row.kind[0] for row in world.site.ledger.rows(4))
    assert kinds == ("c" * 7 + "s" * 7) * 3 + "c" * 6 + "s" * 6


def test_bad_files_are_set_aside_and_the_rest_goes_on(world: World, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    folder = world.folder / "xrays"
    (folder / "Erika-Mustermann.png").write_bytes(b"not a picture")
    (folder / "unlabelled.png").write_bytes(png_bytes(pictures(1, 5)[0][0]))
    (folder / "link.png").symlink_to(world.folder / "keys" / "site.key")
    with (folder / "labels.csv").open("a") as table:
        table.write("Erika-Mustermann.png,normal\nmissing.png,normal\nlink.png,normal\n")
    world.release()
    assert world.site.ledger.counts(world.name) == (30, 30)
    assert "Mustermann" not in caplog.text


def test_folder_without_a_readable_xray_completes_with_nothing(world: World) -> None:
    for file in (world.folder / "xrays").glob("*.png"):
        file.write_bytes(b"")
    world.release()
    assert world.site.ledger.counts(world.name) == (0, 0)
    assert world.state().campaigns[0].code == "complete"


def test_missing_labels_file_is_told_and_charges_nothing(world: World, caplog: pytest.LogCaptureFixture) -> None:
    (world.folder / "xrays" / "labels.csv").unlink()
    world.release()
    assert world.site.ledger.counts(world.name) == (0, 0)
    assert "asked for the labels file" in caplog.text
    assert world.state().campaigns[0].code == "approved"


def test_caps_and_budgets_leave_out_what_they_do_not_hold(new_world: MakeWorld) -> None:
    second = make_campaign(name="second", unit="patient", cap=2)
    patients = ["a"] * 5 + ["b"] * 2 + ["c"]
    world = new_world(PATIENTS, second, count=8, patients=patients, lifetime_micro_epsilon=6_000_000)
    world.approve(PATIENTS)
    world.approve(second)
    assert released(world) == Released(sealed=3, left_out=5, quarantined=0, waiting=0)
    assert released(world, 1) == Released(sealed=5, left_out=3, quarantined=0, waiting=0)
    assert world.site.ledger.largest_spent().micro_epsilon == 6_000_000


def test_which_xray_of_a_patient_goes_is_drawn_by_lot(new_world: MakeWorld, tmp_path: Path) -> None:
    chosen = set()
    for index in range(12):
        world = new_world(PATIENTS, folder=tmp_path / str(index), count=4, patients=["a"] * 4)
        world.approve()
        released(world)
        items = {item.identity: item.path.name for item in data_set(world.site, PATIENTS).items}
        chosen |= {items[xray] for xray in world.site.ledger.charged_xrays(world.name)}  # type: ignore[index]
    assert len(chosen) > 1  # P(one of four every time) < 3e-7


# --- late arrivals


def test_late_arrivals_wait_until_enough_of_them_are_there(world: World) -> None:
    configure(world, late_batch=3)
    agent = world.release()
    for index in range(2):
        add_xray(world, f"late{index}.png", seed=200 + index)
    world.approve()  # a new approval opens the campaign again
    again(world, agent)
    assert agent.released[world.name] == Released(sealed=0, left_out=0, quarantined=0, waiting=2)
    assert world.site.ledger.counts(world.name) == (30, 30)
    add_xray(world, "late2.png", seed=202)
    world.approve()
    again(world, agent)
    assert agent.released[world.name] == Released(sealed=3, left_out=0, quarantined=0, waiting=0)
    assert world.site.ledger.counts(world.name) == (33, 33)


def again(world: World, agent: Agent) -> None:
    """Ask for a witness and release."""
    assert agent.step() is SiteCode.NEEDS_WITNESS
    world.round()
    agent.step()


def test_xrays_over_the_cap_are_no_company_for_a_late_arrival(new_world: MakeWorld) -> None:
    """Thirty that can never go do not hide the one that goes."""
    world = new_world(PATIENTS, count=30, patients=["a"] * 30)
    configure(world, late_batch=2)
    agent = world.release()
    assert agent.released[world.name] == Released(sealed=1, left_out=29, quarantined=0, waiting=0)
    add_xray(world, "late.png", patient="b")
    world.approve()
    again(world, agent)
    assert agent.released[world.name] == Released(sealed=0, left_out=29, quarantined=0, waiting=1)


# --- the loop


def test_loop_logs_a_refusal_once_and_goes_on(world: World, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    card = world.folder / "centre.json"
    body = card.read_bytes()
    card.unlink()
    stop = threading.Event()
    steps = 0

    class Counted(Agent):
        def step(self) -> SiteCode:
            nonlocal steps
            steps += 1
            if steps == 3:
                card.write_bytes(body)
            if steps == 5:
                stop.set()
            return super().step()

    Counted(world.site, encoder=MeanEncoder(), today=lambda: TODAY).run(stop, 0.001)  # type: ignore[arg-type]
    assert steps == 5
    assert caplog.text.count("no centre is pinned") == 1
    assert caplog.text.count("site is sending") == 1


def test_a_bug_is_no_refusal_and_ends_the_loop(world: World) -> None:
    class Broken(Agent):
        def step(self) -> SiteCode:
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        Broken(world.site).run(threading.Event(), 0.001)
    assert not issubclass(ZeroDivisionError, LdpError)


def test_two_agents_at_one_site_charge_nothing_twice(world: World) -> None:
    """The second finds its X-rays charged by the first, and leaves them alone."""
    world.approve()
    campaign, rival = world.campaign, data_set(world.site, world.campaign)

    def run() -> Released:
        return release(
            campaign,
            rival,
            ledger=world.site.ledger,
            encoder=MeanEncoder(),  # type: ignore[arg-type]
            source=Interrupting(),
            today=lambda: TODAY,
            chunk=30,
        )

    class Interrupting:
        """Lets the other agent do all of the work between this one's list and its charge."""

        def __init__(self) -> None:
            self._real, self._calls = SystemSource(), 0

        def __call__(self, count: int) -> bytes:
            self._calls += 1
            if self._calls == 2:
                released(world)
            return self._real(count)

    with pytest.raises(LdpError, match="charged for campaign pneumonia already, by another process"):
        run()
    assert world.site.ledger.counts(world.name) == (30, 30)
