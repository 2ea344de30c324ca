"""What a teacher knows, found again in the flow's output: planted signals, order, scale, refusals."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from ldp_client.errors import ParameterError
from server.learning.distillation import distil

Floats = NDArray[np.float64]


def planted(count: int = 400) -> tuple[Floats, Floats, Floats]:
    """Maps (N, 20) that hold two hidden signals among noise, a teacher's features (N, 6) of them, and the signals."""
    generator = np.random.default_rng(0)
    signals = generator.normal(size=(count, 2)) * [3.0, 1.0]
    maps = signals @ generator.normal(size=(2, 20)) + generator.normal(size=(count, 20))
    features = signals @ np.linalg.qr(generator.normal(size=(6, 2)))[0].T
    return maps, features + 0.05 * generator.normal(size=(count, 6)), signals


def test_coordinates_follow_the_teacher_in_its_order() -> None:
    maps, features, signals = planted()
    coordinates = distil(maps, features, 2)(maps)
    agreement = np.abs(np.corrcoef(np.hstack([coordinates, signals]).T)[:2, 2:])
    assert agreement.diagonal().min() > 0.9
    assert agreement[0, 1] < 0.3


def test_the_first_has_variance_one_and_later_ones_the_root_of_the_teachers_spread() -> None:
    maps, features, _ = planted()
    spread = distil(maps, features, 3)(maps).std(0)
    variances = np.sort(np.linalg.eigvalsh(np.cov(features.T, bias=True)))[::-1]
    assert spread == pytest.approx((variances[:3] / variances[0]) ** 0.25, rel=1e-9)


def test_the_mean_over_the_public_xrays_is_nothing() -> None:
    maps, features, _ = planted()
    assert distil(maps, features, 2)(maps).mean(0) == pytest.approx([0.0, 0.0], abs=1e-9)


def test_it_holds_on_maps_that_were_not_seen() -> None:
    maps, features, signals = planted(800)
    coordinates = distil(maps[:400], features[:400], 1)(maps[400:])
    assert abs(np.corrcoef(coordinates[:, 0], signals[400:, 0])[0, 1]) > 0.9


def test_fewer_coordinates_are_the_first_of_more() -> None:
    maps, features, _ = planted()
    few, more = distil(maps, features, 2), distil(maps, features, 2 + 1)
    # Not the same numbers, since the penalty is chosen for all of them together, but the same axes.
    cosines = np.sum(few.projection * more.projection[:2], axis=1)
    cosines /= np.linalg.norm(few.projection, axis=1) * np.linalg.norm(more.projection[:2], axis=1)
    assert np.abs(cosines).min() > 0.95


def test_a_map_cell_that_never_changes_has_no_weight() -> None:
    maps, features, _ = planted()
    maps[:, 7] = -10.0
    assert distil(maps, features, 2).projection[:, 7] == pytest.approx([0.0, 0.0])


def test_units_and_offsets_of_the_maps_do_not_matter() -> None:
    maps, features, _ = planted()
    scale, shift = np.geomspace(0.01, 100, 20), np.linspace(-5, 5, 20)
    first = distil(maps, features, 2)(maps)
    other = distil(maps * scale + shift, features, 2)(maps * scale + shift)
    # The sign is that of the largest weight, which other units can turn.
    assert np.abs(other) == pytest.approx(np.abs(first), abs=1e-6)


def test_more_coordinates_than_features_or_other_xrays_are_refused() -> None:
    maps, features, _ = planted()
    with pytest.raises(ParameterError, match="asked for 7 coordinates of 6 features of 400 X-rays with 400 maps"):
        distil(maps, features, 7)
    with pytest.raises(ParameterError, match="with 399 maps; give both for the same X-rays"):
        distil(maps[1:], features, 2)


def test_features_that_vary_in_fewer_directions_are_refused() -> None:
    maps, features, _ = planted()
    features[:, 3:] = features[:, :3]
    with pytest.raises(ParameterError, match="vary in fewer; train it longer"):
        distil(maps, features, 5)
