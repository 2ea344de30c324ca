"""A flow with random weights everywhere, so that no zero hides a fault."""

from __future__ import annotations

import torch
from torch import Tensor

from ldp_client.flow.glow import Glow, Shape


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def random_flow(shape: Shape, dtype: torch.dtype = torch.float64, spread: float = 0.05) -> Glow:
    flow = Glow(shape).to(dtype)
    flow.randomise(generator())
    flow.initialize(random_images(shape, 32, dtype, seed=1))
    with torch.no_grad():
        for parameter in flow.parameters():
            parameter.add_(spread * torch.randn(parameter.shape, generator=generator(2), dtype=dtype))
    return flow


def random_images(shape: Shape, count: int, dtype: torch.dtype = torch.float64, seed: int = 5) -> Tensor:
    size = shape.size
    return torch.rand(count, shape.channels, size, size, generator=generator(seed), dtype=dtype)
