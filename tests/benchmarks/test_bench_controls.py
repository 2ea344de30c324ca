"""What a benchmark must show of itself: wrong labels turn or lose the classifier, and areas are areas."""

from __future__ import annotations

import struct
from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest
from scipy.stats import rankdata

from ldp_client.errors import FormatError, ParameterError
from ldp_client.privacy.labels import simplex
from ldp_client.wire.record import NOISE_LIMIT, unpack
from server.benchmarks.area import TestSet as Resampled
from server.benchmarks.area import area, paired_difference, weighted_areas
from server.benchmarks.arms import Floats, Wanted, noise_of, ours
from server.benchmarks.encoded import Encoded
from server.benchmarks.local_statistics import local_statistics
from server.benchmarks.peers import everything_noised, first_component, posterior_mean, taught_by_nobody
from server.benchmarks.poisoning import crafted, poisoned
from server.benchmarks.released import within_cap
from server.benchmarks.scene import Change, Scene, balanced, few, inverted, permuted, rare, scene, shifted, uneven
from server.benchmarks.students import student
from server.benchmarks.table import CONTROL, CONTROL_REPEATS, Extent, entries
from server.learning.student import Shares

LAPLACE, CODEBOOK = Wanted("laplace", "map 2"), Wanted("codebook", "map 2")


def areas(encoded: Encoded, arm_of: Wanted, repeats: int, *changes: Change, epsilon: int = 4) -> Floats:
    arm, task = ours(arm_of), encoded.archive.tasks[0]
    labels = task.labels[encoded.archive.part == "test"]
    scenes = (scene(encoded, task, 1, repeat, changes) for repeat in range(repeats))
    return np.array([area(arm.score(one, Fraction(epsilon)), labels) for one in scenes])


@pytest.mark.parametrize("wanted", [LAPLACE, CODEBOOK], ids=["laplace", "codebook"])
def test_inverted_labels_turn_the_classifier_around(normal: Encoded, wanted: Wanted) -> None:
    assert areas(normal, wanted, 2).min() > 0.9
    assert areas(normal, wanted, 2, inverted).max() < 0.2


def test_permuted_labels_teach_nothing(normal: Encoded) -> None:
    found = areas(normal, CONTROL, CONTROL_REPEATS, permuted, epsilon=16)
    assert found.std() < 0.25  # so 0.1 is four standard errors of the mean of 100, and more
    assert abs(found.mean() - 0.5) < 0.1
    # The broken twin: were the labels not permuted, this would be far from one half.
    assert abs(areas(normal, CONTROL, 3, epsilon=16).mean() - 0.5) > 0.3


def test_without_a_constant_permuted_labels_teach_nothing_where_they_are_equally_frequent(normal: Encoded) -> None:
    eight = Wanted("laplace", "map 8", radius="2")
    assert abs(areas(normal, eight, CONTROL_REPEATS, balanced, permuted).mean() - 0.5) < 0.1


def test_a_smaller_epsilon_costs_area(normal: Encoded) -> None:
    arm, task = ours(LAPLACE), normal.archive.tasks[0]
    labels = task.labels[normal.archive.part == "test"]
    small = [area(arm.score(scene(normal, task, 1, at), Fraction(1, 50)), labels) for at in range(10)]
    assert np.mean(small) < areas(normal, LAPLACE, 2).mean() - 0.1


def test_dp_glow_learns_nothing_at_small_epsilon_and_something_at_a_huge_one(normal: Encoded) -> None:
    task = normal.archive.tasks[0]
    labels = task.labels[normal.archive.part == "test"]
    score = everything_noised("map")
    one = scene(normal, task, 1, 0)
    assert area(score(one, Fraction(2000)), labels) > 0.9
    assert abs(np.mean([area(score(one, Fraction(1)), labels) for _ in range(8)]) - 0.5) < 0.25


class Pupil:
    """A student that only remembers what it was started with."""

    def __init__(self) -> None:
        self.shares: list[Shares | None] = []

    def __call__(self, scene: Scene, view: str, direction: Floats, shares: Shares | None) -> Floats:
        self.shares.append(shares)
        scores: Floats = scene.test(view) @ direction.T @ simplex(2).T
        return scores


