"""The log-likelihood that training differentiates, in three modes that agree.

`plain` is the flow as `Glow` writes it. The other two keep their tensors as (C, H, W, B): the halves of a coupling are
slices, a row of an image is one run of memory whatever its length, and every convolution is one matrix product over all
positions of all images, forwards and backwards, at the speed of the machine's matrix products. A 3x3 convolution with
few inputs gathers their neighbourhoods first, one with few outputs spreads its nine products afterwards; both touch the
few channels only. ActNorm and 1x1 convolution become one matrix.

`fast` stores what backward needs. `frugal` stores nothing inside a level: backward recovers the input of each step from
its output, so memory hardly grows with the number of steps (the idea of Gomez et al., "The Reversible Residual
Network", NeurIPS 2017, arXiv 1707.04585; a flow is invertible to begin with). A coupling's network runs once in forward
and once more in backward, since the half that it reads is the half that it leaves as it is.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from enum import StrEnum
from typing import Any, NamedTuple, cast

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional

from ldp_client.errors import ParameterError
from ldp_client.flow.glow import Glow, Level, normal_log_density
from ldp_client.flow.layers import LOG_SCALE_BOUND, Coupling

BLOCK = 2048
"""Positions at a time in `frugal`: at width 64 half a megabyte, a core's share of the cache."""


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
    run = _stored if mode is Mode.FAST else _inverted
    h, log_p = x - 0.5, x.new_zeros(x.shape[0])
    for level in flow.typed_levels():
        h = level.squeeze(h)[0].permute(1, 2, 3, 0).contiguous()  # (C, H, W, B)
        matrices, shifts, log_det = _affine(level)
        h, ladj = run(h, matrices, shifts, _flat_networks(level, x.dtype, network_type or x.dtype))
        log_p = log_p + ladj + h.shape[1] * h.shape[2] * log_det
        h = h.permute(3, 0, 1, 2)
        if level.prior is not None:
            h, ladj = level.prior(h)
            h, z = h.chunk(2, dim=1)
            log_p = log_p + ladj + normal_log_density(z)
    z, ladj = flow.top(h)
    return cast(Tensor, log_p + ladj + normal_log_density(z))


def _flat_networks(level: Level, own: torch.dtype, hidden: torch.dtype) -> list[Tensor]:
    return [tensor.to(hidden) for step in level.typed_steps() for tensor in _Network.of(step.coupling, own)]


class _Network(NamedTuple):
    """The three convolutions of a coupling as matrices: (width, 9 C/2), (width, width), (9 C, width), and biases."""

    first: Tensor
    first_bias: Tensor
    second: Tensor
    second_bias: Tensor
    last: Tensor
    last_bias: Tensor

    @classmethod
    def of(cls, coupling: Coupling, dtype: torch.dtype) -> _Network:
        w1, b1, w2, b2, w3, b3 = coupling.weights(dtype)
        # A product at one position goes to its nine neighbours, and the tap that looks up belongs to the one below.
        taps = w3.flip(2, 3).permute(0, 2, 3, 1).flatten(0, 2)
        return cls(w1.flatten(1), b1, w2.flatten(1), b2, taps, b3)

    def forward(self, kept: Tensor, hidden: _Hidden | None = None) -> tuple[Tensor, _Saved]:
        """Kept half (C/2, H, W, B) to shift and raw log s (C, H, W, B), and what `backward` needs.

        With `hidden`, hidden values go there a block of positions at a time; where it holds one block only, they are
        not kept, and `backward` is out of the question. Without, they are new.
        """
        patches = gather(kept.to(self.first.dtype))  # (9 C/2, N)
        count = patches.shape[1]
        # One position a row: N is often a power of two, and columns that far apart share one place in the cache.
        hidden = hidden or _Hidden.new(count, self.first, rows=count)
        products = patches.new_empty(len(self.last), count)  # (9 C, N)
        for some, h1, h2 in hidden.blocks(count):
            torch.addmm(self.first_bias, patches[:, some].T, self.first.T, out=h1).relu_()
            torch.addmm(self.second_bias, h1, self.second.T, out=h2).relu_()
            torch.mm(self.last, h2.T, out=products[:, some])
        out = spread(products.to(kept.dtype), kept.shape[1:]).add_(self.last_bias[:, None, None, None])
        return out, _Saved(patches, hidden)

    def backward(self, grad: Tensor, saved: _Saved) -> tuple[Tensor, _Network]:
        """Gradients for the kept half and for the weights."""
        patches, hidden = saved
        g = gather(grad.to(self.first.dtype))  # (9 C, N)
        grad_patches = torch.empty_like(patches)
        sums = [torch.zeros_like(weight) for weight in self[:5]]
        for some, h1, h2 in hidden.blocks(patches.shape[1]):
            g2 = _through_relu(g[:, some].T @ self.last, h2)  # (rows, width)
            g1 = _through_relu(g2 @ self.second, h1)
            torch.mm(self.first.T, g1.T, out=grad_patches[:, some])
            parts = (g1.T @ patches[:, some].T, g1.sum(0), g2.T @ h1, g2.sum(0), g[:, some] @ h2)
            sums = [total.add_(part) for total, part in zip(sums, parts, strict=True)]
        grad_kept = spread(grad_patches.to(grad.dtype), grad.shape[1:])
        return grad_kept, _Network._make([*sums, grad.sum((1, 2, 3)).to(self.last_bias.dtype)])


