"""Mechanisms as values: everything that decides a release's privacy loss, and nothing else.

A spec travels in a campaign, is approved by an officer, and is what both ledgers recompute the loss from. The
sensitivity is derived from the clip and is nowhere a field; the clip that runs is the object in the spec.
"""

from __future__ import annotations

import decimal
from fractions import Fraction
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, PlainSerializer, PlainValidator, model_validator

from ldp_client.errors import ParameterError
from ldp_client.privacy.loss import PrivacyLoss, exact_fraction

# Products of two such numbers fit int64, and so do sums of 2^20 of them: integer clipping needs no wider type.
MAX_STEPS = 2**31 - 1
MAX_DIMENSION = 2**20
MAX_CLASSES = 256
MAX_CODEWORDS = 2**16
# Codewords are made anew for every record: M d coordinates each time.
MAX_CODEBOOK_DIMENSION = 2**12
MAX_BINS = 2**12
# A direction's coordinates are counted in this many steps at most; squares, sums and scores then fit an int64.
MAX_DIRECTION_STEPS = 2**14
# 2^-40 of a unit is finer than any float32 latent; 2^40 coarser than any.
MAX_GRID_BITS = 40
# Up to here a draw and its sum with a clipped value fit an int64 (noise.discrete_laplace).
MAX_SCALE = 2**48


Exact = Annotated[
    Fraction,
    PlainValidator(exact_fraction),
    PlainSerializer(lambda value: f"{value.numerator}/{value.denominator}", return_type=str),
]


