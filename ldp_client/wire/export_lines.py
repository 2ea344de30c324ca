"""The lines of an export: how a ledger of either side is written to a file, and read back from it.

Each line is one JSON object in canonical form (sorted keys, no white space, ASCII) with a "type": first "ledger", then
"document", "central" and "entry" in the order that docs/ledger_format.md gives, last "checkpoint". A line that could
have been written otherwise is refused, so that every byte of an export counts.
"""

from __future__ import annotations

import base64
import json
import re
from binascii import Error as BinasciiError
from binascii import a2b_base64, b2a_base64
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any, BinaryIO, NamedTuple

from ldp_client.errors import FormatError

MAX_LINE_BYTES = 1 << 22

# What nobody checks could say anything: a line has exactly the fields of its type.
_FIELDS: dict[str, tuple[set[str], ...]] = {
    "ledger": (
        {"side", "format", "site", "ledger_id", "signing_key", "centre_signing_key"},
        {"side", "format", "name", "ledger_id", "signing_key"},
    ),
    "document": ({"kind", "body"},),
    "entry": ({"sequence", "body", "head"}, {"site", "sequence", "body", "head"}),
    "central": ({"sequence", "body", "head"},),
    "checkpoint": ({"body"},),
}

_REPEATED = {"kind": re.compile("[a-z]{1,20}"), "site": re.compile("[a-z0-9][a-z0-9-]{0,62}")}


class EntryLine(NamedTuple):
    """A line of the kind that nearly all are; `site` only in the centre's exports."""

    body: bytes
    head: str
    sequence: int
    site: str | None


@dataclass(frozen=True)
class Line:
    """A line of another kind. What it lacks, or holds in another form, is a `FormatError` that names the line."""

    place: int
    fields: dict[str, Any]

    @property
    def kind(self) -> str:
        """Its type, one of those that exports have."""
        return self.text("type")

    def text(self, name: str) -> str:
        """A field that is text."""
        value = self.fields.get(name)
        if not isinstance(value, str):
            raise FormatError(f"line {self.place} of the export has no text field {name!r}")
        return value

    def number(self, name: str) -> int:
        """A field that is a whole number."""
        value = self.fields.get(name)
        if type(value) is not int:
            raise FormatError(f"line {self.place} of the export has no whole number {name!r}")
        return value

    def body(self) -> bytes:
        """The bytes that the line carries."""
        text = self.text("body")
        try:
            body = base64.b64decode(text, validate=True)
        except ValueError:
            body = b""
        if base64.b64encode(body).decode() != text or not body:
            raise FormatError(f"line {self.place} of the export is damaged; ask for the export again")
        return body

    def public_key(self, name: str) -> bytes:
        """A field that is a public key."""
        try:
            key = bytes.fromhex(self.text(name))
        except ValueError:
            key = b""
        if len(key) != 32 or key.hex() != self.fields[name]:
            raise FormatError(f"line {self.place} of the export holds no public key {name!r}")
        return key

    def entry(self) -> EntryLine:
        """An entry that is not written as the writer writes it: the chain, or what the entry says, will not hold."""
        site = self.text("site") if "site" in self.fields else None
        return EntryLine(self.body(), self.text("head"), self.number("sequence"), site)


def written(**fields: Any) -> bytes:
    """One line, with its end; bytes as base64."""
    plain = {
        name: base64.b64encode(value).decode() if isinstance(value, bytes) else value for name, value in fields.items()
    }
    return json.dumps(plain, sort_keys=True, separators=(",", ":")).encode() + b"\n"


# Exactly as the writer writes them, so that they need not be read and written back to know that they are canonical:
# {"body":"..." and then this.
_BODY = b'{"body":"'
_AFTER = re.compile(
    rb'","head":"([0-9a-f]{64})","sequence":([1-9][0-9]{0,18})'
    rb'(?:,"site":"([a-z0-9][a-z0-9-]{0,62})")?,"type":"entry"\}\n'
)


def lines(file: BinaryIO) -> Iterator[EntryLine | Line]:
    """The lines of an export, each the canonical JSON that the writer wrote.

    Raises:
        FormatError: a line is not; the text names it.
    """
    start = len(_BODY)
    for place, line in enumerate(iter(partial(file.readline, MAX_LINE_BYTES), b""), 1):
        end = line.find(b'"', start)
        found = _AFTER.fullmatch(line, end) if line.startswith(_BODY) else None
        body = None if found is None else _canonical(line[start:end])
        if found is None or not body:
            yield _read(line, place)
        else:
            head, sequence, site = found.groups()
            yield EntryLine(body, head.decode(), int(sequence), None if site is None else site.decode())


def _canonical(text: bytes) -> bytes | None:
    """The bytes of a base64 text, if it is how the writer writes them."""
    if len(text) % 4:
        # Which Python 3.11 does not find strange where the padding is one too many.
        return None
    try:
        body = a2b_base64(text, strict_mode=True)
    except BinasciiError:
        return None
    # Only the last characters could be written otherwise, and only where they are padded.
    if text[-1:] == b"=" and b2a_base64(body[-(len(body) % 3 or 3) :], newline=False) != text[-4:]:
        return None
    return body


def _read(line: bytes, place: int) -> Line:
    try:
        fields = json.loads(line)
        if not isinstance(fields, dict) or written(**fields) != line:
            raise ValueError
    except (ValueError, TypeError, RecursionError):
        # A person who names another file hears so here.
        other = ", or name the file that `ledger export` wrote as proof" if place == 1 else ""
        raise FormatError(f"line {place} of the export is damaged; ask for the export again{other}") from None
    kind = fields.get("type")
    if not isinstance(kind, str) or kind not in _FIELDS:
        raise FormatError(f"line {place} of the export is of an unknown kind")
    if fields.keys() - {"type"} not in _FIELDS[kind]:
        raise FormatError(f"line {place} of the export has other fields than lines of its type have")
    # Refusals repeat these two, and a person reads them on a terminal.
    for name, pattern in _REPEATED.items():
        if name in fields and not pattern.fullmatch(str(fields[name])):
            raise FormatError(f"line {place} of the export has a {name!r} that lines of its type cannot have")
    return Line(place, fields)
