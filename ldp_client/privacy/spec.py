"""Mechanisms as values: everything that decides a release's privacy loss, and nothing else.

A spec travels in a campaign, is approved by an officer, and is what both ledgers recompute the loss from. The
sensitivity is derived from the clip and is nowhere a field; the clip that runs is the object in the spec.
"""

from __future__ import annotations

from fractions import Fraction
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, PlainSerializer, PlainValidator, model_validator

from ldp_client.errors import ParameterError
from ldp_client.privacy.loss import PrivacyLoss, exact_fraction

# Products of two such numbers fit int64, and so do sums of 2^20 of them: integer clipping needs no wider type.
MAX_STEPS = 2**31 - 1
MAX_DIMENSION = 2**20
MAX_CLASSES = 256
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

    @property
    def sensitivity_steps(self) -> int:
        """The largest L1 distance between two clipped vectors: 2R."""
        return 2 * self.radius_steps


class DiscreteLaplaceSpec(Spec):
    """Adds k with P(k) = (1-q)/(1+q) q^|k|, q = exp(-1/scale), to each coordinate of a clipped integer vector.

    `grid` is the size of one step in the encoder's units and `scale` the noise scale in steps. The sensitivity follows
    from `clip` for any two inputs, so the release is epsilon-LDP with epsilon = clip.sensitivity_steps / scale.

    Reference: docs/privacy.md, Theorem 1.
    """

    kind: Literal["discrete_laplace"] = "discrete_laplace"
    clip: L1Clip
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
        PrivacyLoss.of(self.clip.sensitivity_steps / self.scale)
        return self

    @property
    def loss(self) -> PrivacyLoss:
        """epsilon = 2R / scale, rounded up to the next millionth."""
        return PrivacyLoss.of(self.clip.sensitivity_steps / self.scale)


class JointLaplaceSpec(Spec):
    """One release of an X-ray and its label: discrete Laplace on s_y (x) z, clipped on the product.

    s_y in R^(K-1) is vertex y of the regular simplex (`label_code` "simplex"; for K = 2 it is -1 or +1) and z in R^k
    the bottleneck of the X-ray. Replacing the X-ray, the label or both replaces one point of the ball by another, so
    one epsilon covers the pair: the label costs nothing of its own.

    Reference: docs/privacy.md, Theorem 2.
    """

    kind: Literal["joint_discrete_laplace"] = "joint_discrete_laplace"
    label_code: Literal["simplex"] = "simplex"
    classes: int = Field(ge=2, le=MAX_CLASSES)
    bottleneck_dimension: int = Field(ge=1, le=MAX_DIMENSION)
    laplace: DiscreteLaplaceSpec

    @model_validator(mode="after")
    def _dimensions_agree(self) -> JointLaplaceSpec:
        wanted = (self.classes - 1) * self.bottleneck_dimension
        if self.laplace.dimension != wanted:
            raise ValueError(
                f"{self.classes} classes and a bottleneck of {self.bottleneck_dimension} need {wanted} coordinates, "
                f"the Laplace mechanism has {self.laplace.dimension}"
            )
        return self

    @property
    def loss(self) -> PrivacyLoss:
        """The loss of the pair (X-ray, label)."""
        return self.laplace.loss


# A union by `kind` that only grows: a mechanism that this version does not know is refused at parsing.
ReleaseSpec = JointLaplaceSpec


def joint_laplace(
    *,
    epsilon: Fraction | int | str,
    classes: int,
    bottleneck_dimension: int,
    radius: Fraction | int | str,
    grid: Fraction | int | str = "1/1024",
) -> JointLaplaceSpec:
    """The joint release of total `epsilon` with an L1 ball of `radius` encoder units, in steps of `grid`.

    scale = 2R / epsilon steps, where R is `radius` in whole steps, rounded down.

    Raises:
        ParameterError: epsilon is not positive or not exact, or the radius is below one step.

    >>> joint_laplace(epsilon=2, classes=2, bottleneck_dimension=2, radius=1).loss
    PrivacyLoss(micro_epsilon=2000000)
    """
    if isinstance(epsilon, float) or isinstance(radius, float) or isinstance(grid, float):
        raise ParameterError("epsilon, radius and grid must be exact: write them as strings or fractions, not floats")
    try:
        exact_epsilon, exact_radius, exact_grid = (exact_fraction(value) for value in (epsilon, radius, grid))
    except ValueError as error:
        raise ParameterError(f"epsilon, radius and grid must be exact numbers: each {error}") from error
    if classes < 2:
        raise ParameterError(f"a release needs at least 2 labels; found {classes}")
    if exact_epsilon <= 0:
        raise ParameterError(f"epsilon must be positive; found {exact_epsilon}. Without noise there is no release")
    if exact_grid <= 0 or exact_radius < exact_grid:
        raise ParameterError(
            f"the radius must hold at least one grid step; found radius {exact_radius} and grid {exact_grid}"
        )
    steps = exact_radius // exact_grid
    try:
        return JointLaplaceSpec(
            classes=classes,
            bottleneck_dimension=bottleneck_dimension,
            laplace=DiscreteLaplaceSpec(
                clip=L1Clip(radius_steps=int(steps)),
                dimension=(classes - 1) * bottleneck_dimension,
                scale=Fraction(2 * steps) / exact_epsilon,
                grid=exact_grid,
            ),
        )
    except ValueError as error:
        raise ParameterError(f"no such joint release: {error}") from error
