"""Exact binomial bounds: how small or large a probability can be, given what was counted.

Clopper and Pearson (1934): of n independent trials k succeeded. The lower bound is the p with P(Bin(n, p) >= k) =
alpha; the true probability lies below it in at most a share alpha of all experiments, whatever it is. No normal
approximation is made anywhere: the tails are summed term by term.
"""

from __future__ import annotations

import math

import numpy as np

_TERMS = 4096
_HALVINGS = 200


def upper_tail(successes: int, trials: int, probability: float) -> float:
    """P(X >= successes) for X ~ Bin(trials, probability).

    >>> upper_tail(2, 2, 0.5), upper_tail(0, 2, 0.5), upper_tail(3, 2, 0.5)
    (0.25, 1.0, 0.0)
    """
    if successes <= 0:
        return 1.0
    if successes > trials or probability <= 0.0:
        return 0.0
    if probability >= 1.0:
        return 1.0
    if successes <= trials * probability:
        # Below the mean the terms still grow: sum the other side, whose terms shrink.
        return 1.0 - upper_tail(trials - successes + 1, trials, 1.0 - probability)
    first = (
        math.lgamma(trials + 1)
        - math.lgamma(successes + 1)
        - math.lgamma(trials - successes + 1)
        + successes * math.log(probability)
        + (trials - successes) * math.log1p(-probability)
    )
    odds = probability / (1.0 - probability)
    total, term, place = 0.0, 1.0, successes
    while place <= trials:
        steps = np.arange(place, min(place + _TERMS, trials + 1), dtype=np.float64)
        # P(X = j + 1) / P(X = j) = (n - j) / (j + 1) * odds
        ratios = np.cumprod((trials - steps) / (steps + 1.0) * odds)
        total += term * (1.0 + float(ratios[:-1].sum()))
        term *= float(ratios[-1])
        place += len(steps)
        if term < 1e-17 * total:
            break
    return min(1.0, math.exp(first) * total)


def lower_bound(successes: int, trials: int, alpha: float) -> float:
    """The Clopper-Pearson lower bound of a probability at confidence 1 - alpha.

    >>> lower_bound(0, 100, 1e-8), round(lower_bound(100, 100, 0.01), 6)
    (0.0, 0.954993)
    """
    low, high = 0.0, successes / trials
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        if not low < middle < high:
            break
        if upper_tail(successes, trials, middle) < alpha:
            low = middle
        else:
            high = middle
    return low


def upper_bound(successes: int, trials: int, alpha: float) -> float:
    """The Clopper-Pearson upper bound of a probability at confidence 1 - alpha."""
    return 1.0 - lower_bound(trials - successes, trials, alpha)


def p_value(successes: int, trials: int, probability: float) -> float:
    """Twice the smaller tail, at most 1: below alpha in at most a share alpha of experiments with this probability."""
    above = upper_tail(successes, trials, probability)
    below = upper_tail(trials - successes, trials, 1.0 - probability)
    return min(1.0, 2.0 * min(above, below))


def epsilon_lower_bound(hits: int, false_hits: int, trials: int, alpha: float) -> float:
    """How large epsilon is at least, when an event was seen `hits` times for one input and `false_hits` for another.

    epsilon >= ln(P(event | one) / P(event | other)); the numerator is bounded from below and the denominator from
    above, each at alpha / 2, so the result exceeds the true epsilon in at most a share alpha of all experiments. The
    event must have been fixed before the trials.

    Reference: Jagielski, Ullman, Oprea (2020), section 4.
    """
    numerator = lower_bound(hits, trials, alpha / 2)
    if numerator <= 0.0:
        return 0.0
    return max(0.0, math.log(numerator / upper_bound(false_hits, trials, alpha / 2)))
