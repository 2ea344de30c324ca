"""Theorems 1 and 2, by enumeration: no output tells two pairs of X-ray and label apart by more than e^epsilon."""

from __future__ import annotations

import itertools
import math
from fractions import Fraction

import numpy as np
import pytest
from goodness_of_fit import SAMPLES, rejects
from numpy.typing import NDArray

from ldp_client.privacy.clipping import clip, to_grid
from ldp_client.privacy.labels import joint_vector
from ldp_client.privacy.laplace import DiscreteLaplace
from ldp_client.privacy.noise import SystemSource
from ldp_client.privacy.release_design import joint_laplace
from ldp_client.privacy.release_spec import JointLaplaceSpec

# What an encoder may return for one coordinate, its faults included.
VALUES = [0.0, 0.3, -0.3, 0.5, 1.0, -1.0, 40.0, -1e30, math.nan, math.inf]


def every_input(spec: JointLaplaceSpec) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Each pair of an encoder output over VALUES and a label."""
    outputs = np.array(list(itertools.product(VALUES, repeat=spec.bottleneck_dimension)))
    labels = np.repeat(np.arange(spec.classes), len(outputs))
    return np.tile(outputs, (spec.classes, 1)), labels


def clipped_inputs(spec: JointLaplaceSpec) -> NDArray[np.int64]:
    outputs, labels = every_input(spec)
    steps = to_grid(joint_vector(outputs, labels, spec.classes), spec.laplace.grid)
    return np.unique(clip(steps, spec.laplace.clip).steps, axis=0)


def log_pmf(y: NDArray[np.int64], scale: float) -> NDArray[np.float64]:
    """log of (1-q)/(1+q) q^|y|, normalised here by summation and not by the formula under test."""
    far = np.arange(-2000, 2001)
    total = math.log(float(np.sum(np.exp(-np.abs(far) / scale))))
    return -np.abs(y) / scale - total


def largest_log_ratio(centres: NDArray[np.int64], scale: float, window: int) -> float:
    """max over outputs and pairs of inputs of log P(out | x) / P(out | x'), every output of the window enumerated."""
    dimension = centres.shape[1]
    outputs = np.array(list(itertools.product(range(-window, window + 1), repeat=dimension)), dtype=np.int64)
    logs = np.stack([log_pmf(outputs - centre, scale).sum(axis=1) for centre in centres])  # (inputs, outputs)
    return float((logs.max(axis=0) - logs.min(axis=0)).max())


RELEASES = [
    joint_laplace(epsilon="1/2", classes=2, bottleneck_dimension=2, radius=1, grid="1/4"),
    joint_laplace(epsilon=2, classes=2, bottleneck_dimension=2, radius=1, grid="1/8"),
    joint_laplace(epsilon=8, classes=2, bottleneck_dimension=1, radius=1, grid="1/3"),
    joint_laplace(epsilon=1, classes=3, bottleneck_dimension=1, radius=1, grid="1/4"),
    joint_laplace(epsilon="10/3", classes=4, bottleneck_dimension=1, radius="1/2", grid="1/5"),
]


@pytest.mark.parametrize("spec", RELEASES, ids=lambda spec: f"eps {spec.loss}, {spec.classes} classes")
def test_no_output_tells_any_two_pairs_apart_by_more_than_epsilon(spec: JointLaplaceSpec) -> None:
    centres = clipped_inputs(spec)
    worst = largest_log_ratio(centres, float(spec.laplace.scale), window=spec.laplace.clip.radius_steps + 2)
    assert worst <= float(spec.loss) + 1e-9
    if spec.classes == 2:
        # And no smaller epsilon would be true: two opposite corners of the ball are reached.
        assert worst == pytest.approx(float(spec.loss), abs=2e-6)


@pytest.mark.parametrize("spec", RELEASES[:2], ids=lambda spec: f"eps {spec.loss}")
def test_a_twin_that_takes_r_instead_of_2r_is_flagged(spec: JointLaplaceSpec) -> None:
    worst = largest_log_ratio(clipped_inputs(spec), float(spec.laplace.scale) / 2, spec.laplace.clip.radius_steps + 2)
    assert worst > 1.9 * float(spec.loss)


def test_a_twin_that_releases_the_label_beside_the_vector_is_flagged() -> None:
    """Clip z, noise z, then multiply by the label's sign: the noise does not cover the label's own coordinate."""
    spec = RELEASES[1]
    outputs, _ = every_input(spec)
    z = np.unique(clip(to_grid(outputs, spec.laplace.grid), spec.laplace.clip).steps, axis=0)
    with_label = np.concatenate([np.column_stack([z, np.full(len(z), sign * 9)]) for sign in (-1, 1)])
    assert largest_log_ratio(with_label, float(spec.laplace.scale), 9) > float(spec.loss) + 1


def test_replacing_only_the_label_moves_within_the_same_ball() -> None:
    spec = RELEASES[3]
    for label in range(3):
        steps = to_grid(joint_vector(np.array([[5.0]]), np.array([label]), 3), spec.laplace.grid)
        assert int(np.abs(clip(steps, spec.laplace.clip).steps).sum()) <= spec.laplace.clip.radius_steps


def test_the_drawn_records_have_the_enumerated_probabilities() -> None:
    """Theorem and sampler meet: counts of whole two-dimensional records against the pmf of the proof."""
    spec = joint_laplace(epsilon=4, classes=2, bottleneck_dimension=2, radius=1, grid="1/2")
    centre = clip(to_grid(np.array([[0.6, -0.4]]), spec.laplace.grid), spec.laplace.clip)
    steps = DiscreteLaplace(spec.laplace)(
        clip(np.tile(centre.steps, (SAMPLES, 1)), spec.laplace.clip), SystemSource()
    ).steps
    inside = np.all(np.abs(steps) <= 2, axis=1)
    cells = np.bincount((steps[inside] + 2) @ np.array([5, 1]), minlength=25).astype(np.float64)
    window = np.array(list(itertools.product(range(-2, 3), repeat=2)))
    scale = float(spec.laplace.scale)
    expected = np.exp(log_pmf(window - centre.steps[0], scale).sum(axis=1)) * SAMPLES
    rest = [SAMPLES - cells.sum()], [SAMPLES - expected.sum()]
    assert not rejects(np.concatenate((cells, rest[0])), np.concatenate((expected, rest[1])))
    wrong = np.exp(log_pmf(window - centre.steps[0], scale * 1.3).sum(axis=1)) * SAMPLES
    assert rejects(np.concatenate((cells, rest[0])), np.concatenate((wrong, [SAMPLES - wrong.sum()])))


def test_composition_adds_up_and_never_more() -> None:
    """Theorem 3 by enumeration: two releases of one unit, both outputs seen together."""
    spec = joint_laplace(epsilon=1, classes=2, bottleneck_dimension=1, radius=1, grid="1/2")
    centres = clipped_inputs(spec)
    twice = np.array([[first, second] for first in centres[:, 0] for second in centres[:, 0]])
    worst = largest_log_ratio(twice, float(spec.laplace.scale), spec.laplace.clip.radius_steps + 1)
    assert worst == pytest.approx(2 * float(spec.loss))
    assert Fraction(spec.loss.micro_epsilon * 2, 10**6) == 2
