"""Training on raw images or features by gradients: without noise, and centrally private (DP-SGD, Opacus).

DP-SGD is the trusted-curator model: one party holds every X-ray in the clear, and what is private is the classifier.
Its epsilon comes with a delta and covers one record against replacement of that record by nothing (add or remove), a
weaker neighbour relation than the local releases'. It is a peer in utility, not in trust.
"""

from __future__ import annotations

import importlib
import os
import warnings
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from ldp_client.errors import ConfigurationError
from server.benchmarks.arms import Arm, Floats, Score
from server.benchmarks.scene import Scene

DELTA = 1e-4


@dataclass(frozen=True)
class Recipe:
    """How a network is trained. Fixed beforehand, by what such a number of records and steps usually needs."""

    epochs: int
    batch: int
    rate: float
    clip: float = 1.0


PLAIN = Recipe(epochs=15, batch=64, rate=2e-3)
PRIVATE = Recipe(epochs=15, batch=256, rate=1e-2)
PRIVATE_LINEAR = Recipe(epochs=15, batch=256, rate=2e-2)


def small_network(side: int, classes: int) -> nn.Module:
    """Three convolutions, each halving the side, and a linear layer on their means: images (B, 1, side, side)."""
    channels = (8, 16, 32)
    layers: list[nn.Module] = [nn.AvgPool2d(side // 28)] if side >= 56 else []
    before = 1
    for count in channels:
        layers += [nn.Conv2d(before, count, 3, stride=2, padding=1), nn.GroupNorm(4, count), nn.ReLU()]
        before = count
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(before * 4, classes))


def require_opacus(package: str = "opacus") -> tuple[Any, Any]:
    """Opacus, and its search for the least noise: an extra, which a centre needs for this comparison alone.

    Raises:
        ConfigurationError: it is not installed.
    """
    try:
        return importlib.import_module(package), importlib.import_module(f"{package}.accountants.utils")
    except ImportError as error:
        raise ConfigurationError(
            "central DP-SGD is measured with Opacus, which is not installed; pip install 'ldp-glow[bench]', or leave "
            "these rows out with --without dp-sgd"
        ) from error


def train_network(
    model: nn.Module, inputs: Tensor, labels: NDArray[np.int64], recipe: Recipe, epsilon: float | None
) -> nn.Module:
    """Cross-entropy by Adam; with an epsilon by DP-SGD (Poisson batches, gradients clipped per record).

    The order of batches and, without Opacus' secure mode, the noise come from torch's generator: the caller seeds it.
    """
    data = torch.utils.data.TensorDataset(inputs, torch.from_numpy(labels))
    loader = torch.utils.data.DataLoader(data, batch_size=min(recipe.batch, len(data)), shuffle=True)
    optimiser: torch.optim.Optimizer = torch.optim.Adam(model.parameters(), lr=recipe.rate)
    if epsilon is not None:
        with warnings.catch_warnings():
            # Of a noise generator that a benchmark may have, and of hooks that Opacus itself registers.
            warnings.simplefilter("ignore")
            model, optimiser, loader = (
                require_opacus()[0]
                .PrivacyEngine()
                .make_private(
                    module=model,
                    optimizer=optimiser,
                    data_loader=loader,
                    noise_multiplier=_noise_multiplier(epsilon, 1 / len(loader), recipe.epochs),
                    max_grad_norm=recipe.clip,
                )
            )
    else:
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, recipe.epochs)
    loss = nn.CrossEntropyLoss()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for _ in range(recipe.epochs):
            for x, y in loader:
                if not len(x):  # a Poisson batch may be empty
                    continue
                optimiser.zero_grad()
                loss(model(x), y).backward()
                optimiser.step()
            if epsilon is None:
                schedule.step()
    return model


@lru_cache(maxsize=64)
def _noise_multiplier(epsilon: float, sample_rate: float, epochs: int) -> float:
    """The least noise for this epsilon and delta by Opacus' tightest accountant (privacy loss distributions)."""
    found: float = require_opacus()[1].get_noise_multiplier(
        target_epsilon=epsilon, target_delta=DELTA, sample_rate=sample_rate, epochs=epochs, accountant="prv"
    )
    return found


def network_on_images(recipe: Recipe, private: bool) -> Score:
    """A small network on raw images, seeded by the repeat; DP-SGD's noise by the operating system."""

    def score(scene: Scene, epsilon: Fraction | None) -> Floats:
        images = torch.from_numpy(scene.encoded.archive.images.astype(np.float32))[:, None] / 127.5 - 1
        return _fitted(scene, images[scene.rows], images[scene.part("test")], recipe, epsilon if private else None)

    return score


def linear_on_features(recipe: Recipe, view: str) -> Score:
    """DP-SGD on a linear layer above the public encoder's numbers, brought to norm 1 on average."""

    def score(scene: Scene, epsilon: Fraction | None) -> Floats:
        outputs = torch.from_numpy(scene.encoded.view(view)).float() / scene.encoded.view(view).shape[1] ** 0.5
        return _fitted(scene, outputs[scene.rows], outputs[scene.part("test")], recipe, epsilon)

    return score


def _fitted(scene: Scene, inputs: Tensor, clean: Tensor, recipe: Recipe, epsilon: Fraction | None) -> Floats:
    classes = scene.task.classes
    seed = int(scene.generator.integers(2**31)) if epsilon is None else int.from_bytes(os.urandom(7), "big")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = small_network(inputs.shape[-1], classes) if inputs.ndim == 4 else nn.Linear(inputs.shape[1], classes)
        trained = train_network(
            model,
            inputs,
            scene.labels,
            recipe,
            None if epsilon is None else float(epsilon),
        )
    trained.eval()
    with torch.no_grad():
        scores: Floats = trained(clean).double().numpy()
    return scores


def networks() -> list[Arm]:
    """The network on raw images without noise."""
    return [
        Arm(
            "no noise",
            "none",
            "none",
            "none: raw images",
            network_on_images(PLAIN, private=False),
            private=False,
            repeats=3,
            seconds=8.0,
        )
    ]


def central(maps: str = "map") -> list[Arm]:
    """Central DP-SGD on raw images, and on the public encoder's features. One record per patient."""
    mechanism = f"central dp-sgd, delta {DELTA:g}"
    return [
        Arm(
            "classifier",
            mechanism,
            "none",
            "none: raw images",
            network_on_images(PRIVATE, private=True),
            repeats=5,
            seconds=9.0,
        ),
        Arm("classifier", mechanism, "none", maps, linear_on_features(PRIVATE_LINEAR, maps), seconds=3.0),
    ]
