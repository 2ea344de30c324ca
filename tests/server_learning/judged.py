"""Evaluations of made-up classifiers, and the answers that sites give to them."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ldp_client.diagnosis.scoring import binned, default_edges
from ldp_client.privacy.histogram import Histogram, count, histogram
from ldp_client.privacy.noise import SystemSource
from ldp_client.wire.answer import pack_answer
from ldp_client.wire.evaluation import Evaluation

NAMES = ("normal", "bacterial", "viral")
BINS = 20


def an_evaluation(classes: int = 2, epsilon: str = "1", cap: int = 1, classifier: bytes = b"a card") -> Evaluation:
    spec = histogram(epsilon=epsilon, classes=classes * (classes - 1), bins=BINS, cap=cap * (classes - 1))
    return Evaluation(
        name="held-out",
        purpose="how well it does",
        encoder="e" * 64,
        classifier=classifier,
        label_names=NAMES[:classes],
        histogram=spec,
        edges=default_edges(1.0, BINS),
        unit="image" if cap == 1 else "patient",
        cap=cap,
        micro_epsilon_per_unit=spec.loss.micro_epsilon,
        ends="2030-12-31",
    )


def answer(evaluation: Evaluation, scores: NDArray[np.float64], labels: NDArray[np.int64]) -> bytes:
    """As a site makes it, with noise from the operating system."""
    rows, bins = binned(scores, labels, evaluation.edges)
    units = [unit for unit in range(len(labels)) for _ in range(rows.shape[1])]
    counts = count(evaluation.histogram, units, rows.ravel(), bins.ravel())
    return pack_answer(Histogram(evaluation.histogram)(counts, SystemSource()))
