"""How a site answers an evaluation: who is in the set, who pays, what is counted, and that it happens once."""

from __future__ import annotations

import dataclasses
import json
import logging
import sqlite3
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

import ldp_client.evaluation as spine
from ldp_client.diagnosis.scoring import binned
from ldp_client.errors import ClassifierError, PolicyRefusedError, VerificationError, WaitingError
from ldp_client.evaluation import Answered, evaluate
from ldp_client.evaluation_set import divide, evaluation_items, is_held_out, releasable
from ldp_client.export import write_export, write_openings
from ldp_client.imaging.dataset import DataSet
from ldp_client.imaging.xray import patient_key
from ldp_client.ledger.store import ChargeRequest
from ldp_client.openings import check_openings
from ldp_client.plan import lines, make_plan
from ldp_client.privacy.histogram import CappedCounts, Histogram, NoisedHistogram
from ldp_client.privacy.loss import PrivacyLoss
from ldp_client.privacy.noise import ByteSource, SystemSource
from ldp_client.rotation import rotate_key
from ldp_client.site import data_set
from ldp_client.verify import verify_export
from ldp_client.wire.answer import unpack_answer
from ldp_client.wire.campaign import EvaluationRule
from ldp_client.wire.canonical import canonical_bytes
from ldp_client.wire.chain import Charge, Query, Seal, parse_entry, subjects_commitment
from ldp_client.wire.evaluation import asked_id
from ldp_client.wire.record import record_digest
from tests.client.evaluations import RULE, a_card, make_evaluation
from tests.client.older_ledgers import downgrade
from tests.client.second_reader import read_site_export
from tests.client.world import OFFICER, TODAY, MakeWorld, MeanEncoder, World, make_campaign

EVALUATION = make_evaluation()
CAMPAIGN = make_campaign(unit="patient", cap=1)
COUNT = 24
# Twelve patients, four with three X-rays, four with two, four with one.
PATIENTS = (
    [f"P{index % 4}" for index in range(12)] + [f"P{4 + index % 4}" for index in range(8)] + ["P8", "P9", "Q", "R"]
)
DAY = TODAY.isoformat()


@pytest.fixture
def world(new_world: MakeWorld) -> World:
    """A site whose policy allows evaluations, with both asked and approved."""
    world = new_world(CAMPAIGN, count=COUNT, patients=PATIENTS, units=("patient",), evaluations=RULE)
    world.evaluations.append(EVALUATION)
    world.approve(CAMPAIGN)
    world.approve(EVALUATION)
    return world


def held(world: World) -> DataSet:
    return data_set(world.site, EVALUATION)


def run(world: World, **changes: Any) -> Answered | None:
    fields: dict[str, Any] = {
        "ledger": world.site.ledger,
        "encoder": MeanEncoder(),
        "source": SystemSource(),
        "today": lambda: TODAY,
        "chunk": 3,
    }
    evaluation = changes.pop("evaluation", EVALUATION)
    return evaluate(evaluation, changes.pop("data_set", None) or held(world), **(fields | changes))


class Exact:
    """No noise at all, so that a test can read what was counted."""

    def __init__(self, spec: Any) -> None:
        self._real = Histogram(spec)

    def __call__(self, value: CappedCounts, source: ByteSource) -> NoisedHistogram:
        drawn = self._real(value, source)
        object.__setattr__(drawn, "counts", value.counts)
        return drawn


@pytest.fixture
def exact(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spine, "Histogram", Exact)


def counted(world: World) -> NDArray[np.int64]:
    (payload,) = [payload for _, payload in world.site.ledger.payloads(1, 10_000)]
    return unpack_answer(payload, EVALUATION.histogram)


def entries(world: World) -> list[Any]:
    return [parse_entry(row.body) for row in world.site.ledger.rows()]


# --- who is in the set


def test_a_keyed_hash_holds_out_the_share_and_smaller_shares_are_inside_larger_ones() -> None:
    secret = bytes(range(32))
    keys = [patient_key(secret, "", str(index)) for index in range(4000)]
    sets = {share: {key for key in keys if is_held_out(secret, key, share)} for share in (0, 1, 20, 50)}
    assert not sets[0]
    assert sets[1] < sets[20] < sets[50]
    # 4000 draws at 20 %: five standard deviations are 126.
    assert abs(len(sets[20]) - 800) < 127
    other = {key for key in keys if is_held_out(bytes(32), key, 20)}
    assert len(other & sets[20]) < 320


