"""A linear classifier on the public bottleneck, as learnt from joint releases."""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import NDArray

from ldp_client.errors import ParameterError
from ldp_client.privacy.labels import simplex
from ldp_client.wire.canonical import Digest, Wire


class LinearClassifier(Wire):
    """Scores class y of a clean X-ray with bottleneck z by  s_y^T M z,  M the (K-1, k) mean of the releases s_y (x) z.

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
        """Scores of (N, k) encoder outputs, one column for each class. Shape (N, K).

        Raises:
            ParameterError: the outputs have another dimension than the classifier was trained for.
        """
        mean = np.array([[float(value) for value in row] for row in self.mean])  # (K-1, k)
        if outputs.ndim != 2 or outputs.shape[1] != mean.shape[1]:
            raise ParameterError(
                f"the classifier takes encoder outputs of {mean.shape[1]} numbers; found shape {outputs.shape}"
            )
        scores: NDArray[np.float64] = outputs.astype(np.float64) @ mean.T @ simplex(len(self.label_names)).T
        return scores
