"""Pretrain the public encoder: maximum likelihood on public X-rays, then the bottleneck, then the bundle.

Nothing here ever sees a label or a hospital's X-ray.
"""

from __future__ import annotations

import hashlib
import math
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import save as serialise_safetensors
from torch import Tensor

from ldp_client.errors import ConfigurationError, ParameterError
from ldp_client.flow.bottleneck import WHITENED_PCA, Bottleneck, fit_whitened_pca
from ldp_client.flow.encoder import CARD_FILE, WEIGHTS_FILE, Encoder, EncoderCard, bundle_tensors
from ldp_client.flow.glow import Glow, Shape, dequantise
from ldp_client.flow.preprocess import prepare
from ldp_client.wire.canonical import canonical_bytes


@dataclass(frozen=True)
class Recipe:
    """Everything that decides the weights, beside the images, the torch version and the processor."""

    shape: Shape
    content: int
    dimension: int = 2
    training_steps: int = 4000
    batch: int = 64
    learning_rate: float = 2e-3
    warmup_steps: int = 200
    gradient_norm: float = 50.0
    ema_decay: float = 0.998
    validate_every: int = 250
    mirror: bool = True
    seed: int = 0
    threads: int = 2

    def __post_init__(self) -> None:
        counts = (self.training_steps, self.batch, self.warmup_steps, self.validate_every, self.threads)
        if min(counts) < 1 or not 0 < self.learning_rate <= 1:
            raise ParameterError(
                f"asked to train with {self.training_steps} steps, batches of {self.batch}, {self.warmup_steps} "
                f"warm-up steps, {self.threads} threads and a learning rate of {self.learning_rate}; give at least 1 "
                "of each, and a rate above 0 and up to 1"
            )


@dataclass(frozen=True)
class Origin:
    """What the card says about where an encoder comes from."""

    name: str
    data_family: str
    source: str
    command: str


@dataclass(frozen=True)
class Progress:
    """Where the training stands; `bits_per_dim` is the moving average's, on the held-out images, when measured."""

    step: int
    steps: int
    loss: float
    bits_per_dim: float | None


def pretrain(
    images: NDArray[np.uint8],
    held_out: NDArray[np.uint8],
    recipe: Recipe,
    origin: Origin,
    folder: Path,
    progress: Callable[[Progress], None],
) -> EncoderCard:
    """Train a flow and write its bundle to `folder`, which must not exist yet.

    Adam with warm-up and cosine decay, gradient clipping and a moving average of the weights; the average that has the
    fewest bits per dimension on `held_out` is kept. The bottleneck is fitted on both sets. The same images, recipe,
    torch version and processor give the same bytes.

    Args:
        images: public X-rays (N, H, W) uint8.
        held_out: public X-rays (M, H, W) uint8, never trained on.

    Raises:
        ConfigurationError: the folder exists.
        ParameterError: fewer images than one batch, or images `prepare` refuses.
    """
    if folder.exists():
        raise ConfigurationError(f"asked to write an encoder to {folder.name!r}, which exists; name a new folder")
    if len(images) < recipe.batch or len(held_out) < 1:
        raise ParameterError(
            f"asked to train on {len(images)} images in batches of {recipe.batch}, with {len(held_out)} held out; "
            "give at least one batch and one held-out image"
        )
    train, validation = _prepare_all(images, recipe), _prepare_all(held_out, recipe)
    with _deterministic(recipe.threads):
        flow, bits = _maximise_likelihood(train, validation, recipe, progress)
        maps = _maps(flow, torch.cat((train, validation)))
        bottleneck = fit_whitened_pca(maps, recipe.dimension)
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
        bits_per_dim=f"{bits:.4f}",
        bottleneck=WHITENED_PCA,
        dimension=recipe.dimension,
        weights_sha256="0" * 64,
        command=origin.command,
    )
    return write_bundle(card, flow, bottleneck, folder)


def refit_bottleneck(
    source: Path, images: NDArray[np.uint8], dimension: int, command: str, folder: Path
) -> EncoderCard:
    """Write to `folder` the encoder in `source` with another bottleneck, fitted on public images (N, H, W) uint8."""
    encoder = Encoder.load(source)
    prepared = torch.stack([encoder.prepare(image) for image in images])
    bottleneck = fit_whitened_pca(encoder.log_scale_map(prepared), dimension)
    card = encoder.card.model_copy(update={"dimension": dimension, "command": command})
    return write_bundle(card, encoder.flow, bottleneck, folder)


