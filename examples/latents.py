"""`python -m examples.latents`: whether a shipped encoder's latents of X-rays it never trained on are standard normal.

Needs LDP_DATA. Takes the held-out public images, dequantised as in training, and compares the latents of each level
with N(0, 1): mean, standard deviation, and the Kolmogorov-Smirnov distance D = max |F(z) - Phi(z)|. The distance is
reported, not a p-value: with a hundred thousand latents, which are not independent, every model of real data would be
rejected; D says by how much of the probability it is off. Writes the picture that docs/encoder.md shows. Prints as well
what these X-rays cost in bits per dimension, by every way to count the padding.
"""

from __future__ import annotations

import argparse
import math
import os
from pathlib import Path

import matplotlib
import numpy as np
import torch
from matplotlib.figure import Figure
from numpy.typing import NDArray
from scipy.stats import kstest, norm
from torch import Tensor

from ldp_client.flow.encoder import BATCH, Encoder, shipped
from ldp_client.flow.glow import dequantise
from server.learning.public_images import read_images
from server.learning.public_subset import public_indices

HELD_OUT = 200
DATA = {"kermany28": ("pneumoniamnist.npz", "", 2000), "kermany64-groups": ("cxr64.npz", "public", 0)}


def held_out(name: str) -> tuple[Encoder, Tensor]:
    """A shipped encoder and its held-out images, prepared: (N, 1, size, size)."""
    file, split, public = DATA[name]
    images = read_images(Path(os.environ["LDP_DATA"]) / file, key="", split=split, side=0)
    chosen = images[public_indices(images, public or len(images))[:HELD_OUT]]
    encoder = Encoder.load(shipped(name))
    return encoder, torch.stack([encoder.prepare(image) for image in chosen])


def latents_by_level(encoder: Encoder, prepared: Tensor) -> list[NDArray[np.float64]]:
    """Dequantised images' latents, a flat array for each level, the finest first. What comes of padding is in it."""
    noisy, _ = dequantise(prepared, encoder.content, torch.Generator().manual_seed(0))
    return [level.double().numpy().ravel() for level in encoder.latents(noisy)]


def bits(encoder: Encoder, prepared: Tensor, content: int) -> float:
    """Mean bits of an image whose pixels outside the middle `content` are padding: log2 q(u) - log2 p(image + u)."""
    noisy, log_q = dequantise(prepared, content, torch.Generator().manual_seed(0))
    with torch.inference_mode():
        log_p = torch.cat([encoder.flow.log_prob(part) for part in torch.split(noisy, BATCH)])
    return float((log_q - log_p).mean()) / math.log(2)


def draw(levels: list[NDArray[np.float64]], name: str, path: Path) -> None:
    """Histograms over N(0, 1), a panel for each level and one for all."""
    matplotlib.use("agg")
    panels = [*((f"level {i + 1}", z) for i, z in enumerate(levels)), ("all", np.concatenate(levels))]
    figure = Figure(figsize=(2.6 * len(panels), 2.8), layout="constrained")
    grid = np.linspace(-4, 4, 81)
    for axes, (title, z) in zip(figure.subplots(1, len(panels), sharey=True), panels, strict=True):
        axes.hist(z, bins=list(grid), density=True, color="lightsteelblue")
        axes.plot(grid, norm.pdf(grid), color="black", linewidth=1)
        axes.set(title=title, xlabel="latent")
    figure.suptitle(f"{name}: latents of {HELD_OUT} held-out X-rays, and N(0, 1)")
    figure.savefig(path, dpi=90)


def main() -> None:
    """Print a line for each level and write the picture."""
    parser = argparse.ArgumentParser(prog="python -m examples.latents", description=__doc__)
    parser.add_argument("--encoder", choices=list(DATA), default="kermany28")
    parser.add_argument("--out", type=Path, default=Path("build") / "latents.png")
    arguments = parser.parse_args()
    encoder, prepared = held_out(arguments.encoder)
    levels = latents_by_level(encoder, prepared)
    for title, z in [*((f"level {i + 1}", z) for i, z in enumerate(levels)), ("all", np.concatenate(levels))]:
        distance = kstest(z, "norm").statistic
        print(f"{title}: {len(z):,} latents, mean {z.mean():+.3f}, deviation {z.std():.3f}, D {distance:.4f}")
    content, size = encoder.content, encoder.size
    own = bits(encoder, prepared, content)
    print(f"bits/dim: {own / content**2:.3f} over the {content}^2 pixels of the X-ray, padding known to be padding")
    if content < size:
        whole = bits(encoder, prepared, size)
        print(f"bits/dim: {whole / content**2:.3f} over these, padded pixels paid for as if they were data")
        print(f"bits/dim: {whole / size**2:.3f} over all {size}^2 pixels, padded ones paid for and counted")
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    draw(levels, arguments.encoder, arguments.out)
    print(f"written to {arguments.out}")


if __name__ == "__main__":
    main()
