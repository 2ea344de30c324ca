"""Every kind of release through the site's road: released, sealed, said in words."""

from __future__ import annotations

import re
from typing import Any

import pytest

from ldp_client.errors import FormatError, PolicyRefusedError
from ldp_client.preview import preview
from ldp_client.privacy.meaning import what_leaves
from ldp_client.privacy.release_design import dp_glow, joint_codebook, joint_laplace, latent
from ldp_client.privacy.release_spec import ReleaseSpec
from ldp_client.wire.campaign import Campaign
from ldp_client.wire.chain import Seal, parse_entry
from ldp_client.wire.record import check_contents, codebook_seed
from tests.client.world import LABELS, MakeWorld, make_campaign

KINDS: dict[str, tuple[Any, str]] = {
    "joint_codebook": (
        joint_codebook(epsilon=2, classes=2, bottleneck_dimension=2, constant="1/2"),
        "one of 256 public codewords per X-ray, which stands for the X-ray and its label (normal, pneumonia) together",
    ),
    "one_hot": (
        joint_laplace(epsilon=2, classes=2, bottleneck_dimension=2, radius=1, label_code="one_hot", constant="1/4"),
        "6 noised integers per X-ray, which stand for the X-ray and its label (normal, pneumonia) together",
    ),
    "latent": (
        latent(epsilon=2, label_epsilon=1, classes=2, bottleneck_dimension=2, radius=1),
        "2 noised integers of the bottleneck per X-ray, at epsilon 1, and its label (normal, pneumonia), randomized at "
        "epsilon 1",
    ),
    "dp_glow": (
        dp_glow(epsilon=2, label_epsilon=1, classes=2, latents=28 * 28),
        "784 noised integers for all of the flow's latents per X-ray, at epsilon 1, and its label (normal, pneumonia), "
        "randomized at epsilon 1",
    ),
}


def of(release: ReleaseSpec) -> Campaign:
    return make_campaign(release=release, micro_epsilon_per_record=release.loss.micro_epsilon)


@pytest.mark.parametrize("kind", KINDS)
def test_every_xray_gets_one_record_that_its_charge_explains(new_world: MakeWorld, kind: str) -> None:
    campaign = of(KINDS[kind][0])
    world = new_world(campaign, mechanisms=(campaign.release.kind,))
    world.release()
    ledger = world.site.ledger
    assert ledger.counts(world.name) == (30, 30)
    charge_of = {
        row.sequence: entry.charge for row in ledger.rows(2) if isinstance(entry := parse_entry(row.body), Seal)
    }
    records = dict(ledger.payloads(1, 10_000))
    assert len(set(records.values())) == len(records) == len(charge_of) == 30
    for sequence, record in records.items():
        check_contents(record, campaign.release, codebook_seed(world.name, "north", charge_of[sequence]))
        if kind == "joint_codebook":
            for seed in (
                codebook_seed(world.name, "north", charge_of[sequence] + 1),
                codebook_seed(world.name, "south", charge_of[sequence]),
                codebook_seed("0" * 64, "north", charge_of[sequence]),
            ):
                with pytest.raises(FormatError, match="another seed than that of its campaign, site and charge"):
                    check_contents(record, campaign.release, seed)


@pytest.mark.parametrize("kind", KINDS)
def test_what_leaves_is_said_in_words(kind: str) -> None:
    assert what_leaves(KINDS[kind][0], LABELS) == KINDS[kind][1]


def test_a_policy_that_does_not_name_the_mechanism_refuses_it(new_world: MakeWorld) -> None:
    campaign = of(KINDS["dp_glow"][0])
    world = new_world(campaign)
    world.offer()
    world.agent().step()
    with pytest.raises(PolicyRefusedError, match="asks for the mechanism dp_glow; the policy allows joint_discrete_la"):
        world.approve(campaign)


@pytest.mark.parametrize(
    ("kind", "text"),
    [
        ("joint_codebook", r"before noise \[.*\], as it would leave codeword \d+ of 256"),
        ("one_hot", r"before noise \[.*\], as it would leave \[-?\d+, .*\]"),
        ("latent", r"as it would leave \[-?\d+, -?\d+\] and label [01]"),
    ],
)
def test_a_preview_shows_phantoms_through_the_same_mechanism(new_world: MakeWorld, kind: str, text: str) -> None:
    campaign = of(KINDS[kind][0])
    world = new_world(campaign)
    lines = preview(world.site, campaign).lines
    assert len(lines) == 4
    for line in lines:
        assert re.search(text, line), line
