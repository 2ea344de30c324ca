"""What an audit finds: one value for each thing that it looked at, and the verdict that follows from all of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from ldp_client.errors import ParameterError

TOTAL_ALPHA = 1e-6
"""The chance that one whole run accuses right mechanisms, at most."""
MAX_RANDOM_CHECKS = 100
ALPHA = TOTAL_ALPHA / MAX_RANDOM_CHECKS
"""The same chance for each check that rests on samples; exact checks have none."""


@dataclass(frozen=True)
class Effort:
    """How many samples each kind of check takes. Alpha is the same whatever the effort; what grows is the power.

    `enumerated` is how many codewords the largest enumerated codebook has; its work grows with their square.
    """

    name: str
    draws: int
    records: int
    codebooks: int
    enumerated: int


FULL = Effort("full", draws=1_000_000, records=80_000, codebooks=15_000, enumerated=1024)
QUICK = Effort("quick", draws=100_000, records=10_000, codebooks=2_000, enumerated=1024)


@dataclass(frozen=True)
class Bound:
    """How large epsilon is at least, beside what is claimed. `samples` is 0 where nothing was left to chance."""

    mechanism: str
    claimed: float
    lower_bound: float
    samples: int
    holds: bool

    @property
    def verdict(self) -> str:
        """In one word."""
        return "holds" if self.holds else "VIOLATED"

    @property
    def method(self) -> str:
        """Where the lower bound comes from."""
        return f"{self.samples} samples each" if self.samples else "exact"

    @property
    def tightness(self) -> float:
        """Which share of the claim the attacker reached: near 1, no smaller claim could be true."""
        return self.lower_bound / self.claimed


@dataclass(frozen=True)
class Fit:
    """Whether samples have the distribution that the proof needs: the smallest p-value times the number of events."""

    what: str
    samples: int
    events: int
    p_value: float

    @property
    def holds(self) -> bool:
        """Not refuted at ALPHA."""
        return self.p_value > ALPHA

    @property
    def verdict(self) -> str:
        """In one word."""
        return "fits" if self.holds else "REFUTED"


@dataclass(frozen=True)
class Attack:
    """How often an attacker guessed which of two inputs it was; on a `control` the attack must succeed."""

    target: str
    success: float
    at_least: float
    ceiling: float
    samples: int
    control: bool = False

    @property
    def holds(self) -> bool:
        """The target stays under its ceiling; a control does not, or the attack would be too weak to tell anything."""
        return (self.at_least > self.ceiling) == self.control

    @property
    def verdict(self) -> str:
        """In a few words."""
        if self.control:
            return "broken, as it must be" if self.holds else "ATTACK TOO WEAK"
        return "holds" if self.holds else "BROKEN"


@dataclass(frozen=True)
class Twin:
    """A bug put in on purpose, in a copy; `by` is the check that noticed it."""

    twin: str
    caught: bool
    by: str


@dataclass(frozen=True)
class Audit:
    """Everything that one run found.

    Raises:
        ParameterError: more random checks than the total false-alarm rate was divided among.
    """

    effort: Effort
    bounds: tuple[Bound, ...]
    fits: tuple[Fit, ...]
    attacks: tuple[Attack, ...]
    twins: tuple[Twin, ...]
    seconds: float
    versions: Mapping[str, str]

    def __post_init__(self) -> None:
        if self.random_checks > MAX_RANDOM_CHECKS:
            raise ParameterError(
                f"the false-alarm rate was divided among {MAX_RANDOM_CHECKS} random checks; found {self.random_checks}"
            )

    @property
    def random_checks(self) -> int:
        """How many checks could have failed by chance."""
        return sum(bound.samples > 0 for bound in self.bounds) + len(self.fits) + len(self.attacks)

    @property
    def alpha(self) -> float:
        """The chance that this run accuses right mechanisms, at most."""
        return ALPHA * self.random_checks

    @property
    def failures(self) -> tuple[str, ...]:
        """What did not hold, in words."""
        return (
            *(f"{bound.mechanism} claims epsilon {bound.claimed:g}" for bound in self.bounds if not bound.holds),
            *(f"{fit.what} has another distribution" for fit in self.fits if not fit.holds),
            *(f"{attack.target}: {attack.verdict}" for attack in self.attacks if not attack.holds),
            *(f"the twin '{twin.twin}' was not noticed" for twin in self.twins if not twin.caught),
        )
