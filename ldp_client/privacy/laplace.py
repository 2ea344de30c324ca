"""The discrete Laplace mechanism, and the estimator that undoes its bias: there is none to undo."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from ldp_client.errors import ParameterError
from ldp_client.privacy.clipping import Clipped
from ldp_client.privacy.noise import ByteSource, discrete_laplace
from ldp_client.privacy.proof import MADE, Made
from ldp_client.privacy.spec import DiscreteLaplaceSpec


@dataclass(frozen=True, eq=False)
class Noised(Made):
    """What a mechanism returned, in grid steps. Shape (N, d). Only this can be packed, only a mechanism makes it."""

    what: ClassVar[str] = "noised vectors come from a mechanism; nothing else can be packed into a record"
    steps: NDArray[np.int64]
    spec: DiscreteLaplaceSpec


@dataclass(frozen=True)
class DiscreteLaplace:
    """y = k + Y with P(Y = y) proportional to exp(-|y| / scale), independently per coordinate.

    epsilon = sensitivity / scale for any two inputs. E[y] = k; Var[y_i] = 2q / (1-q)^2 with q = exp(-1/scale), not the
    2 scale^2 of the continuous distribution.

    Reference: docs/privacy.md, Theorem 1; Ghosh, Roughgarden, Sundararajan (2009).
    """

    spec: DiscreteLaplaceSpec

    def __call__(self, value: Clipped, source: ByteSource) -> Noised:
        """Noise each row of (N, d) steps with fresh randomness.

        Raises:
            ParameterError: the value is not `Clipped`, was clipped by another rule, or has another dimension, than the
                spec says.
        """
        if not isinstance(value, Clipped):
            raise ParameterError(f"only Clipped vectors can be noised; found {type(value).__name__}")
        if value.clip != self.spec.clip:
            raise ParameterError(f"the vector was clipped by {value.clip}, the mechanism expects {self.spec.clip}")
        if value.steps.shape[1] != self.spec.dimension:
            raise ParameterError(
                f"the vector has {value.steps.shape[1]} coordinates, the mechanism expects {self.spec.dimension}"
            )
        noise = discrete_laplace(self.spec.scale, value.steps.size, source).reshape(value.steps.shape)
        return Noised(value.steps + noise, self.spec, proof=MADE)


def noise_variance(spec: DiscreteLaplaceSpec) -> float:
    """Variance of each released coordinate around its clipped value, in squared encoder units: g^2 2q / (1-q)^2."""
    rate = float(1 / spec.scale)
    q = math.exp(-rate)
    # expm1 keeps 1 - q exact to the last digit when the scale is large.
    return float(spec.grid) ** 2 * 2 * q / math.expm1(-rate) ** 2


def decode(steps: NDArray[np.int64], spec: DiscreteLaplaceSpec) -> NDArray[np.float64]:
    """Unbiased estimate of the clipped vectors in encoder units: steps * grid. Shape (N, d)."""
    return steps.astype(np.float64) * float(spec.grid)
