"""The frozen flow as a hospital runs it: the same numbers, faster (docs/performance.md).

A `Glow` is written to be read and trained; `FrozenGlow` is made from one and computes its forward direction only, in
plain PyTorch operations (no private operator, no compiler):

- The batch is divided over the processor's cores once, not every operation (`flow.lanes`), and a core walks through a
  level without Python's lock (`flow.steps`).
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

from ldp_client.flow.glow import Glow, Level, average_with_mirrored, pool_means
from ldp_client.flow.lanes import divide, side_by_side
from ldp_client.flow.layers import LOG_SCALE_BOUND, ConditionalPrior, Coupling
from ldp_client.flow.products import as_products, fold, gather, new_gathered, new_hidden, new_room, stacked
from ldp_client.flow.steps import Step, encode, state_of, without_lock

_EXACT = torch.float64


class FrozenPrior:
    """A split's prior on (C, H, W, B): z = (x2 + shift) exp(log_s), where both are one product with neighbourhoods."""

    def __init__(self, prior: ConditionalPrior) -> None:
        weight, bias = prior.predict.folded(_EXACT)
        dtype = prior.predict.gain.dtype
        self.matrix = -weight.permute(0, 2, 3, 1).flatten(1).to(dtype)  # (C, 9 C/2): -mean, -log_sd
        self.offset = -bias[:, None].to(dtype)

    def __call__(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return the half that stays, the latents of the other, each (C/2, H, W, B), and the ladj (B,)."""
        x1, x2 = x.chunk(2)
        patches = gather(new_gathered(tuple(x1.shape), x1), x1)
        shift, log_s = torch.addmm(self.offset, self.matrix, patches).view_as(x).chunk(2)
        return x1, (x2 + shift).mul_(log_s.exp()), log_s.sum((0, 1, 2))


class FrozenLevel:
    """Squeeze, K steps, and the split's prior."""

    def __init__(self, level: Level, side: int, hidden: torch.dtype) -> None:
        level.require_initialised()
        steps = level.typed_steps()
        self.prior = None if level.prior is None else FrozenPrior(level.prior)
        norms = [(step.norm.log_scale.to(_EXACT).flatten(), step.norm.bias.to(_EXACT).flatten()) for step in steps]
        matrices = [step.mix.weight(_EXACT) * scale.exp() for step, (scale, _) in zip(steps, norms, strict=True)]
        shifts = [(matrix @ bias)[:, None] for matrix, (_, bias) in zip(matrices, norms, strict=True)]
        network = stacked([as_products(_raw_over_bound(step.coupling)) for step in steps])
        own = steps[0].norm.bias.dtype
        networks = [folded._replace(offset=folded.offset.to(own)) for folded in fold(network, side, hidden)]
        folded = zip(matrices, shifts, networks, strict=True)
        self.steps = [Step(matrix.to(own), shift.to(own), network) for matrix, shift, network in folded]
        log_dets = [
            scale.sum() + step.mix.log_diagonal.to(_EXACT).sum() for step, (scale, _) in zip(steps, norms, strict=True)
        ]
        self.constant = side**2 * float(sum(log_dets))

    def __call__(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """(C, H, W, B) to the state before the split (4C, H/2, W/2, B), and log s of K couplings (K, 2C, H/2, ...)."""
        x = _squeeze(x)
        network = self.steps[0].network
        room = new_room(x, network)
        hidden = new_hidden(network, room.places, stored=False)
        log_scales = x.new_empty(len(self.steps), len(x) // 2, *x.shape[1:])
        states = state_of(x), state_of(torch.empty_like(x))
        walk = without_lock(encode, x.device)
        return walk(self.steps, *states, list(log_scales), room, hidden, LOG_SCALE_BOUND), log_scales


class FrozenGlow:
    """The forward direction of a trained flow.

    Raises EncoderError for a flow whose ActNorms were never initialised.

    Args:
        flow: the flow; later changes to it are not seen.
        hidden: the type of the couplings' hidden layers. bfloat16 is faster where the processor has it and moves
            latents by up to 1 at 28 px: see docs/encoder.md before using it.
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


def _raw_over_bound(coupling: Coupling) -> tuple[Tensor, ...]:
    """The coupling's weights, where those that make raw are divided by the bound: tanh takes raw / b."""
    *hidden, w3, b3 = coupling.weights(_EXACT)
    w3[coupling.changed :] /= LOG_SCALE_BOUND
    b3[coupling.changed :] /= LOG_SCALE_BOUND
    return *hidden, w3, b3


def _positions_outside(x: Tensor) -> Tensor:
    """Images (B, C, H, W) to the flow's state (C, H, W, B), centred."""
    return x.permute(1, 2, 3, 0).contiguous() - 0.5


def _squeeze(x: Tensor) -> Tensor:
    """`Squeeze` on (C, H, W, B): to (4C, H/2, W/2, B)."""
    c, h, w, b = x.shape
    return x.view(c, h // 2, 2, w // 2, 2, b).permute(0, 2, 4, 1, 3, 5).reshape(4 * c, h // 2, w // 2, b)
