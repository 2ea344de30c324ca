"""What a campaign releases of one X-ray and its label: the mechanisms, and how the two become their input.

Every kind says of itself what it costs (`loss`), what it reads of the encoder (`source`, `input_dimension`) and how
many labels there are (`classes`). A union by `kind` that only grows: one that this version does not know is refused at
parsing.
"""

from __future__ import annotations

from fractions import Fraction
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import Field, SerializerFunctionWrapHandler, model_serializer, model_validator

from ldp_client.errors import ParameterError
from ldp_client.privacy.codebook_design import DEFAULT_CODEWORDS, best_subset
from ldp_client.privacy.labels import LabelCode, code_dimension, label_codes
from ldp_client.privacy.loss import MICRO, PrivacyLoss, exact_fraction
from ldp_client.privacy.spec import (
    MAX_CLASSES,
    MAX_DIMENSION,
    MAX_DIRECTION_STEPS,
    BoxClip,
    CodebookSpec,
    DirectionClip,
    DiscreteLaplaceSpec,
    Exact,
    L1Clip,
    RandomizedResponseSpec,
    Spec,
    threshold_for,
)

Source = Literal["bottleneck", "latents"]


class _Joint(Spec):
    """One release of an X-ray and its label together: a_y (x) f, noised as one vector.

    a_y is the label's code (`label_code`): vertex y of the regular simplex in R^(K-1), -1 or +1 for K = 2, or unit
    vector e_y of R^K. f holds the k bottleneck coordinates and, where a `constant` is given, that constant before them:
    the noisy mean of a_y times a constant tells how frequent each label is.

    Replacing the X-ray, the label or both replaces one input of one mechanism by another, so one epsilon covers the
    pair: the label costs nothing of its own.
    """

    label_code: LabelCode = "simplex"
    constant: Exact | None = None
    classes: int = Field(ge=2, le=MAX_CLASSES)
    bottleneck_dimension: int = Field(ge=1, le=MAX_DIMENSION)

    @model_serializer(mode="wrap")
    def _as_written_before(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        # The field came later: a release without one keeps the bytes that it always had.
        written: dict[str, Any] = handler(self)
        if self.constant is None:
            del written["constant"]
        return written

    @property
    def source(self) -> Source:
        """What it reads of the encoder."""
        return "bottleneck"

    @property
    def input_dimension(self) -> int:
        """How many numbers of the encoder enter a record."""
        return self.bottleneck_dimension

    @property
    def features(self) -> int:
        """Coordinates of f: k, and one more with a constant."""
        return self.bottleneck_dimension + (self.constant is not None)

    @property
    def joint_dimension(self) -> int:
        """Coordinates of a_y (x) f."""
        return code_dimension(self.label_code, self.classes) * self.features

    def _require_dimension(self, found: int, what: str) -> None:
        if self.label_code == "one_hot" and self.constant is None:
            raise ValueError("the one_hot code needs a constant: without it no class mean can be told from its share")
        if found != self.joint_dimension:
            raise ValueError(
                f"{self.classes} classes in the {self.label_code} code and {self.features} numbers need "
                f"{self.joint_dimension} coordinates, {what} has {found}"
            )


class JointLaplaceSpec(_Joint):
    """Discrete Laplace on a_y (x) f, clipped on the product. The constant is in the encoder's units, below the radius.

    Reference: docs/privacy.md, Theorem 2.
    """

    kind: Literal["joint_discrete_laplace"] = "joint_discrete_laplace"
    laplace: DiscreteLaplaceSpec

    @model_validator(mode="after")
    def _consistent(self) -> JointLaplaceSpec:
        self._require_dimension(self.laplace.dimension, "the Laplace mechanism")
        if not isinstance(self.laplace.clip, L1Clip):
            raise ValueError("a joint release is clipped to an L1 ball; a box would cost more in every dimension")
        if self.constant is not None and not 0 < self.constant < self.laplace.clip.radius_steps * self.laplace.grid:
            raise ValueError(
                f"the constant must lie between 0 and the radius "
                f"{self.laplace.clip.radius_steps * self.laplace.grid}, found {self.constant}"
            )
        self._require_room(self.laplace.clip.radius_steps)
        return self

    def _require_room(self, radius: int) -> None:
        if self.constant is None:
            return
        if self.constant < self.laplace.grid:
            raise ValueError(f"the constant is less than one grid step {self.laplace.grid}, found {self.constant}")
        # What `prepare` writes before the features of each label; the features need at least a step beside it.
        codes = label_codes(self.label_code, self.classes) * float(self.constant)
        taken = int(np.sum(np.abs(np.rint(codes / float(self.laplace.grid))), axis=1).max())
        if taken >= radius:
            raise ValueError(
                f"the constant times its label code needs {taken} steps of the ball's {radius} and leaves none for the "
                "X-ray; take a smaller constant or the one_hot code"
            )

    @property
    def loss(self) -> PrivacyLoss:
        """The loss of the pair (X-ray, label)."""
        return self.laplace.loss


class JointCodebookSpec(_Joint):
    """The codebook mechanism on the direction of a_y (x) f, f = (c, sqrt(1 - c^2) z/|z|) with a constant 0 < c < 1.

    Reference: docs/privacy.md, Theorems 2 and 5.
    """

    kind: Literal["joint_codebook"] = "joint_codebook"
    codebook: CodebookSpec

    @model_validator(mode="after")
    def _consistent(self) -> JointCodebookSpec:
        self._require_dimension(self.codebook.dimension, "the codebook")
        if self.constant is not None and not 0 < self.constant < 1:
            raise ValueError(f"the constant is a share of a unit vector, between 0 and 1; found {self.constant}")
        return self

    @property
    def loss(self) -> PrivacyLoss:
        """The loss of the pair (X-ray, label)."""
        return self.codebook.loss


class _Separate(Spec):
    """The X-ray's numbers by discrete Laplace and its label by randomized response, one after the other.

    Reference: docs/privacy.md, Theorems 1, 3 and 4.
    """

    laplace: DiscreteLaplaceSpec
    label: RandomizedResponseSpec

    @property
    def classes(self) -> int:
        """K, the number of labels."""
        return self.label.classes

    @property
    def input_dimension(self) -> int:
        """How many numbers of the encoder enter a record."""
        return self.laplace.dimension

    @property
    def loss(self) -> PrivacyLoss:
        """The sum of both losses: the pair is released in two parts."""
        return self.laplace.loss + self.label.loss


class LatentSpec(_Separate):
    """The k bottleneck coordinates in an L1 ball, and the label: a record that serves other tasks as well."""

    kind: Literal["latent"] = "latent"

    @model_validator(mode="after")
    def _clipped_to_a_ball(self) -> LatentSpec:
        if not isinstance(self.laplace.clip, L1Clip):
            raise ValueError("a latent release is clipped to an L1 ball; the box belongs to dp_glow")
        return self

    @property
    def source(self) -> Source:
        """What it reads of the encoder."""
        return "bottleneck"


class DpGlowSpec(_Separate):
    """All latents of the flow in a box, and the label: DP-GLOW as published, for comparison.

    The sensitivity grows with the number of latents, so at single-digit epsilon nothing is left to learn from it.

    Reference: Shibata et al., Applied Sciences 13(18), 10132 (2023).
    """

    kind: Literal["dp_glow"] = "dp_glow"

    @model_validator(mode="after")
    def _clipped_to_a_box(self) -> DpGlowSpec:
        if not isinstance(self.laplace.clip, BoxClip):
            raise ValueError("dp_glow clips each latent to an interval; found an L1 ball")
        return self

    @property
    def source(self) -> Source:
        """What it reads of the encoder."""
        return "latents"


ReleaseSpec = Annotated[JointLaplaceSpec | JointCodebookSpec | LatentSpec | DpGlowSpec, Field(discriminator="kind")]
MechanismKind = Literal["joint_discrete_laplace", "joint_codebook", "latent", "dp_glow"]

ExactNumber = Fraction | int | str


def joint_laplace(
    *,
    epsilon: ExactNumber,
    classes: int,
    bottleneck_dimension: int,
    radius: ExactNumber,
    grid: ExactNumber = "1/1024",
    label_code: LabelCode = "simplex",
    constant: ExactNumber | None = None,
) -> JointLaplaceSpec:
    """The joint release of total `epsilon` with an L1 ball of `radius` encoder units, in steps of `grid`.

    scale = 2R / epsilon steps, where R is `radius` in whole steps, rounded down.

    Raises:
        ParameterError: epsilon is not positive or not exact, or the radius is below one step.

    >>> joint_laplace(epsilon=2, classes=2, bottleneck_dimension=2, radius=1).loss
    PrivacyLoss(micro_epsilon=2000000)
    """
    exact_epsilon, exact_radius, exact_grid = _exact(epsilon=epsilon, radius=radius, grid=grid)
    _require_release(exact_epsilon, classes, bottleneck_dimension=bottleneck_dimension)
    steps = _whole_steps("radius", exact_radius, exact_grid)
    try:
        return JointLaplaceSpec(
            label_code=label_code,
            constant=None if constant is None else _exact(constant=constant)[0],
            classes=classes,
            bottleneck_dimension=bottleneck_dimension,
            laplace=DiscreteLaplaceSpec(
                clip=L1Clip(radius_steps=steps),
                dimension=code_dimension(label_code, classes) * (bottleneck_dimension + (constant is not None)),
                scale=Fraction(2 * steps) / exact_epsilon,
                grid=exact_grid,
            ),
        )
    except ValueError as error:
        raise ParameterError(f"no such joint release: {error}") from error


def joint_codebook(
    *,
    epsilon: ExactNumber,
    classes: int,
    bottleneck_dimension: int,
    label_code: LabelCode = "simplex",
    constant: ExactNumber | None = None,
    codewords: int = DEFAULT_CODEWORDS,
) -> JointCodebookSpec:
    """The joint release of total `epsilon` by a codebook whose subset gives the smallest error.

    Raises:
        ParameterError: epsilon is not positive or not exact, or the codebook is impossible.

    >>> spec = joint_codebook(epsilon=2, classes=2, bottleneck_dimension=8)
    >>> spec.loss, spec.codebook.codewords
    (PrivacyLoss(micro_epsilon=2000000), 1024)
    """
    (exact_epsilon,) = _exact(epsilon=epsilon)
    _require_release(exact_epsilon, classes, bottleneck_dimension=bottleneck_dimension, codewords=codewords)
    try:
        dimension = code_dimension(label_code, classes) * (bottleneck_dimension + (constant is not None))
        count = 2 if dimension == 1 else codewords
        subset = best_subset(dimension, count, float(exact_epsilon))
        return JointCodebookSpec(
            label_code=label_code,
            constant=None if constant is None else _exact(constant=constant)[0],
            classes=classes,
            bottleneck_dimension=bottleneck_dimension,
            codebook=CodebookSpec(
                clip=DirectionClip(radius_steps=MAX_DIRECTION_STEPS),
                dimension=dimension,
                codewords=count,
                subset=subset,
                threshold=threshold_for(exact_epsilon, count, subset),
            ),
        )
    except ValueError as error:
        raise ParameterError(f"no such joint release: {error}") from error


def latent(
    *,
    epsilon: ExactNumber,
    label_epsilon: ExactNumber,
    classes: int,
    bottleneck_dimension: int,
    radius: ExactNumber,
    grid: ExactNumber = "1/1024",
) -> LatentSpec:
    """A latent release of total `epsilon`, of which the label takes `label_epsilon` and the vector the rest.

    Raises:
        ParameterError: a number is not exact, or nothing is left for the vector.
    """
    exact_radius, exact_grid = _exact(radius=radius, grid=grid)
    steps = _whole_steps("radius", exact_radius, exact_grid)
    label, rest = _shares(epsilon, label_epsilon, classes)
    try:
        laplace = DiscreteLaplaceSpec(
            clip=L1Clip(radius_steps=steps),
            dimension=bottleneck_dimension,
            scale=Fraction(2 * steps) / rest,
            grid=exact_grid,
        )
        return LatentSpec(laplace=laplace, label=label)
    except ValueError as error:
        raise ParameterError(f"no such latent release: {error}") from error


def dp_glow(
    *,
    epsilon: ExactNumber,
    label_epsilon: ExactNumber,
    classes: int,
    latents: int,
    bound: ExactNumber = 3,
    grid: ExactNumber = "1/1024",
) -> DpGlowSpec:
    """DP-GLOW's release of total `epsilon`: d latents, each clipped to [-bound, bound], Laplace scale 2 bound d / eps.

    Raises:
        ParameterError: a number is not exact, or nothing is left for the latents.
    """
    exact_bound, exact_grid = _exact(bound=bound, grid=grid)
    steps = _whole_steps("bound", exact_bound, exact_grid)
    label, rest = _shares(epsilon, label_epsilon, classes)
    try:
        laplace = DiscreteLaplaceSpec(
            clip=BoxClip(bound_steps=steps),
            dimension=latents,
            scale=Fraction(2 * steps * latents) / rest,
            grid=exact_grid,
        )
        return DpGlowSpec(laplace=laplace, label=label)
    except ValueError as error:
        raise ParameterError(f"no such dp_glow release: {error}") from error


def randomized_response(*, epsilon: ExactNumber, classes: int) -> RandomizedResponseSpec:
    """K-ary randomized response of loss at most `epsilon`: keep with e^eps / (e^eps + K - 1), rounded down to 64 bits.

    Raises:
        ParameterError: epsilon is not positive or not exact, or there are fewer than 2 labels.
    """
    (exact_epsilon,) = _exact(epsilon=epsilon)
    _require_release(exact_epsilon, classes)
    try:
        return RandomizedResponseSpec(classes=classes, threshold=threshold_for(exact_epsilon, classes, 1))
    except ValueError as error:
        raise ParameterError(f"no such randomized response: {error}") from error


def _shares(epsilon: ExactNumber, label_epsilon: ExactNumber, classes: int) -> tuple[RandomizedResponseSpec, Fraction]:
    """The label's mechanism, and what it leaves of epsilon: the two rounded losses add up to the whole."""
    exact_epsilon, exact_label = _exact(epsilon=epsilon, label_epsilon=label_epsilon)
    _require_release(exact_epsilon, classes)
    label = randomized_response(epsilon=exact_label, classes=classes)
    rest = exact_epsilon - Fraction(label.loss.micro_epsilon, MICRO)
    if rest <= 0:
        raise ParameterError(
            f"the label takes epsilon {label.loss} of {exact_epsilon} and leaves nothing for the X-ray; give it less"
        )
    return label, rest


def _exact(**numbers: ExactNumber) -> tuple[Fraction, ...]:
    names = " and ".join(", ".join(numbers).rsplit(", ", 1))
    found = ", ".join(f"{name} {str(value)[:40]!r}" for name, value in numbers.items())
    if any(isinstance(value, float) for value in numbers.values()):
        raise ParameterError(f"{names} must be exact: write them as strings or fractions, not floats; found {found}")
    try:
        return tuple(exact_fraction(value) for value in numbers.values())
    except ValueError as error:
        raise ParameterError(f"{names} must be exact numbers: each {error}; found {found}") from error


def _require_release(epsilon: Fraction, classes: int, **counts: int) -> None:
    for name, value in {"classes": classes, **counts}.items():
        if type(value) is not int or value < 1:
            raise ParameterError(f"{name} must be a whole number from 1 on; found {str(value)[:40]!r}")
    if classes < 2:
        raise ParameterError(f"a release needs at least 2 labels; found {classes}")
    if epsilon <= 0:
        raise ParameterError(f"epsilon must be positive; found {epsilon}. Without noise there is no release")


def _whole_steps(name: str, length: Fraction, grid: Fraction) -> int:
    if grid <= 0 or length < grid:
        raise ParameterError(f"the {name} must hold at least one grid step; found {name} {length} and grid {grid}")
    return int(length // grid)
