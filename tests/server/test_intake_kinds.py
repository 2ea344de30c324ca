"""Every kind of release at the centre: its records are taken, tampered ones refused, and campaign.toml says it."""

from __future__ import annotations

import os
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hospital import Hospital, a_campaign
from world import World

from ldp_client.errors import ConfigurationError
from ldp_client.flow.installed import open_bundle
from ldp_client.privacy.drawing import draw, prepare
from ldp_client.privacy.image_spec import CampaignRelease, ImageSpec, image, noised_release
from ldp_client.privacy.images import make_images
from ldp_client.privacy.noise import SystemSource
from ldp_client.privacy.release_design import dp_glow, joint_codebook, joint_laplace, latent
from ldp_client.wire.campaign import campaign_id
from ldp_client.wire.exchange import RefusalCode
from ldp_client.wire.record import codebook_seed, pack
from server import centre as centres
from server.cli.campaign import read_campaign

RELEASES: dict[str, CampaignRelease] = {
    "codebook": joint_codebook(epsilon=2, classes=2, bottleneck_dimension=2, codewords=64),
    "constant": joint_codebook(epsilon=2, classes=2, bottleneck_dimension=2, codewords=64, constant="1/2"),
    "one_hot": joint_laplace(
        epsilon=2, classes=2, bottleneck_dimension=2, radius=1, label_code="one_hot", constant="1/4"
    ),
    "latent": latent(epsilon=2, label_epsilon=1, classes=2, bottleneck_dimension=2, radius=1),
    "dp_glow": dp_glow(epsilon=2, label_epsilon=1, classes=2, latents=5),
    "image": image(joint_codebook(epsilon=2, classes=2, bottleneck_dimension=2, codewords=64), side=4),
}


@dataclass(frozen=True)
class Black:
    """A painter of one black picture."""

    spec: ImageSpec

    def paint(self, estimates: np.ndarray) -> np.ndarray:
        return np.zeros((1, self.spec.side, self.spec.side), dtype=np.uint8)


def record(release: CampaignRelease, seed: bytes) -> bytes:
    noised = noised_release(release)
    value = prepare(noised, np.ones((1, noised.input_dimension)), np.array([1]))
    drawn = draw(noised, value, [seed], SystemSource())
    made = make_images(Black(release), drawn, SystemSource()) if isinstance(release, ImageSpec) else drawn
    return pack(made)[0]


@dataclass
class Site:
    """An approved site, and what the centre says of one record of it."""

    world: World
    hospital: Hospital
    campaign: Any
    approval: int

    def code(self, tamper: Any = lambda payload: payload, site: str = "anne", shift: int = 0) -> RefusalCode | None:
        charge = self.hospital.charge(self.campaign, self.approval)
        seed = codebook_seed(campaign_id(self.campaign), site, charge + shift)
        self.hospital.seal(self.campaign, charge, tamper(record(self.campaign.release, seed)))
        refused = self.world.deliver(self.hospital).refused
        return refused[0].code if refused else None


def site(world: World, name: str) -> Site:
    campaign = a_campaign("tried", release=RELEASES[name], cap=1)
    centres.publish(world.centre, campaign)
    anne = world.join("anne")
    policy = anne.adopt(mechanisms=("joint_discrete_laplace", "joint_codebook", "latent", "dp_glow", "image"))
    return Site(world, anne, campaign, anne.approve(campaign, policy))


@pytest.mark.parametrize("name", RELEASES)
def test_a_record_is_taken_and_one_of_another_size_or_kind_is_not(world: World, name: str) -> None:
    tried = site(world, name)
    assert tried.code() is None
    assert tried.code(lambda payload: payload[:-1]) is RefusalCode.CONTENTS
    assert tried.code(lambda payload: payload + b"\0") is RefusalCode.CONTENTS
    other = {b"\x01": b"\x02", b"\x02": b"\x01", b"\x03": b"\x04", b"\x04": b"\x03"}
    assert tried.code(lambda payload: payload[:5] + other[payload[5:6]] + payload[6:]) is RefusalCode.CONTENTS
    assert tried.code(lambda payload: payload[:6] + struct.pack("<I", 4097) + payload[10:]) is RefusalCode.CONTENTS
    assert len(world.records(tried.campaign)) == 1


