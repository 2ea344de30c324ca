"""What a campaign's records look like, shown on synthetic phantoms: no private X-ray is touched or charged."""

from __future__ import annotations

import os
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from ldp_client.flow.installed import open_bundle
from ldp_client.flow.pictures import painter_of
from ldp_client.imaging.phantoms import phantoms
from ldp_client.privacy.codebook import SEED_BYTES, NoisedIndices
from ldp_client.privacy.drawing import ClippedPair, Drawn, Input, NoisedPair, draw, prepare
from ldp_client.privacy.image_spec import ImageSpec, noised_release
from ldp_client.privacy.images import NoisedImages, make_images
from ldp_client.privacy.noise import SystemSource
from ldp_client.site import Site
from ldp_client.wire.campaign import Campaign

COUNT = 4
_SHOWN = 8  # numbers of a vector
_ENLARGED = 8  # screen pixels for one of a picture
_GAP = 1


@dataclass(frozen=True, eq=False)
class Preview:
    """One line for each of a few phantoms: its label, its clipped integers, and what would leave.

    `sheet`, where records are pictures: grey values with the phantoms above and below each what would leave for it.
    """

    lines: list[str]
    sheet: NDArray[np.uint8] | None


def preview(site: Site, campaign: Campaign) -> Preview:
    """A few phantoms through the campaign's own pipeline."""
    encoder, spec = open_bundle(site.config.encoder.bundle, site.folder), campaign.release
    noised, source = noised_release(spec), SystemSource()
    images, diagnoses = phantoms(COUNT, encoder.content, seed=7, pneumonia_share=0.5)
    tensors = torch.stack([encoder.prepare(image, inverted=False, window=None, bits=8) for image in images])
    labels = diagnoses.astype(np.int64) % spec.classes
    clipped = prepare(noised, encoder.output(noised.source, tensors)[:, : noised.input_dimension], labels)
    # In a release the seed comes from campaign, site and charge; here there is no charge.
    drawn = draw(noised, clipped, [os.urandom(SEED_BYTES) for _ in range(COUNT)], source)
    made = make_images(painter_of(spec, encoder, source), drawn, source) if isinstance(spec, ImageSpec) else None
    lines = [
        f"phantom {index + 1} ({campaign.label_names[int(label)]}): before noise {_before(clipped, index)}, "
        f"as it would leave {_picture(made, index, campaign) if made else _after(drawn, index)}"
        for index, label in enumerate(labels)
    ]
    return Preview(lines, None if made is None else _sheet(images, made.pixels))


def _before(clipped: Input, index: int) -> str:
    vectors = clipped.vectors if isinstance(clipped, ClippedPair) else clipped
    return _some(vectors.steps[index])


def _after(drawn: Drawn, index: int) -> str:
    if isinstance(drawn, NoisedIndices):
        return f"codeword {int(drawn.indices[index])} of {drawn.spec.codewords}"
    if isinstance(drawn, NoisedPair):
        return f"{_some(drawn.vectors.steps[index])} and label {int(drawn.labels.values[index])}"
    return _some(drawn.steps[index])


def _picture(made: NoisedImages, index: int, campaign: Campaign) -> str:
    label = campaign.label_names[int(made.labels[index])]
    return f"a picture of {made.spec.side} x {made.spec.side} pixels and the label {label}"


def _some(steps: np.ndarray) -> str:
    shown = ", ".join(str(value) for value in steps[:_SHOWN].tolist())
    return f"[{shown}{', ...' if len(steps) > _SHOWN else ''}]"


def _sheet(above: NDArray[np.uint8], below: NDArray[np.uint8]) -> NDArray[np.uint8]:
    rows = [np.pad(images, ((0, 0), (_GAP, _GAP), (_GAP, _GAP)), constant_values=255) for images in (above, below)]
    grey = np.concatenate([np.concatenate(list(row), axis=1) for row in rows])
    return np.kron(grey, np.ones((_ENLARGED, _ENLARGED), np.uint8))
