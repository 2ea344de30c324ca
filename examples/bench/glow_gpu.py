"""The flow on a GPU at 128 px, beside normflows there: encoding, a training step in both modes, and a step's memory.

Float32 on both sides, TF32 as torch has it by default (off in matrix products, on in cuDNN's convolutions). A hospital
encodes on its processor; these figures are for those who train an encoder.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable

import torch

from examples.bench.glow_peer import our_glow, their_glow, training_steps
from examples.bench.rows import Row, row, seconds
from ldp_client.errors import ConfigurationError
from ldp_client.flow.glow import Shape

ROUNDS = 9
CASE = Shape(128, levels=5, steps=8, width=64)
BATCH = 64


def rows() -> list[Row]:
    """Every figure of this suite.

    Raises:
        ConfigurationError: there is no GPU.
    """
    if not torch.cuda.is_available():
        raise ConfigurationError("asked for figures on a GPU, torch finds none; run the suite glow instead")
    images = torch.rand(BATCH, 1, CASE.size, CASE.size, generator=torch.Generator().manual_seed(1))
    flow, theirs = our_glow(CASE, images).cuda(), their_glow(CASE).cuda()
    images = images.cuda()
    steps = training_steps(flow, theirs, images)

    with torch.inference_mode():
        encoded, peer_encoded = _alternate(
            lambda: flow.encode(images), lambda: theirs.inverse_and_log_det(images - 0.5)
        )
    fast, frugal, peer = _alternate(*steps.values())
    memory = [_added(work) / 1e6 for work in (steps["frugal"], steps["theirs"])]
    return [
        row("encode on GPU", CASE.size, "images/s", BATCH / encoded, BATCH / peer_encoded, 1.0),
        row("train fast on GPU", CASE.size, "images/s", BATCH / fast, BATCH / peer, 1.0),
        row("train frugal on GPU", CASE.size, "images/s", BATCH / frugal, BATCH / peer, 1.0),
        row("frugal memory on GPU", CASE.size, "MB", memory[0], memory[1], 6.0, "lower"),
    ]


def _alternate(*works: Callable[[], object]) -> list[float]:
    """Median seconds of each, in turns, after two rounds to warm up; the GPU has finished when a clock is read."""

    def finished(work: Callable[[], object]) -> Callable[[], None]:
        def whole() -> None:
            work()
            torch.cuda.synchronize()

        return whole

    for _ in range(2):
        for work in works:
            finished(work)()
    rounds = [[seconds(finished(work)) for work in works] for _ in range(ROUNDS)]
    return [statistics.median(one) for one in zip(*rounds, strict=True)]


def _added(work: Callable[[], object]) -> int:
    """Bytes that a step holds at its peak, beyond what stays: weights, and gradients of the step before."""
    work()
    torch.cuda.synchronize()
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    work()
    torch.cuda.synchronize()
    return torch.cuda.max_memory_allocated() - before
