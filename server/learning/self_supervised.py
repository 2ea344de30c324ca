"""A teacher that learns from public X-rays, without any label, which differences between chests are lasting ones.

Two random views of one X-ray should get the same features, different X-rays different ones. The loss is VICReg's
(Bardes, Ponce, LeCun, "VICReg: Variance-Invariance-Covariance Regularization", ICLR 2022): views agree, every feature
keeps a spread of 1 over the batch, and no two features say the same.

The teacher stays where it was trained. What it knows reaches the hospitals as a linear map of the flow's output, which
`distillation` fits.
"""

from __future__ import annotations

import hashlib
import json
import math
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn
from torch.nn import functional

from ldp_client.errors import ConfigurationError, ParameterError
from server.learning.checkpoint import replace_file
from server.learning.views import random_view
from server.learning.workers import Workers

TEACHER_FILE = "teacher.safetensors"
SAVE_SECONDS = 60.0
INVARIANCE, VARIANCE, COVARIANCE = 25.0, 25.0, 1.0
"""The weights of the three terms, as published."""
_BATCH = 256  # images of one pass without gradients
_FULL_SIDE = 32  # X-rays up to this side are not made smaller before the first block


@dataclass(frozen=True)
class TeacherRecipe:
    """Everything that decides a teacher's weights, beside the images, the torch version and the processor."""

    epochs: int = 250
    batch: int = 256
    learning_rate: float = 3e-3
    weight_decay: float = 1e-3
    widths: tuple[int, int, int, int] = (48, 96, 192, 320)
    """Channels after the first convolution and after each of the three blocks; the last are the features."""
    projection: int = 256
    seed: int = 0
    threads: int = 2

    def __post_init__(self) -> None:
        if min(self.epochs, self.threads, self.projection, *self.widths) < 1 or self.batch < 2:
            raise ParameterError(
                f"asked to train a teacher for {self.epochs} epochs in batches of {self.batch} with {self.threads} "
                "threads; give at least 1 epoch, 2 images a batch and 1 thread"
            )


@dataclass(frozen=True)
class TeacherProgress:
    """Where a teacher's training stands after an epoch: its mean loss."""

    epoch: int
    epochs: int
    loss: float


class Teacher(nn.Module):
    """A small convolutional network: standardised X-rays (B, 1, S, S) to features (B, F), F the last of the widths."""

    def __init__(self, side: int, recipe: TeacherRecipe) -> None:
        super().__init__()
        self.side, self.recipe, self.command = side, recipe, ""
        stride = 1 if side <= _FULL_SIDE else 2
        widths = recipe.widths
        layers = [_convolution(1, widths[0], stride, 3 if stride == 1 else 5)]
        for before, after in pairwise(widths):
            layers += [_convolution(before, after, 2), _convolution(after, after, 1)]
        self.body = nn.Sequential(*layers)
        self.head = nn.Sequential(
            nn.Linear(widths[-1], 2 * recipe.projection),
            nn.BatchNorm1d(2 * recipe.projection),
            nn.ReLU(),
            nn.Linear(2 * recipe.projection, recipe.projection),
        )

    def features(self, images: Tensor) -> Tensor:
        """Images (B, 1, S, S) in 0..1 to features (B, F): each image standardised, the last maps averaged."""
        features: Tensor = self.body(standardised(images)).mean((2, 3))
        return features

    def forward(self, images: Tensor) -> Tensor:
        """Images (B, 1, S, S) to what the loss compares, (B, projection)."""
        projected: Tensor = self.head(self.features(images))
        return projected


