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

    def log_likelihoods(self, records: Sequence[Contents], which: Rows, labels: Rows) -> Floats:
        """Of the candidates `which` (N, C) of each record, with the labels (N, C). Shape (N, C)."""
        told = zip(records, which, labels, strict=True)
        return np.stack([self._one(record, self._steps(rows, theirs), theirs) for record, rows, theirs in told])

    def without_noise(self, true: Rows, labels: Rows, which: Rows, theirs: Rows) -> Floats:
        """The same where records hold what the mechanisms were given: minus the distance. Shape (N, C).

        `true` (N,) are the X-rays behind the records and `labels` (N,) theirs. A label that is said apart lies one step
        from every other.
        """
        given = self._steps(true, labels)
        found = np.empty(which.shape)
        for at, rows in enumerate(which):
            found[at] = -np.abs(self._steps(rows, theirs[at]) - given[at]).sum(-1)
        return found - (theirs != labels[:, None]) if self.apart else found

    def _steps(self, rows: Rows, labels: Rows) -> NDArray[np.int64]:
        found: NDArray[np.int64] = self.steps[rows, np.zeros_like(labels) if self.apart else labels]
        return found

    def _one(self, record: Contents, steps: NDArray[np.int64], labels: Rows) -> Floats:
        release = self.release
        if isinstance(record, IndexRecord) and isinstance(release, JointCodebookSpec):
            drawn = codebook.codewords(release.codebook, record.seed).astype(np.int64)  # (M, d)
            # By the mechanism's own lengths, whole numbers: at large epsilon a rounding decides who is nearest.
            words = drawn / integer_root((drawn**2).sum(1))[:, None]
            scores = words @ steps.T.astype(np.float64)  # (M, C)
            near = (scores > scores[record.index]).sum(0) < release.codebook.subset
            return np.where(near, float(release.loss), 0.0)
        if isinstance(record, LabelledRecord) and not isinstance(release, JointCodebookSpec | JointLaplaceSpec):
            said = np.where(labels == record.label, float(release.label.loss), 0.0)
            beside: Floats = said - np.abs(record.steps - steps).sum(-1) / float(release.laplace.scale)
            return beside
        if isinstance(record, np.ndarray) and isinstance(release, JointLaplaceSpec):
            joint: Floats = -np.abs(record - steps).sum(-1) / float(release.laplace.scale)
            return joint
        raise TypeError(f"a {type(record).__name__} is no record of a {release.kind} release")


def _given(release: ReleaseSpec, outputs: Floats, label: int) -> NDArray[np.int64]:
    given = prepare(release, outputs, np.full(len(outputs), label, dtype=np.int64))
    return (given.vectors if isinstance(given, ClippedPair) else given).steps
