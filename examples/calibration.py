"""`python -m examples.calibration PNEUMONIAMNIST.npz`: how far a classifier's probabilities miss, before and after.

A campaign at epsilon 2 (joint codebook, 6 coordinates, `simplex`) releases four fifths of the hospitals' X-rays of
PneumoniaMNIST; one fifth is held out, and three sites answer an evaluation about it. The centre makes probabilities of
the answers. They are judged on X-rays that taught neither classifier nor curve: the validation part, which has the same
shares of labels, and the official test part, which has others. "Before" takes the softmax of the scores for
probabilities, as one might who has no calibration. All noise is the operating system's.

Expected calibration error in ten equal ranges of the probability, sum_r n_r / n |mean label - mean probability|: Guo,
Pleiss, Sun, Weinberger, On calibration of modern neural networks, ICML 2017.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ldp_client.diagnosis.bundle import ClassifierCard
from ldp_client.diagnosis.calibration import Calibration
from ldp_client.diagnosis.scoring import DEFAULT_BINS, binned, default_edges
from ldp_client.flow.encoder import Encoder
from ldp_client.flow.installed import open_bundle
from ldp_client.privacy.histogram import Histogram, count, histogram
from ldp_client.privacy.noise import SystemSource
from ldp_client.privacy.release_design import joint_codebook
from ldp_client.wire.answer import pack_answer
from ldp_client.wire.canonical import canonical_bytes
from ldp_client.wire.evaluation import Evaluation
from server.benchmarks.released import Asking, released
from server.benchmarks.tasks import Archive, read_archive
from server.learning.calibrate import calibrate
from server.learning.classifier_bundle import linear_card
from server.learning.public_images import encoded
from server.learning.train import train

EPSILONS = ("1", "2", "4")
COORDINATES, SITES, HELD_OUT, RANGES = 6, 3, 5, 10
Floats = NDArray[np.float64]
Labels = NDArray[np.int64]


def expected_error(probability: Floats, labels: Labels) -> float:
    """Expected calibration error of P(label 1), (N,), in `RANGES` equal ranges.

    >>> expected_error(np.array([0.25, 0.25, 0.25, 0.25]), np.array([0, 0, 0, 1]))
    0.0
    >>> expected_error(np.array([1.0, 1.0]), np.array([0, 1]))
    0.5
    """
    place = np.minimum((probability * RANGES).astype(int), RANGES - 1)
    gaps = np.bincount(place, weights=labels - probability, minlength=RANGES)
    return float(np.abs(gaps).sum() / len(labels))


def judged(card: ClassifierCard, scores: Floats, labels: Labels, epsilon: str) -> Calibration | None:
    """What the centre makes of the answers of `SITES` sites that hold these X-rays out, (N, K) scores each."""
    spec = histogram(epsilon=epsilon, classes=2, bins=DEFAULT_BINS, cap=1)
    evaluation = Evaluation(
        name="held-out",
        purpose="probabilities",
        encoder=card.encoder,
        classifier=canonical_bytes(card),
        label_names=card.label_names,
        histogram=spec,
        edges=default_edges(float(card.spread)),
        unit="image",
        cap=1,
        micro_epsilon_per_unit=spec.loss.micro_epsilon,
        ends="2099-12-31",
    )
    rows, bins = binned(scores, labels, evaluation.edges)
    answers = {}
    for site in range(SITES):
        mine = slice(site, None, SITES)
        counted = count(spec, list(range(len(rows[mine]))), rows[mine].ravel(), bins[mine].ravel())
        answers[f"site-{site}"] = pack_answer(Histogram(spec)(counted, SystemSource()))
    return calibrate(evaluation, answers)


def once(encoder: Encoder, archive: Archive, outputs: Floats, generator: np.random.Generator) -> dict[str, list[float]]:
    """Errors on the validation and the test part: before, and after evaluations at each epsilon."""
    labels, names = archive.tasks[0].labels, archive.tasks[0].label_names
    hospital = generator.permutation(np.flatnonzero(archive.part == "hospital"))
    held, given = np.split(hospital, [len(hospital) // HELD_OUT])
    spec = joint_codebook(epsilon=2, classes=2, bottleneck_dimension=COORDINATES, label_code="simplex")
    records = released(Asking(encoder.digest, names, "image", 1), spec, outputs[given, :COORDINATES], labels[given])
    trained = train(records)
    card = linear_card("lungs", records.campaign, trained, "python -m examples.calibration")
    scores = trained.classifier.scores(outputs)
    difference = scores[:, 1] - scores[:, 0]
    parts = [archive.part == "validation", archive.part == "test"]
    found = {"before": [expected_error(1 / (1 + np.exp(-difference[part])), labels[part]) for part in parts]}
    for epsilon in EPSILONS:
        calibration = judged(card, scores[held], labels[held], epsilon)
        if calibration is not None:
            curve = calibration.curves[0]
            told = np.array([curve.of(one).value for one in difference])
            found[epsilon] = [expected_error(told[part], labels[part]) for part in parts]
    return found


def main() -> None:
    """Print mean and spread of the errors over repeated releases and evaluations."""
    parser = argparse.ArgumentParser(prog="python -m examples.calibration", description=__doc__)
    parser.add_argument("data", type=Path, help="PneumoniaMNIST's npz")
    parser.add_argument("--encoder", default="shipped:kermany28", help='a folder or "shipped:NAME"')
    parser.add_argument("--repeats", type=int, default=20, help="releases, and evaluations of each")
    arguments = parser.parse_args()
    encoder, archive = open_bundle(arguments.encoder, Path()), read_archive(arguments.data)
    outputs, generator = encoded(encoder, archive.images), np.random.default_rng(0)
    repeats = [once(encoder, archive, outputs, generator) for _ in range(arguments.repeats)]
    held = int((archive.part == "hospital").sum()) // HELD_OUT
    print(f"{held} X-rays held out at {SITES} sites; expected calibration error, {arguments.repeats} repeats")
    print(f"{'evaluation':>12}  validation       test")
    for name in ("before", *EPSILONS):
        rows = np.array([one[name] for one in repeats if name in one])
        if len(rows):
            shown = "  ".join(f"{mean:.3f} +- {std:.3f}" for mean, std in zip(rows.mean(0), rows.std(0), strict=True))
            print(f"{name:>12}  {shown}  ({len(rows)} of {arguments.repeats} stated)")


if __name__ == "__main__":
    main()
