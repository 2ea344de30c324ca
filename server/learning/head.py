"""A head: what the records say of each coordinate, weighed by how likely a finding shows there and how noisy it is.

Post-processing of a campaign's records, which costs no epsilon. The mean of the records carries the same noise in each
of its coordinates, and few findings show in the last ones: that is what pseudo-findings suppose
(`server.learning.pseudo_findings`), and where one shows late all the same, a head makes it harder to find. Each of them
goes through the same mechanism: with its clip, and with its noise as the records show it. So with, for one of them,

    M   what the campaign would learn of it without noise, (K-1, k),
    D   the difference of its class means in all D coordinates of the encoder, (K-1, D), in deviations of its scores,
    S   the covariance of what this campaign's own records say, by the jackknife,

the head is the linear map of least expected squared error from noised M to D, applied to what the records say:

    A  =  E[D M'] (E[M M'] + S)^-1      (matrices written as vectors; E over pseudo-findings)

Best linear prediction: Goldberger, Journal of the American Statistical Association 57, 1962. The prior is the public
X-rays', as in empirical Bayes (Robbins, 1956).
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from ldp_client.errors import ParameterError, WaitingError
from ldp_client.privacy.labels import simplex
from ldp_client.privacy.release_spec import ReleaseSpec
from server.learning.pseudo_findings import pseudo_findings
from server.learning.train import Sums, Trained, TrainingSet, clipped, direction

Floats = NDArray[np.float64]
FINDINGS = 500
PARTS, PARTS_FOR_EACH = 100, 10
"""Of the records, of which the jackknife leaves out one at a time: at least so many, and so many for each number that
is learnt, since fewer parts than numbers would leave directions in which it sees no noise at all."""
_SEED = 20131962


def weigh(records: TrainingSet, trained: Trained, public: Floats) -> Trained:
    """The same classifier after the head, in all coordinates of the public X-rays.

    Args:
        records: which taught it.
        trained: the classifier, in the k coordinates that were released.
        public: coordinates (N, D) of public X-rays, D at least k.

    Raises:
        ParameterError: public X-rays of fewer coordinates than were released, fewer than ten for each label, all alike,
            or of coordinates that are no numbers.
        WaitingError: fewer than two records for each number that is learnt.
    """
    said = np.array([[float(value) for value in row] for row in trained.classifier.mean])
    head = fit_head(records, public)
    mean = (head @ said.ravel()).reshape(len(said), public.shape[1])
    rows = tuple(tuple(repr(float(value)) for value in row) for row in mean)
    return replace(trained, classifier=trained.classifier.model_copy(update={"mean": rows}))


def fit_head(records: TrainingSet, public: Floats) -> Floats:
    """The head's matrix ((K-1) D, (K-1) k), for these records' release and noise. Raises what `weigh` does."""
    spec = records.release
    classes, k = spec.classes, spec.input_dimension
    if public.ndim != 2 or public.shape[1] < k or len(public) < 10 * classes:
        raise ParameterError(
            f"asked for a head of {classes} labels and {k} coordinates from public coordinates of shape "
            f"{public.shape}; give at least {10 * classes} X-rays of {k} coordinates"
        )
    needed = 2 * _learnt(spec)
    if len(records.vectors) < needed:
        raise WaitingError(
            f"found {len(records.vectors)} records; a head of {classes} labels and {k} coordinates needs {needed}, to "
            "see how far they scatter: gather more first, or leave the head out"
        )
    error = jackknife(records)
    vectors = [clipped(spec, public[:, :k], label) for label in range(classes)]
    spread = np.cov(public, rowvar=False).reshape(public.shape[1], -1)
    released, wanted = [], []
    findings = pseudo_findings(public, classes, FINDINGS, np.random.default_rng(_SEED))
    for labels in findings if np.isfinite(public).all() else ():
        of_label = [vectors[label][labels == label] for label in range(classes)]
        released.append(direction(Sums.of(TrainingSet(records.campaign, np.concatenate(of_label)))).ravel())
        means = np.stack([public[labels == label].mean(0) for label in range(classes)])
        apart = simplex(classes).T @ means
        wanted.append((apart / np.sqrt(np.trace(apart @ spread @ apart.T))).ravel())
    if not released:
        raise ParameterError(
            f"these {len(public)} public X-rays are all alike to the encoder, or their coordinates are no numbers, so "
            "that no finding can be supposed among them; give other ones, or leave the head out"
        )
    m, d = np.array(released), np.array(wanted)
    head: Floats = np.linalg.solve(m.T @ m / len(m) + error, m.T @ d / len(m)).T
    return head


def jackknife(records: TrainingSet) -> Floats:
    """Covariance ((K-1) k, (K-1) k) of what the records say: of the mechanism's noise, and of which X-rays took part.

    Parts are left out whole, of records and not of patients, which records do not name: with several records of a
    patient it is a little too small.
    """
    count = len(records.vectors)
    order = np.random.default_rng(_SEED).permutation(count)
    wanted = max(PARTS, PARTS_FOR_EACH * _learnt(records.release))
    parts = [records.vectors[rows] for rows in np.array_split(order, min(wanted, count))]
    sums = [Sums.of(replace(records, vectors=part)) for part in parts]
    whole = Sums.of(records)
    without = np.stack(
        [
            direction(
                replace(whole, count=count - part.count, total=whole.total - part.total, told=whole.told - part.told)
            ).ravel()
            for part in sums
        ]
    )
    off = without - without.mean(0)
    covariance: Floats = (len(parts) - 1) / len(parts) * off.T @ off
    return covariance


def _learnt(spec: ReleaseSpec) -> int:
    """(K-1) k, the numbers that records of a release teach."""
    return (spec.classes - 1) * spec.input_dimension