def standardised(images: Tensor) -> Tensor:
    """Each image minus its mean, over its standard deviation and a little, so that an even image stays small."""
    mean, spread = images.mean((1, 2, 3), keepdim=True), images.std((1, 2, 3), keepdim=True)
    return (images - mean) / (spread + 0.02)


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
        ParameterError: fewer X-rays than one batch.
        ConfigurationError: `folder` holds the teacher of other images or another recipe, or the training diverged.
    """
    workers = workers or Workers()
    batches = len(images) // recipe.batch
    if not batches:
        raise ParameterError(
            f"asked to train a teacher on {len(images)} X-rays in batches of {recipe.batch}; give more X-rays, or "
            "smaller batches"
        )
    folder.mkdir(parents=True, exist_ok=True)
    mark = _fingerprint(images, recipe)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(recipe.seed)
        teacher = Teacher(images.shape[-1], recipe)
    teacher.command = command
    device, threads = workers.device, torch.get_num_threads()
    teacher.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]  # torch's stub lacks it
    optimiser = torch.optim.AdamW(teacher.parameters(), lr=recipe.learning_rate, weight_decay=recipe.weight_decay)
    begun = _restore(teacher, optimiser, mark, folder)
    public = torch.from_numpy(images)[:, None]
    saved = time.monotonic()
    torch.set_num_threads(recipe.threads)
    try:
        for epoch in range(begun, recipe.epochs):
            draws = _generator(recipe, epoch)
            order = torch.randperm(len(images), generator=draws)
            total = torch.zeros((), device=device)
            for index in range(batches):
                chosen = public[order[index * recipe.batch : (index + 1) * recipe.batch]].to(device).float() / 255
                for group in optimiser.param_groups:
                    group["lr"] = recipe.learning_rate * _schedule(epoch * batches + index, recipe.epochs * batches)
                first, second = random_view(chosen, draws), random_view(chosen, draws)
                with torch.autocast(device.type, torch.bfloat16, enabled=device.type == "cuda"):
                    outputs = teacher(_last(first)), teacher(_last(second))
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
                _save(teacher, None if done else optimiser, mark, epoch + 1, folder)
                saved = time.monotonic()
            progress(TeacherProgress(epoch + 1, recipe.epochs, mean))
    finally:
        torch.set_num_threads(threads)
    return teacher.eval()


def teacher_features(teacher: Teacher, images: NDArray[np.uint8]) -> NDArray[np.float64]:
    """Features of X-rays (N, S, S) uint8, each averaged with its mirror image's: (N, F)."""
    device = next(teacher.parameters()).device
    parts = []
    with torch.inference_mode():
        for part in torch.split(torch.from_numpy(images)[:, None], _BATCH):
            x = part.to(device).float() / 255
            both = teacher.features(_last(x)) + teacher.features(_last(x.flip(3)))
            parts.append((both / 2).double().cpu().numpy())
    return np.concatenate(parts)


def _convolution(channels: int, width: int, stride: int, side: int = 3) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(channels, width, side, stride, side // 2, bias=False), nn.BatchNorm2d(width), nn.ReLU()
    )


def _last(images: Tensor) -> Tensor:
    return images.contiguous(memory_format=torch.channels_last)


