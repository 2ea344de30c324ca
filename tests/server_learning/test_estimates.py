"""What the centre learns from every kind of record, on data whose truth is known.

Each check holds a right estimator within six standard errors in every coordinate (2e-9 a coordinate, under 1e-7 for the
file), and a twin beside it must fail.
"""

from __future__ import annotations

import hashlib
from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray

from ldp_client.errors import ParameterError
from ldp_client.privacy.drawing import draw, prepare
from ldp_client.privacy.labels import label_codes
from ldp_client.privacy.noise import SystemSource
from ldp_client.privacy.release_design import dp_glow, joint_codebook, joint_laplace, latent
from ldp_client.privacy.release_spec import ReleaseSpec
from ldp_client.wire.campaign import Campaign
from ldp_client.wire.record import pack
from server.learning.train import Sums, Trained, TrainingSet, class_moments, train

COUNT = 6_000
SHARE = 0.3  # of label 1
RELEASES: dict[str, ReleaseSpec] = {
    "codebook": joint_codebook(epsilon=6, classes=2, bottleneck_dimension=2, codewords=64),
    "codebook simplex constant": joint_codebook(
        epsilon=6, classes=2, bottleneck_dimension=2, codewords=64, constant="1/2"
    ),
    "codebook one_hot": joint_codebook(
        epsilon=6, classes=2, bottleneck_dimension=2, codewords=64, label_code="one_hot", constant="1/2"
    ),
    "laplace one_hot": joint_laplace(
        epsilon=6, classes=2, bottleneck_dimension=2, radius=2, label_code="one_hot", constant="1/2"
    ),
    "latent": latent(epsilon=6, label_epsilon=2, classes=2, bottleneck_dimension=2, radius=2),
    "dp_glow": dp_glow(epsilon=8, label_epsilon=2, classes=2, latents=2, bound=2),
}
WITH_SHARES = [name for name in RELEASES if name != "codebook"]
# Unit vectors, so that no clip moves them: what is released is what they are.
MEANS = np.array([[-0.6, 0.8], [0.6, -0.8]])


def campaign(release: ReleaseSpec) -> Campaign:
    return Campaign(
        name="tried",
        purpose="test",
        encoder="e" * 64,
        release=release,
        label_names=("normal", "pneumonia"),
        unit="image",
        cap=1,
        micro_epsilon_per_record=release.loss.micro_epsilon,
        ends="2030-12-31",
    )


def hospital() -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    labels = (np.arange(COUNT) < SHARE * COUNT).astype(np.int64)
    return MEANS[labels], labels


def records(release: ReleaseSpec) -> list[bytes]:
    outputs, labels = hospital()
    seeds = [hashlib.sha256(b"learn %d" % row).digest() for row in range(COUNT)]
    return pack(draw(release, prepare(release, outputs, labels), seeds, SystemSource()))


def learnt(name: str) -> TrainingSet:
    return TrainingSet.from_payloads(campaign(RELEASES[name]), records(RELEASES[name]))


def truth(release: ReleaseSpec) -> NDArray[np.float64]:
    """The mean of a_y (x) f, written out."""
    outputs, labels = hospital()
    if release.kind in ("latent", "dp_glow"):
        codes, features = np.eye(2), np.hstack([np.ones((COUNT, 1)), outputs])
    else:
        assert release.kind in ("joint_codebook", "joint_discrete_laplace")
        codes, features = label_codes(release.label_code, 2), outputs
        if release.constant is not None:
            constant = float(release.constant)
            scale = np.sqrt(1 - constant**2) if release.kind == "joint_codebook" else 1.0
            features = np.hstack([np.full((COUNT, 1), constant), scale * outputs])
    mean: NDArray[np.float64] = np.mean(codes[labels][:, :, None] * features[:, None, :], axis=0).ravel()
    return mean


def off(found: TrainingSet, wanted: NDArray[np.float64]) -> bool:
    """Whether some coordinate of the records' mean is more than six standard errors from this."""
    error = found.vectors.std(axis=0) / np.sqrt(COUNT)
    return bool(np.any(np.abs(found.vectors.mean(axis=0) - wanted) > 6 * error + 1e-3))


