"""Every row that `bench utility` measures: which arm, under which circumstances, at which epsilons."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from fractions import Fraction

import numpy as np

from server.benchmarks.arms import Arm, Floats, Student, Wanted, ours
from server.benchmarks.chosen import chosen, chosen_by
from server.benchmarks.encoded import Encoded
from server.benchmarks.networks import central, networks
from server.benchmarks.peers import everything, public_only, taught_by_nobody
from server.benchmarks.pictures import QUICK_SAMPLES, SAMPLES, pictures
from server.benchmarks.poisoning import poisoned
from server.benchmarks.scene import Change, balanced, few, inverted, permuted, rare, scene, shifted, uneven
from server.benchmarks.tasks import Task

EPSILONS = ("1/2", "1", "2", "4", "8", "16")
TOLD_EPSILONS = EPSILONS[:-1]
"""At 16 a codebook of `one_hot` records takes minutes to draw, and the student has found what it can."""
_TOLD = {"1/2": 2, "1": 4, "2": 4, "4": 8, "8": 8}
"""Coordinates of a `one_hot` record behind which a student stands, by epsilon of a record: tried on validation X-rays
of PneumoniaMNIST (docs/decisions/0054); half of what `simplex` bears or less, since the code doubles the dimension."""
QUICK_EPSILONS = ("1", "4")
EDGE_EPSILONS = ("1", "2", "4")
PICTURE_EPSILONS = ("1", "2", "4")
"""Networks take half a minute to learn from pictures."""
QUICK_REPEATS = 3
_SLOW = 2.0
"""Seconds a repeat, from which on a quick run is content with one."""
PARTS = ("networks", "dp-sgd", "dp-glow", "student", "variants", "pictures", "edges")
"""What may be left out by name; `variants` are our releases that are not the chosen ones."""

_COUNTS = (2, 4, 8)
_EIGHT = Wanted("codebook", "map 8")
_TWO = Wanted("codebook", "map 2")
RELEASES = (
    _TWO,
    Wanted("laplace", "map 2"),
    Wanted("latent", "map 2"),
    _EIGHT,
    Wanted("codebook", "map 2", "simplex", "1/2"),
    Wanted("codebook", "map 2", "one_hot", "1/2"),
    Wanted("codebook", "map 4"),
    Wanted("codebook", "map 8", "simplex", "1/2"),
    Wanted("codebook", "map 8", "one_hot", "1/2"),
    Wanted("laplace", "map 2", "one_hot", "1", "2"),
    Wanted("laplace", "map 8", radius="2"),
    Wanted("laplace", "map 8", "one_hot", "1", "3"),
    Wanted("latent", "map 8", radius="2"),
)
STATISTICS = (
    Wanted("codebook", "statistics 2"),
    Wanted("codebook", "statistics 4"),
    Wanted("codebook", "statistics 8"),
)
EDGED = (_TWO, _EIGHT, Wanted("codebook", "map 8", "one_hot", "1/2"))
CONTROL = Wanted("laplace", "map 8", "one_hot", "1", "3")
"""Of the control with permuted labels: its class means are told apart whatever the prevalence, and it is drawn fast."""
CONTROL_REPEATS = 100
"""So many, since the direction of permuted labels is a matter of chance, and only its mean says that nothing leaks."""
ORIENTATION = Wanted("codebook", "bottleneck 1", "simplex", "7/10")
"""One coordinate and the labels' shares: all that hospitals need to say where a student does the rest."""