def test_a_student_gets_direction_and_shares_and_its_rows_say_so(normal: Encoded) -> None:
    task, pupil = normal.archive.tasks[0], Pupil()
    extent = Extent(quick=True, without=("networks", "dp-sgd", "edges"), dimension=8, student=pupil)
    rows = [entry for entry in entries("normal", task, 1, extent) if entry.arm.student]
    assert {entry.arm.release for entry in rows} == {"public only", "joint"}
    one = scene(normal, task, 1, 0)
    taught = ours(Wanted("codebook", "map 2", "simplex", "1/2"), student=pupil).score(one, Fraction(4))
    assert taught.shape == (300, 2)
    shares = pupil.shares[-1]
    assert shares is not None
    assert abs(shares.mean[1] - one.labels.mean()) < 0.2
    assert not [entry for entry in entries("normal", task, 1, replace(extent, student=None)) if entry.arm.student]


def test_a_student_from_a_wrong_start_does_not_reach_what_a_right_one_does(normal: Encoded) -> None:
    task = normal.archive.tasks[0]
    labels, one = task.labels[normal.archive.part == "test"], scene(normal, task, 1, 0)
    arms = taught_by_nobody(student, 8)
    found = {arm.glow: area(arm.score(one, None), labels) for arm in arms}
    right = {glow: reached for glow, reached in found.items() if "started from coordinate 1," in glow}
    assert [arm.track for arm in arms] == [
        "U",
        "V",
        "V",
    ] * 4
    assert all(max(reached, 1 - reached) > 0.9 for reached in right.values())
    assert all(max(found[glow], 1 - found[glow]) < 0.75 for glow in found.keys() - right.keys())


def test_a_student_is_told_the_public_shares_where_records_tell_them(normal: Encoded) -> None:
    task, pupil = normal.archive.tasks[0], Pupil()
    tells = Wanted("codebook", "map 2", "one_hot", "7/10")
    few_ill = scene(normal, task, 1, 0, (rare(0.2),))
    for wanted in (tells, Wanted("codebook", "map 2", "simplex", "7/10")):
        for _ in range(6):  # one alone may miss by .2
            assert ours(wanted, student=pupil).score(few_ill, Fraction(8)).shape == (300, 2)
    told = [shares.mean[1] for shares in pupil.shares if shares is not None]
    assert len(told) == 12
    assert np.mean(told[:6]) == pytest.approx(0.6, abs=0.15)  # of the public pool
    assert np.mean(told[6:]) == pytest.approx(0.2, abs=0.1)  # of the hospitals


def test_no_student_takes_over_where_public_xrays_are_of_another_kind(normal: Encoded) -> None:
    task, pupil = normal.archive.tasks[0], Pupil()
    away = scene(normal, task, 1, 0, (lambda found: replace(found, shift=4.0),))
    scores = ours(Wanted("codebook", "map 4", "one_hot", "7/10"), student=pupil).score(away, Fraction(16))
    assert scores.shape == (300, 2)
    assert not pupil.shares


def test_areas_are_the_share_of_pairs_in_order() -> None:
    generator = np.random.default_rng(1)
    labels = (generator.random(60) < 0.4).astype(np.int64)
    scores = np.round(generator.normal(size=60) + labels, 1)  # rounded, so that some are tied
    ranks, ones = rankdata(scores), int(labels.sum())
    by_ranks = (ranks[labels == 1].sum() - ones * (ones + 1) / 2) / (ones * (60 - ones))
    assert area(scores, labels) == pytest.approx(by_ranks)
    assert area(np.stack([-scores, scores], axis=1), labels) == pytest.approx(by_ranks)
    doubled = np.concatenate([scores, scores[:5]]), np.concatenate([labels, labels[:5]])
    weights = np.ones((1, 60))
    weights[0, :5] = 2
    assert weighted_areas(scores, labels, weights)[0] == pytest.approx(area(*doubled))
    with pytest.raises(ParameterError, match="needs X-rays of all 2 labels; found 1"):
        area(scores, np.zeros(60, dtype=np.int64))


