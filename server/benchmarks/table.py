"""Every row that `bench utility` measures: which arm, under which circumstances, at which epsilons."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from fractions import Fraction

from server.benchmarks.arms import Arm, Wanted, ours
from server.benchmarks.chosen import chosen
from server.benchmarks.networks import central, networks
from server.benchmarks.peers import everything, public_only
from server.benchmarks.poisoning import poisoned
from server.benchmarks.scene import Change, few, inverted, permuted, rare, shifted, uneven
from server.benchmarks.tasks import Task

EPSILONS = ("1/2", "1", "2", "4", "8", "16")
QUICK_EPSILONS = ("1", "4")
EDGE_EPSILONS = ("1", "2", "4")
QUICK_REPEATS = 3
PARTS = ("networks", "dp-sgd", "edges")
"""What may be left out by name."""

RELEASES = (
    Wanted("codebook", "map 2"),
    Wanted("codebook", "map 2", "simplex", "1/2"),
    Wanted("codebook", "map 2", "one_hot", "1/2"),
    Wanted("codebook", "map 8"),
    Wanted("codebook", "map 8", "simplex", "1/2"),
    Wanted("codebook", "map 8", "one_hot", "1/2"),
    Wanted("laplace", "map 2"),
    Wanted("laplace", "map 2", "one_hot", "1", "2"),
    Wanted("laplace", "map 8", radius="2"),
    Wanted("laplace", "map 8", "one_hot", "1", "3"),
    Wanted("latent", "map 2"),
    Wanted("latent", "map 8", radius="2"),
)
STATISTICS = (Wanted("codebook", "statistics 2"), Wanted("codebook", "statistics 8"))
EDGED = (Wanted("codebook", "map 2"), Wanted("codebook", "map 8"), Wanted("codebook", "map 8", "one_hot", "1/2"))


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


def entries(data: str, task: Task, cap: int, *, quick: bool = False, without: tuple[str, ...] = ()) -> list[Entry]:
    """The table of one task and cap, in the order in which they are measured: cheap and telling rows first."""
    epsilons = [Fraction(epsilon) for epsilon in (QUICK_EPSILONS if quick else EPSILONS)]
    made = list(_main(data, task, cap, epsilons, without))
    if "edges" not in without and cap == 1:
        made += _edges(task, cap, [Fraction(e) for e in (QUICK_EPSILONS if quick else EDGE_EPSILONS)])
    made = [entry for entry in made if entry.arm.only_cap in (None, cap)]
    if quick:
        made = [replace(e, arm=replace(e.arm, repeats=min(e.arm.repeats, QUICK_REPEATS))) for e in made]
    return made


def _main(data: str, task: Task, cap: int, epsilons: list[Fraction], without: tuple[str, ...]) -> Iterator[Entry]:
    if cap == 1:
        for arm in (*public_only(task.classes), *(a for a in everything(task.classes) if not a.private)):
            yield Entry(arm, cap, None)
        for view in ("map 2", "map 8", "statistics 2", "statistics 8"):
            yield Entry(_without_noise(view), cap, None)
        if "networks" not in without:
            for arm in networks():
                yield Entry(arm, cap, None)
    for epsilon in epsilons:
        wanted = chosen(data, task.name, epsilon / cap)
        yield Entry(ours(wanted, chosen_by="chosen.toml"), cap, epsilon, forecast=wanted)
    for wanted in (*RELEASES, *STATISTICS):
        for epsilon in epsilons:
            yield Entry(ours(wanted), cap, epsilon, forecast=wanted)
    for arm in (a for a in everything(task.classes) if a.private):
        for epsilon in epsilons:
            yield Entry(arm, cap, epsilon)
    if "dp-sgd" not in without:
        for arm in central()[::-1]:
            for epsilon in epsilons:
                yield Entry(arm, cap, epsilon)


def _without_noise(view: str) -> Arm:
    plain = ours(Wanted("codebook", view), private=False, repeats=1, seconds=0.1)
    return replace(plain, release="no noise", mechanism="none", label_code="none")


def _edges(task: Task, cap: int, epsilons: list[Fraction]) -> Iterator[Entry]:
    circumstances: list[tuple[str, Change]] = [
        ("shifted 1 sd", shifted(1)),
        ("shifted 2 sd", shifted(2)),
        ("300 records", few(300)),
        ("1,000 records", few(1000)),
    ]
    if task.classes == 2:
        circumstances += [("10 % prevalence", rare(0.1)), ("uneven sites", uneven)]
    for name, change in circumstances:
        for wanted in EDGED:
            for epsilon in epsilons:
                yield Entry(ours(wanted), cap, epsilon, name, (change,))
    if task.classes != 2:
        return
    for wanted in (Wanted("codebook", "map 2"), Wanted("codebook", "map 8"), Wanted("laplace", "map 2")):
        for capped in (False, True):
            name = f"one site of ten crafts its records, site influence {'capped' if capped else 'not capped'}"
            for epsilon in epsilons:
                yield Entry(ours(wanted, poisoned(wanted.view, capped)), cap, epsilon, name)
    for name, change in (("labels inverted", inverted), ("labels permuted", permuted)):
        yield Entry(ours(Wanted("codebook", "map 2")), cap, epsilons[-1], name, (change,))