class _Hidden(NamedTuple):
    """Room for both hidden layers, (positions, width) each, and how many positions are computed at a time."""

    first: Tensor
    second: Tensor
    rows: int

    @classmethod
    def new(cls, positions: int, weight: Tensor, rows: int = BLOCK) -> _Hidden:
        """Room for so many positions, of a network with this first weight."""
        width = len(weight)
        return cls(weight.new_empty(positions, width), weight.new_empty(positions, width), rows)

    def blocks(self, count: int) -> Iterator[tuple[slice, Tensor, Tensor]]:
        """Which positions, and where their hidden values stand; all in one place where there is room for one block."""
        for start in range(0, count, self.rows):
            length = min(self.rows, count - start)
            place = slice(start, start + length) if len(self.first) >= count else slice(length)
            yield slice(start, start + length), self.first[place], self.second[place]


class _Saved(NamedTuple):
    """What a network's backward needs of its forward."""

    patches: Tensor
    hidden: _Hidden


def gather(x: Tensor) -> Tensor:
    """The 3x3 neighbourhood of each position, zero outside: (C, H, W, B) to (9 C, H W B)."""
    c, h, w, b = x.shape
    padded = functional.pad(x, (0, 0, 1, 1, 1, 1))
    channel, row, column, image = padded.stride()
    return padded.as_strided((c, 3, 3, h, w, b), (channel, row, column, row, column, image)).reshape(9 * c, h * w * b)


def spread(products: Tensor, shape: torch.Size) -> Tensor:
    """The adjoint of `gather`: each position's nine products added to its neighbours, (9 C, H W B) to (C, H, W, B)."""
    h, w, b = shape
    parts = products.view(-1, 3, 3, h, w, b)
    padded = products.new_zeros(parts.shape[0], h + 2, w + 2, b)
    for row in range(3):
        for column in range(3):
            padded[:, row : row + h, column : column + w] += parts[:, row, column]
    return padded[:, 1:-1, 1:-1].contiguous()


def _through_relu(grad: Tensor, activation: Tensor) -> Tensor:
    """The gradient before a ReLU, in place: 0 where the ReLU gave 0."""
    masked: Tensor = torch.ops.aten.threshold_backward.grad_input(grad, activation, 0, grad_input=grad)
    return masked


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
    """One step of flow as matrices: y = coupling(matrix x + shift)."""

    matrix: Tensor
    shift: Tensor
    network: _Network

    def forward(self, x: Tensor, hidden: _Hidden | None = None) -> tuple[Tensor, Tensor, _Coupled]:
        """(C, H, W, B) to y, the coupling's ladj (B,), and what `backward` needs besides x and y."""
        y = torch.addmm(self.shift[:, None], self.matrix, x.flatten(1)).view_as(x)
        y1, y2 = y.chunk(2)
        coupled = self.couple(y1, hidden)
        y2.add_(coupled.shift).mul_(coupled.scale)  # in place, as a part of y
        return y, LOG_SCALE_BOUND * coupled.tanh.sum((0, 1, 2)), coupled

    def couple(self, kept: Tensor, hidden: _Hidden | None = None) -> _Coupled:
        """What the coupling does to the other half: y2 = (x2 + shift) scale, with scale = exp(b tanh(raw / b))."""
        parameters, saved = self.network.forward(kept, hidden)
        shift, raw = parameters.chunk(2)
        tanh = raw.div_(LOG_SCALE_BOUND).tanh_()
        return _Coupled(shift, tanh, (LOG_SCALE_BOUND * tanh).exp_(), saved)

    def unmix(self, y: Tensor, coupled: _Coupled, inverse: Tensor) -> Tensor:
        """x, given y and the inverse of the matrix."""
        y1, y2 = y.chunk(2)
        mixed = torch.cat((y1, y2 / coupled.scale - coupled.shift)).flatten(1)
        return (inverse @ mixed.sub_(self.shift[:, None])).view_as(y)

    def backward(
        self, x: Tensor, y: Tensor, coupled: _Coupled, grad: Tensor, grad_ladj: Tensor
    ) -> tuple[Tensor, Tensor, Tensor, _Network]:
        """Gradients for x, the matrix, the shift and the network."""
        (_, y2), (grad_y1, grad_y2) = y.chunk(2), grad.chunk(2)
        parameters = torch.empty_like(grad)  # gradient for the network's output
        grad_x2, grad_raw = parameters.chunk(2)  # y2 depends on x2 as it does on the coupling's shift
        torch.mul(grad_y2, coupled.scale, out=grad_x2)
        torch.mul(grad_y2, y2, out=grad_raw)
        grad_raw.add_(grad_ladj).mul_(1 - coupled.tanh.square())
        grad_x1, network = self.network.backward(parameters, coupled.saved)
        mixed = torch.cat((grad_x1.add_(grad_y1), grad_x2)).flatten(1)
        return (self.matrix.T @ mixed).view_as(x), mixed @ x.flatten(1).T, mixed.sum(1), network


