"""The canonical bytes of the largest documents, which have a writer of their own."""

from __future__ import annotations

import json

from hypothesis import given
from hypothesis import strategies as st

from ldp_client.wire.canonical import canonical_bytes, parse
from ldp_client.wire.exchange import Batch, Payload, Receipt, Refusal, RefusalCode

DIGESTS = st.binary(min_size=32, max_size=32).map(bytes.hex)
BATCHES = st.builds(
    Batch,
    site=st.from_regex(r"[a-z0-9][a-z0-9-]{0,62}", fullmatch=True),
    ledger_id=DIGESTS,
    first=st.integers(1, 2**63 - 1),
    previous_head=DIGESTS,
    entries=st.lists(st.binary(max_size=40), max_size=5).map(tuple),
    payloads=st.lists(
        st.builds(Payload, seal=st.integers(1, 2**63 - 1), record=st.binary(max_size=40)), max_size=5
    ).map(tuple),
)


@given(BATCHES)
def test_fields_in_the_order_of_the_alphabet_are_written_as_every_document_is(batch: Batch) -> None:
    slow = json.dumps(batch.model_dump(mode="json"), sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()
    assert canonical_bytes(batch) == slow
    assert parse(Batch, slow) == batch


def test_a_batch_of_the_most_entries_and_its_receipt_are_within_the_limits() -> None:
    """20,000 entries, all of them refused: nothing that intake takes may be too large to read or to answer."""
    count, name = 20_000, "1" * 64
    seals = range(10**10 - count, 10**10)
    payloads = tuple(Payload(record=b"r", seal=seal) for seal in seals)
    batch = Batch(
        site="a" * 63, ledger_id=name, first=2, previous_head=name, entries=(b"entry",) * count, payloads=payloads
    )
    assert parse(Batch, canonical_bytes(batch), limit=64 << 20) == batch
    receipt = Receipt(
        site="a" * 63,
        ledger_id=name,
        first=2,
        sequence=10**10,
        head=name,
        header=name,
        batch_digest=name,
        central_sequence=2**63 - 1,
        central_head=name,
        refused=tuple(Refusal(seal=seal, code=RefusalCode.UNKNOWN_CAMPAIGN) for seal in seals),
    )
    assert parse(Receipt, canonical_bytes(receipt)) == receipt