@pytest.mark.parametrize("name", ["codebook", "constant"])
def test_an_index_beyond_the_codebook_and_another_seed_are_refused(world: World, name: str) -> None:
    tried = site(world, name)
    for index, code in ((63, None), (64, RefusalCode.CONTENTS), (2**32 - 1, RefusalCode.CONTENTS)):
        swap = struct.pack("<I", index)
        assert tried.code(lambda payload, swap=swap: payload[:10] + swap + payload[14:]) is code
    assert tried.code(lambda payload: payload[:-32] + os.urandom(32)) is RefusalCode.CONTENTS
    assert tried.code(site="bert") is RefusalCode.CONTENTS
    assert tried.code(shift=1) is RefusalCode.CONTENTS


@pytest.mark.parametrize("name", ["latent", "dp_glow", "image"])
def test_a_label_that_there_is_not_is_refused(world: World, name: str) -> None:
    tried = site(world, name)
    for label, code in ((1, None), (2, RefusalCode.CONTENTS), (65_535, RefusalCode.CONTENTS)):
        swap = struct.pack("<H", label)
        assert tried.code(lambda payload, swap=swap: payload[:10] + swap + payload[12:]) is code


@pytest.mark.parametrize("name", ["one_hot", "latent", "dp_glow"])
def test_a_step_that_no_draw_reaches_is_refused(world: World, name: str) -> None:
    assert site(world, name).code(lambda payload: payload[:-8] + struct.pack("<q", 2**60)) is RefusalCode.CONTENTS


# --- campaign.toml

TOML = """[campaign]
name = "tried"
purpose = "test"
encoder = "shipped:kermany28"
labels = ["normal", "pneumonia"]
ends = "2030-12-31"
epsilon = "2"
mechanism = "{}"
"""
KEYS = {
    "joint_discrete_laplace": 'label_code = "one_hot"\nconstant = "1/4"\nradius = "2"\n',
    "joint_codebook": 'label_code = "one_hot"\nconstant = "1/4"\ncodewords = 256\n',
    "latent": 'label_epsilon = "1/2"\nradius = "2"\n',
    "dp_glow": 'label_epsilon = "1/2"\nbound = "2"\n',
}


def written(folder: Path, mechanism: str, keys: str) -> Path:
    file = folder / "campaign.toml"
    file.write_text(TOML.format(mechanism) + keys)
    return file


@pytest.mark.parametrize("mechanism", KEYS)
def test_each_mechanism_has_its_campaign_and_is_published(tmp_path: Path, world: World, mechanism: str) -> None:
    campaign = read_campaign(written(tmp_path, mechanism, KEYS[mechanism]))
    assert campaign.release.kind == mechanism
    assert 1_999_999 <= campaign.micro_epsilon_per_record <= 2_000_000
    centres.publish(world.centre, campaign)
    assert world.centre.find_campaign("tried") == campaign


@pytest.mark.parametrize(
    ("mechanism", "key", "takes"),
    [
        ("joint_codebook", 'radius = "1"', "coordinates, codewords, label_code, constant"),
        ("joint_discrete_laplace", "codewords = 64", "coordinates, radius, label_code, constant"),
        ("latent", 'constant = "1/2"', "coordinates, radius, label_epsilon"),
        ("dp_glow", 'radius = "1"', "bound, label_epsilon"),
        ("dp_glow", "coordinates = 1", "bound, label_epsilon"),
    ],
)
def test_a_key_of_another_mechanism_is_refused_in_words(tmp_path: Path, mechanism: str, key: str, takes: str) -> None:
    name = key.split(" ")[0]
    text = rf"\[campaign\] {name}: the mechanism {mechanism} takes {takes}; leave it out"
    with pytest.raises(ConfigurationError, match=text):
        read_campaign(written(tmp_path, mechanism, key + "\n"))


