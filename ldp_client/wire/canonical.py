"""One document, one byte string: what is signed, hashed and compared.

Canonical bytes are UTF-8 JSON: sorted keys, no white space, no floats, bytes in URL-safe base64. Parsing accepts
exactly those bytes: whatever would be written differently (a second spelling, an unknown or a repeated key) is refused,
so two readers can never see two documents in the same bytes.
"""

from __future__ import annotations

import hashlib
import json
from typing import Annotated, ClassVar, NewType, TypeVar

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError

from ldp_client.errors import FormatError
from ldp_client.privacy.loss import MAX_MICRO_EPSILON

Digest = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]
SiteId = Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9-]{0,62}$")]
CampaignId = NewType("CampaignId", str)
# What SQL's widest integer holds: a larger number would be read here and break the ledger that stores it.
MAX_INTEGER = 2**63 - 1
Count = Annotated[int, Field(ge=0, le=MAX_INTEGER)]
Position = Annotated[int, Field(ge=1, le=MAX_INTEGER)]
MicroEpsilon = Annotated[int, Field(ge=1, le=MAX_MICRO_EPSILON)]
# Free text that people read on a terminal: no control character, no line break, no change of reading direction.
PlainText = Annotated[str, StringConstraints(pattern=r"^[^\p{Cc}\p{Cf}\p{Zl}\p{Zp}]*$")]
MAX_DOCUMENT_BYTES = 1 << 20
# Pydantic can only list all of them, and takes ten microseconds for each.
_MOST_FAULTS = 100


class Wire(BaseModel):
    """A frozen document that crosses the line or enters a ledger. Fields are added, never removed or redefined."""

    # Set where all fields, at every depth, are declared in the order of the alphabet: the largest documents are.
    in_order: ClassVar[bool] = False
    # Every part of a document but the first stands behind a comma. Larger where there are long lists.
    most_commas: ClassVar[int] = 1 << 12
    model_config = ConfigDict(
        frozen=True, extra="forbid", strict=True, ser_json_bytes="base64", val_json_bytes="base64"
    )


AnyWire = TypeVar("AnyWire", bound=Wire)


def canonical_bytes(document: Wire) -> bytes:
    """The document's only byte string."""
    if document.in_order:
        # The same bytes, a test says, at ten times the speed: JSON from pydantic's compiled core, in declared order.
        return document.model_dump_json().encode()
    return json.dumps(
        document.model_dump(mode="json"), sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False
    ).encode()


def parse(kind: type[AnyWire], body: bytes, *, limit: int = MAX_DOCUMENT_BYTES) -> AnyWire:
    """Read canonical bytes back.

    Raises:
        FormatError: too large, too many parts, not this kind of document, or not its canonical bytes. The text never
            quotes the input: it may come from a hostile party and may hold what must not be logged.
    """
    if len(body) > limit:
        raise FormatError(f"a {kind.__name__} has at most {limit} bytes; found {len(body)}")
    # Before anything is read: pydantic keeps an error of 400 bytes for each wrong part, and a part needs two bytes.
    commas = body.count(b",")
    if commas > kind.most_commas:
        raise FormatError(f"a {kind.__name__} has at most {kind.most_commas} commas; found {commas}")
    try:
        document = kind.model_validate_json(body)
    except ValidationError as error:
        raise FormatError(
            f"these bytes are no {kind.__name__} that this version can read ({_first(error)}); "
            "ask the sender for the document again, or install the version that wrote it"
        ) from None
    except RecursionError:
        raise FormatError(f"a {kind.__name__} is nested too deeply to be one") from None
    if canonical_bytes(document) != body:
        raise FormatError(
            f"these bytes are a {kind.__name__}, but not its canonical bytes; it was altered or rewritten"
        )
    return document


def _first(error: ValidationError) -> str:
    """Where the first fault is."""
    faults = error.error_count()
    if faults > _MOST_FAULTS:
        return f"{faults} faults"
    fault = error.errors(include_input=False)[0]
    # The name of a field that does not exist is the sender's text too.
    known = fault["loc"][:-1] if fault["type"] == "extra_forbidden" else fault["loc"]
    where = ".".join(str(part) for part in known)[:80]
    return f"first fault at {where or 'the start'!r}"


def digest(label: str, *parts: bytes) -> str:
    """SHA-256 over a domain label and length-prefixed parts, in hex: no two lists of parts share an input."""
    return raw_digest(label, *parts).hex()


def raw_digest(label: str, *parts: bytes) -> bytes:
    """As `digest`, 32 bytes."""
    return hashlib.sha256(framed(label.encode()) + b"".join(map(framed, parts))).digest()


def framed(part: bytes) -> bytes:
    """A part of a digest: its length in 8 bytes, big-endian, and itself."""
    return len(part).to_bytes(8, "big") + part
