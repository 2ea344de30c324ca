"""When things happen: whatever has been killed least, for its quota, is killed next, as soon as it is of use again.

So the road moves between two kills, each kind gets its number, and none waits for another's to be over. Faults that
are no kills are spread evenly among them, each ended in its time.
"""

from __future__ import annotations

import logging
import random
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

from examples.faults.machines import Machines

log = logging.getLogger("faults")
OF_A_SITE = ("agent", "courier", "supernode")
AHEAD = 0.35
"""How much more of its quota a kind may have had than the one that had least."""
NODES_DOWN = 2
"""Flower takes a node that was killed back when its heartbeat has run out, after some 80 s: one stays connected."""


@dataclass(frozen=True)
class Fault:
    """Something besides a kill: `begin` returns False where it cannot be done just now."""

    name: str
    begin: Callable[[], bool]
    end: Callable[[], bool]
    seconds: float


@dataclass
class Storm:
    """Kills by kind, each a quota, and faults; between two of them a random time of `pace_seconds` in the mean."""

    machines: Machines
    quotas: dict[str, int]
    faults: list[Fault]
    pace_seconds: float
    dice: random.Random
    happened: Counter[str] = field(default_factory=Counter)
    _to_come: list[Fault] = field(default_factory=list)
    _going_on: dict[str, tuple[Fault, float]] = field(default_factory=dict)
    _next: float = 0.0

    def __post_init__(self) -> None:
        self._to_come = list(self.faults)
        self.dice.shuffle(self._to_come)

    @property
    def over(self) -> bool:
        """Whether everything has happened and nothing goes on."""
        return self.left == 0 and not self._going_on

    @property
    def left(self) -> int:
        """How many kills and faults are to come."""
        return sum(self.quotas.values()) - sum(self.machines.killed.values()) + len(self._to_come)

    def blow(self) -> None:
        """Do what is due."""
        now = time.monotonic()
        for name, (fault, until) in list(self._going_on.items()):
            if now >= until and fault.end():
                del self._going_on[name]
                log.info("%s: over", name)
        if self.left and now >= self._next and (self._breaks() or self._kills()):
            self._next = time.monotonic() + self.dice.expovariate(1 / self.pace_seconds)

    def _breaks(self) -> bool:
        """Begin the next fault, if it is its turn."""
        kills, quota = sum(self.machines.killed.values()), sum(self.quotas.values())
        turn = 1 - len(self._to_come) / (len(self.faults) + 1)
        if not self._to_come or kills < turn * quota:
            return False
        fault = self._to_come[0]
        if fault.name in self._going_on or not fault.begin():
            return False
        del self._to_come[0]
        self._going_on[fault.name] = (fault, time.monotonic() + fault.seconds)
        self.happened[fault.name] += 1
        log.info("%s", fault.name)
        return True

    def _kills(self) -> bool:
        had = {kind: self.machines.killed[kind] / quota for kind, quota in self.quotas.items()}
        least = min(had.values())
        for kind in sorted(had, key=lambda kind: (had[kind], self.dice.random())):
            if had[kind] < 1 and had[kind] <= least + AHEAD and self._kill(kind):
                return True
        return False

    def _kill(self, kind: str) -> bool:
        ready = [site for site in self.machines.sites if self.machines.useful(kind, site)]
        if not ready or (kind == "supernode" and len(ready) <= len(self.machines.sites) - NODES_DOWN):
            return False
        site = self.dice.choice(ready)
        if not self.machines.kill(kind, site):
            return False
        log.info("kill -9 %s%s (%d to come)", kind, f" of {site}" if kind in OF_A_SITE else "", self.left)
        return True
