"""Pictures through the site's road: shown before, released, sealed, and refused where they do not fit."""

from __future__ import annotations

import sys
from functools import lru_cache
from pathlib import Path

import pytest
from PIL import Image

import ldp_client.cli.main as cli
from ldp_client.errors import PolicyRefusedError
from ldp_client.flow.encoder import Encoder, shipped
from ldp_client.privacy.image_spec import ImageSpec, image
from ldp_client.privacy.meaning import what_leaves
from ldp_client.privacy.release_design import dp_glow, joint_codebook, latent
from ldp_client.wire.campaign import Campaign
from ldp_client.wire.record import unpack
from tests.client.world import LABELS, MakeWorld, World, make_campaign

KINDS = {
    "codebook": image(joint_codebook(epsilon=2, classes=2, bottleneck_dimension=2), side=28, candidates=16),
    "latent": image(
        latent(epsilon=2, label_epsilon=1, classes=2, bottleneck_dimension=2, radius=1), side=28, candidates=16
    ),
    "dp_glow": image(dp_glow(epsilon=2, label_epsilon=1, classes=2, latents=32 * 32), side=28),
}
WORDS = {
    "codebook": "a picture of 28 x 28 pixels per X-ray, which shows no patient: one of 16 that the public encoder "
    "makes up, picked by 2 noised numbers, and a label (normal, pneumonia) drawn by lot; both together stand for what "
    "is noised of the X-ray and its own label",
    "latent": "a picture of 28 x 28 pixels per X-ray, which shows no patient: one of 16 that the public encoder makes "
    "up, picked by 2 noised numbers, and its label (normal, pneumonia), randomized at epsilon 1",
    "dp_glow": "a picture of 28 x 28 pixels per X-ray, decoded from all of the flow's latents, which were noised at "
    "epsilon 1, and its label (normal, pneumonia), randomized at epsilon 1; it is decoded from noised latents: at this "
    "epsilon it shows nothing of its X-ray",
}


@lru_cache
def encoder() -> Encoder:
    return Encoder.load(shipped())


def of(release: ImageSpec) -> Campaign:
    return make_campaign(release=release, micro_epsilon_per_record=release.loss.micro_epsilon, encoder=encoder().digest)


def a_world(new_world: MakeWorld, release: ImageSpec, **policy: object) -> World:
    allowed = {"mechanisms": ("image", release.noised.kind), "encoders": (encoder().digest,)}
    return new_world(of(release), count=8, **(allowed | policy))


def records(world: World) -> list[bytes]:
    return list(dict(world.site.ledger.payloads(1, 10_000)).values())


@pytest.mark.parametrize("kind", KINDS)
def test_every_xray_becomes_one_picture_and_a_label(new_world: MakeWorld, kind: str) -> None:
    world = a_world(new_world, KINDS[kind])
    world.release(world.agent(encoder=encoder()))
    assert world.site.ledger.counts(world.name) == (8, 8)
    found = [unpack(record, KINDS[kind]) for record in records(world)]
    assert [one.pixels.shape for one in found] == [(28, 28)] * 8
    assert {one.label for one in found} <= {0, 1}
    assert min(one.pixels.std() for one in found) > 10


def test_all_pictures_of_a_run_come_from_the_pool_that_was_drawn_before_it(new_world: MakeWorld) -> None:
    world = a_world(new_world, image(KINDS["codebook"].noised, side=28, candidates=2))
    world.release(world.agent(encoder=encoder()))
    assert len(records(world)) == 8
    assert len({record[12:] for record in records(world)}) <= 2


def test_a_campaign_for_pictures_of_another_size_is_refused_before_any_charge(
    new_world: MakeWorld, caplog: pytest.LogCaptureFixture
) -> None:
    world = a_world(new_world, image(KINDS["codebook"].noised, side=32, candidates=16))
    world.release(world.agent(encoder=encoder()))
    assert "asks for pictures of 32 x 32 pixels; the encoder makes them of 28 x 28" in caplog.text
    assert world.site.ledger.counts(world.name) == (0, 0)


@pytest.mark.parametrize(
    ("allowed", "missing"), [(("joint_codebook",), "image"), (("image", "joint_discrete_laplace"), "joint_codebook")]
)
def test_a_policy_names_the_picture_and_what_is_noised_for_it(
    new_world: MakeWorld, allowed: tuple[str, ...], missing: str
) -> None:
    world = a_world(new_world, KINDS["codebook"], mechanisms=allowed)
    world.offer()
    world.agent(encoder=encoder()).step()
    with pytest.raises(PolicyRefusedError, match=f"asks for the mechanism {missing}; the policy allows {allowed[0]}"):
        world.approve(world.campaign)


@pytest.mark.parametrize("kind", KINDS)
def test_what_leaves_is_said_in_words(kind: str) -> None:
    assert what_leaves(KINDS[kind], LABELS) == WORDS[kind]


def test_pictures_of_all_latents_are_not_said_to_hide_the_patient_at_an_epsilon_in_the_thousands() -> None:
    sharp = image(dp_glow(epsilon=10_000, label_epsilon=1, classes=2, latents=32 * 32), side=28)
    assert what_leaves(sharp, LABELS).endswith("the more it shows of its X-ray: in the thousands, the patient")


# --- the officer's commands


def run(capsys: pytest.CaptureFixture[str], world: World, *arguments: str) -> tuple[int, str, str]:
    sys.argv = ["ldp-client", "campaign", *arguments, "--state", str(world.folder)]
    with pytest.raises(SystemExit) as ended:
        cli.main()
    said = capsys.readouterr()
    return int(ended.value.code or 0), said.out, said.err


def test_the_officer_sees_pictures_of_phantoms_and_what_would_leave_for_each(
    new_world: MakeWorld, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    world = a_world(new_world, KINDS["codebook"])
    world.offer()
    world.agent(encoder=encoder()).step()
    world.site.close()
    sheet = tmp_path / "sheet.png"
    code, out, _ = run(capsys, world, "preview", "pneumonia", "--pictures", str(sheet))
    assert code == 0
    assert out.count("as it would leave a picture of 28 x 28 pixels and the label") == 4
    with Image.open(sheet) as shown:
        # Four phantoms over four pictures, a white pixel around each, eight times as large.
        assert (shown.size, shown.mode) == ((4 * 30 * 8, 2 * 30 * 8), "L")
    code, out, _ = run(capsys, world, "show", "pneumonia")
    assert code == 0
    assert "mechanism: image, joint_codebook" in out
    assert "shows no patient: one of 16" in " ".join(out.split())
    code, out, _ = run(capsys, world, "plan", "pneumonia", "--records", "2000")
    assert code == 0
    assert "each costs epsilon 2, X-ray and label together" in out
    code, _, err = run(capsys, world, "preview", "pneumonia", "--pictures", str(tmp_path / "nowhere" / "sheet.png"))
    assert code == 2
    assert "cannot be written (No such file or directory); name a file in a folder that exists" in " ".join(err.split())


def test_there_is_no_sheet_of_records_that_are_numbers(
    new_world: MakeWorld, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    world = new_world()
    world.offer()
    world.agent().step()
    world.site.close()
    code, _, err = run(capsys, world, "preview", "pneumonia", "--pictures", str(tmp_path / "sheet.png"))
    assert code == 2
    assert "records of campaign pneumonia are numbers, no pictures; leave it out" in " ".join(err.split())
