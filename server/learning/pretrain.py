"""Pretrain the public encoder: maximum likelihood on public X-rays, then the bottleneck, then the bundle.

Nothing here ever sees a label or a hospital's X-ray.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ldp_client.errors import ParameterError
from ldp_client.flow.bottleneck import WHITENED_PCA, fit_whitened_pca
from ldp_client.flow.encoder import BATCH, EncoderCard
from ldp_client.flow.glow import Glow
from ldp_client.flow.inference import FrozenGlow
from server.learning.batches import prepared
from server.learning.bundle import require_new, write_bundle
from server.learning.likelihood import maximise_likelihood
from server.learning.pictures import CURVE_FILE, SAMPLES_FILE, draw_curve, draw_samples
from server.learning.recipe import Origin, Progress, Recipe
from server.learning.workers import Workers


def workshop(folder: Path) -> Path:
    """Where a training keeps its checkpoint and its pictures: beside the bundle that it will write."""
    return folder.with_name(f"{folder.name}.training")


def pretrain(
    images: NDArray[np.uint8],
    held_out: NDArray[np.uint8],
    recipe: Recipe,
    origin: Origin,
    folder: Path,
    progress: Callable[[Progress], None],
    workers: Workers | None = None,
) -> EncoderCard | None:
    """Train a flow and write its bundle to `folder`, which must not exist yet.

    Beside it, in `workshop(folder)`, stand a checkpoint, a loss curve and samples; a training that was killed goes on
    from the checkpoint and ends with the same bytes. The bottleneck is fitted on both sets. The same images, recipe,
    torch version and processor give the same bundle.

    Args:
        images: public X-rays (N, H, W) uint8.
        held_out: public X-rays (M, H, W) uint8, never trained on.
        workers: this process among several; None works alone. All but the first return None.

    Raises:
        ConfigurationError: the folder exists, or what `maximise_likelihood` refuses.
        ParameterError: fewer images than one batch, or images `prepare` refuses.
    """
    workers = workers or Workers()
    require_new(folder)
    if len(images) < recipe.batch or len(held_out) < 1:
        raise ParameterError(
            f"asked to train on {len(images)} images in batches of {recipe.batch}, with {len(held_out)} held out; "
            "give at least one batch and one held-out image"
        )
    train, validation = prepared(images, recipe), prepared(held_out, recipe)
    place = workshop(folder)
    place.mkdir(parents=True, exist_ok=True)
    state = maximise_likelihood(train, validation, recipe, place, progress, workers)
    if not workers.first:
        return None
    with torch.device("meta"):  # no weights to draw: they are all read
        flow = Glow(recipe.shape)
    flow.load_state_dict({name: tensor.cpu() for name, tensor in state.best.items()}, assign=True)
    draw_curve(state, place / CURVE_FILE)
    draw_samples(flow, recipe.content, recipe.seed, place / SAMPLES_FILE)
    bottleneck = fit_whitened_pca(_maps(flow, torch.cat((train, validation))), recipe.dimension)
    card = EncoderCard(
        name=origin.name,
        data_family=origin.data_family,
        source=origin.source,
        training_images=len(images),
        held_out_images=len(held_out),
        content=recipe.content,
        size=recipe.shape.size,
        channels=1,
        levels=recipe.shape.levels,
        steps=recipe.shape.steps,
        width=recipe.shape.width,
        bits_per_dim=f"{state.best_bits:.4f}",
        bottleneck=WHITENED_PCA,
        dimension=recipe.dimension,
        weights_sha256="0" * 64,
        command=origin.command,
    )
    return write_bundle(card, flow, bottleneck, folder)


def _maps(flow: Glow, images: Tensor) -> NDArray[np.float64]:
    """The log-scale maps as a hospital's encoder computes them."""
    with torch.inference_mode():
        frozen = FrozenGlow(flow)
        return np.concatenate([frozen.log_scale_map(part).double().numpy() for part in torch.split(images, BATCH)])
