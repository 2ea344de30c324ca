"""What the centre can be asked: budgets, incidents, records. Reads only."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache

from sqlalchemy import Connection, select

from ldp_client.privacy.loss import PrivacyLoss
from server.store import records, sites, tables
from server.store.records import Record


@dataclass(frozen=True)
class SiteBudget:
    """One site's budget, per one `unit` (patient or image): losses cover X-ray and label together.

    `spent` is the most that any one unit can have spent over all campaigns, `agreed` what the site's own policy allows,
    `per_record` the costliest of the campaigns it took part in.
    """

    site: str
    name: str
    unit: str
    entries: int
    records: int
    refused: int
    per_record: PrivacyLoss
    spent: PrivacyLoss
    agreed: PrivacyLoss

    @property
    def remaining(self) -> PrivacyLoss:
        """agreed - spent, never below 0."""
        return PrivacyLoss(max(0, self.agreed.micro_epsilon - self.spent.micro_epsilon))


@dataclass(frozen=True)
class Incident:
    """Something that was not what it claimed to be: who delivered it, the code, SHA-256 of the bytes, small bytes."""

    site: str
    code: str
    digest: str
    evidence: bytes


def budgets(connection: Connection, site: str | None = None) -> list[SiteBudget]:
    """Every enrolled site, or one, by name. Reads a row for each: its sums are kept by the transactions that add to it.

    Raises:
        ConfigurationError: no such site.
    """
    columns = tables.sites.c
    query = select(
        columns.site,
        columns.name,
        columns.unit,
        columns.sequence,
        columns.records,
        columns.refused,
        columns.per_record,
        columns.spent,
        columns.agreed,
    ).order_by(columns.site)
    if site is not None:
        sites.find(connection, site)
        query = query.where(columns.site == site)
    # Sites share few figures: each is made once.
    loss = cache(PrivacyLoss)
    return [
        SiteBudget(
            site=row.site,
            name=row.name,
            unit=row.unit,
            entries=row.sequence,
            records=row.records,
            refused=row.refused,
            per_record=loss(row.per_record),
            spent=loss(row.spent),
            agreed=loss(row.agreed),
        )
        for row in connection.execute(query)
    ]


def incidents(connection: Connection, site: str | None = None) -> list[Incident]:
    """All incidents, or one site's, in the order in which they were noted."""
    query = select(tables.incidents).order_by(tables.incidents.c.id)
    if site is not None:
        query = query.where(tables.incidents.c.site == site)
    return [Incident(row.site, row.code, row.digest, row.evidence) for row in connection.execute(query)]


def records_of(connection: Connection, campaign: str) -> Iterator[Record]:
    """A campaign's records, by site and seal."""
    return records.of_campaign(connection, campaign)
