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
from threading import Lock
from typing import Any, NamedTuple, cast

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from ldp_client.errors import ParameterError
from ldp_client.flow.glow import Glow, Level, normal_log_density
from ldp_client.flow.lanes import divide, side_by_side
from ldp_client.flow.layers import LOG_SCALE_BOUND
from ldp_client.flow.products import BackwardRoom, Folded, Hidden, Network, Room


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
        network = Network.stack([Network.of(step.coupling.weights(x.dtype)) for step in level.typed_steps()])
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


class _Step(NamedTuple):
    """One step of flow as matrices, y = coupling(matrix x + shift)."""

    matrix: Tensor
    shift: Tensor
    network: Folded

    def forward(self, x: Tensor, room: Room, hidden: Hidden) -> tuple[Tensor, Tensor]:
        """(C, H, W, B) to y, and tanh(raw / b) of the coupling, which is its log s over b."""
        y = torch.addmm(self.shift[:, None], self.matrix, x.flatten(1)).view_as(x)
        y1, y2 = y.chunk(2)
        shift, tanh = self.couple(y1, room, hidden)
        y2.add_(shift).mul_(_scale(tanh))  # in place, as a part of y
        return y, tanh

    def couple(self, kept: Tensor, room: Room, hidden: Hidden) -> tuple[Tensor, Tensor]:
        """What the coupling does to the other half: y2 = (x2 + shift) exp(b tanh). The shift stands in the room."""
        self.network.forward(kept, room, hidden)
        return room.shift, room.raw.div(LOG_SCALE_BOUND).tanh_()

    def unmix(self, y: Tensor, shift: Tensor, tanh: Tensor, inverse: Tensor) -> Tensor:
        """x, given y, what the coupling did, and the inverse of the matrix."""
        y1, y2 = y.chunk(2)
        mixed = torch.cat((y1, y2 / _scale(tanh) - shift)).flatten(1)
        return (inverse @ mixed.sub_(self.shift[:, None])).view_as(y)

    def backward(
        self, x: Tensor, y: Tensor, tanh: Tensor, grads: _Grads, room: BackwardRoom, hidden: Hidden
    ) -> tuple[Tensor, list[Tensor]]:
        """Gradients for x, and for matrix, shift and network; kept half and hidden values are those of its forward."""
        (_, y2), (grad_y1, grad_y2) = y.chunk(2), grads.y.chunk(2)
        parameters = torch.empty_like(y)  # gradient for the network's output
        grad_x2, grad_raw = parameters.chunk(2)  # y2 depends on x2 as it does on the coupling's shift
        torch.mul(grad_y2, _scale(tanh), out=grad_x2)
        torch.mul(grad_y2, y2, out=grad_raw)
        grad_raw.add_(grads.ladj).mul_(1 - tanh.square())
        grad_x1, network = self.network.backward(parameters, room, hidden)
        mixed = torch.cat((grad_x1.add_(grad_y1), grad_x2)).flatten(1)
        return (self.matrix.T @ mixed).view_as(x), [mixed @ x.flatten(1).T, mixed.sum(1), *network]


class _Grads(NamedTuple):
    """Gradients for a step's output (C, H, W, B) and for its ladj (B,)."""

    y: Tensor
    ladj: Tensor


class _Kept(NamedTuple):
    """What is stored of a step: its output, tanh of its coupling, and its hidden values."""

    y: Tensor
    tanh: Tensor
    first: Tensor
    second: Tensor


class _Walk(torch.autograd.Function):
    """The K steps of a level; a core walks through all of them with its part of the batch, and back."""

    @staticmethod
    def forward(ctx: Any, stored: bool, hidden: torch.dtype, x: Tensor, *weights: Tensor) -> tuple[Tensor, Tensor]:
        steps = _steps(weights, x.shape[1], hidden)
        walks = side_by_side(lambda part: _ascend(part.contiguous(), steps, stored), divide(x, dim=3))
        ends, ladjs, kept = zip(*walks, strict=True)
        ctx.stored, ctx.hidden, ctx.lanes = stored, hidden, len(walks)
        ctx.save_for_backward(*weights, *(tensor for lane in kept for tensor in lane))
        return torch.cat(ends, dim=3), torch.cat(ladjs)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor, grad_ladj: Tensor) -> tuple[Tensor | None, ...]:
        split = 2 + len(Network._fields)
        weights, kept = ctx.saved_tensors[:split], ctx.saved_tensors[split:]
        steps = _steps(weights, grad.shape[1], ctx.hidden)
        inverses = None if ctx.stored else torch.linalg.inv(weights[0].double()).to(grad.dtype)
        each = len(kept) // ctx.lanes
        parts = [kept[i * each : (i + 1) * each] for i in range(ctx.lanes)]
        sizes = [part[0].shape[3] for part in parts]
        grads = map(_Grads, torch.split(grad, sizes, dim=3), torch.split(grad_ladj, sizes))
        lanes = zip(range(ctx.lanes), parts, grads, strict=True)
        sums = _Sums(weights, ctx.lanes)
        grad_x = side_by_side(lambda lane: _descend(steps, inverses, *lane, sums), list(lanes))
        return None, None, torch.cat(grad_x, dim=3), *sums.totals


