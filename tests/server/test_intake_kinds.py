"""Intake of every kind of release: what was drawn is stored, what cannot have been drawn is refused."""

from __future__ import annotations

from typing import Any

import pytest
from hospital import Hospital, a_campaign, noised
from world import World

from ldp_client.privacy.release_spec import dp_glow, joint_codebook, joint_laplace, latent
from ldp_client.wire.campaign import Campaign, campaign_id
from ldp_client.wire.exchange import RefusalCode
from ldp_client.wire.record import codebook_seed
from server import centre as centres

KINDS: dict[str, Any] = {
    "joint_codebook": joint_codebook(epsilon=2, classes=2, bottleneck_dimension=2, codewords=64),
    "one_hot": joint_laplace(
        epsilon=2, classes=2, bottleneck_dimension=2, radius=1, label_code="one_hot", constant="1/4"
    ),
    "latent": latent(epsilon=2, label_epsilon=1, classes=2, bottleneck_dimension=2, radius=1),
    "dp_glow": dp_glow(epsilon=2, label_epsilon=1, classes=2, latents=16),
}
HEAD, SEED = 10, 32


def joined(world: World, kind: str) -> tuple[Hospital, Campaign, int]:
    """A hospital that has approved a campaign of this kind."""
    release = KINDS[kind]
    campaign = a_campaign(kind.replace("_", "-"), release=release, micro_epsilon_per_record=release.loss.micro_epsilon)
    centres.publish(world.centre, campaign)
    hospital = world.join()
    policy = hospital.adopt(mechanisms=(release.kind,))
    return hospital, campaign, hospital.approve(campaign, policy)


@pytest.mark.parametrize("kind", KINDS)
def test_what_was_drawn_is_stored(world: World, kind: str) -> None:
    hospital, campaign, approval = joined(world, kind)
    hospital.release(campaign, approval, 3)
    assert world.deliver(hospital).refused == ()
    assert len(world.records(campaign)) == 3


def _changed(payload: bytes, place: int, value: bytes) -> bytes:
    return payload[:place] + value + payload[place + len(value) :]


FAULTS = {
    "codeword 64 of 64": ("joint_codebook", lambda p: _changed(p, HEAD, (64).to_bytes(4, "little"))),
    "another seed": ("joint_codebook", lambda p: p[:-1] + bytes([p[-1] ^ 1])),
    "seed cut off": ("joint_codebook", lambda p: p[:-1]),
    "label 2 of 2": ("latent", lambda p: _changed(p, HEAD, (2).to_bytes(2, "little"))),
    "a value beyond the noise": ("latent", lambda p: p[:-8] + (2**62).to_bytes(8, "little")),
    "a vector's head": ("dp_glow", lambda p: _changed(p, 5, b"\x01")),
    "bytes left over": ("one_hot", lambda p: p + b"\x00"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_what_cannot_have_been_drawn_is_refused_and_counted(world: World, fault: str) -> None:
    kind, change = FAULTS[fault]
    hospital, campaign, approval = joined(world, kind)
    charge = hospital.charge(campaign, approval)
    hospital.seal(campaign, charge, change(noised(campaign, "anne", charge)))
    (refusal,) = world.deliver(hospital).refused
    assert refusal.code is RefusalCode.CONTENTS


def test_codewords_of_another_charge_are_refused(world: World) -> None:
    hospital, campaign, approval = joined(world, "joint_codebook")
    charge = hospital.charge(campaign, approval)
    hospital.seal(campaign, charge, noised(campaign, "anne", charge + 1))
    (refusal,) = world.deliver(hospital).refused
    assert refusal.code is RefusalCode.CONTENTS
    assert codebook_seed(campaign_id(campaign), "anne", charge) != codebook_seed(campaign_id(campaign), "anne", 9)
