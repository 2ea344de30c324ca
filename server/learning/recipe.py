"""What decides an encoder's weights, what its card says, and what a training reports on its way."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from ldp_client.errors import ParameterError
from ldp_client.flow.glow import Shape
from ldp_client.flow.training import Mode


@dataclass(frozen=True)
class Recipe:
    """Everything that decides the weights, beside the images, the torch version and the processor."""

    shape: Shape
    content: int
    dimension: int = 2
    training_steps: int = 5000
    batch: int = 64
    learning_rate: float = 2e-3
    warmup_steps: int = 200
    gradient_norm: float = 50.0
    ema_decay: float = 0.998
    validate_every: int = 250
    patience: int = 8
    """Validations in a row that find nothing better, after which training stops."""
    mirror: bool = True
    mode: Mode = Mode.FAST
    precision: Literal["float32", "bfloat16"] = "float32"
    """What the couplings' networks compute in; everything else is float32."""
    seed: int = 0
    threads: int = 2

    def __post_init__(self) -> None:
        counts = (self.training_steps, self.batch, self.warmup_steps, self.validate_every, self.patience, self.threads)
        if min(counts) < 1 or not 0 < self.learning_rate <= 1:
            raise ParameterError(
                f"asked to train with {self.training_steps} steps, batches of {self.batch}, {self.warmup_steps} "
                f"warm-up steps, validation every {self.validate_every}, patience {self.patience}, {self.threads} "
                f"threads and a learning rate of {self.learning_rate}; give at least 1 of each, and a rate above 0 "
                "and up to 1"
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
    images: int
    """Images of one step, over all workers."""
