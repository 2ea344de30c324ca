"""The first tables, and the triggers that keep evidence as it was written."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

# Not imported from tables.py: this step must make the same tables when those have moved on.
NUMBER = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
INSERT_ONLY = (
    "entries",
    "policies",
    "approvals",
    "charges",
    "settlements",
    "headers",
    "batches",
    "records",
    "refusals",
    "incidents",
    "central",
)
KEPT = ("centre", "sites", "campaigns")


def _text(name: str, *, unique: bool | None = None) -> sa.Column[str]:
    return sa.Column(name, sa.Text, nullable=False, unique=unique)


def _number(name: str) -> sa.Column[int]:
    return sa.Column(name, NUMBER, nullable=False)


def _bytes(name: str) -> sa.Column[bytes]:
    return sa.Column(name, sa.LargeBinary, nullable=False)


def _flag(name: str) -> sa.Column[int]:
    return sa.Column(name, sa.Integer, nullable=False)


def _site() -> sa.Column[str]:
    return sa.Column("site", sa.Text, sa.ForeignKey("sites.site"), primary_key=True)


def _entry(column: str) -> sa.ForeignKeyConstraint:
    return sa.ForeignKeyConstraint(["site", column], ["entries.site", "entries.sequence"])


def _key(name: str) -> sa.Column[int]:
    return sa.Column(name, NUMBER, primary_key=True, autoincrement=False)


def _site_key() -> sa.Column[str]:
    return sa.Column("site", sa.Text, primary_key=True)


def upgrade() -> None:
    """Make the tables."""
    _parties()
    _chain()
    _submissions()
    if op.get_bind().dialect.name == "sqlite":
        _triggers()


def _table(name: str, *parts: sa.schema.SchemaItem) -> None:
    op.create_table(name, *parts, sqlite_strict=True)


def _parties() -> None:
    _table(
        "centre",
        sa.Column("one", sa.Integer, sa.CheckConstraint("one = 1"), primary_key=True, autoincrement=False),
        _text("name"),
        _text("ledger_id"),
        _number("sequence"),
        _text("head"),
    )
    _table(
        "sites",
        _site_key(),
        _text("name"),
        _bytes("enrolment"),
        _text("ledger_id", unique=True),
        _text("signing_key", unique=True),
        _text("key_id", unique=True),
        _text("officer_keys"),
        _text("node_key", unique=True),
        _number("sequence"),
        _text("head"),
        _number("records"),
        _number("refused"),
        _flag("suspended"),
        sa.CheckConstraint("sequence >= 1 AND records >= 0 AND refused >= 0", name="sites_counts"),
    )
    _table("states", _site(), _bytes("envelope"))
    _table(
        "campaigns",
        sa.Column("campaign", sa.Text, primary_key=True),
        _text("name", unique=True),
        _bytes("envelope"),
        _text("unit"),
        _number("micro_epsilon_per_record"),
        _number("micro_epsilon_per_unit"),
        _number("central_sequence"),
        _flag("open"),
    )


def _chain() -> None:
    _table("entries", _site(), _key("sequence"), _text("kind"), _bytes("body"), _text("head"))
    _table(
        "policies",
        _site_key(),
        _key("sequence"),
        _number("serial"),
        _bytes("body"),
        _entry("sequence"),
        sa.UniqueConstraint("site", "serial", name="policies_serial"),
    )
    _table("approvals", _site_key(), _key("sequence"), _bytes("body"), _entry("sequence"))
    _table(
        "charges",
        _site_key(),
        _key("sequence"),
        _text("campaign"),
        _number("approval"),
        _number("micro_epsilon"),
        _number("bound"),
        _entry("sequence"),
        sa.CheckConstraint("micro_epsilon >= 1", name="charges_cost"),
    )
    _table("settlements", _site_key(), _key("charge"), _number("sequence"), _entry("charge"), _entry("sequence"))
    _table(
        "totals",
        _site(),
        sa.Column("campaign", sa.Text, primary_key=True),
        _number("charges"),
        _number("records"),
        _number("refused"),
        _number("agreed_bound"),
        _number("beyond"),
    )


def _submissions() -> None:
    _table("central", _key("sequence"), _bytes("body"), _text("head"))
    _table(
        "records",
        _site_key(),
        _key("seal"),
        sa.Column("campaign", sa.Text, sa.ForeignKey("campaigns.campaign"), nullable=False),
        _bytes("payload"),
        _entry("seal"),
    )
    op.create_index("records_by_campaign", "records", ["campaign", "site", "seal"])
    _table("refusals", _site_key(), _key("seal"), _text("code"), _entry("seal"))
    _table(
        "headers",
        _site(),
        _key("first"),
        _number("last"),
        _text("head"),
        _text("header"),
        _text("sealed_digest"),
        _bytes("envelope"),
        _bytes("grant"),
        sa.UniqueConstraint("site", "sealed_digest", name="headers_digest"),
    )
    _table(
        "batches",
        _site_key(),
        _key("first"),
        _number("last"),
        _text("sealed_digest"),
        sa.Column("central_sequence", NUMBER, sa.ForeignKey("central.sequence"), nullable=False, unique=True),
        _bytes("receipt"),
        sa.ForeignKeyConstraint(["site", "first"], ["headers.site", "headers.first"]),
        sa.UniqueConstraint("site", "sealed_digest", name="batches_digest"),
    )
    _table(
        "incidents",
        sa.Column("id", NUMBER, primary_key=True, autoincrement=True),
        sa.Column("site", sa.Text, sa.ForeignKey("sites.site"), nullable=False),
        _text("code"),
        _text("digest"),
        _bytes("evidence"),
        sa.UniqueConstraint("site", "code", "digest", name="incidents_once"),
    )


def _triggers() -> None:
    for table in INSERT_ONLY:
        for action in ("UPDATE", "DELETE"):
            _refuse(table, action)
    for table in KEPT:
        _refuse(table, "DELETE")


def _refuse(table: str, action: str) -> None:
    op.execute(
        f"CREATE TRIGGER {table}_no_{action.lower()} BEFORE {action} ON {table} "
        f"BEGIN SELECT raise(ABORT, '{table} is insert-only'); END"
    )
