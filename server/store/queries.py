"""What the centre can be asked: budgets, incidents, records. Reads only."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from sqlalchemy import Connection, func, select

from ldp_client.privacy.loss import MAX_MICRO_EPSILON, NOTHING, PrivacyLoss
from ldp_client.wire.campaign import Policy
from ldp_client.wire.canonical import parse
from server.store import records, tables
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


def budgets(connection: Connection) -> list[SiteBudget]:
    """Every enrolled site, by name."""
    policies = _current_policies(connection)
    used = _used(connection)
    found = []
    for row in connection.execute(select(tables.sites).order_by(tables.sites.c.site)):
        policy = policies.get(row.site)
        per_record, spent, units = used.get(row.site, (NOTHING, NOTHING, set()))
        found.append(
            SiteBudget(
                site=row.site,
                name=row.name,
                unit=_unit(units, policy),
                entries=row.sequence,
                records=row.records,
                refused=row.refused,
                per_record=per_record,
                spent=spent,
                agreed=NOTHING if policy is None else policy.lifetime_budget,
            )
        )
    return found


def incidents(connection: Connection, site: str | None = None) -> list[Incident]:
    """All incidents, or one site's, in the order in which they were noted."""
    query = select(tables.incidents).order_by(tables.incidents.c.id)
    if site is not None:
        query = query.where(tables.incidents.c.site == site)
    return [Incident(row.site, row.code, row.digest, row.evidence) for row in connection.execute(query)]


def records_of(connection: Connection, campaign: str) -> Iterator[Record]:
    """A campaign's records, by site and seal."""
    return records.of_campaign(connection, campaign)


def _unit(units: set[str], policy: Policy | None) -> str:
    """What the losses are per. With one campaign that protects images only, nothing is promised about a patient."""
    said = units or set(policy.units if policy is not None else ("patient",))
    return "image" if "image" in said else "patient"


def _current_policies(connection: Connection) -> dict[str, Policy]:
    columns = tables.policies.c
    last = select(columns.site, func.max(columns.sequence).label("last")).group_by(columns.site).subquery()
    query = select(columns.site, columns.body).join(
        last, (last.c.site == columns.site) & (last.c.last == columns.sequence)
    )
    return {row.site: parse(Policy, row.body) for row in connection.execute(query)}


def _used(connection: Connection) -> dict[str, tuple[PrivacyLoss, PrivacyLoss, set[str]]]:
    """By site: the costliest record, the bound spent, and the units of the campaigns charged."""
    totals, campaigns = tables.totals.c, tables.campaigns.c
    query = select(
        totals.site, totals.agreed_bound, totals.beyond, campaigns.micro_epsilon_per_record, campaigns.unit
    ).select_from(tables.totals.outerjoin(tables.campaigns, campaigns.campaign == totals.campaign))
    used: dict[str, tuple[PrivacyLoss, PrivacyLoss, set[str]]] = {}
    for row in connection.execute(query):
        per_record, spent, units = used.get(row.site, (NOTHING, NOTHING, set()))
        bound = min(spent.micro_epsilon + row.agreed_bound + row.beyond, MAX_MICRO_EPSILON)
        used[row.site] = (
            max(per_record, PrivacyLoss(row.micro_epsilon_per_record or 0)),
            PrivacyLoss(bound),
            units | ({row.unit} if row.unit else set()),
        )
    return used
