"""`python -m examples.released_pictures WHAT`: what released pictures look like, show of their X-rays, and teach.

Needs LDP_DATA. PneumoniaMNIST's 2,000 public images made the shipped encoder; all others of its train set are the
hospitals' X-rays, one record each, X-ray and label together at the epsilon that is given.

    sheets      contact sheets of both forms at several epsilons, as docs/pictures.md shows them
    recognise   how often a picture is nearest to the X-ray that it was released for, among 500 X-rays: by its pixels,
                as an eye sees it, and by the encoder's coordinates and the labels, as who has the public encoder does
    classify    the AUC on the official test set of networks that learnt from released pictures alone
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import matplotlib
import numpy as np
import torch
from matplotlib.figure import Figure
from numpy.typing import NDArray

from ldp_client.flow.encoder import Encoder, shipped
from ldp_client.flow.pictures import NearestSample, painter_of
from ldp_client.privacy.drawing import draw, prepare
from ldp_client.privacy.image_spec import ImageSpec, image
from ldp_client.privacy.images import NoisedImages, Painter, make_images
from ldp_client.privacy.loss import PrivacyLoss
from ldp_client.privacy.meaning import best_identification
from ldp_client.privacy.noise import SystemSource
from ldp_client.privacy.release_design import dp_glow, joint_codebook
from ldp_client.wire.record import codebook_seed
from server.benchmarks.area import TestSet, area, test_error
from server.benchmarks.released import Asking, pictured
from server.learning.image_training import train_on_pictures
from server.learning.public_subset import public_indices

LABELS = ("normal", "pneumonia")
SHOWN, AMONG, RELEASES = 10, 500, 4
BOTTLENECK_EPSILONS = (Fraction(1, 2), 1, 2, 4, 8)
ALL_LATENTS_EPSILONS = (1, 8, 100, 1_000, 3_000, 10_000, 30_000, 100_000)


class Data:
    """Hospital X-rays and the official test set, prepared; how many of the encoder's coordinates are released."""

    def __init__(self, dimension: int) -> None:
        with np.load(Path(os.environ["LDP_DATA"]) / "pneumoniamnist.npz") as arrays:
            train, labels = arrays["train_images"], arrays["train_labels"].ravel().astype(np.int64)
            test, self.test_labels = arrays["test_images"], arrays["test_labels"].ravel().astype(np.int64)
        public = public_indices(train)
        hospitals = np.setdiff1d(np.arange(len(train)), public)
        self.images, self.labels = train[hospitals], labels[hospitals]
        self.encoder, self.dimension = Encoder.load(shipped()), dimension
        self.prepared, self.test = self._prepared(self.images), self._prepared(test)

    def coordinates(self, prepared: torch.Tensor) -> NDArray[np.float64]:
        """What is released of prepared X-rays (N, 1, size, size), before the clip: the first k coordinates, (N, k)."""
        return self.encoder.encode(prepared)[:, : self.dimension]

    def _prepared(self, images: NDArray[np.uint8]) -> torch.Tensor:
        return torch.stack([self.encoder.prepare(one) for one in images])


def bottleneck_form(epsilon: Fraction | int, dimension: int) -> ImageSpec:
    """The useful form: a sample of the flow near the noised bottleneck."""
    return image(joint_codebook(epsilon=epsilon, classes=2, bottleneck_dimension=dimension), side=28)


def all_latents_form(epsilon: Fraction | int) -> ImageSpec:
    """DP-GLOW's form; the label takes an eighth of epsilon, at most 1."""
    label = min(Fraction(epsilon) / 8, Fraction(1))
    return image(dp_glow(epsilon=epsilon, label_epsilon=label, classes=2, latents=32 * 32), side=28)


def released(painter: Painter, outputs: NDArray[np.float64], labels: NDArray[np.int64]) -> NoisedImages:
    """One record for each row, by what runs at a hospital."""
    noised, source = painter.spec.noised, SystemSource()
    seeds = [codebook_seed("e" * 64, "hospital", charge) for charge in range(len(labels))]
    return make_images(painter, draw(noised, prepare(noised, outputs, labels), seeds, source), source)


def forms(data: Data, rows: slice) -> Iterator[tuple[str, Fraction | int, NoisedImages]]:
    """Each form at each of its epsilons."""
    xrays, labels = data.prepared[rows], data.labels[rows]
    pool = NearestSample(bottleneck_form(1, data.dimension), data.encoder, SystemSource())
    for epsilon in BOTTLENECK_EPSILONS:
        painter: Painter = pool.of(bottleneck_form(epsilon, data.dimension))
        yield "bottleneck", epsilon, released(painter, data.coordinates(xrays), labels)
    latents = data.encoder.output("latents", xrays)
    for epsilon in ALL_LATENTS_EPSILONS:
        painter = painter_of(all_latents_form(epsilon), data.encoder, SystemSource())
        yield "dp_glow", epsilon, released(painter, latents, labels)


def sheets(data: Data, folder: Path) -> None:
    """A picture for each form: real X-rays of the hospitals above, and below each what was released for it."""
    rows: dict[str, list[tuple[str, NDArray[np.uint8], list[str]]]] = {}
    for form, epsilon, made in forms(data, slice(SHOWN)):
        rows.setdefault(form, []).append(
            (f"epsilon {float(epsilon):,g}", made.pixels, [LABELS[label] for label in made.labels])
        )
    top = ("X-ray (not released)", data.images[:SHOWN], [LABELS[label] for label in data.labels[:SHOWN]])
    matplotlib.use("agg")
    for form, lines in rows.items():
        figure = Figure(figsize=(SHOWN * 0.95 + 1.6, (len(lines) + 1) * 1.12), layout="constrained")
        axes = figure.subplots(len(lines) + 1, SHOWN)
        for line, (title, pictures, labels) in zip(axes, [top, *lines], strict=True):
            for place, picture, label in zip(line, pictures, labels, strict=True):
                place.imshow(picture, cmap="gray", vmin=0, vmax=255)
                place.set(xticks=[], yticks=[])
                place.set_xlabel(label, fontsize=7, labelpad=1)
            line[0].set_ylabel(title, rotation=0, ha="right", va="center", fontsize=8)
        figure.savefig(folder / f"pictures_{form}.png", dpi=80)
        print(f"written to {folder / f'pictures_{form}.png'}")


