"""GLOW: the layers in their order, the multi-scale splits, and the likelihood.

    level 1..L:  squeeze, then K steps of (ActNorm, 1x1 convolution, coupling); all but the last level then split:
                 half of the channels leave as that level's latents, standardised by a prior learned from the other half
    top:         a learned prior standardises what is left

Reference: Kingma and Dhariwal, NeurIPS 2018, arXiv 1807.03039, figure 2.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from ldp_client.errors import ParameterError
from ldp_client.flow.bijection import sum_per_image
from ldp_client.flow.layers import (
    ActNorm,
    ConditionalPrior,
    Coupling,
    InvertibleConv,
    Squeeze,
    TopPrior,
)

_LOG_NORM = 0.5 * math.log(2 * math.pi)  # of N(0, 1), in nats per coordinate
MAP_SIDE = 4
"""Every coupling's log s is pooled to MAP_SIDE x MAP_SIDE cells."""


@dataclass(frozen=True)
class Shape:
    """The sizes that fix a flow's tensors: images (channels, size, size), levels L, steps K a level, coupling width."""

    size: int
    levels: int
    steps: int
    width: int
    channels: int = 1

    def __post_init__(self) -> None:
        if min(self.size, self.levels, self.steps, self.width, self.channels) < 1 or self.size % 2**self.levels:
            raise ParameterError(
                f"asked for a flow of {self.levels} levels, {self.steps} steps and width {self.width} on {self.size} "
                f"px in {self.channels} channels; all must be positive, and the size a multiple of 2**levels"
            )

    @property
    def map_dimension(self) -> int:
        """Numbers in the log-scale map: one pooled map per coupling."""
        return self.levels * self.steps * MAP_SIDE**2

    def latent_shapes(self) -> list[tuple[int, int, int]]:
        """(C, H, W) of each level's latents, the finest first."""
        shapes = [(2 * self.channels * 2**i, self.size >> (i + 1), self.size >> (i + 1)) for i in range(self.levels)]
        channels, height, width = shapes[-1]
        return [*shapes[:-1], (2 * channels, height, width)]


