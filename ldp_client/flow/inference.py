"""The frozen flow as a hospital runs it: the same numbers, faster (docs/performance.md).

A `Glow` is written to be read and trained; `FrozenGlow` is made from one and computes its forward direction only, in
plain PyTorch operations (no private operator, no compiler):

- The batch is divided over the processor's cores once, not every operation (`flow.lanes`).
- The state is (C, H, W, B): the halves of a coupling are slices, and neighbours in a row of all images together are one
  run of memory. Nothing is concatenated.
- ActNorm and 1x1 convolution are one matrix, multiplied out in float64.
- A coupling's three convolutions are three matrix products on the few channels that it reads and writes
  (`flow.products`). So no lane of the processor idles for want of output channels, and none of the padding is
  multiplied. A split's prior is one such product.
- The hidden layers run over some thousand positions at a time, which stay in the cache, and every step of a level
  computes in the same memory.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ldp_client.flow.glow import Glow, Level, Step, average_with_mirrored, pool_means
from ldp_client.flow.lanes import divide, side_by_side
from ldp_client.flow.layers import LOG_SCALE_BOUND, ConditionalPrior
from ldp_client.flow.products import Gathered, Hidden, Network, Room

_EXACT = torch.float64


class FrozenStep:
    """One step of flow on (C, H, W, B), its constants folded in float64."""

    def __init__(self, step: Step, side: int, hidden: torch.dtype) -> None:
        norm, coupling, dtype = step.norm, step.coupling, step.norm.bias.dtype
        matrix = step.mix.weight(_EXACT) * norm.log_scale.to(_EXACT).exp().flatten()
        self.matrix = matrix.to(dtype)
        self.shift = (matrix @ norm.bias.to(_EXACT).flatten()).to(dtype)[:, None]
        self.constant = side**2 * float(norm.log_scale.to(_EXACT).sum() + step.mix.log_diagonal.to(_EXACT).sum())
        w1, b1, w2, b2, w3, b3 = coupling.weights(_EXACT)
        # tanh takes raw / b: the division joins the weights that make raw.
        w3[coupling.changed :] /= LOG_SCALE_BOUND
        b3[coupling.changed :] /= LOG_SCALE_BOUND
        network = Network.of((w1, b1, w2, b2, w3, b3)).to(hidden)
        self.network = network._replace(last_bias=network.last_bias.to(dtype))

    def __call__(self, x: Tensor, room: Room, hidden: Hidden, log_s: Tensor) -> Tensor:
        """Return y (C, H, W, B) and write the coupling's log s into (C/2, H, W, B)."""
        y = torch.addmm(self.shift, self.matrix, x.flatten(1)).view_as(x)
        y1, y2 = y.chunk(2)
        shift, raw = self.network.forward(y1, room, hidden).chunk(2)
        torch.tanh(raw, out=log_s).mul_(LOG_SCALE_BOUND)
        y2.add_(shift).mul_(log_s.exp())  # in place, as a part of y
        return y


