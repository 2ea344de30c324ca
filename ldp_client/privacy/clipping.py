"""From the encoder's floats to clipped integers: the last place where a float is seen.

The sensitivity that a mechanism claims is a fact about integers: whatever the encoder did (NaN, infinities, a different
BLAS), what comes out of `clip` lies in the ball, because `Clipped` cannot be made otherwise.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction

import numpy as np
from numpy.typing import NDArray

from ldp_client.errors import ParameterError
from ldp_client.privacy.spec import MAX_DIMENSION, MAX_STEPS, L1Clip


def to_grid(values: NDArray[np.floating], grid: Fraction) -> NDArray[np.int64]:
    """Round to whole steps of `grid`: NaN and infinities become 0, magnitudes saturate at 2^31 - 1 steps.

    An error instead of a 0 would tell the reader of the logs something about an X-ray; a 0 is just another record.
    """
    # A warning would be written for some X-rays and not for others (signalling NaN, overflow, subnormal numbers).
    with np.errstate(all="ignore"):
        finite = np.nan_to_num(np.asarray(values, dtype=np.float64), nan=0.0, posinf=0.0, neginf=0.0)
        steps = np.rint(finite * (grid.denominator / grid.numerator))
    return np.clip(steps, -MAX_STEPS, MAX_STEPS).astype(np.int64)


@dataclass(frozen=True, eq=False)
class Clipped:
    """Integer vectors, one per row, that lie in their clip's ball. Shape (N, d).

    Raises:
        ParameterError: a row does not, or the array is not int64; such an object never exists.
    """

    steps: NDArray[np.int64]
    clip: L1Clip

    def __post_init__(self) -> None:
        if self.steps.dtype != np.int64 or self.steps.ndim != 2 or self.steps.shape[1] > MAX_DIMENSION:
            raise ParameterError("clipped vectors are a (N, d) array of int64")
        frozen = self.steps.copy()
        frozen.flags.writeable = False
        object.__setattr__(self, "steps", frozen)
        # Two comparisons instead of abs(): the absolute value of the most negative integer is negative.
        if (
            np.any(frozen > MAX_STEPS)
            or np.any(frozen < -MAX_STEPS)
            or np.any(l1_norm(frozen) > self.clip.radius_steps)
        ):
            raise ParameterError(f"a vector lies outside the L1 ball of {self.clip.radius_steps} steps")


def l1_norm(steps: NDArray[np.int64]) -> NDArray[np.int64]:
    """Sum of magnitudes of each row; exact for entries up to 2^31 - 1 and up to 2^20 of them. Shape (N,)."""
    norm: NDArray[np.int64] = np.sum(np.abs(steps), axis=1, dtype=np.int64)
    return norm


def clip(steps: NDArray[np.int64], rule: L1Clip) -> Clipped:
    """Shrink each row towards 0 until sum_i |k_i| <= R: k_i -> sign(k_i) floor(|k_i| R / sum_j |k_j|).

    Truncation can only shrink, so the bound holds on the integers that are noised.

    Raises:
        ParameterError: the steps are not int64, in which alone no magnitude and no product here can wrap.
    """
    if steps.dtype != np.int64:
        raise ParameterError(f"clipping takes the int64 steps that to_grid returns; found {steps.dtype}")
    bounded = np.clip(steps, -MAX_STEPS, MAX_STEPS)
    norm = l1_norm(bounded)[:, None]
    # |k| <= 2^31 - 1 and R <= 2^31 - 1: the product fits an int64.
    shrunk = np.sign(bounded) * (np.abs(bounded) * rule.radius_steps // np.maximum(norm, 1))
    return Clipped(np.where(norm > rule.radius_steps, shrunk, bounded), rule)