@dataclass(frozen=True, eq=False)
class Entry:
    """An arm under some circumstances, at one epsilon per unit.

    Attributes:
        circumstances: what the task's name gets behind it ("shifted 1 sd"); empty for things as they are.
        epsilon: per unit (cap times that of a record); None where nothing is noised.
        forecast: the release whose forecast by the planner stands beside the measurement.
    """

    arm: Arm
    cap: int
    epsilon: Fraction | None
    circumstances: str = ""
    changes: tuple[Change, ...] = ()
    forecast: Wanted | None = None

    @property
    def per_record(self) -> Fraction | None:
        """Epsilon of one record, image and label together."""
        return None if self.epsilon is None else self.epsilon / self.cap

    def scores(self, encoded: Encoded, task: Task, repeats: int) -> Floats:
        """Of the test X-rays (T) after each of so many independent releases, (repeats, T) or (repeats, T, K)."""
        drawn = (scene(encoded, task, self.cap, repeat, self.changes) for repeat in range(repeats))
        return np.stack([self.arm.score(one, self.per_record) for one in drawn])


@dataclass(frozen=True)
class Extent:
    """How much of the table a run measures.

    Attributes:
        dimension: coordinates of the encoder's own bottleneck.
        student: what stands behind the chosen release, where there is one.
        public_labels: whether public X-rays have labels; where not, tracks V and L have no public-only model.
        records: of a patient's group or image, all that there are.
    """

    quick: bool = False
    without: tuple[str, ...] = ()
    dimension: int = 0
    student: Student | None = None
    public_labels: bool = True
    records: int = 10**9

    def has(self, part: str) -> bool:
        """Whether a part that may be left out is wanted."""
        return part not in self.without

    def shown(self, epsilons: tuple[str, ...]) -> list[Fraction]:
        """The epsilons per unit that are measured."""
        return [Fraction(epsilon) for epsilon in (QUICK_EPSILONS if self.quick else epsilons)]

    def edges(self) -> list[Fraction]:
        """The epsilons at which edges are measured."""
        return self.shown(EDGE_EPSILONS)[-1:] if self.quick else self.shown(EDGE_EPSILONS)


def entries(data: str, task: Task, cap: int, extent: Extent) -> list[Entry]:
    """The table of one task and cap, in the order in which they are measured: cheap and telling rows first.

    A cap above 1 shows the releases of ours alone: peers take one record of a patient. With more than two labels the
    peers are left out as well, and of controls and edges stay permuted labels and what was chosen.
    """
    made = list(_without_epsilon(data, task, extent)) if cap == 1 else []
    made += _ours(data, task, cap, extent)
    if cap == 1 and task.classes == 2:
        made += _pictures(extent)
        made += _peers(extent)
        if extent.has("edges"):
            made += [*_controls(data, task, extent), *_edges(data, task, extent), *_crafting(data, task, extent)]
            if extent.student is not None and extent.has("student"):
                made += _student_edges(data, task, extent)
    if cap == 1 and task.classes > 2 and extent.has("edges"):
        made += [_permuted(extent), *_edges(data, task, extent, ())]
    if not extent.quick:
        return made
    return [replace(entry, arm=_sooner(entry.arm)) for entry in made]


def _sooner(arm: Arm) -> Arm:
    most = arm.repeats if arm.repeats == CONTROL_REPEATS else 1 if arm.seconds > _SLOW else QUICK_REPEATS
    return replace(arm, repeats=min(arm.repeats, most), repeats_of_few=0)


def _without_epsilon(data: str, task: Task, extent: Extent) -> Iterator[Entry]:
    views = [chosen(data, task.name, epsilon).view for epsilon in extent.shown(EPSILONS)]
    of_a_level = tuple(dict.fromkeys(view for view in views if view.startswith("level")))
    public = public_only(task.classes, max(1, extent.dimension), of_a_level)
    arms = [
        *(arm for arm in public if arm.track == "U" or extent.public_labels),
        *(arm for arm in everything(task.classes) if not arm.private),
    ]
    arms += [_clean(f"{kind} {k}") for kind in ("map", "statistics") for k in _COUNTS]
    arms += [_clean(wanted.view) for wanted in _own(extent)]
    arms += [_clean(view) for view in of_a_level]
    if extent.has("networks"):
        arms += networks()
    if extent.student is not None and extent.has("student") and task.classes == 2:
        arms += taught_by_nobody(extent.student, extent.dimension)
    for arm in arms:
        yield Entry(arm, 1, None)


