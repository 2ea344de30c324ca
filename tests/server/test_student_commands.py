"""`train` and `model export` with `--head` and `--student`: from records and public X-rays to classifier and bundle."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from hospital import Hospital, a_campaign
from world import World

import server.cli.main as centre_cli
from ldp_client.diagnosis.bundle import load
from ldp_client.errors import ConfigurationError
from ldp_client.flow.encoder import Encoder, shipped
from ldp_client.imaging.phantoms import phantoms
from ldp_client.privacy.drawing import draw, prepare
from ldp_client.privacy.noise import SystemSource
from ldp_client.privacy.release_design import dp_glow, joint_codebook
from ldp_client.wire.campaign import Campaign, campaign_id
from ldp_client.wire.record import codebook_seed, pack
from server import centre as centres
from server.centre import open_centre
from server.cli.published import published_command
from server.cli.pupils import Pupil
from server.config import initialise

RECORDS = 40


def command(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str]:
    sys.argv = ["ldp-server", *arguments]
    with pytest.raises(SystemExit) as ended:
        centre_cli.main()
    said = capsys.readouterr()
    return int(ended.value.code or 0), " ".join((said.out + said.err).split())


def released(hospital: Hospital, campaign: Campaign, approval: int, crafted: bool = False) -> None:
    """Records of phantoms' own coordinates, at an epsilon so large that they say what they are; or all of one lie."""
    encoder, spec = Encoder.load(shipped()), campaign.release
    images, labels = phantoms(RECORDS, 28, seed=5, pneumonia_share=0.5)
    outputs = encoder.encode(stacked(encoder, images))[:, :2]
    if crafted:
        outputs, labels = -np.abs(outputs[:1]).repeat(RECORDS, 0), labels[:1].repeat(RECORDS)
    for output, label in zip(outputs, labels.astype(np.int64), strict=True):
        charge = hospital.charge(campaign, approval)
        seed = codebook_seed(campaign_id(campaign), hospital.site, charge)
        drawn = draw(spec, prepare(spec, output[None], label[None]), [seed], SystemSource())
        hospital.seal(campaign, charge, pack(drawn)[0])


