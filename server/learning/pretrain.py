"""Pretrain the public encoder: maximum likelihood on public X-rays, then the bottleneck, then the bundle.

Nothing here ever sees a label or a hospital's X-ray.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import ValidationError
from torch import Tensor

from ldp_client.errors import ConfigurationError, ParameterError
from ldp_client.flow.bottleneck import WHITENED_PCA, fit_whitened_pca
from ldp_client.flow.encoder import BATCH, MAX_WEIGHTS_BYTES, EncoderCard
from ldp_client.flow.glow import Glow
from ldp_client.flow.inference import FrozenGlow
from server.learning.batches import prepared
from server.learning.bundle import AN_ENCODER, write_bundle
from server.learning.likelihood import maximise_likelihood, repeatable
from server.learning.new_folder import require_new
from server.learning.pictures import CURVE_FILE, SAMPLES_FILE, draw_curve, draw_samples
from server.learning.recipe import Origin, Progress, Recipe
from server.learning.workers import Workers

_HEADER_BYTES = 256
"""What a file of weights says of each tensor, at most: name, type, shape and place."""


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
        ConfigurationError: the folder exists or cannot be written, the encoder would be too large to load or its
            bottleneck too wide, or what `maximise_likelihood` refuses.
        ParameterError: fewer images than one batch, or images `prepare` refuses.
    """
    workers = workers or Workers()
    require_new(folder, AN_ENCODER)
    if len(images) < recipe.batch or len(held_out) < 1:
        raise ParameterError(
            f"asked to train on {len(images)} images in batches of {recipe.batch}, with {len(held_out)} held out; "
            "give at least one batch and one held-out image"
        )
    # Before hours of training: what no card may say, and a bundle that could not be made or loaded, are refused here.
    card = _card(recipe, origin, len(images), len(held_out))
    _require_loadable(recipe, len(images) + len(held_out))
    train, validation = prepared(images, recipe), prepared(held_out, recipe)
    place = workshop(folder)
    try:
        place.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigurationError(
            f"{place.name!r}, where the checkpoint stands, cannot be made ({error.strerror}); "
            "name a new folder where you may write"
        ) from error
    state = maximise_likelihood(train, validation, recipe, place, progress, workers)
    if not workers.first:
        return None
    if not math.isfinite(state.best_bits):
        raise ConfigurationError(
            "the training diverged: no validation had a finite figure; "
            f"lower the learning rate of {recipe.learning_rate} and begin afresh without {place.name!r}"
        )
    with torch.device("meta"):  # no weights to draw: they are all read
        flow = Glow(recipe.shape)
    flow.load_state_dict({name: tensor.cpu() for name, tensor in state.best.items()}, assign=True)
    draw_curve(state, place / CURVE_FILE)
    draw_samples(flow, recipe.content, recipe.seed, place / SAMPLES_FILE)
    with repeatable(recipe.threads, workers):
        bottleneck = fit_whitened_pca(_maps(flow, torch.cat((train, validation))), recipe.dimension)
    card = card.model_copy(update={"bits_per_dim": f"{state.best_bits:.4f}"})
    return write_bundle(card, flow, bottleneck, folder)


def _card(recipe: Recipe, origin: Origin, training_images: int, held_out_images: int) -> EncoderCard:
    """The card as far as it is known before training."""
    try:
        return EncoderCard(
            name=origin.name,
            data_family=origin.data_family,
            source=origin.source,
            training_images=training_images,
            held_out_images=held_out_images,
            content=recipe.content,
            size=recipe.shape.size,
            channels=1,
            levels=recipe.shape.levels,
            steps=recipe.shape.steps,
            width=recipe.shape.width,
            bits_per_dim="0.0000",
            bottleneck=WHITENED_PCA,
            dimension=recipe.dimension,
            weights_sha256="0" * 64,
            command=origin.command,
        )
    except ValidationError as error:
        fault = error.errors(include_input=False)[0]
        raise ConfigurationError(
            f"no encoder's card can say this: {'.'.join(map(str, fault['loc']))} {fault['msg'].lower()}; "
            "a name has lower-case letters, digits, - and _, texts are not empty, and sizes are at most 1024 px, 8 "
            "levels, 64 steps and width 1024"
        ) from error


def _require_loadable(recipe: Recipe, images: int) -> None:
    """Raise ConfigurationError where a bundle could not be made of that many images, or would be refused."""
    width = recipe.shape.map_dimension
    if not 1 <= recipe.dimension <= min(images - 1, width):
        raise ConfigurationError(
            f"asked for {recipe.dimension} coordinates of maps of {width} numbers over {images} images; "
            f"give 1 to {min(images - 1, width)}"
        )
    with torch.device("meta"):  # sizes alone
        tensors = Glow(recipe.shape).state_dict().values()
    size = sum(tensor.numel() * tensor.element_size() for tensor in tensors) + 8 * (recipe.dimension + 1) * width
    if size + _HEADER_BYTES * len(tensors) > MAX_WEIGHTS_BYTES:
        raise ConfigurationError(
            f"asked for an encoder of {size >> 20} MiB, no encoder above {MAX_WEIGHTS_BYTES >> 20} MiB loads; "
            "give fewer --steps or a smaller --width"
        )


def _maps(flow: Glow, images: Tensor) -> NDArray[np.float64]:
    """The log-scale maps as a hospital's encoder computes them."""
    with torch.inference_mode():
        frozen = FrozenGlow(flow)
        return np.concatenate([frozen.log_scale_map(part).double().numpy() for part in torch.split(images, BATCH)])
