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

# Base64 and envelopes add a third to what is counted here; a sealed batch may have 64 MiB.
MOST_BYTES = 24 << 20
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
    for rows in _cut(ledger, at.sequence + 1, records_per_batch):
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
            day=ledger.last_draw(first, last) or today.isoformat(),
        )
        envelope = close_envelope(HEADER, canonical_bytes(header), signer)
        ledger.file_batch(first, last, header_id(header), envelope, sealed)
        at = ledger.batched()
        made += 1
    return made


def _cut(ledger: SiteLedger, first: int, records: int) -> Iterator[list[Row]]:
    """Consecutive runs of at most `records` seals, twice as many entries (a record is a charge and a seal), and
    `MOST_BYTES` of both together."""
    part: list[Row] = []
    seals = size = 0
    for row in ledger.rows(first):
        part.append(row)
        seals += row.kind == "seal"
        size += len(row.body) + (ledger.payload_size(row.sequence) if row.kind == "seal" else 0)
        if seals == records or len(part) == 2 * records or size >= MOST_BYTES:
            yield part
            part, seals, size = [], 0, 0
    if part:
        yield part