@pytest.mark.parametrize("mechanism", ["joint_discrete_laplace", "joint_codebook", "latent"])
def test_a_campaign_takes_the_first_coordinates_that_it_names(tmp_path: Path, mechanism: str) -> None:
    named = read_campaign(written(tmp_path, mechanism, KEYS[mechanism] + "coordinates = 1\n"))
    assert named.release.input_dimension == 1
    given = open_bundle("shipped:kermany28", tmp_path).dimension
    assert read_campaign(written(tmp_path, mechanism, KEYS[mechanism])).release.input_dimension == min(4, given)


@pytest.mark.parametrize("asked", ["0", "-1", "4096"])
def test_coordinates_that_the_encoder_does_not_have_are_refused(tmp_path: Path, asked: str) -> None:
    given = open_bundle("shipped:kermany28", tmp_path).dimension
    text = rf"coordinates: the encoder has {given}, .* found {asked}; ask for 1 to {given}"
    with pytest.raises(ConfigurationError, match=text):
        read_campaign(written(tmp_path, "joint_codebook", f"coordinates = {asked}\n"))


@pytest.mark.parametrize("asked", ['"2"', "2.0", "true"])
def test_coordinates_are_a_whole_number(tmp_path: Path, asked: str) -> None:
    with pytest.raises(ConfigurationError, match="write a whole number without quotes"):
        read_campaign(written(tmp_path, "joint_codebook", f"coordinates = {asked}\n"))


@pytest.mark.parametrize("mechanism", ["latent", "dp_glow"])
def test_a_label_of_its_own_needs_its_share(tmp_path: Path, mechanism: str) -> None:
    with pytest.raises(ConfigurationError, match="label_epsilon: say how much of epsilon 2 the label takes of its own"):
        read_campaign(written(tmp_path, mechanism, ""))


def test_all_latents_have_no_first_few(tmp_path: Path) -> None:
    with pytest.raises(
        ConfigurationError, match="coordinates: the mechanism dp_glow takes bound, label_epsilon; leave it"
    ):
        read_campaign(written(tmp_path, "dp_glow", KEYS["dp_glow"] + "coordinates = 3\n"))


@pytest.mark.parametrize(("mechanism", "candidates"), [("joint_codebook", 4096), ("latent", 4096), ("dp_glow", 0)])
def test_a_picture_is_asked_for_by_one_key(tmp_path: Path, world: World, mechanism: str, candidates: int) -> None:
    keys = {**KEYS, "joint_codebook": ""}[mechanism]
    campaign = read_campaign(written(tmp_path, mechanism, keys + 'record = "image"\n'))
    assert isinstance(campaign.release, ImageSpec)
    assert (campaign.release.kind, campaign.release.noised.kind) == ("image", mechanism)
    assert (campaign.release.side, campaign.release.candidates) == (28, candidates)
    centres.publish(world.centre, campaign)
    assert world.centre.find_campaign("tried") == campaign


@pytest.mark.parametrize(
    ("mechanism", "keys", "words"),
    [
        ("joint_codebook", "candidates = 64\n", r"candidates: they are for pictures .* leave it out"),
        (
            "dp_glow",
            KEYS["dp_glow"] + 'record = "image"\ncandidates = 64\n',
            r"another mechanism than dp_glow; leave",
        ),
        ("joint_codebook", 'record = "image"\ncandidates = 1\n', "at least 2 candidates; found 1"),
        ("joint_codebook", 'record = "image"\ncandidates = 0\n', "at least 2 candidates; found 0"),
        ("joint_codebook", 'record = "image"\ncandidates = 65537\n', "at most 65536"),
        ("joint_codebook", 'record = "image"\ncandidates = "64"\n', "write a whole number without quotes"),
        ("joint_codebook", 'record = "image"\nconstant = "1/2"\n', "simplex code without a constant; leave both keys"),
        ("joint_codebook", 'record = "picture"\n', "must be one of 'numbers' or 'image'"),
    ],
)
def test_a_picture_that_cannot_be_made_is_refused_in_words(
    tmp_path: Path, mechanism: str, keys: str, words: str
) -> None:
    with pytest.raises(ConfigurationError, match=words):
        read_campaign(written(tmp_path, mechanism, keys))
