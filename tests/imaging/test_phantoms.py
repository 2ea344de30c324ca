"""The generator of synthetic chest phantoms."""

from __future__ import annotations

import numpy as np
import pytest

from ldp_client.errors import ParameterError
from ldp_client.imaging.phantoms import phantoms

# PneumoniaMNIST, train part: mean grey and mean standard deviation inside an image, normal and pneumonia.
REAL_MEAN = (139.9, 147.9)
REAL_SPREAD = (44.0, 34.4)


def test_the_same_seed_gives_the_same_phantoms() -> None:
    first, second, other = (phantoms(4, 28, seed) for seed in (1, 1, 2))
    assert np.array_equal(first[0], second[0])
    assert np.array_equal(first[1], second[1])
    assert not np.array_equal(first[0], other[0])


@pytest.mark.parametrize("size", [28, 64, 100])
def test_shape_type_and_share_are_as_asked(size: int) -> None:
    images, labels = phantoms(5, size, 0, pneumonia_share=0.6)
    assert (images.shape, images.dtype) == ((5, size, size), np.uint8)
    assert (int(labels.sum()), labels.dtype) == (3, np.uint8)


def test_grey_statistics_lie_near_real_ones() -> None:
    images, labels = phantoms(400, 28, 3)
    for label in (0, 1):
        chosen = images[labels == label].astype(float)
        assert abs(chosen.mean() - REAL_MEAN[label]) < 6
        assert abs(chosen.std(axis=(1, 2)).mean() - REAL_SPREAD[label]) < 6


def test_pneumonia_shows_in_the_lungs_but_not_in_every_phantom() -> None:
    images, labels = phantoms(400, 28, 4)
    contrast = images.std(axis=(1, 2))
    ill, well = contrast[labels == 1], contrast[labels == 0]
    area = float((ill[:, None] < well[None, :]).mean())  # AUC of the plainest score there is
    assert 0.7 < area < 0.95


@pytest.mark.parametrize(("count", "size", "share"), [(0, 28, 0.5), (1, 27, 0.5), (1, 257, 0.5), (1, 28, 1.1)])
def test_impossible_phantoms_are_refused(count: int, size: int, share: float) -> None:
    with pytest.raises(ParameterError, match="give at least 1, 28 to 256 px and a share in 0 to 1"):
        phantoms(count, size, 0, pneumonia_share=share)
