"""`python -m examples.bench.glow_likelihood`: bits per dimension beside normflows, trained for the same time.

Needs LDP_DATA. Both sides take the public subset of PneumoniaMNIST, with `--size 64` the public split of cxr64, the
same batches and noise, Adam with the same warm-up, clipping and moving average, as many threads; they take turns, a few
steps each, until each has had `--seconds`. Cosine decay runs over that time, so the faster side takes more steps. Lower
is better; nothing is repeated byte for byte, since time decides.
"""

from __future__ import annotations

import argparse
import copy
import math
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from examples.bench.glow_peer import their_glow
from ldp_client.flow.glow import Glow, Shape
from ldp_client.flow.training import Mode, log_prob
from server.learning.allocator import keep_freed_pages
from server.learning.batches import batch, generator, initial, prepared, validation
from server.learning.public_images import read_images
from server.learning.public_subset import public_indices
from server.learning.recipe import Recipe

RECIPES = {
    32: Recipe(Shape(32, levels=3, steps=8, width=64), content=28),
    64: Recipe(Shape(64, levels=4, steps=8, width=64), content=64, batch=16, learning_rate=1e-3),
}
"""Those of the shipped encoders."""
TURN = 10


class Side:
    """One model on its way: how long it has trained, and the moving average of its weights."""

    def __init__(
        self, model: Any, log_density: Callable[[Any, Tensor], Tensor], recipe: Recipe, seconds_allowed: float
    ) -> None:
        self.model, self.log_density, self.recipe, self.allowed = model, log_density, recipe, seconds_allowed
        self.average = copy.deepcopy(model)
        self.optimiser = torch.optim.Adam(model.parameters(), lr=recipe.learning_rate)
        self.step, self.spent = 0, 0.0

    def turn(self, train: Tensor) -> None:
        """A few steps."""
        started = time.perf_counter()
        for _ in range(TURN):
            self._step(train)
        self.spent += time.perf_counter() - started

    def bits(self, judged: Tensor, log_q: Tensor) -> float:
        """Bits per dimension of the moving average."""
        with torch.no_grad():
            log_p = torch.cat([self.log_density(self.average, part) for part in torch.split(judged, self.recipe.batch)])
        return float((log_q - log_p).mean()) / (math.log(2) * self.recipe.content**2)

    def _step(self, train: Tensor) -> None:
        done = min(1.0, self.spent / self.allowed)
        warm = min(1.0, (self.step + 1) / self.recipe.warmup_steps)
        for group in self.optimiser.param_groups:
            group["lr"] = self.recipe.learning_rate * warm * (0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * done)))
        noisy = batch(train, self.recipe, self.step)
        loss = (noisy.log_q - self.log_density(self.model, noisy.images)).mean()
        self.optimiser.zero_grad()
        torch.autograd.backward(loss / (math.log(2) * self.recipe.content**2))
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), self.recipe.gradient_norm)
        self.optimiser.step()
        decay = min(self.recipe.ema_decay, (1 + self.step) / (10 + self.step))
        with torch.no_grad():
            torch._foreach_lerp_(list(self.average.parameters()), list(self.model.parameters()), 1 - decay)
        self.step += 1


def public_xrays(folder: Path, size: int) -> NDArray[np.uint8]:
    """The public images (N, H, W) of the data set that the shipped encoder of this size was trained on."""
    if size == 64:
        return read_images(folder / "cxr64.npz", key="", split="public", side=0)
    images = read_images(folder / "pneumoniamnist.npz", key="", split="", side=0)
    return images[public_indices(images)]


def main() -> None:
    """Train both and print their bits per dimension."""
    parser = argparse.ArgumentParser(prog="python -m examples.bench.glow_likelihood", description=__doc__)
    parser.add_argument("--seconds", type=float, default=120.0, help="training time of each side")
    parser.add_argument("--threads", type=int, default=2, help="processor threads of each side")
    parser.add_argument("--size", type=int, choices=sorted(RECIPES), default=32, help="pixels a side")
    arguments = parser.parse_args()
    allowed, recipe = arguments.seconds, RECIPES[arguments.size]
    keep_freed_pages()
    torch.set_num_threads(arguments.threads)
    public = prepared(public_xrays(Path(os.environ["LDP_DATA"]), arguments.size), recipe)
    train, judged = public[200:], validation(public[:200], recipe)

    flow = Glow(recipe.shape)
    flow.randomise(generator(recipe.seed, "weights"))
    flow.initialize(initial(train, recipe))
    theirs = their_glow(recipe.shape)
    theirs.forward_kld(initial(train, recipe) - 0.5)  # sets their ActNorms
    sides = {
        "ldp-glow": Side(flow, lambda model, x: log_prob(model, x, Mode.FAST), recipe, allowed),
        "normflows": Side(theirs, lambda model, x: model.log_prob(x - 0.5, None), recipe, allowed),
    }
    while any(side.spent < allowed for side in sides.values()):
        for side in sides.values():
            if side.spent < allowed:
                side.turn(train)
    for name, side in sides.items():
        bits = side.bits(judged.images, judged.log_q)
        print(f"{name}: {bits:.3f} bits/dim held out after {side.step} steps in {side.spent:.0f} s")


if __name__ == "__main__":
    main()
