"""A head: what the records say of each coordinate, weighed by how likely a finding shows there and how noisy it is.

Post-processing of a campaign's records, which costs no epsilon. The mean of the records carries the same noise in each
of its coordinates, and few findings show in the last ones. Where a finding shows is not known beforehand, but public
X-rays, divided along many random directions of what the encoder sees, more likely where chests differ more, are as many
pseudo-findings whose labels are known. Each goes through the same mechanism: with its clip, and with its noise as the
records show it. So with, for one pseudo-finding,

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
from ldp_client.privacy.drawing import ClippedPair, prepare
from ldp_client.privacy.labels import simplex
from ldp_client.privacy.release_spec import DpGlowSpec, JointCodebookSpec, LatentSpec, ReleaseSpec
from server.learning.student import assigned
from server.learning.train import Sums, Trained, TrainingSet, direction

Floats = NDArray[np.float64]
FINDINGS = 500
PARTS = 100
"""Of the records, of which the jackknife leaves out one at a time."""
EVENNESS = 4.0
"""Of the Dirichlet distribution of the pseudo-findings' shares: mostly between a fifth and four fifths, of two labels.
"""
_SEED = 20131962


def weigh(records: TrainingSet, trained: Trained, public: Floats) -> Trained:
    """The same classifier after the head, in all coordinates of the public X-rays.

    Args:
        records: which taught it.
        trained: the classifier, in the k coordinates that were released.
        public: coordinates (N, D) of public X-rays, D at least k.

    Raises:
        ParameterError: public X-rays of fewer coordinates than were released, or fewer than ten for each label.
        WaitingError: fewer than four records.
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
    error = jackknife(records)
    generator = np.random.default_rng(_SEED)
    vectors = [without_noise(spec, public[:, :k], label) for label in range(classes)]
    seen = public * public.std(0)
    spread = np.cov(public, rowvar=False).reshape(public.shape[1], -1)
    released, wanted = [], []
    for _ in range(FINDINGS):
        shares = generator.dirichlet(np.full(classes, EVENNESS))
        labels = assigned(seen @ generator.normal(size=(seen.shape[1], classes)), shares)
        if len(np.unique(labels)) < classes:
            continue
        of_label = [vectors[label][labels == label] for label in range(classes)]
        released.append(direction(Sums.of(TrainingSet(records.campaign, np.concatenate(of_label)))).ravel())
        means = np.stack([public[labels == label].mean(0) for label in range(classes)])
        apart = simplex(classes).T @ means
        wanted.append((apart / np.sqrt(np.trace(apart @ spread @ apart.T))).ravel())
    m, d = np.array(released), np.array(wanted)
    head: Floats = np.linalg.solve(m.T @ m / len(m) + error, m.T @ d / len(m)).T
    return head


def jackknife(records: TrainingSet) -> Floats:
    """Covariance ((K-1) k, (K-1) k) of what the records say: of the mechanism's noise, and of which X-rays took part.

    Raises:
        WaitingError: fewer than four records.
    """
    count = len(records.vectors)
    if count < 4:
        raise WaitingError(f"found {count} records; a head needs to see how far they scatter: gather more first")
    order = np.random.default_rng(_SEED).permutation(count)
    parts = [records.vectors[rows] for rows in np.array_split(order, min(PARTS, count))]
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


def without_noise(spec: ReleaseSpec, outputs: Floats, label: int) -> Floats:
    """What a record of each X-ray (N, k) with this label would decode to on average, (N, q f): clipped, not noised."""
    labels = np.full(len(outputs), label)
    ready = prepare(spec, outputs, labels)
    if isinstance(spec, LatentSpec | DpGlowSpec) and isinstance(ready, ClippedPair):
        features = ready.vectors.steps.astype(np.float64) * float(spec.laplace.grid)
        told = np.eye(spec.classes)[labels]
        both = np.concatenate([np.ones((len(outputs), 1)), features], axis=1)
        found: Floats = (told[:, :, None] * both[:, None, :]).reshape(len(outputs), -1)
        return found
    if isinstance(ready, ClippedPair):
        raise TypeError(f"a {spec.kind} release clips vector and label together")
    grid = spec.codebook.clip.grid if isinstance(spec, JointCodebookSpec) else spec.laplace.grid
    return ready.steps.astype(np.float64) * float(grid)
