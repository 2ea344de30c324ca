"""Queries of the evaluation set: one entry charges every unit of it, and one histogram answers.

| the power fails | on disk | the restart |
|---|---|---|
| before `query` returns | nothing | queries again |
| between `query` and `answer` | a query without an answer | draws for that query and those units; nothing is refunded |
| after `answer` | the histogram's bytes | sends those, whatever happens, and never draws again |
"""

from __future__ import annotations

import sqlite3
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from ldp_client.errors import BudgetExceededError, WaitingError
from ldp_client.ledger.kept import Kept
from ldp_client.privacy.accountant import PrivacyFilter
from ldp_client.privacy.loss import PrivacyLoss
from ldp_client.wire.chain import Abandon, Query, Seal, subjects_commitment
from ldp_client.wire.evaluation import Evaluation, asked_id
from ldp_client.wire.record import record_digest


@dataclass(frozen=True)
class OpenQuery:
    """A query that is paid and waits for its histogram. `units` are those that paid; their X-rays may be counted."""

    sequence: int
    campaign: str
    units: frozenset[bytes] = field(repr=False)


class Queries(Kept):
    """The part of a site's ledger that charges and answers evaluations."""

    def query(self, evaluation: Evaluation, units: Collection[bytes], salt: bytes, today: str) -> OpenQuery:
        """In one durable transaction: check approval and budget, and charge each unit whose lifetime budget holds it.

        Nothing is drawn before this returns. `salt` is 32 fresh random bytes.

        Raises:
            WaitingError, PolicyRefusedError: as `standing_approval`; nothing is charged.
            BudgetExceededError: the bounds of everything charged do not fit into the budget; nothing is charged.
            WaitingError: this evaluation was queried before; nothing is charged.
        """
        name, loss = asked_id(evaluation), evaluation.bound_per_unit
        with self._transaction() as connection:
            standing = self.standing_approval(evaluation, today)
            self._check_bound(evaluation, standing.policy)
            budget = PrivacyFilter(standing.policy.lifetime_budget, evaluation.unit)
            self._odometer.follow(connection)
            paying = {self._odometer.root(unit) for unit in units}
            charged = sorted(unit for unit in paying if self._holds(budget, unit, loss))
            entry = Query(
                subjects=subjects_commitment(charged, salt),
                campaign=name,
                approval=standing.sequence,
                micro_epsilon=loss.micro_epsilon,
            )
            sequence = self._append(entry)
            with _once(f"evaluation {evaluation.name} was queried before; what was sealed then is what is sent"):
                connection.execute(
                    "INSERT INTO queries VALUES (?, ?, ?, ?)", (sequence, name, salt, loss.micro_epsilon)
                )
            connection.executemany("INSERT INTO query_units VALUES (?, ?)", [(sequence, unit) for unit in charged])
            connection.execute("INSERT OR IGNORE INTO bounds VALUES (?, ?)", (name, loss.micro_epsilon))
        return OpenQuery(sequence, name, frozenset(charged))

    def _holds(self, budget: PrivacyFilter, unit: bytes, loss: PrivacyLoss) -> bool:
        try:
            budget.admit(PrivacyLoss(self._odometer.spent(unit)), loss)
        except BudgetExceededError:
            return False
        return True

    def open_query(self, campaign: str) -> OpenQuery | None:
        """The query that a crash left without an answer; its units as they are counted now."""
        unanswered = """SELECT q.query FROM queries q LEFT JOIN answers a ON a.query = q.query
                        WHERE a.query IS NULL AND q.campaign = ?"""
        row = self._connection.execute(unanswered, (campaign,)).fetchone()
        if row is None:
            return None
        self._odometer.follow(self._connection)
        units = self._connection.execute("SELECT unit FROM query_units WHERE query = ?", row)
        return OpenQuery(row[0], campaign, frozenset(self._odometer.root(unit) for (unit,) in units))

    def is_answered(self, campaign: str) -> bool:
        """Whether an evaluation's query was settled: nothing is drawn for it any more."""
        query = "SELECT 1 FROM answers a JOIN queries q ON q.query = a.query WHERE q.campaign = ?"
        return self._connection.execute(query, (campaign,)).fetchone() is not None

    def answer(self, query: OpenQuery, payload: bytes, day: str) -> None:
        """In one durable transaction: the histogram's bytes, the day of its draw, and the Seal entry that names them.

        Raises:
            WaitingError: another process has settled this query meanwhile; nothing is sealed.
        """
        with self._transaction() as connection:
            sequence = self._append(
                Seal(charge=query.sequence, record=record_digest(query.campaign, query.sequence, payload))
            )
            with _once(_SETTLED):
                connection.execute("INSERT INTO answers VALUES (?, ?, ?, ?)", (query.sequence, sequence, payload, day))

    def abandon_query(self, query: OpenQuery) -> None:
        """Settle a query without an answer; what it cost stays spent.

        Raises:
            WaitingError: as `answer`.
        """
        with self._transaction() as connection:
            sequence = self._append(Abandon(charge=query.sequence))
            with _once(_SETTLED):
                connection.execute("INSERT INTO answers VALUES (?, ?, NULL, '')", (query.sequence, sequence))

    def charged_by_query(self, campaign: str) -> int:
        """How many units an evaluation has charged: for the officer's eyes, it does not leave the site."""
        query = "SELECT count(*) FROM query_units u JOIN queries q ON q.query = u.query WHERE q.campaign = ?"
        return int(self._connection.execute(query, (campaign,)).fetchone()[0])

    def was_queried(self, campaign: str, unit: bytes) -> bool:
        """Whether an evaluation has charged a unit, or one that was merged with it."""
        query = "SELECT u.unit FROM query_units u JOIN queries q ON q.query = u.query WHERE q.campaign = ?"
        self._odometer.follow(self._connection)
        wanted = self._odometer.root(unit)
        return any(self._odometer.root(row[0]) == wanted for row in self._connection.execute(query, (campaign,)))

    def released_units(self) -> frozenset[bytes]:
        """The units that were ever charged for a record."""
        self._odometer.follow(self._connection)
        return self._odometer.released()

    def queried_units(self) -> frozenset[bytes]:
        """The units that were ever charged for an evaluation."""
        self._odometer.follow(self._connection)
        return self._odometer.queried()

    def was_drawn(self, xray: bytes) -> bool:
        """Whether any campaign ever charged this X-ray."""
        query = "SELECT 1 FROM openings WHERE substr(xray, 1, 16) = substr(?, 1, 16) LIMIT 1"
        return self._connection.execute(query, (xray,)).fetchone() is not None

    def query_openings(self) -> Iterator[tuple[int, bytes, list[bytes]]]:
        """(query, salt, units): what the commitments hide. For the site's own auditor and nobody else."""
        for sequence, salt in self._connection.execute("SELECT query, salt FROM queries ORDER BY query").fetchall():
            units = self._connection.execute("SELECT unit FROM query_units WHERE query = ? ORDER BY unit", (sequence,))
            yield sequence, salt, [unit for (unit,) in units]


_SETTLED = (
    "a query is settled already, by another process; what that one sealed is what is sent. Let one agent run at a time"
)


@contextmanager
def _once(found: str) -> Iterator[None]:
    """Put the one constraint that two processes can run into, into words; nothing is written then."""
    try:
        yield
    except sqlite3.IntegrityError as error:
        if "queries.campaign" not in str(error) and "answers.query" not in str(error):
            raise
        raise WaitingError(found) from error