class _Coupled(NamedTuple):
    """What a coupling's network said, each (C/2, H, W, B), and what its backward needs."""

    shift: Tensor
    tanh: Tensor
    scale: Tensor
    saved: _Saved


class _Stored(torch.autograd.Function):
    """One step whose backward finds everything stored."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, matrix: Tensor, shift: Tensor, *network: Tensor) -> tuple[Tensor, Tensor]:
        y, ladj, coupled = _Step(matrix, shift, _Network(*network)).forward(x)
        # The shift was used up: backward needs y, not x2.
        patches, (h1, h2, _) = coupled.saved
        ctx.save_for_backward(x, y, coupled.tanh, coupled.scale, patches, h1, h2, matrix, shift, *network)
        return y, ladj

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor, grad_ladj: Tensor) -> tuple[Tensor, ...]:
        x, y, tanh, scale, patches, h1, h2, matrix, shift, *network = ctx.saved_tensors
        step = _Step(matrix, shift, _Network(*network))
        coupled = _Coupled(shift, tanh, scale, _Saved(patches, _Hidden(h1, h2, len(h1))))
        grad_x, grad_matrix, grad_shift, grad_network = step.backward(x, y, coupled, grad, grad_ladj)
        return grad_x, grad_matrix, grad_shift, *grad_network


class _Inverted(torch.autograd.Function):
    """K steps of which only the end is stored; backward walks back to the input, inverting one step at a time."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, matrices: Tensor, shifts: Tensor, *flat: Tensor) -> tuple[Tensor, Tensor]:
        y, ladj, block = x, x.new_zeros(x.shape[3]), _Hidden.new(BLOCK, flat[0])
        for step in _steps(matrices, shifts, flat):
            y, step_ladj, _ = step.forward(y, block)
            ladj += step_ladj
        ctx.save_for_backward(y, matrices, shifts, *flat)
        return y, ladj

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor, grad_ladj: Tensor) -> tuple[Tensor, ...]:
        y, matrices, shifts, *flat = ctx.saved_tensors
        inverses = torch.linalg.inv(matrices.double()).to(matrices.dtype)
        grad_matrices, grad_shifts = torch.empty_like(matrices), torch.empty_like(shifts)
        # Room for everything that stays, before the walk: small tensors kept between large ones that come and go would
        # scatter over the memory, which would grow with every step.
        grad_networks = [torch.empty_like(tensor) for tensor in flat]
        hidden = _Hidden.new(y[0].numel(), flat[0])
        for k, step in reversed(list(enumerate(_steps(matrices, shifts, flat)))):
            coupled = step.couple(y.chunk(2)[0], hidden)
            x = step.unmix(y, coupled, inverses[k])
            grad, grad_matrices[k], grad_shifts[k], network = step.backward(x, y, coupled, grad, grad_ladj)
            for room, part in zip(grad_networks[k * len(network) :], network, strict=False):
                room.copy_(part)
            y = x
        return grad, grad_matrices, grad_shifts, *grad_networks


def _steps(matrices: Tensor, shifts: Tensor, flat: Sequence[Tensor]) -> list[_Step]:
    width = len(_Network._fields)
    networks = [_Network(*flat[start : start + width]) for start in range(0, len(flat), width)]
    return [_Step(*parts) for parts in zip(matrices, shifts, networks, strict=True)]


def _stored(x: Tensor, matrices: Tensor, shifts: Tensor, flat: list[Tensor]) -> tuple[Tensor, Tensor]:
    """K steps, each stored."""
    ladj = x.new_zeros(x.shape[3])
    for step in _steps(matrices, shifts, flat):
        x, step_ladj = _apply(_Stored, x, step.matrix, step.shift, *step.network)
        ladj = ladj + step_ladj
    return x, ladj


def _inverted(x: Tensor, matrices: Tensor, shifts: Tensor, flat: list[Tensor]) -> tuple[Tensor, Tensor]:
    """K steps, none stored."""
    return _apply(_Inverted, x, matrices, shifts, *flat)


def _apply(function: type[torch.autograd.Function], *inputs: Tensor) -> tuple[Tensor, Tensor]:
    return cast(tuple[Tensor, Tensor], function.apply(*inputs))  # type: ignore[no-untyped-call]
