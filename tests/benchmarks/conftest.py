"""A data file of drawn chest phantoms with patients, and a small flow that has seen nothing: benchmarks in seconds."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from ldp_client.flow.bottleneck import WHITENED_PCA, Bottleneck, fit_whitened_pca
from ldp_client.flow.encoder import Encoder, EncoderCard
from ldp_client.flow.glow import Glow, Shape
from ldp_client.imaging.phantoms import phantoms
from server.benchmarks.encoded import Encoded, encode_archive
from server.benchmarks.tasks import Archive, Task, read_archive
from server.learning.bundle import write_bundle

COUNTS = {"public": 60, "hospital": 70, "test": 40}
SHAPE = Shape(size=64, levels=2, steps=1, width=4)


@pytest.fixture(scope="session")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Phantoms in the format of cxr64: pairs of X-rays share a patient, and so a group."""
    count = sum(COUNTS.values())
    images, labels = phantoms(count, 64, seed=11, pneumonia_share=0.6)
    patients = np.array([f"p{at // 2}" for at in range(count)])
    generator = np.random.default_rng(4)
    kinds = np.where(labels == 0, "normal", generator.choice(["bacteria", "virus"], size=count))
    path = tmp_path_factory.mktemp("data") / "drawn.npz"
    np.savez(
        path,
        images=images,
        labels=labels,
        label_names=np.array(["normal", "pneumonia"]),
        patient_id=patients,
        group_id=patients,
        split=np.repeat(list(COUNTS), list(COUNTS.values())),
        source=np.full(count, "drawn"),
        subtype=kinds,
    )
    return path


@pytest.fixture(scope="session")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle whose flow has random weights: its log-scale map still varies with the picture."""
    flow = Glow(SHAPE)
    flow.randomise(torch.Generator().manual_seed(0))
    images, _ = phantoms(16, 64, seed=12)
    flow.initialize(torch.from_numpy(images).float()[:, None] / 256 - 0.5)
    with torch.no_grad():
        for parameter in flow.parameters():
            parameter.add_(0.2 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(1)))
    width = SHAPE.map_dimension
    bottleneck = Bottleneck(np.zeros(width), np.ascontiguousarray(np.eye(width)[:8]))
    card = EncoderCard(
        name="untrained",
        data_family="none",
        source="random weights",
        training_images=15,
        held_out_images=1,
        content=64,
        size=64,
        channels=1,
        levels=SHAPE.levels,
        steps=SHAPE.steps,
        width=SHAPE.width,
        bits_per_dim="8.0",
        bottleneck=WHITENED_PCA,
        dimension=8,
        weights_sha256="0" * 64,
        command="ldp-server encoder train --data none.npz",
    )
    folder = tmp_path_factory.mktemp("bundles") / "untrained"
    write_bundle(card, flow, bottleneck, folder)
    return folder


@pytest.fixture(scope="session")
def archive(file: Path) -> Archive:
    return read_archive(file)


@pytest.fixture(scope="session")
def encoded(archive: Archive, bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Encoded:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        return encode_archive(archive, Encoder.load(bundle), tmp_path_factory.mktemp("resume"))
    finally:
        torch.set_num_threads(threads)


@pytest.fixture(scope="session")
def normal() -> Encoded:
    """No pictures at all: maps whose first principal coordinate tells the labels apart with an area near .96."""
    generator = np.random.default_rng(8)
    part = np.repeat(["public", "validation", "hospital", "test"], [300, 100, 600, 300])
    labels = (generator.random(len(part)) < 0.6).astype(np.int64)
    maps = generator.normal(size=(len(part), 10))
    maps[:, 0] += 2.5 * labels
    groups = np.array([str(at) for at in range(len(part))])
    pictures = generator.integers(0, 256, (len(part), 8, 8)).astype(np.uint8)
    archive = Archive(
        "normal",
        None,
        ("none", "none"),
        "0" * 64,
        "image",
        pictures,
        groups,
        part,
        np.isin(part, ["public", "validation"]),
        (Task("pneumonia", ("normal", "pneumonia"), labels),),
    )
    latents = generator.normal(size=(len(part), 64)).astype(np.float32)
    bottleneck = fit_whitened_pca(maps[archive.pool], 8)
    return Encoded(archive, "e" * 64, bottleneck, maps=maps, latents=latents, contrast=maps)
