"""What can be read back from a site's ledger: records, counts, and the log entry by entry."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from ldp_client.ledger.agreements import Agreements


@dataclass(frozen=True)
class LogRow:
    """One entry as the officer reads it.

    `day` is the day of the draw, of a charge as of its seal; entries themselves carry no time, so others have none.
    `charge` is the charge that a seal or an abandonment settles.
    """

    sequence: int
    kind: str
    campaign: str | None
    micro_epsilon: int | None
    charge: int | None
    day: str | None
    head: str


_LOG = """
    SELECT e.sequence, e.kind, coalesce(o.campaign, p.campaign, q.campaign, r.campaign),
           coalesce(o.micro_epsilon, q.micro_epsilon), coalesce(s.charge, a.query),
           nullif(coalesce(s.day, t.day, a.day, b.day), ''), e.head
    FROM entries e
    LEFT JOIN openings o ON o.charge = e.sequence
    LEFT JOIN seals t ON t.charge = e.sequence
    LEFT JOIN seals s ON s.sequence = e.sequence
    LEFT JOIN openings p ON p.charge = s.charge
    LEFT JOIN queries q ON q.query = e.sequence
    LEFT JOIN answers b ON b.query = e.sequence
    LEFT JOIN answers a ON a.sequence = e.sequence
    LEFT JOIN queries r ON r.query = a.query
    WHERE (:campaign IS NULL OR coalesce(o.campaign, p.campaign, q.campaign, r.campaign) = :campaign)
      AND (:unit IS NULL OR coalesce(o.unit, p.unit) = :unit OR EXISTS (
          SELECT 1 FROM query_units u WHERE u.query = coalesce(q.query, r.query) AND u.unit = :unit))
      AND (:since IS NULL OR nullif(coalesce(s.day, t.day, a.day, b.day), '') >= :since)
      AND (:until IS NULL OR nullif(coalesce(s.day, t.day, a.day, b.day), '') <= :until)
    ORDER BY e.sequence
"""
_HISTORY = """
    SELECT nullif(day, ''), campaign, count(*), sum(micro_epsilon)
    FROM (
        SELECT s.day, o.campaign, o.unit, o.micro_epsilon, o.charge AS sequence
        FROM openings o LEFT JOIN seals s ON s.charge = o.charge
        UNION ALL
        SELECT a.day, q.campaign, u.unit, q.micro_epsilon, q.query
        FROM query_units u JOIN queries q ON q.query = u.query LEFT JOIN answers a ON a.query = q.query
    )
    WHERE (:campaign IS NULL OR campaign = :campaign) AND (:unit IS NULL OR unit = :unit)
      AND (:since IS NULL OR nullif(day, '') >= :since) AND (:until IS NULL OR nullif(day, '') <= :until)
    GROUP BY 1, 2 ORDER BY nullif(day, '') IS NULL, 1, min(sequence)
"""
_SEALED = """(SELECT sequence, payload, day FROM seals UNION ALL SELECT sequence, payload, day FROM answers)"""
_OPENINGS = (
    """SELECT charge, unit, salt FROM openings WHERE (:campaign IS NULL OR campaign = :campaign) ORDER BY charge"""
)


class Readings(Agreements):
    """The part of a site's ledger that only reads."""

    def log(
        self,
        *,
        campaign: str | None = None,
        unit: bytes | None = None,
        since: str | None = None,
        until: str | None = None,
    ) -> Iterator[LogRow]:
        """Entries in order: all, or those of a campaign, of a unit, drawn on or after `since` and on or before `until`.

        A filter leaves out what it cannot be asked of: a policy belongs to no campaign and to no day.
        """
        wanted = {"campaign": campaign, "unit": unit, "since": since, "until": until}
        for row in self._connection.execute(_LOG, wanted):
            yield LogRow(*row)

    def history(
        self, *, campaign: str | None = None, unit: bytes | None = None, since: str | None, until: str | None
    ) -> Iterator[tuple[str | None, str, int, int]]:
        """(day of the draw, campaign, charges, their millionths of epsilon) by day; what has no draw comes last."""
        wanted = {"campaign": campaign, "unit": unit, "since": since, "until": until}
        yield from self._connection.execute(_HISTORY, wanted)

    def openings(self, campaign: str | None = None) -> Iterator[tuple[int, bytes, bytes]]:
        """(charge, unit, salt): what the charges' commitments hide. For the site's own auditor and nobody else."""
        yield from self._connection.execute(_OPENINGS, {"campaign": campaign})

    def payloads(self, first: int, last: int) -> Iterator[tuple[int, bytes]]:
        """(Seal sequence, record) of the seals in a range."""
        query = (
            f"SELECT sequence, payload FROM {_SEALED} "  # noqa: S608
            "WHERE payload NOT NULL AND sequence BETWEEN ? AND ? ORDER BY sequence"
        )
        yield from self._connection.execute(query, (first, last))

    def payload_size(self, sequence: int) -> int:
        """How many bytes the record of a Seal has."""
        query = f"SELECT length(payload) FROM {_SEALED} WHERE sequence = ?"  # noqa: S608
        return int(self._connection.execute(query, (sequence,)).fetchone()[0] or 0)

    def last_draw(self, first: int, last: int) -> str | None:
        """The last day on which a record of these entries was drawn; None if there is no record among them."""
        query = f"SELECT max(day) FROM {_SEALED} WHERE payload NOT NULL AND sequence BETWEEN ? AND ?"  # noqa: S608
        day = self._connection.execute(query, (first, last)).fetchone()[0]
        return None if day is None else str(day)

    def records_by_xray(self, campaign: str) -> dict[bytes, bytes]:
        """The sealed records of a campaign by their X-ray's key: known to this site and to nobody else."""
        query = """SELECT o.xray, s.payload FROM openings o JOIN seals s ON s.charge = o.charge
                   WHERE o.campaign = ? AND s.payload NOT NULL"""
        return dict(self._connection.execute(query, (campaign,)))

    def counts(self, campaign: str) -> tuple[int, int]:
        """(records sealed, charges) of a campaign."""
        query = """SELECT count(s.payload), count(*) FROM openings o LEFT JOIN seals s ON s.charge = o.charge
                   WHERE campaign = ?"""
        sealed, charged = self._connection.execute(query, (campaign,)).fetchone()
        return int(sealed), int(charged)

    def campaigns_charged(self) -> list[str]:
        """Campaigns that have taken anything."""
        return [row[0] for row in self._connection.execute("SELECT campaign FROM bounds ORDER BY campaign")]
