"""`python -m examples.demo.draws`: the demo's release drawn many times over, to show how far the noise moves the AUC.

Uses the mechanism itself on the demo's X-rays, without ledgers or processes: nothing leaves, nothing is charged, the
data are public. Prints mean and standard deviation over the draws, the worst draw, and the AUC without noise.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from examples.demo import hospitals
from examples.demo.hospitals import LABELS, Country
from examples.demo.network import COORDINATES
from ldp_client.flow.encoder import Encoder, shipped
from ldp_client.flow.installed import SHIPPED
from ldp_client.privacy.clipping import clip, to_grid
from ldp_client.privacy.labels import joint_vector
from ldp_client.privacy.laplace import DiscreteLaplace
from ldp_client.privacy.noise import SystemSource
from ldp_client.privacy.release_design import joint_laplace
from ldp_client.privacy.release_spec import JointLaplaceSpec

EPSILONS = ("1", "2", "4")


def outputs(encoder: Encoder, images: NDArray[np.uint8]) -> NDArray[np.float64]:
    """What the demo releases of 8-bit images: the first coordinates. Shape (N, k)."""
    tensors = [encoder.prepare(image, inverted=False, window=None, bits=8) for image in images]
    parts = [encoder.encode(torch.stack(tensors[at : at + 128])) for at in range(0, len(tensors), 128)]
    return np.concatenate(parts)[:, :COORDINATES]


def auc(vectors: NDArray[np.integer], test: NDArray[np.float64], labels: NDArray[np.integer]) -> float:
    """AUC on the test set of the classifier whose direction is the mean of the releases (two classes)."""
    return float(roc_auc_score(labels, test @ vectors.mean(axis=0)))


def readout(encoder: Encoder, country: Country) -> float:
    """AUC of a logistic regression on the whole log-scale map of clean X-rays: what k numbers leave behind."""

    def maps(images: NDArray[np.uint8]) -> NDArray[np.float64]:
        tensors = [encoder.prepare(image, inverted=False, window=None, bits=8) for image in images]
        return np.concatenate(
            [encoder.log_scale_map(torch.stack(tensors[at : at + 128])) for at in range(0, len(tensors), 128)]
        )

    images = np.concatenate([hospital.images for hospital in country.hospitals])
    labels = np.concatenate([hospital.labels for hospital in country.hospitals])
    model = make_pipeline(StandardScaler(), LogisticRegression(C=0.01, max_iter=1000)).fit(maps(images), labels)
    return float(roc_auc_score(country.test_labels, model.decision_function(maps(country.test_images))))


def measure(country: Country, draws: int, hidden: torch.dtype | None = None) -> None:
    """Print one line for each epsilon. `hidden`: the type of the flow's hidden layers, where it is not float32."""
    encoder = Encoder.load(shipped(country.encoder.removeprefix(SHIPPED)), hidden)
    private = outputs(encoder, np.concatenate([hospital.images for hospital in country.hospitals]))
    labels = np.concatenate([hospital.labels for hospital in country.hospitals])
    test, source = outputs(encoder, country.test_images), SystemSource()
    print(f"{country.description}: {len(private)} records, {len(test)} test images, {draws} draws")
    print(f"all numbers of the log-scale map, logistic regression, no noise: AUC {readout(encoder, country):.4f}")
    for epsilon in EPSILONS:
        spec: JointLaplaceSpec = joint_laplace(
            epsilon=epsilon, classes=len(LABELS), bottleneck_dimension=private.shape[1], radius=1
        )
        clipped = clip(to_grid(joint_vector(private, labels, spec.classes), spec.laplace.grid), spec.laplace.clip)
        mechanism = DiscreteLaplace(spec.laplace)
        found = [auc(mechanism(clipped, source).steps, test, country.test_labels) for _ in range(draws)]
        print(
            f"epsilon {epsilon}: AUC {np.mean(found):.4f} +- {np.std(found):.4f}, lowest {min(found):.4f}, "
            f"without noise {auc(clipped.steps, test, country.test_labels):.4f}"
        )


def main() -> None:
    """Measure PneumoniaMNIST, or cxr64 with --patients (every X-ray released, whatever the cap)."""
    parser = argparse.ArgumentParser(prog="python -m examples.demo.draws", description=__doc__)
    parser.add_argument("--patients", action="store_true")
    parser.add_argument("--draws", type=int, default=400)
    parser.add_argument(
        "--bfloat16", action="store_true", help="hidden layers of the flow in bfloat16, to see the loss"
    )
    arguments = parser.parse_args()
    country = hospitals.patients() if arguments.patients else hospitals.choose("file", Path("build"))
    measure(country, arguments.draws, torch.bfloat16 if arguments.bfloat16 else None)


if __name__ == "__main__":
    main()
