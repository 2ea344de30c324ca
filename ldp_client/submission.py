"""From sealed records to bytes that may leave: batches signed by the site, sealed to the centre, and their headers."""

from __future__ import annotations

import datetime
from collections.abc import Callable, Iterator

from ldp_client.ledger.chain_file import Row
from ldp_client.ledger.store import SiteLedger
from ldp_client.wire.canonical import canonical_bytes
from ldp_client.wire.envelope import BATCH, HEADER, close_envelope
from ldp_client.wire.exchange import Batch, BatchHeader, CentreCard, Payload, header_id, sealed_digest
from ldp_client.wire.signing import Signer, seal

# Injectable, because HPKE draws its own randomness and a test that compares bytes cannot script it.
Sealer = Callable[[bytes, bytes], bytes]


def make_batches(
    ledger: SiteLedger,
    signer: Signer,
    centre: CentreCard,
    today: datetime.date,
    *,
    records_per_batch: int = 500,
    sealer: Sealer = seal,
) -> int:
    """Turn every entry since the last batch into batches and file them; how many were made.

    The bytes are kept: asked again, the site sends these and not others.
    """
    made = 0
    at = ledger.batched()
    for rows in _cut(ledger.rows(at.sequence + 1), records_per_batch):
        first, last = rows[0].sequence, rows[-1].sequence
        payloads = tuple(Payload(seal=sequence, record=record) for sequence, record in ledger.payloads(first, last))
        batch = Batch(
            site=ledger.genesis.site,
            ledger_id=ledger.genesis.ledger_id,
            first=first,
            previous_head=at.head,
            entries=tuple(row.body for row in rows),
            payloads=payloads,
        )
        inner = close_envelope(BATCH, canonical_bytes(batch), signer)
        sealed = sealer(inner, bytes.fromhex(centre.sealing_key))
        header = BatchHeader(
            site=batch.site,
            ledger_id=batch.ledger_id,
            first=first,
            last=last,
            previous_head=at.head,
            head=rows[-1].head,
            records=len(payloads),
            sealed_digest=sealed_digest(sealed),
            sealed_bytes=len(sealed),
            day=today.isoformat(),
        )
        envelope = close_envelope(HEADER, canonical_bytes(header), signer)
        ledger.file_batch(first, last, header_id(header), envelope, sealed)
        at = ledger.batched()
        made += 1
    return made


def _cut(rows: Iterator[Row], records: int) -> Iterator[list[Row]]:
    """Consecutive runs of at most `records` seals and twice as many entries: a record is a charge and a seal."""
    part: list[Row] = []
    seals = 0
    for row in rows:
        part.append(row)
        seals += row.kind == "seal"
        if seals == records or len(part) == 2 * records:
            yield part
            part, seals = [], 0
    if part:
        yield part