class FrozenPrior:
    """A split's prior on (C, H, W, B): z = (x2 + shift) exp(log_s), where both are one product with neighbourhoods."""

    def __init__(self, prior: ConditionalPrior) -> None:
        weight, bias = prior.predict.folded(_EXACT)
        rows = torch.cat((weight.permute(0, 2, 3, 1).flatten(1), bias[:, None]), dim=1)
        self.matrix = -rows.to(prior.predict.gain.dtype)  # (C, 9 C/2 + 1): -mean, -log_sd

    def __call__(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return the half that stays, the latents of the other, each (C/2, H, W, B), and the ladj (B,)."""
        x1, x2 = x.chunk(2)
        patches = Gathered(tuple(x1.shape), x1, ones=1).gather(x1)
        shift, log_s = torch.mm(self.matrix, patches).view_as(x).chunk(2)
        return x1, (x2 + shift).mul_(log_s.exp()), log_s.sum((0, 1, 2))


class FrozenLevel:
    """Squeeze, K steps, and the split's prior."""

    def __init__(self, level: Level, side: int, hidden: torch.dtype) -> None:
        level.require_initialised()
        self.steps = [FrozenStep(step, side, hidden) for step in level.typed_steps()]
        self.prior = None if level.prior is None else FrozenPrior(level.prior)
        self.constant = sum(step.constant for step in self.steps)

    def __call__(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """(C, H, W, B) to the state before the split (4C, H/2, W/2, B), and log s of K couplings (K, 2C, H/2, ...)."""
        x = _squeeze(x)
        network = self.steps[0].network
        room, hidden = Room(x, network), Hidden.new(x[0].numel(), network, stored=False)
        log_scales = x.new_empty(len(self.steps), len(x) // 2, *x.shape[1:])
        for step, log_s in zip(self.steps, log_scales, strict=True):
            x = step(x, room, hidden, log_s)
        return x, log_scales


class FrozenGlow:
    """The forward direction of a trained flow.

    Raises EncoderError for a flow whose ActNorms were never initialised.

    Args:
        flow: the flow; later changes to it are not seen.
        hidden: the type of the couplings' hidden layers. bfloat16 is faster where the processor has it and moves
            latents by up to .25: see docs/encoder.md before using it.
    """

    @torch.no_grad()
    def __init__(self, flow: Glow, hidden: torch.dtype | None = None) -> None:
        self.require_shape = flow.require_shape
        dtype = hidden or flow.top.mean.dtype
        sides = [flow.shape.size >> (i + 1) for i in range(flow.shape.levels)]
        self.levels = [FrozenLevel(*parts, dtype) for parts in zip(flow.typed_levels(), sides, strict=True)]
        self.top_shift, log_sd = -flow.top.mean[..., None], flow.top.log_sd[..., None]  # (C, H, W, 1)
        self.top_scale = (-log_sd).exp()
        self.constant = sum(level.constant for level in self.levels) - float(log_sd.sum())

    def encode(self, x: Tensor) -> tuple[list[Tensor], Tensor]:
        """Images (B, C, size, size) to the latents by level, the finest first, and the log-determinant (B,)."""
        self.require_shape(x)
        *latents, ladj = (torch.cat(parts) for parts in zip(*side_by_side(self._encode, divide(x)), strict=True))
        return latents, ladj

    def log_scale_map(self, x: Tensor) -> Tensor:
        """What `Glow.log_scale_map` returns, (B, L * K * 16). The priors do not enter it."""
        self.require_shape(x)
        return average_with_mirrored(torch.cat(side_by_side(self._map, divide(torch.cat((x, x.flip(3)))))))

    def _encode(self, x: Tensor) -> list[Tensor]:
        h, ladj = _positions_outside(x), x.new_full((len(x),), self.constant)
        latents = []
        for level in self.levels:
            h, log_scales = level(h)
            ladj += log_scales.sum((0, 1, 2, 3))
            if level.prior is not None:
                h, z, prior_ladj = level.prior(h)
                ladj += prior_ladj
                latents.append(z)
        latents.append((h + self.top_shift).mul_(self.top_scale))
        return [*(z.permute(3, 0, 1, 2) for z in latents), ladj]

    def _map(self, x: Tensor) -> Tensor:
        h, means = _positions_outside(x), []
        for level in self.levels:
            h, log_scales = level(h)
            means.append(log_scales.mean(1).permute(3, 0, 1, 2))  # (B, K, H, W)
            h = h[: len(h) // 2]  # the half that stays in the flow
        return pool_means(means)


def _positions_outside(x: Tensor) -> Tensor:
    """Images (B, C, H, W) to the flow's state (C, H, W, B), centred."""
    return x.permute(1, 2, 3, 0).contiguous() - 0.5


def _squeeze(x: Tensor) -> Tensor:
    """`Squeeze` on (C, H, W, B): to (4C, H/2, W/2, B)."""
    c, h, w, b = x.shape
    return x.view(c, h // 2, 2, w // 2, 2, b).permute(0, 2, 4, 1, 3, 5).reshape(4 * c, h // 2, w // 2, b)
