"""What passes through a spool and through Flower: opaque signed envelopes, and the limits both ends keep."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass

from ldp_client.errors import FormatError
from ldp_client.wire.canonical import MAX_DOCUMENT_BYTES

DOWN_KINDS = ("campaign", "receipt", "witness", "grant")
UP_KINDS = ("state", "header")
EXCHANGE_VERSION = 1

MAX_DOCUMENTS = 1000
MAX_OFFER_BYTES = 8 << 20
"""Documents of one offer or one answer, together; what does not fit waits for the next."""
MAX_BATCH_BYTES = 64 << 20
"""One sealed batch, and also all batches of one pull."""


@dataclass(frozen=True)
class Document:
    """One signed envelope and the folder it belongs to.

    Raises:
        FormatError: the kind is unknown or the body is longer than MAX_DOCUMENT_BYTES.
    """

    kind: str
    body: bytes

    def __post_init__(self) -> None:
        if self.kind not in DOWN_KINDS and self.kind not in UP_KINDS:
            raise FormatError(
                "a document is one of " + ", ".join(DOWN_KINDS + UP_KINDS) + "; found another kind; ask its sender to "
                "install the version that this one speaks"
            )
        if len(self.body) > MAX_DOCUMENT_BYTES:
            raise FormatError(
                f"a document has at most {MAX_DOCUMENT_BYTES} bytes; found {len(self.body)}; ask its sender to split it"
            )

    @property
    def name(self) -> str:
        """The file it is kept in."""
        return file_name(self.body)


def file_name(body: bytes) -> str:
    """SHA-256 of the bytes alone, in hex: what a spool file and a batch on a pull list are called."""
    return hashlib.sha256(body).hexdigest()


def within_limits(documents: Iterable[Document]) -> list[Document]:
    """The longest beginning that one offer or answer may carry; the rest goes with the next one."""
    kept: list[Document] = []
    size = 0
    for document in documents:
        size += len(document.body)
        if len(kept) == MAX_DOCUMENTS or size > MAX_OFFER_BYTES:
            break
        kept.append(document)
    return kept
