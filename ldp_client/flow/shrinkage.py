"""The best guess of a standard normal latent from its noised value: post-processing, which costs nothing.

For z ~ N(0, 1) and y = z + Laplace noise of scale b, the posterior is a mixture of two normals cut off at y, and

    E[z | y] = (1/b) tanh((log Phi(y - 1/b) - log Phi(-y - 1/b) - 2 y / b) / 2).

A latent that was clipped to [-c, c] before has the deviation tau < 1, tau^2 = E min(|z|, c)^2; its guess is
tau g(y / tau, b / tau), g the function above. A large b leaves next to nothing of y.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.special import log_ndtr

from ldp_client.privacy.spec import DiscreteLaplaceSpec

_SHARP = 1e-4
"""Scales below this move no grey level, and the logarithms, which grow as 1/b^2, would lose the difference."""


def posterior_mean(noised: Tensor, scale: float) -> Tensor:
    """E[z | z + Laplace(scale) = noised] for standard normal z, elementwise, in float64.

    >>> posterior_mean(torch.tensor([2.0, 0.0]), 1.0)
    tensor([0.7703, 0.0000], dtype=torch.float64)
    """
    noised = noised.double()
    if scale < _SHARP:
        return noised
    rate = 1 / scale
    odds = log_ndtr(noised - rate) - log_ndtr(-noised - rate) - 2 * rate * noised
    return rate * torch.tanh(odds / 2)


def clipped_deviation(bound: float) -> float:
    """tau: the standard deviation of a standard normal number after clipping to [-bound, bound].

    >>> round(clipped_deviation(3), 4)
    0.9973
    """
    beyond = math.erfc(bound / math.sqrt(2))
    density = math.exp(-(bound**2) / 2) / math.sqrt(2 * math.pi)
    return math.sqrt(1 - beyond - 2 * bound * density + bound**2 * beyond)


def shrink(noised: Tensor, spec: DiscreteLaplaceSpec) -> Tensor:
    """Noised latents in the encoder's units to their posterior means, within what they were clipped to. float64."""
    grid = float(spec.grid)
    bound, deviation = spec.clip.largest_steps * grid, clipped_deviation(spec.clip.largest_steps * grid)
    mean = deviation * posterior_mean(noised.double() / deviation, float(spec.scale) * grid / deviation)
    return mean.clamp(-bound, bound)
