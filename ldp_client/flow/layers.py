"""GLOW's layers: squeeze, ActNorm, invertible 1x1 convolution, affine coupling, priors.

Reference: Kingma and Dhariwal, "Glow: Generative Flow with Invertible 1x1 Convolutions", NeurIPS 2018,
arXiv 1807.03039, section 3. Every layer is a `Bijection`; none of them changes its own state in `forward`.
"""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from ldp_client.errors import EncoderError
from ldp_client.flow.bijection import sum_per_image

# |log s| of a coupling stays below this, so no input can overflow a step and no step can become singular. tanh, not
# the paper's sigmoid: both signs are left, so that the log-scale map shows expansion as well as contraction.
LOG_SCALE_BOUND = 2.0


class Squeeze(nn.Module):
    """Trades space for channels: (B, C, H, W) to (B, 4C, H/2, W/2); the log-determinant is 0."""

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return functional.pixel_unshuffle(x, 2), x.new_zeros(x.shape[0])

    def inverse(self, y: Tensor) -> tuple[Tensor, Tensor]:
        return functional.pixel_shuffle(y, 2), y.new_zeros(y.shape[0])


class ActNorm(nn.Module):
    """Scales and shifts each channel: y = (x + bias) * exp(log_scale), with parameters (C, 1, 1).

    `initialize(batch)` sets them so that this batch comes out with mean 0 and standard deviation 1 in each channel. It
    is called once, in pretraining; two well-known implementations do it silently with the first batch that they see,
    which at a hospital would write a private X-ray into the encoder.
    """

    initialised: Tensor

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.bias = nn.Parameter(torch.zeros(channels, 1, 1))
        self.log_scale = nn.Parameter(torch.zeros(channels, 1, 1))
        self.register_buffer("initialised", torch.zeros((), dtype=torch.uint8))

    @torch.no_grad()
    def initialize(self, batch: Tensor) -> None:
        """Set bias and scale from a public batch (B, C, H, W). Raises EncoderError when called a second time."""
        if self.initialised:
            raise EncoderError(
                "asked to initialise an ActNorm, which already is; build a new flow to pretrain from scratch"
            )
        self.bias.copy_(-batch.mean((0, 2, 3)).view_as(self.bias))
        deviation = batch.std((0, 2, 3), correction=0).view_as(self.log_scale)
        self.log_scale.copy_(-torch.log(deviation + 1e-6))
        self.initialised.fill_(1)

    def require_initialised(self) -> None:
        """Raise EncoderError unless `initialize` was called, or an initialised state was loaded."""
        if not self.initialised:
            raise EncoderError(
                "asked to encode, but an ActNorm was never initialised; pretrain the flow or load a pretrained encoder"
            )

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        self.require_initialised()
        return (x + self.bias) * self.log_scale.exp(), self._ladj(x)

    def inverse(self, y: Tensor) -> tuple[Tensor, Tensor]:
        self.require_initialised()
        return y * (-self.log_scale).exp() - self.bias, -self._ladj(y)

    def _ladj(self, x: Tensor) -> Tensor:
        return (x.shape[2] * x.shape[3] * self.log_scale.sum()).expand(x.shape[0])


