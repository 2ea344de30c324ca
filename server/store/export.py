"""The central ledger as one file that anybody can verify: `python -m ldp_client.verify FILE`."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Row, Select, select

from ldp_client.new_file import appearing_whole
from ldp_client.wire.canonical import canonical_bytes
from ldp_client.wire.envelope import CHECKPOINT, close_envelope
from ldp_client.wire.exchange import Checkpoint
from ldp_client.wire.export_lines import written
from ldp_client.wire.signing import Signer
from server.store import central, keys, tables


def write_export(connection: Connection, signer: Signer, path: Path) -> int:
    """Write campaigns, enrolments, the central chain, every site's entries and receipts; the number of lines.

    No record is written: an auditor needs none. The last line is the centre's signed checkpoint, so a file that was cut
    off says so. The file appears whole or not at all.

    Raises:
        ConfigurationError: the file exists already or cannot be written.
    """
    count = 0
    with appearing_whole(path) as part, part.open("wb") as file:
        for fields in _lines(connection, signer):
            file.write(written(**fields))
            count += 1
    return count


def _lines(connection: Connection, signer: Signer) -> Iterator[dict[str, Any]]:
    ledger_id, sequence, head = central.stands_at(connection)
    name = connection.execute(select(tables.centre.c.name)).scalar_one()
    key = signer.public_key.hex()
    yield {"type": "ledger", "side": "centre", "format": 1, "ledger_id": ledger_id, "signing_key": key, "name": name}
    campaigns, sites = tables.campaigns.c, tables.sites.c
    published = select(campaigns.kind, campaigns.envelope).order_by(campaigns.central_sequence)
    for row in _streamed(connection, published):
        yield _document(row.kind, row.envelope)
    for body in connection.execute(select(sites.enrolment).order_by(sites.site)).scalars():
        yield _document("enrolment", body)
    for body in keys.bodies(connection):
        yield _document("rotation", body)
    for row in _streamed(connection, select(tables.central).order_by(tables.central.c.sequence)):
        yield {"type": "central", "sequence": row.sequence, "body": row.body, "head": row.head}
    entries = tables.entries.c
    for row in _streamed(connection, select(tables.entries).order_by(entries.site, entries.sequence)):
        yield {
            "type": "entry",
            "site": row.site,
            "sequence": row.sequence,
            "body": row.body,
            "head": row.head,
        }
    headers = tables.headers.join(tables.batches)
    signed = select(tables.headers.c.envelope).select_from(headers)
    signed = signed.order_by(tables.headers.c.site, tables.headers.c.first)
    for row in _streamed(connection, signed):
        yield _document("header", row.envelope)
    receipts = select(tables.batches).order_by(tables.batches.c.central_sequence)
    for row in _streamed(connection, receipts):
        yield _document("receipt", row.receipt)
    checkpoint = Checkpoint(party=name, ledger_id=ledger_id, sequence=sequence, head=head)
    envelope = close_envelope(CHECKPOINT, canonical_bytes(checkpoint), signer)
    yield {"type": "checkpoint", "body": envelope}


def _streamed(connection: Connection, query: Select[Any]) -> Iterator[Row[Any]]:
    with connection.execute(query.execution_options(yield_per=1000)) as rows:
        yield from rows


def _document(kind: str, body: bytes) -> dict[str, Any]:
    return {"type": "document", "kind": kind, "body": body}
