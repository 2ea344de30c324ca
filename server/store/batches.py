"""A batch at the centre: announced by a header, granted once for its place in the chain, committed with a receipt."""

from __future__ import annotations

from sqlalchemy import Connection, bindparam, insert, select

from ldp_client.errors import ForkError
from ldp_client.wire.canonical import canonical_bytes, parse
from ldp_client.wire.envelope import GRANT, HEADER, RECEIPT, close_envelope, open_envelope
from ldp_client.wire.exchange import BatchHeader, CentralEntry, Grant, Receipt, Refusal, header_id
from ldp_client.wire.signing import Signer
from server.store import central, rows, tables
from server.store.sites import Site

# Built once: building a statement takes longer than running it.
_HEADER = select(tables.headers.c.envelope).where(
    tables.headers.c.site == bindparam("site"), tables.headers.c.first == bindparam("first")
)
_RECEIPT = select(tables.batches.c.receipt).where(
    tables.batches.c.site == bindparam("site"), tables.batches.c.sealed_digest == bindparam("digest")
)


def grant(connection: Connection, site: Site, header: BatchHeader, envelope: bytes, signer: Signer) -> None:
    """Grant a header that continues the site's chain; the same one again, or one that is still ahead, changes nothing.

    A copy of a site that went its own way announces other bytes for a place that is taken, or follows another entry:
    it is caught here, before its data leaves.

    Raises:
        ForkError: another header was granted for this place, or this one continues another history.
    """
    name = header_id(header)
    columns = tables.headers.c
    taken = connection.execute(
        select(columns.header).where(columns.site == site.site, columns.first == header.first)
    ).scalar_one_or_none()
    if taken == name:
        return
    sequence, head = _tip(connection, site)
    if header.first > sequence + 1:
        return
    if header.first <= sequence or header.previous_head != head:
        raise ForkError(
            f"site {site.site} announces entries from {header.first} on that do not continue the {sequence} entries "
            "known and granted: there are two histories. Ask the site whether its ledger was copied or restored"
        )
    leave = Grant(site=site.site, ledger_id=site.ledger_id, header=name)
    connection.execute(
        insert(tables.headers).values(
            site=site.site,
            first=header.first,
            last=header.last,
            head=header.head,
            header=name,
            sealed_digest=header.sealed_digest,
            envelope=envelope,
            grant=close_envelope(GRANT, canonical_bytes(leave), signer),
        )
    )


def granted(connection: Connection, site: Site, first: int) -> BatchHeader | None:
    """The header that was granted for entries from `first` on, read from what the site signed."""
    envelope = connection.execute(_HEADER, {"site": site.site, "first": first}).scalar_one_or_none()
    return None if envelope is None else parse(BatchHeader, open_envelope(envelope, HEADER, site.signer)[1])


def outstanding(connection: Connection, site: Site) -> list[tuple[str, bytes]]:
    """(sealed digest, grant) of the batches granted and not yet committed, in the order of the chain."""
    columns = tables.headers.c
    query = select(columns.sealed_digest, columns.grant).where(columns.site == site.site, columns.last > site.sequence)
    return [(row.sealed_digest, row.grant) for row in connection.execute(query.order_by(columns.first))]


def commit(
    connection: Connection, site: Site, header: BatchHeader, refused: tuple[Refusal, ...], signer: Signer
) -> bytes:
    """Give a batch its line in the central ledger and its receipt, which is returned."""
    line = CentralEntry(
        kind="batch",
        site=site.site,
        ledger_id=site.ledger_id,
        first=header.first,
        sequence=header.last,
        head=header.head,
        reference=header.sealed_digest,
        refused=refused,
    )
    central_sequence, central_head = central.append(connection, line)
    receipt = Receipt(
        site=site.site,
        ledger_id=site.ledger_id,
        first=header.first,
        sequence=header.last,
        head=header.head,
        header=header_id(header),
        batch_digest=header.sealed_digest,
        central_sequence=central_sequence,
        central_head=central_head,
        refused=refused,
    )
    envelope = close_envelope(RECEIPT, canonical_bytes(receipt), signer)
    row = (site.site, header.first, header.last, header.sealed_digest, central_sequence, envelope)
    rows.write(connection, tables.batches, [row])
    return envelope


def receipt_for(connection: Connection, site: str, sealed_digest: str) -> bytes | None:
    """The receipt of exactly these sealed bytes, if they were committed for this site."""
    return connection.execute(_RECEIPT, {"site": site, "digest": sealed_digest}).scalar_one_or_none()


def receipts_after(connection: Connection, site: str, sequence: int) -> list[bytes]:
    """Receipts of the batches that end after an entry, in the order of the chain."""
    columns = tables.batches.c
    query = select(columns.receipt).where(columns.site == site, columns.last > sequence).order_by(columns.first)
    return list(connection.execute(query).scalars())


def _tip(connection: Connection, site: Site) -> tuple[int, str]:
    """The end of what is committed or granted: headers may be granted several in a row."""
    columns = tables.headers.c
    query = select(columns.last, columns.head).where(columns.site == site.site).order_by(columns.first.desc()).limit(1)
    row = connection.execute(query).one_or_none()
    return (site.sequence, site.head) if row is None else (row.last, row.head)