def test_the_bootstrap_draws_whole_patients() -> None:
    groups = np.repeat(np.array(["a", "b", "c", "d"]), 5)
    weights = Resampled.of(np.tile([0, 1], 10), groups, draws=50).weights.reshape(50, 4, 5)
    assert (weights == weights[:, :, :1]).all()
    assert (weights.sum((1, 2)) == 20).all()


def test_a_difference_counts_only_when_there_is_one() -> None:
    generator = np.random.default_rng(2)
    common = generator.normal(0.8, 0.02, size=(1, 400))
    low, high = paired_difference(common + generator.normal(0, 0.001, (10, 400)) + 0.01, common)
    assert 0 < low < 0.01 < high
    low, high = paired_difference(common + generator.normal(0, 0.02, (10, 400)), common)
    assert low < 0 < high


def test_no_group_gives_more_than_the_cap() -> None:
    groups = np.array(list("aaabbc"))
    taken = within_cap(groups, 2, np.random.default_rng(3))
    names, counts = np.unique(groups[taken], return_counts=True)
    assert dict(zip(names.tolist(), counts.tolist(), strict=True)) == {"a": 2, "b": 2, "c": 1}
    assert len({tuple(within_cap(groups, 1, np.random.default_rng(seed))) for seed in range(20)}) > 2


def test_circumstances_are_what_their_names_say(normal: Encoded) -> None:
    task = normal.archive.tasks[0]

    def changed(change: Change) -> Scene:
        return scene(normal, task, 1, 0, (change,))

    assert changed(rare(0.1)).labels.mean() == pytest.approx(0.1, abs=0.01)
    assert changed(balanced).labels.mean() == 0.5
    assert len(changed(few(300)).rows) == 300
    moved = changed(shifted(2)).hospital("map 2") - scene(normal, task, 1, 0).hospital("map 2")
    np.testing.assert_allclose(np.linalg.norm(moved / normal.view("map 2")[normal.archive.pool].std(0), axis=1), 2)
    sites = changed(uneven)
    assert np.bincount(sites.sites).tolist() == [420, 120, 60]
    assert sites.labels[sites.sites == 1].mean() > 0.8
    assert (sites.dimmed == (sites.sites == 2)).all()


@pytest.mark.parametrize(("wanted", "epsilon"), [(LAPLACE, 1), (CODEBOOK, Fraction(1, 2))], ids=["laplace", "codebook"])
def test_a_cap_on_sites_bears_crafted_records(normal: Encoded, wanted: Wanted, epsilon: int | Fraction) -> None:
    task = normal.archive.tasks[0]
    labels = task.labels[normal.archive.part == "test"]
    found = {}
    for crafting, capped in ((True, False), (True, True), (False, True)):
        arm = ours(wanted, poisoned(wanted.view, crafting, capped))
        scenes = (scene(normal, task, 1, repeat) for repeat in range(6))
        found[crafting, capped] = np.mean([area(arm.score(one, Fraction(epsilon)), labels) for one in scenes])
    assert found[True, True] > found[True, False] + 0.15
    assert found[False, True] > 0.8


def test_a_crafted_laplace_record_lies_as_far_out_as_intake_lets_through(normal: Encoded) -> None:
    release = LAPLACE.spec(Fraction(1), 2)
    vector = crafted(release, np.array([0.0, -1.0]), 1)[0]
    spec = release.laplace  # type: ignore[union-attr]
    furthest = spec.clip.largest_steps + NOISE_LIMIT * (int(spec.scale) + 1)
    assert vector.tolist() == [0.0, pytest.approx(-furthest * float(spec.grid))]
    with pytest.raises(TypeError, match="a poisoned joint release was asked for; found latent"):
        crafted(Wanted("latent", "map 2").spec(Fraction(1), 2), np.ones(2), 1)
    # As a dishonest site would write it, past every type that only a mechanism can make.
    payload = struct.pack("<4sBBI", b"LDPR", 1, 1, 2) + struct.pack("<2q", 0, -furthest)
    assert unpack(payload, release).tolist() == [0, -furthest]  # type: ignore[union-attr]
    with pytest.raises(FormatError, match="further out than this mechanism can ever put it"):
        unpack(payload[:-8] + struct.pack("<q", -furthest - 1), release)