def test_released_and_evaluated_units_are_disjoint_and_together_all(world: World) -> None:
    policy = world.site.ledger.policy()[1]  # type: ignore[index]
    evaluated = {item.patient for item in evaluation_items(held(world), policy, world.site.ledger)}
    released = {item.patient for item in releasable(held(world), policy, world.site.ledger).items}
    assert evaluated
    assert released
    assert not evaluated & released
    assert evaluated | released == {item.patient for item in held(world).items}


def test_agent_releases_nobody_of_the_set_and_evaluates_nobody_released(world: World) -> None:
    policy = world.site.ledger.policy()[1]  # type: ignore[index]
    evaluated = {item.patient for item in evaluation_items(held(world), policy, world.site.ledger)}
    world.offer()
    agent = world.agent()
    for _ in range(6):
        agent.step()
        world.round()
    charged = {row[0] for row in world.site.ledger._connection.execute("SELECT unit FROM openings")}
    queried = world.site.ledger.queried_units()
    assert queried == evaluated
    assert not charged & queried
    assert charged | queried == {item.patient for item in held(world).items}
    kinds = Counter(type(entry).__name__ for entry in entries(world))
    assert (kinds["Query"], kinds["Charge"], kinds["Seal"]) == (1, len(charged), len(charged) + 1)
    assert world.site.ledger.acknowledged() == world.site.ledger.head().sequence


def test_who_was_released_before_the_first_policy_for_evaluations_stays_out(new_world: MakeWorld) -> None:
    world = new_world(CAMPAIGN, count=COUNT, patients=PATIENTS)
    world.approve(CAMPAIGN)
    ledger = world.site.ledger
    early = held(world).items[0]
    ledger.charge(CAMPAIGN, [ChargeRequest(early.patient, early.identity, bytes(32))], DAY)
    rule = EvaluationRule(share_percent=50, max_micro_epsilon=1_000_000)
    everybody = {item.patient for item in held(world).items}
    world.set_policy(serial=2, units=("patient",), evaluations=rule)
    policy = ledger.policy()[1]  # type: ignore[index]
    division = dataclasses.replace(divide(held(world), policy, ledger), share_percent=100)
    assert {unit for unit in everybody if division.is_evaluated(unit)} == everybody - {early.patient}
    assert {unit for unit in everybody if division.is_released(unit)} == {early.patient}


def test_who_was_queried_is_never_released_even_if_no_policy_allows_evaluations_any_more(world: World) -> None:
    run(world)
    queried = world.site.ledger.queried_units()
    world.set_policy(serial=2)
    policy = world.site.ledger.policy()[1]  # type: ignore[index]
    assert queried
    assert not queried & {item.patient for item in releasable(held(world), policy, world.site.ledger).items}


def test_merge_of_a_released_patient_with_one_of_the_set_takes_both_out(world: World) -> None:
    ledger, policy = world.site.ledger, world.site.ledger.policy()[1]  # type: ignore[index]
    inside = evaluation_items(held(world), policy, ledger)[0]
    outside = releasable(held(world), policy, ledger).items[0]
    run(world)
    ledger.charge(CAMPAIGN, [ChargeRequest(outside.patient, outside.identity, bytes(32))], DAY)
    ledger.merge(outside.patient, inside.patient)
    division = divide(held(world), policy, ledger)
    assert ledger.root(inside.patient) == outside.patient
    assert not division.is_evaluated(outside.patient)
    assert not division.is_released(outside.patient)
    assert ledger.spent(inside.patient) == PrivacyLoss.of(3)


def test_an_xray_that_was_ever_charged_is_not_counted_whatever_its_unit_was(world: World) -> None:
    ledger, policy = world.site.ledger, world.site.ledger.policy()[1]  # type: ignore[index]
    first = evaluation_items(held(world), policy, ledger)[0]
    ledger.charge(CAMPAIGN, [ChargeRequest(b"x" * 32, first.identity, bytes(32))], DAY)
    assert first.identity not in {item.identity for item in evaluation_items(held(world), policy, ledger)}


