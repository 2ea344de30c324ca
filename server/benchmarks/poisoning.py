"""A site that crafts its records: every one passes intake, and says the opposite of what honest ones say.

The worst case for the centre: the crafting site knows the class direction exactly. With a codebook it names, of each
seed's public codewords, the one that lies nearest to the opposite direction; with Laplace noise it puts the furthest
value that intake lets through into the coordinate that turns the classifier most.
"""

from __future__ import annotations

import os
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from ldp_client.privacy import codebook, laplace
from ldp_client.privacy.labels import joint_vector, unit_features
from ldp_client.privacy.release_spec import JointCodebookSpec, JointLaplaceSpec, ReleaseSpec
from ldp_client.wire.record import NOISE_LIMIT
from server.benchmarks.arms import Alter
from server.benchmarks.scene import Scene
from server.learning.influence import cap_influence
from server.learning.train import TrainingSet

Floats = NDArray[np.float64]


def poisoned(view: str, crafting: bool, capped: bool) -> Alter:
    """One of the ten sites, a tenth of the records, crafts them all or none; the centre caps site influence or not."""

    def alter(scene: Scene, records: TrainingSet) -> TrainingSet:
        theirs = scene.sites == 0 if crafting else np.zeros(len(scene.sites), dtype=np.bool_)
        release = records.release
        vectors = records.vectors.copy()
        if crafting:
            vectors[theirs] = crafted(release, -honest_direction(scene, release, view), int(theirs.sum()))
        changed = replace(records, vectors=vectors)
        return cap_influence(changed, scene.sites.astype(str)).training_set if capped else changed

    return alter


def honest_direction(scene: Scene, release: ReleaseSpec, view: str) -> Floats:
    """The mean of the joint vectors that honest sites release, before noise. Shape (d,)."""
    outputs = scene.hospital(view)
    if isinstance(release, JointCodebookSpec):
        outputs = unit_features(outputs, None if release.constant is None else float(release.constant))
    direction: Floats = joint_vector(outputs, scene.labels, release.classes, "simplex").mean(0)
    return direction


def crafted(release: ReleaseSpec, target: Floats, count: int) -> Floats:
    """So many decoded records, each as far along `target` as any record of this release can lie. Shape (count, d).

    Each passes `wire.record.check_contents`.
    """
    if isinstance(release, JointCodebookSpec):
        seeds = [os.urandom(codebook.SEED_BYTES) for _ in range(count)]
        indices = []
        for seed in seeds:
            words = codebook.codewords(release.codebook, seed).astype(np.float64)
            indices.append(int(np.argmax(words @ target / np.linalg.norm(words, axis=1))))
        return codebook.decode(release.codebook, indices, seeds)
    if not isinstance(release, JointLaplaceSpec):
        raise TypeError(f"a poisoned joint release was asked for; found {release.kind}")
    furthest = release.laplace.clip.largest_steps + NOISE_LIMIT * (int(release.laplace.scale) + 1)
    steps = np.zeros((count, release.laplace.dimension), dtype=np.int64)
    axis = int(np.argmax(np.abs(target)))
    steps[:, axis] = int(np.sign(target[axis])) * furthest
    return laplace.decode(steps, release.laplace)
