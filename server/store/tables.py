"""The centre's tables. Evidence is insert-only; what is counted is written in the same transaction.

    evidence    entries, headers, batches, records, refusals, incidents, central
    views       policies, approvals, charges, queries, settlements (what the entries say), totals (what they add up to)
    state       centre, sites, campaigns, states

Text, bytes and whole numbers only: the tables are STRICT in SQLite and the same in PostgreSQL.
"""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    Column,
    ForeignKey,
    ForeignKeyConstraint,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    Table,
    Text,
    UniqueConstraint,
)

Number = BigInteger().with_variant(Integer(), "sqlite")
metadata = MetaData()

centre = Table(
    "centre",
    metadata,
    Column("one", Integer, CheckConstraint("one = 1"), primary_key=True),
    Column("name", Text, nullable=False),
    Column("ledger_id", Text, nullable=False),
    Column("sequence", Number, nullable=False),
    Column("head", Text, nullable=False),
    sqlite_strict=True,
)

sites = Table(
    "sites",
    metadata,
    Column("site", Text, primary_key=True),
    Column("name", Text, nullable=False),
    Column("enrolment", LargeBinary, nullable=False),
    Column("ledger_id", Text, nullable=False, unique=True),
    Column("signing_key", Text, nullable=False, unique=True),
    Column("key_id", Text, nullable=False, unique=True),
    Column("officer_keys", Text, nullable=False),
    Column("node_key", Text, nullable=False, unique=True),
    Column("sequence", Number, nullable=False),
    Column("head", Text, nullable=False),
    Column("records", Number, nullable=False),
    Column("refused", Number, nullable=False),
    Column("suspended", Integer, nullable=False),
    # What the site's ledger adds up to per unit, in millionths of epsilon, written by the transaction that extends it.
    Column("per_record", Number, nullable=False, server_default="0"),
    Column("spent", Number, nullable=False, server_default="0"),
    Column("agreed", Number, nullable=False, server_default="0"),
    Column("unit", Text, nullable=False, server_default="patient"),
    CheckConstraint("sequence >= 1 AND records >= 0 AND refused >= 0", name="sites_counts"),
    sqlite_strict=True,
)

states = Table(
    "states",
    metadata,
    Column("site", Text, ForeignKey("sites.site"), primary_key=True),
    Column("envelope", LargeBinary, nullable=False),
    sqlite_strict=True,
)

campaigns = Table(
    "campaigns",
    metadata,
    Column("campaign", Text, primary_key=True),
    Column("name", Text, nullable=False, unique=True),
    Column("envelope", LargeBinary, nullable=False),
    Column("unit", Text, nullable=False),
    Column("micro_epsilon_per_record", Number, nullable=False),
    Column("micro_epsilon_per_unit", Number, nullable=False),
    Column("central_sequence", Number, nullable=False),
    Column("open", Integer, nullable=False),
    # "campaign" or "evaluation": what a record costs there is, of an evaluation, what its one answer costs each unit.
    Column("kind", Text, nullable=False, server_default="campaign"),
    sqlite_strict=True,
)

entries = Table(
    "entries",
    metadata,
    Column("site", Text, ForeignKey("sites.site"), primary_key=True),
    Column("sequence", Number, primary_key=True),
    Column("kind", Text, nullable=False),
    Column("body", LargeBinary, nullable=False),
    Column("head", Text, nullable=False),
    sqlite_strict=True,
)


def _of_entry(column: str) -> ForeignKeyConstraint:
    return ForeignKeyConstraint(["site", column], ["entries.site", "entries.sequence"])


policies = Table(
    "policies",
    metadata,
    Column("site", Text, primary_key=True),
    Column("sequence", Number, primary_key=True),
    Column("serial", Number, nullable=False),
    Column("body", LargeBinary, nullable=False),
    _of_entry("sequence"),
    UniqueConstraint("site", "serial", name="policies_serial"),
    sqlite_strict=True,
)

approvals = Table(
    "approvals",
    metadata,
    Column("site", Text, primary_key=True),
    Column("sequence", Number, primary_key=True),
    Column("body", LargeBinary, nullable=False),
    _of_entry("sequence"),
    sqlite_strict=True,
)

