"""The centre's ledgers entry by entry: its own lines, and each site's entries as they were committed. Reads only."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Select, Table, func, select

from ldp_client.wire.canonical import parse
from ldp_client.wire.envelope import HEADER, open_envelope
from ldp_client.wire.exchange import BatchHeader, CentralEntry
from server.store import sites, tables


@dataclass(frozen=True)
class Line:
    """One line of the central ledger. `day` is the one that the site's signed header says, for a batch."""

    sequence: int
    entry: CentralEntry
    day: str | None
    head: str


@dataclass(frozen=True)
class SiteEntry:
    """One entry of a site. `day` is its batch's: the last day on which a record of the batch was drawn."""

    site: str
    sequence: int
    kind: str
    campaign: str | None
    micro_epsilon: int | None
    charge: int | None
    day: str | None
    head: str


@dataclass(frozen=True)
class Charged:
    """What one batch charged for one campaign, and the site's bound per unit afterwards."""

    site: str
    central_sequence: int
    day: str
    campaign: str
    charges: int
    bound: int


def lines(
    connection: Connection,
    *,
    site: str | None = None,
    campaign: str | None = None,
    since: str | None = None,
    until: str | None = None,
) -> Iterator[Line]:
    """The central ledger in order: of one site, of one campaign (its publication and the batches that charge for it),
    of batches drawn in a time."""
    days = _days(connection, site)
    charging = _batches_charging(connection, campaign) if campaign is not None else set()
    found = connection.execute(select(tables.central).order_by(tables.central.c.sequence))
    for row in found:
        entry = parse(CentralEntry, row.body)
        day = days.get((entry.site or "", entry.first)) if entry.kind == "batch" else None
        if site is not None and entry.site != site:
            continue
        if campaign is not None and entry.reference != campaign and row.sequence not in charging:
            continue
        if _within(day, since, until):
            yield Line(row.sequence, entry, day, row.head)


def entries(
    connection: Connection,
    *,
    site: str | None = None,
    campaign: str | None = None,
    since: str | None = None,
    until: str | None = None,
) -> Iterator[SiteEntry]:
    """Every site's committed entries, by site and number, streamed."""
    entries, charges, settlements = tables.entries.c, tables.charges.c, tables.settlements.c
    queries, asked = tables.queries.c, tables.queries.alias("asked").c
    paid = tables.charges.alias("paid").c
    joined = (
        tables.entries.outerjoin(
            tables.charges, (charges.site == entries.site) & (charges.sequence == entries.sequence)
        )
        .outerjoin(tables.settlements, (settlements.site == entries.site) & (settlements.sequence == entries.sequence))
        .outerjoin(paid.site.table, (paid.site == settlements.site) & (paid.sequence == settlements.charge))
        .outerjoin(tables.queries, (queries.site == entries.site) & (queries.sequence == entries.sequence))
        .outerjoin(asked.site.table, (asked.site == settlements.site) & (asked.sequence == settlements.charge))
    )
    of = func.coalesce(charges.campaign, paid.campaign, queries.campaign, asked.campaign)
    query = select(
        entries.site,
        entries.sequence,
        entries.kind,
        of.label("campaign"),
        func.coalesce(charges.micro_epsilon, queries.micro_epsilon).label("micro_epsilon"),
        settlements.charge,
        entries.head,
    ).select_from(joined)
    if site is not None:
        query = query.where(entries.site == site)
    if campaign is not None:
        query = query.where(of == campaign)
    days = sorted((name, first, day) for (name, first), day in _days(connection, site).items())
    batch = -1
    query = query.order_by(entries.site, entries.sequence).execution_options(yield_per=5000)
    with connection.execute(query) as rows:
        for row in rows:
            while batch + 1 < len(days) and days[batch + 1][:2] <= (row.site, row.sequence):
                batch += 1
            # The genesis entry came with the enrolment and has no batch.
            day = days[batch][2] if batch >= 0 and days[batch][0] == row.site else None
            if _within(day, since, until):
                yield SiteEntry(
                    row.site, row.sequence, row.kind, row.campaign, row.micro_epsilon, row.charge, day, row.head
                )


def charged(
    connection: Connection,
    *,
    site: str | None = None,
    campaign: str | None = None,
    since: str | None = None,
    until: str | None = None,
) -> list[Charged]:
    """What each batch has charged, in the order in which batches were committed."""
    days = _days(connection, site)
    found = []
    for table in (tables.charges, tables.queries):
        for row in connection.execute(_charged_in(table, site, campaign)):
            day = days[row.site, row.first]
            if _within(day, since, until):
                found.append(Charged(row.site, row.central_sequence, day, row.campaign, row.charges, row.bound))
    # By the number of their batch, as each table gave them; queries after the charges of the same batch.
    return sorted(found, key=lambda one: one.central_sequence)


def _charged_in(table: Table, site: str | None, campaign: str | None) -> Select[Any]:
    batches, charges = tables.batches.c, table.c
    query = (
        select(
            batches.site,
            batches.first,
            batches.central_sequence,
            charges.campaign,
            func.count().label("charges"),
            func.max(charges.bound).label("bound"),
        )
        .select_from(
            tables.batches.join(
                table, (charges.site == batches.site) & charges.sequence.between(batches.first, batches.last)
            )
        )
        .group_by(batches.site, batches.first, batches.central_sequence, charges.campaign)
        .order_by(batches.central_sequence, func.min(charges.sequence))
    )
    if site is not None:
        query = query.where(batches.site == site)
    if campaign is not None:
        query = query.where(charges.campaign == campaign)
    return query


def body(connection: Connection, sequence: int, site: str | None = None) -> tuple[bytes, str] | None:
    """(canonical bytes, head) of one central line, or of one entry of a site."""
    if site is None:
        query = select(tables.central.c.body, tables.central.c.head).where(tables.central.c.sequence == sequence)
    else:
        columns = tables.entries.c
        query = select(columns.body, columns.head).where(columns.site == site, columns.sequence == sequence)
    row = connection.execute(query).one_or_none()
    return None if row is None else (row.body, row.head)


def _within(day: str | None, since: str | None, until: str | None) -> bool:
    """Whether a day lies in a time; what has no day lies only in all of it."""
    if day is None:
        return since is None and until is None
    return (since is None or day >= since) and (until is None or day <= until)


def _days(connection: Connection, site: str | None) -> dict[tuple[str, int], str]:
    """The day of each committed batch by (site, first entry), read from what the site signed."""
    columns = tables.headers.c
    query = select(columns.site, columns.first, columns.envelope).select_from(tables.headers.join(tables.batches))
    if site is not None:
        query = query.where(columns.site == site)
    keys = {known.site: known.signer for known in sites.every(connection)}
    return {
        (row.site, row.first): parse(BatchHeader, open_envelope(row.envelope, HEADER, keys[row.site])[1]).day
        for row in connection.execute(query)
    }


def _batches_charging(connection: Connection, campaign: str) -> set[int]:
    batches = tables.batches.c
    found: set[int] = set()
    for table in (tables.charges, tables.queries):
        charges = table.c
        query = (
            select(batches.central_sequence)
            .join_from(
                tables.batches,
                table,
                (charges.site == batches.site) & charges.sequence.between(batches.first, batches.last),
            )
            .where(charges.campaign == campaign)
            .distinct()
        )
        found |= set(connection.execute(query).scalars())
    return found
