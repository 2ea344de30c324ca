"""Lower bounds on epsilon for whole releases: from the encoder's floats and a label to what a record says.

X-ray and label are replaced together where that gives away most. The attacker knows all that is public: the mechanism,
the encoder's output for both X-rays, and the seed of a record's codewords.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from ldp_client.audit.engine import Engine, Floats
from ldp_client.audit.estimates import BEYOND, Case, beyond
from ldp_client.audit.findings import Effort
from ldp_client.privacy.codebook import nearest
from ldp_client.privacy.drawing import ClippedPair, prepare
from ldp_client.privacy.noise import ByteSource
from ldp_client.privacy.release_design import dp_glow, joint_codebook, joint_laplace, latent
from ldp_client.privacy.release_spec import DpGlowSpec, JointCodebookSpec, JointLaplaceSpec, LatentSpec
from ldp_client.wire.record import IndexRecord, LabelledRecord, codebook_seed

_LABELS = (1, 0)
_Ends = tuple[Floats, Floats]


def release_cases(engine: Engine, effort: Effort, source: ByteSource) -> Iterable[Case]:
    """Each kind of release."""
    far = np.array([BEYOND, np.nan, -np.inf, 0.0])
    simplex = joint_laplace(epsilon=2, classes=2, bottleneck_dimension=4, radius=1)
    yield vector_case("joint Laplace, simplex code", engine, simplex, (far, far), effort.records, source)
    one_hot = joint_laplace(
        epsilon=2, classes=3, bottleneck_dimension=1, radius=1, label_code="one_hot", constant="1/4"
    )
    yield vector_case("joint Laplace, one-hot code", engine, one_hot, (far[:1], -far[:1]), effort.records, source)
    yield latent_case(engine, effort.records, source)
    flow = dp_glow(epsilon=3, label_epsilon=1, classes=2, latents=3)
    ends = np.array([BEYOND, 3.0, 5.0])
    yield vector_case("dp_glow", engine, flow, (ends, -ends), effort.records, source)
    small = joint_codebook(epsilon=1, classes=2, bottleneck_dimension=3, codewords=16)
    yield codebook_case("joint codebook, 16 codewords", engine, small, far[:3], effort.records, source)
    large = joint_codebook(epsilon=4, classes=2, bottleneck_dimension=8, codewords=1024)
    yield codebook_case("joint codebook, 1024 codewords", engine, large, np.arange(1.0, 9.0), effort.codebooks, source)


def latent_case(engine: Engine, samples: int, source: ByteSource) -> Case:
    """A vector and a label, each with its share of epsilon."""
    spec = latent(epsilon=3, label_epsilon=1, classes=2, bottleneck_dimension=4, radius=1)
    far = np.array([BEYOND, np.nan, -np.inf, 0.0])
    return vector_case("latent", engine, spec, (far, -far), samples, source)


def vector_case(
    name: str,
    engine: Engine,
    release: JointLaplaceSpec | LatentSpec | DpGlowSpec,
    outputs: _Ends,
    samples: int,
    source: ByteSource,
) -> Case:
    """The first output with label 1 against the second with label 0: no coordinate between both, the right label."""
    ends = [
        prepare(release, one[None, :], np.array([label], dtype=np.int64))
        for one, label in zip(outputs, _LABELS, strict=True)
    ]
    first, second = ((end.vectors if isinstance(end, ClippedPair) else end).steps for end in ends)

    def hits(which: int, count: int) -> int:
        rows = np.repeat(outputs[which][None, :], count, axis=0)
        labels = np.full(count, _LABELS[which], dtype=np.int64)
        steps, right = [], []
        for said in engine.release(release, rows, labels, [b""] * count, source):
            if isinstance(said, LabelledRecord):
                right.append(said.label == _LABELS[0])
                steps.append(said.steps)
            elif not isinstance(said, IndexRecord):
                right.append(True)
                steps.append(said)
        return int(np.count_nonzero(beyond(np.array(steps), first, second) & np.array(right)))

    return Case(f"record: {name}", float(engine.loss(release)), samples, hits)


def codebook_case(
    name: str, engine: Engine, release: JointCodebookSpec, output: Floats, samples: int, source: ByteSource
) -> Case:
    """One X-ray with label 1 against the same with label 0: does the index lie near the first one's direction?"""
    end = prepare(release, output[None, :], np.array([_LABELS[0]], dtype=np.int64))
    direction = (end.vectors if isinstance(end, ClippedPair) else end).steps

    def hits(which: int, count: int) -> int:
        seeds = [codebook_seed("audit", name, number) for number in range(count)]
        rows = np.repeat(output[None, :], count, axis=0)
        said = engine.release(release, rows, np.full(count, _LABELS[which], dtype=np.int64), seeds, source)
        near = nearest(release.codebook, np.repeat(direction, count, axis=0), seeds)
        return sum(bool(row[one.index]) for row, one in zip(near, said, strict=True) if isinstance(one, IndexRecord))

    return Case(f"record: {name}", float(engine.loss(release)), samples, hits)
