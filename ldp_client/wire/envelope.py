"""A signed document: Ed25519 over its type and its bytes (the pre-authentication encoding of DSSE).

`open_envelope` returns who signed and the very bytes that were signed, or raises. There is no function that answers
true or false: an answer can be forgotten, an exception cannot.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from ldp_client.errors import EnvelopeError, FormatError
from ldp_client.wire.signing import Signer, check_signature, key_id

CAMPAIGN = "ldp-glow/campaign/v1"
POLICY = "ldp-glow/policy/v1"
APPROVAL = "ldp-glow/approval/v1"
ENROLMENT = "ldp-glow/enrolment/v1"
STATE = "ldp-glow/state/v1"
HEADER = "ldp-glow/header/v1"
BATCH = "ldp-glow/batch/v1"
WITNESS = "ldp-glow/witness/v1"
GRANT = "ldp-glow/grant/v1"
RECEIPT = "ldp-glow/receipt/v1"
CHECKPOINT = "ldp-glow/checkpoint/v1"
EVALUATION = "ldp-glow/evaluation/v1"
CLASSIFIER = "ldp-glow/classifier/v1"

_MAGIC = b"LDPE\x01"
_KEY, _SIGNATURE = 32, 64


class Keyring(Protocol):
    """Whose key it is. Raises EnvelopeError for a key that nobody here is known by."""

    def owner(self, key: bytes) -> tuple[str, bytes]:
        """The name and raw public key behind a key id."""
        ...


@dataclass(frozen=True)
class OneKey:
    """A keyring of one: everything must be signed by this party."""

    name: str
    public_key: bytes

    def owner(self, key: bytes) -> tuple[str, bytes]:
        if key != key_id(self.public_key):
            raise EnvelopeError(f"expected a document signed by {self.name}; found another signer")
        return self.name, self.public_key


@dataclass(frozen=True)
class Keys:
    """A keyring of several parties by name; `who` completes "the signer is not ..."."""

    public_keys: dict[str, bytes]
    who: str = "known here; enrol it first, or compare its key's fingerprint"

    def owner(self, key: bytes) -> tuple[str, bytes]:
        for name, public_key in self.public_keys.items():
            if key_id(public_key) == key:
                return name, public_key
        raise EnvelopeError(f"the signer is not {self.who}")


def _signed_message(payload_type: str, payload: bytes) -> bytes:
    """PAE: "DSSEv1" SP len(type) SP type SP len(payload) SP payload."""
    kind = payload_type.encode()
    return b"DSSEv1 %d %s %d %s" % (len(kind), kind, len(payload), payload)


def close_envelope(payload_type: str, payload: bytes, signer: Signer) -> bytes:
    """magic(5) | key id(32) | signature(64) | length of type(1) | type | payload."""
    kind = payload_type.encode()
    signature = signer.sign(_signed_message(payload_type, payload))
    return b"".join((_MAGIC, key_id(signer.public_key), signature, bytes([len(kind)]), kind, payload))


def open_envelope(envelope: bytes, payload_type: str, keyring: Keyring) -> tuple[str, bytes]:
    """Who signed, and exactly the bytes that were signed.

    Raises:
        FormatError: not an envelope.
        EnvelopeError: another type of document, an unknown signer, or a bad signature.
    """
    start = len(_MAGIC) + _KEY + _SIGNATURE
    if len(envelope) <= start or envelope[: len(_MAGIC)] != _MAGIC:
        raise FormatError("these bytes are not a signed envelope of this version; ask the sender for them again")
    key = envelope[len(_MAGIC) : len(_MAGIC) + _KEY]
    signature = envelope[len(_MAGIC) + _KEY : start]
    kind = payload_type.encode()
    # The length byte is not signed: it is compared, so that an envelope has one spelling.
    end = start + 1 + len(kind)
    if envelope[start:end] != bytes([len(kind)]) + kind:
        raise EnvelopeError(f"expected a signed {payload_type}; found an envelope of another type")
    payload = envelope[end:]
    name, public_key = keyring.owner(key)
    check_signature(public_key, signature, _signed_message(payload_type, payload))
    return name, payload


def is_of_type(envelope: bytes, payload_type: str) -> bool:
    """Whether an envelope says that it holds this type of document: to choose what to open it as, not to believe it."""
    kind = payload_type.encode()
    start = len(_MAGIC) + _KEY + _SIGNATURE
    return envelope[start : start + 1 + len(kind)] == bytes([len(kind)]) + kind


def signer_of(envelope: bytes) -> bytes:
    """The id of the key that an envelope says it was signed with, for a person to compare; nothing is checked."""
    return envelope[len(_MAGIC) : len(_MAGIC) + _KEY]


def open_introduction(envelope: bytes, payload_type: str, signer_in: Callable[[bytes], tuple[str, bytes]]) -> bytes:
    """The bytes of a document that names its own signer: it proves that whoever holds that key wrote it, no more.

    `signer_in` reads the name and the raw public key out of the bytes; they are returned only if that key signed them.

    Raises:
        FormatError, EnvelopeError: as `open_envelope`, or as `signer_in`.
    """
    name, public_key = signer_in(envelope[len(_MAGIC) + _KEY + _SIGNATURE + 1 + len(payload_type.encode()) :])
    return open_envelope(envelope, payload_type, OneKey(name, public_key))[1]
