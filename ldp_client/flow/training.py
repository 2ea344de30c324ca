"""The log-likelihood that training differentiates, in three modes that agree.

`plain` is the flow as `Glow` writes it. The other two keep their tensors as (C, H, W, B), where the halves of a
coupling are slices and a row of an image is one run of memory whatever its length. ActNorm and 1x1 convolution become
one matrix, and the couplings' networks matrix products (`flow.products`). Each of the processor's cores takes a part of
the batch through a whole level, forwards and backwards (`flow.lanes`).

`fast` stores what backward needs. `frugal` stores nothing inside a level: backward recovers the input of each step from
its output, so memory hardly grows with the number of steps (the idea of Gomez et al., "The Reversible Residual
Network", NeurIPS 2017, arXiv 1707.04585; a flow is invertible to begin with). A coupling's network runs once in forward
and once more in backward, since the half that it reads is the half that it leaves as it is.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum
from typing import Any, cast

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from ldp_client.errors import ParameterError
from ldp_client.flow.glow import Glow, Level, normal_log_density
from ldp_client.flow.lanes import divide, side_by_side
from ldp_client.flow.layers import LOG_SCALE_BOUND
from ldp_client.flow.products import Network, as_products, fold, new_backward_room, new_room, stacked
from ldp_client.flow.steps import Step, ascend, descend, without_lock


class Mode(StrEnum):
    """How a training step spends time and memory."""

    PLAIN = "plain"
    FAST = "fast"
    FRUGAL = "frugal"


def log_prob(flow: Glow, x: Tensor, mode: Mode, network_type: torch.dtype | None = None) -> Tensor:
    """Log density of images (B, C, size, size), in nats: (B,). Its gradients are those of `flow.log_prob`.

    Agreement: 1e-12 in float64. In float32 another order of additions can put a hidden value on the other side of
    ReLU's kink, so single gradients may jump. The gradient of a gradient is available in `plain` alone.

    Args:
        network_type: what the couplings' networks compute in, where it is not the flow's own type (mixed precision);
            the state, its scaling and every sum stay in the flow's type. Not for `plain`.

    Raises:
        ParameterError: images of another shape, or a network type in `plain`.
    """
    if mode is Mode.PLAIN:
        if network_type is not None:
            raise ParameterError("asked for mixed precision in the plain mode, which has none; use fast or frugal")
        return flow.log_prob(x)
    flow.require_shape(x)
    h, log_p = x - 0.5, x.new_zeros(x.shape[0])
    for level in flow.typed_levels():
        level.require_initialised()
        h = level.squeeze(h)[0].permute(1, 2, 3, 0).contiguous()  # (C, H, W, B)
        matrices, shifts, log_det = _affine(level)
        network = stacked([as_products(step.coupling.weights(x.dtype)) for step in level.typed_steps()])
        walk = (mode is Mode.FAST, network_type or x.dtype, h, matrices, shifts, *network)
        h, ladj = _Walk.apply(*walk)  # type: ignore[no-untyped-call]
        log_p = log_p + ladj + h.shape[1] * h.shape[2] * log_det
        h = h.permute(3, 0, 1, 2)
        if level.prior is not None:
            h, ladj = level.prior(h)
            h, z = h.chunk(2, dim=1)
            log_p = log_p + ladj + normal_log_density(z)
    z, ladj = flow.top(h)
    return cast(Tensor, log_p + ladj + normal_log_density(z))


def _affine(level: Level) -> tuple[Tensor, Tensor, Tensor]:
    """ActNorm and 1x1 convolution of K steps as matrices (K, C, C) and shifts (K, C), and log |det| of all."""
    norms, mixes = zip(*((step.norm, step.mix) for step in level.typed_steps()), strict=True)
    log_scale = torch.stack([norm.log_scale for norm in norms]).flatten(1)  # (K, C)
    bias = torch.stack([norm.bias for norm in norms]).flatten(1)
    log_diagonal = torch.stack([mix.log_diagonal for mix in mixes])
    sign = torch.stack([mix.sign for mix in mixes])
    lower = torch.stack([mix.lower for mix in mixes]).tril(-1)  # (K, C, C)
    upper = torch.stack([mix.upper for mix in mixes]).triu(1) + torch.diag_embed(sign * log_diagonal.exp())
    mixed = (lower + torch.eye(bias.shape[1], dtype=bias.dtype, device=bias.device)) @ upper
    permutation = torch.stack([mix.permutation for mix in mixes])[..., None].expand_as(mixed)
    matrices = mixed.gather(1, permutation) * log_scale.exp()[:, None]
    return matrices, (matrices @ bias[..., None])[..., 0], log_scale.sum() + log_diagonal.sum()


class _Walk(torch.autograd.Function):
    """The K steps of a level; a core walks through all of them with its part of the batch, and back."""

    @staticmethod
    def forward(ctx: Any, stored: bool, hidden: torch.dtype, x: Tensor, *weights: Tensor) -> tuple[Tensor, Tensor]:
        steps, walk = _steps(weights, x.shape[1], hidden), without_lock(ascend, x.device)

        def lane(part: Tensor) -> tuple[Tensor, Tensor, list[Tensor]]:
            part = part.contiguous()
            return walk(part, steps, new_room(part, steps[0].network), stored, LOG_SCALE_BOUND)

        walks = side_by_side(lane, divide(x, dim=3))
        ends, ladjs, kept = zip(*walks, strict=True)
        ctx.stored, ctx.hidden, ctx.lanes = stored, hidden, len(walks)
        ctx.save_for_backward(*weights, *(tensor for lane in kept for tensor in lane))
        return torch.cat(ends, dim=3), torch.cat(ladjs)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor, grad_ladj: Tensor) -> tuple[Tensor | None, ...]:
        split = 2 + len(Network._fields)
        weights, kept = ctx.saved_tensors[:split], ctx.saved_tensors[split:]
        steps, walk = _steps(weights, grad.shape[1], ctx.hidden), without_lock(descend, grad.device)
        inverses = [] if ctx.stored else list(torch.linalg.inv(weights[0].double()).to(grad.dtype))
        # Room for everything that stays, before the walk: small tensors kept between large ones that come and go would
        # scatter over the memory, which would grow with every step.
        found = [[torch.empty_like(weight) for weight in weights] for _ in range(ctx.lanes)]

        def lane(part: tuple[Sequence[Tensor], Tensor, Tensor, list[Tensor]]) -> Tensor:
            kept, grad, grad_ladj, found = part
            rooms = new_room(kept[0], steps[0].network), new_backward_room(kept[0], steps[0].network)
            return walk(steps, inverses, list(kept), grad.contiguous(), grad_ladj, *rooms, LOG_SCALE_BOUND, found)

        each = len(kept) // ctx.lanes
        parts = [kept[i * each : (i + 1) * each] for i in range(ctx.lanes)]
        sizes = [part[0].shape[3] for part in parts]
        grads = torch.split(grad, sizes, dim=3), torch.split(grad_ladj, sizes)
        grad_x = side_by_side(lane, list(zip(parts, *grads, found, strict=True)))
        for total, *others in zip(*found, strict=True):
            for other in others:  # in the order of the lanes, so that sums repeat
                total.add_(other)
        return None, None, torch.cat(grad_x, dim=3), *found[0]


def _steps(weights: Sequence[Tensor], side: int, hidden: torch.dtype) -> list[Step]:
    """K steps from matrices (K, C, C), shifts (K, C) and stacked networks."""
    matrices, shifts, *network = weights
    parts = zip(matrices, shifts[..., None], fold(Network(*network), side, hidden), strict=True)
    return [Step(*one) for one in parts]
