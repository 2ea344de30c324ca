"""The student: it finds what public X-rays show, holds the labels' shares, and refuses what it cannot know."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn.metrics import roc_auc_score

from ldp_client.errors import ParameterError
from ldp_client.privacy.labels import simplex
from server.learning.student import LEAST_SHARE, Shares, assigned, fit_student
from server.learning.train import Moments

Floats = NDArray[np.float64]


def chests(count: int = 900, classes: int = 2, seed: int = 0) -> tuple[Floats, NDArray[np.int64]]:
    """Coordinates (N, 6) of classes whose difference shows in the first, and as much in the fourth to sixth."""
    generator = np.random.default_rng(seed)
    labels = generator.choice(classes, count, p=np.arange(1, classes + 1) / np.arange(1, classes + 1).sum())
    centres = np.zeros((classes, 6))
    centres[:, :1] = 1.2 * np.arange(classes)[:, None]
    for label in range(1, classes):
        centres[label, 2 + label] = 4.0
    points = centres[labels] + generator.normal(size=(count, 6))
    return points - points.mean(0), labels


def shares_of(labels: NDArray[np.int64]) -> Shares:
    return Shares.known(np.bincount(labels) / len(labels))


class TestFit:
    def test_it_finds_what_the_records_did_not_know(self) -> None:
        points, labels = chests()
        direction = np.array([[1.0, 0.3]]) * np.sign(simplex(2)[1, 0])
        matrix = fit_student(direction, points, shares_of(labels))
        held_out, truth = chests(seed=1)
        before = roc_auc_score(truth, (held_out[:, :2] @ direction.T @ simplex(2).T)[:, 1])
        after = roc_auc_score(truth, (held_out @ matrix.T @ simplex(2).T)[:, 1])
        assert matrix.shape == (1, 6)
        assert before < 0.85
        assert after > 0.98

    def test_three_labels(self) -> None:
        points, labels = chests(classes=3)
        means = np.array([points[labels == label][:, :5].mean(0) for label in range(3)])
        direction = simplex(3).T @ means[:, :1] @ np.ones((1, 1))
        matrix = fit_student(direction, points, shares_of(labels))
        held_out, truth = chests(classes=3, seed=1)
        scores = held_out @ matrix.T @ simplex(3).T
        assert matrix.shape == (2, 6)
        assert (scores.argmax(1) == truth).mean() > 0.8

    def test_a_wrong_start_leads_to_a_wrong_student(self) -> None:
        points, labels = chests()
        direction = -np.array([[1.0, 0.3]]) * np.sign(simplex(2)[1, 0])
        matrix = fit_student(direction, points, Shares.known(shares_of(labels).mean[::-1]))
        assert roc_auc_score(labels, (points @ matrix.T @ simplex(2).T)[:, 1]) < 0.1

    def test_where_public_xrays_show_no_difference_it_keeps_to_the_records(self) -> None:
        points = np.random.default_rng(4).normal(size=(900, 6))
        matrix = fit_student(np.array([[1.0, 0.0]]), points, Shares.known(np.array([0.4, 0.6])))
        assert matrix[0, 0] / np.linalg.norm(matrix) > 0.9

    def test_what_cannot_be_fitted_is_refused(self) -> None:
        points, _ = chests(30)
        with pytest.raises(
            ParameterError, match=r"2 labels and 7 coordinates from public coordinates of shape \(30, 6\)"
        ):
            fit_student(np.ones((1, 7)), points, Shares.known(np.array([0.5, 0.5])))
        with pytest.raises(ParameterError, match="give at least 20 X-rays of 2 coordinates"):
            fit_student(np.ones((1, 2)), points[:19], Shares.known(np.array([0.5, 0.5])))
        with pytest.raises(ParameterError, match="and 3 shares"):
            fit_student(np.ones((1, 2)), points, Shares.known(np.ones(3) / 3))

    def test_public_xrays_that_are_too_much_alike_are_refused(self) -> None:
        points, labels = chests()
        shares, start = shares_of(labels), np.ones((1, 2))
        nothing = np.full(points.shape, np.nan)
        for public, direction in (
            (np.ones(points.shape), start),
            (nothing, start),
            (points, np.zeros((1, 2))),
        ):
            with pytest.raises(ParameterError, match="900 public X-rays are too much alike to the encoder"):
                fit_student(direction, public, shares)
        two_kinds = np.repeat(points[:2], 450, axis=0)
        with pytest.raises(ParameterError, match="too much alike"):
            fit_student(np.array([[1.0, 0.3], [0.2, 1.0]]), two_kinds, Shares.known(np.ones(3) / 3))


class TestAssigned:
    def test_two_labels_are_divided_at_the_quantile(self) -> None:
        values = np.random.default_rng(0).normal(size=1000)
        labels = assigned(np.column_stack([np.zeros(1000), values]), np.array([0.7, 0.3]))
        assert labels.sum() == 300
        assert values[labels == 1].min() > values[labels == 0].max()

    @pytest.mark.parametrize("shares", [(0.2, 0.3, 0.5), (0.1, 0.8, 0.1), (0.25, 0.25, 0.25, 0.25)])
    def test_more_labels_get_their_shares(self, shares: tuple[float, ...]) -> None:
        scores = np.random.default_rng(1).normal(size=(2000, len(shares))) * [1.0, 3.0, 1.0, 0.5][: len(shares)]
        found = np.bincount(assigned(scores, np.array(shares)), minlength=len(shares)) / 2000
        assert found == pytest.approx(np.array(shares), abs=0.01)

    @pytest.mark.parametrize("classes", [20, 40])
    def test_many_labels_get_theirs_too(self, classes: int) -> None:
        generator = np.random.default_rng(1)
        shares = np.full(classes, 1 / classes)
        scores = generator.normal(size=(2000, classes)) + generator.normal(size=classes)
        found = np.bincount(assigned(scores, shares), minlength=classes)
        assert found == pytest.approx(2000 * shares, abs=2)

    def test_no_other_division_with_those_counts_has_a_larger_total(self) -> None:
        scores = np.random.default_rng(2).normal(size=(7, 3))
        labels = assigned(scores, np.array([2, 2, 3]) / 7)
        counts = np.bincount(labels, minlength=3).tolist()
        total = scores[np.arange(7), labels].sum()
        for other in product(range(3), repeat=7):
            if np.bincount(other, minlength=3).tolist() == counts:
                assert scores[np.arange(7), list(other)].sum() <= total + 1e-12


class TestShares:
    def test_what_is_known_exactly_stays_and_is_all_that_is_likely(self) -> None:
        shares = Shares.told_by(Moments(np.array([0.2, 0.8]), np.zeros((2, 1)), np.zeros(2)))
        assert len(shares.likely()) == 1
        assert shares.likely()[0] == pytest.approx([0.2, 0.8])

    def test_what_noise_alone_could_say_is_no_more_than_equal_shares(self) -> None:
        shares = Shares.told_by(Moments(np.array([0.02, 0.98]), np.zeros((2, 1)), np.full(2, 10.0)))
        assert shares.mean == pytest.approx([0.5, 0.5], abs=0.01)
        assert shares.deviation == pytest.approx([1 / 12**0.5] * 2, rel=0.01)  # that of a uniform share

    def test_likely_shares_lie_around_the_mean_and_sum_to_one(self) -> None:
        shares = Shares(np.array([0.5, 0.3, 0.2]), np.array([0.1, 0.05, 0.02]))
        likely = np.array(shares.likely())
        assert likely.shape == (7, 3)
        assert likely.sum(1) == pytest.approx(np.ones(7))
        assert likely.mean(0) == pytest.approx(shares.mean, abs=0.01)
        assert likely[1:3, 0] == pytest.approx([0.4, 0.6])

    def test_a_rare_label_that_is_known_stays_as_rare_as_it_is(self) -> None:
        points, _ = chests()
        rare = np.array([0.99, 0.01])
        assert Shares.known(rare).likely()[0] is rare
        matrix = fit_student(np.array([[1.0, 0.3]]) * np.sign(simplex(2)[1, 0]), points, Shares.known(rare))
        assert np.isfinite(matrix).all()
        assert Shares.estimated(rare, np.full(2, 0.01)).mean.min() == pytest.approx(
            LEAST_SHARE / (1 + LEAST_SHARE - 0.01)
        )

    def test_no_label_disappears(self) -> None:
        shares = Shares.estimated(np.array([0.0, 1.0]), np.array([0.3, 0.3]))
        assert min(one.min() for one in shares.likely()) >= LEAST_SHARE / (1 + LEAST_SHARE)

    def test_the_mean_is_nearer_the_truth_than_the_estimate_and_the_deviation_says_how_near(self) -> None:
        generator, errors, scores = np.random.default_rng(3), [], []
        for truth in generator.uniform(0, 1, 400):
            found = truth + 0.3 * generator.normal()
            told = Shares.told_by(Moments(np.array([1 - found, found]), np.zeros((2, 1)), np.full(2, 0.3)))
            errors.append(((told.mean[1] - truth) ** 2, (found - truth) ** 2))
            scores.append((told.mean[1] - truth) / told.deviation[1])
        assert np.mean([one for one, _ in errors]) < np.mean([other for _, other in errors])
        assert np.std(scores) == pytest.approx(1, abs=0.15)


def test_doubtful_shares_make_students_that_are_averaged() -> None:
    points, _ = chests()
    direction = np.array([[1.0, 0.3]]) * np.sign(simplex(2)[1, 0])
    doubted = Shares(np.array([0.4, 0.6]), np.full(2, 0.2))
    alone = [fit_student(direction, points, Shares.known(shares)) for shares in doubted.likely()]
    assert fit_student(direction, points, doubted) == pytest.approx(np.mean(alone, axis=0))
    assert np.std([matrix[0, 0] for matrix in alone]) > 0.001
    assert [(points @ matrix.T @ simplex(2).T).std() for matrix in alone] == pytest.approx([1.0] * 5)
