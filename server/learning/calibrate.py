"""From an evaluation's noised histograms to probabilities: isotonic regression that knows the noise.

Of labels a < b the histogram has n_i X-rays of a and m_i of b in bin i of s_b - s_a, both noised. Neighbouring bins are
joined until a group's total stands clear of its own noise; the curve is the non-decreasing p that minimises

    sum_g N_g (m_g / N_g - p_g)^2,     N_g = n_g + m_g  summed over the group,

so that each level of the curve is the ratio of unbiased sums. A record's release allows none of this: the mean of
records says where classes lie and not how far they overlap (docs/decisions/0049). Post-processing, which costs nothing.

Reference: Zadrozny and Elkan, Transforming classifier scores into accurate multiclass probability estimates, KDD 2002.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import isotonic_regression

from ldp_client.diagnosis.bundle import ClassifierBundle, ClassifierCard, read_bundle
from ldp_client.diagnosis.calibration import MILLION, Calibration, PairCurve
from ldp_client.errors import ConfigurationError
from ldp_client.privacy.histogram import noise_variance
from ldp_client.privacy.spec import HistogramSpec
from ldp_client.wire.evaluation import Evaluation, asked_id
from server.learning.evaluate import CLEAR, LEVEL, counted, drawn_noise, drawn_units, interval, pairs

CHANCE = 0.5
"""The AUC of scores that say nothing."""
LEAST = 10
"""X-rays of a group at least, however small the noise is."""
Floats = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Curve:
    """Groups of bins, each with its first bin, its noised total, its probability and the bounds of that, all (G,)."""

    first: NDArray[np.int64]
    totals: Floats
    probability: Floats
    low: Floats
    high: Floats


@dataclass(frozen=True)
class StatedError:
    """How far the probabilities that a classifier came with miss what an evaluation finds.

    `found` is sum_g N_g |m_g / N_g - p_g| / N over the curve's ranges; `by_chance` what sampling and privacy noise
    would make of it on average if all of them were right.
    """

    negative: str
    positive: str
    found: float
    by_chance: float


def calibrate(evaluation: Evaluation, answers: Mapping[str, bytes], *, level: float = LEVEL) -> Calibration | None:
    """The curve of each pair over all sites that the scores tell apart; None where that is none.

    A pair has no curve where the noise hides how many X-rays there are, or where the AUC may be 1/2 or less: the curve
    of scores that say nothing climbs all the same, as far as sampling and noise have put their largest ones high.

    Args:
        answers: the stored answer of each site.

    Raises:
        WaitingError: no site has answered yet.
        FormatError: a stored answer is not of this evaluation: the database was altered.
    """
    counts, sites = _together(evaluation, answers)
    curves = []
    for a, b, negative, positive, generator in pairs(evaluation, counts, "calibration"):
        told = (negative, positive, evaluation.histogram, evaluation.cap, sites, level, generator)
        _, low, *_ = interval(*told)
        found = None if low is None or low <= CHANCE else curve(*told)
        if found is not None:
            edges = tuple(evaluation.edges[start - 1] for start in found.first[1:])
            xrays = (int(negative.sum()), int(positive.sum()))
            parts = (found.probability, found.low, found.high)
            curves.append(_written(evaluation.label_names[a], evaluation.label_names[b], edges, parts, xrays))
    if not curves:
        return None
    return Calibration(
        evaluation=asked_id(evaluation),
        name=evaluation.name,
        judged=hashlib.sha256(evaluation.classifier).hexdigest(),
        micro_epsilon_per_unit=evaluation.micro_epsilon_per_unit,
        unit=evaluation.unit,
        sites=sites,
        curves=tuple(curves),
    )


def curve(
    negative: NDArray[np.int64],
    positive: NDArray[np.int64],
    spec: HistogramSpec,
    cap: int,
    sites: int,
    level: float,
    generator: np.random.Generator,
) -> Curve | None:
    """The curve of two noised rows (B,); None where the noise hides how many X-rays one of them has.

    The bounds are quantiles of a parametric bootstrap: from the fitted curve sets of units are drawn, each as `cap`
    equal X-rays, labels and ranges together, so that the shares of the labels vary as well; noise of the known
    distribution is added for each site, and the curve is fitted anew.
    """
    variance = sites * noise_variance(spec)
    if min(int(negative.sum()), int(positive.sum())) < CLEAR * math.sqrt(spec.bins * variance):
        return None
    first = _groups((negative + positive).astype(np.float64), 2 * variance)
    rows = [np.add.reduceat(row.astype(np.float64), first) for row in (negative, positive)]
    totals = rows[0] + rows[1]
    # Nobody is certain: no end says more than one X-ray of all that there are could contradict. The bounds may be, but
    # they suppose that each end's next unit could be of the other label: from 0 of 10 nothing else would follow.
    raw, certain = _fitted(rows[1], totals), 1 / (totals.sum() + 2)
    fitted = np.clip(raw, certain, 1 - certain)
    units = np.bincount(np.unique(raw, return_inverse=True)[1], weights=totals) / cap  # of each level of the curve
    supposed = np.where(raw == raw[0], np.maximum(fitted, 1 / (units[0] + 2)), fitted)
    supposed = np.where(raw == raw[-1], np.minimum(supposed, 1 - 1 / (units[-1] + 2)), supposed)
    cells = np.concatenate([totals * (1 - supposed), totals * supposed])
    drawn = drawn_units(cells, cap, generator)
    noise = [np.add.reduceat(drawn_noise(spec, sites, generator), first, axis=1) for _ in rows]
    again = np.split(drawn, 2, axis=1)
    replicates = np.array(
        [
            _fitted(one, np.maximum(both, 1.0))
            for one, both in zip(again[1] + noise[1], again[0] + noise[0] + again[1] + noise[1], strict=True)
        ]
    )
    low, high = np.quantile(replicates, [(1 - level) / 2, (1 + level) / 2], axis=0)
    return Curve(first, totals, fitted, np.minimum(low, fitted), np.maximum(high, fitted))


def _groups(totals: Floats, variance: float) -> NDArray[np.int64]:
    """The first bin of each group: neighbours are joined until their total stands clear of the noise in it."""
    first, held = [0], 0.0
    for place, total in enumerate(totals):
        bins = place - first[-1]
        if bins and held >= max(LEAST, CLEAR * math.sqrt(bins * variance)):
            first.append(place)
            held = 0.0
        held += total
    # What is left over joins the groups before it until it is clear too: all bins together are.
    while len(first) > 1 and held < max(LEAST, CLEAR * math.sqrt((len(totals) - first[-1]) * variance)):
        first.pop()
        held = float(totals[first[-1] :].sum())
    return np.array(first)


def _fitted(positive: Floats, totals: Floats) -> Floats:
    """The isotonic fit (G,) of positive / totals, weighted by totals, brought into 0..1."""
    found: Floats = isotonic_regression(positive / totals, weights=totals).x
    return np.clip(found, 0.0, 1.0)


def stated_errors(evaluation: Evaluation, answers: Mapping[str, bytes]) -> list[StatedError]:
    """How well the probabilities hold that the judged classifier came with; none for pairs that have none.

    Nor for a curve whose edges are not all edges of the evaluation's bins: its ranges could not be counted.

    Raises:
        WaitingError, FormatError: as `calibrate`.
        ClassifierError: the evaluation carries no classifier that this version can read.
    """
    counts, sites = _together(evaluation, answers)
    stated = read_bundle(evaluation.classifier, evaluation.weights).card.calibration
    if stated is None:
        return []
    known = {(one.negative, one.positive): one for one in stated.curves}
    places = {Fraction(edge): place + 1 for place, edge in enumerate(evaluation.edges)}
    found = []
    for a, b, negative, positive, generator in pairs(evaluation, counts, "calibration"):
        one = known.get((evaluation.label_names[a], evaluation.label_names[b]))
        if one is None or any(Fraction(edge) not in places for edge in one.edges):
            continue
        first = np.array([0, *(places[Fraction(edge)] for edge in one.edges)])
        rows = [np.add.reduceat(row.astype(np.float64), first) for row in (negative, positive)]
        count, p = rows[0] + rows[1], np.array(one.probability) / MILLION
        if count.sum() < CLEAR * math.sqrt(
            2 * sites * evaluation.histogram.bins * noise_variance(evaluation.histogram)
        ):
            continue
        possible = np.maximum(count, 0.0)
        drawn = drawn_units(np.concatenate([possible * (1 - p), possible * p]), evaluation.cap, generator)
        noise = [np.add.reduceat(drawn_noise(evaluation.histogram, sites, generator), first, axis=1) for _ in rows]
        again = [part + more for part, more in zip(np.split(drawn, 2, axis=1), noise, strict=True)]
        total = np.maximum((again[0] + again[1]).sum(1), 1.0)
        chance = np.abs(again[1] - p * (again[0] + again[1])).sum(1) / total
        error = float(np.abs(rows[1] - p * count).sum() / count.sum())
        found.append(StatedError(one.negative, one.positive, error, float(chance.mean())))
    return found


def calibrated(
    card: ClassifierCard, weights: bytes, evaluation: Evaluation, answers: Mapping[str, bytes]
) -> ClassifierCard:
    """A card with the probabilities that an evaluation of the same classifier gave.

    Args:
        weights: the bytes of the classifier's arrays, if its kind has some.

    Raises:
        ConfigurationError: the evaluation judged another classifier, or there is no curve of any pair.
        WaitingError, FormatError: as `calibrate`.
    """
    judged = judged_bundle(evaluation).card
    same = (judged.model, judged.encoder, judged.label_names) == (card.model, card.encoder, card.label_names)
    if not same or judged.weights_sha256 != (hashlib.sha256(weights).hexdigest() if weights else None):
        raise ConfigurationError(
            f"--calibration: evaluation {evaluation.name} judged another classifier than the one learnt now, from "
            f"other records or by other options; `ldp-server model calibrate {evaluation.name}` writes the one that it "
            "judged with its probabilities, or publish an evaluation of the new one"
        )
    found = calibrate(evaluation, answers)
    if found is None:
        raise ConfigurationError(
            f"--calibration: evaluation {evaluation.name} gives no probabilities, since its noise hides how many "
            "X-rays there are, or its scores may say nothing of the labels or rank them the wrong way round; "
            f"`ldp-server evaluate report {evaluation.name}` shows which. Noise is less with more sites or more epsilon"
        )
    return card.model_copy(update={"calibration": found})


def judged_bundle(evaluation: Evaluation) -> ClassifierBundle:
    """The classifier that an evaluation carries.

    Raises:
        ClassifierError: it carries none that this version can read.
    """
    return read_bundle(evaluation.classifier, evaluation.weights)


def _together(evaluation: Evaluation, answers: Mapping[str, bytes]) -> tuple[NDArray[np.int64], int]:
    """The counts (K (K-1), B) of all sites that answered, and how many those are."""
    counts = counted(evaluation, answers)
    found: NDArray[np.int64] = np.sum(list(counts.values()), axis=0)
    return found, len(counts)


def _written(
    negative: str, positive: str, edges: tuple[str, ...], parts: tuple[Floats, Floats, Floats], xrays: tuple[int, int]
) -> PairCurve:
    value, low, high = (np.round(part * MILLION).astype(int) for part in parts)
    return PairCurve(
        negative=negative,
        positive=positive,
        edges=edges,
        probability=tuple(value.tolist()),
        low=tuple(low.tolist()),
        high=tuple(high.tolist()),
        xrays=xrays,
    )
