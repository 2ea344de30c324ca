"""What the centre can draw from one record, against an enumeration written out by hand."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import pytest
from numpy.typing import NDArray

from ldp_client.errors import ParameterError
from ldp_client.privacy.clipping import clip, to_grid
from ldp_client.privacy.labels import joint_vector, simplex
from ldp_client.privacy.laplace import DiscreteLaplace
from ldp_client.privacy.noise import SystemSource
from ldp_client.privacy.release_design import joint_laplace
from ldp_client.privacy.release_spec import JointLaplaceSpec
from server.learning import reconstruction
from server.learning.reconstruction import reconstruct


def _public(count: int, dimension: int, side: int = 4) -> tuple[NDArray[np.uint8], NDArray[np.float64]]:
    generator = np.random.default_rng(3)
    images = generator.integers(0, 256, (count, side, side)).astype(np.uint8)
    return images, generator.normal(0, 1, (count, dimension))


def _clipped(spec: JointLaplaceSpec, outputs: NDArray[np.float64], labels: NDArray[np.int64]) -> NDArray[np.int64]:
    vectors = joint_vector(outputs, labels, spec.classes)
    return clip(to_grid(vectors, spec.laplace.grid), spec.laplace.clip).steps


@pytest.mark.parametrize("classes", [2, 3])
def test_posterior_agrees_with_enumeration_by_hand(classes: int) -> None:
    spec = joint_laplace(epsilon="3/2", classes=classes, bottleneck_dimension=2, radius=1, grid="1/16")
    images, outputs = _public(5, 2)
    released = np.array([[3, -9] * (classes - 1), [40, 0] * (classes - 1)], dtype=np.int64)

    result = reconstruct(released, spec, images, outputs)

    q = math.exp(-1 / float(spec.laplace.scale))
    for row, record in enumerate(released):
        weight = {}
        for image in range(5):
            for label in range(classes):
                steps = [round(float(s * z) * 16) for s in simplex(classes)[label] for z in outputs[image]]
                norm = sum(abs(step) for step in steps)
                if norm > 16:
                    steps = [int(math.copysign(abs(step) * 16 // norm, step)) for step in steps]
                weight[image, label] = math.prod(
                    (1 - q) / (1 + q) * q ** abs(int(y) - step) for y, step in zip(record, steps, strict=True)
                )
        total = sum(weight.values())
        of_image = [sum(weight[image, label] for label in range(classes)) / total for image in range(5)]
        mean = sum(share * images[image].astype(float) for image, share in enumerate(of_image))
        of_label = [sum(weight[image, label] for image in range(5)) / total for label in range(classes)]
        np.testing.assert_allclose(result.images[row], mean, rtol=1e-5)
        np.testing.assert_allclose(result.labels[row], of_label, rtol=1e-12)
        assert result.likeliest_image[row] == pytest.approx(max(of_image), rel=1e-12)
        assert result.likeliest_pair[row] == pytest.approx(max(weight.values()) / total, rel=1e-12)


def test_almost_no_noise_gives_the_image_and_its_label_away() -> None:
    spec = joint_laplace(epsilon=10_000, classes=2, bottleneck_dimension=3, radius=4)
    images, outputs = _public(20, 3)
    labels = np.arange(20) % 2

    result = reconstruct(_clipped(spec, outputs, labels), spec, images, outputs)

    np.testing.assert_allclose(result.images, images, atol=1e-3)
    np.testing.assert_array_equal(result.labels.argmax(axis=1), labels)
    assert result.likeliest_image.min() > 1 - 1e-9


@pytest.mark.parametrize("epsilon", ["1/2", "2", "8"])
def test_no_posterior_passes_its_ceiling(epsilon: str) -> None:
    spec = joint_laplace(epsilon=epsilon, classes=2, bottleneck_dimension=2, radius=1)
    images, outputs = _public(30, 2)
    # One image at each end of the ball: the pair that a record can tell apart best.
    outputs[0], outputs[1] = (1.0, 0.0), (0.0, 50.0)
    clipped = clip(to_grid(np.tile(outputs, (40, 1)), spec.laplace.grid), spec.laplace.clip)
    drawn = DiscreteLaplace(spec.laplace)(clipped, SystemSource()).steps
    far = np.array([[10**9, 0], [0, -(10**9)], [-(10**9), 10**9]], dtype=np.int64)

    result = reconstruct(np.concatenate((drawn, far)), spec, images, outputs)

    assert result.image_ceiling == pytest.approx(math.exp(float(spec.loss)) / (math.exp(float(spec.loss)) + 29))
    assert result.pair_ceiling == pytest.approx(math.exp(float(spec.loss)) / (math.exp(float(spec.loss)) + 59))
    assert result.likeliest_image.max() <= result.image_ceiling + 1e-12
    assert result.likeliest_pair.max() <= result.pair_ceiling + 1e-12


def test_a_candidate_at_the_other_end_of_the_ball_reaches_the_ceiling() -> None:
    spec = joint_laplace(epsilon=2, classes=2, bottleneck_dimension=1, radius=1)
    images, outputs = _public(1, 1)
    outputs[:] = 1.0

    result = reconstruct(np.array([[5000]], dtype=np.int64), spec, images, outputs)

    assert result.likeliest_pair[0] == pytest.approx(result.pair_ceiling)
    assert result.labels[0, 1] == pytest.approx(1 / (1 + math.exp(-2)))


def test_records_far_outside_the_ball_are_no_overflow() -> None:
    spec = joint_laplace(epsilon=1, classes=2, bottleneck_dimension=2, radius=1)
    images, outputs = _public(7, 2)
    extreme = np.array([[2**63 - 1, -(2**63)], [1024, -1024]], dtype=np.int64)

    result = reconstruct(extreme, spec, images, outputs)

    assert np.isfinite(result.images).all()
    np.testing.assert_allclose(result.labels[0], result.labels[1])


def test_records_in_small_parts_give_the_same_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    spec = joint_laplace(epsilon=2, classes=2, bottleneck_dimension=2, radius=1)
    images, outputs = _public(9, 2)
    released = np.random.default_rng(0).integers(-3000, 3000, (11, 2))
    whole = reconstruct(released, spec, images, outputs)
    monkeypatch.setattr(reconstruction, "_CELLS", 40)

    parts = reconstruct(released, spec, images, outputs)

    np.testing.assert_allclose(parts.images, whole.images, rtol=1e-6)
    np.testing.assert_array_equal(parts.likeliest_image, whole.likeliest_image)


def test_useless_encoder_output_leaves_the_average_of_the_public_images() -> None:
    spec = joint_laplace(epsilon=2, classes=2, bottleneck_dimension=2, radius=1)
    images, outputs = _public(6, 2)
    outputs[:] = np.nan

    result = reconstruct(np.array([[900, -100]], dtype=np.int64), spec, images, outputs)

    np.testing.assert_allclose(result.images[0], images.mean(axis=0), rtol=1e-5)
    np.testing.assert_allclose(result.labels[0], [0.5, 0.5])


def test_shapes_that_do_not_belong_together_are_refused() -> None:
    spec = joint_laplace(epsilon=2, classes=2, bottleneck_dimension=2, radius=Fraction(1))
    images, outputs = _public(4, 2)
    with pytest.raises(ParameterError, match="rows of 2 integers"):
        reconstruct(np.zeros((1, 3), dtype=np.int64), spec, images, outputs)
    with pytest.raises(ParameterError, match="must match"):
        reconstruct(np.zeros((1, 2), dtype=np.int64), spec, images[:3], outputs)
    with pytest.raises(ParameterError, match="must match"):
        reconstruct(np.zeros((1, 2), dtype=np.int64), spec, images[:0], outputs[:0])
