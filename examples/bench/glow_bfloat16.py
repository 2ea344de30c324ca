"""`python -m examples.bench.glow_bfloat16`: what bfloat16 inside the couplings changes, at the classifier's end.

Needs LDP_DATA. Every X-ray of PneumoniaMNIST is encoded twice with the shipped encoder, in float32 and with hidden
layers in bfloat16, which an interrupted run does not repeat; each set of numbers goes through release, training and
student as `ldp-server bench utility` has them, at the configuration that was chosen for epsilon 1. The two sides take
the same X-rays, bottleneck and test set; noise is drawn by the operating system for each repeat, so at epsilon 1 they
have different noise. The intervals are 95 %, of the paired bootstrap over test X-rays and draws.
"""

from __future__ import annotations

import argparse
import os
from fractions import Fraction
from pathlib import Path

import numpy as np
import torch

from examples.bench.rows import alternate
from ldp_client.flow.encoder import Encoder, shipped
from server.benchmarks.area import TestSet, paired_difference, test_error
from server.benchmarks.arms import Arm, Floats, ours
from server.benchmarks.chosen import chosen
from server.benchmarks.encoded import Encoded, encode_archive
from server.benchmarks.provenance import one_thread
from server.benchmarks.scene import scene
from server.benchmarks.students import student
from server.benchmarks.tasks import Archive, read_archive

TYPES = {"float32": None, "bfloat16": torch.bfloat16}
EPSILON = Fraction(1)
SOME = 64
OUT = Path("build") / "bench" / "bfloat16"


def arms(archive: Archive) -> list[tuple[str, Arm, Fraction | None]]:
    """The chosen release without noise, and at epsilon 1 alone and with a student behind it."""
    alone = chosen(archive.name, "pneumonia", EPSILON)
    taught = chosen(archive.name, "pneumonia", EPSILON, student=True)
    return [
        ("no noise", ours(alone), None),
        ("epsilon 1, records alone", ours(alone), EPSILON),
        ("epsilon 1, with a student", ours(taught, student=student), EPSILON),
    ]


def scores(encoded: Encoded, arm: Arm, epsilon: Fraction | None, repeats: int) -> Floats:
    """Scores of the test X-rays, (repeats, T, ...); where nothing is noised, of one repeat."""
    task = encoded.archive.task("pneumonia")
    times = repeats if epsilon is not None else 1
    return np.stack([arm.score(scene(encoded, task, 1, repeat), epsilon) for repeat in range(times)])


def main() -> None:
    """Print how far latents and coordinates move, and the AUC of both sides."""
    parser = argparse.ArgumentParser(prog="python -m examples.bench.glow_bfloat16", description=__doc__)
    parser.add_argument("--repeats", type=int, default=20, help="releases of each side")
    repeats = parser.parse_args().repeats
    archive = read_archive(Path(os.environ["LDP_DATA"]) / "pneumoniamnist.npz")
    encoders = {name: Encoder.load(shipped("kermany28"), hidden) for name, hidden in TYPES.items()}
    sides: dict[str, Encoded] = {}
    for name, encoder in encoders.items():
        sides[name] = encode_archive(archive, encoder, OUT / name)
    some = torch.stack([encoders["float32"].prepare(image) for image in archive.images[:SOME]])
    slow, fast = alternate(lambda: encoders["bfloat16"].latents(some), lambda: encoders["float32"].latents(some))
    print(f"images to latents: float32 {SOME / fast:.0f} a second, bfloat16 {SOME / slow:.0f}")
    exact, rough = sides.values()
    coordinates = exact.view(f"bottleneck {exact.bottleneck.dimension}")
    moved = np.abs(rough.view(f"bottleneck {exact.bottleneck.dimension}") - coordinates)
    latents = np.abs(rough.latents - exact.latents)
    print(f"latents moved by {latents.mean():.4f} in the mean and {latents.max():.2f} at most")
    print(
        f"coordinates moved by {moved.mean():.4f} in the mean and {moved.max():.3f} at most, of a deviation of about 1"
    )
    test = np.flatnonzero(archive.part == "test")
    judged = TestSet.of(archive.task("pneumonia").labels[test], archive.groups[test])
    with one_thread():
        for title, arm, epsilon in arms(archive):
            found = {name: scores(side, arm, epsilon, repeats) for name, side in sides.items()}
            areas = {name: judged.areas(one) for name, one in found.items()}
            resampled = [judged.resampled(one) for one in found.values()]
            low, high = paired_difference(resampled[1], resampled[0])
            each = ", ".join(f"{name} {a.mean():.4f} +- {a.std():.4f}" for name, a in areas.items())
            difference = areas["bfloat16"].mean() - areas["float32"].mean()
            print(f"{title}: {each}, bfloat16 better by {difference:+.4f} ({low:+.4f} to {high:+.4f})")
            print(f"    the test set's standard error: {test_error(resampled[0]):.4f}")


if __name__ == "__main__":
    main()