def stacked(encoder: Encoder, images: np.ndarray) -> torch.Tensor:
    return torch.stack([encoder.prepare(image) for image in images])


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A centre with records of four campaigns, and public X-rays.

    `telling` tells the classes' means apart, `leaning` only how frequent labels are, `silent` not even that; of the
    four sites of `crowded` the last one crafts its records.
    """
    folder = tmp_path_factory.mktemp("centre")
    centre = open_centre(initialise(folder / "centre", "Centre"))
    encoder = Encoder.load(shipped())
    common = {"epsilon": 8, "classes": 2, "bottleneck_dimension": 2, "codewords": 64}
    for name, code, constant, sites in (
        ("telling", "one_hot", "7/10", 1),
        ("leaning", "simplex", "7/10", 1),
        ("silent", "simplex", None, 1),
        ("crowded", "simplex", None, 4),
    ):
        release = joint_codebook(**common, label_code=code, constant=constant)
        campaign = a_campaign(name, encoder=encoder.digest, release=release, unit="image", cap=1)
        centres.publish(centre, campaign)
        world = World(folder / "centre", centre, campaign)
        for number in range(sites):
            hospital = world.join(f"{name}-{number}")
            policy = hospital.adopt(
                encoders=(encoder.digest,),
                units=("image",),
                max_micro_epsilon_per_record=8_000_000,
                lifetime_micro_epsilon=8_000_000,
            )
            released(hospital, campaign, hospital.approve(campaign, policy), crafted=number == 3)
            assert world.deliver(hospital).refused == ()
    centre.close()
    np.savez(folder / "public.npz", images=phantoms(120, 28, seed=9, pneumonia_share=0.7)[0])
    return folder


def asked(place: Path, out: str, *more: str, campaign: str = "telling") -> list[str]:
    return [campaign, "--out", str(place / out), "--state", str(place / "centre"), *more]


def test_a_student_has_all_coordinates_of_the_encoder(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pupil = ["--student", str(place / "public.npz"), "--encoder", "shipped:kermany28"]
    assert command(capsys, "train", *asked(place, "alone.json"))[0] == 0
    code, said = command(capsys, "train", *asked(place, "taught.json", *pupil))
    assert code == 0
    assert f"learnt from {RECORDS} records" in said
    (shares,) = re.findall(r"among the public X-rays: normal (\d+) % \(\+- (\d+)\), pneumonia (\d+) %", said)
    normal, error, pneumonia = map(int, shares)
    assert normal + pneumonia in (99, 100, 101)
    if error != 10:  # rounded
        assert ("may be worse than none" in said) == (error > 10)
    assert abs(pneumonia - 70) < 3 * error  # 70 % of the public X-rays, one half of the hospital's
    alone, taught = (
        np.array(json.loads((place / name).read_text())["mean"], float) for name in ("alone.json", "taught.json")
    )
    assert (alone.shape, taught.shape) == ((1, 2), (1, 16))
    images, _ = phantoms(100, 28, seed=11, pneumonia_share=0.5)
    encoder = Encoder.load(shipped())
    z = encoder.encode(stacked(encoder, images))
    assert np.corrcoef(z @ taught[0], z[:, :2] @ alone[0])[0, 1] > 0.5  # it started from what the records say
    again = command(capsys, "train", *asked(place, "few.json", *pupil, "--public", "60"))
    assert again[0] == 0
    assert (place / "few.json").read_bytes() != (place / "taught.json").read_bytes()


def test_a_site_that_lies_far_out_is_named_and_pulled_back_where_that_is_asked_for(
    place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, warned = command(capsys, "train", *asked(place, "as-it-is.json", campaign="crowded"))
    assert code == 0
    assert "site crowded-3: the mean of its records lies" in warned
    assert "ask it why, or learn with --cap-sites" in warned
    assert "crowded-1" not in warned
    code, said = command(capsys, "train", *asked(place, "capped.json", "--cap-sites", campaign="crowded"))
    assert code == 0
    assert "times as far out as it may; pulled back to that" in said
    means = [
        np.array(json.loads((place / name).read_text())["mean"], float) for name in ("as-it-is.json", "capped.json")
    ]
    lie = means[0] / np.linalg.norm(means[0])
    assert (means[1] @ lie.T).item() < (means[0] @ lie.T).item()
    code, said = command(capsys, "model", "export", *asked(place, "held", "--cap-sites", campaign="crowded"))
    assert code == 0, said
    assert "pulled back to that" in said


@pytest.mark.parametrize(
    ("shares", "said_of_it"),
    [
        (
            "hospitals",
            "the student took the hospitals' shares for those of the public X-rays, drawn towards equal ones",
        ),
        ("0.3,0.7", "the student was given the shares of the labels among the public X-rays"),
    ],
)
def test_a_bundle_with_a_student_who_is_told_the_shares_scores_xrays(
    place: Path, capsys: pytest.CaptureFixture[str], shares: str, said_of_it: str
) -> None:
    pupil = ["--student", str(place / "public.npz"), "--encoder", "shipped:kermany28", "--public-shares", shares]
    code, said = command(capsys, "model", "export", *asked(place, f"bundle-{shares}", *pupil, campaign="leaning"))
    assert code == 0, said
    assert said_of_it in said
    if shares == "hospitals":
        assert re.search(r"unsure: normal \d+ % \(\+- \d+\), pneumonia \d+ % \(\+- \d+\); where the public", said)
    card = load(place / f"bundle-{shares}").card
    # No folder of whoever made it goes to the hospitals.
    assert str(place) not in card.model_dump_json()
    assert card.command == (
        f"ldp-server model export leaning --out bundle-{shares} --student public.npz --encoder shipped:kermany28 "
        f"--public-shares {shares}"
    )
    assert card.student is not None
    assert (card.student.xrays, card.student.coordinates) == (120, 16)
    assert card.student.shares_from == {"hospitals": "hospitals"}.get(shares, "given")
    assert sum(card.student.shares) == pytest.approx(1_000_000, abs=1)
    assert "it assumes these shares of the labels among them" in said
    encoder = Encoder.load(shipped())
    images = phantoms(5, 28, seed=2, pneumonia_share=0.5)[0]
    scores = load(place / f"bundle-{shares}").scores(encoder, stacked(encoder, images))
    assert scores.shape == (5, 2)
    assert np.isfinite(scores).all()


def test_a_head_weighs_all_coordinates_of_the_encoder_and_a_student_starts_from_it(
    place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    xrays = ["--encoder", "shipped:kermany28", "--head", str(place / "public.npz")]
    code, said = command(capsys, "train", *asked(place, "weighed.json", *xrays, campaign="silent"))
    assert code == 0, said
    weighed = np.array(json.loads((place / "weighed.json").read_text())["mean"], float)
    assert weighed.shape == (1, 16)
    assert np.abs(weighed[0, :2]).min() > 0
    student = ["--student", str(place / "public.npz"), "--public-shares", "0.3,0.7"]
    for name, more in (("head", []), ("both", student)):
        code, said = command(capsys, "model", "export", *asked(place, name, *xrays, *more, campaign="silent"))
        assert code == 0, said
        assert "weighed by a head on 120 public X-rays without labels" in said
        assert "the privacy noise moves each coordinate of the records' mean by" in said
        card = load(place / name).card
        assert card.head is not None
        assert (card.head.xrays, card.head.coordinates, card.head.released) == (120, 16, 2)
        assert (card.student is None) == (name == "head")
    head, both = (np.array(load(place / name).card.model.mean, float) for name in ("head", "both"))
    assert np.allclose(head, weighed)
    assert not np.allclose(both, head)


def test_a_head_without_an_encoder_or_x_rays_is_refused(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for more, text in (
        ([str(place / "public.npz")], "--head needs --encoder: the bundle that the campaign names, or shipped:NAME"),
        ([str(place / "none.npz"), "--encoder", "shipped:kermany28"], "asked for public images in 'none.npz'"),
        ([str(place / "public.npz"), "--encoder", "shipped:kermany28", "--public", "19"], "give at least 20 X-rays"),
    ):
        for verb in (["train"], ["model", "export"]):
            code, said = command(capsys, *verb, *asked(place, "never", "--head", *more))
            assert code == 2
            assert text in said
            assert not (place / "never").exists()


@pytest.mark.parametrize(
    ("campaign", "more", "text"),
    [
        ("telling", ["--cap-sites", "--encoder", "shipped:kermany28"], "found records of 1 sites"),
        ("telling", [], "--student needs --encoder: the bundle that the campaign names, or shipped:NAME"),
        ("telling", ["--encoder", "shipped:kermany64-groups"], "Give the encoder that the records were made with"),
        ("silent", ["--encoder", "shipped:kermany28"], 'ask for `label_code = "one_hot"` with `constant = "7/10"`'),
        ("leaning", ["--encoder", "shipped:kermany28"], "these records do not tell how frequent the labels are among"),
        ("silent", ["--public-shares", "hospitals"], "do not tell how frequent each label is among the hospitals'"),
        ("telling", ["--public-shares", "0.3"], "for each of normal, pneumonia, adding up to 1, as in 0.5,0.5; found"),
        ("telling", ["--public-shares", "0.3,0.8"], "found '0.3,0.8'"),
        ("telling", ["--public-shares", "nan,0.5"], "--public-shares takes estimated, hospitals, or a share between 0"),
        ("telling", ["--public-shares", "as before"], "found 'as before'"),
    ],
)
def test_what_a_student_cannot_do_without_is_named(
    place: Path, capsys: pytest.CaptureFixture[str], campaign: str, more: list[str], text: str
) -> None:
    for verb in (["train"], ["model", "export"]):
        pupil = ["--student", str(place / "public.npz"), *more]
        code, said = command(capsys, *verb, *asked(place, "never", *pupil, campaign=campaign))
        assert code == 2
        assert text in said
        assert not (place / "never").exists()


def test_options_that_nothing_would_read_are_refused(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for more, text in (
        (
            ["--public-shares", "hospitals"],
            "no --student names those; give --student FILE, or leave --public-shares out",
        ),
        (["--encoder", "shipped:kermany28", "--public", "9"], "--encoder, --public chooses among public X-rays"),
        (["--head", str(place / "public.npz"), "--public-shares", "0.3,0.7"], "no --student names those"),
    ):
        for verb in (["train"], ["model", "export"]):
            code, said = command(capsys, *verb, *asked(place, "never", *more))
            assert code == 2
            assert text in said
            assert not (place / "never").exists()


def test_what_no_card_can_say_and_no_folder_can_hold_is_said_before_anything_is_learnt(
    place: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Pupil, "learn", lambda *_: pytest.fail("it learnt first"))
    (place / "file.json").write_text("{}")
    for out, more, text in (
        ("never", ["--name", "My Classifier"], "--name: String should match pattern"),
        ("never", ["--split", "x" * 2001, "--head", "a.npz"], "a card has room for a command of 2,000 characters"),
        ("file.json/below", [], "which cannot be made (file.json is a file)"),
        ("new/below", ["--name", "My Classifier"], "--name: String should match pattern"),
        ("file.json", [], "asked to write a classifier to 'file.json', which exists"),
        ("never", ["--calibration", "nowhere"], "nowhere"),
    ):
        code, said = command(capsys, "model", "export", *asked(place, out, *more))
        assert code == 2
        assert text in said
    assert not (place / "never").exists()
    assert not (place / "new").exists()


def test_records_of_latents_have_neither_head_nor_student() -> None:
    release = dp_glow(epsilon=8, label_epsilon=4, classes=2, latents=4)
    campaign = a_campaign("whole", release=release, unit="image", cap=1)
    payloads = pack(draw(release, prepare(release, np.zeros((2, 4)), np.zeros(2, dtype=np.int64)), [], SystemSource()))
    for head, student in ((Path("a.npz"), None), (None, Path("a.npz"))):
        pupil = Pupil(head, student, "shipped:kermany28", "", "", 0, cap_sites=False)
        with pytest.raises(
            ConfigurationError, match="records of campaign whole are of the encoder's latents, and --head"
        ):
            pupil.learn(campaign, payloads, ["a", "a"])


def test_a_card_names_files_without_their_folders_and_not_where_the_centre_lies() -> None:
    given = [
        "model",
        "export",
        "lungs",
        "--state",
        "/srv/a",
        "--out=/home/eva/b/",
        "--student",
        "..\\c.npz",
        "--cap-sites",
    ]
    assert published_command(given) == "ldp-server model export lungs --out=b --student c.npz --cap-sites"
    assert published_command(["model", "--state"]) == "ldp-server model"
