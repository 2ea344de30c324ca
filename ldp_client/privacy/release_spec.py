"""What a campaign releases of one X-ray and its label: the mechanisms, and how the two become their input.

Every kind says of itself what it costs (`loss`), what it reads of the encoder (`source`, `input_dimension`) and how
many labels there are (`classes`). A union by `kind` that only grows: one that this version does not know is refused at
parsing.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

import numpy as np
from pydantic import Field, SerializerFunctionWrapHandler, model_serializer, model_validator

from ldp_client.privacy.labels import LabelCode, code_dimension, label_codes
from ldp_client.privacy.loss import PrivacyLoss
from ldp_client.privacy.spec import (
    MAX_CLASSES,
    MAX_DIMENSION,
    BoxClip,
    CodebookSpec,
    DiscreteLaplaceSpec,
    Exact,
    L1Clip,
    RandomizedResponseSpec,
    Spec,
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
