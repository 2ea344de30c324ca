"""K-ary randomized response: a label that may be another one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from ldp_client.errors import ParameterError
from ldp_client.privacy.noise import ByteSource, coins, uniform_below
from ldp_client.privacy.proof import MADE, Made, frozen
from ldp_client.privacy.spec import RandomizedResponseSpec, advantage


@dataclass(frozen=True, eq=False)
class Labels:
    """Labels that lie in 0 .. classes - 1. Shape (N,).

    Raises:
        ParameterError: one does not, or the array is not one of int64; such an object never exists.
    """

    values: NDArray[np.int64]
    classes: int

    def __post_init__(self) -> None:
        if not isinstance(self.values, np.ndarray) or self.values.dtype != np.int64 or self.values.ndim != 1:
            found = (
                f"shape {self.values.shape} of {self.values.dtype}"
                if isinstance(self.values, np.ndarray)
                else type(self.values).__name__
            )
            raise ParameterError(f"labels are a (N,) array of int64, each the number of a label; found {found}")
        values = frozen(self.values)
        object.__setattr__(self, "values", values)
        if values.size and not 0 <= int(values.min()) <= int(values.max()) < self.classes:
            raise ParameterError(f"labels must lie in 0..{self.classes - 1}")


@dataclass(frozen=True, eq=False)
class NoisedLabels(Made):
    """What randomized response returned. Shape (N,)."""

    what: ClassVar[str] = "noised labels come from a mechanism; nothing else can be packed into a record"
    values: NDArray[np.int64]
    spec: RandomizedResponseSpec


@dataclass(frozen=True)
class RandomizedResponse:
    """The true label with probability p, else one of the K-1 others, all equally likely.

    epsilon = ln(p (K-1) / (1-p)). Every answer y has P(y) = q + (p - q) [y is true], q = (1-p) / (K-1), so
    ([y = j] - q) / (p - q) estimates [label = j] without bias.

    Reference: docs/privacy.md, Theorem 4.
    """

    spec: RandomizedResponseSpec

    def __call__(self, value: Labels, source: ByteSource) -> NoisedLabels:
        """Answer for each of (N,) labels with fresh randomness.

        Raises:
            ParameterError: the value is not `Labels`, or counts other classes than the spec.
        """
        if not isinstance(value, Labels):
            raise ParameterError(f"only Labels can be randomized; found {type(value).__name__}")
        if value.classes != self.spec.classes:
            raise ParameterError(f"there are {value.classes} labels, the mechanism expects {self.spec.classes}")
        kept = coins(self.spec.threshold, len(value.values), source)
        # One of the K-1 others, counted from the true one: drawn whether it is used or not.
        others = np.full(len(value.values), self.spec.classes - 1, dtype=np.int64)
        shift = uniform_below(others, source) + 1
        answers = np.where(kept, value.values, (value.values + shift) % self.spec.classes)
        return NoisedLabels(answers, self.spec, proof=MADE)


def decode(labels: NDArray[np.int64], spec: RandomizedResponseSpec) -> NDArray[np.float64]:
    """Unbiased estimate of each label's indicator: ([y = j] - q) / (p - q). Shape (N, K), rows of sum 1."""
    other = (2**64 - spec.threshold) / (2**64 * (spec.classes - 1))
    said = labels[:, None] == np.arange(spec.classes)
    estimate: NDArray[np.float64] = (said - other) / float(advantage(spec.classes, 1, spec.threshold))
    return estimate
