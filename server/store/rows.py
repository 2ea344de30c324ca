"""Many rows at once: what a batch of thousands of entries writes, without a dictionary and a look for each row."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from itertools import chain
from typing import Any

from sqlalchemy import Connection, Dialect, Table

_TOGETHER = 100
"""Rows of one statement: beginning a statement costs SQLite a third of inserting a row."""


def write(connection: Connection, table: Table, rows: Sequence[tuple[Any, ...]]) -> None:
    """Insert rows whose values stand in the order of the table's first columns; no rows are no insert."""
    whole = len(rows) - len(rows) % _TOGETHER
    for start in range(0, whole, _TOGETHER):
        part = rows[start : start + _TOGETHER]
        statement = _statement(table, connection.dialect, len(part[0]), _TOGETHER)
        connection.exec_driver_sql(statement, tuple(chain.from_iterable(part)))
    if whole < len(rows):
        connection.exec_driver_sql(_statement(table, connection.dialect, len(rows[0]), 1), list(rows[whole:]))


@lru_cache(maxsize=64)
def _statement(table: Table, dialect: Dialect, width: int, count: int) -> str:
    """The insert in the driver's own words: SQLAlchemy quotes the names."""
    quoted = dialect.identifier_preparer
    names = ", ".join(quoted.format_column(column) for column in list(table.columns)[:width])
    mark = "?" if dialect.paramstyle == "qmark" else "%s"
    row = f"({', '.join([mark] * width)})"
    return f"INSERT INTO {quoted.format_table(table)} ({names}) VALUES {', '.join([row] * count)}"  # noqa: S608 (our own tables)
