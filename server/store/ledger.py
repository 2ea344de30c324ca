"""A site's ledger in the centre's database: its entries, and the account that they add up to."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import astuple
from functools import lru_cache
from itertools import count, repeat
from typing import Any, TypeVar

from sqlalchemy import Connection, Select, Table, bindparam, delete, exists, select, update

from ldp_client.wire.campaign import Approval, Policy
from ldp_client.wire.canonical import canonical_bytes, parse
from ldp_client.wire.chain import Abandon, ChargeTerms, Query, Said, SealTerms
from ldp_client.wire.envelope import OneKey
from server.store import campaigns, keys, rows, tables
from server.store.account import Account, Paid, Total
from server.store.sites import Site

Name = TypeVar("Name", int, str)


def _parts(wanted: Iterable[Name]) -> Iterator[list[Name]]:
    """Some at a time, in order: databases limit how many values one query can name."""
    names = sorted(wanted)
    for start in range(0, len(names), 500):
        yield names[start : start + 500]


def _bodies(table: Table) -> Select[Any]:
    return select(table.c.sequence, table.c.body).where(table.c.site == bindparam("site")).order_by(table.c.sequence)


# Built once: building a statement takes longer than running it.
# Charges and settlements apart: while a database knows nothing of tables that it has just filled, it may search one of
# them from end to end for each row of the other.
_PAID = select(tables.charges).where(
    tables.charges.c.site == bindparam("site"), tables.charges.c.sequence.in_(bindparam("numbers", expanding=True))
)
_SETTLED = select(tables.settlements.c.charge).where(
    tables.settlements.c.site == bindparam("site"),
    tables.settlements.c.charge.in_(bindparam("numbers", expanding=True)),
)
_POLICIES, _APPROVALS = _bodies(tables.policies), _bodies(tables.approvals)
_TERMS = select(tables.campaigns.c.micro_epsilon_per_record, tables.campaigns.c.unit, tables.campaigns.c.kind).where(
    exists().where(
        tables.totals.c.site == bindparam("of_site"), tables.totals.c.campaign == tables.campaigns.c.campaign
    )
)
_SPENT = select(tables.sites.c.spent).where(tables.sites.c.site == bindparam("site"))
_TOTALS = select(tables.totals).where(
    tables.totals.c.site == bindparam("site"), tables.totals.c.campaign.in_(bindparam("names", expanding=True))
)
_NO_TOTALS = delete(tables.totals).where(
    tables.totals.c.site == bindparam("of_site"), tables.totals.c.campaign.in_(bindparam("names", expanding=True))
)
_MOVE = update(tables.sites).where(tables.sites.c.site == bindparam("of_site"))


def read_account(connection: Connection, site: Site, first: int, entries: Sequence[Said], centre: OneKey) -> Account:
    """The account as the committed chain leaves it, with the charges and campaigns that the next entries speak of."""
    cited = {entry.charge for entry in entries if isinstance(entry, SealTerms | Abandon) and entry.charge < first}
    policies = {number: _policy(body) for number, body in connection.execute(_POLICIES, {"site": site.site})}
    charges = _paid(connection, site.site, cited, policies)
    if cited - charges.keys():
        charges |= _queried(connection, site.site, cited, policies)
    spoken_of = {entry.campaign for entry in entries if isinstance(entry, ChargeTerms | Query)}
    spoken_of |= {charge.campaign for charge in charges.values()}
    totals = _totals(connection, site.site, spoken_of)
    return Account(
        site=site,
        campaigns=campaigns.published(connection, spoken_of, centre),
        policies=policies,
        approvals={number: _approval(body) for number, body in connection.execute(_APPROVALS, {"site": site.site})},
        charges=charges,
        totals=totals,
        written=frozenset(totals),
        bound=connection.execute(_SPENT, {"site": site.site}).scalar_one(),
        keys=keys.said(connection, site),
    )


def extend(
    connection: Connection,
    account: Account,
    first: int,
    entries: Sequence[Said],
    bodies: Sequence[bytes],
    heads: Sequence[str],
) -> None:
    """Write the entries from `first` on that the account has followed, and what they say."""
    site = account.site.site
    kinds = [entry.kind for entry in entries]
    rows.write(connection, tables.entries, list(zip(repeat(site), count(first), kinds, bodies, heads, strict=False)))
    rows.write(
        connection,
        tables.policies,
        [
            (site, sequence, policy.serial, canonical_bytes(policy))
            for sequence, policy in account.policies.items()
            if sequence >= first
        ],
    )
    rows.write(
        connection,
        tables.approvals,
        [
            (site, sequence, canonical_bytes(approval))
            for sequence, approval in account.approvals.items()
            if sequence >= first
        ],
    )
    rows.write(
        connection,
        tables.charges,
        [
            (site, sequence, paid.campaign, paid.approval, paid.micro_epsilon, paid.bound)
            for sequence, paid in account.charges.items()
            if sequence >= first and not paid.of_a_set
        ],
    )
    rows.write(
        connection,
        tables.queries,
        [
            (site, sequence, paid.campaign, paid.approval, paid.micro_epsilon, paid.bound, int(paid.repeated))
            for sequence, paid in account.charges.items()
            if sequence >= first and paid.of_a_set
        ],
    )
    rows.write(
        connection,
        tables.settlements,
        [(site, charge, sequence) for charge, sequence in account.settlements.items()],
    )
    _write_totals(connection, account)
    connection.execute(
        _MOVE,
        {
            "of_site": site,
            "sequence": first + len(entries) - 1,
            "head": heads[-1],
            "officer_keys": " ".join(account.keys.officers),
            **_sums(connection, account),
        },
    )


def _sums(connection: Connection, account: Account) -> dict[str, int | str]:
    """What the site's row says of its budget, so that a question about it reads one row and no entry."""
    charged = connection.execute(_TERMS, {"of_site": account.site.site}).all()
    policy = account.policy
    # With one campaign that protects images only, nothing is promised about a patient.
    units = {row.unit for row in charged} or set(policy.units if policy is not None else ("patient",))
    return {
        "per_record": max((row.micro_epsilon_per_record for row in charged if row.kind == "campaign"), default=0),
        "spent": account.bound,
        "agreed": 0 if policy is None else policy.lifetime_micro_epsilon,
        "unit": "image" if "image" in units else "patient",
    }


