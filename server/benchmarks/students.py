"""The centre's own student (`server.learning.student`) behind the releases of a benchmark."""

from __future__ import annotations

import numpy as np

from ldp_client.privacy.labels import simplex
from server.benchmarks.arms import Floats
from server.benchmarks.scene import Scene
from server.learning.student import Shares, fit_student


def student(scene: Scene, view: str, direction: Floats, shares: Shares | None) -> Floats:
    """Taught further by the public pool in all coordinates of the encoder; labels equally frequent where none says.

    `view` names the coordinates that the direction belongs to: the first ones of the same encoder's bottleneck.
    """
    encoded, classes = scene.encoded, scene.task.classes
    whole = f"bottleneck {encoded.bottleneck.dimension}"
    known = Shares.known(np.full(classes, 1 / classes)) if shares is None else shares
    matrix = fit_student(direction, encoded.view(whole)[encoded.archive.pool], known)
    scores: Floats = scene.test(whole) @ matrix.T @ simplex(classes).T
    return scores
