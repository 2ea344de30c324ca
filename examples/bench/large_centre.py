"""A centre's database with millions of entries, built by the database itself: sites, chains, charges, sums.

Bodies have the true shape and size with random digests; heads are random, since no budget query reads them. What the
sites' rows say is what intake would have written.
"""

# ruff: noqa: S608 -- every name in a statement here is a constant of this file or a digest made in it.
from __future__ import annotations

import os
from pathlib import Path

from sqlalchemy import Connection, insert, text

from server.config import initialise, read_config
from server.store import tables
from server.store.database import Database, open_database

CAMPAIGNS = 10


def large_centre(folder: Path, *, sites: int, entries: int, database_url: str | None = None) -> Database:
    """An opened database with so many sites and, over all of them, so many entries; half charges, half seals."""
    config = read_config(initialise(folder, "Bench", database_url=database_url), {})
    database = open_database(config.database.url)
    with database.transaction() as connection:
        names = [os.urandom(32).hex() for _ in range(CAMPAIGNS)]
        connection.execute(insert(tables.campaigns), [_campaign(index, name) for index, name in enumerate(names)])
        each = entries // sites
        connection.execute(insert(tables.sites), [_site(number, each) for number in range(sites)])
        connection.execute(
            insert(tables.totals),
            [
                {
                    "site": f"site-{number:05}",
                    "campaign": name,
                    "charges": each // 2 // CAMPAIGNS,
                    "records": each // 2 // CAMPAIGNS,
                    "refused": 0,
                    "agreed_bound": 4_000_000,
                    "beyond": 0,
                }
                for number in range(sites)
                for name in names
            ],
        )
        _fill(connection, names[0], each)
    return database


def _campaign(index: int, name: str) -> dict[str, object]:
    return {
        "campaign": name,
        "name": f"campaign-{index}",
        "envelope": b"",
        "unit": "patient",
        "micro_epsilon_per_record": 2_000_000,
        "micro_epsilon_per_unit": 4_000_000,
        "central_sequence": index + 1,
        "open": 1,
    }


def _site(number: int, entries: int) -> dict[str, object]:
    return {
        "site": f"site-{number:05}",
        "name": f"Hospital {number}",
        "enrolment": b"",
        "ledger_id": os.urandom(32).hex(),
        "signing_key": os.urandom(32).hex(),
        "key_id": os.urandom(32).hex(),
        "officer_keys": os.urandom(32).hex(),
        "node_key": os.urandom(32).hex(),
        "sequence": entries,
        "head": os.urandom(32).hex(),
        "records": entries // 2,
        "refused": 0,
        "suspended": 0,
        "per_record": 2_000_000,
        "spent": 4_000_000 * CAMPAIGNS,
        "agreed": 100_000_000,
        "unit": "patient",
    }


_NUMBERS = "WITH RECURSIVE n(sequence) AS (SELECT 1 UNION ALL SELECT sequence + 1 FROM n WHERE sequence < :each)"
_DIGEST = {"sqlite": "lower(hex(randomblob(32)))", "postgresql": "encode(sha256(random()::text::bytea), 'hex')"}
_BYTES = {"sqlite": "CAST({} AS BLOB)", "postgresql": "convert_to({}, 'UTF8')"}


def _fill(connection: Connection, campaign: str, each: int) -> None:
    dialect = connection.dialect.name
    digest, as_bytes = _DIGEST[dialect], _BYTES[dialect]
    charge = as_bytes.format(
        f"""'{{"entry":{{"approval":3,"campaign":"{campaign}","kind":"charge","micro_epsilon":2000000,"subject":"' """
        f"""|| {digest} || '"}}}}'"""
    )
    seal = as_bytes.format(
        f"""'{{"entry":{{"charge":' || (sequence - 1) || ',"kind":"seal","record":"' || {digest} || '"}}}}'"""
    )
    # Odd entries are charges, even ones the seals after them.
    statements = (
        f"INSERT INTO entries {_NUMBERS} SELECT site, n.sequence, CASE n.sequence % 2 WHEN 1 THEN 'charge' ELSE 'seal' "
        f"END, CASE n.sequence % 2 WHEN 1 THEN {charge} ELSE {seal} END, {digest} FROM sites CROSS JOIN n",
        f"INSERT INTO charges {_NUMBERS} SELECT site, n.sequence, :campaign, 3, 2000000, 4000000 FROM sites "
        "CROSS JOIN n WHERE n.sequence % 2 = 1",
        f"INSERT INTO settlements {_NUMBERS} SELECT site, n.sequence - 1, n.sequence FROM sites "
        "CROSS JOIN n WHERE n.sequence % 2 = 0",
    )
    for statement in statements:
        values = {"each": each, **({"campaign": campaign} if ":campaign" in statement else {})}
        connection.execute(text(statement.replace("(sequence - 1)", "(n.sequence - 1)").replace('":', '"\\:')), values)
