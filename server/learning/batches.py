"""Which images a training step sees, and with which noise: a function of the seed and the step alone.

Nothing is carried from step to step, so a training that was interrupted goes on as if it had not been, and each of
several workers finds its share without asking the others.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ldp_client.flow.glow import dequantise
from ldp_client.flow.preprocess import prepare
from server.learning.recipe import Recipe

INITIAL_IMAGES = 512
"""How many images set the ActNorms."""


@dataclass(frozen=True, eq=False)
class Noisy:
    """Dequantised images (B, 1, size, size) and the log density of their noise (B,)."""

    images: Tensor
    log_q: Tensor

    def share(self, worker: int, workers: int) -> Noisy:
        """The part of one of several workers."""
        return Noisy(self.images.chunk(workers)[worker], self.log_q.chunk(workers)[worker])

    def to(self, device: torch.device) -> Noisy:
        """The same on another device."""
        return Noisy(self.images.to(device), self.log_q.to(device))


def prepared(images: NDArray[np.uint8], recipe: Recipe) -> Tensor:
    """Public X-rays (N, H, W) as a hospital's encoder would see them: (N, 1, size, size)."""
    content, size = recipe.content, recipe.shape.size
    return torch.stack(
        [prepare(one, inverted=False, window=None, bits=8, content=content, size=size) for one in images]
    )


def generator(seed: int, purpose: str, number: int = 0) -> torch.Generator:
    """A stream of its own for each purpose and number, so that none depends on how often another was asked."""
    digest = hashlib.sha256(f"{seed} {purpose} {number}".encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:8], "big", signed=True))


def batch(train: Tensor, recipe: Recipe, step: int) -> Noisy:
    """The batch of one step, counted from 0: shuffled anew each epoch, half of the images mirrored.

    Mirrored, since the log-scale map reads an X-ray and its mirror image.
    """
    epoch, place = divmod(step, len(train) // recipe.batch)
    order = torch.randperm(len(train), generator=generator(recipe.seed, "order", epoch))
    images = train[order[place * recipe.batch : (place + 1) * recipe.batch]]
    draws = generator(recipe.seed, "batch", step)
    if recipe.mirror:
        mirrored = torch.rand(len(images), 1, 1, 1, generator=draws) < 0.5
        images = torch.where(mirrored, images.flip(3), images)
    return Noisy(*dequantise(images, recipe.content, draws))


def initial(train: Tensor, recipe: Recipe) -> Tensor:
    """The images that set the ActNorms."""
    draws = generator(recipe.seed, "initial")
    chosen = train[torch.randperm(len(train), generator=draws)[:INITIAL_IMAGES]]
    return dequantise(chosen, recipe.content, draws)[0]


def validation(held_out: Tensor, recipe: Recipe) -> Noisy:
    """The held-out images under one draw of noise, so that validations compare weights and not noise."""
    return Noisy(*dequantise(held_out, recipe.content, generator(recipe.seed, "validation")))
