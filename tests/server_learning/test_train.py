"""What the centre learns from records: their mean, how far noise moves it, and what a classifier makes of it."""

from __future__ import annotations

import struct
from collections.abc import Sequence

import numpy as np
import pytest
from numpy.typing import NDArray

from ldp_client.diagnosis.classifier import LinearClassifier
from ldp_client.errors import FormatError, ParameterError, WaitingError
from ldp_client.privacy.clipping import clip, to_grid
from ldp_client.privacy.labels import joint_vector, simplex
from ldp_client.privacy.laplace import DiscreteLaplace, decode
from ldp_client.privacy.noise import SystemSource
from ldp_client.privacy.release_design import joint_laplace
from ldp_client.wire.campaign import Campaign, campaign_id
from ldp_client.wire.canonical import canonical_bytes, parse
from ldp_client.wire.record import pack
from server.learning.train import TrainingSet, train

NAMES = ("normal", "pneumonia", "effusion")


def campaign(classes: int = 2, grid: str = "1/1024") -> Campaign:
    release = joint_laplace(epsilon=2, classes=classes, bottleneck_dimension=3, radius=4, grid=grid)
    return Campaign(
        name="pneumonia",
        purpose="find pneumonia",
        encoder="e" * 64,
        release=release,
        label_names=NAMES[:classes],
        unit="image",
        cap=1,
        micro_epsilon_per_record=release.loss.micro_epsilon,
        ends="2030-12-31",
    )


def written(steps: Sequence[int]) -> bytes:
    """A record as `ldp_client/wire/record.py` has it: magic, version, kind, dimension, values."""
    return struct.pack("<4sBBI", b"LDPR", 1, 1, len(steps)) + struct.pack(f"<{len(steps)}q", *steps)


def clipped(wanted: Campaign, outputs: NDArray[np.float64], labels: NDArray[np.int64]) -> TrainingSet:
    """The records as they would be without noise."""
    spec = wanted.release
    steps = clip(to_grid(joint_vector(outputs, labels, spec.classes), spec.laplace.grid), spec.laplace.clip).steps
    return TrainingSet(wanted, decode(steps, spec.laplace))


def matrix(classifier: LinearClassifier) -> NDArray[np.float64]:
    return np.array([[float(value) for value in row] for row in classifier.mean])


def test_a_classifier_is_the_mean_of_the_records_in_encoder_units() -> None:
    wanted = campaign(grid="1/4")
    trained = train(TrainingSet.from_payloads(wanted, [written([1, -8, 0]), written([3, 0, 8]), written([-1, 2, 4])]))
    assert matrix(trained.classifier).tolist() == [[1 / 4, -2 / 4, 4 / 4]]
    assert trained.classifier.records == 3
    assert (trained.classifier.encoder, trained.classifier.campaign) == ("e" * 64, campaign_id(wanted))
    assert trained.classifier.label_names == ("normal", "pneumonia")


def test_a_mean_survives_its_file_to_the_last_bit() -> None:
    trained = train(TrainingSet(campaign(), np.random.default_rng(0).normal(size=(7, 3))))
    again = parse(LinearClassifier, canonical_bytes(trained.classifier))
    assert (matrix(again) == matrix(trained.classifier)).all()


@pytest.mark.parametrize("count", [1, 4, 100])
@pytest.mark.parametrize("grid", ["1/4", "1/1024"])
def test_noise_error_is_the_noises_standard_deviation_over_the_root_of_the_count(count: int, grid: str) -> None:
    wanted = campaign(grid=grid)
    trained = train(TrainingSet(wanted, np.zeros((count, 3))))
    q = np.exp(-1 / float(wanted.release.laplace.scale))
    far = np.arange(-60 * int(wanted.release.laplace.scale), 60 * int(wanted.release.laplace.scale) + 1)
    # By enumeration, not by the formula that the code has.
    variance = float((far.astype(float) ** 2 * q ** np.abs(far)).sum() / (q ** np.abs(far)).sum())
    grid_step = float(wanted.release.laplace.grid)
    assert trained.noise_error == pytest.approx(grid_step * np.sqrt(variance / count), rel=1e-9)


