"""Writing an encoder's bundle: all or nothing, and read back through every check before it stands."""

from __future__ import annotations

import hashlib
import shutil
import tempfile
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
from server.learning.teacher import Teacher, teacher_features


def write_bundle(card: EncoderCard, flow: Glow, bottleneck: Bottleneck, folder: Path) -> EncoderCard:
    """Write card and weights to a new folder, all or nothing, and return the card with the weights' digest.

    The bundle is written beside `folder`, read back through every check of `Encoder.load`, and then renamed.

    Raises:
        ConfigurationError: the folder exists.
    """
    require_new(folder)
    data = serialise_safetensors(bundle_tensors(flow, bottleneck))
    card = card.model_copy(update={"weights_sha256": hashlib.sha256(data).hexdigest()})
    folder.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
    try:
        (temporary / WEIGHTS_FILE).write_bytes(data)
        (temporary / CARD_FILE).write_bytes(canonical_bytes(card))
        temporary.chmod(0o755)  # mkdtemp makes it private; a bundle is public
        Encoder.load(temporary)
        temporary.rename(folder)
    except BaseException:
        shutil.rmtree(temporary)
        raise
    return card


def require_new(folder: Path) -> None:
    """Raise ConfigurationError when a bundle's folder is there already: none is ever overwritten."""
    if folder.exists():
        raise ConfigurationError(f"asked to write an encoder to {folder.name!r}, which exists; name a new folder")


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
        ConfigurationError: the folder exists, the teacher is of another size, or both a teacher and a level are given.
        ParameterError: the X-rays do not span as many coordinates, or the flow has no such level.
    """
    if teacher is not None and level is not None:
        raise ConfigurationError(
            f"asked for the coordinates of a teacher and for those of level {level}; give --features or --level"
        )
    encoder = Encoder.load(source)
    maps = encoder.log_scale_map(torch.stack([encoder.prepare(image) for image in images]))
    if level is not None:
        kind, bottleneck = ONE_LEVEL, fit_level(maps, encoder.card.levels, level, dimension)
    elif teacher is None:
        kind, bottleneck = WHITENED_PCA, fit_whitened_pca(maps, dimension)
    else:
        if teacher.side != encoder.content:
            raise ConfigurationError(
                f"the teacher looks at X-rays of {teacher.side} px, encoder {encoder.card.name!r} at "
                f"{encoder.content} px; train one for this encoder with fit-features"
            )
        kind = SELF_SUPERVISED
        bottleneck = distil(maps, teacher_features(teacher, contents(encoder.card, images)), dimension)
    card = encoder.card.model_copy(update={"dimension": dimension, "bottleneck": kind, "command": command})
    return write_bundle(card, encoder.flow, bottleneck, folder)


def contents(card: EncoderCard, images: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """What an encoder sees of images (N, H, W) uint8, without its padding: (N, content, content) uint8."""
    side = card.content
    seen = [prepare(one, inverted=False, window=None, bits=8, content=side, size=side)[0] for one in images]
    return (torch.stack(seen) * 256).floor().to(torch.uint8).numpy()
