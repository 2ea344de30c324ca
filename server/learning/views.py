"""Random views of public X-rays: what may differ between two pictures of one chest, and should not matter.

A view turns, scales, shifts and mirrors the chest, and changes the exposure as another machine would: gamma, contrast,
brightness, a smooth field over the image, grain and blur. Public X-rays only; the draws are reproducible, so nothing
here may touch a release.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

ROTATION = 0.2  # radians
SCALE = 0.2  # of log scale, around ZOOM
ZOOM = 0.9
ASPECT = 0.1
SHIFT = 0.12  # of half the side
GAMMA = 0.4  # of log gamma
FIELD = 0.08  # standard deviation of the smooth field, in grey values of 0..1
FIELD_SIDE = 3
GRAIN = 0.03
BLURRED = 0.25  # share of the views


def random_view(images: Tensor, generator: torch.Generator) -> Tensor:
    """One view of each image (B, 1, S, S) with values in 0..1; the same shape, values about 0..1.

    Everything is drawn on the processor that `generator` belongs to, then moved to the images' device, so that a
    training on a GPU sees the same views as one on a CPU.
    """
    count, side = len(images), images.shape[-1]

    def uniform(half: float) -> Tensor:
        return ((2 * torch.rand(count, generator=generator) - 1) * half).to(images.device)

    angle, shift_x, shift_y = uniform(ROTATION), uniform(SHIFT), uniform(SHIFT)
    scale, aspect = ZOOM * torch.exp(uniform(SCALE)), torch.exp(uniform(ASPECT))
    mirrored = torch.where(uniform(1.0) < 0, -1.0, 1.0)
    gamma = torch.exp(uniform(GAMMA))
    field = torch.randn(count, 1, FIELD_SIDE, FIELD_SIDE, generator=generator).to(images.device)
    grain = torch.randn(count, 1, side, side, generator=generator).to(images.device)
    strength, blurred = GRAIN * uniform(0.5).add(0.5), uniform(0.5).add(0.5) < BLURRED

    rows = (
        torch.stack([mirrored * scale * aspect * angle.cos(), -scale * angle.sin(), shift_x], 1),
        torch.stack([mirrored * scale * angle.sin(), scale / aspect * angle.cos(), shift_y], 1),
    )
    grid = functional.affine_grid(torch.stack(rows, 1), list(images.shape), align_corners=False)
    x = functional.grid_sample(images, grid, padding_mode="reflection", align_corners=False)
    x = x.clamp(1e-3, 1) ** _each(gamma)
    x = x + FIELD * functional.interpolate(field, size=(side, side), mode="bicubic", align_corners=False)
    x = x + _each(strength) * grain
    soft = functional.avg_pool2d(functional.pad(x, (1, 1, 1, 1), mode="replicate"), 3, 1)
    return torch.where(_each(blurred), soft, x)


def _each(values: Tensor) -> Tensor:
    return values[:, None, None, None]