@pytest.mark.parametrize("name", RELEASES)
def test_the_mean_of_the_records_is_that_of_code_and_features(name: str) -> None:
    found, wanted = learnt(name), truth(RELEASES[name])
    assert not off(found, wanted)
    assert off(TrainingSet(found.campaign, -found.vectors), wanted)
    assert off(TrainingSet(found.campaign, 0.7 * found.vectors), wanted)


@pytest.mark.parametrize("name", RELEASES)
def test_records_that_come_later_are_added_to_the_sums_of_those_before(name: str) -> None:
    whole = learnt(name)
    at_once = train(whole)
    parts = [replace(whole, vectors=whole.vectors[place]) for place in np.split(np.arange(COUNT), [1, 700, 4000])]
    first, *later = map(Sums.of, parts)
    added = train(sum(later, first))
    swapped = train(later[0] + first + later[2] + later[1])
    for one in (added, swapped):
        assert one.classifier.records == COUNT
        assert matrix(one) == pytest.approx(matrix(at_once), rel=1e-9, abs=1e-12)
        assert one.noise_error == pytest.approx(at_once.noise_error, rel=1e-9)
        assert (one.moments is None) == (at_once.moments is None)
        if one.moments is not None and at_once.moments is not None:
            for found, wanted in zip(vars(one.moments).values(), vars(at_once.moments).values(), strict=True):
                assert found == pytest.approx(wanted, rel=1e-9, abs=1e-12)
    assert matrix(train(first + later[0])) != pytest.approx(matrix(at_once), rel=1e-6)


def test_sums_of_two_campaigns_do_not_add_up() -> None:
    one, other = (Sums.of(learnt(name)) for name in ("codebook", "codebook one_hot"))
    with pytest.raises(ParameterError, match="only records of one campaign add up; found tried and tried, or two"):
        one + other


def matrix(trained: Trained) -> NDArray[np.float64]:
    return np.array(trained.classifier.mean, dtype=np.float64)


@pytest.mark.parametrize("name", WITH_SHARES)
def test_shares_and_class_means_come_back_and_those_of_turned_labels_do_not(name: str) -> None:
    moments = class_moments(learnt(name))
    assert moments is not None
    assert moments.shares == pytest.approx([1 - SHARE, SHARE], abs=0.1)
    assert moments.shares != pytest.approx([SHARE, 1 - SHARE], abs=0.1)
    # With the simplex code, features are taken to have mean 0 in public units, which these do not quite.
    if "simplex" not in name:
        assert np.abs(moments.means - MEANS).max() < 0.5
        assert np.abs(moments.means + MEANS).max() > 0.5


@pytest.mark.parametrize("name", RELEASES)
def test_the_class_direction_comes_back(name: str) -> None:
    (direction,) = np.array([[float(v) for v in row] for row in train(learnt(name)).classifier.mean])
    cosine = direction @ (MEANS[1] - MEANS[0]) / np.linalg.norm(direction) / np.linalg.norm(MEANS[1] - MEANS[0])
    assert cosine > 0.9


def test_a_release_without_a_constant_tells_no_shares() -> None:
    assert class_moments(learnt("codebook")) is None


@pytest.mark.parametrize("name", RELEASES)
def test_noise_error_is_about_what_the_records_spread(name: str) -> None:
    found = learnt(name)
    spread = float(np.sqrt(np.mean(found.vectors.var(axis=0)) / COUNT))
    assert train(found).noise_error == pytest.approx(spread, rel=0.5)


@pytest.mark.parametrize("coordinate", [0, 1])
def test_shares_stay_shares_when_noise_puts_one_below_nothing(coordinate: int) -> None:
    release = RELEASES["laplace one_hot"]
    vectors = np.zeros((4, 2, 3))
    vectors[:, coordinate, 0] = -0.5
    vectors[:, 1 - coordinate, 0] = 1.0
    moments = class_moments(TrainingSet(campaign(release), vectors.reshape(4, 6)))
    assert moments is not None
    assert moments.shares.sum() == pytest.approx(1)
    assert moments.shares.min() > 0
