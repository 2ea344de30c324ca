"""The flow's figures: encoding and training beside normflows and the machine's own matrix products.

Both sides alternate in one process on the same batch with two threads, and the C library keeps the pages that either
side frees: faulting them in again can slow a flow of many large temporaries to half, which is no merit of the other.
Before each turn the process sleeps for a moment: the threads of the turn before keep a core busy for some milliseconds
while they wait for more work (OpenMP), which would be counted against whoever comes next.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable

import torch

from examples.bench.glow_memory import added
from examples.bench.glow_peer import our_glow, their_glow, training_steps, useful_operations
from examples.bench.rows import Row, row, seconds
from ldp_client.flow.glow import Shape
from ldp_client.flow.inference import FrozenGlow
from server.learning.allocator import keep_freed_pages

ROUNDS = 15
SETTLED = 0.03
"""Seconds after which OpenMP's threads sleep."""
MATRIX = 2048
ENCODED = (
    (Shape(32, levels=3, steps=8, width=64), 64, 1.8, 0.55),
    (Shape(64, levels=4, steps=16, width=128), 8, 2.0, 0.70),
    (Shape(128, levels=5, steps=8, width=64), 8, 2.0, 0.60),
)
TRAINED = ((Shape(32, levels=3, steps=8, width=64), 64), (Shape(64, levels=4, steps=8, width=64), 16))


def encode(shape: Shape, batch: int, target: float, share: float) -> list[Row]:
    """Images to latents and log-determinant: images a second, and the share of the matmul rate that is useful work."""
    images = torch.rand(batch, 1, shape.size, shape.size, generator=torch.Generator().manual_seed(1))
    frozen, theirs = FrozenGlow(our_glow(shape, images)), their_glow(shape)
    matrix = torch.rand(MATRIX, MATRIX)
    with torch.inference_mode():
        ours, peer, product = _alternate(
            lambda: frozen.encode(images),
            lambda: theirs.inverse_and_log_det(images - 0.5),
            lambda: matrix @ matrix,
        )
    useful = useful_operations(shape) * batch / ours / 1e9
    return [
        row("encode", shape.size, "images/s", batch / ours, batch / peer, target),
        row("encode share of matmul", shape.size, "GFLOP/s", useful, 2 * MATRIX**3 / product / 1e9, share),
    ]


def train(shape: Shape, batch: int) -> list[Row]:
    """Forward and backward of the likelihood, in both modes."""
    images = torch.rand(batch, 1, shape.size, shape.size, generator=torch.Generator().manual_seed(1))
    flow, theirs = our_glow(shape, images), their_glow(shape)
    fast, frugal, peer = _alternate(*training_steps(flow, theirs, images).values())
    return [
        row("train fast", shape.size, "images/s", batch / fast, batch / peer, 1.3),
        row("train frugal", shape.size, "images/s", batch / frugal, batch / peer, 1.0),
    ]


def memory() -> list[Row]:
    """What a frugal step adds: against normflows at K = 8, and at K = 32 against K = 8."""
    frugal, deep, theirs = (added(side, steps) / 1e6 for side, steps in (("ours", 8), ("ours", 32), ("theirs", 8)))
    return [
        row("frugal memory", "K=8", "MB", frugal, theirs, 6.0, "lower"),
        row("frugal memory in K", "K=32", "MB", deep, frugal, 0.83, "lower"),
    ]


def _alternate(*works: Callable[[], object]) -> list[float]:
    """Median seconds of each, taken in turns, after one round to warm up."""
    for work in works:
        work()
    rounds = [[_settled_seconds(work) for work in works] for _ in range(ROUNDS)]
    return [statistics.median(one) for one in zip(*rounds, strict=True)]


def _settled_seconds(work: Callable[[], object]) -> float:
    time.sleep(SETTLED)
    return seconds(work)


def rows() -> list[Row]:
    """Every figure of this suite."""
    keep_freed_pages()
    torch.set_num_threads(2)
    encoded = [one for case in ENCODED for one in encode(*case)]
    trained = [one for case in TRAINED for one in train(*case)]
    by_name = {name: [one for one in encoded if one["name"] == name] for name in ("encode", "encode share of matmul")}
    return [*by_name["encode"], *by_name["encode share of matmul"], *trained, *memory()]
