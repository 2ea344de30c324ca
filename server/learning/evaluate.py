"""How well a classifier does at the sites, from their noised histograms: AUC of each pair of classes, with an interval.

Of classes a < b the histogram has a row of X-rays of a and one of b, both by the score difference s_b - s_a. With the
counts n of the one, m of the other, and bins from low to high,

    AUC = sum_ij w_ij n_i m_j / (sum_i n_i sum_j m_j),    w_ij = 1 for i < j, 1/2 for i = j, else 0.

The noise of the two rows is independent with mean 0, so numerator and denominator are estimated without bias from the
noised counts as they are, negative ones too. It is post-processing, which costs nothing.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import combinations
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

from ldp_client.diagnosis.scoring import pair_rows
from ldp_client.errors import WaitingError
from ldp_client.privacy.histogram import noise_variance
from ldp_client.privacy.spec import HistogramSpec
from ldp_client.wire.answer import unpack_answer
from ldp_client.wire.evaluation import Evaluation, asked_id

REPEATS = 2000
LEVEL = 0.95
# Below this many standard deviations of its own noise, a row's total says nothing about how many X-rays it has.
CLEAR = 4.0


@dataclass(frozen=True)
class PairReport:
    """One pair of classes at one site, or at all of them together (`site` is None).

    `low` and `high` bound the AUC at the stated level, sampling and privacy noise together; `error` is the standard
    deviation of the estimate, `noise_error` what the privacy noise alone has in it. `xrays` are the noised totals of
    the two rows. Where the noise hides how many X-rays there are, all four numbers of the AUC are None.
    """

    site: str | None
    negative: str
    positive: str
    xrays: tuple[int, int]
    auc: float | None
    low: float | None
    high: float | None
    error: float | None
    noise_error: float | None


def report(evaluation: Evaluation, answers: Mapping[str, bytes], *, level: float = LEVEL) -> list[PairReport]:
    """A row for each pair and site, then for each pair over all sites.

    Args:
        answers: the stored answer of each site.

    Raises:
        WaitingError: no site has answered yet.
        FormatError: a stored answer is not of this evaluation: the database was altered.
    """
    counts = counted(evaluation, answers)
    rows = [one for site, found in counts.items() for one in _pairs(evaluation, site, found, 1, level)]
    together = np.sum(list(counts.values()), axis=0)
    return [*rows, *_pairs(evaluation, None, together, len(counts), level)]


def _pairs(
    evaluation: Evaluation, site: str | None, counts: NDArray[np.int64], sites: int, level: float
) -> list[PairReport]:
    names, found = evaluation.label_names, []
    for a, b, negative, positive, generator in pairs(evaluation, counts, str(site)):
        estimate = interval(negative, positive, evaluation.histogram, evaluation.cap, sites, level, generator)
        found.append(PairReport(site, names[a], names[b], (int(negative.sum()), int(positive.sum())), *estimate))
    return found


def counted(evaluation: Evaluation, answers: Mapping[str, bytes]) -> dict[str, NDArray[np.int64]]:
    """The noised counts (K (K-1), B) of each site that answered.

    Raises:
        WaitingError: no site has answered yet.
        FormatError: a stored answer is not of this evaluation: the database was altered.
    """
    if not answers:
        raise WaitingError(f"no site has answered evaluation {evaluation.name} yet; gather first")
    return {site: unpack_answer(payload, evaluation.histogram) for site, payload in sorted(answers.items())}


def pairs(
    evaluation: Evaluation, counts: NDArray[np.int64], purpose: str
) -> Iterator[tuple[int, int, NDArray[np.int64], NDArray[np.int64], np.random.Generator]]:
    """Each pair of labels a < b, the counts of either (B,), and a generator.

    It is the same for the same purpose and evaluation: what it draws is no release, but a public computation.
    """
    rows = {pair: row for row, pair in enumerate(pair_rows(len(evaluation.label_names)))}
    for a, b in combinations(range(len(evaluation.label_names)), 2):
        seed = hashlib.sha256(f"{asked_id(evaluation)} {purpose} {a} {b}".encode()).digest()
        yield a, b, counts[rows[a, b]], counts[rows[b, a]], np.random.default_rng(list(seed))


def auc(negative: NDArray[np.number], positive: NDArray[np.number]) -> NDArray[np.float64]:
    """AUC of counts by bin, (..., B) each, ties in a bin counted one half. Shape (...).

    Of noised counts it may lie outside 0..1: bringing it inside would take the noise's tail off.
    """
    n, m = negative.astype(np.float64), positive.astype(np.float64)
    below = np.cumsum(n, axis=-1) - n / 2
    values: NDArray[np.float64] = (below * m).sum(axis=-1) / (n.sum(axis=-1) * m.sum(axis=-1))
    return values


def interval(
    negative: NDArray[np.int64],
    positive: NDArray[np.int64],
    spec: HistogramSpec,
    cap: int,
    sites: int,
    level: float,
    generator: np.random.Generator,
) -> tuple[float | None, float | None, float | None, float | None, float | None]:
    """(AUC, low, high, standard error, that of the privacy noise alone) of two noised rows.

    The hull of two intervals, since either is too narrow somewhere. A parametric bootstrap: from the nearest counts
    that are possible, sets of units are drawn, each as `cap` equal X-rays, the most that X-rays of one unit can have in
    common; noise of the known distribution is added once for each site; the estimate is made again. How far that
    strays from what it was drawn from is turned around the estimate. Where nearly all X-rays are ranked right, few
    show how wrong the next may be: `_not_contradicted` asks which true AUC would stray so far.
    """
    deviation = math.sqrt(sites * spec.bins * noise_variance(spec))
    if min(int(negative.sum()), int(positive.sum())) < CLEAR * deviation:
        return None, None, None, None, None
    estimate = float(auc(negative, positive))
    likely = [_possible(row) for row in (negative, positive)]
    truth = float(auc(likely[0], likely[1]))
    drawn = [drawn_units(row, cap, generator) for row in likely]
    noise = [drawn_noise(spec, sites, generator) for _ in likely]
    again = _estimates(drawn[0] + noise[0], drawn[1] + noise[1]) - truth
    alone = _estimates(likely[0] + noise[0], likely[1] + noise[1]) - truth
    low, high = np.quantile(again, [(1 - level) / 2, (1 + level) / 2])
    units = [max(1.0, row.sum() / cap) for row in likely]
    within = min(1.0, max(0.0, estimate))
    least, most = _not_contradicted(within, units[0], units[1], float(np.var(alone)), level)
    return (
        within,
        min(least, max(0.0, min(1.0, estimate - float(high)))),
        max(most, min(1.0, max(0.0, estimate - float(low)))),
        float(np.std(again)),
        float(np.std(alone)),
    )


def _not_contradicted(estimate: float, n: float, m: float, noise: float, level: float) -> tuple[float, float]:
    """The least and the largest A in 0..1 from which an estimate in 0..1 lies no more than z standard deviations away.

    The variance of an AUC of n and m units, by Hanley and McNeil (Radiology 143, 1982) with (n + m) / 2 in place of
    either number less one as in Newcombe (Statistics in Medicine 25, 2006), and `noise` beside it:

        V(A) = A (1 - A) (1 + ((n + m) / 2 - 1) ((1 - A) / (2 - A) + A / (1 + A))) / (n m)
    """
    true = np.linspace(0, 1, 4001)
    alike = (1 - true) / (2 - true) + true / (1 + true)
    variance = true * (1 - true) * (1 + ((n + m) / 2 - 1) * alike) / (n * m) + noise
    near = true[(estimate - true) ** 2 <= NormalDist().inv_cdf((1 + level) / 2) ** 2 * variance]
    return (float(near.min()), float(near.max())) if len(near) else (estimate, estimate)


def _estimates(negative: NDArray[np.float64], positive: NDArray[np.float64]) -> NDArray[np.float64]:
    # A replicate in which the noise ate a whole row says nothing: it is counted as a guess.
    empty = (negative.sum(axis=1) <= 0) | (positive.sum(axis=1) <= 0)
    negative[empty], positive[empty] = 1.0, 1.0
    return auc(negative, positive)


def _possible(row: NDArray[np.int64]) -> NDArray[np.float64]:
    """The counts nearest to noised ones (in squares) that are not negative and have the same total, which is positive.

    Euclidean projection onto a simplex: a constant is taken off and what falls below 0 becomes 0.
    """
    values = np.sort(row.astype(np.float64))[::-1]
    excess = (np.cumsum(values) - row.sum()) / np.arange(1, len(values) + 1)
    kept = int(np.flatnonzero(values > excess)[-1])
    nearest: NDArray[np.float64] = np.maximum(row - excess[kept], 0.0)
    return nearest


def drawn_units(row: NDArray[np.float64], cap: int, generator: np.random.Generator) -> NDArray[np.float64]:
    """`REPEATS` sets of units like these, each unit `cap` X-rays in one bin. Shape (REPEATS, B)."""
    units = max(1, round(row.sum() / cap))
    drawn: NDArray[np.float64] = generator.multinomial(units, row / row.sum(), size=REPEATS).astype(np.float64)
    drawn *= row.sum() / units
    return drawn


def drawn_noise(spec: HistogramSpec, sites: int, generator: np.random.Generator) -> NDArray[np.float64]:
    """The sum of as many discrete Laplace variables as there are sites: differences of geometric ones."""
    stop = -math.expm1(-float(1 / spec.scale))
    total = np.zeros((REPEATS, spec.bins))
    for _ in range(sites):
        shape = total.shape
        total += generator.geometric(stop, size=shape) - generator.geometric(stop, size=shape)
    return total
