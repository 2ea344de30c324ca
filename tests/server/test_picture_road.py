"""The whole road of pictures: campaign.toml, approval, release, courier's bytes, intake, PNG files, bundle, diagnosis.

Everything is real but Flower, which would carry the same documents: keys, ledgers, encoder, commands.
"""

from __future__ import annotations

import json
import sys
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import ldp_client.cli.main as client
import server.cli.main as centre_cli
from ldp_client import desk
from ldp_client.agent import Agent
from ldp_client.diagnosis.bundle import load
from ldp_client.flow.encoder import Encoder, shipped
from ldp_client.imaging.dataset import write_dataset
from ldp_client.imaging.phantoms import phantoms
from ldp_client.officer import approve, put_into_force
from ldp_client.privacy.image_spec import ImageSpec, image
from ldp_client.privacy.loss import PrivacyLoss
from ldp_client.privacy.meaning import what_leaves
from ldp_client.privacy.release_design import dp_glow, joint_codebook, joint_laplace, latent
from ldp_client.site import create_site, enrolment
from ldp_client.supernode import create_node_key
from ldp_client.wire.campaign import Policy
from ldp_client.wire.signing import create_signing_key
from server.centre import enrol, open_centre
from server.cli.records import labels_by_lot
from server.config import initialise
from server.store.queries import budgets

COUNT = 24
LABELS = ("normal", "pneumonia")
CAMPAIGN = """[campaign]
name = "pictures"
purpose = "learn from pictures that show no patient"
encoder = "shipped:kermany28"
labels = ["normal", "pneumonia"]
unit = "image"
epsilon = "2"
mechanism = "joint_codebook"
coordinates = 4
record = "image"
candidates = 32
ends = "2099-12-31"
"""


@dataclass(frozen=True)
class Road:
    """A centre and a hospital after their exchange."""

    folder: Path
    xrays: np.ndarray

    @property
    def centre(self) -> str:
        return str(self.folder / "centre")


def command(which: object, *arguments: str) -> int:
    sys.argv = ["ldp", *arguments]
    with pytest.raises(SystemExit) as ended:
        which.main()  # type: ignore[attr-defined]
    return int(ended.value.code or 0)


@pytest.fixture(scope="module")
def road(tmp_path_factory: pytest.TempPathFactory) -> Road:
    folder = tmp_path_factory.mktemp("road")
    encoder = Encoder.load(shipped())
    initialise(folder / "centre", "Centre")
    (folder / "campaign.toml").write_text(CAMPAIGN)
    assert command(centre_cli, "campaign", "publish", str(folder / "campaign.toml"), "--state", f"{folder}/centre") == 0
    officer = create_signing_key(folder / "officer.key")
    images, labels = phantoms(COUNT, 28, seed=9, pneumonia_share=0.5)
    with (
        closing(open_centre(folder / "centre" / "server.toml")) as centre,
        closing(create_site(folder / "north", "north", "North Hospital", (officer.public_key,))) as site,
    ):
        (site.folder / "centre.json").write_bytes((folder / "centre" / "centre.json").read_bytes())
        site.create_spool()
        write_dataset(site.folder / "xrays", images, labels, LABELS)
        policy = Policy(
            site="north",
            serial=1,
            encoders=(encoder.digest,),
            mechanisms=("joint_codebook", "image"),
            units=("image",),
            lifetime_micro_epsilon=4_000_000,
        )
        put_into_force(site, policy, officer)
        enrol(centre, enrolment(site, create_node_key(folder / "node").read_text()))
        site.inbox.mirror(centre.offer("north"))
        agent = Agent(site, encoder=encoder)
        agent.step()
        (campaign,) = desk.campaigns(site)
        approve(site, campaign, officer)
        while not centre.finished():
            site.inbox.mirror(centre.offer("north"))
            agent.step()
            centre.answer("north", site.outbox.documents())
            for name in centre.wanted("north"):
                centre.submit("north", site.outbox.batch(name) or b"")
    return Road(folder, images)


def test_the_centre_holds_a_picture_for_every_xray_and_counts_epsilon_once(road: Road) -> None:
    with closing(open_centre(road.folder / "centre" / "server.toml")) as centre:
        assert isinstance(centre.find_campaign("pictures").release, ImageSpec)
        with centre.database.snapshot() as connection:
            (budget,) = budgets(connection)
    assert (budget.records, budget.spent) == (COUNT, PrivacyLoss.of(2))


