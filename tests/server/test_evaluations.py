"""What the centre does with evaluations: what it takes in, what it refuses, how it counts, what its commands say."""

from __future__ import annotations

import json
import re
import struct
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hospital import Hospital, a_campaign, an_evaluation, noised
from typer import Typer
from typer.testing import CliRunner
from world import World

from ldp_client.diagnosis.bundle import ClassifierCard, LearntFrom, load
from ldp_client.diagnosis.classifier import LinearModel
from ldp_client.errors import ClassifierError, ConfigurationError, LdpError, ParameterError, WaitingError
from ldp_client.privacy.histogram import Histogram, count
from ldp_client.privacy.noise import SystemSource
from ldp_client.verify import verify_export
from ldp_client.wire.answer import pack_answer
from ldp_client.wire.campaign import EvaluationRule, Policy
from ldp_client.wire.chain import Abandon
from ldp_client.wire.evaluation import asked_id
from ldp_client.wire.exchange import RefusalCode
from ldp_client.wire.signing import SigningKey
from server.centre import close_campaign, publish
from server.cli.evaluate import _why_none, app
from server.cli.model import app as model
from server.learning.classifier_bundle import write_classifier
from server.store import export, log

EVALUATION = an_evaluation()
NAME = asked_id(EVALUATION)
RULE = EvaluationRule(share_percent=20, max_micro_epsilon=1_000_000)
Agreed = tuple[Hospital, int]


@pytest.fixture
def agreed(world: World, anne: Hospital) -> Agreed:
    """A site whose officer has approved the evaluation, and the number of the approval."""
    publish(world.centre, EVALUATION)
    return anne, anne.approve(EVALUATION, policy_of(anne))


def policy_of(hospital: Hospital, serial: int = 1, **changes: object) -> Policy:
    return hospital.adopt(serial, **({"units": ("patient",), "evaluations": RULE} | changes))


def answer(hospital: Hospital, approval: int, payload: bytes | None = None) -> int:
    return hospital.seal(EVALUATION, hospital.query(EVALUATION, approval), payload)


def refused(world: World, hospital: Hospital) -> list[str]:
    return [one.code for one in world.deliver(hospital).refused]


# --- taken in and counted


def test_an_approved_answer_is_stored_counted_and_receipted(world: World, agreed: Agreed) -> None:
    anne, approval = agreed
    payload = noised(EVALUATION)
    sequence = answer(anne, approval, payload)
    receipt = world.deliver(anne)
    (record,) = world.records(EVALUATION)
    assert receipt.refused == ()
    assert (record.site, record.seal, record.payload) == ("anne", sequence, payload)
    budget = world.budget()
    assert (str(budget.spent), str(budget.per_record), budget.records) == ("1", "0", 1)


def test_evaluations_and_campaigns_add_up_in_the_bound(world: World, anne: Hospital) -> None:
    publish(world.centre, EVALUATION)
    policy = policy_of(anne)
    answer(anne, anne.approve(EVALUATION, policy))
    anne.release(world.campaign, anne.approve(world.campaign, policy), 2)
    assert refused(world, anne) == []
    budget = world.budget()
    # Two records of epsilon 2 at most for each patient, and epsilon 1 once.
    assert (str(budget.spent), str(budget.per_record), budget.records) == ("5", "2", 3)


def test_a_query_of_one_batch_is_sealed_in_another_and_an_abandoned_one_stays_spent(
    world: World, agreed: Agreed
) -> None:
    anne, approval = agreed
    query = anne.query(EVALUATION, approval)
    world.deliver(anne)
    assert str(world.budget().spent) == "1"
    anne.seal(EVALUATION, query)
    assert refused(world, anne) == []
    bert = world.join("bert")
    approval = bert.approve(EVALUATION, policy_of(bert))
    query = bert.query(EVALUATION, approval)
    bert.append(Abandon(charge=query))
    bert.seal(EVALUATION, query)
    assert refused(world, bert) == [RefusalCode.NO_CHARGE]
    assert str(world.budget("bert").spent) == "1"


def test_answers_to_a_closed_evaluation_are_still_taken(world: World, agreed: Agreed) -> None:
    anne, approval = agreed
    close_campaign(world.centre, NAME)
    answer(anne, approval)
    assert refused(world, anne) == []


# --- refused, and counted all the same


