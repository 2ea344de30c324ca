"""How likely each candidate makes a record: all that an attacker who holds candidates can know of it.

For a record r and a candidate X-ray x with a label y, log P(r | x, y) up to a number that is the same for all:

- Laplace on integers: - |r - c(x, y)|_1 / scale, c what the mechanism was given;
- a codebook: epsilon if the named codeword is one of the s that lie nearest to (x, y), else 0;
- an X-ray and a label apart: the sum over both, the label's part being its epsilon if it was said, else 0.

Encoder, release, codewords and scales are public, so no attacker needs to learn anything.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from ldp_client.privacy import codebook
from ldp_client.privacy.clipping import integer_root
from ldp_client.privacy.drawing import ClippedPair, prepare
from ldp_client.privacy.release_spec import JointCodebookSpec, JointLaplaceSpec, ReleaseSpec
from ldp_client.wire.record import Contents, IndexRecord, LabelledRecord

Floats = NDArray[np.float64]
Rows = NDArray[np.int64]


class Candidates:
    """What the mechanism would be given for each of P X-rays and each label, in steps: (P, K, d).

    Where the label is said apart the steps are the same for all of them: (P, 1, d).
    """

    def __init__(self, release: ReleaseSpec, outputs: Floats) -> None:
        self.release = release
        self.apart = not isinstance(release, JointCodebookSpec | JointLaplaceSpec)
        labels = range(1 if self.apart else release.classes)
        self.steps = np.stack([_given(release, outputs, label) for label in labels], axis=1)

    def log_likelihoods(self, records: Sequence[Contents], which: Rows) -> Floats:
        """Of the candidates `which` (N, C) of each record, with each label. Shape (N, C, K)."""
        return np.stack([self._one(record, self.steps[rows]) for record, rows in zip(records, which, strict=True)])

    def without_noise(self, true: Rows, labels: Rows, which: Rows) -> Floats:
        """The same where records hold what the mechanisms were given: minus the distance. Shape (N, C, K).

        `true` (N,) are the X-rays behind the records and `labels` (N,) theirs. A label that is said apart lies one step
        from every other.
        """
        found = np.empty((*which.shape, self.release.classes))
        for at, (row, label, rows) in enumerate(zip(true, labels, which, strict=True)):
            found[at] = -np.abs(self.steps[rows] - self.steps[row, 0 if self.apart else label]).sum(-1)
            if self.apart:
                found[at] -= np.arange(self.release.classes) != label
        return found

    def _one(self, record: Contents, steps: NDArray[np.int64]) -> Floats:
        release = self.release
        if isinstance(record, IndexRecord) and isinstance(release, JointCodebookSpec):
            drawn = codebook.codewords(release.codebook, record.seed).astype(np.int64)  # (M, d)
            # By the mechanism's own lengths, whole numbers: at large epsilon a rounding decides who is nearest.
            words = drawn / integer_root((drawn**2).sum(1))[:, None]
            scores = words @ steps.reshape(-1, words.shape[1]).T.astype(np.float64)  # (M, C K)
            near = (scores > scores[record.index]).sum(0) < release.codebook.subset
            return np.where(near, float(release.loss), 0.0).reshape(steps.shape[:2])
        if isinstance(record, LabelledRecord) and not isinstance(release, JointCodebookSpec | JointLaplaceSpec):
            distance = np.abs(record.steps - steps).sum(-1)  # (C, 1): the same for every label
            said = np.where(np.arange(release.classes) == record.label, float(release.label.loss), 0.0)
            found: Floats = said - distance / float(release.laplace.scale)
            return found
        if isinstance(record, np.ndarray) and isinstance(release, JointLaplaceSpec):
            joint: Floats = -np.abs(record - steps).sum(-1) / float(release.laplace.scale)
            return joint
        raise TypeError(f"a {type(record).__name__} is no record of a {release.kind} release")


def _given(release: ReleaseSpec, outputs: Floats, label: int) -> NDArray[np.int64]:
    given = prepare(release, outputs, np.full(len(outputs), label, dtype=np.int64))
    return (given.vectors if isinstance(given, ClippedPair) else given).steps
