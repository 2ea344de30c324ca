"""Writing an encoder's bundle: all or nothing, and read back through every check before it stands."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import save as serialise_safetensors

from ldp_client.errors import ConfigurationError
from ldp_client.flow.bottleneck import (
    ONE_LEVEL,
    SELF_SUPERVISED,
    WHITENED_PCA,
    Bottleneck,
    fit_level,
    fit_whitened_pca,
)
from ldp_client.flow.encoder import CARD_FILE, WEIGHTS_FILE, Encoder, EncoderCard, bundle_tensors
from ldp_client.flow.glow import Glow
from ldp_client.flow.preprocess import prepare
from ldp_client.wire.canonical import canonical_bytes
from server.learning.distillation import distil
from server.learning.new_folder import new_folder, require_new
from server.learning.public_images import require_different
from server.learning.teacher import Teacher, fingerprint, teacher_features

AN_ENCODER = "an encoder"


def write_bundle(card: EncoderCard, flow: Glow, bottleneck: Bottleneck, folder: Path) -> EncoderCard:
    """Write card and weights to a new folder, all or nothing, and return the card with the weights' digest.

    The bundle is written beside `folder`, read back through every check of `Encoder.load`, and then renamed.

    Raises:
        ConfigurationError: the folder exists, or cannot be made.
    """
    data = serialise_safetensors(bundle_tensors(flow, bottleneck))
    card = card.model_copy(update={"weights_sha256": hashlib.sha256(data).hexdigest()})
    with new_folder(folder, AN_ENCODER) as temporary:
        (temporary / WEIGHTS_FILE).write_bytes(data)
        (temporary / CARD_FILE).write_bytes(canonical_bytes(card))
        Encoder.load(temporary)
    return card


def refit_bottleneck(
    source: Path,
    images: NDArray[np.uint8],
    dimension: int,
    command: str,
    folder: Path,
    teacher: Teacher | None = None,
    level: int | None = None,
) -> EncoderCard:
    """Write to `folder` the encoder in `source` with another bottleneck, fitted on public images (N, H, W) uint8.

    With a teacher, what it knows is distilled into the flow's output; without one the bottleneck is the whitened
    principal coordinates of the log-scale map, or of one level of it.

    Raises:
        ConfigurationError: the folder exists or cannot be made, the teacher is of another size or of other X-rays, or
            both a teacher and a level are given.
        ParameterError: fewer than two X-rays, or all alike; they do not span as many coordinates, or the flow has no
            such level.
    """
    require_new(folder, AN_ENCODER)
    if teacher is not None and level is not None:
        raise ConfigurationError(
            f"asked for the coordinates of a teacher and for those of level {level}; give --features or --level"
        )
    require_different(images, "fit a bottleneck")
    encoder = Encoder.load(source)
    features = None if teacher is None else teacher_features(teacher, _seen_by(teacher, encoder.card, images))
    maps = encoder.log_scale_map(torch.stack([encoder.prepare(image) for image in images]))
    if level is not None:
        kind, bottleneck = ONE_LEVEL, fit_level(maps, encoder.card.levels, level, dimension)
    elif features is None:
        kind, bottleneck = WHITENED_PCA, fit_whitened_pca(maps, dimension)
    else:
        kind, bottleneck = SELF_SUPERVISED, distil(maps, features, dimension)
    card = encoder.card.model_copy(update={"dimension": dimension, "bottleneck": kind, "command": command})
    return write_bundle(card, encoder.flow, bottleneck, folder)


def _seen_by(teacher: Teacher, card: EncoderCard, images: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """What a teacher looks at in public images (N, H, W), which must be what it was trained on."""
    if teacher.side != card.content:
        raise ConfigurationError(
            f"the teacher looks at X-rays of {teacher.side} px, encoder {card.name!r} at {card.content} px; "
            "train one for this encoder with fit-features"
        )
    seen = contents(card, images)
    if teacher.fingerprint != fingerprint(seen, teacher.recipe):
        raise ConfigurationError(
            f"asked to fit a bottleneck on {len(images)} X-rays with a teacher that was trained on others; give the "
            "--data, --key, --split and --public that fit-features had, or train a teacher on these"
        )
    return seen


def contents(card: EncoderCard, images: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """What an encoder sees of images (N, H, W) uint8, without its padding: (N, content, content) uint8."""
    side = card.content
    seen = [prepare(one, inverted=False, window=None, bits=8, content=side, size=side)[0] for one in images]
    return (torch.stack(seen) * 256).floor().to(torch.uint8).numpy()
