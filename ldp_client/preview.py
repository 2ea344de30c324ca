"""What a campaign's records look like, shown on synthetic phantoms: no private X-ray is touched or charged."""

from __future__ import annotations

import os

import numpy as np
import torch

from ldp_client.flow.installed import open_bundle
from ldp_client.imaging.phantoms import phantoms
from ldp_client.privacy.codebook import SEED_BYTES, NoisedIndices
from ldp_client.privacy.drawing import ClippedPair, Drawn, Input, NoisedPair, draw, prepare
from ldp_client.privacy.noise import SystemSource
from ldp_client.site import Site
from ldp_client.wire.campaign import Campaign

COUNT = 4
_SHOWN = 8  # numbers of a vector


def preview_lines(site: Site, campaign: Campaign) -> list[str]:
    """One line for each of a few phantoms: its label, its clipped integers, and what would leave."""
    encoder, spec = open_bundle(site.config.encoder.bundle, site.folder), campaign.release
    images, diagnoses = phantoms(COUNT, encoder.content, seed=7, pneumonia_share=0.5)
    tensors = torch.stack([encoder.prepare(image, inverted=False, window=None, bits=8) for image in images])
    labels = diagnoses.astype(np.int64) % spec.classes
    clipped = prepare(spec, encoder.output(spec.source, tensors)[:, : spec.input_dimension], labels)
    # In a release the seed comes from campaign, site and charge; here there is no charge.
    drawn = draw(spec, clipped, [os.urandom(SEED_BYTES) for _ in range(COUNT)], SystemSource())
    return [
        f"phantom {index + 1} ({campaign.label_names[int(label)]}): before noise {_before(clipped, index)}, "
        f"as it would leave {_after(drawn, index)}"
        for index, label in enumerate(labels)
    ]


def _before(clipped: Input, index: int) -> str:
    vectors = clipped.vectors if isinstance(clipped, ClippedPair) else clipped
    return _some(vectors.steps[index])


def _after(drawn: Drawn, index: int) -> str:
    if isinstance(drawn, NoisedIndices):
        return f"codeword {int(drawn.indices[index])} of {drawn.spec.codewords}"
    if isinstance(drawn, NoisedPair):
        return f"{_some(drawn.vectors.steps[index])} and label {int(drawn.labels.values[index])}"
    return _some(drawn.steps[index])


def _some(steps: np.ndarray) -> str:
    shown = ", ".join(str(value) for value in steps[:_SHOWN].tolist())
    return f"[{shown}{', ...' if len(steps) > _SHOWN else ''}]"