# --- who pays, and what is counted


def test_every_unit_of_the_set_pays_once_and_the_entry_hides_who_and_how_many(world: World) -> None:
    policy = world.site.ledger.policy()[1]  # type: ignore[index]
    units = {item.patient for item in evaluation_items(held(world), policy, world.site.ledger)}
    answered = run(world)
    assert answered is not None
    assert (answered.units, answered.left_out) == (len(units), 0)
    for unit in {item.patient for item in held(world).items}:
        assert world.site.ledger.spent(unit) == PrivacyLoss.of(1 if unit in units else 0)
    (query,) = [entry for entry in entries(world) if isinstance(entry, Query)]
    ((sequence, salt, opened),) = world.site.ledger.query_openings()
    assert query == Query(
        subjects=subjects_commitment(units, salt), campaign=asked_id(EVALUATION), approval=4, micro_epsilon=1_000_000
    )
    assert set(opened) == units
    body = next(row.body for row in world.site.ledger.rows(sequence))
    assert len(body) == len(json.dumps({"entry": query.model_dump()}, separators=(",", ":")))
    assert not any(unit.hex().encode() in body for unit in units)


def test_histogram_counts_at_most_the_cap_of_each_unit_by_label_and_bin(world: World, exact: None) -> None:
    answered = run(world)
    assert answered is not None
    policy = world.site.ledger.policy()[1]  # type: ignore[index]
    taken: Counter[bytes] = Counter()
    expected = np.zeros((2, 8), dtype=np.int64)
    for item in evaluation_items(held(world), policy, world.site.ledger):
        taken[item.patient] += 1
        if taken[item.patient] > EVALUATION.cap:
            continue
        xray = held(world).read(item)
        image = MeanEncoder().prepare(xray.pixels, inverted=False, window=None, bits=8)
        output = MeanEncoder().encode(torch.stack([image])) @ [1, 0.5]
        row, place = binned(np.stack([-output, output], axis=1), np.array([item.label]), EVALUATION.edges)
        expected[row[0, 0], place[0, 0]] += 1
    assert max(taken.values()) > EVALUATION.cap
    assert counted(world).tolist() == expected.tolist()
    assert answered.xrays == expected.sum()


