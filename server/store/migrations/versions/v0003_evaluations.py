"""Evaluations: which campaigns are one, and the queries by which sites charged their evaluation sets."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

# Not imported from tables.py: this step must do the same when those have moved on.
NUMBER = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    """Add the kind of a campaign, and the table of queries with what keeps it insert-only."""
    op.add_column("campaigns", sa.Column("kind", sa.Text, nullable=False, server_default="campaign"))
    op.create_table(
        "queries",
        sa.Column("site", sa.Text, primary_key=True),
        sa.Column("sequence", NUMBER, primary_key=True, autoincrement=False),
        sa.Column("campaign", sa.Text, nullable=False),
        sa.Column("approval", NUMBER, nullable=False),
        sa.Column("micro_epsilon", NUMBER, nullable=False),
        sa.Column("bound", NUMBER, nullable=False),
        sa.Column("repeated", sa.Integer, nullable=False),
        sa.ForeignKeyConstraint(["site", "sequence"], ["entries.site", "entries.sequence"]),
        sa.CheckConstraint("micro_epsilon >= 1", name="queries_cost"),
        sqlite_strict=True,
    )
    if op.get_bind().dialect.name == "sqlite":
        for action in ("UPDATE", "DELETE"):
            op.execute(
                f"CREATE TRIGGER queries_no_{action.lower()} BEFORE {action} ON queries "
                "BEGIN SELECT raise(ABORT, 'queries is insert-only'); END"
            )
        return
    for name, when, each in (("kept", "UPDATE OR DELETE", "ROW"), ("not_emptied", "TRUNCATE", "STATEMENT")):
        op.execute(
            f"CREATE TRIGGER queries_{name} BEFORE {when} ON queries FOR EACH {each} EXECUTE FUNCTION ldp_insert_only()"
        )
