"""Older ledgers, brought to the present schema when they are opened: every row is copied, none is changed.

The whole step is one transaction: after a crash in the middle of it, the file is what it was before.
"""

from __future__ import annotations

import sqlite3
from importlib import resources

from ldp_client.errors import ConfigurationError

SCHEMA_VERSION = 4
# The columns that a version's rows have, in the order in which the present tables take them. Tables that a version did
# not have yet begin empty.
_FIRST = {
    "entries": "sequence, kind, body, head",
    "openings": "charge, campaign, unit, salt, xray, micro_epsilon",
    "bounds": "campaign, micro_epsilon",
    "seals": "charge, sequence, payload, day",
    "batches": "first, last, header, envelope, sealed",
    "documents": "kind, digest, body, reference",
    "decisions": "id, campaign, code",
}
_MERGES = {"merges": "id, kept, joined"}
# Version 2 has narrower indexes over the same columns; version 3 adds the table of merges, version 4 evaluations.
_COLUMNS = {1: _FIRST, 2: _FIRST, 3: _FIRST | _MERGES}


def schema() -> str:
    """The statements that make an empty ledger of the present version."""
    return resources.files("ldp_client.ledger").joinpath("schema.sql").read_text(encoding="utf-8")


def migrate(connection: sqlite3.Connection) -> None:
    """Bring the ledger behind a connection to the present version; the caller holds the ledger's file lock.

    Raises:
        ConfigurationError: a version that this program does not know.
    """
    version = connection.execute("PRAGMA user_version").fetchone()[0]
    if version == SCHEMA_VERSION:
        return
    if version not in _COLUMNS:
        raise ConfigurationError(
            f"the ledger has schema version {version}, this program reads 1 to {SCHEMA_VERSION}; "
            "install the matching version"
        )
    # References are checked as a whole before the commit. The pragmas do nothing inside a transaction.
    connection.execute("PRAGMA foreign_keys = OFF")
    connection.execute("PRAGMA legacy_alter_table = ON")
    try:
        _copy(connection, _COLUMNS[version])
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise
    finally:
        connection.execute("PRAGMA legacy_alter_table = OFF")
        connection.execute("PRAGMA foreign_keys = ON")


def _copy(connection: sqlite3.Connection, columns: dict[str, str]) -> None:
    names = "SELECT type, name FROM sqlite_schema WHERE type IN ('view', 'trigger', 'index') AND sql NOT NULL"
    script = ["BEGIN IMMEDIATE"]
    script += [f"DROP {kind} {name}" for kind, name in connection.execute(names)]
    script += [f"ALTER TABLE {table} RENAME TO old_{table}" for table in columns]
    script.append(schema().rstrip().rstrip(";"))
    # Every name here is a constant of this file.
    script += [
        f"INSERT INTO {table} ({listed}) SELECT {listed} FROM old_{table} ORDER BY rowid"  # noqa: S608
        for table, listed in columns.items()
    ]
    script += [f"DROP TABLE old_{table}" for table in columns]
    # One script, as executescript would commit a transaction that was begun outside of it.
    connection.executescript(";\n".join(script) + ";")
    fault = connection.execute("PRAGMA foreign_key_check").fetchone()
    if fault is not None:
        raise ConfigurationError(
            f"the ledger's table {fault[0]} names rows that are gone; restore the ledger from its backup"
        )
    connection.execute("COMMIT")
