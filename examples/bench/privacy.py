"""The privacy engine's figures: exact noise beside OpenDP's sampler, codebook records, and the share privacy takes."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import numpy as np
import opendp.prelude as dp
import torch

from examples.bench.rows import Row, alternate, row, seconds
from ldp_client.flow.installed import open_bundle
from ldp_client.imaging.phantoms import phantoms
from ldp_client.privacy.drawing import draw, prepare
from ldp_client.privacy.noise import SystemSource, discrete_laplace
from ldp_client.privacy.release_design import joint_codebook
from ldp_client.privacy.release_spec import JointCodebookSpec
from ldp_client.wire.record import codebook_seed, pack

SAMPLES = 1_000_000
OPENDP_SAMPLES = 20_000
RECORDS = 5_000
RECORDS_A_SECOND = 5_000
IMAGES = 512


def laplace(name: str, scale: int, target: float) -> Row:
    """Exact discrete Laplace samples a second, against OpenDP's sampler on a vector of integers."""
    dp.enable_features("contrib")
    space = dp.vector_domain(dp.atom_domain(T="i64")), dp.l1_distance(T="i64")
    measure = dp.m.make_laplace(*space, scale=float(scale))
    zeros, source = [0] * OPENDP_SAMPLES, SystemSource()
    ours, theirs = alternate(
        lambda: discrete_laplace(Fraction(scale), SAMPLES, source),
        lambda: measure(zeros),
    )
    return row(f"laplace scale {name}", SAMPLES, "samples/s", SAMPLES / ours, OPENDP_SAMPLES / theirs, target)


def _records(release: JointCodebookSpec, outputs: np.ndarray, labels: np.ndarray, source: SystemSource) -> list[bytes]:
    """Prepare, draw and pack, with a seed of its own for each record."""
    seeds = [codebook_seed("c" * 64, "site", charge) for charge in range(len(outputs))]
    return pack(draw(release, prepare(release, outputs, labels), seeds, source))


def codebook() -> Row:
    """Encoder outputs to packed codebook records, k = 8 and M = 1024, against a fixed figure."""
    release = joint_codebook(epsilon=2, classes=2, bottleneck_dimension=8, codewords=1024)
    generator, source = np.random.default_rng(0), SystemSource()
    outputs, labels = generator.normal(size=(RECORDS, 8)), generator.integers(0, 2, RECORDS)
    _records(release, outputs, labels, source)
    rounds = sorted(seconds(lambda: _records(release, outputs, labels, source)) for _ in range(5))
    return row("codebook k=8 M=1024", RECORDS, "records/s", RECORDS / rounds[2], RECORDS_A_SECOND, 1)


def privatize_share() -> Row:
    """Images encoded and made codebook records, against the same images encoded by the shipped encoder alone."""
    encoder = open_bundle("shipped:kermany28", Path())
    release = joint_codebook(epsilon=2, classes=2, bottleneck_dimension=encoder.dimension)
    pictures, diagnoses = phantoms(IMAGES, encoder.content, seed=3, pneumonia_share=0.5)
    images = torch.stack([encoder.prepare(picture) for picture in pictures])
    labels, source = diagnoses.astype(np.int64), SystemSource()
    ours, theirs = alternate(
        lambda: _records(release, encoder.encode(images), labels, source),
        lambda: encoder.encode(images),
    )
    return row("privatize share", IMAGES, "images/s", IMAGES / ours, IMAGES / theirs, 0.8)


def rows() -> list[Row]:
    """Every figure of this suite."""
    return [
        laplace("1", 1, 100),
        laplace("1e3", 1_000, 100),
        laplace("1e6", 1_000_000, 50),
        codebook(),
        privatize_share(),
    ]
