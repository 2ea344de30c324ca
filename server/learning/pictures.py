"""What a person looks at while an encoder trains: the loss curve, and X-rays that the flow makes up."""

from __future__ import annotations

from pathlib import Path

import matplotlib
import numpy as np
import torch
from matplotlib.figure import Figure
from PIL import Image

from ldp_client.flow.glow import Glow
from server.learning.checkpoint import State

CURVE_FILE, SAMPLES_FILE = "curve.png", "samples.png"
TEMPERATURES = (0.5, 0.7, 0.9)
COLUMNS = 8

matplotlib.use("agg")


def draw_curve(state: State, path: Path) -> None:
    """Bits per dimension by step: of the batches (their median over fifty), and of the held-out images."""
    figure = Figure(figsize=(7, 4), layout="constrained")
    axes = figure.subplots()
    steps, losses = (np.array(column) for column in zip(*state.losses, strict=True))
    count = max(1, len(steps) // 50) if len(steps) < 2500 else 50
    ends = range(count, len(steps) + 1, count)
    axes.plot([steps[i - 1] for i in ends], [np.median(losses[i - count : i]) for i in ends], label="training batches")
    if state.bits:
        axes.plot(*zip(*state.bits, strict=True), marker=".", label="held out, moving average")
        best = min(bits for _, bits in state.bits)
        axes.axhline(best, linewidth=0.8, linestyle=":", color="grey", label=f"best: {best:.3f}")
    axes.set(xlabel="step", ylabel="bits per dimension", ylim=(None, min(8.5, float(losses.max()) + 0.2)))
    axes.legend()
    figure.savefig(path, dpi=120)


def draw_samples(flow: Glow, content: int, seed: int, path: Path) -> None:
    """A row of samples for each temperature, padding cut off, each pixel three times as wide below 64 px."""
    generator = torch.Generator().manual_seed(seed)
    with torch.inference_mode():
        rows = [flow.sample(COLUMNS, temperature, generator) for temperature in TEMPERATURES]
    before = (flow.shape.size - content) // 2
    grid = [row[:, 0, before : before + content, before : before + content].nan_to_num() for row in rows]
    grey = torch.cat([torch.cat(list(row), dim=1) for row in grid]).mul(256).floor().clamp(0, 255).byte().numpy()
    scale = 3 if content < 64 else 2
    Image.fromarray(np.kron(grey, np.ones((scale, scale), np.uint8))).save(path)
