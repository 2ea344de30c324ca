"""What a campaign's records look like, shown on synthetic phantoms: no private X-ray is touched or charged."""

from __future__ import annotations

import numpy as np
import torch

from ldp_client.flow.installed import open_bundle
from ldp_client.imaging.phantoms import phantoms
from ldp_client.privacy.clipping import clip, to_grid
from ldp_client.privacy.labels import joint_vector
from ldp_client.privacy.laplace import DiscreteLaplace
from ldp_client.privacy.noise import SystemSource
from ldp_client.site import Site
from ldp_client.wire.campaign import Campaign

COUNT = 4


def preview_lines(site: Site, campaign: Campaign) -> list[str]:
    """One line for each of a few phantoms: its label, its clipped integers, and what would leave."""
    encoder = open_bundle(site.config.encoder.bundle, site.folder)
    images, labels = phantoms(COUNT, encoder.content, seed=7, pneumonia_share=0.5)
    tensors = torch.stack([encoder.prepare(image, inverted=False, window=None, bits=8) for image in images])
    spec = campaign.release
    vectors = joint_vector(encoder.encode(tensors), labels.astype(np.int64) % spec.classes, spec.classes)
    clipped = clip(to_grid(vectors, spec.laplace.grid), spec.laplace.clip)
    noised = DiscreteLaplace(spec.laplace)(clipped, SystemSource())
    return [
        f"phantom {index + 1} ({campaign.label_names[int(label) % spec.classes]}): "
        f"before noise {before.tolist()[:8]}, as it would leave {after.tolist()[:8]}"
        for index, (label, before, after) in enumerate(zip(labels, clipped.steps, noised.steps, strict=True))
    ]
