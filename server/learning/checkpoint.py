"""What a training needs to go on after it was killed, in one file that is always whole.

Written beside its place, flushed and renamed: a kill at any moment leaves the checkpoint before or the one after.
Tensors only (safetensors), so that nothing in a checkpoint is executed.
"""

from __future__ import annotations

import hashlib
import json
import os
from dataclasses import asdict, dataclass, field
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from ldp_client.errors import ConfigurationError
from ldp_client.flow.glow import Glow
from server.learning.recipe import Recipe

CHECKPOINT_FILE = "checkpoint.safetensors"


@dataclass
class State:
    """A training between two steps."""

    flow: Glow
    average: Glow
    optimiser: torch.optim.Adam
    best: dict[str, Tensor]
    """The moving average that had the fewest bits per dimension on the held-out images."""
    best_bits: float = float("inf")
    step: int = 0
    unimproved: int = 0
    """Validations since then."""
    losses: list[tuple[int, float]] = field(default_factory=list)
    bits: list[tuple[int, float]] = field(default_factory=list)


def fingerprint(recipe: Recipe, train: Tensor, held_out: Tensor) -> str:
    """What a checkpoint must have in common with the training that takes it up: recipe and images."""
    content = hashlib.sha256(json.dumps(asdict(recipe), sort_keys=True).encode())
    for images in (train, held_out):
        content.update(images.numpy().tobytes())
    return content.hexdigest()


def save_checkpoint(state: State, mark: str, folder: Path) -> None:
    """Replace the folder's checkpoint. `mark` is the training's fingerprint."""
    tensors: dict[str, Tensor] = {}
    for prefix, named in (
        ("flow", state.flow.state_dict()),
        ("average", state.average.state_dict()),
        ("best", state.best),
    ):
        tensors |= {f"{prefix}.{name}": tensor for name, tensor in named.items()}
    for name, parameter in state.flow.named_parameters():
        moments = state.optimiser.state[parameter]
        tensors |= {f"mean.{name}": moments["exp_avg"], f"square.{name}": moments["exp_avg_sq"]}
    told = {
        "fingerprint": mark,
        "step": state.step,
        "best_bits": state.best_bits,
        "unimproved": state.unimproved,
        "losses": state.losses,
        "bits": state.bits,
    }
    data = save({name: t.detach().cpu().contiguous() for name, t in tensors.items()}, {"state": json.dumps(told)})
    replace_file(folder / CHECKPOINT_FILE, data)


def replace_file(path: Path, data: bytes) -> None:
    """Write a file so that a kill at any moment leaves the one before or the whole new one."""
    temporary = path.with_name(f".{path.name}")
    with temporary.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    temporary.rename(path)


def restore(state: State, mark: str, folder: Path) -> bool:
    """Bring a new training to where the folder's checkpoint stands; False where there is none.

    Raises:
        ConfigurationError: a checkpoint of other images or of another recipe, or no checkpoint at all by its content.
    """
    path = folder / CHECKPOINT_FILE
    if not path.exists():
        return False
    try:
        with safe_open(path, framework="pt") as file:
            told = json.loads((file.metadata() or {})["state"])
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  # not a dict
    except (SafetensorError, KeyError, ValueError, OSError) as error:
        raise ConfigurationError(
            f"{folder.name}/{CHECKPOINT_FILE} is no checkpoint of a training; remove {folder.name!r} to begin afresh"
        ) from error
    if told["fingerprint"] != mark:
        raise ConfigurationError(
            f"the checkpoint in {folder.name!r} is of a training with other images or another recipe; "
            "repeat the command that began it, or remove the folder to begin afresh"
        )

    def named(prefix: str) -> dict[str, Tensor]:
        return {name.removeprefix(f"{prefix}."): t for name, t in tensors.items() if name.startswith(f"{prefix}.")}

    state.flow.load_state_dict(named("flow"))
    state.average.load_state_dict(named("average"))
    state.best = named("best")
    means, squares = named("mean"), named("square")
    for name, parameter in state.flow.named_parameters():
        state.optimiser.state[parameter] = {
            "step": torch.tensor(float(told["step"])),
            "exp_avg": means[name].to(parameter.device),
            "exp_avg_sq": squares[name].to(parameter.device),
        }
    state.step, state.best_bits, state.unimproved = told["step"], told["best_bits"], told["unimproved"]
    state.losses, state.bits = [tuple(one) for one in told["losses"]], [tuple(one) for one in told["bits"]]
    return True
