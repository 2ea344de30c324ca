"""When things happen: kills and other faults in an order drawn by lot, one after the other, each ended in its time."""

from __future__ import annotations

import logging
import random
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

from examples.faults.machines import Machines

log = logging.getLogger("faults")
# Flower takes a node that was killed back when its heartbeat has run out, after some 80 s: killed earlier, it would
# only be killed on the doorstep.
NODE_SECONDS = 90.0
# The centre takes its time to start. Killed again before it gathers, it would only be killed on the doorstep as well.
GATHERING_SECONDS = 5.0


@dataclass(frozen=True)
class Fault:
    """Something besides a kill: `begin` returns False where it cannot be done just now."""

    name: str
    begin: Callable[[], bool]
    end: Callable[[], bool]
    seconds: float


@dataclass
class Storm:
    """A bag of kills (by kind) and faults, of which one is drawn every `pace_seconds` in the mean."""

    machines: Machines
    kills: dict[str, int]
    faults: list[Fault]
    pace_seconds: float
    dice: random.Random
    happened: Counter[str] = field(default_factory=Counter)
    _bag: list[str | Fault] = field(default_factory=list)
    _going_on: dict[str, tuple[Fault, float]] = field(default_factory=dict)
    _next: float = 0.0
    _node_killed: dict[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._bag = [kind for kind, count in self.kills.items() for _ in range(count)]
        self._bag += self.faults
        self.dice.shuffle(self._bag)
        # A node needs more than a minute to come back: its kills come early rather than late.
        self._bag.sort(key=lambda one: one != "supernode" or self.dice.random() > 0.7)

    @property
    def over(self) -> bool:
        """Whether everything has happened and nothing goes on."""
        return not self._bag and not self._going_on

    @property
    def left(self) -> int:
        return len(self._bag)

    def blow(self) -> None:
        """Do what is due."""
        now = time.monotonic()
        for name, (fault, until) in list(self._going_on.items()):
            if now >= until and fault.end():
                del self._going_on[name]
                log.info("%s: over", name)
        if not self._bag or now < self._next:
            return
        for place, one in enumerate(self._bag):
            if self._happens(one):
                del self._bag[place]
                break
        self._next = now + self.dice.expovariate(1 / self.pace_seconds)

    def calm(self) -> None:
        """End what still goes on.

        Raises:
            RuntimeError: a fault does not end.
        """
        until = time.monotonic() + 60
        while self._going_on:
            for name, (fault, _) in list(self._going_on.items()):
                if fault.end():
                    del self._going_on[name]
            if time.monotonic() > until:
                raise RuntimeError(f"a fault cannot be ended: {', '.join(self._going_on)}")
            time.sleep(0.1)

    def _happens(self, one: str | Fault) -> bool:
        if isinstance(one, Fault):
            if one.name in self._going_on or not one.begin():
                return False
            self._going_on[one.name] = (one, time.monotonic() + one.seconds)
            self.happened[one.name] += 1
            log.info("%s", one.name)
            return True
        site = self.dice.choice(self.machines.sites)
        if one == "supernode":
            site = min(self.machines.sites, key=lambda name: self._node_killed.get(name, 0.0))
            if time.monotonic() - self._node_killed.get(site, float("-inf")) < NODE_SECONDS:
                return False
        if one in ("serverapp", "superlink", "centre") and self.machines.gathering_for() < GATHERING_SECONDS:
            return False
        if not self.machines.kill(one, site):
            return False
        if one == "supernode":
            self._node_killed[site] = time.monotonic()
        log.info("kill -9 %s%s", one, f" of {site}" if one in ("agent", "courier", "supernode") else "")
        return True
