"""A teacher that learns from public X-rays, without any label, which differences between chests are lasting ones.

Two random views of one X-ray should get the same features, different X-rays different ones. The loss is VICReg's
(Bardes, Ponce, LeCun, "VICReg: Variance-Invariance-Covariance Regularization", ICLR 2022): views agree, every feature
keeps a spread of 1 over the batch, and no two features say the same.

The teacher stays where it was trained. What it knows reaches the hospitals as a linear map of the flow's output, which
`distillation` fits.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from ldp_client.errors import ConfigurationError, ParameterError
from server.learning.batches import generator
from server.learning.likelihood import repeatable
from server.learning.new_folder import obstacle
from server.learning.public_images import require_different
from server.learning.teacher import (
    Teacher,
    TeacherRecipe,
    channels_last,
    fingerprint,
    restore_teacher,
    save_teacher,
)
from server.learning.views import random_view
from server.learning.workers import Workers

SAVE_SECONDS = 60.0
INVARIANCE, VARIANCE, COVARIANCE = 25.0, 25.0, 1.0
"""The weights of the three terms, as published."""


@dataclass(frozen=True)
class TeacherProgress:
    """Where a teacher's training stands after an epoch: its mean loss."""

    epoch: int
    epochs: int
    loss: float


def vicreg(first: Tensor, second: Tensor) -> Tensor:
    """25 |a - b|^2 + 25 sum over a, b of mean(max(0, 1 - sd)) + sum over a, b of off-diagonal cov^2 / d.

    a and b are (B, d), row by row two views of one X-ray; means are over all entries.
    """
    loss = INVARIANCE * functional.mse_loss(first, second)
    for z in (first, second):
        centred = z - z.mean(0)
        covariance = centred.T @ centred / (len(z) - 1)
        spread = torch.sqrt(covariance.diagonal() + 1e-4)
        loss = loss + VARIANCE * functional.relu(1 - spread).mean()
        off = covariance.square().sum() - covariance.diagonal().square().sum()
        loss = loss + COVARIANCE * off / z.shape[1]
    return loss


def train_teacher(
    images: NDArray[np.uint8],
    recipe: TeacherRecipe,
    folder: Path,
    progress: Callable[[TeacherProgress], None] = lambda state: None,
    workers: Workers | None = None,
    command: str = "",
) -> Teacher:
    """Train a teacher on public X-rays (N, S, S) uint8; a training that was killed goes on from `folder`.

    `command` is what repeats the training; it ends up in the cards of encoders that learn from this teacher.

    The same images, recipe, torch version and processor give the same teacher, whether it was interrupted or not.

    Raises:
        ParameterError: fewer X-rays than one batch, or all alike.
        ConfigurationError: `folder` cannot be written to, or holds the teacher of other images or another recipe, or
            the training diverged.
    """
    require_writable(folder)
    workers = workers or Workers()
    batches = len(images) // recipe.batch
    if not batches:
        raise ParameterError(
            f"asked to train a teacher on {len(images)} X-rays in batches of {recipe.batch}; give more X-rays, or "
            "smaller batches"
        )
    require_different(images, "train a teacher")
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise _unwritable(folder, str(error.strerror)) from error
    device = workers.device
    with repeatable(recipe.threads, workers):
        torch.manual_seed(recipe.seed)
        teacher = Teacher(images.shape[-1], recipe)
    teacher.command, teacher.fingerprint = command, fingerprint(images, recipe)
    teacher.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]  # torch's stub lacks it
    optimiser = torch.optim.AdamW(teacher.parameters(), lr=recipe.learning_rate, weight_decay=recipe.weight_decay)
    begun = restore_teacher(teacher, optimiser, folder)
    public = torch.from_numpy(images)[:, None]
    saved = time.monotonic()
    with repeatable(recipe.threads, workers):
        for epoch in range(begun, recipe.epochs):
            draws = generator(recipe.seed, "teacher", epoch)
            order = torch.randperm(len(images), generator=draws)
            total = torch.zeros((), device=device)
            for index in range(batches):
                chosen = public[order[index * recipe.batch : (index + 1) * recipe.batch]].to(device).float() / 255
                for group in optimiser.param_groups:
                    group["lr"] = recipe.learning_rate * _schedule(epoch * batches + index, recipe.epochs * batches)
                first, second = random_view(chosen, draws), random_view(chosen, draws)
                with torch.autocast(device.type, torch.bfloat16, enabled=device.type == "cuda"):
                    outputs = teacher(channels_last(first)), teacher(channels_last(second))
                loss = vicreg(outputs[0].float(), outputs[1].float())
                optimiser.zero_grad()
                torch.autograd.backward(loss)
                optimiser.step()
                total += loss.detach()
            mean = float(total) / batches
            if not math.isfinite(mean):
                raise ConfigurationError(
                    f"the teacher's training diverged in epoch {epoch + 1}; lower the learning rate of "
                    f"{recipe.learning_rate} and begin afresh without {folder.name!r}"
                )
            done = epoch + 1 == recipe.epochs
            if done or time.monotonic() - saved > SAVE_SECONDS:
                save_teacher(teacher, None if done else optimiser, epoch + 1, folder)
                saved = time.monotonic()
            progress(TeacherProgress(epoch + 1, recipe.epochs, mean))
    return teacher.eval()


def require_writable(folder: Path) -> None:
    """Return if a teacher may be kept in a folder, there already or not; asked before any X-ray is read.

    Raises:
        ConfigurationError: it may not.
    """
    why = obstacle(folder)
    if why:
        raise _unwritable(folder, why)


def _unwritable(folder: Path, why: str) -> ConfigurationError:
    return ConfigurationError(
        f"asked to keep a teacher in {folder}, which cannot be written to ({why}); name a folder where you may write"
    )


def _schedule(step: int, steps: int) -> float:
    """Linear warm-up over a tenth, then half a cosine to nothing."""
    warm = min(1.0, (step + 1) / max(1, steps // 10))
    return warm * 0.5 * (1 + math.cos(math.pi * step / steps))
