"""Memory that one training step adds, in a process of its own: `python -m examples.bench.glow_memory SIDE STEPS`.

A step on one image first, which allocates gradients and whatever the libraries keep; then the peak is reset and the
step measured. Prints bytes.
"""

from __future__ import annotations

import ctypes
import gc
import re
import subprocess
import sys
from pathlib import Path

import torch

from examples.bench.glow_peer import our_glow, their_glow
from ldp_client.flow.glow import Shape
from ldp_client.flow.training import Mode, log_prob

BATCH, SIZE, LEVELS, WIDTH = 64, 64, 3, 64


def added(side: str, steps: int) -> int:
    """Bytes that a step of `ours` (frugal), `fast` or `theirs` with K = `steps` adds, measured in a fresh process."""
    command = [sys.executable, "-m", "examples.bench.glow_memory", side, str(steps)]
    return int(subprocess.run(command, capture_output=True, text=True, check=True).stdout)


def _kibibytes(field: str) -> int:
    found = re.search(rf"^{field}:\s*(\d+) kB", Path("/proc/self/status").read_text(), re.MULTILINE)
    return int(found.group(1)) if found else 0


def _measure(side: str, steps: int) -> int:
    torch.set_num_threads(2)
    shape = Shape(SIZE, LEVELS, steps, WIDTH)
    images = torch.rand(BATCH, 1, SIZE, SIZE, generator=torch.Generator().manual_seed(1))
    if side == "theirs":
        theirs = their_glow(shape)
        loss = theirs.forward_kld
        with torch.no_grad():
            loss(images[:8])
    else:
        flow, mode = our_glow(shape, images[:8]), Mode.FAST if side == "fast" else Mode.FRUGAL

        def loss(x: torch.Tensor) -> torch.Tensor:
            return -log_prob(flow, x, mode).mean()

    torch.autograd.backward(loss(images[:1]))
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)
    before = _kibibytes("VmRSS")
    Path("/proc/self/clear_refs").write_text("5")  # the peak begins anew
    torch.autograd.backward(loss(images))
    return 1024 * (_kibibytes("VmHWM") - before)


if __name__ == "__main__":
    print(_measure(sys.argv[1], int(sys.argv[2])))
