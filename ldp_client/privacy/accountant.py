"""Odometer and filter: what one unit has spent, and whether it may spend more.

Basic composition of pure epsilon: losses add up, for adaptively chosen mechanisms too (docs/privacy.md, Theorem 3).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from ldp_client.errors import BudgetExceededError, ParameterError
from ldp_client.privacy.fault import shown
from ldp_client.privacy.loss import PrivacyLoss


def odometer(losses: Iterable[PrivacyLoss]) -> PrivacyLoss:
    """The sum of what was charged."""
    return PrivacyLoss(sum(loss.micro_epsilon for loss in losses))


@dataclass(frozen=True)
class PrivacyFilter:
    """Lets a charge pass while spent + requested <= budget. `unit` is the word for one protected unit.

    Raises:
        ParameterError: the budget is no `PrivacyLoss`; such a filter never exists.
    """

    budget: PrivacyLoss
    unit: str

    def __post_init__(self) -> None:
        if not isinstance(self.budget, PrivacyLoss):
            raise ParameterError(f"a budget is a PrivacyLoss, in whole millionths; found {shown(self.budget)}")

    def remaining(self, spent: PrivacyLoss) -> PrivacyLoss:
        """budget - spent, never below 0."""
        return PrivacyLoss(max(0, self.budget.micro_epsilon - spent.micro_epsilon))

    def admit(self, spent: PrivacyLoss, requested: PrivacyLoss) -> PrivacyLoss:
        """The unit's new total.

        Raises:
            BudgetExceededError: the total would pass the budget; nothing is charged.
        """
        total = spent + requested
        if total > self.budget:
            raise BudgetExceededError(self.unit, str(requested), str(self.remaining(spent)))
        return total


def bound_per_unit(bounds: Iterable[PrivacyLoss]) -> PrivacyLoss:
    """The most that any one unit can have spent over several campaigns: the sum of cap * epsilon."""
    return odometer(bounds)
