"""A coupling's network as matrix products over (C, H, W, B), forwards and backwards.

A 3x3 convolution of few inputs is one product with the gathered neighbourhoods; one of few outputs is nine products at
each position, spread to its neighbours. Both touch the few channels only, so the hidden layers, where the work is, run
at the speed of the machine's matrix products, and nothing is multiplied that a convolution would not ask for.

Hidden values are rows (positions, width), and no bias is added to them: relu(a + b) = max(a, -b) + b, so b moves into
the next layer's bias, and the last one's reaches the output as a constant of each position (fewer neighbours at the
border). A layer is then its product and one more pass over its values instead of two
(docs/decisions/0011-matrix-products-not-private-operators.md).

Functions of this module and of `flow.steps` also run as TorchScript, which knows tuples of tensors and functions, and
reads the annotations as they stand: hence no classes with state, and no postponed annotations.
"""

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


class Folded(NamedTuple):
    """A network whose biases are floors of its hidden layers and an offset (C, H, W, 1) of what it returns."""

    first: Tensor
    first_floor: Tensor
    second: Tensor
    second_floor: Tensor
    last: Tensor
    offset: Tensor


def as_products(weights: tuple[Tensor, ...]) -> Network:
    """A coupling's network from `Coupling.weights`."""
    w1, b1, w2, b2, w3, b3 = weights
    # A product at one position goes to its nine neighbours, and the tap that looks up belongs to the one below.
    taps = w3.flip(2, 3).permute(2, 3, 0, 1).flatten(0, 2)
    return Network(w1.permute(2, 3, 1, 0).flatten(0, 2), b1, w2.flatten(1), b2, taps, b3)


def stacked(networks: list[Network]) -> Network:
    """K networks as one."""
    return Network(*map(torch.stack, zip(*networks, strict=True)))


def fold(network: Network, side: int, hidden: torch.dtype) -> list[Folded]:
    """What K stacked networks compute with, on images of `side` positions a side, hidden layers in that type."""
    bias = network.second_bias + (network.second @ network.first_bias[..., None])[..., 0]  # (K, width)
    products = network.last @ bias[..., None]  # (K, 9 C, 1)
    count, channels = network.last_bias.shape
    reached = new_spread((count * channels, side, side, 1), products)
    taps = products.view(count, 9, channels).transpose(0, 1).reshape(-1, 1)
    reached.rows.copy_(taps.expand_as(reached.rows))
    offset = spread(reached).view(count, channels, side, side, 1) + network.last_bias[..., None, None, None]
    floors = (network.first, -network.first_bias, network.second, -bias, network.last)
    return [Folded(*parts) for parts in zip(*(tensor.to(hidden) for tensor in floors), offset, strict=True)]


class Gathered(NamedTuple):
    """Room for the 3x3 neighbourhoods of (C, H, W, B), zero outside the image, as rows (9 C, H W B).

    Row (3 r + c) C + i holds channel i of the neighbour r - 1 below and c - 1 to the right.
    """

    rows: Tensor
    inside: Tensor
    windows: Tensor
    places: Tensor


def new_gathered(shape: tuple[int, ...], like: Tensor) -> Gathered:
    """Room for values of that shape, in the type and on the device of `like`."""
    c, h, w, b = shape
    padded = like.new_zeros(c, h + 2, w + 2, b)
    channel, row, column, image = padded.stride()
    rows = like.new_empty(9 * c, h * w * b)
    windows = padded.as_strided((3, 3, c, h, w, b), (row, column, channel, row, column, image))
    return Gathered(rows, padded[:, 1:-1, 1:-1], windows, rows.view(3, 3, c, h, w, b))


def gather(room: Gathered, x: Tensor) -> Tensor:
    """Fill the rows, which keep their place."""
    room.inside.copy_(x)
    room.places.copy_(room.windows)
    return room.rows


