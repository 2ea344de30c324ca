"""From the encoder's floats to clipped integers: the last place where a float is seen.

The sensitivity that a mechanism claims is a fact about integers: whatever the encoder did (NaN, infinities, a different
BLAS), what comes out of `clip` lies in the ball, because `Clipped` cannot be made otherwise.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

import numpy as np
from numpy.typing import NDArray

from ldp_client.errors import ParameterError
from ldp_client.privacy.proof import frozen
from ldp_client.privacy.spec import MAX_DIMENSION, MAX_STEPS, BoxClip, DirectionClip, L1Clip

Clip = L1Clip | BoxClip | DirectionClip
# Squares of 2^20 steps, summed over the 2^12 coordinates that a direction may have, stay below 2^53.
_DIRECTION_STEPS = 2**20


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
    """Integer vectors, one per row, that are what their clip promises. Shape (N, d).

    Raises:
        ParameterError: a row is not, or the array is not int64; such an object never exists.
    """

    steps: NDArray[np.int64]
    clip: Clip

    def __post_init__(self) -> None:
        if self.steps.dtype != np.int64 or self.steps.ndim != 2 or self.steps.shape[1] > MAX_DIMENSION:
            raise ParameterError("clipped vectors are a (N, d) array of int64")
        steps = frozen(self.steps)
        object.__setattr__(self, "steps", steps)
        # Two comparisons instead of abs(): the absolute value of the most negative integer is negative.
        beyond = np.any(steps > MAX_STEPS) or np.any(steps < -MAX_STEPS)
        if beyond or not _inside(steps, self.clip):
            raise ParameterError(f"a vector lies outside {_place(self.clip)}")

    def take(self, rows: Sequence[int]) -> Clipped:
        """Some of the rows, in this order."""
        return Clipped(self.steps[list(rows)], self.clip)


def l1_norm(steps: NDArray[np.int64]) -> NDArray[np.int64]:
    """Sum of magnitudes of each row; exact for entries up to 2^31 - 1 and up to 2^20 of them. Shape (N,)."""
    norm: NDArray[np.int64] = np.sum(np.abs(steps), axis=1, dtype=np.int64)
    return norm


def integer_root(squares: NDArray[np.int64]) -> NDArray[np.int64]:
    """floor(sqrt(n)) of each n from 0 to 2^53, exactly: the float's last digit is put right on the integers."""
    root: NDArray[np.int64] = np.sqrt(squares.astype(np.float64)).astype(np.int64)
    root -= root * root > squares
    root += (root + 1) * (root + 1) <= squares
    return root


def clip(steps: NDArray[np.int64], rule: Clip) -> Clipped:
    """Bring each row to where the rule wants it.

    L1 ball: k_i -> sign(k_i) floor(|k_i| R / sum_j |k_j|) where sum_j |k_j| > R. Box: k_i -> min(max(k_i, -B), B).
    Direction: the same truncation with the Euclidean norm, rounded up, for every row; zero becomes (R, 0, ..., 0).
    Truncation can only shrink, so the bound holds on the integers that are noised.

    Raises:
        ParameterError: the steps are not int64, in which alone no magnitude and no product here can wrap.
    """
    if steps.dtype != np.int64:
        raise ParameterError(f"clipping takes the int64 steps that to_grid returns; found {steps.dtype}")
    bounded = np.clip(steps, -MAX_STEPS, MAX_STEPS)
    if isinstance(rule, BoxClip):
        return Clipped(np.clip(bounded, -rule.bound_steps, rule.bound_steps), rule)
    if isinstance(rule, DirectionClip):
        return Clipped(_directions(bounded, rule.radius_steps), rule)
    return Clipped(_into_ball(bounded, np.full(len(bounded), rule.radius_steps)), rule)


def clip_beside(steps: NDArray[np.int64], kept: NDArray[np.bool_], rule: L1Clip) -> Clipped:
    """As `clip`, but the `kept` of the d coordinates stay as they are and the others get what they leave of the ball.

    Where they alone have no room in it, all are shrunk: the bound holds first.

    Raises:
        ParameterError: as `clip`.
    """
    if steps.dtype != np.int64:
        raise ParameterError(f"clipping takes the int64 steps that to_grid returns; found {steps.dtype}")
    bounded = np.clip(steps, -MAX_STEPS, MAX_STEPS)
    room = np.maximum(rule.radius_steps - l1_norm(bounded[:, kept]), 0)
    bounded[:, ~kept] = _into_ball(bounded[:, ~kept], room)
    return clip(bounded, rule)


def _into_ball(steps: NDArray[np.int64], radii: NDArray[np.int64]) -> NDArray[np.int64]:
    norm, radius = l1_norm(steps)[:, None], radii[:, None]
    # |k| <= 2^31 - 1 and R <= 2^31 - 1: the product fits an int64.
    shrunk = np.sign(steps) * (np.abs(steps) * radius // np.maximum(norm, 1))
    within: NDArray[np.int64] = np.where(norm > radius, shrunk, steps)
    return within


def _directions(steps: NDArray[np.int64], radius: int) -> NDArray[np.int64]:
    bounded = np.clip(steps, -_DIRECTION_STEPS, _DIRECTION_STEPS)
    squares = np.sum(bounded * bounded, axis=1)
    norm = integer_root(squares)
    norm += norm * norm < squares
    scaled: NDArray[np.int64] = np.sign(bounded) * (np.abs(bounded) * radius // np.maximum(norm, 1)[:, None])
    # A vector that truncation leaves at nothing, or that was nothing, points nowhere: it gets a direction all the same.
    scaled[~np.any(scaled, axis=1), 0] = radius
    return scaled


def _inside(steps: NDArray[np.int64], rule: Clip) -> bool:
    if isinstance(rule, L1Clip):
        return not np.any(l1_norm(steps) > rule.radius_steps)
    if isinstance(rule, BoxClip):
        return not (np.any(steps > rule.bound_steps) or np.any(steps < -rule.bound_steps))
    # A coordinate beyond the radius is found before squares are summed, which then fit an int64.
    if np.any(steps > rule.radius_steps) or np.any(steps < -rule.radius_steps):
        return False
    squares = np.sum(steps * steps, axis=1)
    return not (np.any(squares > rule.radius_steps**2) or np.any(squares == 0))


def _place(rule: Clip) -> str:
    if isinstance(rule, L1Clip):
        return f"the L1 ball of {rule.radius_steps} steps"
    if isinstance(rule, BoxClip):
        return f"the box of {rule.bound_steps} steps"
    return f"the directions of at most {rule.radius_steps} steps"
