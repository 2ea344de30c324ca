"""Composition against its oracle: every outcome of small mechanisms, chosen adaptively, enumerated."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable
from fractions import Fraction
from itertools import product
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ldp_client.errors import BudgetExceededError
from ldp_client.privacy.accountant import PrivacyFilter, bound_per_unit, odometer
from ldp_client.privacy.loss import NOTHING, PrivacyLoss
from ldp_client.privacy.release_design import joint_codebook, joint_laplace, randomized_response
from ldp_client.privacy.spec import HistogramSpec, RandomizedResponseSpec
from server.datasets import load_cxr64

INPUTS = (0, 1, 2)
Mechanism = RandomizedResponseSpec
Rule = Callable[[tuple[int, ...]], Mechanism | None]


def chance(spec: Mechanism, answer: int, truth: int) -> Fraction:
    """The probability of an answer, as the threshold says it."""
    keep = Fraction(spec.threshold, 2**64)
    return keep if answer == truth else (1 - keep) / (spec.classes - 1)


def transcripts(rule: Rule, truth: int, so_far: tuple[int, ...] = ()) -> dict[tuple[int, ...], Fraction]:
    """The probability of every possible sequence of answers of one unit, mechanisms chosen by the answers before."""
    spec = rule(so_far)
    if spec is None:
        return {so_far: Fraction(1)}
    found: dict[tuple[int, ...], Fraction] = {}
    for answer in range(spec.classes):
        for rest, share in transcripts(rule, truth, (*so_far, answer)).items():
            found[rest] = chance(spec, answer, truth) * share
    return found


def worst_ratio(rule: Rule) -> Fraction:
    laws = [transcripts(rule, truth) for truth in INPUTS]
    assert all(sum(law.values()) == 1 for law in laws)
    return max(first[seen] / other[seen] for first, other in product(laws, laws) for seen in first)


@settings(max_examples=25, deadline=None)
@given(st.lists(st.integers(1, 3_000_000), min_size=1, max_size=4))
def test_no_outcome_of_several_releases_is_likelier_than_the_odometer_says(micro: list[int]) -> None:
    specs = [randomized_response(epsilon=Fraction(one, 10**6), classes=3) for one in micro]
    ratio = worst_ratio(lambda seen: specs[len(seen)] if len(seen) < len(specs) else None)
    total = odometer(spec.loss for spec in specs)
    assert PrivacyLoss.of_log(ratio) <= total
    # And not by much: rounding up loses at most a millionth for each.
    assert total.micro_epsilon - PrivacyLoss.of_log(ratio).micro_epsilon <= len(specs)


@settings(max_examples=25, deadline=None)
@given(
    st.integers(0, 3_000_000).map(PrivacyLoss),
    st.lists(st.integers(1, 2_000_000), min_size=13, max_size=13),
)
def test_a_filter_holds_whatever_an_adversary_chooses_after_each_answer(budget: PrivacyLoss, wishes: list[int]) -> None:
    """Up to three releases, each epsilon picked by the answers before it: 13 = 1 + 3 + 9 places of the tree."""
    rule = PrivacyFilter(budget, "patient")
    specs = [randomized_response(epsilon=Fraction(one, 10**6), classes=3) for one in wishes]

    def place(seen: tuple[int, ...]) -> int:
        return (0, 1, 4)[len(seen)] + sum(answer * 3**i for i, answer in enumerate(seen))

    def choose(seen: tuple[int, ...]) -> Mechanism | None:
        spent = odometer(specs[place(seen[:length])].loss for length in range(len(seen)))
        if len(seen) == 3:
            return None
        wanted = specs[place(seen)]
        try:
            rule.admit(spent, wanted.loss)
        except BudgetExceededError:
            return None  # the unit answers no more
        return wanted

    ratio = worst_ratio(choose)
    assert ratio == 1 or PrivacyLoss.of_log(ratio) <= budget


def test_a_sum_that_forgot_one_release_is_caught_by_the_oracle() -> None:
    specs = [randomized_response(epsilon=1, classes=3)] * 2
    ratio = worst_ratio(lambda seen: specs[len(seen)] if len(seen) < 2 else None)
    assert PrivacyLoss.of_log(ratio) > odometer([specs[0].loss])


def test_xrays_campaigns_and_evaluations_of_one_unit_are_one_sum() -> None:
    first = joint_laplace(epsilon=2, classes=2, bottleneck_dimension=2, radius=1)
    second = joint_codebook(epsilon="1/3", classes=2, bottleneck_dimension=8)
    evaluation = HistogramSpec(bins=10, classes=2, cap=2, scale=Fraction(8))
    assert evaluation.loss == PrivacyLoss.of("1/2")  # 2 cap / scale, for all of the unit's X-rays in the set
    charged = [first.loss, first.loss, second.loss, evaluation.loss]
    total = odometer(charged)
    assert total.micro_epsilon == sum(loss.micro_epsilon for loss in charged)
    assert float(total) == pytest.approx(2 + 2 + 1 / 3 + 1 / 2, abs=2e-6)
    assert bound_per_unit([first.loss * 2, second.loss, evaluation.loss]) == total
    rule, spent = PrivacyFilter(PrivacyLoss.of("4.5"), "patient"), NOTHING
    for loss in charged[:3]:
        spent = rule.admit(spent, loss)
    with pytest.raises(BudgetExceededError, match=r"asks epsilon 0\.5 of a unit \(patient\) that has 0\.1666"):
        rule.admit(spent, evaluation.loss)


def test_a_histogram_of_two_neighbouring_sets_is_no_likelier_than_its_loss_says() -> None:
    """Cap 1: one X-ray moves from one count to another; over a window of outcomes the worst ratio is e^(2/scale)."""
    spec = HistogramSpec(bins=2, classes=2, cap=1, scale=Fraction(4))
    q = math.exp(-1 / 4)
    here, there = np.array([3, 5]), np.array([2, 6])
    worst = max(
        q ** (abs(a - here[0]) + abs(b - here[1])) / q ** (abs(a - there[0]) + abs(b - there[1]))
        for a, b in product(range(-20, 30), repeat=2)
    )
    assert math.log(worst) == pytest.approx(float(spec.loss), rel=1e-9)


@pytest.mark.real
@pytest.mark.parametrize("cap", [1, 2, 4])
def test_patients_with_several_xrays_spend_at_most_the_cap(data_dir: Path, cap: int) -> None:
    """Hospital patients of a real set (group_id): what each has spent after every X-ray asked for its charge."""
    data = load_cxr64(data_dir / "cxr64.npz")
    patients = Counter(data.group_id[data.split == "hospital"].tolist())
    assert max(patients.values()) > 4  # there are patients with many X-rays, and most have few
    loss = joint_codebook(epsilon=2, classes=2, bottleneck_dimension=2).loss
    rule = PrivacyFilter(loss * cap, "patient")
    spent: dict[str, PrivacyLoss] = {}
    refused = 0
    for patient, xrays in patients.items():
        spent[patient] = NOTHING
        for _ in range(xrays):
            try:
                spent[patient] = rule.admit(spent[patient], loss)
            except BudgetExceededError:
                refused += 1
    by_records = Counter(total.micro_epsilon // loss.micro_epsilon for total in spent.values())
    print(
        f"cap {cap}: {len(patients)} patients, {sum(patients.values())} X-rays, {refused} left out; "
        + ", ".join(f"{count} spent {loss * records}" for records, count in sorted(by_records.items()))
    )
    assert max(spent.values()) == loss * cap == rule.budget
    assert refused == sum(max(0, xrays - cap) for xrays in patients.values())
    assert by_records == Counter(min(cap, xrays) for xrays in patients.values())