def test_a_second_answer_is_refused_and_its_loss_counts_in_full(world: World, agreed: Agreed) -> None:
    anne, approval = agreed
    answer(anne, approval)
    assert refused(world, anne) == []
    answer(anne, approval)
    assert refused(world, anne) == [RefusalCode.REPEATED]
    assert len(world.records(EVALUATION)) == 1
    assert str(world.budget().spent) == "2"


def test_a_charge_pays_for_no_answer_and_a_query_for_no_record(world: World, agreed: Agreed) -> None:
    anne, approval = agreed
    anne.seal(EVALUATION, anne.charge(EVALUATION, approval))
    assert refused(world, anne) == [RefusalCode.UNKNOWN_CAMPAIGN]
    bert = world.join("bert")
    approval = bert.approve(world.campaign, policy_of(bert))
    bert.seal(world.campaign, bert.query(world.campaign, approval, 2_000_000))
    assert refused(world, bert) == [RefusalCode.UNKNOWN_CAMPAIGN]
    assert world.records(EVALUATION) == []


def test_an_evaluation_of_another_centre_is_refused_and_counted(world: World, anne: Hospital) -> None:
    answer(anne, anne.approve(EVALUATION, policy_of(anne)))
    assert refused(world, anne) == [RefusalCode.UNKNOWN_CAMPAIGN]
    assert str(world.budget().spent) == "1"


@pytest.mark.parametrize(
    "policy",
    [
        {"evaluations": None},
        {"evaluations": EvaluationRule(share_percent=20, max_micro_epsilon=999_999)},
        {"encoders": ("b" * 64,)},
        {"units": ("image",)},
        {"lifetime_micro_epsilon": 500_000},
    ],
)
def test_what_the_policy_does_not_allow_was_not_approved(
    world: World, anne: Hospital, policy: dict[str, object]
) -> None:
    publish(world.centre, EVALUATION)
    answer(anne, anne.approve(EVALUATION, policy_of(anne, **policy)))
    assert refused(world, anne) == [RefusalCode.NOT_APPROVED]


def test_another_loss_than_the_histograms_is_refused(world: World, agreed: Agreed) -> None:
    anne, approval = agreed
    anne.seal(EVALUATION, anne.query(EVALUATION, approval, 999_999))
    assert refused(world, anne) == [RefusalCode.LOSS_MISMATCH]


def test_an_answer_after_the_last_day_is_refused(world: World, agreed: Agreed) -> None:
    anne, approval = agreed
    answer(anne, approval)
    sent = anne.pack_up(day="2030-07-01")
    world.announce(anne, sent)
    assert [one.code for one in world.accept(anne, sent).refused] == [RefusalCode.EXPIRED]


def far_out(payload: bytes) -> bytes:
    """The last count moved to where no noise reaches."""
    return payload[:-8] + struct.pack("<q", -(2**40))


@pytest.mark.parametrize(
    "spoil",
    [
        lambda payload: payload[:-8],
        lambda payload: payload + bytes(8),
        lambda payload: b"LDPR" + payload[4:],
        lambda payload: payload[:9] + struct.pack("<I", 2) + payload[13:],
        far_out,
    ],
    ids=["a bin less", "a bin more", "another magic", "another shape", "a count that noise cannot reach"],
)
def test_a_histogram_that_the_mechanism_cannot_have_drawn_is_refused(
    world: World, agreed: Agreed, spoil: Callable[[bytes], bytes]
) -> None:
    anne, approval = agreed
    answer(anne, approval, spoil(noised(EVALUATION)))
    assert refused(world, anne) == [RefusalCode.CONTENTS]


def test_a_fifth_evaluation_passes_the_agreed_budget(world: World, anne: Hospital) -> None:
    policy = policy_of(anne, lifetime_micro_epsilon=4_000_000)
    asked = [an_evaluation(f"number-{number}") for number in range(5)]
    for one in asked:
        publish(world.centre, one)
        anne.seal(one, anne.query(one, anne.approve(one, policy)))
    assert refused(world, anne) == [RefusalCode.BUDGET]
    assert str(world.budget().spent) == "5"


# --- what the ledger says of it


def test_the_centres_export_proves_queries(world: World, agreed: Agreed, tmp_path: Path) -> None:
    anne, approval = agreed
    answer(anne, approval)
    world.deliver(anne)
    with world.centre.database.snapshot() as connection:
        export.write_export(connection, world.centre.keys.signing, tmp_path / "centre.jsonl")
        entries = [one for one in log.entries(connection) if one.kind in ("query", "seal")]
        charged = log.charged(connection)
    (history,) = verify_export(tmp_path / "centre.jsonl").histories
    assert (str(history.bound), history.sealed) == ("1", 1)
    assert [(one.campaign, one.micro_epsilon) for one in entries] == [
        (NAME, 1_000_000),
        (NAME, None),
    ]
    assert [(one.campaign, one.charges) for one in charged] == [(NAME, 1)]