def write_bundle(card: EncoderCard, flow: Glow, bottleneck: Bottleneck, folder: Path) -> EncoderCard:
    """Write card and weights to a new folder, all or nothing, and return the card with the weights' digest.

    The bundle is written beside `folder`, read back through every check of `Encoder.load`, and then renamed.
    """
    if folder.exists():
        raise ConfigurationError(f"asked to write an encoder to {folder.name!r}, which exists; name a new folder")
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


def _maximise_likelihood(
    train: Tensor, validation: Tensor, recipe: Recipe, progress: Callable[[Progress], None]
) -> tuple[Glow, float]:
    """Return the best moving average of the flow and its bits per dimension on the held-out images."""
    generator = torch.Generator().manual_seed(recipe.seed)
    flow, average = Glow(recipe.shape), Glow(recipe.shape)
    flow.randomise(generator)
    flow.initialize(dequantise(train[torch.randperm(len(train), generator=generator)[:512]], generator))
    for parameter in flow.parameters():
        if parameter.ndim == 4:  # a third faster on a processor: 0.117 against 0.180 s a step
            parameter.data = parameter.data.contiguous(memory_format=torch.channels_last)
    average.load_state_dict(flow.state_dict())
    # One draw of the dequantisation noise for all validations, so that they compare weights and not noise.
    validation = dequantise(validation, generator)
    optimiser = torch.optim.Adam(flow.parameters(), lr=recipe.learning_rate)
    best, best_bits = {name: t.clone() for name, t in average.state_dict().items()}, math.inf
    batches = _batches(train, recipe, generator)
    for step in range(recipe.training_steps):
        for group in optimiser.param_groups:
            group["lr"] = recipe.learning_rate * _schedule(step, recipe)
        loss = flow.bits_per_dim(next(batches), recipe.content).mean()
        optimiser.zero_grad()
        torch.autograd.backward(loss)
        torch.nn.utils.clip_grad_norm_(flow.parameters(), recipe.gradient_norm, error_if_nonfinite=True)
        optimiser.step()
        with torch.no_grad():
            # A short memory at first: the average of few steps should not be the random start.
            decay = min(recipe.ema_decay, (1 + step) / (10 + step))
            torch._foreach_lerp_(list(average.parameters()), list(flow.parameters()), 1 - decay)
        bits = None
        if (step + 1) % recipe.validate_every == 0 or step + 1 == recipe.training_steps:
            with torch.inference_mode():
                parts = [average.bits_per_dim(part, recipe.content) for part in torch.split(validation, recipe.batch)]
            bits = float(torch.cat(parts).mean())
            if bits < best_bits:
                best, best_bits = {name: t.clone() for name, t in average.state_dict().items()}, bits
        progress(Progress(step + 1, recipe.training_steps, float(loss.detach()), bits))
    average.load_state_dict(best)
    return average, best_bits


def _schedule(step: int, recipe: Recipe) -> float:
    """Linear warm-up, then half a cosine down to a hundredth."""
    warm = min(1.0, (step + 1) / recipe.warmup_steps)
    return warm * (0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * step / recipe.training_steps)))


def _batches(train: Tensor, recipe: Recipe, generator: torch.Generator) -> Iterator[Tensor]:
    """Endless shuffled, dequantised batches; half of the images mirrored, since the log-scale map reads both."""
    while True:
        order = torch.randperm(len(train), generator=generator)
        for start in range(0, len(train) - recipe.batch + 1, recipe.batch):
            batch = train[order[start : start + recipe.batch]]
            if recipe.mirror:
                mirrored = torch.rand(len(batch), 1, 1, 1, generator=generator) < 0.5
                batch = torch.where(mirrored, batch.flip(3), batch)
            yield dequantise(batch, generator).contiguous(memory_format=torch.channels_last)


def _prepare_all(images: NDArray[np.uint8], recipe: Recipe) -> Tensor:
    return torch.stack(
        [
            prepare(image, inverted=False, window=None, bits=8, content=recipe.content, size=recipe.shape.size)
            for image in images
        ]
    )


def _maps(flow: Glow, images: Tensor) -> NDArray[np.float64]:
    with torch.inference_mode():
        return np.concatenate([flow.log_scale_map(part).double().numpy() for part in torch.split(images, 64)])


@contextmanager
def _deterministic(threads: int) -> Iterator[None]:
    """Fix what torch lets vary between two runs; set it back afterwards."""
    before, deterministic = torch.get_num_threads(), torch.are_deterministic_algorithms_enabled()
    torch.set_num_threads(threads)
    torch.use_deterministic_algorithms(True)
    try:
        with torch.random.fork_rng(devices=[]):
            yield
    finally:
        torch.set_num_threads(before)
        torch.use_deterministic_algorithms(deterministic)
