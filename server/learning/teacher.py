"""The network that learns from public X-rays which differences between chests are lasting, and the file it stands in.

`self_supervised` trains it. It stays where it was trained; what it knows reaches hospitals through `distillation`.
"""

from __future__ import annotations

import hashlib
import json
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

from ldp_client.errors import ConfigurationError, ParameterError
from server.learning.checkpoint import replace_file

TEACHER_FILE = "teacher.safetensors"
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
        if not 0 < self.learning_rate <= 1:
            raise ParameterError(
                f"asked to train a teacher with a learning rate of {self.learning_rate}; give one above 0 and up to 1"
            )


class Teacher(nn.Module):
    """A small convolutional network: standardised X-rays (B, 1, S, S) to features (B, F), F the last of the widths.

    `fingerprint` says of which X-rays and recipe it is, `command` how it was made; both are empty until it is trained.
    """

    def __init__(self, side: int, recipe: TeacherRecipe) -> None:
        super().__init__()
        self.side, self.recipe, self.command, self.fingerprint = side, recipe, "", ""
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


def teacher_features(teacher: Teacher, images: NDArray[np.uint8]) -> NDArray[np.float64]:
    """Features of X-rays (N, S, S) uint8, each averaged with its mirror image's: (N, F)."""
    device = next(teacher.parameters()).device
    parts = []
    with torch.inference_mode():
        for part in torch.split(torch.from_numpy(images)[:, None], _BATCH):
            x = part.to(device).float() / 255
            both = teacher.features(channels_last(x)) + teacher.features(channels_last(x.flip(3)))
            parts.append((both / 2).double().cpu().numpy())
    return np.concatenate(parts)


def fingerprint(images: NDArray[np.uint8], recipe: TeacherRecipe) -> str:
    """What a teacher has in common with its training: X-rays (N, S, S) uint8 in their order, and recipe."""
    told = {name: value for name, value in asdict(recipe).items() if name != "threads"}
    content = hashlib.sha256(json.dumps(told, sort_keys=True).encode())
    content.update(np.ascontiguousarray(images).tobytes())
    return content.hexdigest()


def save_teacher(teacher: Teacher, optimiser: torch.optim.AdamW | None, epoch: int, folder: Path) -> None:
    """Replace the folder's teacher; a finished one, without an optimiser, is weights only."""
    tensors = {f"teacher.{name}": tensor for name, tensor in teacher.state_dict().items()}
    moving = {} if optimiser is None else optimiser.state
    for name, parameter in teacher.named_parameters() if moving else ():
        moments = moving[parameter]
        tensors |= {f"mean.{name}": moments["exp_avg"], f"square.{name}": moments["exp_avg_sq"]}
        tensors[f"step.{name}"] = moments["step"]
    told = {
        "fingerprint": teacher.fingerprint,
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
    teacher.command, teacher.fingerprint = told["command"], told["fingerprint"]
    _fill(teacher, tensors, folder)
    return teacher.eval()


def restore_teacher(teacher: Teacher, optimiser: torch.optim.AdamW, folder: Path) -> int:
    """Bring a new teacher to where the folder's stands; returns the epochs done."""
    read = _read(folder)
    if read is None:
        return 0
    told, tensors = read
    if told["fingerprint"] != teacher.fingerprint:
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


def _convolution(channels: int, width: int, stride: int, side: int = 3) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(channels, width, side, stride, side // 2, bias=False), nn.BatchNorm2d(width), nn.ReLU()
    )


def channels_last(images: Tensor) -> Tensor:
    return images.contiguous(memory_format=torch.channels_last)
