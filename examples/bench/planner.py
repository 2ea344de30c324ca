"""The planner beside the mechanisms themselves: how often the predicted AUC is within .03 of the measured one.

Every cell of a grid of epsilon, dimension, records and prevalence: normal bottleneck outputs are drawn, released by the
real mechanism and learnt from by the centre's own training, and the classifier's AUC on 2,000 other X-rays is averaged
over draws. The peer is the goal of three quarters of the cells.
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from examples.bench.rows import Row, row
from ldp_client.privacy import codebook, laplace, randomized_response
from ldp_client.privacy.codebook import NoisedIndices
from ldp_client.privacy.drawing import Drawn, draw, prepare
from ldp_client.privacy.laplace import Noised
from ldp_client.privacy.noise import SystemSource
from ldp_client.privacy.prediction import Population, predict
from ldp_client.privacy.release_design import dp_glow, joint_codebook, joint_laplace, latent
from ldp_client.privacy.release_spec import ReleaseSpec
from ldp_client.wire.campaign import Campaign
from server.learning.train import TrainingSet, train

EPSILONS = ("1/2", "1", "2", "4", "8")
DIMENSIONS = (2, 8, 32)
RECORDS = (300, 1000, 3000)
PREVALENCES = (0.5, 0.75)
WITHIN, GOAL = 0.03, 0.75
Outputs = NDArray[np.float64]
Labels = NDArray[np.int64]
Make = Callable[..., ReleaseSpec]


def kinds(dimension: int) -> dict[str, Make]:
    """Each mechanism and label code, to be called with epsilon."""
    common: dict[str, Any] = {"classes": 2, "bottleneck_dimension": dimension}
    codebook = partial(joint_codebook, codewords=64, **common)
    return {
        "laplace radius 1": partial(joint_laplace, radius=1, **common),
        "laplace radius k/2": partial(joint_laplace, radius=max(2, dimension // 2), **common),
        "laplace one_hot": partial(joint_laplace, radius=2, label_code="one_hot", constant="1", **common),
        "codebook": codebook,
        "codebook constant": partial(codebook, constant="1/2"),
        "codebook one_hot": partial(codebook, constant="1/2", label_code="one_hot"),
        "latent": lambda epsilon: latent(epsilon=epsilon, label_epsilon=_half(epsilon), radius=1, **common),
        "dp_glow": lambda epsilon: dp_glow(epsilon=epsilon, label_epsilon=_half(epsilon), classes=2, latents=dimension),
    }


def _half(epsilon: str) -> str:
    return {"1/2": "1/4", "1": "1/2", "2": "1", "4": "2", "8": "4"}[epsilon]


def area(scores: NDArray[np.float64], labels: Labels) -> float:
    """Area under the ROC curve: how often a score of label 1 stands above one of label 0. Scores have no ties."""
    ranks = np.empty(len(scores))
    ranks[np.argsort(scores)] = np.arange(1, len(scores) + 1)
    positive = int(labels.sum())
    above = ranks[labels == 1].sum() - positive * (positive + 1) / 2
    return float(above / (positive * (len(labels) - positive)))


def normal_xrays(
    population: Population, dimension: int, count: int, generator: np.random.Generator
) -> tuple[Outputs, Labels]:
    """X-rays of two classes as the model has them, their class direction at random in R^k."""
    labels = (generator.random(count) < population.prevalence[1]).astype(np.int64)
    along = population.distance * (labels - population.prevalence[1])
    outputs = generator.normal(size=(count, dimension))
    outputs[:, 0] = along + np.sqrt(population.within) * outputs[:, 0]
    turn, _ = np.linalg.qr(np.random.default_rng(dimension).normal(size=(dimension, dimension)))
    return outputs @ turn, labels


def released(release: ReleaseSpec, outputs: Outputs, labels: Labels) -> TrainingSet:
    """The decoded records of some X-rays; drawn as on the road, without their bytes, which cost more than the draw."""
    campaign = Campaign(
        name="planner",
        purpose="compare a prediction",
        encoder="e" * 64,
        release=release,
        label_names=tuple(f"label {label}" for label in range(release.classes)),
        unit="image",
        cap=1,
        micro_epsilon_per_record=release.loss.micro_epsilon,
        ends="2030-12-31",
    )
    seeds = [os.urandom(32) for _ in labels]
    drawn = draw(release, prepare(release, outputs, labels), seeds, SystemSource())
    return TrainingSet(campaign, _decoded(release, drawn))


def _decoded(release: ReleaseSpec, drawn: Drawn) -> Outputs:
    if isinstance(drawn, NoisedIndices):
        return codebook.decode(drawn.spec, drawn.indices.tolist(), drawn.seeds)
    if isinstance(drawn, Noised):
        return laplace.decode(drawn.steps, drawn.spec)
    vectors = laplace.decode(drawn.vectors.steps, drawn.vectors.spec)
    said = randomized_response.decode(drawn.labels.values, drawn.labels.spec)
    features = np.concatenate([np.ones((len(vectors), 1)), vectors], axis=1)
    joint: Outputs = (said[:, :, None] * features[:, None, :]).reshape(len(vectors), -1)
    return joint


def areas(drawn: TrainingSet, count: int, outputs: Outputs, labels: Labels, draws: int = 100) -> list[float]:
    """The AUC on clean X-rays of one classifier for each run of `count` records."""
    starts = range(0, min(len(drawn.vectors), draws * count) - count + 1, count)
    parts = [TrainingSet(drawn.campaign, drawn.vectors[start : start + count]) for start in starts]
    return [area(train(part).classifier.scores(outputs)[:, 1], labels) for part in parts]


@dataclass(frozen=True)
class Cell:
    """One place of the grid: what was predicted and what was measured."""

    kind: str
    epsilon: str
    dimension: int
    records: int
    prevalence: float
    predicted: float
    measured: float

    @property
    def hit(self) -> bool:
        """Whether the prediction is within .03."""
        return abs(self.predicted - self.measured) <= WITHIN


def grid(
    names: Iterable[str],
    epsilons: Iterable[str] = EPSILONS,
    dimensions: Iterable[int] = DIMENSIONS,
    counts: Iterable[int] = RECORDS,
    prevalences: Iterable[float] = PREVALENCES,
    pool: int = 180_000,
    codebook_pool: int = 60_000,
    auc: float = 0.9,
) -> Iterator[Cell]:
    """Predict and measure. One pool of records serves all counts: it is cut into as many draws as it holds."""
    for name, epsilon, dimension, ill in itertools.product(names, epsilons, dimensions, prevalences):
        population, generator = Population(auc, (1 - ill, ill)), np.random.default_rng(1)
        release = kinds(dimension)[name](epsilon=epsilon)
        size = codebook_pool if release.kind == "joint_codebook" else pool
        drawn = released(release, *normal_xrays(population, dimension, size, generator))
        test = normal_xrays(population, dimension, 2_000, generator)
        for count in counts:
            predicted = predict(release, population, count).auc
            yield Cell(name, epsilon, dimension, count, ill, predicted, float(np.mean(areas(drawn, count, *test))))


def rows() -> list[Row]:
    """For each mechanism and label code, the share of cells whose prediction is within .03."""
    found = []
    for name in kinds(2):
        cells = list(grid([name]))
        for cell in cells:
            if not cell.hit:
                print(
                    f"{cell.kind} epsilon {cell.epsilon} k {cell.dimension} N {cell.records} "
                    f"prevalence {cell.prevalence}: predicted {cell.predicted:.3f}, measured {cell.measured:.3f}"
                )
        share = float(np.mean([cell.hit for cell in cells]))
        found.append(row(f"{name} within .03", len(cells), "share of cells", share, GOAL, 1))
    return found
