"""A student: the classifier that records taught, taught further by public X-rays without labels.

Post-processing of a campaign's records, which costs no epsilon. The records know few coordinates and know them
noisily; the public X-rays know none of the labels, but they show in all coordinates where chests differ. So:

1. The records' classifier scores the public X-rays.
2. Each gets the label that its scores ask for, such that labels are as frequent as among the hospitals' records.
3. A logistic regression on all coordinates learns these labels, and scores the public X-rays anew. Again from 2.

Self-training as of Scudder (IEEE Trans. Inf. Theory 11, 1965), with the shares of the labels held fixed, since the
records tell them: without that, an imbalanced class eats the other.
"""

from __future__ import annotations

import math
from dataclasses import replace

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


def teach(trained: Trained, public: Floats) -> Trained:
    """The same classifier after a student took over, on public coordinates (N, D), D at least its own.

    Raises:
        ParameterError: the release carries no label shares, or what `fit_student` refuses.
    """
    if trained.moments is None:
        raise ParameterError(
            "a student needs to know how frequent each label is, and this campaign's records do not carry it; "
            'ask for `constant = "1/2"` in the next campaign.toml, or leave the student out'
        )
    direction = np.array([[float(value) for value in row] for row in trained.classifier.mean])
    mean = fit_student(direction, public, steady_shares(trained.moments))
    rows = tuple(tuple(repr(float(value)) for value in row) for row in mean)
    return replace(trained, classifier=trained.classifier.model_copy(update={"mean": rows}))


def steady_shares(moments: Moments) -> Floats:
    """Shares of the labels (K,), drawn towards 1/K as far as noise makes them doubtful.

    The mean of what was estimated, with a variance of the estimate's error, and of a share that is uniform on all
    shares, which has mean 1/K and variance (K-1) / (K^2 (K+1)): each weighted by the other's variance.
    """
    classes = len(moments.shares)
    prior = (classes - 1) / (classes**2 * (classes + 1))
    weight = prior / (prior + moments.share_error**2)
    shares: Floats = weight * moments.shares + (1 - weight) / classes
    shares = np.maximum(shares, LEAST_SHARE)
    shares /= shares.sum()
    return shares


def fit_student(direction: Floats, public: Floats, shares: Floats) -> Floats:
    """The student's matrix (K-1, D), to be read as the classifier's: scores s_y^T M z of coordinates z.

    Args:
        direction: (K-1, k), the classifier that the records taught.
        public: coordinates of public X-rays without labels (N, D), D >= k.
        shares: of the labels (K,), which sum to 1.

    Raises:
        ParameterError: other shapes, or fewer than ten X-rays for each label.
    """
    classes, taken = len(direction) + 1, direction.shape[1]
    if public.ndim != 2 or public.shape[1] < taken or shares.shape != (classes,) or len(public) < 10 * classes:
        raise ParameterError(
            f"asked for a student of {classes} labels and {taken} coordinates from public coordinates of shape "
            f"{public.shape} and {len(shares)} shares; give at least {10 * classes} X-rays of {taken} coordinates"
        )
    codes = simplex(classes)
    scores = public[:, :taken] @ direction.T @ codes.T  # (N, K)
    weights = np.zeros((classes, public.shape[1]))
    for _ in range(ROUNDS):
        model = LogisticRegression(C=REGULARISATION, max_iter=1000).fit(public, assigned(scores, shares))
        weights = model.coef_ if classes > 2 else np.vstack([-model.coef_ / 2, model.coef_ / 2])
        scores = public @ weights.T
    # Scores matter up to a number common to all labels, and such rows are what the simplex code spans.
    matrix: Floats = (classes - 1) / classes * codes.T @ (weights - weights.mean(0))
    return matrix


def assigned(scores: Floats, shares: Floats) -> NDArray[np.int64]:
    """Labels (N,) of the largest total score (N, K) among those in which each label has its share of the X-rays.

    argmax_y (score_y + b_y): the biases b are the dual variables of that transport problem. One after the other is set
    so that its label is as frequent as it should be; for two labels the first does it, for more it is repeated.
    """
    count, classes = scores.shape
    wanted = np.maximum(1, np.round(shares * count)).astype(int)
    biases = np.zeros(classes)
    for sweep in range(SWEEPS):
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