# --- the commands


def run(world: World, *arguments: str, of: Typer = app) -> str:
    """What a command of the centre says; a refusal is raised."""
    done = CliRunner().invoke(of, [*arguments, "--state", str(world.config.parent)])
    if isinstance(done.exception, LdpError):
        raise done.exception
    assert done.exit_code == 0, done.output
    return " ".join(done.output.split())


def a_bundle(folder: Path, key: SigningKey, **changes: object) -> str:
    learnt = LearntFrom(
        campaign="1" * 64,
        name="pneumonia-2030",
        mechanism="joint_codebook",
        records=2708,
        micro_epsilon_per_record=2_000_000,
        unit="patient",
        cap=2,
    )
    fields: dict[str, object] = {
        "name": "pneumonia",
        "purpose": "find pneumonia",
        "encoder": "e" * 64,
        "label_names": ("normal", "pneumonia"),
        "learnt_from": (learnt,),
        "noise_error": "0.0125",
        "spread": "1.5",
        "model": LinearModel(source="bottleneck", mean=(("0.5", "-0.25"),)),
        "command": "ldp-server model export",
    }
    write_classifier(ClassifierCard(**(fields | changes)), folder, key)  # type: ignore[arg-type]
    return str(folder)


def test_published_answered_reported_and_closed_by_command(world: World, anne: Hospital, tmp_path: Path) -> None:
    bundle = a_bundle(tmp_path / "classifier", world.centre.keys.signing)
    asked = ["held-out", "--classifier", bundle, "--epsilon", "8", "--ends", "2030-12-31", "--bins", "10"]
    said = run(world, "publish", *asked)
    assert "published held-out" in said
    assert "10 bins" in said
    assert "warning: above epsilon 4 a histogram says a lot about each patient" in said
    evaluation = world.centre.find_evaluation("held-out")
    assert (evaluation.cap, evaluation.unit, len(evaluation.edges)) == (1, "patient", 9)
    with pytest.raises(WaitingError, match="no site has answered evaluation held-out yet; gather first"):
        run(world, "report", "held-out")

    rule = EvaluationRule(share_percent=20, max_micro_epsilon=8_000_000)
    policy = policy_of(anne, evaluations=rule)
    spec = evaluation.histogram
    rows = np.repeat([0, 1], 200)
    bins = np.r_[np.arange(200) % 7, 3 + np.arange(200) % 7]
    drawn = Histogram(spec)(count(spec, list(range(400)), rows, bins), SystemSource())
    anne.seal(evaluation, anne.query(evaluation, anne.approve(evaluation, policy), 8_000_000), pack_answer(drawn))
    assert refused(world, anne) == []

    (row,) = json.loads(run(world, "list", "--format", "json"))
    assert (row["evaluation"], row["epsilon_per_unit"], row["answers"], row["open"]) == ("held-out", "8", 1, "yes")
    north, everywhere = json.loads(run(world, "report", "held-out", "--format", "json"))
    # Uniform over 0..6 against 3..9: 1 - (1/2 (1+3) + 6) / 49 of the pairs stand right, ties as a half.
    assert north["auc"] == pytest.approx(1 - 8 / 49, abs=0.03)
    assert north["low"] < north["auc"] < north["high"]
    assert (north["site"], north["pair"], everywhere["site"]) == ("anne", "normal / pneumonia", "all")
    assert (everywhere["stated"], "calibration" in north) == (None, False)
    ranges = everywhere["calibration"]
    assert (ranges[0]["from"], ranges[-1]["to"]) == (None, None)
    assert ranges[0]["probability"] < 0.1 < 0.9 < ranges[-1]["probability"]
    judge_again(world, bundle, tmp_path)
    told = run(world, "report", "held-out")
    assert "probability of pneumonia, not normal, all sites" in told
    assert "`ldp-server model calibrate` writes the classifier with these probabilities" in told
    assert "epsilon 8 of each held-out patient at each site, all its X-rays and labels together" in told
    assert "closed held-out" in run(world, "close", "held-out")
    rows = json.loads(run(world, "list", "--format", "json"))
    assert {row["evaluation"]: row["open"] for row in rows} == {"again": "yes", "held-out": "no"}


