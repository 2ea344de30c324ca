"""From encoder output and label to what a mechanism takes, and what it then returns, for each kind of release.

`prepare` is the last place where a float is seen, `draw` the only one where something about an X-ray is given away.
What `draw` returns are noised types, which nothing but a mechanism can make.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ldp_client.errors import ParameterError
from ldp_client.privacy.clipping import Clipped, clip, clip_beside, to_grid
from ldp_client.privacy.codebook import Codebook, NoisedIndices
from ldp_client.privacy.labels import joint_vector, unit_features, with_constant
from ldp_client.privacy.laplace import DiscreteLaplace, Noised
from ldp_client.privacy.noise import ByteSource
from ldp_client.privacy.randomized_response import Labels, NoisedLabels, RandomizedResponse
from ldp_client.privacy.release_spec import DpGlowSpec, JointCodebookSpec, JointLaplaceSpec, LatentSpec, ReleaseSpec
from ldp_client.privacy.spec import L1Clip

_REAL = "fiu"
"""Floats of any width and byte order, and whole numbers, which are floats in a moment."""


@dataclass(frozen=True, eq=False)
class ClippedPair:
    """An X-ray's clipped vector and its label, to be noised one after the other."""

    vectors: Clipped
    labels: Labels

    def __post_init__(self) -> None:
        if len(self.vectors.steps) != len(self.labels.values):
            raise ParameterError(
                f"{len(self.vectors.steps)} vectors need as many labels; found {len(self.labels.values)}"
            )

    def take(self, rows: Sequence[int]) -> ClippedPair:
        """Some of the rows, in this order."""
        return ClippedPair(self.vectors.take(rows), Labels(self.labels.values[list(rows)], self.labels.classes))


@dataclass(frozen=True, eq=False)
class NoisedPair:
    """A noised vector and a randomized label for each record."""

    vectors: Noised
    labels: NoisedLabels


Input = Clipped | ClippedPair
Drawn = Noised | NoisedIndices | NoisedPair


def prepare(release: ReleaseSpec, outputs: NDArray[np.floating], labels: NDArray[np.int64]) -> Input:
    """Encoder outputs (N, k) and labels (N,) to the clipped integers that `draw` takes.

    Whatever the floats are, what comes out is what the clip promises.

    Raises:
        ParameterError: no arrays of real numbers and of int64, shapes that do not belong together or to the release,
            or a label that there is not.
    """
    if not isinstance(outputs, np.ndarray) or outputs.dtype.kind not in _REAL:
        # Texts and objects would be converted one by one, and the first that cannot be would be quoted.
        found = outputs.dtype if isinstance(outputs, np.ndarray) else type(outputs).__name__
        raise ParameterError(f"encoder outputs are a (N, k) array of floats; found {found}")
    if outputs.ndim != 2 or outputs.shape[1] != release.input_dimension:
        raise ParameterError(
            f"the release takes {release.input_dimension} numbers of an X-ray; found shape {outputs.shape}"
        )
    checked = Labels(labels, release.classes)
    if isinstance(release, JointCodebookSpec):
        rule = release.codebook.clip
        features = unit_features(outputs, None if release.constant is None else float(release.constant))
        joint = joint_vector(features, labels, release.classes, release.label_code)
        return clip(to_grid(joint, rule.grid), rule)
    laplace = release.laplace
    if isinstance(release, JointLaplaceSpec):
        if release.constant is None or not isinstance(laplace.clip, L1Clip):
            joint = joint_vector(outputs, labels, release.classes, release.label_code)
            return clip(to_grid(joint, laplace.grid), laplace.clip)
        features = with_constant(outputs, float(release.constant))
        joint = joint_vector(features, labels, release.classes, release.label_code)
        constants = np.arange(release.joint_dimension) % release.features == 0
        return clip_beside(to_grid(joint, laplace.grid), constants, laplace.clip)
    return ClippedPair(clip(to_grid(outputs, laplace.grid), laplace.clip), checked)


def draw(release: ReleaseSpec, value: Input, seeds: Sequence[bytes], source: ByteSource) -> Drawn:
    """Noise each row with fresh randomness: this, and nothing else, is what the record costs.

    `seeds` are public, one for each row; only the codebook uses them.

    Raises:
        ParameterError: the value is not what `prepare` makes for this release.
    """
    if isinstance(release, LatentSpec | DpGlowSpec):
        if not isinstance(value, ClippedPair):
            raise ParameterError(f"a {release.kind} release takes a vector and a label; found {type(value).__name__}")
        return NoisedPair(
            DiscreteLaplace(release.laplace)(value.vectors, source),
            RandomizedResponse(release.label)(value.labels, source),
        )
    if not isinstance(value, Clipped):
        raise ParameterError(f"a joint release takes one vector for X-ray and label; found {type(value).__name__}")
    if isinstance(release, JointCodebookSpec):
        return Codebook(release.codebook)(value, seeds, source)
    return DiscreteLaplace(release.laplace)(value, source)
