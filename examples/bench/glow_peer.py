"""The peer of the flow's figures: normflows' GLOW of the same levels, steps and width; and what a pass must compute."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import normflows as nf
import torch
from torch import Tensor

from ldp_client.flow.glow import Glow, Shape
from ldp_client.flow.training import Mode, log_prob


def their_glow(shape: Shape) -> Any:
    """normflows' multi-scale GLOW, built as its own example does; ActNorms are set by the first batch it sees."""
    bases, merges, flows = [], [], []
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="torch.lu is deprecated")
        for level in range(shape.levels):
            channels = 4 * shape.channels * 2 ** (shape.levels - 1 - level)
            blocks = [nf.flows.GlowBlock(channels, shape.width, scale=True) for _ in range(shape.steps)]
            flows.append([*blocks, nf.flows.Squeeze()])
            side = shape.size >> (shape.levels - level)
            if level:
                merges.append(nf.flows.Merge())
            bases.append(nf.distributions.DiagGaussian((channels // 2 if level else channels, side, side)))
    return nf.MultiscaleFlow(bases, flows, merges, class_cond=False)


def our_glow(shape: Shape, images: Tensor) -> Glow:
    """A flow of ours with small random weights everywhere."""
    generator = torch.Generator().manual_seed(0)
    flow = Glow(shape)
    flow.randomise(generator)
    flow.initialize(images)
    with torch.no_grad():
        for parameter in flow.parameters():
            parameter.add_(0.001 * torch.randn(parameter.shape, generator=generator))
    return flow


def training_steps(ours: Glow, theirs: Any, images: Tensor) -> dict[str, Callable[[], None]]:
    """Forward and backward of the likelihood: ours in both modes, and theirs, whose ActNorms this sets."""
    theirs.forward_kld(images - 0.5)

    def in_mode(mode: Mode) -> Callable[[], None]:
        def work() -> None:
            ours.zero_grad()
            torch.autograd.backward(-log_prob(ours, images, mode).mean())

        return work

    def of_theirs() -> None:
        theirs.zero_grad()
        theirs.forward_kld(images - 0.5).backward()

    return {"fast": in_mode(Mode.FAST), "frugal": in_mode(Mode.FRUGAL), "theirs": of_theirs}


def useful_operations(shape: Shape) -> int:
    """Additions and multiplications of the steps' convolutions for one image: what the formulas ask for, no more."""
    total, channels, side = 0, 4 * shape.channels, shape.size // 2
    for _ in range(shape.levels):
        network = 9 * (channels // 2) * shape.width + shape.width**2 + 9 * shape.width * channels
        total += 2 * shape.steps * side**2 * (channels**2 + network)
        channels, side = 2 * channels, side // 2
    return total