def _own(extent: Extent) -> list[Wanted]:
    return [Wanted("codebook", f"bottleneck {k}") for k in _COUNTS if k <= extent.dimension]


def _heads(extent: Extent) -> list[Wanted]:
    """More coordinates than noise leaves room for: what a head is there to bear."""
    counts = (8, extent.dimension)
    return [
        Wanted("codebook", f"bottleneck {k}", head=True) for k in dict.fromkeys(counts) if 8 <= k <= extent.dimension
    ]


def _labels_apart(extent: Extent) -> list[Wanted]:
    """The encoder's own coordinates with the label said apart: what other tasks can be learnt from as well."""
    return [Wanted("latent", "bottleneck 2")] if extent.dimension > 1 else []


def _clean(view: str) -> Arm:
    plain = ours(Wanted("codebook", view), private=False, repeats=1, seconds=0.1)
    return replace(plain, release="no noise", mechanism="none", label_code="none")


def _ours(data: str, task: Task, cap: int, extent: Extent) -> Iterator[Entry]:
    students = [None] if extent.student is None or not extent.has("student") else [None, extent.student]
    for epsilon in extent.shown(EPSILONS):
        for student in students:
            arm, wanted = _as_chosen(data, task, epsilon / cap, extent, student)
            yield Entry(arm, cap, epsilon, forecast=wanted if student is None else None)
    if len(students) > 1:
        yield from _estimating(task, cap, extent)
    if not extent.has("variants"):
        return
    releases = (*RELEASES[:4], STATISTICS[0]) if extent.quick or cap > 1 else (*RELEASES, *STATISTICS)
    for wanted in (*_own(extent), *_heads(extent), *_labels_apart(extent), *releases):
        for epsilon in extent.shown(EPSILONS):
            # The planner knows of no head.
            yield Entry(ours(wanted), cap, epsilon, forecast=None if wanted.head else wanted)


def _estimating(task: Task, cap: int, extent: Extent) -> Iterator[Entry]:
    """A student that is told no shares of the public X-rays, and one to whom hospitals say hardly more than shares."""
    for epsilon in extent.shown(TOLD_EPSILONS):
        yield Entry(_told(epsilon / cap, extent), cap, epsilon)
    if task.classes == 2 and cap == 1 and extent.dimension:
        for epsilon in extent.shown(TOLD_EPSILONS):
            yield Entry(ours(ORIENTATION, student=extent.student), 1, epsilon)


def _told(per_record: Fraction, extent: Extent) -> Arm:
    """Records that tell each class's mean, and the student behind them."""
    below = [k for start, k in _TOLD.items() if Fraction(start) <= per_record] or [min(_TOLD.values())]
    wanted = Wanted("codebook", f"bottleneck {max(below)}", "one_hot", "7/10").within(extent.dimension)
    return ours(wanted, student=extent.student, track="V", chosen_by="validation X-rays")


def _student_edges(data: str, task: Task, extent: Extent) -> Iterator[Entry]:
    """Where hospitals' labels are more or less frequent than the public ones, or their X-rays of another kind."""
    circumstances: tuple[tuple[str, Change], ...] = (
        ("10 % prevalence", rare(0.1)),
        ("labels equally frequent", balanced),
        ("shifted 1 sd", shifted(1)),
    )
    for name, change in circumstances:
        for epsilon in extent.edges():
            if not chosen(data, task.name, epsilon).view.startswith("bottleneck"):
                continue
            yield Entry(_as_chosen(data, task, epsilon, extent, extent.student)[0], 1, epsilon, name, (change,))
            yield Entry(_told(epsilon, extent), 1, epsilon, name, (change,))


def _pictures(extent: Extent) -> Iterator[Entry]:
    if extent.dimension < 2 or not extent.has("pictures"):
        return
    arm = pictures(extent.dimension, QUICK_SAMPLES if extent.quick else SAMPLES)
    for epsilon in extent.shown(PICTURE_EPSILONS):
        yield Entry(arm, 1, epsilon)