def _write_totals(connection: Connection, account: Account) -> None:
    for part in _parts(account.written):
        connection.execute(_NO_TOTALS, {"of_site": account.site.site, "names": part})
    rows.write(
        connection,
        tables.totals,
        [(account.site.site, campaign, *astuple(total)) for campaign, total in account.totals.items()],
    )


# Every batch of a site reads the same few again.
@lru_cache(maxsize=256)
def _policy(body: bytes) -> Policy:
    return parse(Policy, body)


@lru_cache(maxsize=1024)
def _approval(body: bytes) -> Approval:
    return parse(Approval, body)


def _totals(connection: Connection, site: str, campaigns: set[str]) -> dict[str, Total]:
    found = {}
    for part in _parts(campaigns):
        for row in connection.execute(_TOTALS, {"site": site, "names": part}):
            found[row.campaign] = Total(row.charges, row.records, row.refused, row.agreed_bound, row.beyond)
    return found


def _paid(connection: Connection, site: str, cited: set[int], policies: Iterable[int]) -> dict[int, Paid]:
    """Charges of earlier batches, and whether they are settled."""
    found, ordered = {}, sorted(policies)
    for part in _parts(cited):
        named = {"site": site, "numbers": part}
        settled = set(connection.execute(_SETTLED, named).scalars())
        for row in connection.execute(_PAID, named):
            policy = _in_force(ordered, row.sequence)
            is_settled = row.sequence in settled
            found[row.sequence] = Paid(row.campaign, row.approval, row.micro_epsilon, policy, row.bound, is_settled)
    return found


def _in_force(policies: Sequence[int], sequence: int) -> int | None:
    """The entry of the policy that was in force at another entry; policies in order."""
    later = bisect_left(policies, sequence)
    return policies[later - 1] if later else None


def _queried(connection: Connection, site: str, cited: set[int], policies: Iterable[int]) -> dict[int, Paid]:
    """Queries of earlier batches, and whether they are settled: a site has few."""
    queries, settlements = tables.queries.c, tables.settlements.c
    both = tables.queries.outerjoin(
        tables.settlements, (settlements.site == queries.site) & (settlements.charge == queries.sequence)
    )
    ordered = sorted(policies)
    query = select(tables.queries, settlements.sequence.label("settled")).select_from(both).where(queries.site == site)
    return {
        row.sequence: Paid(
            row.campaign,
            row.approval,
            row.micro_epsilon,
            _in_force(ordered, row.sequence),
            row.bound,
            row.settled is not None,
            of_a_set=True,
            repeated=bool(row.repeated),
        )
        for row in connection.execute(query)
        if row.sequence in cited
    }
