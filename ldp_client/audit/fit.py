"""Goodness of fit: do samples have the distribution that the proof assumes?

Each check looks at many events whose probabilities are known, and tests each with the exact binomial distribution; the
smallest p-value, times the number of events (Bonferroni), is the check's.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from fractions import Fraction

import numpy as np

from ldp_client.audit.bounds import p_value
from ldp_client.audit.engine import Engine, Integers
from ldp_client.audit.findings import Effort, Fit
from ldp_client.privacy.codebook import nearest
from ldp_client.privacy.noise import ByteSource
from ldp_client.privacy.release_design import randomized_response
from ldp_client.privacy.spec import MAX_DIRECTION_STEPS, CodebookSpec, DirectionClip, threshold_for

SCALES = tuple(Fraction(text) for text in ("0.3", "1", "2.5", "10", "12.5", "1000/3", "12345.678"))
_LEVELS = 65


def below(edge: int, scale: float) -> float:
    """P(Y <= y): q^-y / (1 + q) for y < 0, and 1 - q^(y+1) / (1 + q) from 0 on, q = exp(-1/scale).

    >>> round(below(-1, 1.0) + below(-1, 1.0) + (1 - math.exp(-1)) / (1 + math.exp(-1)), 12)
    1.0
    """
    one_plus_q = 1.0 + math.exp(-1.0 / scale)
    return math.exp(edge / scale) / one_plus_q if edge < 0 else 1.0 - math.exp(-(edge + 1) / scale) / one_plus_q


def fit_noise(engine: Engine, scale: Fraction, samples: int, source: ByteSource) -> Fit:
    """The sampler at one scale: cells, tails on both sides, and the lowest bit."""
    drawn = engine.noise(scale, samples, source)
    width = float(scale)
    edges = _edges(width)
    counts = np.searchsorted(np.sort(drawn), edges, side="right")  # draws at or below each edge
    events = [(int(count), below(int(edge), width)) for edge, count in zip(edges, counts, strict=True)]
    events += [
        (int(high - low), below(int(right), width) - below(int(left), width))
        for left, right, low, high in zip(edges, edges[1:], counts, counts[1:], strict=False)
    ]
    # P(|Y| odd) = 2q / (1 + q)^2: a bit that is stuck moves no quantile of a wide distribution.
    q = math.exp(-1 / width)
    events.append((int(np.count_nonzero(drawn & 1)), 2 * q / (1 + q) ** 2))
    return _fit(f"discrete Laplace noise, scale {float(scale):.8g}", samples, events)


def fit_coins(engine: Engine, samples: int, source: ByteSource) -> Fit:
    """Coins of 64-bit thresholds, and uniform integers below bounds that do not divide 2^32."""
    events: list[tuple[int, float]] = []
    for epsilon in (Fraction(1, 10), Fraction(1), Fraction(5)):
        threshold = threshold_for(epsilon, 2, 1)
        events.append((int(np.count_nonzero(engine.coins(threshold, samples, source))), threshold / 2**64))
    for bound in (2, 3, 7, 1000):
        drawn = engine.uniform(np.full(samples, bound, dtype=np.int64), source)
        events += [(int(count), 1 / bound) for count in np.bincount(drawn, minlength=bound)]
    return _fit("coins and uniform integers", samples, events)


def fit_response(engine: Engine, classes: int, samples: int, source: ByteSource) -> Fit:
    """Randomized response: every answer to one label."""
    spec = randomized_response(epsilon=1, classes=classes)
    truth = classes - 1
    answers = engine.respond(spec, np.full(samples, truth, dtype=np.int64), source)
    keep = spec.threshold / 2**64
    odds = [keep if label == truth else (1 - keep) / (classes - 1) for label in range(classes)]
    counts = np.bincount(answers, minlength=classes)
    return _fit(f"randomized response, {classes} labels", samples, list(zip(counts.tolist(), odds, strict=True)))


def fit_codebook(engine: Engine, samples: int, source: ByteSource) -> Fit:
    """The codebook's index: how often it is near, and uniform within and outside the near ones."""
    spec = CodebookSpec(
        clip=DirectionClip(radius_steps=MAX_DIRECTION_STEPS),
        dimension=2,
        codewords=16,
        subset=4,
        threshold=threshold_for(Fraction(1), 16, 4),
    )
    seed = bytes(range(32))
    direction = np.array([[0.8, -0.6]])
    near = nearest(spec, engine.clipped(spec.clip, spec.clip.grid, direction), [seed])[0]
    counts = np.zeros(spec.codewords, dtype=np.int64)
    for size in chunks(samples):
        indices = engine.choose(spec, np.repeat(direction, size, axis=0), [seed] * size, source)
        counts += np.bincount(indices, minlength=spec.codewords)
    keep = spec.threshold / 2**64
    odds = np.where(near, keep / spec.subset, (1 - keep) / (spec.codewords - spec.subset))
    events = [(int(count), float(chance)) for count, chance in zip(counts, odds, strict=True)]
    events.append((int(counts[near].sum()), keep))
    return _fit("codebook index", samples, events)


def fits(engine: Engine, effort: Effort, source: ByteSource) -> Iterable[Fit]:
    """All of them."""
    for scale in SCALES:
        yield fit_noise(engine, scale, effort.draws, source)
    yield fit_coins(engine, effort.draws, source)
    for classes in (2, 5):
        yield fit_response(engine, classes, effort.draws, source)
    yield fit_codebook(engine, effort.records, source)


def chunks(total: int, size: int = 50_000) -> Iterable[int]:
    """A total in parts that fit the memory of a small machine."""
    for start in range(0, total, size):
        yield min(size, total - start)


def _edges(scale: float) -> Integers:
    """Where the distribution has its 65 quantiles, and the tails out to e^-12."""
    levels = np.arange(1, _LEVELS) / _LEVELS
    middle = -np.sign(levels - 0.5) * np.log(2 * np.minimum(levels, 1 - levels)) * scale
    tails = np.array([-12, -10, -8, -6, 6, 8, 10, 12]) * scale
    every = np.arange(-8, 9) if scale < 20 else np.array([-1, 0])
    return np.unique(np.rint(np.concatenate([middle, tails, every])).astype(np.int64))


def _fit(what: str, samples: int, events: list[tuple[int, float]]) -> Fit:
    smallest = min(p_value(count, samples, probability) for count, probability in events)
    return Fit(what, samples, len(events), min(1.0, smallest * len(events)))
