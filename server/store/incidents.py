"""What came in and was not what it claimed to be. Insert-only."""

from __future__ import annotations

from sqlalchemy import Connection, insert, select

from ldp_client.wire.document import file_name
from ldp_client.wire.exchange import IncidentCode
from server.store import tables

# A signed header, state or receipt fits; a batch leaves only its digest.
MAX_EVIDENCE_BYTES = 1 << 16


def record(connection: Connection, site: str, code: IncidentCode, found: bytes) -> None:
    """Note that `site` delivered these bytes. The same bytes for the same reason are noted once."""
    columns, digest = tables.incidents.c, file_name(found)
    query = select(columns.id).where(columns.site == site, columns.code == code, columns.digest == digest)
    if connection.execute(query).first() is None:
        evidence = found if len(found) <= MAX_EVIDENCE_BYTES else b""
        connection.execute(insert(tables.incidents).values(site=site, code=str(code), digest=digest, evidence=evidence))
