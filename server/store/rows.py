"""Many rows at once: what a batch of thousands of entries writes, without a dictionary and a look for each row."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

from sqlalchemy import Connection, Dialect, Table


def write(connection: Connection, table: Table, rows: Sequence[tuple[Any, ...]]) -> None:
    """Insert rows whose values stand in the order of the table's first columns; no rows are no insert."""
    if rows:
        connection.exec_driver_sql(_statement(table, connection.dialect, len(rows[0])), list(rows))


@lru_cache(maxsize=64)
def _statement(table: Table, dialect: Dialect, width: int) -> str:
    """The insert in the driver's own words: SQLAlchemy quotes the names."""
    quoted = dialect.identifier_preparer
    names = ", ".join(quoted.format_column(column) for column in list(table.columns)[:width])
    marks = ", ".join(["?" if dialect.paramstyle == "qmark" else "%s"] * width)
    return f"INSERT INTO {quoted.format_table(table)} ({names}) VALUES ({marks})"  # noqa: S608 (our own tables)