def _schedule(step: int, steps: int) -> float:
    """Linear warm-up over a tenth, then half a cosine to nothing."""
    warm = min(1.0, (step + 1) / max(1, steps // 10))
    return warm * 0.5 * (1 + math.cos(math.pi * step / steps))


def _generator(recipe: TeacherRecipe, epoch: int) -> torch.Generator:
    seed = hashlib.sha256(f"{recipe.seed} teacher {epoch}".encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(seed[:8], "big", signed=True))


def _fingerprint(images: NDArray[np.uint8], recipe: TeacherRecipe) -> str:
    told = {name: value for name, value in asdict(recipe).items() if name != "threads"}
    content = hashlib.sha256(json.dumps(told, sort_keys=True).encode())
    content.update(np.ascontiguousarray(images).tobytes())
    return content.hexdigest()


def _save(teacher: Teacher, optimiser: torch.optim.AdamW | None, mark: str, epoch: int, folder: Path) -> None:
    """Replace the folder's teacher; a finished one, without an optimiser, is weights only."""
    tensors = {f"teacher.{name}": tensor for name, tensor in teacher.state_dict().items()}
    moving = {} if optimiser is None else optimiser.state
    for name, parameter in teacher.named_parameters() if moving else ():
        moments = moving[parameter]
        tensors |= {f"mean.{name}": moments["exp_avg"], f"square.{name}": moments["exp_avg_sq"]}
        tensors[f"step.{name}"] = moments["step"]
    told = {
        "fingerprint": mark,
        "epoch": str(epoch),
        "recipe": json.dumps(asdict(teacher.recipe)),
        "side": str(teacher.side),
        "command": teacher.command,
    }
    replace_file(folder / TEACHER_FILE, save({n: t.detach().cpu().contiguous() for n, t in tensors.items()}, told))


def load_teacher(folder: Path) -> Teacher:
    """Read a teacher whose training has ended.

    Raises:
        ConfigurationError: there is none, or its training has not ended.
    """
    found = _read(folder)
    if found is None:
        raise ConfigurationError(
            f"{folder.name!r} holds no {TEACHER_FILE}; name a folder that `ldp-server encoder fit-features` wrote"
        )
    told, tensors = found
    recipe = TeacherRecipe(**{**told["recipe"], "widths": tuple(told["recipe"]["widths"])})
    if told["epoch"] != recipe.epochs:
        raise ConfigurationError(
            f"the teacher in {folder.name!r} has done {told['epoch']} of {recipe.epochs} epochs; repeat the command "
            "that began it, it goes on from there"
        )
    with torch.device("meta"):
        teacher = Teacher(told["side"], recipe)
    teacher.command = told["command"]
    _fill(teacher, tensors, folder)
    return teacher.eval()


def _restore(teacher: Teacher, optimiser: torch.optim.AdamW, mark: str, folder: Path) -> int:
    """Bring a new teacher to where the folder's stands; returns the epochs done."""
    read = _read(folder)
    if read is None:
        return 0
    told, tensors = read
    if told["fingerprint"] != mark:
        raise ConfigurationError(
            f"the teacher in {folder.name!r} was trained on other images or by another recipe; "
            "repeat the command that began it, or remove the folder to begin afresh"
        )
    _fill(teacher, tensors, folder)
    for name, parameter in teacher.named_parameters() if any(n.startswith("step.") for n in tensors) else ():
        layout = torch.channels_last if parameter.ndim == 4 else torch.contiguous_format
        optimiser.state[parameter] = {
            "step": tensors[f"step.{name}"],
            "exp_avg": tensors[f"mean.{name}"].to(parameter.device).contiguous(memory_format=layout),
            "exp_avg_sq": tensors[f"square.{name}"].to(parameter.device).contiguous(memory_format=layout),
        }
    return int(told["epoch"])


def _read(folder: Path) -> tuple[dict[str, Any], dict[str, Tensor]] | None:
    """What stands in the folder's teacher file: what it tells, and its tensors; None where there is none."""
    path = folder / TEACHER_FILE
    if not path.exists():
        return None
    try:
        with safe_open(path, framework="pt") as file:
            told: dict[str, Any] = dict(file.metadata() or {})
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  # not a dict
        told |= {name: json.loads(told[name]) for name in ("epoch", "recipe", "side")}
        told["fingerprint"], told["command"]
    except (SafetensorError, KeyError, ValueError, OSError) as error:
        raise ConfigurationError(
            f"{folder.name}/{TEACHER_FILE} is no teacher; remove {folder.name!r} to begin afresh"
        ) from error
    return told, tensors


def _fill(teacher: Teacher, tensors: dict[str, Tensor], folder: Path) -> None:
    weights = {n.removeprefix("teacher."): t for n, t in tensors.items() if n.startswith("teacher.")}
    layout = {name: (tuple(t.shape), t.dtype) for name, t in teacher.state_dict().items()}
    if {name: (tuple(t.shape), t.dtype) for name, t in weights.items()} != layout or not all(
        bool(torch.isfinite(t).all()) for t in weights.values()
    ):
        raise ConfigurationError(
            f"the weights in {folder.name}/{TEACHER_FILE} are not those of its recipe, or not finite; "
            f"remove {folder.name!r} to begin afresh"
        )
    on_meta = next(teacher.parameters()).is_meta
    teacher.load_state_dict(weights, assign=on_meta)
