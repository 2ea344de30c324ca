"""A coupling's network as matrix products over (C, H, W, B), forwards and backwards.

A 3x3 convolution of few inputs is one product with the gathered neighbourhoods; one of few outputs is nine products at
each position, spread to its neighbours. Both touch the few channels only, so the hidden layers, where the work is, run
at the speed of the machine's matrix products, and nothing is multiplied that a convolution would not ask for.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from ldp_client.flow.layers import Coupling

BLOCK = 8192
"""Positions at a time where hidden values are not all new."""


class Network(NamedTuple):
    """The three convolutions of a coupling as matrices: (width, 9 C/2), (width, width), (9 C, width), and biases."""

    first: Tensor
    first_bias: Tensor
    second: Tensor
    second_bias: Tensor
    last: Tensor
    last_bias: Tensor

    @classmethod
    def of(cls, coupling: Coupling, dtype: torch.dtype) -> Network:
        w1, b1, w2, b2, w3, b3 = coupling.weights(dtype)
        # A product at one position goes to its nine neighbours, and the tap that looks up belongs to the one below.
        taps = w3.flip(2, 3).permute(0, 2, 3, 1).flatten(0, 2)
        return cls(w1.flatten(1), b1, w2.flatten(1), b2, taps, b3)

    def forward(self, kept: Tensor, hidden: Hidden | None = None) -> tuple[Tensor, Saved]:
        """Kept half (C/2, H, W, B) to shift and raw log s (C, H, W, B), and what `backward` needs.

        With `hidden`, hidden values go there a block of positions at a time; where it holds one block only, they are
        not kept, and `backward` is out of the question. Without, they are new.
        """
        patches = gather(kept.to(self.first.dtype))  # (9 C/2, N)
        count = patches.shape[1]
        # One position a row: N is often a power of two, and columns that far apart share one place in the cache.
        hidden = hidden or Hidden.new(count, self.first, rows=count)
        products = patches.new_empty(len(self.last), count)  # (9 C, N)
        for some, h1, h2 in hidden.blocks(count):
            torch.addmm(self.first_bias, patches[:, some].T, self.first.T, out=h1).relu_()
            torch.addmm(self.second_bias, h1, self.second.T, out=h2).relu_()
            torch.mm(self.last, h2.T, out=products[:, some])
        out = spread(products.to(kept.dtype), kept.shape[1:]).add_(self.last_bias[:, None, None, None])
        return out, Saved(patches, hidden)

    def backward(self, grad: Tensor, saved: Saved) -> tuple[Tensor, Network]:
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
        return grad_kept, Network._make([*sums, grad.sum((1, 2, 3)).to(self.last_bias.dtype)])


class Hidden(NamedTuple):
    """Room for both hidden layers, (positions, width) each, and how many positions are computed at a time."""

    first: Tensor
    second: Tensor
    rows: int

    @classmethod
    def new(cls, positions: int, weight: Tensor, rows: int = BLOCK) -> Hidden:
        """Room for so many positions, of a network with this first weight."""
        width = len(weight)
        return cls(weight.new_empty(positions, width), weight.new_empty(positions, width), rows)

    def blocks(self, count: int) -> Iterator[tuple[slice, Tensor, Tensor]]:
        """Which positions, and where their hidden values stand; all in one place where there is room for one block."""
        for start in range(0, count, self.rows):
            length = min(self.rows, count - start)
            place = slice(start, start + length) if len(self.first) >= count else slice(length)
            yield slice(start, start + length), self.first[place], self.second[place]


class Saved(NamedTuple):
    """What a network's backward needs of its forward."""

    patches: Tensor
    hidden: Hidden


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
