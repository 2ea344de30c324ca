"""Who holds which X-rays in the demo: one public pool, three hospitals, one test set."""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ldp_client.errors import ConfigurationError, ExchangeError
from ldp_client.flow.encoder import read_card, shipped
from ldp_client.imaging.phantoms import phantoms
from ldp_client.wire.campaign import Unit
from server.datasets import fetch_pneumoniamnist, load_cxr64, load_pneumoniamnist
from server.learning.bundle import refit_bottleneck
from server.learning.public_subset import public_indices

LABELS = ("normal", "pneumonia")
FETCH_SECONDS = 20.0
BOTTLENECK = 2
Images = NDArray[np.uint8]
Labels = NDArray[np.int64]


@dataclass(frozen=True)
class Hospital:
    """One simulated site's X-rays. `patients` are ids as a hospital would type them, where there are any."""

    id: str
    name: str
    images: Images
    labels: Labels
    patients: tuple[str, ...] | None = None


@dataclass(frozen=True)
class Country:
    """Everything that the demo works on. The public pool and the test set are nobody's private X-rays."""

    description: str
    encoder: str
    unit: Unit
    cap: int
    epsilon: str
    lifetime: str
    public_images: Images
    hospitals: tuple[Hospital, ...]
    test_images: Images
    test_labels: Labels


def choose(data: str, build: Path) -> Country:
    """The data that `--data` asks for: auto, file, fetch or phantoms.

    Raises:
        ConfigurationError: `file` without a file in LDP_DATA.
        ExchangeError: `fetch` and the publisher could not be reached.
    """
    local = Path(os.environ.get("LDP_DATA", "")) / "pneumoniamnist.npz"
    found = bool(os.environ.get("LDP_DATA")) and local.is_file()
    if data == "file" and not found:
        raise ConfigurationError("--data file needs pneumoniamnist.npz in the folder that LDP_DATA names; found none")
    if data in ("auto", "file") and found:
        return pneumonia_mnist(local, "PneumoniaMNIST (real X-rays, from LDP_DATA)")
    if data in ("auto", "fetch"):
        target = build / "data" / "pneumoniamnist.npz"
        try:
            if not target.is_file():
                target.parent.mkdir(parents=True, exist_ok=True)
                fetch_pneumoniamnist(target, timeout_seconds=FETCH_SECONDS)
            return pneumonia_mnist(target, "PneumoniaMNIST (real X-rays, from its publisher)")
        except ExchangeError:
            if data == "fetch":
                raise
    return synthetic(build)


def pneumonia_mnist(path: Path, description: str) -> Country:
    """2,000 train images are public (chosen by a hash of their pixels), the rest the hospitals'; the official test set.

    PneumoniaMNIST names no patients, so the unit is one image.
    """
    data = load_pneumoniamnist(path)
    public = public_indices(data.train_images)
    private = np.setdiff1d(np.arange(len(data.train_images)), public)
    return Country(
        description,
        encoder="shipped:kermany28",
        unit="image",
        cap=1,
        epsilon="2",
        lifetime="8",
        public_images=data.train_images[public],
        hospitals=_divide(data.train_images[private], data.train_labels[private].astype(np.int64)),
        test_images=data.test_images,
        test_labels=data.test_labels.astype(np.int64),
    )


def synthetic(build: Path) -> Country:
    """Synthetic phantoms: nobody's X-rays.

    The shipped flow has never seen one, and its bottleneck is centred on real films; so another bottleneck is fitted
    behind the same flow, on the public phantoms.
    """
    images, labels = phantoms(3_500, 28, seed=11, pneumonia_share=0.6)
    pool, private, test = np.split(np.arange(3_500), [1_000, 3_000])
    bundle = build.resolve() / "data" / f"phantoms28-{read_card(shipped()).digest[:12]}"
    if not bundle.is_dir():
        refit_bottleneck(shipped(), images[pool], BOTTLENECK, "python -m examples.demo --data phantoms", bundle)
    return Country(
        "synthetic chest phantoms (no real X-ray was found or could be fetched)",
        encoder=str(bundle),
        unit="image",
        cap=1,
        epsilon="2",
        lifetime="8",
        public_images=images[pool],
        hospitals=_divide(images[private], labels[private].astype(np.int64)),
        test_images=images[test],
        test_labels=labels[test].astype(np.int64),
    )


def _divide(images: Images, labels: Labels) -> tuple[Hospital, ...]:
    """Unevenly: one hospital sees mostly pneumonia, one has an older machine with 0.8 of the contrast."""
    order = np.argsort([hashlib.sha256(b"demo" + image.tobytes()).digest() for image in images], kind="stable")
    ill, well = order[labels[order] == 1], order[labels[order] == 0]
    a_ill, a_well = len(ill) * 2 // 5, len(well) // 10
    b_ill, b_well = len(ill) // 4, len(well) * 3 // 10
    first = np.concatenate([ill[:a_ill], well[:a_well]])
    second = np.concatenate([ill[a_ill : a_ill + b_ill], well[a_well : a_well + b_well]])
    third = np.concatenate([ill[a_ill + b_ill :], well[a_well + b_well :]])
    return (
        Hospital("st-anna", "St. Anna Children's Hospital", images[first], labels[first]),
        Hospital("lakeside", "Lakeside Clinic", _flatten(images[second]), labels[second]),
        Hospital("north", "North General Hospital", images[third], labels[third]),
    )


def _flatten(images: Images) -> Images:
    """Contrast x 0.8 around each image's own mean."""
    mean = images.mean(axis=(1, 2), keepdims=True)
    flat: Images = np.rint(mean + 0.8 * (images - mean)).astype(np.uint8)
    return flat


def patients() -> Country:
    """cxr64 with real repeat visits: the unit is the patient (group_id), two records each at most.

    Raises:
        ConfigurationError: LDP_DATA has no cxr64.npz.
    """
    path = Path(os.environ.get("LDP_DATA", "")) / "cxr64.npz"
    if not os.environ.get("LDP_DATA") or not path.is_file():
        raise ConfigurationError("the patients' demo needs cxr64.npz in the folder that LDP_DATA names; found none")
    data = load_cxr64(path)
    chosen = {split: np.flatnonzero(data.split == split) for split in ("public", "hospital", "test")}
    groups = np.unique(data.group_id[chosen["hospital"]])
    groups = groups[np.argsort([hashlib.sha256(b"demo" + group.encode()).digest() for group in groups], kind="stable")]
    hospitals = []
    names = (("st-anna", "St. Anna Children's Hospital"), ("lakeside", "Lakeside Clinic"), ("north", "North General"))
    for (site, name), members in zip(
        names, np.array_split(groups, [len(groups) // 2, len(groups) * 4 // 5]), strict=True
    ):
        rows = chosen["hospital"][np.isin(data.group_id[chosen["hospital"]], members)]
        ids = tuple(str(group) for group in data.group_id[rows])
        hospitals.append(Hospital(site, name, data.images[rows], data.labels[rows].astype(np.int64), ids))
    return Country(
        "cxr64 (real X-rays of children, several of some patients)",
        encoder="shipped:kermany28-groups",
        unit="patient",
        cap=2,
        epsilon="1",
        lifetime="8",
        public_images=data.images[chosen["public"]],
        hospitals=tuple(hospitals),
        test_images=data.images[chosen["test"]],
        test_labels=data.labels[chosen["test"]].astype(np.int64),
    )
