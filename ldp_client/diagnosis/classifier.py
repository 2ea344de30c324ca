"""Kinds of classifier: what each is as a document, and how it scores a clean X-ray.

A union by `kind` that only grows (`Model` in bundle.py). A kind is a frozen document with its numbers, or with the
names of arrays that stand in the bundle's weights; `ready` makes of both something that scores prepared X-rays.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import combinations
from typing import Annotated, Literal, Protocol

import numpy as np
from numpy.typing import NDArray
from pydantic import StringConstraints, model_validator
from torch import Tensor

from ldp_client.errors import ClassifierError, ParameterError
from ldp_client.flow.encoder import Encoder
from ldp_client.privacy.labels import simplex
from ldp_client.privacy.release_spec import Source
from ldp_client.wire.canonical import Digest, Wire

Number = Annotated[str, StringConstraints(pattern=r"^-?[0-9]{1,20}(\.[0-9]{1,20})?(e[+-]?[0-9]{1,3})?$")]
"""A finite float as Python writes it: a document has no floats."""


class Classifier(Protocol):
    """Scores prepared X-rays (N, 1, size, size): one column for each class, shape (N, K). Scores order X-rays."""

    def scores(self, encoder: Encoder, images: Tensor) -> NDArray[np.float64]: ...


class LinearClassifier(Wire):
    """Scores class y of a clean X-ray with bottleneck z by  s_y^T M z,  M the (K-1, k) mean of the releases s_y (x) z.

    A campaign may release the first k coordinates only; then z are the first k of what the encoder gives.
    For two classes this is the projection on the class direction: a larger score of label 1 means more like it. Scores
    order X-rays; they are no probabilities, since the simplex code carries no prevalence.
    """

    schema_version: Literal[1] = 1
    encoder: Digest
    campaign: Digest
    label_names: tuple[str, ...]
    records: int
    mean: tuple[tuple[str, ...], ...]

    def scores(self, outputs: NDArray[np.floating]) -> NDArray[np.float64]:
        """Scores of (N, d) encoder outputs, of which the first k count; one column for each class. Shape (N, K).

        Raises:
            ParameterError: the outputs have fewer numbers than the classifier was trained for.
        """
        return _linear_scores(_matrix(self.mean), outputs)


class LinearModel(Wire):
    """The linear kind: M of shape (K-1, k), and what of the encoder its first k coordinates are taken from.

    Scores as `LinearClassifier` has them.
    """

    kind: Literal["linear"] = "linear"
    source: Source
    mean: tuple[tuple[Number, ...], ...]

    @model_validator(mode="after")
    def _a_matrix(self) -> LinearModel:
        if not self.mean or not self.mean[0] or len({len(row) for row in self.mean}) != 1:
            raise ValueError("the mean of the records is a matrix of at least one row and one column")
        if not np.isfinite(_matrix(self.mean)).all():
            raise ValueError("the mean of the records holds numbers that are not finite")
        return self

    @property
    def classes(self) -> int:
        """K."""
        return len(self.mean) + 1

    def ready(self, tensors: Mapping[str, Tensor]) -> Classifier:
        """The classifier.

        Raises:
            ClassifierError: weights came along, for which this kind has no use.
        """
        if tensors:
            raise ClassifierError(
                f"a linear classifier has no weights besides its card; found {len(tensors)}. "
                "Ask the centre for the bundle again"
            )
        return _Linear(self.source, _matrix(self.mean))

    def spread(self) -> float:
        """Standard deviation of a difference of two scores on public X-rays, or more.

        For classes a and b the length of M^T (s_b - s_a), of several pairs their root mean square. That is exact where
        the coordinates are uncorrelated with variance 1 on public X-rays, as a whitened bottleneck's are; those of
        others have at most variance 1, each, and then the bins that are laid out by it are wider than they need be.
        """
        codes, mean = simplex(self.classes), _matrix(self.mean)
        lengths = [float(np.sum(((codes[b] - codes[a]) @ mean) ** 2)) for a, b in combinations(range(self.classes), 2)]
        return math.sqrt(sum(lengths) / len(lengths))


@dataclass(frozen=True, eq=False)
class _Linear:
    source: Source
    mean: NDArray[np.float64]

    def scores(self, encoder: Encoder, images: Tensor) -> NDArray[np.float64]:
        return _linear_scores(self.mean, encoder.output(self.source, images))


def _matrix(rows: tuple[tuple[str, ...], ...]) -> NDArray[np.float64]:
    return np.array([[float(value) for value in row] for row in rows])


def _linear_scores(mean: NDArray[np.float64], outputs: NDArray[np.floating]) -> NDArray[np.float64]:
    columns = mean.shape[1]
    if outputs.ndim != 2 or outputs.shape[1] < columns:
        raise ParameterError(f"the classifier takes encoder outputs of {columns} numbers; found shape {outputs.shape}")
    scores: NDArray[np.float64] = outputs[:, :columns].astype(np.float64) @ mean.T @ simplex(len(mean) + 1).T
    return scores
