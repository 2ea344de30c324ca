"""`python -m examples.choose_coordinates BUNDLE DATA.npz`: how many coordinates to release, from public X-rays alone.

Nobody knows beforehand in which coordinates a finding shows; public X-rays have pseudo-findings to try it on
(`server.learning.pseudo_findings`). For each epsilon and each k the campaign is simulated on half of the public X-rays,
with the noise of as many records as are expected, and judged on the other half. Chosen is the smallest k
whose mean AUC is within 0.03 of the best: findings that show early are likelier than these, and few coordinates bear
noise better. No label is read.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import roc_auc_score

from ldp_client.flow.installed import open_bundle
from ldp_client.privacy.codebook import noise_variance
from ldp_client.privacy.labels import simplex
from ldp_client.privacy.release_design import joint_codebook
from server.learning.pseudo_findings import pseudo_findings
from server.learning.public_images import encoded, read_images
from server.learning.public_subset import public_indices

EPSILONS = ("0.5", "1", "2", "4", "8", "16")
TRIED = (1, 2, 3, 4, 5, 6, 8, 12, 16)
FINDINGS = 100
NEAR = 0.03
CONSTANTS = (None, "7/10")
Floats = NDArray[np.float64]


def simulated(z: Floats, findings: list[NDArray[np.int64]], records: int, epsilon: str, k: int, constant: str | None,
              generator: np.random.Generator) -> float:  # fmt: skip
    """Mean AUC over the findings: the mean of joint codebook releases of one half scores the other half."""
    spec = joint_codebook(epsilon=epsilon, classes=2, bottleneck_dimension=k, label_code="simplex", constant=constant)
    carried = 0.0 if constant is None else float(spec.constant or 0)
    error = np.sqrt(noise_variance(spec.codebook) / records)
    half, areas = len(z) // 2, []
    unit = np.sqrt(1 - carried**2) * z[:half, :k] / np.linalg.norm(z[:half, :k], axis=1, keepdims=True)
    for labels in findings:
        mean = (simplex(2)[labels[:half]] * unit).mean(0) + error * generator.normal(size=k)
        if len(set(labels[half:].tolist())) == 2:
            areas.append(roc_auc_score(labels[half:], z[half:, :k] @ (mean * simplex(2)[1, 0])))
    return float(np.mean(areas))


def main() -> None:
    """Print the mean AUC of every k at every epsilon, and the k that is chosen."""
    parser = argparse.ArgumentParser(prog="python -m examples.choose_coordinates", description=__doc__)
    parser.add_argument("bundle", help='the encoder, a folder or "shipped:NAME"')
    parser.add_argument("data", type=Path, help="the public X-rays, an .npz")
    parser.add_argument("--split", default="", help="only rows whose field `split` says so")
    parser.add_argument("--public", type=int, default=0, help="so many images, by the SHA-256 of their pixels")
    parser.add_argument("--records", type=int, default=2700, help="how many records are expected")
    arguments = parser.parse_args()
    encoder = open_bundle(arguments.bundle, Path())
    images = read_images(arguments.data, key="", split=arguments.split, side=encoder.content)
    z = encoded(encoder, images[public_indices(images, arguments.public or len(images))])
    generator = np.random.default_rng(0)
    findings = list(pseudo_findings(z, 2, FINDINGS, generator))
    tried = [k for k in TRIED if k <= encoder.dimension]
    print(f"{len(z)} public X-rays, {FINDINGS} pseudo-findings, {arguments.records} records; mean AUC of k = {tried}")
    for constant in CONSTANTS:
        for epsilon in EPSILONS:
            # With one coordinate and no constant a release is a yes or no, which the codebook does not do.
            ks = [k for k in tried if k > 1 or constant]
            found = [simulated(z, findings, arguments.records, epsilon, k, constant, generator) for k in ks]
            chosen = next(k for k, one in zip(ks, found, strict=True) if one >= max(found) - NEAR)
            shown = " ".join(f"{one:.3f}" for one in found)
            print(f"constant {constant or 'none'}, epsilon {epsilon:>3}: k = {chosen:2}   ({shown})")


if __name__ == "__main__":
    main()
