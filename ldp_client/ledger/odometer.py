"""What every unit has spent, in memory: a running sum over the ledger's charges, brought up to date by each look.

The charges on disk are the only truth. Charges are insert-only and numbered upwards, so a sum that has read all up to
one number lacks exactly those above it, whichever process wrote them. An index on disk would say the same, and cost
every batch of charges a hundred pages more to write: units come in random order.
"""

from __future__ import annotations

import sqlite3
from collections import defaultdict


class Odometer:
    """Sums of millionths of epsilon by unit, counts of X-rays by campaign and unit, and who was evaluated; merged units
    are one."""

    def __init__(self) -> None:
        self._read_to = self._merged_to = self._queried_to = 0
        self._queried: set[bytes] = set()
        self._kept: dict[bytes, bytes] = {}
        self._spent: defaultdict[bytes, int] = defaultdict(int)
        self._charged: defaultdict[str, defaultdict[bytes, int]] = defaultdict(lambda: defaultdict(int))

    def follow(self, connection: sqlite3.Connection) -> None:
        """Read the charges made since the last look.

        Inside a transaction that has written no charge yet, what is read is committed and stays: a rollback cannot take
        back what this has counted.
        """
        merges = "SELECT id, kept, joined FROM merges WHERE id > ? ORDER BY id"
        for number, kept, joined in connection.execute(merges, (self._merged_to,)):
            self._join(kept, joined)
            self._merged_to = number
        query = "SELECT charge, campaign, unit, micro_epsilon FROM openings WHERE charge > ? ORDER BY charge"
        for charge, campaign, unit, micro_epsilon in connection.execute(query, (self._read_to,)):
            one = self.root(unit)
            self._spent[one] += micro_epsilon
            self._charged[campaign][one] += 1
            self._read_to = charge
        units = """SELECT u.query, u.unit, q.micro_epsilon FROM query_units u JOIN queries q ON q.query = u.query
                   WHERE u.query > ? ORDER BY u.query"""
        for query_sequence, unit, micro_epsilon in connection.execute(units, (self._queried_to,)):
            one = self.root(unit)
            self._spent[one] += micro_epsilon
            self._queried.add(one)
            self._queried_to = query_sequence

    def root(self, unit: bytes) -> bytes:
        """The unit itself, or the one that it was merged into, however often."""
        while unit in self._kept:
            unit = self._kept[unit]
        return unit

    def _join(self, kept: bytes, joined: bytes) -> None:
        """Both balances add up: what either has spent, both have."""
        self._kept[joined] = kept
        self._spent[kept] += self._spent.pop(joined, 0)
        for charged in self._charged.values():
            charged[kept] += charged.pop(joined, 0)
        if joined in self._queried:
            self._queried.remove(joined)
            self._queried.add(kept)

    def spent(self, unit: bytes) -> int:
        """Millionths of epsilon that the unit was ever charged, sealed or not."""
        return self._spent.get(self.root(unit), 0)

    def charged_in(self, campaign: str, unit: bytes) -> int:
        """How many of the unit's X-rays the campaign has charged."""
        return self._charged[campaign].get(self.root(unit), 0)

    def released(self) -> frozenset[bytes]:
        """The units with at least one charge for a record."""
        return frozenset(unit for charged in self._charged.values() for unit, count in charged.items() if count)

    def queried(self) -> frozenset[bytes]:
        """The units with at least one charge for an evaluation."""
        return frozenset(self._queried)

    def largest(self) -> int:
        """The most that any unit has spent."""
        return max(self._spent.values(), default=0)