def test_the_posterior_mean_is_bayes_rule() -> None:
    spread, scale = 0.7, 1.3
    z = np.linspace(-6, 6, 200_001)
    for noised in (-3.0, 0.0, 0.4, 5.0):
        weight = np.exp(-((z / spread) ** 2) / 2 - np.abs(noised - z) / scale)
        by_hand = (weight * z).sum() / weight.sum()
        assert posterior_mean(np.array([noised]), scale, spread)[0] == pytest.approx(by_hand, abs=1e-4)


def test_a_level_that_is_released_stands_beside_itself_without_noise_and_without_hospitals(normal: Encoded) -> None:
    table = entries("adult64", normal.archive.tasks[0], 1, Extent(without=("networks", "dp-sgd"), dimension=4))
    found = {(entry.arm.release, entry.arm.glow) for entry in table if entry.arm.glow.startswith("level")}
    assert found == {
        ("joint", "level2 3"),
        ("no noise", "level2 3"),
        ("public only", "level2 3, first component"),
    }
    assert not any(
        entry.arm.glow.startswith("level") for entry in entries("normal", normal.archive.tasks[0], 1, Extent())
    )


def test_local_statistics_see_mirror_images_alike_and_refuse_odd_sides() -> None:
    images = np.random.default_rng(5).integers(0, 256, (3, 8, 8)).astype(np.uint8)
    found = local_statistics(images)
    assert found.shape == (3, 80)
    np.testing.assert_allclose(found[:, :16].mean(1), images.mean((1, 2)) / 255)
    np.testing.assert_allclose(local_statistics(images[:, :, ::-1]), found)
    with pytest.raises(ParameterError, match="sides divisible by 4"):
        local_statistics(images[:, :7])


def test_more_coordinates_come_with_a_head_and_pictures_need_their_encoder(normal: Encoded) -> None:
    extent = Extent(without=("networks", "dp-sgd", "edges"), dimension=16)
    table = entries("any", normal.archive.tasks[0], 1, extent)
    heads = {(entry.arm.release, entry.arm.glow) for entry in table if "head" in entry.arm.release}
    assert heads == {("joint, with a head", "bottleneck 8"), ("joint, with a head", "bottleneck 16")}
    drawn = [entry for entry in table if entry.arm.release == "image"]
    assert [entry.epsilon for entry in drawn] == [1, 2, 4]
    with pytest.raises(ParameterError, match="pictures are made by the encoder itself"):
        drawn[0].arm.score(scene(normal, normal.archive.tasks[0], 1, 0), Fraction(4))
    without = replace(extent, without=(*extent.without, "pictures"))
    assert all(entry.arm.release != "image" for entry in entries("any", normal.archive.tasks[0], 1, without))


def test_a_head_behind_records_reads_all_coordinates(normal: Encoded) -> None:
    task = normal.archive.tasks[0]
    wanted = Wanted("codebook", "bottleneck 3", head=True)
    scores = ours(wanted).score(scene(normal, task, 1, 0), Fraction(4))
    assert area(scores, task.labels[scene(normal, task, 1, 0).part("test")]) > 0.7
    assert (
        ours(Wanted("codebook", "map 2", head=True)).score(scene(normal, task, 1, 0), Fraction(4)).shape == scores.shape
    )


def test_what_has_no_form_without_noise_and_no_such_view_is_said(normal: Encoded) -> None:
    with pytest.raises(ParameterError, match="no form without noise"):
        noise_of(None)
    with pytest.raises(ParameterError, match="there is no view 'levels 2'"):
        first_component("levels 2")(scene(normal, normal.archive.tasks[0], 1, 0), None)
    np.testing.assert_allclose(normal.view("bottleneck 1"), normal.view("map 2")[:, :1])
    with pytest.raises(ParameterError, match="asked for level 2 of a flow that has 1"):
        normal.view("level2 3")
    with pytest.raises(ParameterError, match="asked for 9 coordinates of a bottleneck that has 8"):
        normal.view("bottleneck 9")
