"""What a campaign releases where the record is a picture: what a mechanism draws, and what is made of it.

The picture is made at the hospital of what the mechanism drew, and of nothing else about the X-ray: post-processing,
which costs nothing (docs/privacy.md, section 2). So its loss, its input and its labels are those of `noised`.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from ldp_client.privacy.fault import no_such
from ldp_client.privacy.loss import PrivacyLoss
from ldp_client.privacy.release_spec import (
    DpGlowSpec,
    JointCodebookSpec,
    JointLaplaceSpec,
    MechanismKind,
    ReleaseSpec,
    Source,
)
from ldp_client.privacy.spec import Spec

MAX_SIDE = 256
MAX_CANDIDATES = 2**16
DEFAULT_CANDIDATES = 4096
"""Samples of the flow among which the nearest is taken; docs/decisions/0045 has the figures."""


class ImageSpec(Spec):
    """A uint8 picture of `side` x `side` pixels and a label, made of what `noised` draws.

    Two forms, by what is noised:

    - `dp_glow`: all latents. The picture is their posterior mean, decoded; the label is the randomized one.
    - any other: the bottleneck. The picture is that one of `candidates` samples of the public flow whose own bottleneck
      points most nearly where the noised one does. Where X-ray and label were noised together, as s_y (x) u, the label
      is a fair draw l, and the picture stands for the estimate of s_l . (s_y (x) u): the truth for l = y, its opposite
      for the other label of two. Then neither the picture nor the label says anything alone, and both together what
      the mechanism drew.

    Reference: docs/privacy.md, section 2 (post-processing); docs/decisions/0044.
    """

    kind: Literal["image"] = "image"
    side: int = Field(ge=1, le=MAX_SIDE)
    candidates: int = Field(ge=0, le=MAX_CANDIDATES)
    noised: ReleaseSpec

    @model_validator(mode="after")
    def _possible(self) -> ImageSpec:
        if isinstance(self.noised, DpGlowSpec):
            if self.candidates:
                raise ValueError(f"a picture decoded from all latents has no candidates; found {self.candidates}")
        elif self.candidates < 2:
            raise ValueError(f"the nearest sample is one of at least 2 candidates; found {self.candidates}")
        if isinstance(self.noised, JointLaplaceSpec | JointCodebookSpec) and (
            self.noised.label_code != "simplex" or self.noised.constant is not None
        ):
            raise ValueError("an image stands for the simplex code without a constant; leave both keys out")
        return self

    @property
    def loss(self) -> PrivacyLoss:
        """The loss of what is noised: the picture adds none."""
        return self.noised.loss

    @property
    def source(self) -> Source:
        """What it reads of the encoder."""
        return self.noised.source

    @property
    def input_dimension(self) -> int:
        """How many numbers of the encoder are noised."""
        return self.noised.input_dimension

    @property
    def classes(self) -> int:
        """K, the number of labels."""
        return self.noised.classes


CampaignRelease = Annotated[ReleaseSpec | ImageSpec, Field(discriminator="kind")]
"""What a campaign may ask for: a mechanism's output as it is, or a picture made of it."""
ReleaseKind = Literal[MechanismKind, "image"]


def image(noised: ReleaseSpec, *, side: int, candidates: int = DEFAULT_CANDIDATES) -> ImageSpec:
    """The image release of a mechanism; `candidates` counts only where the bottleneck is noised.

    Raises:
        ParameterError: a side or a number of candidates that no image has, or a label code that none carries.

    >>> from ldp_client.privacy.release_design import joint_codebook
    >>> image(joint_codebook(epsilon=4, classes=2, bottleneck_dimension=8), side=28).loss
    PrivacyLoss(micro_epsilon=4000000)
    """
    with no_such("image release"):
        return ImageSpec(side=side, candidates=0 if isinstance(noised, DpGlowSpec) else candidates, noised=noised)


def noised_release(release: ReleaseSpec | ImageSpec) -> ReleaseSpec:
    """What a mechanism noises: the release itself, or what its picture is made of."""
    return release.noised if isinstance(release, ImageSpec) else release


def kinds_needed(release: ReleaseSpec | ImageSpec) -> tuple[ReleaseKind, ...]:
    """What a policy has to allow: the mechanism, and for an image the image as well."""
    return ("image", release.noised.kind) if isinstance(release, ImageSpec) else (release.kind,)