class Spec(BaseModel):
    """A frozen value with no unknown fields; equal values have equal canonical bytes."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class L1Clip(Spec):
    """Maps an integer vector into the L1 ball sum_i |k_i| <= R, R = `radius_steps` grid steps.

    Any two points of the ball are at L1 distance at most 2R, whatever the dimension.
    """

    kind: Literal["l1"] = "l1"
    radius_steps: int = Field(ge=1, le=MAX_STEPS)

    def sensitivity_steps(self, dimension: int) -> int:
        """The largest L1 distance between two clipped vectors: 2R in every dimension."""
        del dimension
        return 2 * self.radius_steps

    @property
    def largest_steps(self) -> int:
        """The largest magnitude of one coordinate of a clipped vector."""
        return self.radius_steps


class BoxClip(Spec):
    """Maps an integer vector into the box |k_i| <= B, B = `bound_steps` grid steps, one coordinate at a time.

    The faithful clip of DP-GLOW; its sensitivity grows with the dimension.
    """

    kind: Literal["box"] = "box"
    bound_steps: int = Field(ge=1, le=MAX_STEPS)

    def sensitivity_steps(self, dimension: int) -> int:
        """The largest L1 distance between two clipped vectors of d coordinates: 2 B d."""
        return 2 * self.bound_steps * dimension

    @property
    def largest_steps(self) -> int:
        """The largest magnitude of one coordinate of a clipped vector."""
        return self.bound_steps


class DirectionClip(Spec):
    """Maps an integer vector to the one of Euclidean norm at most R, and nearly R, that points its way.

    The zero vector, which points nowhere, becomes (R, 0, ..., 0). What comes out has no sensitivity: it goes into the
    codebook mechanism, whose loss does not depend on it.
    """

    kind: Literal["direction"] = "direction"
    radius_steps: int = Field(ge=1, le=MAX_DIRECTION_STEPS)

    @property
    def grid(self) -> Fraction:
        """One step, for vectors that have norm 1 before the grid: 1/R."""
        return Fraction(1, self.radius_steps)


LaplaceClip = Annotated[L1Clip | BoxClip, Field(discriminator="kind")]


class DiscreteLaplaceSpec(Spec):
    """Adds k with P(k) = (1-q)/(1+q) q^|k|, q = exp(-1/scale), to each coordinate of a clipped integer vector.

    `grid` is the size of one step in the encoder's units and `scale` the noise scale in steps. The sensitivity follows
    from `clip` for any two inputs, so the release is epsilon-LDP with epsilon = sensitivity / scale.

    Reference: docs/privacy.md, Theorem 1.
    """

    kind: Literal["discrete_laplace"] = "discrete_laplace"
    clip: LaplaceClip
    dimension: int = Field(ge=1, le=MAX_DIMENSION)
    scale: Exact
    grid: Exact

    @model_validator(mode="after")
    def _possible(self) -> DiscreteLaplaceSpec:
        if self.scale <= 0:
            raise ValueError(f"scale must be positive, found {self.scale}: at 0 there would be no noise")
        if self.scale >= MAX_SCALE:
            # Refused here, not by the sampler: a draw comes after its charge.
            raise ValueError("scale must lie below 2^48 grid steps; take a coarser grid")
        if not Fraction(1, 2**MAX_GRID_BITS) <= self.grid <= 2**MAX_GRID_BITS:
            raise ValueError(f"grid must lie between 2^-{MAX_GRID_BITS} and 2^{MAX_GRID_BITS}, found {self.grid}")
        if max(self.scale.numerator, self.scale.denominator) >= 2**62:
            raise ValueError("scale must be a fraction of 62-bit numbers")
        # A spec whose loss no ledger could hold is no spec.
        PrivacyLoss.of(self.sensitivity_steps / self.scale)
        return self

    @property
    def sensitivity_steps(self) -> int:
        """The largest L1 distance between two clipped vectors of this dimension."""
        return self.clip.sensitivity_steps(self.dimension)

    @property
    def loss(self) -> PrivacyLoss:
        """epsilon = sensitivity / scale, rounded up to the next millionth."""
        return PrivacyLoss.of(self.sensitivity_steps / self.scale)


class RandomizedResponseSpec(Spec):
    """Keeps one of K labels with probability p = threshold / 2^64, else says one of the K-1 others, all equally likely.

    epsilon = ln(p (K-1) / (1-p)), from the threshold itself.

    Reference: docs/privacy.md, Theorem 4; Warner (1965); Kairouz, Oh, Viswanath (2016).
    """

    kind: Literal["randomized_response"] = "randomized_response"
    classes: int = Field(ge=2, le=MAX_CLASSES)
    threshold: int = Field(ge=1, lt=2**64)

    @model_validator(mode="after")
    def _possible(self) -> RandomizedResponseSpec:
        _require_informative("randomized response", self.classes, 1, self.threshold)
        return self

    @property
    def loss(self) -> PrivacyLoss:
        """ln(p (K-1) / (1-p)), rounded up to the next millionth."""
        return PrivacyLoss.of_log(_likelier(self.classes, 1, self.threshold))


class CodebookSpec(Spec):
    """Says which of M public random codewords lies near a direction of R^d: a mechanism of the PrivUnit family.

    The s codewords nearest to the direction share the probability p = threshold / 2^64, the M - s others the rest.
    Whatever the direction and the codewords are, an index has probability p/s or (1-p)/(M-s), so

        epsilon = ln(p (M-s) / ((1-p) s)),

    from integers alone. `clip` says how a vector becomes a direction; the loss does not depend on it. A direction of
    R^1 is a sign: then M = 2 and s = 1, and this is randomized response.

    Reference: docs/privacy.md, Theorem 5; Bhowmick et al. (2018); Asi, Feldman, Talwar (2022); Isik et al. (2023).
    """

    kind: Literal["codebook"] = "codebook"
    clip: DirectionClip
    dimension: int = Field(ge=1, le=MAX_CODEBOOK_DIMENSION)
    codewords: int = Field(ge=2, le=MAX_CODEWORDS)
    subset: int = Field(ge=1)
    threshold: int = Field(ge=1, lt=2**64)

    @model_validator(mode="after")
    def _possible(self) -> CodebookSpec:
        if self.subset >= self.codewords:
            raise ValueError(
                f"a subset of {self.subset} of {self.codewords} codewords leaves none outside; take more codewords"
            )
        if self.dimension == 1 and (self.codewords, self.subset) != (2, 1):
            raise ValueError(
                f"a direction of one dimension is a sign: 2 codewords and a subset of 1, "
                f"found {self.codewords} and {self.subset}"
            )
        _require_informative("a codebook", self.codewords, self.subset, self.threshold)
        return self

    @property
    def loss(self) -> PrivacyLoss:
        """ln(p (M-s) / ((1-p) s)), rounded up to the next millionth."""
        return PrivacyLoss.of_log(_likelier(self.codewords, self.subset, self.threshold))


class HistogramSpec(Spec):
    """Adds discrete Laplace noise to the counts of a site's evaluation set, by label and score bin.

    A unit has at most `cap` X-rays in the set. Replacing them all moves at most cap counts down and cap counts up, so
    the L1 sensitivity is 2 cap and epsilon = 2 cap / scale for each unit. This is a promise about the site's set, not
    a local one about each record.

    Reference: docs/privacy.md, Theorem 6.
    """

    kind: Literal["histogram"] = "histogram"
    bins: int = Field(ge=2, le=MAX_BINS)
    classes: int = Field(ge=2, le=MAX_CLASSES)
    cap: int = Field(ge=1, le=1000)
    scale: Exact

    @model_validator(mode="after")
    def _possible(self) -> HistogramSpec:
        if not 0 < self.scale < MAX_SCALE or max(self.scale.numerator, self.scale.denominator) >= 2**62:
            raise ValueError(f"scale must lie between 0 and 2^48 counts, found {self.scale}")
        PrivacyLoss.of(2 * self.cap / self.scale)
        return self

    @property
    def loss(self) -> PrivacyLoss:
        """The loss of one unit: 2 cap / scale, rounded up to the next millionth."""
        return PrivacyLoss.of(2 * self.cap / self.scale)


def _likelier(outputs: int, chosen: int, threshold: int) -> Fraction:
    """How many times likelier one of the `chosen` outputs is than one of the others: p (M-s) / ((1-p) s)."""
    return Fraction(threshold * (outputs - chosen), (2**64 - threshold) * chosen)


def _require_informative(what: str, outputs: int, chosen: int, threshold: int) -> None:
    if _likelier(outputs, chosen, threshold) < 1:
        raise ValueError(
            f"{what} that says one of {chosen} of {outputs} with probability {threshold} / 2^64 makes the true answer "
            "the less likely one; raise the threshold"
        )


def threshold_for(epsilon: Fraction, outputs: int, chosen: int) -> int:
    """floor(2^64 p), p = s e^eps / (s e^eps + M - s): the largest threshold whose loss is at most epsilon.

    Raises:
        ParameterError: epsilon is not positive.
    """
    if epsilon <= 0:
        raise ParameterError(f"epsilon must be positive; found {epsilon}. Without noise there is no release")
    with decimal.localcontext() as context:
        # Digits for the 64 bits, for what a large epsilon leaves of 1 - p, and to spare.
        context.prec = 60 + int(epsilon) // 2
        context.rounding = decimal.ROUND_FLOOR
        exponent = decimal.Decimal(epsilon.numerator) / decimal.Decimal(epsilon.denominator)
        # Increasing in e^eps, so a lower bound of it gives a lower bound of p.
        low = chosen * exponent.exp().next_minus()
        context.rounding = decimal.ROUND_CEILING
        whole = low + (outputs - chosen)
        context.rounding = decimal.ROUND_FLOOR
        return min(int((low / whole) * 2**64), 2**64 - 1)