def test_real_noise_is_on_every_count(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    without: list[NDArray[np.int64]] = []

    class Watched(Exact):
        def __call__(self, value: CappedCounts, source: ByteSource) -> NoisedHistogram:
            without.append(value.counts)
            return self._real(value, source)

    monkeypatch.setattr(spine, "Histogram", Watched)
    run(world)
    # Each count of scale 4 stays as it is with probability tanh(1/8) = 0.124: of 16 all but 13 do with less than 1e-9.
    assert np.sum(counted(world) == without[0]) < 13


def test_a_unit_whose_xrays_cannot_be_read_pays_and_does_not_count(world: World, exact: None) -> None:
    policy = world.site.ledger.policy()[1]  # type: ignore[index]
    inside = held(world)
    victim = evaluation_items(inside, policy, world.site.ledger)[0].patient
    for item in inside.items:
        if item.patient == victim:
            item.path.write_bytes(b"damaged since the folder was read")
    run(world, data_set=inside)
    assert world.site.ledger.spent(victim) == PrivacyLoss.of(1)
    assert victim in world.site.ledger.queried_units()


def test_a_unit_without_budget_is_left_out_and_not_counted(world: World, exact: None) -> None:
    policy = world.site.ledger.policy()[1]  # type: ignore[index]
    items = evaluation_items(held(world), policy, world.site.ledger)
    poor = items[0].patient
    for number in range(8):
        other = make_evaluation(name=f"earlier-{number}")
        if number == 7:
            world.set_policy(serial=2, units=("patient",), evaluations=RULE, lifetime_micro_epsilon=100_000_000)
        world.approve(other)
        world.site.ledger.query(other, [poor], bytes(32), DAY)
    world.set_policy(serial=3, units=("patient",), evaluations=RULE, lifetime_micro_epsilon=20_000_000)
    wanted = make_evaluation(name="last", epsilon=2)
    world.set_policy(serial=4, units=("patient",), evaluations=RULE, lifetime_micro_epsilon=10_000_000)
    world.approve(wanted)
    world.site.ledger._odometer._spent[poor] = 9_000_000
    plan = make_plan(wanted, world.site.ledger.policy()[1], held(world), world.site.ledger)  # type: ignore[index]
    answered = run(world, evaluation=wanted)
    assert answered is not None
    assert answered.left_out == plan.units_without_budget == 1
    assert answered.units == plan.units == len({item.patient for item in items}) - 1
    assert answered.xrays == plan.records


def test_an_empty_set_answers_with_noise_like_any_other(new_world: MakeWorld) -> None:
    world = new_world(CAMPAIGN, count=1, patients=["P0"], units=("patient",), evaluations=RULE)
    world.approve(EVALUATION)
    answered = run(world, data_set=dataclasses.replace(held(world), items=()))
    assert answered == Answered(0, 0, 0)
    (query,) = [entry for entry in entries(world) if isinstance(entry, Query)]
    assert query.micro_epsilon == 1_000_000
    assert counted(world).shape == (2, 8)


# --- once


def test_asked_again_nothing_is_drawn_and_the_same_bytes_lie_there(world: World) -> None:
    run(world)
    before = list(world.site.ledger.rows())
    payload = list(world.site.ledger.payloads(1, 10_000))
    assert run(world) is None
    assert list(world.site.ledger.rows()) == before
    assert list(world.site.ledger.payloads(1, 10_000)) == payload
    (seal,) = [entry for entry in entries(world) if isinstance(entry, Seal)]
    assert seal.record == record_digest(asked_id(EVALUATION), seal.charge, payload[0][1])


def test_a_query_left_open_pays_for_its_units_and_no_others(world: World, exact: None) -> None:
    policy = world.site.ledger.policy()[1]  # type: ignore[index]
    first = evaluation_items(held(world), policy, world.site.ledger)[0]
    query = world.site.ledger.query(EVALUATION, [first.patient], bytes(32), DAY)
    assert world.site.ledger.open_query(asked_id(EVALUATION)) == query
    answered = run(world)
    assert answered is not None
    assert answered.units == 1
    assert counted(world).sum() == min(2, sum(item.patient == first.patient for item in held(world).items))
    assert world.site.ledger.open_query(asked_id(EVALUATION)) is None
    assert sum(isinstance(entry, Query) for entry in entries(world)) == 1


def test_a_query_left_open_counts_no_xray_that_was_charged_for_a_record(world: World, exact: None) -> None:
    ledger, policy = world.site.ledger, world.site.ledger.policy()[1]  # type: ignore[index]
    xrays = Counter(item.patient for item in held(world).items)
    first = min(evaluation_items(held(world), policy, ledger), key=lambda item: xrays[item.patient])
    others = xrays[first.patient] - 1
    ledger.charge(CAMPAIGN, [ChargeRequest(b"x" * 32, first.identity, bytes(32))], DAY)
    ledger.query(EVALUATION, [first.patient], bytes(32), DAY)
    answered = run(world)
    assert answered == Answered(xrays=min(2, others), units=1, left_out=0)
    assert counted(world).sum() == min(2, others)


def test_a_query_left_open_counts_nobody_whom_a_merge_has_made_a_released_patient(world: World, exact: None) -> None:
    ledger, policy = world.site.ledger, world.site.ledger.policy()[1]  # type: ignore[index]
    inside = evaluation_items(held(world), policy, ledger)[0]
    outside = releasable(held(world), policy, ledger).items[0]
    ledger.query(EVALUATION, [inside.patient], bytes(32), DAY)
    ledger.charge(CAMPAIGN, [ChargeRequest(outside.patient, outside.identity, bytes(32))], DAY)
    ledger.merge(outside.patient, inside.patient)
    assert run(world) == Answered(xrays=0, units=1, left_out=0)
    assert counted(world).sum() == 0


def test_a_second_query_and_a_second_answer_are_refused(world: World) -> None:
    query = world.site.ledger.query(EVALUATION, [held(world).items[0].patient], bytes(32), DAY)
    head = world.site.ledger.head()
    with pytest.raises(WaitingError, match="evaluation held-out was queried before; what was sealed then"):
        world.site.ledger.query(EVALUATION, [], bytes(32), DAY)
    assert world.site.ledger.head() == head
    world.site.ledger.abandon_query(query)
    with pytest.raises(WaitingError, match="a query is settled already, by another process"):
        world.site.ledger.answer(query, b"answer", DAY)
    assert run(world) is None
    for deletion in ("DELETE FROM queries", "DELETE FROM query_units", "DELETE FROM answers"):
        with pytest.raises(sqlite3.IntegrityError, match="the ledger is insert-only"):
            world.site.ledger._connection.execute(deletion)


# --- what is refused before anything is charged


@pytest.mark.parametrize(
    ("changes", "error", "words"),
    [
        ({"encoder": "a" * 64}, PolicyRefusedError, "the evaluation names the encoder aaaaaaaaaaaa; the one installed"),
        ({"classifier": b"{}"}, ClassifierError, "is not a classifier's card"),
        (
            {"classifier": canonical_bytes(a_card(label_names=("normal", "effusion")))},
            PolicyRefusedError,
            "its classifier and the data set have other labels",
        ),
        (
            {"classifier": canonical_bytes(a_card(encoder="a" * 64))},
            ClassifierError,
            "was learnt with the encoder aaaaaaaaaaaa",
        ),
        ({"weights": b"pickle"}, ClassifierError, "have digest .* its card says none"),
    ],
)
def test_what_does_not_fit_charges_nothing(
    world: World, changes: dict[str, object], error: type[Exception], words: str
) -> None:
    before = world.site.ledger.head()
    with pytest.raises(error, match=words):
        run(world, evaluation=make_evaluation(**changes))
    assert world.site.ledger.head() == before


def test_without_approval_nothing_is_charged(world: World) -> None:
    with pytest.raises(WaitingError, match="campaign other has not been approved"):
        run(world, evaluation=make_evaluation(name="other"))


@pytest.mark.parametrize(
    ("policy", "words"),
    [
        ({"evaluations": None}, r"the policy allows no evaluation\. Sign one with \[policy\.evaluations\]"),
        ({"evaluations": EvaluationRule(share_percent=5, max_micro_epsilon=999_999)}, "asks epsilon 1 of each patient"),
        ({"units": ("image",)}, "the campaign protects one patient as the unit; the policy allows image"),
        ({"encoders": ("b" * 64,)}, "the campaign asks for the encoder eeeeeeeeeeee; the policy allows bbbbbbbbbbbb"),
        ({"lifetime_micro_epsilon": 500_000}, "the evaluation takes epsilon 1 of one patient; .* budget is 0.5"),
    ],
)
def test_a_policy_that_does_not_allow_it_refuses_the_approval(
    world: World, policy: dict[str, object], words: str
) -> None:
    world.set_policy(**({"serial": 2, "units": ("patient",), "evaluations": RULE} | policy))
    with pytest.raises(PolicyRefusedError, match=words):
        world.approve(EVALUATION)


# --- plan, proof


def test_plan_says_what_the_run_then_does(world: World, exact: None) -> None:
    plan = make_plan(EVALUATION, world.site.ledger.policy()[1], held(world), world.site.ledger)  # type: ignore[index]
    answered = run(world)
    assert answered is not None
    assert (plan.records, plan.units) == (answered.xrays, answered.units)
    text = " ".join(lines(plan, EVALUATION))
    assert f"{plan.records} X-rays of {plan.units} held-out patients would be counted" in text
    assert "each of these patients is charged epsilon 1 once" in text
    again = make_plan(EVALUATION, world.site.ledger.policy()[1], held(world), world.site.ledger)  # type: ignore[index]
    assert (again.records, again.units) == (0, 0)


def test_exports_prove_the_query_to_both_readers_and_openings_prove_who_paid(world: World, tmp_path: Path) -> None:
    world.offer()
    agent = world.agent()
    for _ in range(6):
        agent.step()
        world.round()
    export, opened = tmp_path / "export.jsonl", tmp_path / "openings.jsonl"
    write_export(world.site, export)
    write_openings(world.site, opened)
    verified = verify_export(export)
    (history,) = verified.histories
    assert history.bound == PrivacyLoss.of(3)
    assert read_site_export(export).sealed == history.sealed
    proved = check_openings(export, opened)
    assert (proved.units, proved.largest) == (len({item.patient for item in held(world).items}), PrivacyLoss.of(2))

    lines_of = opened.read_text().splitlines(keepends=True)
    (place,) = [index for index, line in enumerate(lines_of) if '"query"' in line]
    said = json.loads(lines_of[place])
    for units, words in (
        (said["units"][1:], "the opening is not what this charge has committed to"),
        ([*said["units"], said["units"][0]], "the opening is not what this charge has committed to"),
    ):
        changed = json.dumps(said | {"units": units}, sort_keys=True, separators=(",", ":")) + "\n"
        opened.write_text("".join([*lines_of[:place], changed, *lines_of[place + 1 :]]))
        with pytest.raises(VerificationError, match=words):
            check_openings(export, opened)
    opened.write_text("".join([*lines_of[:place], *lines_of[place + 1 :]]))
    with pytest.raises(VerificationError, match="this charge has no opening"):
        check_openings(export, opened)


def test_ledger_of_the_version_before_is_brought_to_this_one(world: World) -> None:
    connection = world.site.ledger._connection
    before = list(world.site.ledger.rows())
    names = connection.execute("SELECT type, name FROM sqlite_schema WHERE sql NOT NULL").fetchall()
    for kind, name in names:
        if name.startswith(("queries", "query_units", "answers")):
            connection.execute(f"DROP {kind} IF EXISTS {name}")
    connection.execute("PRAGMA user_version = 3")
    world.reopen()
    assert list(world.site.ledger.rows()) == before
    assert run(world) is not None


def test_ledger_from_before_keys_could_be_replaced_is_brought_to_this_one(world: World, tmp_path: Path) -> None:
    """Version 4: a query, its units and its answer, charges and seals, batches sent and acknowledged."""
    world.offer()
    agent = world.agent()
    for _ in range(6):
        agent.step()
        world.round()
    ledger = world.site.ledger
    before, sent, acknowledged = list(ledger.rows()), list(ledger.headers()), ledger.acknowledged()
    openings = list(ledger.query_openings())
    assert (len(openings), len(sent) > 0, acknowledged > 1) == (1, True, True)
    world.site.close()
    downgrade(world.folder / "ledger.sqlite3", 4)
    world.reopen()
    ledger = world.site.ledger
    assert (list(ledger.rows()), list(ledger.headers()), ledger.acknowledged()) == (before, sent, acknowledged)
    assert list(ledger.query_openings()) == openings
    # Whoever has answered does not answer again, and the key can be replaced now.
    assert run(world) is None
    world.site.close()
    rotate_key(world.folder, OFFICER, lost=False)
    world.reopen()
    write_export(world.site, tmp_path / "export.jsonl")
    assert verify_export(tmp_path / "export.jsonl").sequence == before[-1].sequence + 1
    assert read_site_export(tmp_path / "export.jsonl").sealed > 0


def test_a_charge_for_the_evaluation_is_at_fault(world: World, tmp_path: Path) -> None:
    """A site that had its ledger altered: a charge that names an evaluation pays for nothing."""
    world.offer()
    world.agent().step()
    body = Charge(subject="7" * 64, campaign=asked_id(EVALUATION), approval=4, micro_epsilon=1_000_000)
    with world.site.ledger._transaction():
        world.site.ledger._append(body)
    write_export(world.site, tmp_path / "export.jsonl")
    with pytest.raises(
        VerificationError, match=r"entry 5: the campaign .* that it was charged for is not in the export"
    ):
        verify_export(tmp_path / "export.jsonl")


def test_no_number_of_the_set_is_logged(world: World, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, "ldp_client")
    world.offer()
    agent = world.agent()
    for _ in range(4):
        agent.step()
        world.round()
    assert [line for line in caplog.messages if "held-out" in line] == ["evaluation held-out is answered"]
