"""What a site's budget has come to stands on its row; PostgreSQL keeps evidence as it was written, as SQLite does."""

from __future__ import annotations

import json
from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

# Not imported from tables.py: this step must do the same when those have moved on.
NUMBER = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
MOST = 10**12
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
_REFUSE = """
CREATE FUNCTION ldp_insert_only() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION '% is insert-only', TG_TABLE_NAME USING ERRCODE = 'integrity_constraint_violation';
END $$
"""


def upgrade() -> None:
    """Add the sums, fill them from what is there, and forbid on PostgreSQL what SQLite forbids already."""
    for name in ("per_record", "spent", "agreed"):
        op.add_column("sites", sa.Column(name, NUMBER, nullable=False, server_default="0"))
    op.add_column("sites", sa.Column("unit", sa.Text, nullable=False, server_default="patient"))
    _fill()
    if op.get_bind().dialect.name == "postgresql":
        _triggers()


def _fill() -> None:
    connection = op.get_bind()
    sites = connection.execute(sa.text("SELECT site FROM sites")).scalars().all()
    for site in sites:
        policy = connection.execute(
            sa.text("SELECT body FROM policies WHERE site = :site ORDER BY sequence DESC LIMIT 1"), {"site": site}
        ).scalar()
        said: dict[str, Any] = {"units": ["patient"], "lifetime_micro_epsilon": 0}
        if policy is not None:
            said = json.loads(bytes(policy))
        charged = connection.execute(
            sa.text(
                "SELECT t.agreed_bound + t.beyond AS bound, coalesce(c.micro_epsilon_per_record, 0) AS cost, c.unit "
                "FROM totals t LEFT JOIN campaigns c ON c.campaign = t.campaign WHERE t.site = :site"
            ),
            {"site": site},
        ).all()
        units = {row.unit for row in charged if row.unit} or set(said["units"])
        connection.execute(
            sa.text(
                "UPDATE sites SET per_record = :cost, spent = :spent, agreed = :agreed, unit = :unit WHERE site = :site"
            ),
            {
                "site": site,
                "cost": max((row.cost for row in charged), default=0),
                "spent": min(sum(row.bound for row in charged), MOST),
                "agreed": said["lifetime_micro_epsilon"],
                "unit": "image" if "image" in units else "patient",
            },
        )


def _triggers() -> None:
    op.execute(_REFUSE)
    for table in (*INSERT_ONLY, *KEPT):
        actions = "UPDATE OR DELETE" if table in INSERT_ONLY else "DELETE"
        for name, when, each in (("kept", actions, "ROW"), ("not_emptied", "TRUNCATE", "STATEMENT")):
            op.execute(
                f"CREATE TRIGGER {table}_{name} BEFORE {when} ON {table} "
                f"FOR EACH {each} EXECUTE FUNCTION ldp_insert_only()"
            )
