"""A coupling's network as matrix products over (C, H, W, B), forwards and backwards.

A 3x3 convolution of few inputs is one product with the gathered neighbourhoods; one of few outputs is nine products at
each position, spread to its neighbours. Both touch the few channels only, so the hidden layers, where the work is, run
at the speed of the machine's matrix products, and nothing is multiplied that a convolution would not ask for.

Hidden values are rows (positions, width), and no bias is added to them: relu(a + b) = max(a, -b) + b, so b moves into
the next layer's bias, and the last one's reaches the output as a constant of each position (fewer neighbours at the
border). A layer is then its product and one more pass over its values instead of two
(docs/decisions/0011-matrix-products-not-private-operators.md).
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

BLOCK_VALUES = 131_072
"""Hidden values that are computed at a time: half a megabyte a layer, which a cache holds."""


class Network(NamedTuple):
    """The three convolutions of a coupling as matrices, or of K couplings, then with one more dimension in front.

    first (9 C/2, width), second (width, width), last (9 C, width), and their biases (width,), (width,), (C,).
    """

    first: Tensor
    first_bias: Tensor
    second: Tensor
    second_bias: Tensor
    last: Tensor
    last_bias: Tensor

    @classmethod
    def of(cls, weights: tuple[Tensor, ...]) -> Network:
        """From `Coupling.weights`."""
        w1, b1, w2, b2, w3, b3 = weights
        # A product at one position goes to its nine neighbours, and the tap that looks up belongs to the one below.
        taps = w3.flip(2, 3).permute(2, 3, 0, 1).flatten(0, 2)
        return cls(w1.permute(2, 3, 1, 0).flatten(0, 2), b1, w2.flatten(1), b2, taps, b3)

    @classmethod
    def stack(cls, networks: list[Network]) -> Network:
        """K networks as one."""
        return cls(*map(torch.stack, zip(*networks, strict=True)))

    def folded(self, side: int, hidden: torch.dtype) -> list[Folded]:
        """What K stacked networks compute with, on images of `side` positions a side, hidden layers in that type."""
        bias = self.second_bias + (self.second @ self.first_bias[..., None])[..., 0]  # (K, width)
        products = self.last @ bias[..., None]  # (K, 9 C, 1)
        count, channels = self.last_bias.shape
        reached = Spread((count * channels, side, side, 1), products)
        taps = products.view(count, 9, channels).transpose(0, 1).reshape(-1, 1)
        reached.rows.copy_(taps.expand_as(reached.rows))
        offset = reached.spread().view(count, channels, side, side, 1) + self.last_bias[..., None, None, None]
        floors = (self.first, -self.first_bias, self.second, -bias, self.last)
        return [Folded(*parts) for parts in zip(*(tensor.to(hidden) for tensor in floors), offset, strict=True)]


class Folded(NamedTuple):
    """A network whose biases are floors of its hidden layers and an offset (C, H, W, 1) of what it returns."""

    first: Tensor
    first_floor: Tensor
    second: Tensor
    second_floor: Tensor
    last: Tensor
    offset: Tensor

    def forward(self, kept: Tensor, room: Room, hidden: Hidden) -> None:
        """Kept half (C/2, H, W, B) to `room.shift` and `room.raw`, which stay there until the next call.

        `hidden` then holds each layer's max(a, -b), which is b less than its ReLU.
        """
        room.kept.gather(kept)
        second = self.second.T
        for (patches, products), (h1, h2, columns) in zip(room.blocks, hidden.blocks, strict=True):
            torch.mm(patches, self.first, out=h1).clamp_min_(self.first_floor)
            torch.mm(h1, second, out=h2).clamp_min_(self.second_floor)
            _multiply(self.last, columns, out=products)
        room.products.spread().add_(self.offset)

    def backward(self, grad: Tensor, room: BackwardRoom, hidden: Hidden) -> tuple[Tensor, Network]:
        """Gradients for the kept half and for the network, after `forward` with the same room and hidden values."""
        room.grad.gather(grad)
        weights = (self.first, self.first_floor, self.second, self.second_floor, self.last)
        sums = Network._make([*map(torch.zeros_like, weights), grad.sum((1, 2, 3))])
        for (patches, _), (g, grad_patches), (h1, h2, _) in zip(room.blocks, room.back, hidden.blocks, strict=True):
            relu1, relu2, g1, g2 = (place[: len(h1)] for place in room.layers)  # each (positions, width)
            torch.sub(h2, self.second_floor, out=relu2)
            _through_relu(torch.mm(g.T, self.last, out=g2), relu2)
            torch.sub(h1, self.first_floor, out=relu1)
            _through_relu(torch.mm(g2, self.second, out=g1), relu1)
            _multiply(self.first, g1.T, out=grad_patches)
            sums.first.addmm_(patches.T, g1)
            sums.first_bias.add_(g1.sum(0))
            sums.second.addmm_(g2.T, relu1)
            sums.second_bias.add_(g2.sum(0))
            sums.last.addmm_(g, relu2)
        return room.grad_kept.spread(), sums


class Hidden:
    """Both hidden layers, (positions, width) each, and their blocks in order: first, second, and this one's columns."""

    def __init__(self, first: Tensor, second: Tensor, positions: int) -> None:
        """Values of all `positions`, or room for one block, which then serves all blocks in turn."""
        self.first, self.second = first, second
        stored = len(first) >= positions
        self.blocks = [
            (first[place], second[place], second[place].T)
            for some in _blocks(positions, first)
            for place in (some if stored else slice(some.stop - some.start),)
        ]

    @classmethod
    def new(cls, positions: int, network: Folded, stored: bool) -> Hidden:
        """Room for a network's hidden values at so many positions: for all of them if stored, or else for a block."""
        weight = network.second
        rows = positions if stored else _blocks(positions, weight)[0].stop
        return cls(weight.new_empty(rows, len(weight)), weight.new_empty(rows, len(weight)), positions)