class InvertibleConv(nn.Module):
    """Mixes channels with W = P L (U + diag(sign * exp(log_diagonal))), all (C, C).

    P is a fixed permutation (stored as row indices), L unit lower and U strictly upper triangular, so the
    log-determinant is H * W * sum(log_diagonal). A new layer is the identity; `randomise` draws a rotation.
    """

    permutation: Tensor
    sign: Tensor

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.lower = nn.Parameter(torch.zeros(channels, channels))
        self.upper = nn.Parameter(torch.zeros(channels, channels))
        self.log_diagonal = nn.Parameter(torch.zeros(channels))
        self.register_buffer("permutation", torch.arange(channels))
        self.register_buffer("sign", torch.ones(channels))

    @torch.no_grad()
    def randomise(self, generator: torch.Generator) -> None:
        """Start from a random rotation (paper, section 3.2); pretraining only."""
        channels = self.sign.shape[0]
        rotation, _ = torch.linalg.qr(torch.randn(channels, channels, generator=generator, dtype=torch.float64))
        p, lower, upper = torch.linalg.lu(rotation)
        diagonal = upper.diagonal()
        self.permutation.copy_(p.argmax(1))  # row i of P @ M is row permutation[i] of M
        self.lower.copy_(lower.tril(-1))
        self.upper.copy_(upper.triu(1))
        self.sign.copy_(diagonal.sign())
        self.log_diagonal.copy_(diagonal.abs().log())

    def _factors(self, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
        lower, upper, diagonal = (t.to(dtype) for t in (self.lower, self.upper, self.log_diagonal))
        unit = torch.eye(len(diagonal), dtype=dtype, device=lower.device)
        return lower.tril(-1) + unit, upper.triu(1) + torch.diag(self.sign.to(dtype) * diagonal.exp())

    def weight(self, dtype: torch.dtype) -> Tensor:
        """W, (C, C), multiplied out in a type of its own."""
        lower, upper = self._factors(dtype)
        return (lower @ upper)[self.permutation]

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return functional.conv2d(x, self.weight(self.lower.dtype)[:, :, None, None]), self._ladj(x)

    def inverse(self, y: Tensor) -> tuple[Tensor, Tensor]:
        lower, upper = self._factors(self.lower.dtype)
        h = torch.empty_like(y)
        h[:, self.permutation] = y
        flat = h.flatten(2)  # (B, C, HW)
        flat = torch.linalg.solve_triangular(lower, flat, upper=False, unitriangular=True)
        flat = torch.linalg.solve_triangular(upper, flat, upper=True)
        return flat.view_as(y), -self._ladj(y)

    def _ladj(self, x: Tensor) -> Tensor:
        return (x.shape[2] * x.shape[3] * self.log_diagonal.sum()).expand(x.shape[0])


class ZeroConv(nn.Module):
    """A 3x3 convolution that starts at zero, its output times exp(3 * gain) (paper, appendix B)."""

    def __init__(self, channels_in: int, channels_out: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels_in, channels_out, 3, padding=1)
        self.gain = nn.Parameter(torch.zeros(channels_out, 1, 1))
        nn.init.zeros_(self.conv.weight)
        if self.conv.bias is not None:
            nn.init.zeros_(self.conv.bias)

    def forward(self, x: Tensor) -> Tensor:
        h: Tensor = self.conv(x)
        return h * (3 * self.gain).exp()

    def folded(self, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
        """Weight and bias, both times the gain, in a type of their own."""
        gain = (3 * self.gain.to(dtype)).exp()  # (C, 1, 1)
        return self.conv.weight.to(dtype) * gain[..., None], cast(Tensor, self.conv.bias).to(dtype) * gain.flatten()


class Coupling(nn.Module):
    """Leaves one half of the channels as it is and scales the other: y2 = (x2 + shift(x1)) * s(x1).

    log s = b * tanh(h(x1) / b) with b = LOG_SCALE_BOUND; the log-determinant is the sum of log s. The network is three
    convolutions (3x3, 1x1, 3x3) of `width` channels.
    """

    def __init__(self, channels: int, width: int) -> None:
        super().__init__()
        self.kept, self.changed = channels - channels // 2, channels // 2
        self.network = nn.Sequential(
            nn.Conv2d(self.kept, width, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(width, width, 1),
            nn.ReLU(),
            ZeroConv(width, 2 * self.changed),
        )

    def weights(self, dtype: torch.dtype) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:
        """Weight and bias of the three convolutions, the last one's times its gain, in a type of their own."""
        first, _, second, _, last = self.network
        hidden = [cast(Tensor, t).to(dtype) for layer in (first, second) for t in (layer.weight, layer.bias)]
        w1, b1, w2, b2 = hidden
        return w1, b1, w2, b2, *cast(ZeroConv, last).folded(dtype)

    def affine(self, kept: Tensor) -> tuple[Tensor, Tensor]:
        """Return shift and log s, each (B, C/2, H, W), for the half that is kept."""
        shift, raw = self.network(kept).chunk(2, dim=1)
        return shift, LOG_SCALE_BOUND * torch.tanh(raw / LOG_SCALE_BOUND)

    def transform(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return y, shape of x, and log s (B, C/2, H, W)."""
        x1, x2 = torch.split(x, [self.kept, self.changed], dim=1)
        shift, log_s = self.affine(x1)
        return torch.cat((x1, (x2 + shift) * log_s.exp()), dim=1), log_s

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        y, log_s = self.transform(x)
        return y, sum_per_image(log_s)

    def inverse(self, y: Tensor) -> tuple[Tensor, Tensor]:
        y1, y2 = torch.split(y, [self.kept, self.changed], dim=1)
        shift, log_s = self.affine(y1)
        return torch.cat((y1, y2 * (-log_s).exp() - shift), dim=1), -sum_per_image(log_s)


class ConditionalPrior(nn.Module):
    """Standardises the half of the channels that leaves the flow at a split: z = (x2 - mean(x1)) * exp(-log_sd(x1)).

    The learned prior N(mean, sd^2) of the paper's multi-scale split, written as a bijection on (B, C, H, W), so that
    every latent is compared with N(0, 1).
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.predict = ZeroConv(channels - channels // 2, 2 * (channels // 2))
        self.kept, self.changed = channels - channels // 2, channels // 2

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        x1, x2 = torch.split(x, [self.kept, self.changed], dim=1)
        mean, log_sd = self.predict(x1).chunk(2, dim=1)
        return torch.cat((x1, (x2 - mean) * (-log_sd).exp()), dim=1), -sum_per_image(log_sd)

    def inverse(self, y: Tensor) -> tuple[Tensor, Tensor]:
        y1, z = torch.split(y, [self.kept, self.changed], dim=1)
        mean, log_sd = self.predict(y1).chunk(2, dim=1)
        return torch.cat((y1, z * log_sd.exp() + mean), dim=1), sum_per_image(log_sd)


class TopPrior(nn.Module):
    """Standardises what is left at the top: z = (x - mean) * exp(-log_sd), both learned, (C, H, W).

    One mean and deviation per position, not per channel as in the paper: chest X-rays are taken in one pose.
    """

    def __init__(self, channels: int, size: int) -> None:
        super().__init__()
        self.mean = nn.Parameter(torch.zeros(channels, size, size))
        self.log_sd = nn.Parameter(torch.zeros(channels, size, size))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return (x - self.mean) * (-self.log_sd).exp(), (-self.log_sd.sum()).expand(x.shape[0])

    def inverse(self, y: Tensor) -> tuple[Tensor, Tensor]:
        return y * self.log_sd.exp() + self.mean, self.log_sd.sum().expand(y.shape[0])