def test_real_noise_moves_the_mean_as_far_as_noise_error_says() -> None:
    """2,000 records of nought: each coordinate lies within six standard deviations (1e-8), not all near nought."""
    wanted, count = campaign(classes=3), 2_000
    spec = wanted.release.laplace
    still = clip(np.zeros((count, 6), dtype=np.int64), spec.clip)
    trained = train(TrainingSet.from_payloads(wanted, pack(DiscreteLaplace(spec)(still, SystemSource()))))
    assert np.abs(matrix(trained.classifier)).max() < 6 * trained.noise_error
    assert np.abs(matrix(trained.classifier)).max() > trained.noise_error / 100


@pytest.mark.parametrize("classes", [2, 3])
def test_scores_order_xrays_by_the_class_that_they_were_learnt_from(classes: int) -> None:
    wanted = campaign(classes)
    generator = np.random.default_rng(1)
    centres = np.eye(3)[:classes] - np.eye(3)[:classes].mean(axis=0)
    labels = np.repeat(np.arange(classes), 50)
    outputs = centres[labels] + generator.normal(0, 0.1, (len(labels), 3))
    trained = train(clipped(wanted, outputs, labels))
    assert matrix(trained.classifier).shape == (classes - 1, 3)
    scores = trained.classifier.scores(outputs)
    assert scores.shape == (len(labels), classes)
    assert (scores.argmax(axis=1) == labels).all()
    # s_y^T M z written out.
    by_hand = [
        [float(code @ matrix(trained.classifier) @ output) for code in simplex(classes)] for output in outputs[:5]
    ]
    np.testing.assert_allclose(scores[:5], by_hand, rtol=1e-12)
    # The simplex is centred: the classes' scores of one X-ray sum to nought.
    np.testing.assert_allclose(scores.sum(axis=1), 0, atol=1e-12)


def test_inverted_labels_turn_every_score_around() -> None:
    generator = np.random.default_rng(2)
    outputs, labels = generator.normal(size=(40, 3)), generator.integers(0, 2, 40)
    wanted = campaign()
    straight, inverted = (train(clipped(wanted, outputs, which)).classifier for which in (labels, 1 - labels))
    assert (matrix(inverted) == -matrix(straight)).all()
    assert (inverted.scores(outputs) == -straight.scores(outputs)).all()
    assert np.abs(straight.scores(outputs)).min() > 0


@pytest.mark.parametrize("shape", [(4, 2), (4, 0), (3,), (1, 4, 3)])
def test_outputs_of_fewer_numbers_have_no_scores(shape: tuple[int, ...]) -> None:
    classifier = train(TrainingSet(campaign(), np.ones((1, 3)))).classifier
    with pytest.raises(ParameterError, match=r"the classifier takes encoder outputs of 3 numbers; found shape \("):
        classifier.scores(np.zeros(shape))


def test_of_an_encoder_that_gives_more_numbers_the_first_ones_count() -> None:
    generator = np.random.default_rng(7)
    outputs, labels = generator.normal(size=(40, 5)), generator.integers(0, 2, 40)
    classifier = train(clipped(campaign(), outputs[:, :3], labels)).classifier
    assert (classifier.scores(outputs) == classifier.scores(outputs[:, :3])).all()


def test_a_campaign_without_records_waits() -> None:
    with pytest.raises(WaitingError, match="campaign pneumonia has no records yet; gather first"):
        TrainingSet.from_payloads(campaign(), [])


@pytest.mark.parametrize(
    ("payload", "why"),
    [
        (written([1, 2, 3])[:-1], "a record of 3 coordinates has 34 bytes; found 33"),
        (written([1, 2]), "a record of 3 coordinates has 34 bytes; found 26"),
        (b"XXXX" + written([1, 2, 3])[4:], "expected a version 1 vector of 3 coordinates; found another record"),
        (written([1, 2, 10**9]), "a coordinate lies further out than this mechanism can ever put it"),
    ],
    ids=["cut", "dimension", "magic", "range"],
)
def test_a_stored_record_that_was_altered_is_not_learnt_from(payload: bytes, why: str) -> None:
    with pytest.raises(FormatError, match=f"a stored record does not fit campaign pneumonia: {why}"):
        TrainingSet.from_payloads(campaign(), [written([1, 2, 3]), payload])
