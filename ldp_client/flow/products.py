"""A coupling's network as matrix products over (C, H, W, B), forwards and backwards.

A 3x3 convolution of few inputs is one product with the gathered neighbourhoods; one of few outputs is nine products at
each position, spread to its neighbours. Both touch the few channels only, so the hidden layers, where the work is, run
at the speed of the machine's matrix products, and nothing is multiplied that a convolution would not ask for.

Hidden values are rows (positions, width): products with so short a row as the longer side of the matrix are the
fastest that the library has (docs/decisions/0022-where-encoding-spends-its-time.md).
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

BLOCK = 1024
"""Positions whose hidden values are computed at a time: at width 64 a quarter megabyte a layer, which a cache holds."""


class Network(NamedTuple):
    """The three convolutions of a coupling as matrices.

    first (width, 9 C/2 + 1) with the bias in its last column, which meets a row of ones; second (width, width) and its
    bias (width,); last (9 C, width) and its bias (C,), which is added to the sum.
    """

    first: Tensor
    second: Tensor
    second_bias: Tensor
    last: Tensor
    last_bias: Tensor

    @classmethod
    def of(cls, weights: tuple[Tensor, ...]) -> Network:
        """From `Coupling.weights`."""
        w1, b1, w2, b2, w3, b3 = weights
        first = torch.cat((w1.permute(0, 2, 3, 1).flatten(1), b1[:, None]), dim=1)
        # A product at one position goes to its nine neighbours, and the tap that looks up belongs to the one below.
        return cls(first, w2.flatten(1), b2, w3.flip(2, 3).permute(2, 3, 0, 1).flatten(0, 2), b3)

    def to(self, dtype: torch.dtype) -> Network:
        """What the hidden layers compute with, in another type; the last bias, which the state meets, keeps its own."""
        return Network(*(matrix.to(dtype) for matrix in self[:-1]), self.last_bias)

    def forward(self, kept: Tensor, room: Room, hidden: Hidden) -> Tensor:
        """Kept half (C/2, H, W, B) to shift and raw log s (C, H, W, B), which stay in `room` until the next call."""
        room.kept.gather(kept)
        first, second = self.first.T, self.second.T
        for (patches, products), (h1, h2) in zip(room.blocks, hidden.blocks, strict=True):
            torch.mm(patches, first, out=h1).relu_()
            torch.addmm(self.second_bias, h1, second, out=h2).relu_()
            _multiply(self.last, h2.T, out=products)
        return room.products.spread().add_(self.last_bias[:, None, None, None])

    def backward(self, grad: Tensor, room: BackwardRoom, hidden: Hidden) -> tuple[Tensor, Network]:
        """Gradients for the kept half and for the matrices, after `forward` with the same room and hidden values."""
        room.grad.gather(grad)
        first = self.first[:, :-1].T
        sums = Network(*(torch.zeros_like(matrix) for matrix in self[:-1]), grad.sum((1, 2, 3)))
        for (patches, _), (g, grad_patches), (h1, h2) in zip(room.blocks, room.back, hidden.blocks, strict=True):
            g2 = _through_relu(torch.mm(g.T, self.last, out=room.grad_second[: len(h2)]), h2)  # (positions, width)
            g1 = _through_relu(torch.mm(g2, self.second, out=room.grad_first[: len(h1)]), h1)
            _multiply(first, g1.T, out=grad_patches)
            sums.first.addmm_(g1.T, patches)
            sums.second.addmm_(g2.T, h1)
            sums.second_bias.add_(g2.sum(0))
            sums.last.addmm_(g, h2)
        return room.grad_kept.spread(), sums


class Hidden:
    """Both hidden layers, (positions, width) each, and their blocks in order."""

    def __init__(self, first: Tensor, second: Tensor, positions: int) -> None:
        """Values of all `positions`, or room for one block, which then serves all blocks in turn."""
        self.first, self.second = first, second
        stored = len(first) >= positions
        self.blocks = [
            (first[place], second[place])
            for some in _blocks(positions, first.device)
            for place in (some if stored else slice(some.stop - some.start),)
        ]

    @classmethod
    def new(cls, positions: int, network: Network, stored: bool) -> Hidden:
        """Room for a network's hidden values at so many positions: for all of them if stored, or else for a block."""
        weight = network.second
        rows = positions if stored else _blocks(positions, weight.device)[0].stop
        return cls(weight.new_empty(rows, len(weight)), weight.new_empty(rows, len(weight)), positions)


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
    """Where a coupling's network computes, for a state (C, H, W, B): made once, used by one step after another.

    blocks: for each block of positions its patches (positions, 9 C/2 + 1) and its products (9 C, positions).
    """

    def __init__(self, state: Tensor, network: Network) -> None:
        c, *rest = state.shape
        self.kept = Gathered((c // 2, *rest), network.first, ones=1)
        self.products = Spread((c, *rest), state)
        self.places = _blocks(state[0].numel(), state.device)
        self.blocks = [(self.kept.rows[:, some].T, self.products.rows[:, some]) for some in self.places]


class BackwardRoom(Room):
    """The same with room for gradients.

    back: for each block the gathered gradients (9 C, positions) and those for its patches (9 C/2, positions).
    """

    def __init__(self, state: Tensor, network: Network) -> None:
        super().__init__(state, network)
        c, *rest = state.shape
        self.grad = Gathered((c, *rest), network.first)
        self.grad_kept = Spread((c // 2, *rest), state)
        self.back = [(self.grad.rows[:, some], self.grad_kept.rows[:, some]) for some in self.places]
        shape = (self.places[0].stop, len(network.second))
        self.grad_first, self.grad_second = network.second.new_empty(shape), network.second.new_empty(shape)


def _blocks(positions: int, device: torch.device) -> list[slice]:
    """Positions block by block; all at once where the device is no CPU."""
    block = BLOCK if device.type == "cpu" else positions
    return [slice(start, min(start + block, positions)) for start in range(0, positions, block)]


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
