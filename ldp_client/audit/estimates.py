"""Lower bounds on epsilon from samples: each mechanism on the two inputs between which it gives away most.

Before anything is drawn, an event is fixed that is as much likelier for one input than for the other as the mechanism
allows: a label that is the true one, a coordinate that does not lie between both inputs. For noise of scale s,
P(w >= v_i) / P'(w >= v_i) = exp((v_i - v'_i) / s) on each coordinate, so over all of them the ratio is
exp(|v - v'|_1 / s): all of epsilon where the two inputs lie at opposite ends of the clip. What goes in lies far outside
the clip, with NaN and infinities beside the numbers, so that the clip is measured together with the noise.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from fractions import Fraction

import numpy as np
from numpy.typing import NDArray

from ldp_client.audit.bounds import epsilon_lower_bound
from ldp_client.audit.engine import Engine, Integers
from ldp_client.audit.findings import ALPHA, Bound, Effort
from ldp_client.audit.fit import chunks
from ldp_client.privacy.histogram import histogram
from ldp_client.privacy.noise import ByteSource
from ldp_client.privacy.release_design import randomized_response
from ldp_client.privacy.spec import BoxClip, DiscreteLaplaceSpec, L1Clip

GRID = Fraction(1, 1024)
BEYOND = 1e6
"""Far outside every clip of this audit."""


@dataclass(frozen=True)
class Case:
    """One mechanism and two of its inputs: `hits(which, count)` counts the event in `count` outputs of one of them."""

    mechanism: str
    claimed: float
    samples: int
    hits: Callable[[int, int], int]


def measure(case: Case) -> Bound:
    """The Clopper-Pearson lower bound of one case, at ALPHA."""
    seen, false = (sum(case.hits(which, size) for size in chunks(case.samples)) for which in (0, 1))
    bound = epsilon_lower_bound(seen, false, case.samples, ALPHA)
    return Bound(case.mechanism, case.claimed, bound, case.samples, bound <= case.claimed)


def mechanism_cases(engine: Engine, effort: Effort, source: ByteSource) -> Iterable[Case]:
    """Each mechanism alone; the codebook is measured in its release and enumerated in `enumeration`."""
    yield laplace_case(engine, effort.draws, source)
    yield laplace_case(engine, effort.draws, source, by_sign=True)
    yield box_case(engine, effort.draws, source)
    yield response_case(engine, 2, 1, effort.draws, source)
    yield response_case(engine, 5, 3, effort.draws, source)
    yield histogram_case(engine, effort.records // 4, source)


def laplace_case(engine: Engine, samples: int, source: ByteSource, by_sign: bool = False) -> Case:
    """Discrete Laplace on an L1 ball; one coordinate carries the whole change, others are no numbers.

    Its sign alone is a weaker event, but one that survives whatever is done to the magnitude after the noise.
    """
    spec = DiscreteLaplaceSpec(clip=L1Clip(radius_steps=1000), dimension=4, scale=Fraction(2000), grid=GRID)
    name = "discrete Laplace, L1 ball" + (", sign alone" if by_sign else "")
    return _vector(name, engine, spec, samples, source, 1 if by_sign else spec.clip.largest_steps)


def box_case(engine: Engine, samples: int, source: ByteSource) -> Case:
    """Discrete Laplace on a box of one coordinate, which carries the whole change."""
    spec = DiscreteLaplaceSpec(clip=BoxClip(bound_steps=3), dimension=1, scale=Fraction(3, 2), grid=GRID)
    return _vector("discrete Laplace, box", engine, spec, samples, source, spec.clip.largest_steps)


def response_case(engine: Engine, classes: int, epsilon: int, samples: int, source: ByteSource) -> Case:
    """Randomized response: label 0 against label 1, read as "it said 0"."""
    spec = randomized_response(epsilon=epsilon, classes=classes)

    def hits(which: int, count: int) -> int:
        answers = engine.respond(spec, np.full(count, which, dtype=np.int64), source)
        return int(np.count_nonzero(answers == 0))

    return Case(f"randomized response, {classes} labels", float(engine.loss(spec)), samples, hits)


def histogram_case(engine: Engine, samples: int, source: ByteSource) -> Case:
    """A unit with three times as many X-rays as the cap, all in one cell or all in another; another unit beside it."""
    spec = histogram(epsilon=2, classes=2, bins=2, cap=3)
    many = 3 * spec.cap
    units = ["one"] * many + ["other"]
    labels = [np.array([label] * many + [0], dtype=np.int64) for label in (0, 1)]
    bins = np.zeros(len(units), dtype=np.int64)

    def hits(which: int, count: int) -> int:
        found = 0
        for _ in range(count):
            noised = engine.histogram(spec, units, labels[which], bins, source)
            found += bool(noised[0, 0] >= spec.cap + 1 and noised[1, 0] <= 0)
        return found

    return Case("histogram, all X-rays of one unit", float(engine.loss(spec)), samples, hits)


def beyond(steps: Integers, first: Integers, second: Integers) -> NDArray[np.bool_]:
    """Rows (N,) none of whose coordinates lies between the two inputs or on the second one's side."""
    up, down = (steps >= first) | (first <= second), (steps <= first) | (first >= second)
    rows: NDArray[np.bool_] = np.all(up & down, axis=1)
    return rows


def _vector(name: str, engine: Engine, spec: DiscreteLaplaceSpec, samples: int, source: ByteSource, least: int) -> Case:
    """Far beyond the clip on one side against the other; the event is a first coordinate of at least `least`."""
    outputs = np.zeros((2, spec.dimension))
    outputs[:, 1:2], outputs[:, 2:3] = np.nan, np.inf
    outputs[0, 0], outputs[1, 0] = BEYOND, -BEYOND

    def hits(which: int, count: int) -> int:
        drawn = engine.laplace(spec, np.repeat(outputs[which : which + 1], count, axis=0), source)
        return int(np.count_nonzero(drawn[:, 0] >= least))

    return Case(name, float(engine.loss(spec)), samples, hits)
