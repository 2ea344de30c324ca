"""What came in and was not what it claimed to be. Insert-only."""

from __future__ import annotations

from sqlalchemy import Connection, func, insert, select

from ldp_client.wire.document import file_name
from ldp_client.wire.exchange import IncidentCode
from server.store import tables

# A signed header, state or receipt fits; a batch leaves only its digest.
MAX_EVIDENCE_BYTES = 1 << 16
# A hostile site can send other bytes for ever. The first ones prove as much; a fork is never crowded out by junk.
MOST_OF_A_KIND = 1000


def record(connection: Connection, site: str, code: IncidentCode, found: bytes) -> None:
    """Note that `site` delivered these bytes. The same bytes for the same reason are noted once.

    Of one site and code, MOST_OF_A_KIND are kept.
    """
    columns, digest = tables.incidents.c, file_name(found)
    alike = (columns.site == site) & (columns.code == code)
    known = connection.execute(select(columns.id).where(alike, columns.digest == digest)).first()
    kept = connection.execute(select(func.count()).where(alike)).scalar_one()
    if known is None and kept < MOST_OF_A_KIND:
        evidence = found if len(found) <= MAX_EVIDENCE_BYTES else b""
        connection.execute(insert(tables.incidents).values(site=site, code=str(code), digest=digest, evidence=evidence))
