"""A site's key can be replaced or revoked; what the old key had announced and never sent is kept aside."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

# Not imported from tables.py: this step must do the same when those have moved on.
NUMBER = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
INSERT_ONLY = ("superseded", "rotations")
_MOVED = "EXISTS (SELECT 1 FROM superseded s WHERE s.site = OLD.site AND s.header = OLD.header)"
_MOVE = f"""
CREATE FUNCTION ldp_only_superseded() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF NOT {_MOVED} THEN
        RAISE EXCEPTION 'headers is insert-only' USING ERRCODE = 'integrity_constraint_violation';
    END IF;
    RETURN OLD;
END $$
"""


def upgrade() -> None:
    """Add the mark and the two tables; let a header go that is kept among the superseded ones, and no other."""
    op.add_column("sites", sa.Column("revoked", sa.Integer, nullable=False, server_default="0"))
    op.create_table(
        "superseded",
        sa.Column("site", sa.Text, sa.ForeignKey("sites.site"), primary_key=True),
        sa.Column("header", sa.Text, primary_key=True),
        sa.Column("first", NUMBER, nullable=False),
        sa.Column("last", NUMBER, nullable=False),
        sa.Column("envelope", sa.LargeBinary, nullable=False),
        sa.Column("rotation", NUMBER, sa.ForeignKey("central.sequence"), nullable=False),
        sqlite_strict=True,
    )
    op.create_table(
        "rotations",
        sa.Column("central_sequence", NUMBER, sa.ForeignKey("central.sequence"), primary_key=True),
        sa.Column("site", sa.Text, sa.ForeignKey("sites.site"), nullable=False),
        sa.Column("sequence", NUMBER, nullable=False),
        sa.Column("old_key", sa.Text, nullable=False, unique=True),
        sa.Column("new_key", sa.Text, nullable=False, unique=True),
        sa.Column("body", sa.LargeBinary, nullable=False),
        sqlite_strict=True,
    )
    rotated = sa.text("kind = 'key_rotation'")
    op.create_index("entries_rotated", "entries", ["site", "sequence"], sqlite_where=rotated, postgresql_where=rotated)
    op.create_index("rotations_by_site", "rotations", ["site", "central_sequence"])
    if op.get_bind().dialect.name == "postgresql":
        _postgresql()
    else:
        _sqlite()


def _sqlite() -> None:
    for table in INSERT_ONLY:
        for action in ("UPDATE", "DELETE"):
            op.execute(
                f"CREATE TRIGGER {table}_no_{action.lower()} BEFORE {action} ON {table} "
                f"BEGIN SELECT raise(ABORT, '{table} is insert-only'); END"
            )
    op.execute("DROP TRIGGER headers_no_delete")
    op.execute(
        f"CREATE TRIGGER headers_no_delete BEFORE DELETE ON headers WHEN NOT {_MOVED} "
        "BEGIN SELECT raise(ABORT, 'headers is insert-only'); END"
    )


def _postgresql() -> None:
    for table in INSERT_ONLY:
        for name, when, each in (("kept", "UPDATE OR DELETE", "ROW"), ("not_emptied", "TRUNCATE", "STATEMENT")):
            op.execute(
                f"CREATE TRIGGER {table}_{name} BEFORE {when} ON {table} "
                f"FOR EACH {each} EXECUTE FUNCTION ldp_insert_only()"
            )
    op.execute("DROP TRIGGER headers_kept ON headers")
    op.execute("CREATE TRIGGER headers_kept BEFORE UPDATE ON headers FOR EACH ROW EXECUTE FUNCTION ldp_insert_only()")
    op.execute(_MOVE)
    op.execute(
        "CREATE TRIGGER headers_moved BEFORE DELETE ON headers FOR EACH ROW EXECUTE FUNCTION ldp_only_superseded()"
    )
