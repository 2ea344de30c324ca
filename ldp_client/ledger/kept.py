"""What lies beside the chain, held against it: whose each charge was, each record's bytes, each evaluation's units.

The chain proves itself, and an export carries nothing else. But a unit that was altered on the disk could be charged
anew, and a record that was altered would be refused by the centre: whoever verifies a ledger hears of both here.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from typing import Any

from ldp_client.errors import ChainError, DamagedError, FormatError
from ldp_client.ledger.readings import Readings
from ldp_client.wire.chain import (
    Abandon,
    Charge,
    LedgerEntry,
    Query,
    Seal,
    parse_entry,
    subject_commitment,
    subjects_commitment,
)
from ldp_client.wire.record import record_digest

_CHARGES = """SELECT e.sequence, e.body, o.campaign, o.unit, o.salt, o.micro_epsilon
              FROM entries e LEFT JOIN openings o ON o.charge = e.sequence
              WHERE e.kind = 'charge' ORDER BY e.sequence"""
_QUERIES = """SELECT e.sequence, e.body, q.campaign, q.salt, q.micro_epsilon
              FROM entries e LEFT JOIN queries q ON q.query = e.sequence WHERE e.kind = 'query' ORDER BY e.sequence"""
_SETTLED = """SELECT e.sequence, e.body, coalesce(s.charge, a.query), coalesce(s.payload, a.payload),
                     coalesce(o.campaign, q.campaign), s.charge IS NULL OR a.query IS NULL
              FROM entries e
              LEFT JOIN seals s ON s.sequence = e.sequence LEFT JOIN openings o ON o.charge = s.charge
              LEFT JOIN answers a ON a.sequence = e.sequence LEFT JOIN queries q ON q.query = a.query
              WHERE e.kind IN ('seal', 'abandon') ORDER BY e.sequence"""
# What belongs to no entry; the joins above do not see it.
_LEFT_OVER = """SELECT min(number) FROM (
    SELECT charge AS number FROM openings WHERE charge NOT IN (SELECT sequence FROM entries WHERE kind = 'charge')
    UNION ALL SELECT query FROM queries WHERE query NOT IN (SELECT sequence FROM entries WHERE kind = 'query')
    UNION ALL SELECT query FROM query_units WHERE query NOT IN (SELECT query FROM queries)
    UNION ALL SELECT sequence FROM seals
        WHERE sequence NOT IN (SELECT sequence FROM entries WHERE kind IN ('seal', 'abandon'))
    UNION ALL SELECT sequence FROM answers
        WHERE sequence NOT IN (SELECT sequence FROM entries WHERE kind IN ('seal', 'abandon')))"""


class Kept(Readings):
    """The part of a site's ledger that checks what it keeps for itself."""

    def check_kept(self) -> None:
        """Return if everything beside the chain is what the chain has committed to.

        Raises:
            ChainError: something is altered, missing or left over; the text names the entry.
            DamagedError: the file is damaged; or an index says something else than its table, as of the X-rays, which
                no entry commits to.
        """
        if [answer for (answer,) in self._connection.execute("PRAGMA integrity_check")] != ["ok"]:
            raise DamagedError
        for sequence, entry, *kept in self._entries(_CHARGES):
            if not _is_charge(entry, *kept):
                raise _altered(sequence, "whose charge it was")
        for sequence, entry, campaign, salt, cost in self._entries(_QUERIES):
            rows = self._connection.execute("SELECT unit FROM query_units WHERE query = ?", (sequence,))
            if not _is_query(entry, campaign, salt, cost, [unit for (unit,) in rows]):
                raise _altered(sequence, "whom the evaluation charged")
        for sequence, entry, *kept in self._entries(_SETTLED):
            if not _settles(entry, *kept):
                raise _altered(sequence, "the record that it seals or gives up")
        (left_over,) = self._connection.execute(_LEFT_OVER).fetchone()
        if left_over is not None:
            raise _altered(int(left_over), "something that belongs to no entry")

    def _entries(self, query: str) -> Iterator[tuple[Any, ...]]:
        try:
            for sequence, body, *kept in self._connection.execute(query):
                yield (sequence, parse_entry(body), *kept)
        except (sqlite3.DatabaseError, FormatError) as error:
            raise DamagedError from error


# Whatever stands in a row: on a damaged disk a blob can be a number.


def _is_charge(entry: LedgerEntry, campaign: object, unit: object, salt: object, cost: object) -> bool:
    return (
        isinstance(entry, Charge)
        and (entry.campaign, entry.micro_epsilon) == (campaign, cost)
        and isinstance(unit, bytes)
        and isinstance(salt, bytes)
        and entry.subject == subject_commitment(unit, salt)
    )


def _is_query(entry: LedgerEntry, campaign: object, salt: object, cost: object, units: list[object]) -> bool:
    keys = [unit for unit in units if isinstance(unit, bytes)]
    return (
        isinstance(entry, Query)
        and (entry.campaign, entry.micro_epsilon) == (campaign, cost)
        and isinstance(salt, bytes)
        and len(keys) == len(units)
        and entry.subjects == subjects_commitment(keys, salt)
    )


def _settles(entry: LedgerEntry, charge: object, payload: object, campaign: object, one: int) -> bool:
    if isinstance(entry, Abandon):
        return bool(one) and entry.charge == charge and payload is None
    return (
        isinstance(entry, Seal)
        and bool(one)
        and entry.charge == charge
        and isinstance(payload, bytes)
        and isinstance(campaign, str)
        and entry.record == record_digest(campaign, entry.charge, payload)
    )


def _altered(sequence: int, what: str) -> ChainError:
    return ChainError(
        f"entry {sequence}: {what} is not what the chain has committed to. Stop the agent, keep the ledger's file, and "
        "put the newest copy of it that this machine has in its place"
    )