class Spread(NamedTuple):
    """Room for nine products at each position, rows (9 C, H W B) as in `Gathered`, that are added to its neighbours.

    The sum (C, H, W, B) stands among them; `additions` are places and what is added to them, in order.
    """

    rows: Tensor
    sum: Tensor
    additions: list[tuple[Tensor, Tensor]]


def new_spread(shape: tuple[int, ...], like: Tensor) -> Spread:
    """Room for sums of that shape."""
    c, h, w, b = shape
    rows = like.new_empty(9 * c, h * w * b)
    left, columns, right = rows.view(3, 3, c, h, w, b).unbind(1)  # each (3, C, H, W, B)
    above, total, below = columns.unbind(0)  # each (C, H, W, B)
    additions = [  # columns first, so that rows are two additions and not six
        (columns[..., :-1, :], left[..., 1:, :]),
        (columns[..., 1:, :], right[..., :-1, :]),
        (total[:, :-1], above[:, 1:]),
        (total[:, 1:], below[:, :-1]),
    ]
    return Spread(rows, total, additions)


def spread(room: Spread) -> Tensor:
    """The adjoint of `gather`, (C, H, W, B). The rows are used up."""
    for total, part in room.additions:
        total.add_(part)
    return room.sum


class Hidden(NamedTuple):
    """Both hidden layers, (positions, width) each; their blocks in order, the second layer's as columns as well."""

    first: Tensor
    second: Tensor
    blocks: list[tuple[Tensor, Tensor, Tensor]]


def hidden_in(first: Tensor, second: Tensor, places: list[tuple[int, int]]) -> Hidden:
    """Values of all positions, or room for one block, which then serves all blocks in turn."""
    stored = first.shape[0] >= places[-1][1]
    blocks: list[tuple[Tensor, Tensor, Tensor]] = []
    for start, stop in places:
        begin = start if stored else 0
        end = stop if stored else stop - start
        block = second[begin:end]
        blocks.append((first[begin:end], block, block.t()))
    return Hidden(first, second, blocks)


def new_hidden(network: Folded, places: list[tuple[int, int]], stored: bool) -> Hidden:
    """Room for a network's hidden values: of all positions if stored, or else of a block."""
    rows = places[-1][1] if stored else places[0][1]
    width = network.second.shape[0]
    first, second = network.second.new_empty([rows, width]), network.second.new_empty([rows, width])
    return hidden_in(first, second, places)


class Room(NamedTuple):
    """Where a coupling's network computes, for a state (C, H, W, B): made once, used by one step after another.

    places: where each block of positions starts and stops.
    blocks: for each its patches (positions, 9 C/2) and its products (9 C, positions).
    shift, raw: the network's output, (C/2, H, W, B) each; raw is log s before it is bounded.
    """

    kept: Gathered
    products: Spread
    places: list[tuple[int, int]]
    blocks: list[tuple[Tensor, Tensor]]
    shift: Tensor
    raw: Tensor


