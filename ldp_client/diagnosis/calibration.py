"""From a score to a probability: what an evaluation at the sites has shown, as a document beside a classifier.

For labels a < b the curve of the pair says, for each range of the score difference d = s_b - s_a,

    P(label is b | label is a or b, d in the range),

measured on held-out X-rays of the sites that answered. Of two labels it is the probability of the second. Of more it
stays a comparison of two: the histogram of an evaluation counts pairs, and joining pairs into one distribution would
claim what nobody measured. It holds where labels are as frequent as in that evaluation, which the curve states.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from fractions import Fraction
from typing import Annotated, Literal

import numpy as np
from pydantic import Field, model_validator

from ldp_client.privacy.loss import PrivacyLoss
from ldp_client.privacy.spec import MAX_BINS
from ldp_client.wire.campaign import LabelName, Name, Unit
from ldp_client.wire.canonical import Digest, MicroEpsilon, Position, Wire
from ldp_client.wire.evaluation import Edge

MILLION = 1_000_000
PerMillion = Annotated[int, Field(ge=0, le=MILLION)]
"""A probability in millionths: a document has no floats."""


@dataclass(frozen=True)
class Probability:
    """P(`positive` | one of the two, the score) with an interval, for X-rays like those of the evaluation."""

    negative: str
    positive: str
    value: float
    low: float
    high: float


class PairCurve(Wire):
    """Probability of `positive` against `negative` by range of the score difference: G ranges, G - 1 edges.

    `probability` never falls from one range to the next; `low` and `high` bound it at 95 %, sampling and privacy noise
    together. `xrays` are the noised totals of the two labels, which say for which shares the probabilities hold.
    """

    negative: LabelName
    positive: LabelName
    edges: Annotated[tuple[Edge, ...], Field(max_length=MAX_BINS - 1)]
    probability: Annotated[tuple[PerMillion, ...], Field(min_length=1, max_length=MAX_BINS)]
    low: Annotated[tuple[PerMillion, ...], Field(max_length=MAX_BINS)]
    high: Annotated[tuple[PerMillion, ...], Field(max_length=MAX_BINS)]
    xrays: tuple[Position, Position]

    @model_validator(mode="after")
    def _a_curve(self) -> PairCurve:
        ranges = len(self.probability)
        if not len(self.edges) + 1 == len(self.low) == len(self.high) == ranges:
            raise ValueError(f"{ranges} probabilities need as many bounds on both sides and {ranges - 1} edges")
        values = [Fraction(edge) for edge in self.edges]
        if any(lower >= higher for lower, higher in itertools.pairwise(values)):
            raise ValueError("edges of a calibration ascend")
        if any(lower > higher for lower, higher in itertools.pairwise(self.probability)):
            raise ValueError("a larger score difference never makes the second label less probable")
        if any(not low <= one <= high for low, one, high in zip(self.low, self.probability, self.high, strict=True)):
            raise ValueError("each probability lies within its interval")
        return self

    @property
    def share(self) -> float:
        """Share of the second label among X-rays of the two."""
        return self.xrays[1] / sum(self.xrays)

    def of(self, difference: float) -> Probability:
        """The probability at a score difference; one on an edge belongs to the upper range."""
        place = int(np.searchsorted([float(Fraction(edge)) for edge in self.edges], difference, side="right"))
        value, low, high = (part[place] / MILLION for part in (self.probability, self.low, self.high))
        return Probability(self.negative, self.positive, value, low, high)


class Calibration(Wire):
    """Curves of pairs of labels, and the evaluation that they come from.

    `judged` is the digest of the bundle that the sites were sent: the same classifier, before it had this.
    """

    schema_version: Literal[1] = 1
    evaluation: Digest
    name: Name
    judged: Digest
    micro_epsilon_per_unit: MicroEpsilon
    unit: Unit
    sites: Position
    curves: Annotated[tuple[PairCurve, ...], Field(min_length=1, max_length=1 << 12)]

    def check_labels(self, label_names: tuple[str, ...]) -> None:
        """Return if the curves are of different pairs of these labels, each in their order.

        Raises:
            ValueError: they are not.
        """
        known = list(itertools.combinations(label_names, 2))
        found = [(curve.negative, curve.positive) for curve in self.curves]
        if len(set(found)) != len(found) or not set(found) <= set(known):
            raise ValueError("a calibration has at most one curve for each pair of the labels, in their order")

    def of(self, scores: dict[str, float]) -> tuple[Probability, ...]:
        """The probabilities that belong to an X-ray's scores, one for each curve."""
        return tuple(curve.of(scores[curve.positive] - scores[curve.negative]) for curve in self.curves)

    def lines(self) -> list[str]:
        """The calibration for people."""
        text = [
            f"probabilities: from evaluation {self.name} ({self.evaluation[:12]}), {self.sites} sites, epsilon "
            f"{PrivacyLoss(self.micro_epsilon_per_unit)} of each held-out {self.unit}"
        ]
        text += [
            f"{curve.positive} against {curve.negative}: they hold where {100 * curve.share:.0f} % of the X-rays of "
            f"the two are {curve.positive}, as among {sum(curve.xrays)} there (a noised count), and nowhere else"
            for curve in self.curves
        ]
        return text