charges = Table(
    "charges",
    metadata,
    Column("site", Text, primary_key=True),
    Column("sequence", Number, primary_key=True),
    Column("campaign", Text, nullable=False),
    Column("approval", Number, nullable=False),
    Column("micro_epsilon", Number, nullable=False),
    Column("bound", Number, nullable=False),
    _of_entry("sequence"),
    CheckConstraint("micro_epsilon >= 1", name="charges_cost"),
    sqlite_strict=True,
)

queries = Table(
    "queries",
    metadata,
    Column("site", Text, primary_key=True),
    Column("sequence", Number, primary_key=True),
    Column("campaign", Text, nullable=False),
    Column("approval", Number, nullable=False),
    Column("micro_epsilon", Number, nullable=False),
    Column("bound", Number, nullable=False),
    Column("repeated", Integer, nullable=False),
    _of_entry("sequence"),
    CheckConstraint("micro_epsilon >= 1", name="queries_cost"),
    sqlite_strict=True,
)

settlements = Table(
    "settlements",
    metadata,
    Column("site", Text, primary_key=True),
    Column("charge", Number, primary_key=True),
    Column("sequence", Number, nullable=False),
    _of_entry("charge"),
    _of_entry("sequence"),
    sqlite_strict=True,
)

records = Table(
    "records",
    metadata,
    Column("site", Text, primary_key=True),
    Column("seal", Number, primary_key=True),
    Column("campaign", Text, ForeignKey("campaigns.campaign"), nullable=False),
    Column("payload", LargeBinary, nullable=False),
    _of_entry("seal"),
    Index("records_by_campaign", "campaign", "site", "seal"),
    sqlite_strict=True,
)

refusals = Table(
    "refusals",
    metadata,
    Column("site", Text, primary_key=True),
    Column("seal", Number, primary_key=True),
    Column("code", Text, nullable=False),
    _of_entry("seal"),
    sqlite_strict=True,
)

totals = Table(
    "totals",
    metadata,
    Column("site", Text, ForeignKey("sites.site"), primary_key=True),
    Column("campaign", Text, primary_key=True),
    Column("charges", Number, nullable=False),
    Column("records", Number, nullable=False),
    Column("refused", Number, nullable=False),
    Column("agreed_bound", Number, nullable=False),
    Column("beyond", Number, nullable=False),
    sqlite_strict=True,
)

headers = Table(
    "headers",
    metadata,
    Column("site", Text, ForeignKey("sites.site"), primary_key=True),
    Column("first", Number, primary_key=True),
    Column("last", Number, nullable=False),
    Column("head", Text, nullable=False),
    Column("header", Text, nullable=False),
    Column("sealed_digest", Text, nullable=False),
    Column("envelope", LargeBinary, nullable=False),
    Column("grant", LargeBinary, nullable=False),
    UniqueConstraint("site", "sealed_digest", name="headers_digest"),
    sqlite_strict=True,
)

batches = Table(
    "batches",
    metadata,
    Column("site", Text, primary_key=True),
    Column("first", Number, primary_key=True),
    Column("last", Number, nullable=False),
    Column("sealed_digest", Text, nullable=False),
    Column("central_sequence", Number, ForeignKey("central.sequence"), nullable=False, unique=True),
    Column("receipt", LargeBinary, nullable=False),
    ForeignKeyConstraint(["site", "first"], ["headers.site", "headers.first"]),
    UniqueConstraint("site", "sealed_digest", name="batches_digest"),
    sqlite_strict=True,
)

central = Table(
    "central",
    metadata,
    Column("sequence", Number, primary_key=True),
    Column("body", LargeBinary, nullable=False),
    Column("head", Text, nullable=False),
    sqlite_strict=True,
)

incidents = Table(
    "incidents",
    metadata,
    Column("id", Number, primary_key=True, autoincrement=True),
    Column("site", Text, ForeignKey("sites.site"), nullable=False),
    Column("code", Text, nullable=False),
    Column("digest", Text, nullable=False),
    Column("evidence", LargeBinary, nullable=False),
    UniqueConstraint("site", "code", "digest", name="incidents_once"),
    sqlite_strict=True,
)
