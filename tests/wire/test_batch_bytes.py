"""The canonical bytes of the largest documents, which have a writer of their own."""

from __future__ import annotations

import json

from hypothesis import given
from hypothesis import strategies as st

from ldp_client.wire.canonical import canonical_bytes, parse
from ldp_client.wire.exchange import Batch, Payload

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