def judge_again(world: World, judged: str, tmp_path: Path) -> None:
    """The classifier with its probabilities is the same classifier, signed anew, and can be judged itself."""
    out = tmp_path / "calibrated"
    told = run(world, "calibrate", "held-out", "--out", str(out), of=model)
    assert "probabilities: from evaluation held-out" in told
    found, before = load(out), load(Path(judged))
    assert found.check_signature(world.centre.signer)
    assert found.card.calibration is not None
    assert found.card.calibration.judged == before.digest
    assert found.card.model_copy(update={"calibration": None}) == before.card
    asked = ["again", "--classifier", str(out), "--epsilon", "8", "--ends", "2030-12-31", "--bins", "10"]
    assert "published again" in run(world, "publish", *asked)
    with pytest.raises(WaitingError, match="no site has answered evaluation again yet; gather first"):
        run(world, "calibrate", "again", "--out", str(tmp_path / "never"), of=model)
    assert not (tmp_path / "never").exists()


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"--ends": "2020-12-31"}, "--ends: the evaluation would have ended on 2020-12-31 already"),
        ({"--ends": "soon"}, "--ends: "),
        ({"--unit": "family"}, "--unit: patient or image; found 'family'"),
        ({"--unit": "image", "--cap": "2"}, "where the unit is one image, the cap is 1"),
        ({"--edges": "1,0"}, "3 bins have 2 edges between them, each above the one before"),
        ({"--edges": "a,b"}, "--edges: "),
        ({"--epsilon": "none"}, "--epsilon: must be a number such as 2, 0.5 or 1/3; found 'none'"),
        ({"--epsilon": "0"}, "epsilon must be positive; found 0. Without noise there is no release"),
    ],
)
def test_options_that_describe_no_evaluation_are_refused(
    world: World, tmp_path: Path, options: dict[str, str], words: str
) -> None:
    bundle = a_bundle(tmp_path / "classifier", world.centre.keys.signing)
    asked = {"--classifier": bundle, "--epsilon": "1", "--ends": "2030-12-31"} | options
    with pytest.raises((ConfigurationError, ParameterError), match=re.escape(words)):
        run(world, "publish", "held-out", *(word for pair in asked.items() for word in pair))
    assert json.loads(run(world, "list", "--format", "json")) == []


def test_a_classifier_of_somebody_else_is_not_sent_to_sites(world: World, tmp_path: Path) -> None:
    bundle = a_bundle(tmp_path / "classifier", SigningKey(b"x" * 32))
    with pytest.raises(ClassifierError, match="the classifier is not signed by whom it should be"):
        run(world, "publish", "held-out", "--classifier", bundle, "--epsilon", "1", "--ends", "2030-12-31")


def test_a_classifier_without_spread_needs_borders(world: World, tmp_path: Path) -> None:
    bundle = a_bundle(tmp_path / "classifier", world.centre.keys.signing, spread="0.0")
    asked = ["--classifier", bundle, "--epsilon", "1", "--ends", "2030-12-31"]
    with pytest.raises(ConfigurationError, match="--edges: the classifier's card states no spread of its scores"):
        run(world, "publish", "held-out", *asked)
    assert "3 bins" in run(world, "publish", "held-out", *asked, "--edges", "-1, 1")


def test_campaigns_and_evaluations_are_not_taken_for_each_other(world: World, agreed: Agreed) -> None:
    with pytest.raises(ConfigurationError, match="held-out is an evaluation, which has no records"):
        world.centre.find_campaign("held-out")
    with pytest.raises(ConfigurationError, match="pneumonia is a campaign; an evaluation is made by"):
        run(world, "report", "pneumonia")
    with pytest.raises(ConfigurationError, match="a campaign named held-out was published before"):
        publish(world.centre, a_campaign("held-out"))


def test_more_bins_than_a_histogram_has_are_refused_at_once() -> None:
    asked = ["publish", "held-out", "--classifier", "none", "--epsilon", "1", "--ends", "2030-12-31"]
    done = CliRunner().invoke(app, [*asked, "--bins", "100000000"])
    assert done.exit_code == 2
    assert "2<=x<=4096" in done.output


@pytest.mark.parametrize(("high", "why"), [(0.2, "rank these labels the wrong way round"), (0.6, "may be one half")])
def test_why_there_is_no_probability_is_said(high: float, why: str) -> None:
    assert why in _why_none(high)