def _peers(extent: Extent) -> Iterator[Entry]:
    arms = [arm for arm in everything(2) if arm.private] if extent.has("dp-glow") else []
    if extent.has("dp-sgd"):
        arms += central()
    for arm in arms:
        for epsilon in extent.shown(EPSILONS):
            yield Entry(arm, 1, epsilon)


def _controls(data: str, task: Task, extent: Extent) -> Iterator[Entry]:
    epsilon, theirs = extent.shown(EPSILONS)[-1], extent.shown(EDGE_EPSILONS)[-1]
    alone, _ = _as_chosen(data, task, theirs, extent)
    yield Entry(ours(_TWO), 1, epsilon, "labels inverted", (inverted,))
    yield Entry(alone, 1, theirs, "labels inverted", (inverted,))
    if extent.student is not None and extent.has("student"):
        told, _ = _as_chosen(data, task, theirs, extent, extent.student)
        yield Entry(told, 1, theirs, "labels inverted", (inverted,))
    yield _permuted(extent)
    if extent.quick:
        return
    # Without a constant a release says where the hospitals' mean lies as soon as labels are unequally frequent.
    unequal, equal = "labels permuted, simplex", "labels permuted, simplex, equally frequent"
    plain = ours(Wanted("laplace", "map 2"), repeats=CONTROL_REPEATS)
    yield Entry(plain, 1, epsilon, unequal, (permuted,))
    yield Entry(plain, 1, epsilon, equal, (balanced, permuted))
    yield Entry(replace(alone, repeats=CONTROL_REPEATS), 1, theirs, equal, (balanced, permuted))


def _permuted(extent: Extent) -> Entry:
    arm = ours(CONTROL, repeats=CONTROL_REPEATS)
    return Entry(arm, 1, extent.shown(EPSILONS)[-1], "labels permuted", (permuted,))


def _as_chosen(
    data: str, task: Task, epsilon: Fraction, extent: Extent, student: Student | None = None
) -> tuple[Arm, Wanted]:
    """The release that was chosen for an epsilon per record, learnt from alone or by a student behind it."""
    taught = student is not None
    wanted = chosen(data, task.name, epsilon, student=taught).within(extent.dimension)
    return ours(wanted, student=student, chosen_by=chosen_by(data, task.name, student=taught)), wanted


def _edges(data: str, task: Task, extent: Extent, beside: tuple[Wanted, ...] = EDGED) -> Iterator[Entry]:
    circumstances: list[tuple[str, Change]] = [
        ("10 % prevalence", rare(0.1)),
        ("labels equally frequent", balanced),
        ("shifted 1 sd", shifted(1)),
        ("shifted 2 sd", shifted(2)),
        ("uneven sites", uneven),
        *((f"{count:,} records", few(count)) for count in (300, 1000) if count < extent.records),
    ]
    for name, change in circumstances:
        for epsilon in extent.edges():
            yield Entry(_as_chosen(data, task, epsilon, extent)[0], 1, epsilon, name, (change,))
            for wanted in beside[:1] if extent.quick else beside:
                yield Entry(ours(wanted), 1, epsilon, name, (change,))


def _crafting(data: str, task: Task, extent: Extent) -> Iterator[Entry]:
    releases = (_TWO, _EIGHT, Wanted("laplace", "map 2"))
    for crafting, capped in ((True, False), (True, True), (False, True)):
        who = "one site of ten crafts its records" if crafting else "no site crafts records"
        name = f"{who}, site influence {'capped' if capped else 'not capped'}"
        for epsilon in extent.shown(EDGE_EPSILONS):
            _, own = _as_chosen(data, task, epsilon, extent)
            for wanted in dict.fromkeys((own, *(releases[-1:] if extent.quick else releases))):
                arm = ours(wanted, poisoned(wanted.view, crafting, capped))
                by = chosen_by(data, task.name) if wanted is own else arm.chosen_by
                yield Entry(replace(arm, chosen_by=by), 1, epsilon, name)
