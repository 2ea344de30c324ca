"""The whole way with three labels: records, classifier, bundle, evaluation, probabilities, diagnosis of a file."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from hospital import Hospital, a_campaign
from PIL import Image
from typer.testing import CliRunner
from world import World

from ldp_client.cli.diagnose import app as diagnose
from ldp_client.diagnosis.bundle import load
from ldp_client.diagnosis.classifier import LinearModel
from ldp_client.diagnosis.scoring import binned
from ldp_client.flow.encoder import read_card, shipped
from ldp_client.imaging.phantoms import phantoms
from ldp_client.privacy.drawing import draw, prepare
from ldp_client.privacy.histogram import Histogram, count
from ldp_client.privacy.labels import simplex
from ldp_client.privacy.noise import SystemSource
from ldp_client.privacy.release_design import joint_codebook
from ldp_client.wire.answer import pack_answer
from ldp_client.wire.campaign import Campaign, EvaluationRule, campaign_id
from ldp_client.wire.record import codebook_seed, pack
from server.centre import open_centre, publish
from server.cli.evaluate import app as evaluate
from server.cli.model import app as model
from server.config import initialise

NAMES = ("normal", "bacterial", "viral")
RECORDS, HELD_OUT = 60, 600


def chests(number: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Coordinates (N, 2) of X-rays of three findings, 2.5 standard deviations from the middle, 120 degrees apart."""
    generator = np.random.default_rng(seed)
    labels = generator.integers(0, 3, number)
    turns = 2 * np.pi * labels / 3
    return 2.5 * np.stack([np.cos(turns), np.sin(turns)], axis=1) + generator.normal(size=(number, 2)), labels


def release(hospital: Hospital, campaign: Campaign, approval: int) -> None:
    spec = campaign.release
    for output, label in zip(*chests(RECORDS, 1), strict=True):
        charge = hospital.charge(campaign, approval)
        seed = codebook_seed(campaign_id(campaign), hospital.site, charge)
        drawn = draw(spec, prepare(spec, output[None], label[None]), [seed], SystemSource())  # type: ignore[arg-type]
        hospital.seal(campaign, charge, pack(drawn)[0])


@pytest.mark.parametrize("code", ["simplex", "one_hot"])
def test_three_labels_from_records_to_a_diagnosis(tmp_path: Path, code: str) -> None:
    centre = open_centre(initialise(tmp_path / "centre", "Centre"))
    encoder = read_card(shipped()).digest
    spec = joint_codebook(
        epsilon=8,
        classes=3,
        bottleneck_dimension=2,
        codewords=256,
        label_code=code,
        constant="7/10",  # type: ignore[arg-type]
    )
    campaign = a_campaign("kinds", encoder=encoder, release=spec, label_names=NAMES, unit="image", cap=1)
    publish(centre, campaign)
    world = World(tmp_path / "centre", centre, campaign)
    anne = world.join()
    policy = anne.adopt(
        encoders=(encoder,),
        units=("image",),
        max_micro_epsilon_per_record=8_000_000,
        lifetime_micro_epsilon=16_000_000,
        evaluations=EvaluationRule(share_percent=20, max_micro_epsilon=8_000_000),
    )
    release(anne, campaign, anne.approve(campaign, policy))
    assert world.deliver(anne).refused == ()

    def run(app: object, *arguments: str) -> str:
        done = CliRunner().invoke(app, [*arguments, "--state", str(tmp_path / "centre")])  # type: ignore[arg-type]
        assert done.exit_code == 0, done.output
        return done.output

    assert "estimated shares among the hospitals' X-rays: normal" in " ".join(
        run(model, "export", "kinds", "--out", str(tmp_path / "kinds")).split()
    )
    learnt = load(tmp_path / "kinds").card.model
    assert isinstance(learnt, LinearModel)
    points, truth = chests(HELD_OUT, 2)
    scores = points @ np.array(learnt.mean, dtype=np.float64).T @ simplex(3).T
    assert (scores.argmax(1) == truth).mean() > 0.7

    asked = ["held-out", "--classifier", str(tmp_path / "kinds"), "--epsilon", "8", "--ends", "2030-12-31"]
    run(evaluate, "publish", *asked, "--unit", "image")
    evaluation = centre.find_evaluation("held-out")
    rows, bins = binned(scores, truth, evaluation.edges)
    units = np.arange(HELD_OUT).repeat(rows.shape[1]).tolist()
    drawn = Histogram(evaluation.histogram)(
        count(evaluation.histogram, units, rows.ravel(), bins.ravel()), SystemSource()
    )
    anne.seal(evaluation, anne.query(evaluation, anne.approve(evaluation, policy), 8_000_000), pack_answer(drawn))
    assert world.deliver(anne).refused == ()
    report = [
        row for row in json.loads(run(evaluate, "report", "held-out", "--format", "json")) if row["site"] == "all"
    ]
    assert [row["pair"] for row in report] == ["normal / bacterial", "normal / viral", "bacterial / viral"]
    assert min(row["auc"] for row in report) > 0.85

    run(model, "calibrate", "held-out", "--out", str(tmp_path / "calibrated"))
    Image.fromarray(phantoms(1, 64, seed=3)[0][0]).save(tmp_path / "one.png")
    done = CliRunner().invoke(
        diagnose, ["--classifier", str(tmp_path / "calibrated"), str(tmp_path / "one.png"), "--format", "json"]
    )
    assert done.exit_code == 0, done.output
    (told,) = json.loads(done.stdout)
    (found,) = told["scored"]
    assert set(found["scores"]) == set(NAMES)
    assert [(one["negative"], one["positive"]) for one in found["probabilities"]] == [
        ("normal", "bacterial"),
        ("normal", "viral"),
        ("bacterial", "viral"),
    ]
    assert all(0 <= one["low"] <= one["value"] <= one["high"] <= 1 for one in found["probabilities"])
    centre.close()
