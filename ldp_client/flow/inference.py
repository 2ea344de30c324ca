"""The frozen flow as a hospital runs it: the same numbers, faster (docs/performance.md).

A `Glow` is written to be read and trained; `FrozenGlow` is made from one and computes its forward direction only, in
plain PyTorch operations (no private operator, no compiler):

- The state is (C, H, W, B): the halves of a coupling are slices, and neighbours in a row of all images together are one
  run of memory. Nothing is concatenated.
- ActNorm and 1x1 convolution are one matrix, multiplied out in float64.
- A coupling's three convolutions are three matrix products: the first gathers 3x3 neighbourhoods of the few channels
  that it reads, the last spreads its nine products to the neighbours, again on few channels. So no lane of the
  processor idles for want of output channels, and none of the padding is multiplied.
- The hidden layers run over some thousand positions at a time, which stay in the cache; a batch of any size needs the
  same scratch memory.
- No bias is added to a hidden layer: relu(a + b) = max(a, -b) + b, and W b joins the next layer's bias. What reaches
  the output is a constant for each position (fewer neighbours at the border), computed once.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ldp_client.flow.glow import Glow, Level, Step, average_with_mirrored, pool_log_scales
from ldp_client.flow.layers import LOG_SCALE_BOUND
from ldp_client.flow.products import gather, spread

POSITIONS = 4096
"""Rows of a hidden layer at a time: at width 64 a megabyte, half of it for each of two cores' caches."""


class FrozenStep:
    """One step of flow on (C, H, W, B), its constants folded in float64."""

    def __init__(self, step: Step, side: int, hidden: torch.dtype) -> None:
        dtype, exact = step.norm.bias.dtype, torch.float64
        norm, coupling, self.kept = step.norm, step.coupling, step.coupling.kept
        matrix = step.mix.weight(exact) * norm.log_scale.to(exact).exp().flatten()
        self.matrix = matrix.to(dtype)
        self.shift = (matrix @ norm.bias.to(exact).flatten()).to(dtype)[:, None]
        self.constant = side**2 * float(norm.log_scale.to(exact).sum() + step.mix.log_diagonal.to(exact).sum())

        w1, b1, w2, b2, w3, b3 = coupling.weights(exact)
        b2 = b2 + w2.flatten(1) @ b1
        # tanh takes raw / b: the division joins the weights that make raw.
        w3[coupling.changed :] /= LOG_SCALE_BOUND
        b3[coupling.changed :] /= LOG_SCALE_BOUND
        taps = w3.flip(2, 3).permute(0, 2, 3, 1).flatten(0, 2)
        reached = spread((taps @ b2)[:, None].expand(-1, side**2).contiguous(), torch.Size((side, side, 1)))
        self.w1, self.floor1 = w1.flatten(1).T.to(hidden).contiguous(), -b1.to(hidden)  # (9 C/2, width)
        self.w2, self.floor2 = w2.flatten(1).T.to(hidden).contiguous(), -b2.to(hidden)  # (width, width)
        self.w3 = taps.to(hidden).contiguous()  # (9 C, width)
        self.offset = (reached + b3[:, None, None, None]).to(dtype)  # (C, H, W, 1)

    def __call__(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return y (C, H, W, B) and the coupling's log s (C/2, H, W, B)."""
        y = torch.addmm(self.shift, self.matrix, x.flatten(1)).view_as(x)
        y2 = y[self.kept :]
        shift, log_s = self._network(y[: self.kept]).chunk(2)
        log_s.tanh_().mul_(LOG_SCALE_BOUND)
        y2.add_(shift).mul_(log_s.exp())  # in place, as a part of y
        return y, log_s

    def _network(self, kept: Tensor) -> Tensor:
        patches = gather(kept.to(self.w1.dtype))  # (9 C/2, N)
        products = patches.new_empty(self.w3.shape[0], patches.shape[1])  # (9 C, N)
        for start in range(0, patches.shape[1], POSITIONS):
            some = slice(start, start + POSITIONS)
            h = (patches[:, some].T @ self.w1).clamp_min_(self.floor1)  # (POSITIONS, width)
            h = (h @ self.w2).clamp_min_(self.floor2)
            torch.mm(self.w3, h.T, out=products[:, some])
        return spread(products.to(kept.dtype), kept.shape[1:]).add_(self.offset)


class FrozenGlow:
    """The forward direction of a trained flow.

    Raises EncoderError for a flow whose ActNorms were never initialised.

    Args:
        flow: the flow; later changes to it are not seen.
        hidden: the type of the couplings' hidden layers. bfloat16 is faster where the processor has it and moves
            latents by up to .25: see docs/encoder.md before using it.
    """

    def __init__(self, flow: Glow, hidden: torch.dtype | None = None) -> None:
        self.flow = flow
        self.levels: list[tuple[Level, list[FrozenStep]]] = []
        with torch.no_grad():
            for i, level in enumerate(flow.typed_levels()):
                level.require_initialised()
                side = flow.shape.size >> (i + 1)
                dtype = hidden or flow.top.mean.dtype
                self.levels.append((level, [FrozenStep(step, side, dtype) for step in level.typed_steps()]))

    @torch.no_grad()
    def encode(self, x: Tensor) -> tuple[list[Tensor], Tensor]:
        """Images (B, C, size, size) to the latents by level, the finest first, and the log-determinant (B,)."""
        self.flow.require_shape(x)
        h, ladj = x - 0.5, x.new_zeros(x.shape[0])
        latents = []
        for level, steps in self.levels:
            h = _positions_outside(level.squeeze(h)[0])
            for step in steps:
                h, log_s = step(h)
                ladj += log_s.sum((0, 1, 2)) + step.constant
            h = _batch_outside(h)
            if level.prior is not None:
                h, prior_ladj = level.prior(h)
                ladj += prior_ladj
                h, z = h.chunk(2, dim=1)  # each (B, 2C, H/2, W/2)
                latents.append(z)
        z, top_ladj = self.flow.top(h)
        return [*latents, z], ladj + top_ladj

    @torch.no_grad()
    def log_scale_map(self, x: Tensor) -> Tensor:
        """What `Glow.log_scale_map` returns, (B, L * K * 16). The priors do not enter it."""
        self.flow.require_shape(x)
        h, log_scales = torch.cat((x, x.flip(3))) - 0.5, []
        for level, steps in self.levels:
            h = _positions_outside(level.squeeze(h)[0])
            for step in steps:
                h, log_s = step(h)
                log_scales.append(_batch_outside(log_s.mean(0, keepdim=True)))
            h = _batch_outside(h[: len(h) // 2])  # the half that stays in the flow
        return average_with_mirrored(pool_log_scales(log_scales))


def _positions_outside(x: Tensor) -> Tensor:
    """(B, C, H, W) to (C, H, W, B)."""
    return x.permute(1, 2, 3, 0).contiguous()


def _batch_outside(x: Tensor) -> Tensor:
    """(C, H, W, B) to (B, C, H, W), a view."""
    return x.permute(3, 0, 1, 2)