def new_room(state: Tensor, network: Folded) -> Room:
    """Room for states of this shape."""
    c, h, w, b = state.shape
    kept, products = new_gathered((c // 2, h, w, b), network.first), new_spread((c, h, w, b), state)
    places = _blocks(h * w * b, network.second)
    blocks = [(kept.rows[:, start:stop].T, products.rows[:, start:stop]) for start, stop in places]
    return Room(kept, products, places, blocks, *products.sum.chunk(2))


class BackwardRoom(NamedTuple):
    """Where its gradients are computed.

    blocks: for each block the gathered gradients (9 C, positions) and those for its patches (9 C/2, positions).
    layers: for each, both ReLUs and the gradients before them, (positions, width) each.
    parameters: (C, H, W, B), the gradient for the network's output, and its halves.
    sums: the gradients for the network, in the type of its hidden layers.
    """

    grad: Gathered
    grad_kept: Spread
    blocks: list[tuple[Tensor, Tensor]]
    layers: list[tuple[Tensor, Tensor, Tensor, Tensor]]
    parameters: Tensor
    halves: tuple[Tensor, Tensor]
    sums: Network


def new_backward_room(state: Tensor, network: Folded) -> BackwardRoom:
    """Room for gradients of states of this shape."""
    c, h, w, b = state.shape
    grad, grad_kept = new_gathered((c, h, w, b), network.first), new_spread((c // 2, h, w, b), state)
    places = _blocks(h * w * b, network.second)
    blocks = [(grad.rows[:, start:stop], grad_kept.rows[:, start:stop]) for start, stop in places]
    whole = network.second.new_empty(4, places[0][1], len(network.second))
    relu1, relu2, grad1, grad2 = whole
    ends = [stop - start for start, stop in places]
    layers = [(relu1[:end], relu2[:end], grad1[:end], grad2[:end]) for end in ends]
    parameters = torch.empty_like(state)
    shift, raw = parameters.chunk(2)
    weights = (network.first, network.first_floor, network.second, network.second_floor, network.last)
    sums = Network._make([*map(torch.empty_like, weights), state.new_empty(c)])
    return BackwardRoom(grad, grad_kept, blocks, layers, parameters, (shift, raw), sums)


def forward(network: Folded, kept: Tensor, room: Room, hidden: Hidden) -> None:
    """Kept half (C/2, H, W, B) to `room.shift` and `room.raw`, which stay there until the next call.

    `hidden` then holds each layer's max(a, -b), which is b less than its ReLU.
    """
    gather(room.kept, kept)
    second = network.second.t()
    for block in range(len(room.blocks)):
        patches, products = room.blocks[block]
        h1, h2, columns = hidden.blocks[block]
        torch.mm(patches, network.first, out=h1).clamp_min_(network.first_floor)
        torch.mm(h1, second, out=h2).clamp_min_(network.second_floor)
        _multiply(network.last, columns, products)
    spread(room.products).add_(network.offset)


def backward(network: Folded, room: Room, back: BackwardRoom, hidden: Hidden) -> Tensor:
    """From `back.parameters` to the gradient for the kept half (C/2, H, W, B), and those for the network, `back.sums`.

    Room and hidden values are those of its `forward`.
    """
    gather(back.grad, back.parameters)
    sums = back.sums
    torch.sum(back.parameters, [1, 2, 3], out=sums.last_bias)
    for total in [sums.first, sums.first_bias, sums.second, sums.second_bias, sums.last]:
        total.zero_()
    for block in range(len(room.blocks)):
        patches, _ = room.blocks[block]
        grad, grad_patches = back.blocks[block]
        h1, h2, _columns = hidden.blocks[block]
        relu1, relu2, g1, g2 = back.layers[block]
        torch.sub(h2, network.second_floor, out=relu2)
        _through_relu(torch.mm(grad.t(), network.last, out=g2), relu2)
        torch.sub(h1, network.first_floor, out=relu1)
        _through_relu(torch.mm(g2, network.second, out=g1), relu1)
        _multiply(network.first, g1.t(), grad_patches)
        sums.first.addmm_(patches.t(), g1)
        sums.first_bias.add_(g1.sum(0))
        sums.second.addmm_(g2.t(), relu1)
        sums.second_bias.add_(g2.sum(0))
        sums.last.addmm_(grad, relu2)
    return spread(back.grad_kept)


def _blocks(positions: int, like: Tensor) -> list[tuple[int, int]]:
    """Positions block by block, for hidden values (..., width) like these; all at once where the device is no CPU."""
    block = max(1, BLOCK_VALUES // like.shape[-1]) if like.device.type == "cpu" else positions
    return [(start, min(start + block, positions)) for start in range(0, positions, block)]


def _multiply(a: Tensor, b: Tensor, out: Tensor) -> None:
    """A product into its place, which may be of another type."""
    if out.dtype == a.dtype:
        torch.mm(a, b, out=out)
    else:
        out.copy_(torch.mm(a, b))


def _through_relu(grad: Tensor, activation: Tensor) -> None:
    """The gradient before a ReLU, in place: 0 where the ReLU gave 0."""
    torch.ops.aten.threshold_backward(grad, activation, 0, grad_input=grad)
