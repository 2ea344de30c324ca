"""A coupling's network as matrix products over (C, H, W, B), forwards and backwards.

A 3x3 convolution of few inputs is one product with the gathered neighbourhoods; one of few outputs is nine products at
each position, spread to its neighbours. Both touch the few channels only, so the hidden layers, where the work is, run
at the speed of the machine's matrix products, and nothing is multiplied that a convolution would not ask for. A bias is
one more column of its matrix, which meets a row of ones.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

BLOCK = 2048
"""Positions whose hidden values are computed at a time: at width 64 half a megabyte a layer, which a cache holds."""


class Network(NamedTuple):
    """The three convolutions of a coupling as matrices, biases in the last column.

    (width, 9 C/2 + 1), (width, width + 1) and (9 C, width + 1), where the last one's biases stand at the centre tap.
    """

    first: Tensor
    second: Tensor
    last: Tensor

    @classmethod
    def of(cls, weights: tuple[Tensor, ...]) -> Network:
        """From `Coupling.weights`."""
        w1, b1, w2, b2, w3, b3 = weights
        # A product at one position goes to its nine neighbours, and the tap that looks up belongs to the one below.
        taps = w3.flip(2, 3).permute(2, 3, 0, 1).flatten(0, 2)
        centred = functional.pad(b3, (4 * len(b3), 4 * len(b3)))
        pairs = ((w1.permute(0, 2, 3, 1).flatten(1), b1), (w2.flatten(1), b2), (taps, centred))
        return cls(*(torch.cat((matrix, bias[:, None]), dim=1) for matrix, bias in pairs))

    def forward(self, kept: Tensor, room: Room, hidden: Hidden) -> Tensor:
        """Kept half (C/2, H, W, B) to shift and raw log s (C, H, W, B), which stay in `room` until the next call."""
        patches, products = room.kept.gather(kept), room.products.rows
        for some, h1, h2 in hidden.blocks(patches.shape[1]):
            torch.mm(self.first, patches[:, some], out=h1[:-1]).relu_()
            torch.mm(self.second, h1, out=h2[:-1]).relu_()
            _multiply(self.last, h2, out=products[:, some])
        return room.products.spread()

    def backward(self, grad: Tensor, room: BackwardRoom, hidden: Hidden) -> tuple[Tensor, Network]:
        """Gradients for the kept half and for the matrices, after `forward` with the same room and hidden values."""
        g, patches, grad_patches = room.grad.gather(grad), room.kept.rows, room.grad_kept.rows
        first, second, last = (matrix[:, :-1].T for matrix in self)
        sums = Network(*(torch.zeros_like(matrix) for matrix in self))
        for some, h1, h2 in hidden.blocks(g.shape[1]):
            g2 = _through_relu(last @ g[:, some], h2[:-1])  # (width, positions)
            g1 = _through_relu(second @ g2, h1[:-1])
            _multiply(first, g1, out=grad_patches[:, some])
            sums.first.addmm_(g1, patches[:, some].T)
            sums.second.addmm_(g2, h1.T)
            sums.last.addmm_(g[:, some], h2.T)
        return room.grad_kept.spread(), sums


class Hidden(NamedTuple):
    """Room for both hidden layers, (blocks, width + 1, positions), the last row ones; one block serves all in turn."""

    first: Tensor
    second: Tensor

    @classmethod
    def new(cls, positions: int, network: Network, stored: bool) -> Hidden:
        """Room for a network's hidden values at so many positions: for all of them if stored, or else for a block."""
        weight = network.second
        block = min(positions, BLOCK) if weight.device.type == "cpu" else positions
        shape = (-(-positions // block) if stored else 1, weight.shape[1], block)
        layers = cls(weight.new_empty(shape), weight.new_empty(shape))
        for layer in layers:
            layer[:, -1] = 1
        return layers

    def blocks(self, positions: int) -> Iterator[tuple[slice, Tensor, Tensor]]:
        """Which positions, and where their hidden values stand."""
        count, _, block = self.first.shape
        for i, start in enumerate(range(0, positions, block)):
            place, length = min(i, count - 1), min(block, positions - start)
            yield slice(start, start + length), self.first[place, :, :length], self.second[place, :, :length]


class Gathered:
    """Room for the 3x3 neighbourhoods of (C, H, W, B), zero outside the image, as rows (9 C + ones, H W B).

    Row (3 r + c) C + i holds channel i of the neighbour r - 1 below and c - 1 to the right.
    """

    def __init__(self, shape: tuple[int, ...], like: Tensor, ones: int = 0) -> None:
        c, h, w, b = shape
        padded = like.new_zeros(c, h + 2, w + 2, b)
        channel, row, column, image = padded.stride()
        self.rows = like.new_ones(9 * c + ones, h * w * b)
        self._inside = padded[:, 1:-1, 1:-1]
        self._windows = padded.as_strided((3, 3, c, h, w, b), (row, column, channel, row, column, image))
        self._places = self.rows[: 9 * c].view(3, 3, c, h, w, b)

    def gather(self, x: Tensor) -> Tensor:
        """Fill the rows, which keep their place."""
        self._inside.copy_(x)
        self._places.copy_(self._windows)
        return self.rows


class Spread:
    """Room for nine products at each position, rows (9 C, H W B) as in `Gathered`, that are added to its neighbours."""

    def __init__(self, shape: tuple[int, ...], like: Tensor) -> None:
        c, h, w, b = shape
        self.rows = like.new_empty(9 * c, h * w * b)
        taps = self.rows.view(3, 3, c, h, w, b)
        left, columns, right = taps.unbind(1)  # each (3, C, H, W, B)
        above, self._sum, below = columns.unbind(0)  # each (C, H, W, B)
        self._additions = (  # columns first, so that rows are two additions and not six
            (columns[..., :-1, :], left[..., 1:, :]),
            (columns[..., 1:, :], right[..., :-1, :]),
            (self._sum[:, :-1], above[:, 1:]),
            (self._sum[:, 1:], below[:, :-1]),
        )

    def spread(self) -> Tensor:
        """The adjoint of `gather`, (C, H, W, B). The rows are used up; the sum stands among them."""
        for total, part in self._additions:
            total.add_(part)
        return self._sum


class Room:
    """Where a coupling's network computes, for a state (C, H, W, B): made once, used by one step after another."""

    def __init__(self, state: Tensor, network: Network) -> None:
        c, *rest = state.shape
        self.kept = Gathered((c // 2, *rest), network.first, ones=1)
        self.products = Spread((c, *rest), state)


class BackwardRoom(Room):
    """The same with room for gradients."""

    def __init__(self, state: Tensor, network: Network) -> None:
        super().__init__(state, network)
        c, *rest = state.shape
        self.grad = Gathered((c, *rest), network.first)
        self.grad_kept = Spread((c // 2, *rest), state)


def _multiply(a: Tensor, b: Tensor, out: Tensor) -> None:
    """A product into its place, which may be of another type."""
    if out.dtype == a.dtype:
        torch.mm(a, b, out=out)
    else:
        out.copy_(a @ b)


def _through_relu(grad: Tensor, activation: Tensor) -> Tensor:
    """The gradient before a ReLU, in place: 0 where the ReLU gave 0."""
    masked: Tensor = torch.ops.aten.threshold_backward.grad_input(grad, activation, 0, grad_input=grad)
    return masked
