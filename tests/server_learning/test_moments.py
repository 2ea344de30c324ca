"""What is learnt from each kind of record: class shares and means, and a direction that the shares do not turn."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from ldp_client.privacy.drawing import draw, prepare
from ldp_client.privacy.noise import SystemSource
from ldp_client.privacy.release_design import joint_codebook, joint_laplace
from ldp_client.wire.campaign import Campaign
from ldp_client.wire.record import pack
from server.learning.train import TrainingSet, train


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


def test_a_constant_that_is_no_whole_number_of_steps_gives_the_right_shares() -> None:
    release = joint_laplace(epsilon=50, classes=2, bottleneck_dimension=1, radius=40, grid=1, constant="3/2")
    labels = (np.arange(4_000) % 5 > 0).astype(np.int64)
    trained = train(drawn(release, np.zeros((4_000, 1)), labels))  # -1.5 and 1.5 are noised as -2 and 2
    assert trained.moments is not None
    assert trained.moments.shares == pytest.approx([0.2, 0.8], abs=0.03)
