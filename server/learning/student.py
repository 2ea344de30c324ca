"""A student: the classifier that records taught, taught further by public X-rays without labels.

Post-processing of a campaign's records, which costs no epsilon. The records know few coordinates and know them
noisily; the public X-rays know none of the labels, but they show in all coordinates where chests differ. So:

1. The records' classifier scores the public X-rays.
2. Each gets the label that its scores ask for, such that labels are as frequent as they are known to be among the
   public X-rays: from the records (`public_shares`), or because public and hospital X-rays are drawn alike.
3. A logistic regression on all coordinates learns these labels, and scores the public X-rays anew. Again from 2.

Self-training as of Scudder (IEEE Trans. Inf. Theory 11, 1965), with the shares of the labels held fixed: without that,
an imbalanced class eats the other.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression

from ldp_client.errors import ParameterError
from ldp_client.privacy.labels import simplex
from server.learning.train import Moments, Trained

ROUNDS = 8
REGULARISATION = 0.01
"""C of the logistic regression: small, since the labels it learns are partly wrong."""
SWEEPS = 30
LEAST_SHARE = 0.05

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Shares:
    """How frequent each label is, as far as it is known: means (K,) and standard deviations (K,)."""

    mean: Floats
    deviation: Floats

    @classmethod
    def known(cls, shares: Floats) -> Shares:
        """Shares (K,) without doubt."""
        return cls(shares, np.zeros(len(shares)))

    @classmethod
    def told_by(cls, moments: Moments) -> Shares:
        """What records tell, drawn towards 1/K as far as noise makes it doubtful.

        The mean of what was estimated, with the variance of the estimate's error, and of a share that is uniform on all
        shares, which has mean 1/K and variance (K-1) / (K^2 (K+1)): each weighted by the other's variance.
        """
        classes = len(moments.shares)
        prior = (classes - 1) / (classes**2 * (classes + 1))
        weight = prior / (prior + moments.share_error**2)
        mean = weight * moments.shares + (1 - weight) / classes
        return cls.estimated(mean, np.sqrt(weight) * moments.share_error)

    @classmethod
    def estimated(cls, mean: Floats, deviation: Floats) -> Shares:
        """Shares of which no more is known than this, each raised to LEAST_SHARE before they are made to sum to 1."""
        return cls(_possible(mean), deviation)

    def likely(self) -> list[Floats]:
        """The mean, and each label one deviation more and less frequent; all (K,), positive, and summing to 1."""
        found = [self.mean]
        for label, deviation in enumerate(self.deviation):
            for step in (-deviation, deviation) if deviation > 0 else ():
                moved = np.clip(self.mean[label] + step, LEAST_SHARE, 1 - LEAST_SHARE)
                others = self.mean * (1 - moved) / max(1 - self.mean[label], LEAST_SHARE)
                found.append(_possible(np.where(np.arange(len(self.mean)) == label, moved, others)))
        return found


def _possible(shares: Floats) -> Floats:
    """Estimated shares (K,), which may be negative, as positive ones that sum to 1."""
    positive = np.maximum(shares, LEAST_SHARE)
    summed: Floats = positive / positive.sum()
    return summed


def teach(trained: Trained, public: Floats, shares: Shares) -> Trained:
    """The same classifier after a student took over, on public coordinates (N, D), D at least its own.

    Args:
        shares: of the labels among the public X-rays.

    Raises:
        ParameterError: what `fit_student` refuses.
    """
    direction = np.array([[float(value) for value in row] for row in trained.classifier.mean])
    mean = fit_student(direction, public, shares)
    rows = tuple(tuple(repr(float(value)) for value in row) for row in mean)
    return replace(trained, classifier=trained.classifier.model_copy(update={"mean": rows}))


def fit_student(direction: Floats, public: Floats, shares: Shares) -> Floats:
    """The student's matrix (K-1, D), to be read as the classifier's: scores s_y^T M z of coordinates z.

    One student is taught for each of the shares that are likely, and their scores are averaged, each in its own
    standard deviations: the student is most easily misled by a wrong share.

    Args:
        direction: (K-1, k), the classifier that the records taught.
        public: coordinates of public X-rays without labels (N, D), D >= k.
        shares: of the labels among them.

    Raises:
        ParameterError: other shapes, fewer than ten X-rays for each label, X-rays that are all alike to the records'
            classifier, or coordinates that are no numbers.
    """
    classes, taken = len(direction) + 1, direction.shape[1]
    if public.ndim != 2 or public.shape[1] < taken or shares.mean.shape != (classes,) or len(public) < 10 * classes:
        raise ParameterError(
            f"asked for a student of {classes} labels and {taken} coordinates from public coordinates of shape "
            f"{public.shape} and {len(shares.mean)} shares; give at least {10 * classes} X-rays of {taken} coordinates"
        )
    start = public[:, :taken] @ direction.T @ simplex(classes).T  # (N, K)
    if not np.isfinite(public).all() or start.std(0).max() <= 1e-9 * np.abs(start).max():
        raise _alike(public)
    students = [_taught(start, public, one) for one in shares.likely()]
    matrix: Floats = np.mean(students, axis=0)
    return matrix


def _alike(public: Floats) -> ParameterError:
    return ParameterError(
        f"these {len(public)} public X-rays are too much alike to the encoder, or their coordinates are no numbers, so "
        "that no label can be told from another among them; give other ones, or leave the student out"
    )


def _taught(scores: Floats, public: Floats, shares: Floats) -> Floats:
    """One student's matrix (K-1, D), scaled so that its scores of public X-rays have standard deviation 1."""
    classes = scores.shape[1]
    weights = np.zeros((classes, public.shape[1]))
    for _ in range(ROUNDS):
        labels = assigned(scores, shares)
        if len(np.unique(labels)) < classes:
            raise _alike(public)
        model = LogisticRegression(C=REGULARISATION, max_iter=1000).fit(public, labels)
        weights = model.coef_ if classes > 2 else np.vstack([-model.coef_ / 2, model.coef_ / 2])
        scores = public @ weights.T
    # Scores matter up to a number common to all labels, and such rows are what the simplex code spans.
    weights = weights - weights.mean(0)
    matrix: Floats = (classes - 1) / classes * simplex(classes).T @ weights / (public @ weights.T).std()
    return matrix


def assigned(scores: Floats, shares: Floats) -> NDArray[np.int64]:
    """Labels (N,) of the largest total score (N, K) among those in which each label has its share of the X-rays.

    argmax_y (score_y + b_y): the biases b are the dual variables of that transport problem. One after the other is set
    so that its label is as frequent as it should be; for two labels the first does it, for more all are gone through
    again, `SWEEPS` times at most.
    """
    count, classes = scores.shape
    wanted = np.maximum(1, np.round(shares * count)).astype(int)
    biases = np.zeros(classes)
    for sweep in range(SWEEPS * classes):
        label = sweep % classes
        others = np.delete(scores + biases, label, axis=1).max(1)
        needed = np.sort(others - scores[:, label])  # the bias at which each X-ray would turn to this label
        place = min(wanted[label], count - 1)
        biases[label] = (needed[place - 1] + needed[place]) / 2
        found = np.bincount((scores + biases).argmax(1), minlength=classes)
        if np.abs(found - wanted).max() <= math.ceil(count / 1000):
            break
    labels: NDArray[np.int64] = (scores + biases).argmax(1)
    return labels