def recognise(data: Data) -> None:
    """For each form and epsilon: how often a picture's nearest X-ray is its own, by pixels and by coordinates."""

    def normed(pixels: NDArray[np.uint8]) -> NDArray[np.float64]:
        flat = pixels.reshape(len(pixels), -1).astype(np.float64)
        flat -= flat.mean(axis=1, keepdims=True)
        return unit(flat)

    def unit(vectors: NDArray[np.float64]) -> NDArray[np.float64]:
        scaled: NDArray[np.float64] = vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-9)
        return scaled

    def found(made: NoisedImages, joint: bool) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
        seen = ((normed(made.pixels) - average) @ (xrays - average).T).argmax(axis=1)
        pictures = torch.stack([data.encoder.prepare(one) for one in made.pixels])
        points = unit(data.coordinates(pictures)) @ unit(coordinates).T
        if joint:  # the picture is for its label, or against it
            points *= np.where(np.asarray(made.labels)[:, None] == data.labels[:AMONG], 1, -1)
        return seen == np.arange(AMONG), points.argmax(axis=1) == np.arange(AMONG)

    xrays, coordinates = normed(data.images[:AMONG]), data.coordinates(data.prepared[:AMONG])
    average = xrays.mean(axis=0)
    print(f"nearest of {AMONG}: chance {1 / AMONG:.1%}")
    times: dict[tuple[str, Fraction | int], list[tuple[NDArray[np.bool_], NDArray[np.bool_]]]] = {}
    for _ in range(RELEASES):
        for form, epsilon, made in forms(data, slice(AMONG)):
            times.setdefault((form, epsilon), []).append(found(made, form == "bottleneck"))
    for (form, epsilon), hits in times.items():
        pixels, encoded = (np.mean(which) for which in zip(*hits, strict=True))
        ceiling = best_identification(PrivacyLoss.of(epsilon), AMONG)
        print(
            f"{form} epsilon {float(epsilon):,g}: own X-ray nearest by pixels {pixels:.1%}, "
            f"by the encoder {encoded:.1%}, nobody more often than {ceiling:.1%}"
        )


def classify(data: Data, form: str, epsilons: list[Fraction], repeats: int) -> None:
    """AUC on clean test X-rays of networks that saw released pictures alone; mean and spread over releases."""
    outputs = data.coordinates(data.prepared) if form == "bottleneck" else data.encoder.output("latents", data.prepared)
    margins: dict[Fraction, list[NDArray[np.float64]]] = {epsilon: [] for epsilon in epsilons}
    judged = TestSet.of(data.test_labels, np.arange(len(data.test_labels)).astype(str))
    asking = Asking(data.encoder.digest, LABELS, "image", 1)
    pool = NearestSample(bottleneck_form(1, data.dimension), data.encoder, SystemSource())
    for repeat in range(repeats):
        # Noise and labels are drawn anew for each release; the samples, which take long, are the same ones.
        for epsilon in epsilons:
            if form == "bottleneck":
                painter: Painter = pool.of(bottleneck_form(epsilon, data.dimension))
            else:
                painter = painter_of(all_latents_form(epsilon), data.encoder, SystemSource())
            trained = train_on_pictures(pictured(asking, painter, outputs, data.labels))
            scores = trained.classifier.scores(data.encoder, data.test)
            margins[epsilon].append(scores[:, 1] - scores[:, 0])
            found = area(margins[epsilon][-1], data.test_labels)
            print(f"  {form}, epsilon {epsilon}, release {repeat + 1}: {found:.3f}", flush=True)
    for epsilon, told in margins.items():
        areas = judged.areas(np.stack(told))
        spread = f"{areas.mean():.3f} +- {areas.std():.3f} over {repeats} releases of {len(data.labels)} pictures"
        error = f"the test set's own error {test_error(judged.resampled(np.stack(told))):.3f}"
        print(f"{form}, {outputs.shape[1]} numbers, epsilon {epsilon}: AUC {spread}; {error}", flush=True)


def main() -> None:
    """Do what was asked for."""
    parser = argparse.ArgumentParser(prog="python -m examples.released_pictures", description=__doc__)
    parser.add_argument("what", choices=["sheets", "recognise", "classify"])
    parser.add_argument(
        "--form", choices=["bottleneck", "dp_glow"], default="bottleneck", help="what classify learns from"
    )
    parser.add_argument("--dimension", type=int, default=4, help="how many of the encoder's coordinates are released")
    parser.add_argument("--epsilon", type=Fraction, nargs="+", default=[Fraction(4), Fraction(2), Fraction(1)])
    parser.add_argument("--repeats", type=int, default=10)
    parser.add_argument("--out", type=Path, default=Path("build"))
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    data = Data(arguments.dimension)
    if arguments.what == "classify":
        classify(data, arguments.form, arguments.epsilon, arguments.repeats)
    elif arguments.what == "recognise":
        recognise(data)
    else:
        arguments.out.mkdir(parents=True, exist_ok=True)
        sheets(data, arguments.out)


if __name__ == "__main__":
    main()