class Gathered:
    """Room for the 3x3 neighbourhoods of (C, H, W, B), zero outside the image, as rows (9 C, H W B).

    Row (3 r + c) C + i holds channel i of the neighbour r - 1 below and c - 1 to the right.
    """

    def __init__(self, shape: tuple[int, ...], like: Tensor) -> None:
        c, h, w, b = shape
        padded = like.new_zeros(c, h + 2, w + 2, b)
        channel, row, column, image = padded.stride()
        self.rows = like.new_empty(9 * c, h * w * b)
        self._inside = padded[:, 1:-1, 1:-1]
        self._windows = padded.as_strided((3, 3, c, h, w, b), (row, column, channel, row, column, image))
        self._places = self.rows.view(3, 3, c, h, w, b)

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
        above, self.sum, below = columns.unbind(0)  # each (C, H, W, B)
        self._additions = (  # columns first, so that rows are two additions and not six
            (columns[..., :-1, :], left[..., 1:, :]),
            (columns[..., 1:, :], right[..., :-1, :]),
            (self.sum[:, :-1], above[:, 1:]),
            (self.sum[:, 1:], below[:, :-1]),
        )

    def spread(self) -> Tensor:
        """The adjoint of `gather`, (C, H, W, B). The rows are used up; the sum stands among them."""
        for total, part in self._additions:
            total.add_(part)
        return self.sum


class Room:
    """Where a coupling's network computes, for a state (C, H, W, B): made once, used by one step after another.

    Everything that a step looks at is laid out here: while a core makes a view of a tensor, the others wait for the
    interpreter.

    blocks: for each block of positions its patches (positions, 9 C/2) and its products (9 C, positions).
    shift, raw: the network's output, (C/2, H, W, B) each; raw is log s before it is bounded.
    """

    def __init__(self, state: Tensor, network: Folded) -> None:
        c, *rest = state.shape
        self.kept = Gathered((c // 2, *rest), network.first)
        self.products = Spread((c, *rest), state)
        self.shift, self.raw = self.products.sum.chunk(2)
        self.places = _blocks(state[0].numel(), network.second)
        self.blocks = [(self.kept.rows[:, some].T, self.products.rows[:, some]) for some in self.places]


class BackwardRoom(Room):
    """The same with room for gradients.

    back: for each block the gathered gradients (9 C, positions) and those for its patches (9 C/2, positions).
    layers: for a block, both ReLUs and the gradients before them, (4, positions, width).
    """

    def __init__(self, state: Tensor, network: Folded) -> None:
        super().__init__(state, network)
        c, *rest = state.shape
        self.grad = Gathered((c, *rest), network.first)
        self.grad_kept = Spread((c // 2, *rest), state)
        self.back = [(self.grad.rows[:, some], self.grad_kept.rows[:, some]) for some in self.places]
        self.layers = network.second.new_empty(4, self.places[0].stop, len(network.second))


def _blocks(positions: int, like: Tensor) -> list[slice]:
    """Positions block by block, for hidden values (..., width) like these; all at once where the device is no CPU."""
    block = max(1, BLOCK_VALUES // like.shape[-1]) if like.device.type == "cpu" else positions
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
