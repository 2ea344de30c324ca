"""The central ledger: one chained line for each site enrolled, campaign published and batch committed."""

from __future__ import annotations

from sqlalchemy import Connection, insert, select, update

from ldp_client.errors import ConfigurationError
from ldp_client.wire.canonical import canonical_bytes
from ldp_client.wire.chain import ZERO, link
from ldp_client.wire.exchange import CentralEntry
from server.store import rows, tables

# Built once: building a statement takes longer than running it.
_LOCKED = select(tables.centre).with_for_update()
_MOVE = update(tables.centre)


def begin(connection: Connection, name: str, ledger_id: str) -> None:
    """The empty ledger of a new centre.

    Raises:
        ConfigurationError: the database holds a centre already.
    """
    if connection.execute(select(tables.centre.c.one)).first() is not None:
        raise ConfigurationError(
            "this database holds a centre already; a ledger is never begun anew. Name an empty one"
        )
    connection.execute(insert(tables.centre).values(one=1, name=name, ledger_id=ledger_id, sequence=0, head=ZERO))


def stands_at(connection: Connection) -> tuple[str, int, str]:
    """(ledger id, sequence, head).

    Raises:
        ConfigurationError: the database was never initialised.
    """
    row = connection.execute(select(tables.centre)).one_or_none()
    if row is None:
        raise ConfigurationError(
            "this database holds no centre; make one with `ldp-server centre init`, or name another URL"
        )
    return row.ledger_id, row.sequence, row.head


def append(connection: Connection, entry: CentralEntry) -> tuple[int, str]:
    """Chain one more line to the ledger; its sequence and the new head."""
    row = connection.execute(_LOCKED).one()
    body = canonical_bytes(entry)
    sequence = row.sequence + 1
    head = link(row.ledger_id, sequence, row.head, body)
    rows.write(connection, tables.central, [(sequence, body, head)])
    connection.execute(_MOVE, {"sequence": sequence, "head": head})
    return sequence, head
