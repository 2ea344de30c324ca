"""Who is held out at a site: which units are never released, and are asked about when a classifier is evaluated.

A keyed hash under the site's secret decides, so nobody chooses and nobody outside can tell; the policy says how large
the share is, and a larger share contains every smaller one. A unit that was released before stays out of the set, one
that was ever queried is never released (docs/decisions/0035).
"""

from __future__ import annotations

import hashlib
import hmac
from dataclasses import dataclass, replace

from ldp_client.imaging.dataset import DataSet, Item
from ldp_client.ledger.store import SiteLedger
from ldp_client.wire.campaign import Policy

_LABEL = b"ldp-glow/evaluation-set/v1"


def is_held_out(secret: bytes, unit: bytes, share_percent: int) -> bool:
    """Whether HMAC-SHA256(secret, label, unit), as a fraction of 2^64, lies below the share."""
    drawn = int.from_bytes(hmac.new(secret, _LABEL + unit, hashlib.sha256).digest()[:8], "big")
    return 100 * drawn < share_percent << 64


@dataclass(frozen=True)
class Division:
    """A site's units, divided as its policy and its ledger stand now."""

    secret: bytes
    share_percent: int
    released: frozenset[bytes]
    queried: frozenset[bytes]

    def is_released(self, unit: bytes) -> bool:
        """Whether the unit's X-rays may become records."""
        return unit not in self.queried and (unit in self.released or not self._held_out(unit))

    def is_evaluated(self, unit: bytes) -> bool:
        """Whether the unit belongs to the evaluation set."""
        return unit not in self.released and (unit in self.queried or self._held_out(unit))

    def _held_out(self, unit: bytes) -> bool:
        return is_held_out(self.secret, unit, self.share_percent)


def divide(data_set: DataSet, policy: Policy, ledger: SiteLedger) -> Division:
    """The division under this policy; without a rule for evaluations nobody is held out."""
    share = 0 if policy.evaluations is None else policy.evaluations.share_percent
    return Division(data_set.secret, share, ledger.released_units(), ledger.queried_units())


def releasable(data_set: DataSet, policy: Policy, ledger: SiteLedger) -> DataSet:
    """The data set without the units of the evaluation set."""
    division = divide(data_set, policy, ledger)
    return replace(data_set, items=tuple(item for item in data_set.items if division.is_released(item.patient)))


def evaluation_items(data_set: DataSet, policy: Policy, ledger: SiteLedger) -> list[Item]:
    """The X-rays of the evaluation set, in the order of the keyed hash of their pixels.

    An X-ray that was ever charged for a record is left out, whatever unit that campaign counted.
    """
    division = divide(data_set, policy, ledger)
    items = [item for item in data_set.items if division.is_evaluated(item.patient)]
    return sorted((item for item in items if not ledger.was_drawn(item.identity)), key=lambda item: item.identity)