def test_pictures_are_exported_with_labels_and_none_is_an_xray(road: Road, capsys: pytest.CaptureFixture[str]) -> None:
    out = road.folder / "exported"
    arguments = ("records", "export", "pictures", "--images", "--out", str(out), "--state", road.centre)
    assert command(centre_cli, *arguments) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert f"wrote {COUNT} pictures and labels.csv" in said
    assert (
        "each was released at epsilon 2, picture and label together; it shows no patient: the public encoder made it up"
        in said
    )
    assert said.endswith(
        "each label was drawn by lot, whatever the X-ray's own is, and the picture is for it or against it: labels.csv "
        "holds no diagnosis"
    )
    rows = (out / "labels.csv").read_text().splitlines()[1:]
    assert {row.split(",")[1] for row in rows} <= set(LABELS)
    pictures = [np.asarray(Image.open(out / row.split(",")[0])).astype(float) for row in rows]
    assert len(pictures) == COUNT
    assert min(np.abs(one - xray).mean() for one in pictures for xray in road.xrays) > 5
    assert command(centre_cli, *arguments) == 2
    assert "which exists; name a new folder" in " ".join(capsys.readouterr().err.split())


def test_only_labels_of_joint_mechanisms_were_drawn_by_lot() -> None:
    """As `what_leaves`, which `campaign show` prints."""
    noised = (
        joint_codebook(epsilon=2, classes=2, bottleneck_dimension=4),
        joint_laplace(epsilon=2, classes=2, bottleneck_dimension=4, radius=8),
        latent(epsilon=2, label_epsilon=1, classes=2, bottleneck_dimension=4, radius=8),
        dp_glow(epsilon=2, label_epsilon=1, classes=2, latents=64),
    )
    releases = [image(one, side=8) for one in noised]
    assert [labels_by_lot(one) for one in releases] == [True, True, False, False]
    assert ["drawn by lot" in what_leaves(one, LABELS) for one in releases] == [True, True, False, False]


def test_an_export_says_of_what(road: Road, capsys: pytest.CaptureFixture[str]) -> None:
    assert command(centre_cli, "records", "export", "pictures", "--out", "x", "--state", road.centre) == 2
    assert "say --images: pictures are what this version exports" in " ".join(capsys.readouterr().err.split())


def test_what_pictures_taught_runs_in_the_hospital(road: Road, capsys: pytest.CaptureFixture[str]) -> None:
    out = road.folder / "classifier"
    assert command(centre_cli, "model", "export", "pictures", "--out", str(out), "--state", road.centre) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert f"learnt from {COUNT} pictures; cross-entropy of those held out" in said
    assert "0.693 is chance" in said
    assert "classifier pictures (convolutional)" in said
    assert load(out).card.learnt_from[0].mechanism == "image"
    film = str(next((road.folder / "north" / "xrays").rglob("*.png")))
    hospital = ("--classifier", str(out), "--state", str(road.folder / "north"), "--format", "json")
    assert command(client, "diagnose", film, *hospital) == 0
    (report,) = json.loads(capsys.readouterr().out)
    (scored,) = report["scored"]
    assert set(scored["scores"]) == set(LABELS)
    assert all(score < 0 for score in scored["scores"].values())  # log-probabilities
    asked = ("evaluate", "publish", "check", "--classifier", str(out), "--epsilon", "1", "--unit", "image")
    assert command(centre_cli, *asked, "--ends", "2099-12-31", "--state", road.centre) == 0
    capsys.readouterr()
    plain = str(road.folder / "classifier.json")
    assert command(centre_cli, "train", "pictures", "--out", plain, "--state", road.centre) == 2
    assert "`ldp-server model export` learns from those" in " ".join(capsys.readouterr().err.split())
    pupil = ("--student", str(road.folder), "--out", str(road.folder / "other"))
    assert command(centre_cli, "model", "export", "pictures", *pupil, "--state", road.centre) == 2
    assert "takes no public X-rays beside them, nor is there a cap on sites; leave out" in " ".join(
        capsys.readouterr().err.split()
    )
