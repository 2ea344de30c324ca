"""What is learnt from each kind of record: class shares and means, and a direction that the shares do not turn."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from ldp_client.errors import FormatError
from ldp_client.privacy.drawing import draw, prepare
from ldp_client.privacy.noise import SystemSource
from ldp_client.privacy.release_spec import joint_codebook, joint_laplace, latent
from ldp_client.wire.campaign import Campaign
from ldp_client.wire.record import pack
from server.learning.train import TrainingSet, class_moments, train

COUNT = 30_000
SHARES = (0.6, 0.3, 0.1)
MEANS = np.array([[0.0, -0.4], [0.5, 0.4], [-0.6, 0.5]])
KINDS: dict[str, Any] = {
    "one_hot": joint_laplace(
        epsilon=8, classes=3, bottleneck_dimension=2, radius=3, label_code="one_hot", constant="1/2"
    ),
    "latent": latent(epsilon=8, label_epsilon=4, classes=3, bottleneck_dimension=2, radius=3),
}


def campaign(release: Any, names: tuple[str, ...] = ("normal", "bacterial", "viral")) -> Campaign:
    return Campaign(
        name="findings",
        purpose="tell findings apart",
        encoder="e" * 64,
        release=release,
        label_names=names,
        unit="image",
        cap=1,
        micro_epsilon_per_record=release.loss.micro_epsilon,
        ends="2030-12-31",
    )


def drawn(release: Any, outputs: NDArray[np.float64], labels: NDArray[np.int64]) -> TrainingSet:
    source = SystemSource()
    seeds = [source(32) for _ in labels]
    names = ("normal", "bacterial", "viral")[: release.classes]
    return TrainingSet.from_payloads(
        campaign(release, names), pack(draw(release, prepare(release, outputs, labels), seeds, source))
    )


@pytest.mark.parametrize("kind", KINDS)
def test_shares_and_means_of_three_classes_are_recovered(kind: str) -> None:
    rng = np.random.default_rng(0)
    labels = rng.choice(3, size=COUNT, p=SHARES)
    outputs = MEANS[labels] + rng.normal(scale=0.2, size=(COUNT, 2))
    moments = class_moments(drawn(KINDS[kind], outputs, labels))
    assert moments is not None
    # Bounds: five standard errors of the noise over 30,000 records, the rare class's mean divided by its share.
    assert moments.shares == pytest.approx(SHARES, abs=0.05)
    assert moments.means[:2] == pytest.approx(MEANS[:2], abs=0.25)
    assert np.argmax(moments.means[2] @ MEANS.T) == 2
    # A twin with the classes in another order is not within them.
    assert moments.shares != pytest.approx(SHARES[::-1], abs=0.05)


@pytest.mark.parametrize("code", ["simplex", "one_hot"])
def test_a_codebook_with_a_constant_tells_the_share_and_the_direction(code: Any) -> None:
    release = joint_codebook(
        epsilon=4, classes=2, bottleneck_dimension=2, label_code=code, constant="1/2", codewords=64
    )
    rng = np.random.default_rng(1)
    labels = (rng.random(8_000) < 0.8).astype(np.int64)
    outputs = rng.normal(size=(8_000, 2)) + np.array([[-1.2, 0.0], [0.3, 0.0]])[labels]
    trained = train(drawn(release, outputs, labels))
    assert trained.moments is not None
    assert trained.moments.shares == pytest.approx([0.2, 0.8], abs=0.08)
    direction = np.array([float(value) for value in trained.classifier.mean[0]])
    assert direction[0] / np.linalg.norm(direction) > 0.9


def test_shares_do_not_turn_the_direction_of_one_hot_as_they_turn_that_of_simplex() -> None:
    """Hospitals shifted from the public mean, one class rare: the second axis says nothing of the class."""
    rng = np.random.default_rng(2)
    labels = (rng.random(20_000) < 0.1).astype(np.int64)
    outputs = np.array([[-0.3, 0.5], [0.3, 0.5]])[labels] + rng.normal(scale=0.05, size=(20_000, 2))
    turned = {}
    for code, constant in (("simplex", None), ("one_hot", "1/2")):
        release = joint_laplace(
            epsilon=8,
            classes=2,
            bottleneck_dimension=2,
            radius=2,
            label_code=code,
            constant=constant,  # type: ignore[arg-type]
        )
        (row,) = train(drawn(release, outputs, labels)).classifier.mean
        first, second = (float(value) for value in row)
        turned[code] = abs(second) / abs(first)
    assert turned["one_hot"] < 0.35 < 1 < turned["simplex"]


def test_a_simplex_release_without_a_constant_tells_no_shares() -> None:
    release = joint_codebook(epsilon=4, classes=2, bottleneck_dimension=2, codewords=16)
    trained = train(drawn(release, np.ones((20, 2)), np.arange(20) % 2))
    assert trained.moments is None
    assert trained.noise_error > 0


@pytest.mark.parametrize("kind", KINDS)
def test_a_share_that_the_noise_made_negative_is_brought_back(kind: str) -> None:
    rng = np.random.default_rng(3)
    moments = class_moments(drawn(KINDS[kind], rng.normal(size=(50, 2)), np.zeros(50, dtype=np.int64)))
    assert moments is not None
    assert moments.shares.min() > 0
    assert moments.shares.sum() == pytest.approx(1)


def test_an_altered_index_is_not_learnt_from() -> None:
    release = joint_codebook(epsilon=4, classes=2, bottleneck_dimension=2, codewords=16)
    (record,) = pack(
        draw(release, prepare(release, np.ones((1, 2)), np.zeros(1, np.int64)), [bytes(32)], SystemSource())
    )
    altered = record[:10] + (16).to_bytes(4, "little") + record[14:]
    with pytest.raises(FormatError, match="a codebook of 16 codewords has no codeword 16"):
        TrainingSet.from_payloads(campaign(release, ("normal", "pneumonia")), [altered])
