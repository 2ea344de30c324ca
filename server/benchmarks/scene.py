"""One repeat of an experiment: which hospital X-rays take part, with which labels, and what is seen of them.

A scene is what changes between rows that ask about robustness: a shifted population, a rare finding, few records,
unlike sites, labels that are wrong on purpose. Everything in it comes from a generator with a fixed seed; the noise of
a release does not.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from server.benchmarks.encoded import OF_THE_FLOW, Encoded
from server.benchmarks.released import Asking, within_cap
from server.benchmarks.tasks import Task

Floats = NDArray[np.float64]
Labels = NDArray[np.int64]
Rows = NDArray[np.int64]
SITES = 10


@dataclass(frozen=True, eq=False)
class Scene:
    """What an arm works with.

    Attributes:
        rows: the hospital X-rays that are released, as rows of the file; `labels` and `sites` go with them.
        dimmed: (n,) whether the apparatus of its site has 0.8 of the contrast.
        shift: how far the hospitals' population lies from the public one, in public standard deviations.
    """

    encoded: Encoded
    task: Task
    cap: int
    generator: np.random.Generator
    rows: Rows
    labels: Labels
    sites: NDArray[np.int64]
    dimmed: NDArray[np.bool_]
    shift: float = 0.0

    @property
    def asking(self) -> Asking:
        """The campaign that these records belong to."""
        unit = self.encoded.archive.unit
        return Asking(self.encoded.encoder, self.task.label_names, unit, self.cap)

    def hospital(self, view: str) -> Floats:
        """What the encoder says of the released X-rays, (n, k)."""
        outputs = self.encoded.view(view)[self.rows]
        if " " in view and view.startswith(OF_THE_FLOW) and self.dimmed.any():
            outputs = np.where(self.dimmed[:, None], self.encoded.view(f"dim {view}")[self.rows], outputs)
        if self.shift:
            # Another direction each time: how well a shift is borne depends on where it points.
            direction = self.generator.normal(size=outputs.shape[1])
            spread = self.encoded.view(view)[self.encoded.archive.pool].std(0)
            outputs = outputs + self.shift * spread * direction / np.linalg.norm(direction)
        return outputs

    def part(self, name: str) -> Rows:
        """The X-rays of another part that the task concerns, as rows of the file."""
        return np.flatnonzero((self.encoded.archive.part == name) & (self.task.labels >= 0))

    def test(self, view: str) -> Floats:
        """The same of the test X-rays, which are clean."""
        return self.encoded.view(view)[self.part("test")]

    def labels_of(self, name: str) -> Labels:
        """Their labels. Arms ask for those of public X-rays (track L) and of validation (track V), never of test."""
        return self.task.labels[self.part(name)]


Change = Callable[[Scene], Scene]


def scene(encoded: Encoded, task: Task, cap: int, repeat: int, changes: tuple[Change, ...] = ()) -> Scene:
    """The scene of one repeat: the cap, sites at random (whole groups), then the changes in order."""
    generator = np.random.default_rng([repeat, 7919])
    archive = encoded.archive
    hospital = np.flatnonzero((archive.part == "hospital") & (task.labels >= 0))
    rows = hospital[within_cap(archive.groups[hospital], cap, generator)]
    _, member = np.unique(archive.groups[rows], return_inverse=True)
    site = generator.permutation(int(member.max()) + 1) % SITES
    made = Scene(
        encoded, task, cap, generator, rows, task.labels[rows], site[member], np.zeros(len(rows), dtype=np.bool_)
    )
    for change in changes:
        made = change(made)
    return made


def kept(found: Scene, chosen: Rows) -> Scene:
    """Only some of the records."""
    return replace(
        found,
        rows=found.rows[chosen],
        labels=found.labels[chosen],
        sites=found.sites[chosen],
        dimmed=found.dimmed[chosen],
    )


def shifted(deviations: float) -> Change:
    """The hospitals' population lies `deviations` standard deviations from the public one, in a random direction."""
    return lambda found: replace(found, shift=deviations)


def rare(share: float) -> Change:
    """The last label has this share of the records: some of its X-rays are left out."""

    def change(found: Scene) -> Scene:
        ill = found.labels == found.task.classes - 1
        wanted = max(1, round(share / (1 - share) * int((~ill).sum())))
        chosen = found.generator.choice(np.flatnonzero(ill), size=min(wanted, int(ill.sum())), replace=False)
        return kept(found, np.sort(np.concatenate([np.flatnonzero(~ill), chosen])))

    return change


def balanced(found: Scene) -> Scene:
    """Every label equally frequent: of the frequent ones some X-rays are left out."""
    counts = np.bincount(found.labels, minlength=found.task.classes)
    parts = [
        found.generator.choice(np.flatnonzero(found.labels == label), size=int(counts.min()), replace=False)
        for label in range(found.task.classes)
    ]
    return kept(found, np.sort(np.concatenate(parts)))


def few(records: int) -> Change:
    """No more than so many records."""

    def change(found: Scene) -> Scene:
        count = min(records, len(found.rows))
        return kept(found, np.sort(found.generator.choice(len(found.rows), size=count, replace=False)))

    return change


def uneven(found: Scene) -> Scene:
    """Three sites of 70, 20 and 10 %: the second sees mostly one label, the third has 0.8 of the contrast."""
    ill = found.labels == found.task.classes - 1
    weight = np.where(ill, 9.0, 1.0)
    order = np.argsort(-np.log(found.generator.random(len(ill))) / weight)
    second = order[: round(0.2 * len(order))]
    rest = found.generator.permutation(order[round(0.2 * len(order)) :])
    third = rest[: round(0.1 * len(order))]
    sites = np.zeros(len(order), dtype=np.int64)
    sites[second], sites[third] = 1, 2
    return replace(found, sites=sites, dimmed=sites == 2)


def inverted(found: Scene) -> Scene:
    """A control: every label turned into its mirror image, so a classifier must turn around."""
    return replace(found, labels=found.task.classes - 1 - found.labels)


def permuted(found: Scene) -> Scene:
    """A control: labels that belong to other X-rays, so nothing can be learnt."""
    return replace(found, labels=found.generator.permutation(found.labels))