class _Sums:
    """Gradients of all lanes for the weights of K steps, added in the order of the lanes, so that they repeat."""

    def __init__(self, weights: Sequence[Tensor], lanes: int) -> None:
        # Room for everything that stays, before the walk: small tensors kept between large ones that come and go would
        # scatter over the memory, which would grow with every step.
        self.totals = [torch.empty_like(weight) for weight in weights]
        self._lanes, self._waiting, self._lock = lanes, dict[int, dict[int, list[Tensor]]](), Lock()

    def add(self, step: int, lane: int, found: list[Tensor]) -> None:
        """Take what a lane found for a step; the last lane to come adds what all have found."""
        with self._lock:
            parts = self._waiting.setdefault(step, {})
            parts[lane] = found
            if len(parts) < self._lanes:
                return
            del self._waiting[step]
        for total, first, *others in zip(self.totals, *(parts[i] for i in range(self._lanes)), strict=True):
            total[step] = first
            for other in others:
                total[step].add_(other)


def _ascend(x: Tensor, steps: list[_Step], stored: bool) -> tuple[Tensor, Tensor, list[Tensor]]:
    """From x (C, H, W, B) through the steps: y, ladj (B,), and what is kept: x and a `_Kept` for each step, or y."""
    network, positions = steps[0].network, x[0].numel()
    room, ladj, kept = Room(x, network), x.new_zeros(x.shape[3]), [x]
    hidden = Hidden.new(positions, network, stored)
    for k, step in enumerate(steps):
        if stored and k:
            hidden = Hidden.new(positions, network, stored)
        x, tanh = step.forward(x, room, hidden)
        ladj += tanh.sum((0, 1, 2))
        kept = [*kept, *_Kept(x, tanh, hidden.first, hidden.second)] if stored else [x]
    return x, ladj.mul_(LOG_SCALE_BOUND), kept


def _descend(
    steps: list[_Step], inverses: Tensor | None, lane: int, kept: Sequence[Tensor], grads: _Grads, sums: _Sums
) -> Tensor:
    """The way back of one lane: the gradient for the start (C, H, W, B); those for the weights go into `sums`.

    What was stored is used; where there are `inverses`, only the end was, and each step's input is computed from its
    output.
    """
    (y, *stored), network = kept, steps[0].network
    positions = y[0].numel()
    room, hidden = BackwardRoom(y, network), Hidden.new(positions, network, stored=inverses is not None)
    for k, step in reversed(list(enumerate(steps))):
        if inverses is None:
            width = len(_Kept._fields)
            x = stored[(k - 1) * width] if k else kept[0]
            y, tanh, first, second = stored[k * width : (k + 1) * width]
            hidden = Hidden(first, second, positions)
            room.kept.gather(y.chunk(2)[0])
        else:
            shift, tanh = step.couple(y.chunk(2)[0], room, hidden)
            x = step.unmix(y, shift, tanh, inverses[k])
        grad_x, found = step.backward(x, y, tanh, grads, room, hidden)
        sums.add(k, lane, found)
        y, grads = x, grads._replace(y=grad_x)
    return grads.y


def _scale(tanh: Tensor) -> Tensor:
    """exp(log s) of a coupling."""
    return (LOG_SCALE_BOUND * tanh).exp_()


def _steps(weights: Sequence[Tensor], side: int, hidden: torch.dtype) -> list[_Step]:
    """K steps from matrices (K, C, C), shifts (K, C) and stacked networks."""
    matrices, shifts, *network = weights
    parts = zip(matrices, shifts, Network(*network).folded(side, hidden), strict=True)
    return [_Step(*one) for one in parts]
