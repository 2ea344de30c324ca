"""Exact bounds on epsilon: every output's probability as a fraction of integers, and no sample anywhere.

Randomized response reads one 64-bit word for its coin and one 32-bit word for its choice; a codebook reads a choice for
either side, whichever the coin chose. Both are handed words from a script: the largest word that is still heads and the
smallest that is tails, and every choice in turn; the choice that the coin leaves unused is the first one and the last
one in turns, for it must not matter. What comes out, weighted by how many words do the same, is the distribution of the
mechanism that runs; one that reads its words in another way leaves outputs without any weight and is refused. The worst
ratio of two inputs is compared with the claim as integers.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from fractions import Fraction

import numpy as np

from ldp_client.audit.engine import Engine, Floats, Integers
from ldp_client.audit.findings import Bound, Effort
from ldp_client.errors import VerificationError
from ldp_client.privacy.loss import MICRO, PrivacyLoss
from ldp_client.privacy.noise import ByteSource
from ldp_client.privacy.spec import MAX_DIRECTION_STEPS, CodebookSpec, DirectionClip, RandomizedResponseSpec
from ldp_client.wire.record import codebook_seed

WORDS = 2**64
Distribution = list[Fraction]

_CODEBOOKS = ((1, 2, 1, 1, 1), (4, 16, 4, 1, 8), (8, 64, 13, 2, 4), (8, 1024, 150, 4, 1))
"""Dimension, codewords, subset, epsilon, and how many seeds."""
_RESPONSES = ((2, Fraction(1, 2)), (2, Fraction(2)), (5, Fraction(1)), (14, Fraction(8)))


def scripted(*parts: bytes) -> ByteSource:
    """Bytes from a script, handed out in order."""
    data, place = b"".join(parts), 0

    def take(count: int) -> bytes:
        nonlocal place
        place += count
        if place > len(data):
            raise VerificationError("a mechanism reads more random bytes than it documents; it cannot be enumerated")
        return data[place - count : place]

    return take


def directions(dimension: int) -> Floats:
    """Encoder outputs of every bad and good kind. Shape (N, d)."""
    rows = np.zeros((10, dimension))
    rows[0] = np.nan
    rows[2] = 1.0  # all equal
    rows[3] = -1.0
    rows[4, 0] = np.inf
    rows[5] = 5e-324
    rows[6] = np.where(np.arange(dimension) % 2, 1e308, -1e308)
    rows[7, -1] = 1.0
    rows[8] = np.arange(1, dimension + 1)
    rows[9] = -rows[8]
    return rows


def codebook_distribution(engine: Engine, spec: CodebookSpec, output: Floats, seed: bytes) -> Distribution:
    """P(index) for one direction and one seed."""
    inside, outside = spec.subset, spec.codewords - spec.subset
    near, far = [*range(inside)] * 2, [*range(outside)] * 2
    indices = engine.choose(
        spec,
        np.repeat(output[None, :], 2 * spec.codewords, axis=0),
        [seed] * (2 * spec.codewords),
        scripted(
            _words([spec.threshold - 1] * len(near) + [spec.threshold] * len(far), "<u8"),
            _words(near + _ends(inside, outside), "<u4"),
            _words(_ends(outside, inside) + far, "<u4"),
        ),
    )
    return _weighed(indices, len(near), len(far), spec.threshold, spec.codewords)


def response_distribution(engine: Engine, spec: RandomizedResponseSpec, label: int) -> Distribution:
    """P(answer) for one label."""
    others = spec.classes - 1
    heads = _ends(others, 1)  # the choice that heads leave unused, at its first and its last place
    coins = [spec.threshold - 1] * len(heads) + [spec.threshold] * others
    answers = engine.respond(
        spec,
        np.full(len(coins), label, dtype=np.int64),
        scripted(_words(coins, "<u8"), _words([*heads, *range(others)], "<u4")),
    )
    return _weighed(answers, len(heads), others, spec.threshold, spec.classes)


def codebook_bound(engine: Engine, dimension: int, codewords: int, subset: int, epsilon: int, seeds: int) -> Bound:
    """The worst ratio over all pairs of directions and all indices, for each of some seeds."""
    threshold = engine.threshold(Fraction(epsilon), codewords, subset)
    clip = DirectionClip(radius_steps=MAX_DIRECTION_STEPS)
    spec = CodebookSpec(clip=clip, dimension=dimension, codewords=codewords, subset=subset, threshold=threshold)
    outputs = directions(dimension)
    worst: Fraction | None = Fraction(1)
    for number in range(seeds):
        seed = codebook_seed("audit", "enumeration", number)
        found = _worst([codebook_distribution(engine, spec, output, seed) for output in outputs])
        worst = None if worst is None or found is None else max(worst, found)
    return _bound(
        f"codebook, {codewords} codewords, d = {dimension}", engine.loss(spec), PrivacyLoss.of(epsilon), worst
    )


def response_bound(engine: Engine, classes: int, epsilon: Fraction) -> Bound:
    """The worst ratio over all pairs of labels and all answers."""
    spec = RandomizedResponseSpec(classes=classes, threshold=engine.threshold(epsilon, classes, 1))
    drawn = [response_distribution(engine, spec, label) for label in range(classes)]
    name = f"randomized response, {classes} labels, epsilon {epsilon}"
    return _bound(name, engine.loss(spec), PrivacyLoss.of(epsilon), _worst(drawn))


def coin_bound(engine: Engine) -> Bound:
    """Heads for exactly `threshold` of all 2^64 words: tried where it changes, at 0 and at the last word."""
    spec = RandomizedResponseSpec(classes=2, threshold=engine.threshold(Fraction(1), 2, 1))
    threshold = spec.threshold
    heads = engine.coins(threshold, 4, scripted(_words([0, threshold - 1, threshold, WORDS - 1], "<u8")))
    right = heads.tolist() == [True, True, False, False]
    worst = Fraction(threshold, WORDS - threshold) if right else None
    return _bound("coin of a 64-bit threshold", engine.loss(spec), PrivacyLoss.of(1), worst)


def enumerations(engine: Engine, effort: Effort) -> Iterable[Bound]:
    """All of them that the effort covers."""
    yield coin_bound(engine)
    for classes, asked in _RESPONSES:
        yield response_bound(engine, classes, asked)
    for dimension, codewords, subset, epsilon, seeds in _CODEBOOKS:
        if codewords <= effort.enumerated:
            yield codebook_bound(engine, dimension, codewords, subset, epsilon, seeds)


def _words(numbers: Sequence[int], kind: str) -> bytes:
    return np.array(numbers, dtype=kind).tobytes()


def _ends(side: int, times: int) -> list[int]:
    """The first and the last choice of a side, each so many times."""
    return [0] * times + [side - 1] * times


def _weighed(said: Integers, heads: int, tails: int, threshold: int, outputs: int) -> Distribution:
    """Each scripted output stands for all words that do the same: threshold / heads of 2^64, or the rest / tails."""
    weights = [Fraction(0)] * outputs
    for row, one in enumerate(said.tolist()):
        weights[one] += Fraction(threshold, heads) if row < heads else Fraction(WORDS - threshold, tails)
    return weights


def _worst(distributions: Sequence[Distribution]) -> Fraction | None:
    """The largest ratio of two inputs' probabilities of one output; None where one of them is 0."""
    worst = Fraction(1)
    for column in zip(*distributions, strict=True):
        low, high = min(column), max(column)
        if low == 0 and high > 0:
            return None
        worst = max(worst, high / low) if high else worst
    return worst


def _bound(name: str, stated: PrivacyLoss, asked: PrivacyLoss, worst: Fraction | None) -> Bound:
    """Against what the spec states and what was asked for: of the two, the smaller."""
    claimed = min(stated, asked)
    if worst is None:
        return Bound(name, float(claimed), float("inf"), 0, holds=False)
    least = PrivacyLoss.of_log(worst)  # the smallest whole millionth that is not below ln(worst)
    return Bound(name, float(claimed), least.micro_epsilon / MICRO, 0, holds=least <= claimed)
