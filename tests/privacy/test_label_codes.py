"""Label codes: equal distances between labels, and one vector for an X-ray and its label."""

from __future__ import annotations

import numpy as np
import pytest

from ldp_client.errors import ParameterError
from ldp_client.privacy.labels import joint_vector, simplex


@pytest.mark.parametrize("classes", [2, 3, 4, 5, 14, 256])
def test_the_vertices_have_the_gram_matrix_of_a_regular_simplex(classes: int) -> None:
    vertices = simplex(classes)
    assert vertices.shape == (classes, classes - 1)
    gram = np.full((classes, classes), -1.0 / (classes - 1))
    np.fill_diagonal(gram, 1.0)
    assert np.allclose(vertices @ vertices.T, gram, atol=1e-12)
    assert np.allclose(vertices.sum(axis=0), 0.0, atol=1e-12)


def test_two_labels_are_minus_one_and_one() -> None:
    assert simplex(2).tolist() == [[-1.0], [1.0]]


@pytest.mark.parametrize("classes", [1, 0, -1])
def test_one_class_is_no_label(classes: int) -> None:
    with pytest.raises(ParameterError, match=f"a label code needs at least 2 classes; found {classes}"):
        simplex(classes)


def test_with_two_labels_the_joint_vector_is_the_output_with_the_labels_sign() -> None:
    outputs = np.array([[1.0, -2.0], [3.0, 4.0]])
    assert joint_vector(outputs, np.array([0, 1]), 2).tolist() == [[-1.0, 2.0], [3.0, 4.0]]


@pytest.mark.parametrize("classes", [3, 5])
def test_the_joint_vector_is_the_kronecker_product_of_code_and_output(classes: int) -> None:
    outputs = np.random.default_rng(0).normal(size=(7, 4)).astype(np.float32)
    labels = np.arange(7) % classes
    joint = joint_vector(outputs, labels, classes)
    assert joint.shape == (7, (classes - 1) * 4)
    codes = simplex(classes)
    for row, label, output in zip(joint, labels, outputs, strict=True):
        assert np.allclose(row, np.kron(codes[label], output))


def test_outputs_that_are_not_finite_pass_through_without_a_warning() -> None:
    outputs = np.array([[np.nan, np.inf, -np.inf, 1e308]])
    for classes in (2, 3):
        assert joint_vector(outputs, np.array([1]), classes).shape == (1, (classes - 1) * 4)


def test_no_rows_are_no_vectors() -> None:
    assert joint_vector(np.zeros((0, 3)), np.zeros(0, dtype=np.int64), 4).shape == (0, 9)


@pytest.mark.parametrize(
    ("outputs", "labels"), [((2, 2), (3,)), ((2, 2), (2, 1)), ((2,), (2,)), ((1, 2, 2), (1,)), ((2, 2), ())]
)
def test_shapes_that_do_not_belong_together_are_refused(outputs: tuple[int, ...], labels: tuple[int, ...]) -> None:
    with pytest.raises(ParameterError, match=r"encoder outputs \(N, k\) and labels \(N,\) must match; found shapes"):
        joint_vector(np.zeros(outputs), np.zeros(labels, dtype=np.int64), 2)


@pytest.mark.parametrize("label", [-1, 2, 255])
def test_a_label_outside_its_classes_is_refused_and_not_named(label: int) -> None:
    with pytest.raises(ParameterError, match=r"^labels must lie in 0\.\.1$"):
        joint_vector(np.zeros((2, 2)), np.array([0, label]), 2)
