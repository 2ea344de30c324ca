"""Ledgers as older versions of the program kept them, row for row."""

from __future__ import annotations

import contextlib
import sqlite3
from pathlib import Path

HERE = Path(__file__).parent


def downgrade(path: Path, version: int) -> None:
    """Put a closed ledger of the present version into the schema of an older one; its rows use nothing newer."""
    with contextlib.closing(sqlite3.connect(path)) as connection:
        tables = {
            name: connection.execute(f"SELECT * FROM {name}").fetchall()  # noqa: S608
            for (name,) in connection.execute("SELECT name FROM sqlite_schema WHERE type = 'table'").fetchall()
        }
    path.unlink()
    with contextlib.closing(sqlite3.connect(path)) as connection, connection:
        connection.executescript((HERE / f"ledger_v{version}.sql").read_text())
        names = connection.execute("SELECT name FROM sqlite_schema WHERE type = 'table'").fetchall()
        for (name,) in names:
            width = len(connection.execute(f"PRAGMA table_info({name})").fetchall())
            rows = [row[:width] for row in tables[name]]
            connection.executemany(f"INSERT INTO {name} VALUES ({', '.join('?' * width)})", rows)  # noqa: S608
