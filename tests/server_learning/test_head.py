"""The head: it weighs coordinates as public X-rays and the records' own noise ask for, and refuses what it cannot."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn.metrics import roc_auc_score

from ldp_client.errors import ParameterError, WaitingError
from ldp_client.privacy.release_design import joint_codebook, joint_laplace, latent
from ldp_client.privacy.release_spec import ReleaseSpec
from server.benchmarks.released import Asking, released
from server.learning.head import fit_head, jackknife, weigh
from server.learning.train import Sums, TrainingSet, clipped, direction, train

Floats = NDArray[np.float64]
DIMENSION = 8
SPREAD = np.array([1.0, 0.8, 0.5, 0.3, 0.2, 0.15, 0.1, 0.1])
"""Chests differ much in the first coordinates and little in the last, and findings with them."""


def chests(count: int, seed: int, direction: int = 0) -> tuple[Floats, NDArray[np.int64]]:
    generator = np.random.default_rng(seed)
    z = generator.normal(size=(count, DIMENSION)) * SPREAD
    return z, (z[:, direction] > 0).astype(np.int64)


def records(spec: ReleaseSpec, count: int, seed: int = 1) -> TrainingSet:
    z, labels = chests(count, seed)
    names = tuple("abc"[: spec.classes])
    return released(Asking("e" * 64, names, "image", 1), spec, z[:, : spec.input_dimension], labels)


SPECS = {
    "simplex": joint_codebook(epsilon=1, classes=2, bottleneck_dimension=DIMENSION, codewords=64),
    "constant": joint_codebook(epsilon=1, classes=2, bottleneck_dimension=4, codewords=64, constant="1/2"),
    "one_hot": joint_codebook(
        epsilon=2, classes=2, bottleneck_dimension=4, codewords=64, label_code="one_hot", constant="7/10"
    ),
    "laplace": joint_laplace(epsilon=2, classes=2, bottleneck_dimension=4, radius="1"),
    "latent": latent(epsilon=4, label_epsilon=Fraction(2), classes=2, bottleneck_dimension=4, radius="1"),
}


@pytest.mark.parametrize("spec", SPECS.values(), ids=SPECS)
def test_noise_far_out_is_weighed_down(spec: ReleaseSpec) -> None:
    found = records(spec, 400)
    head = fit_head(found, chests(1500, 2)[0])
    k = spec.input_dimension
    assert head.shape == (DIMENSION, k)
    weights = np.abs(np.diag(head[:k, :k]))
    assert weights[0] > 1.5 * weights[-1]


def test_more_records_are_weighed_more_evenly() -> None:
    public = chests(1500, 2)[0]
    few, many = (np.abs(np.diag(fit_head(records(SPECS["simplex"], count), public))) for count in (150, 20_000))
    assert few[0] / few[-1] > 2 * many[0] / many[-1]


def test_the_classifier_is_better_for_it_where_records_are_few() -> None:
    spec = joint_codebook(epsilon=Fraction(1, 2), classes=2, bottleneck_dimension=DIMENSION, codewords=64)
    public, (clean, truth) = chests(1500, 2)[0], chests(2000, 3)
    better = 0
    for seed in range(24):
        found = records(spec, 300, seed=10 + seed)
        alone = train(found)
        before, after = (
            roc_auc_score(truth, one.classifier.scores(clean)[:, 1]) for one in (alone, weigh(found, alone, public))
        )
        better += after > before
    assert better >= 15  # nine in ten are, so fewer than this are one chance in ten thousand


def test_the_same_records_and_x_rays_give_the_same_head() -> None:
    found, public = records(SPECS["simplex"], 300), chests(500, 2)[0]
    assert np.array_equal(fit_head(found, public), fit_head(found, public))


def test_what_was_not_released_is_told_by_what_goes_with_it() -> None:
    spec = joint_codebook(epsilon=4, classes=2, bottleneck_dimension=2, codewords=64)
    public = chests(1500, 2)[0]
    public[:, 2] = 0.5 * public[:, 0]  # the third coordinate says the same as the first
    found = records(spec, 2000)
    matrix = np.array(weigh(found, train(found), public).classifier.mean, dtype=float)
    assert matrix.shape == (1, DIMENSION)
    assert abs(matrix[0, 2]) > 5 * np.abs(matrix[0, 3:]).max()


def test_three_labels() -> None:
    spec = joint_codebook(epsilon=4, classes=3, bottleneck_dimension=3, codewords=64)
    z, _ = chests(900, 1)
    labels = np.digitize(z[:, 0], [-0.4, 0.4])
    found = released(Asking("e" * 64, ("a", "b", "c"), "image", 1), spec, z[:, :3], labels)
    weighed = weigh(found, train(found), chests(900, 2)[0])
    assert np.array(weighed.classifier.mean).shape == (2, DIMENSION)
    clean, _ = chests(900, 3)
    scores = weighed.classifier.scores(clean)
    ends = np.abs(clean[:, 0]) > 0.4
    assert roc_auc_score(clean[ends, 0] > 0.4, (scores[:, 2] - scores[:, 0])[ends]) > 0.9


def test_the_jackknife_finds_the_covariance_of_a_mean() -> None:
    found = records(SPECS["simplex"], 2000)
    expected = np.cov(found.vectors, rowvar=False) / len(found.vectors)
    assert np.trace(jackknife(found)) == pytest.approx(np.trace(expected), rel=0.25)


def test_the_jackknife_sees_noise_in_every_direction_of_many_numbers() -> None:
    spec = joint_codebook(epsilon=4, classes=3, bottleneck_dimension=60, codewords=64)
    generator = np.random.default_rng(2)
    asking = Asking("e" * 64, ("a", "b", "c"), "image", 1)
    found = released(asking, spec, generator.normal(size=(600, 60)), generator.integers(3, size=600))
    assert np.linalg.matrix_rank(jackknife(found)) == 120


@pytest.mark.parametrize("name", ["constant", "one_hot", "latent"])
def test_the_jackknife_covers_how_far_repeated_records_scatter(name: str) -> None:
    repeated = [records(SPECS[name], 800, seed=seed) for seed in range(60)]
    scatter = np.stack([direction(Sums.of(one)).ravel() for one in repeated]).var(0).sum()
    found = np.median([np.trace(jackknife(one)) for one in repeated[:15]])  # one alone may be twice as much
    assert found == pytest.approx(scatter, rel=0.5)


@pytest.mark.parametrize("spec", SPECS.values(), ids=SPECS)
def test_clipped_is_what_records_decode_to_on_average(spec: ReleaseSpec) -> None:
    z = np.tile(chests(1, 4)[0], (6000, 1))[:, : spec.input_dimension]
    asking = Asking("e" * 64, ("a", "b"), "image", 1)
    decoded = released(asking, spec, z, np.ones(len(z), dtype=np.int64)).vectors
    expected = clipped(spec, z[:1], 1)[0]
    error = decoded.std(0) / np.sqrt(len(decoded))
    assert (np.abs(decoded.mean(0) - expected) < 5 * error + 1e-6).all()


def test_few_records_and_unfit_public_x_rays_are_refused() -> None:
    found = records(SPECS["simplex"], 30)
    with pytest.raises(WaitingError, match="found 15 records; a head of 2 labels and 8 coordinates needs 16"):
        fit_head(TrainingSet(found.campaign, found.vectors[:15]), chests(100, 2)[0])
    assert fit_head(TrainingSet(found.campaign, found.vectors[:16]), chests(100, 2)[0]).shape == (8, 8)
    for public in (chests(19, 2)[0], chests(100, 2)[0][:, :7], np.zeros(100)):
        with pytest.raises(ParameterError, match="asked for a head of 2 labels and 8 coordinates"):
            weigh(found, train(found), public)
    damaged = chests(100, 2)[0]
    damaged[3, 5] = np.nan
    for public in (np.ones((100, 8)), np.zeros((100, 8)), damaged):
        with pytest.raises(
            ParameterError, match="public X-rays are all alike to the encoder, or their coordinates are no"
        ):
            weigh(found, train(found), public)


def test_a_finding_that_shows_late_is_harder_to_find_with_a_head() -> None:
    """What a head supposes can be wrong, and the documents say so."""
    spec = joint_codebook(epsilon=1, classes=2, bottleneck_dimension=DIMENSION, codewords=64)
    public, clean = chests(1500, 2)[0], chests(2000, 3)[0]
    truth = (clean[:, 4] > 0).astype(np.int64)
    better = 0
    for seed in range(12):
        z, _ = chests(2000, 20 + seed)
        found = released(Asking("e" * 64, ("a", "b"), "image", 1), spec, z, (z[:, 4] > 0).astype(np.int64))
        alone = train(found)
        before, after = (
            roc_auc_score(truth, one.classifier.scores(clean)[:, 1]) for one in (alone, weigh(found, alone, public))
        )
        better += after > before
    assert better <= 3