class Step(nn.Module):
    """One step of flow: ActNorm, invertible 1x1 convolution, affine coupling."""

    def __init__(self, channels: int, width: int) -> None:
        super().__init__()
        self.norm = ActNorm(channels)
        self.mix = InvertibleConv(channels)
        self.coupling = Coupling(channels, width)

    def transform(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return y (shape of x), ladj (B,) and the coupling's log s (B, C/2, H, W)."""
        h, ladj_norm = self.norm(x)
        h, ladj_mix = self.mix(h)
        y, log_s = self.coupling.transform(h)
        return y, ladj_norm + ladj_mix + sum_per_image(log_s), log_s

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        y, ladj, _ = self.transform(x)
        return y, ladj

    def inverse(self, y: Tensor) -> tuple[Tensor, Tensor]:
        h, ladj_coupling = self.coupling.inverse(y)
        h, ladj_mix = self.mix.inverse(h)
        x, ladj_norm = self.norm.inverse(h)
        return x, ladj_coupling + ladj_mix + ladj_norm


class Level(nn.Module):
    """Squeeze, K steps and the prior of the half that leaves; the last level has no prior of its own."""

    def __init__(self, channels: int, steps: int, width: int, last: bool) -> None:
        super().__init__()
        self.squeeze = Squeeze()
        self.steps = nn.ModuleList(Step(4 * channels, width) for _ in range(steps))
        self.prior = None if last else ConditionalPrior(4 * channels)

    def transform(self, x: Tensor) -> tuple[Tensor, Tensor, list[Tensor]]:
        """Return y (B, 4C, H/2, W/2), ladj (B,) and the log s of every coupling."""
        h, ladj = self.squeeze(x)
        log_scales = []
        for step in self.typed_steps():
            h, step_ladj, log_s = step.transform(h)
            ladj = ladj + step_ladj
            log_scales.append(log_s)
        if self.prior is not None:
            h, prior_ladj = self.prior(h)
            ladj = ladj + prior_ladj
        return h, ladj, log_scales

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        y, ladj, _ = self.transform(x)
        return y, ladj

    def inverse(self, y: Tensor) -> tuple[Tensor, Tensor]:
        ladj = y.new_zeros(y.shape[0])
        if self.prior is not None:
            y, ladj = self.prior.inverse(y)
        for step in reversed(self.typed_steps()):
            y, step_ladj = step.inverse(y)
            ladj = ladj + step_ladj
        x, _ = self.squeeze.inverse(y)
        return x, ladj

    def initialize(self, x: Tensor) -> Tensor:
        """Initialise every ActNorm from a public batch, in order; return the batch behind this level."""
        h, _ = self.squeeze(x)
        for step in self.typed_steps():
            step.norm.initialize(h)
            h, _ = step(h)
        return h if self.prior is None else cast(Tensor, self.prior(h)[0])

    def require_initialised(self) -> None:
        """Raise EncoderError unless every ActNorm was initialised."""
        for step in self.typed_steps():
            step.norm.require_initialised()

    def typed_steps(self) -> list[Step]:
        """The steps in order."""
        return [cast(Step, step) for step in self.steps]


class Glow(nn.Module):
    """Images (B, C, size, size) with values (x + 0.5) / 256 to latents of N(0, 1) at each level, and back.

    log p(x) = sum over all latents of log N(z; 0, 1) + ladj, in nats, over images in [0, 1).
    """

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.shape = shape
        levels, channels = [], shape.channels
        for i in range(shape.levels):
            levels.append(Level(channels, shape.steps, shape.width, last=i == shape.levels - 1))
            channels *= 2
        self.levels = nn.ModuleList(levels)
        top_channels, top_size, _ = shape.latent_shapes()[-1]
        self.top = TopPrior(top_channels, top_size)

    def randomise(self, generator: torch.Generator) -> None:
        """Draw the rotations and the hidden convolutions of a new flow; pretraining only."""
        for module in self.modules():
            if isinstance(module, InvertibleConv):
                module.randomise(generator)
            elif isinstance(module, Coupling):
                for layer in module.network:
                    if isinstance(layer, nn.Conv2d) and layer.bias is not None:
                        nn.init.kaiming_normal_(layer.weight, nonlinearity="relu", generator=generator)
                        nn.init.zeros_(layer.bias)

    @torch.no_grad()
    def initialize(self, batch: Tensor) -> None:
        """Initialise all ActNorms from one public batch (B, C, size, size); pretraining only."""
        h = batch - 0.5
        for i, level in enumerate(self.typed_levels()):
            h = level.initialize(h)
            if i < self.shape.levels - 1:
                h = h.chunk(2, dim=1)[0]

    def traverse(self, x: Tensor) -> tuple[list[Tensor], Tensor, list[Tensor]]:
        """Return the latents by level (finest first), the ladj (B,), and log s of all L * K couplings in order."""
        self.require_shape(x)
        h, ladj = x - 0.5, x.new_zeros(x.shape[0])
        latents: list[Tensor] = []
        log_scales: list[Tensor] = []
        for i, level in enumerate(self.typed_levels()):
            h, level_ladj, level_scales = level.transform(h)
            ladj = ladj + level_ladj
            log_scales += level_scales
            if i < self.shape.levels - 1:
                h, z = h.chunk(2, dim=1)  # each (B, 2C, H/2, W/2)
                latents.append(z)
        z, top_ladj = self.top(h)
        return [*latents, z], ladj + top_ladj, log_scales

    def encode(self, x: Tensor) -> tuple[list[Tensor], Tensor]:
        """Return the latents by level, the finest first, and the log-determinant (B,)."""
        latents, ladj, _ = self.traverse(x)
        return latents, ladj

    def decode(self, latents: list[Tensor]) -> tuple[Tensor, Tensor]:
        """Return images (B, C, size, size) and the log-determinant (B,) of the map from latents to images."""
        h, ladj = self.top.inverse(latents[-1])
        for i, level in reversed(list(enumerate(self.typed_levels()))):
            if i < self.shape.levels - 1:
                h = torch.cat((h, latents[i]), dim=1)
            h, level_ladj = level.inverse(h)
            ladj = ladj + level_ladj
        return h + 0.5, ladj

    def log_prob(self, x: Tensor) -> Tensor:
        """Log density of images (B, C, size, size), in nats: (B,)."""
        latents, ladj = self.encode(x)
        return sum((normal_log_density(z) for z in latents), ladj)

    def bits_per_dim(self, x: Tensor, log_q: Tensor, content: int) -> Tensor:
        """An upper bound on the bits that a stored image costs, per pixel and channel of its `content`: (B,).

        x and log_q are what `dequantise` made of the image: (log q(u) - log p(image + u)) / (C content^2 log 2).
        """
        return (log_q - self.log_prob(x)) / (math.log(2) * self.shape.channels * content**2)

    def sample(self, count: int, temperature: float, generator: torch.Generator) -> Tensor:
        """Draw images (count, C, size, size) from latents of standard deviation `temperature`."""
        latents = [temperature * torch.randn(count, *s, generator=generator) for s in self.shape.latent_shapes()]
        return self.decode(latents)[0]

    def decode_known(self, known: dict[int, Tensor], temperature: float, generator: torch.Generator) -> Tensor:
        """Images (B, C, size, size) of which only some levels' latents are known; the others are drawn.

        Args:
            known: latents by level, 0 the finest, each (B, *latent_shapes()[level]).
            temperature: standard deviation of what is drawn from the prior; below 1 gives likelier images.

        Raises:
            ParameterError: no level, a level that this flow does not have, or latents of another shape.
        """
        shapes = self.shape.latent_shapes()
        batches = {len(z) for z in known.values()}
        if len(batches) != 1 or any(not 0 <= i < len(shapes) or z.shape[1:] != shapes[i] for i, z in known.items()):
            raise ParameterError(
                f"asked to decode levels { ({i: tuple(z.shape) for i, z in known.items()}) }; give at least one of "
                f"levels 0 to {len(shapes) - 1}, shaped (B, ...) with {shapes}"
            )
        (count,), like = batches, next(iter(known.values()))
        drawn = [temperature * torch.randn(count, *shape, generator=generator).to(like) for shape in shapes]
        return self.decode([known.get(i, z) for i, z in enumerate(drawn)])[0]

    def log_scale_map(self, x: Tensor) -> Tensor:
        """Where on the image the flow expands or contracts: (B, L * K * 16).

        Each coupling's log s, mean over its channels, pooled to 4x4, all couplings one after the other; averaged with
        that of the mirrored image.
        """
        return average_with_mirrored(pool_log_scales(self.traverse(torch.cat((x, x.flip(3))))[2]))

    def typed_levels(self) -> list[Level]:
        """The levels in order, the finest first."""
        return [cast(Level, level) for level in self.levels]

    def require_shape(self, x: Tensor) -> None:
        """Raise ParameterError unless x is (B, C, size, size), of one image or more."""
        channels, size = self.shape.channels, self.shape.size
        if x.ndim != 4 or x.shape[1:] != (channels, size, size) or not len(x):
            raise ParameterError(
                f"asked to encode a tensor of shape {tuple(x.shape)}; this flow takes (B, {channels}, {size}, {size}), "
                "B at least 1, as `prepare` makes them"
            )


def pool_log_scales(log_scales: list[Tensor]) -> Tensor:
    """Every coupling's log s (B, C/2, H, W), mean over its channels, in 4x4 cells: (B, L * K * 16)."""
    return pool_means([log_s.mean(1, keepdim=True) for log_s in log_scales])


def pool_means(means: list[Tensor]) -> Tensor:
    """Channel means of log s, each (B, couplings, H, W), in 4x4 cells, one coupling after another: (B, L * K * 16)."""
    return torch.cat([functional.adaptive_avg_pool2d(mean, MAP_SIDE).flatten(1) for mean in means], dim=1)


def average_with_mirrored(maps: Tensor) -> Tensor:
    """Maps of images and then of their mirror images (2 B, D) to their average (B, D)."""
    images, mirrored = maps.chunk(2)
    return 0.5 * (images + mirrored)


def normal_log_density(z: Tensor) -> Tensor:
    """Log density of latents (B, ...) under N(0, 1), in nats: (B,)."""
    return sum_per_image(-0.5 * z.square() - _LOG_NORM)


def dequantise(images: Tensor, content: int, generator: torch.Generator, bits: int = 8) -> tuple[Tensor, Tensor]:
    """Add to images the noise u that makes whole numbers a density, and say how dense it is. Training only.

    For any noise of known density q that keeps each pixel within its bin, Jensen's inequality gives
    log P(image) >= E[log p(image + u) - log q(u)]. Pixels of the content are spread evenly over their bin. Padding is
    no data, so its noise may leave the bin: it is normal, with the variance of the even one, which a flow can undo,
    where even noise would cost .25 bits for each padded pixel (Chen et al., "VFlow", ICML 2020, arXiv 2002.09741).

    Args:
        images: (B, C, size, size), bins' centres, as `prepare` makes them.
        content: side of the image inside the padding.
        bits: bits that are kept of 8; fewer merge neighbouring grey values.

    Returns:
        image + u, and log q(u) in nats, (B,).

    Raises:
        ParameterError: bits outside 1 to 8, or content that does not fit.
    """
    size, bins = images.shape[-1], 2**bits
    if not 1 <= bits <= 8 or not 1 <= content <= size:
        raise ParameterError(f"asked for {bits} of 8 bits and {content} of {size} px; give 1 to 8, and 1 to {size}")
    if bits < 8:
        images = ((images * bins).floor() + 0.5) / bins
    noise = (torch.rand(images.shape, generator=generator) - 0.5) / bins
    log_q = torch.full((len(images),), images[:1].shape[1] * content**2 * math.log(bins))
    if content < size:
        before = (size - content) // 2
        deviation = 1 / (bins * math.sqrt(12))
        normal = torch.randn(images.shape, generator=generator)
        inside = torch.zeros(size, size, dtype=torch.bool)
        inside[before : before + content, before : before + content] = True
        noise = torch.where(inside, noise, deviation * normal)
        log_q = log_q + sum_per_image(torch.where(inside, 0, -0.5 * normal.square() - _LOG_NORM - math.log(deviation)))
    return images + noise.to(images), log_q.to(images)
