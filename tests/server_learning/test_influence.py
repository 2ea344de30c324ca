"""A cap on each site's mean: who is pulled back, how far, and how often an honest site is taken for another."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from ldp_client.errors import ParameterError
from ldp_client.privacy.release_design import joint_codebook
from server.benchmarks.released import Asking
from server.learning.influence import CAP, bar, cap_influence, geometric_median
from server.learning.train import TrainingSet

Floats = NDArray[np.float64]
SIZES = (100,) * 10


def held(vectors: Floats) -> TrainingSet:
    release = joint_codebook(
        epsilon=2, classes=2, bottleneck_dimension=vectors.shape[1], codewords=64, label_code="simplex"
    )
    return TrainingSet(Asking("e" * 64, ("normal", "pneumonia"), "image", 1).campaign(release), vectors)


def sites_of(sizes: tuple[int, ...]) -> NDArray[np.str_]:
    return np.repeat([f"site-{site}" for site in range(len(sizes))], sizes)


def honest(dimension: int, generator: np.random.Generator, sizes: tuple[int, ...] = SIZES) -> Floats:
    return generator.normal(size=(sum(sizes), dimension))


@pytest.mark.parametrize("dimension", [1, 2, 4, 8])
@pytest.mark.parametrize("sizes", [SIZES, (300, 50, 50, 20), (100, 100, 100)], ids=["ten", "uneven", "three"])
def test_honest_sites_are_rarely_taken_for_others(dimension: int, sizes: tuple[int, ...]) -> None:
    generator = np.random.default_rng(1)
    named = [
        (cap_influence(held(honest(dimension, generator, sizes)), sites_of(sizes)).factors < 1).any()
        for _ in range(300)
    ]
    assert np.mean(named) < 0.06  # with a bar of CAP in every dimension .33 of ten sites in one


def test_the_bar_falls_with_the_dimension_and_rises_with_the_sites() -> None:
    assert [round(bar(dimension, 10), 2) for dimension in (1, 2, 4, 8)] == [3.29, 2.63, 2.15, CAP]
    assert bar(1, 3) < bar(1, 10) < bar(1, 100)


def test_a_site_far_out_is_pulled_back_to_the_bar_and_no_record_is_lost() -> None:
    generator = np.random.default_rng(2)
    vectors = honest(3, generator)
    vectors[-100:, 0] += 4
    capped = cap_influence(held(vectors), sites_of(SIZES))
    assert capped.sites[-1] == "site-9"
    assert capped.factors[-1] < 0.2
    assert (capped.factors[:-1] == 1).all()
    moved = capped.training_set.vectors
    assert (moved[:-100] == vectors[:-100]).all()
    # All records of the site by the same vector, so that only its mean is another.
    assert np.ptp(moved[-100:] - vectors[-100:], axis=0) == pytest.approx(np.zeros(3), abs=1e-12)
    assert np.linalg.norm(moved[-100:].mean(0)) == pytest.approx(bar(3, 10) * (3 / 100) ** 0.5, abs=0.1)
    tighter = cap_influence(held(vectors), sites_of(SIZES), cap=1.0).training_set.vectors
    assert np.linalg.norm(tighter[-100:].mean(0)) < np.linalg.norm(moved[-100:].mean(0))


def test_sites_that_all_differ_are_left_as_they_are() -> None:
    generator = np.random.default_rng(3)
    vectors = honest(3, generator) + np.repeat(generator.normal(size=(10, 3)), 100, axis=0)
    assert cap_influence(held(vectors), sites_of(SIZES)).factors.min() > 0.7


def test_the_geometric_median_stays_where_most_sites_are() -> None:
    points = np.vstack([np.zeros((9, 2)), [[1000.0, 0.0]]])
    assert geometric_median(points, np.ones(10)) == pytest.approx(np.zeros(2), abs=1e-2)
    assert geometric_median(np.ones((3, 2)), np.ones(3)) == pytest.approx(np.ones(2))


def test_what_nobody_can_decide_is_refused() -> None:
    records = held(honest(2, np.random.default_rng(0), (5, 5)))
    with pytest.raises(ParameterError, match=r"found records of 2 sites; .* needs at least 3"):
        cap_influence(records, sites_of((5, 5)))
    with pytest.raises(ParameterError, match="one site for each of 10 records and a positive cap; found 9"):
        cap_influence(records, sites_of((3, 3, 3)))
    with pytest.raises(ParameterError, match="a positive cap; found 10 and 0"):
        cap_influence(records, sites_of((4, 3, 3)), cap=0.0)
