"""A second reader of ledger exports, written from docs/ledger_format.md alone: the standard library and Ed25519.

It imports nothing of the product. It knows chains, envelopes, documents' digests and receipts, not the mechanisms: it
takes a campaign's loss as the campaign states it.
"""

from __future__ import annotations

import base64
import hashlib
import json
from pathlib import Path
from typing import Any

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey


class Refused(Exception):  # noqa: N818
    """Something does not hold."""


def require(condition: object, what: str) -> None:
    if not condition:
        raise Refused(what)


def digest(label: str, *parts: bytes) -> str:
    framed = b"".join(len(part).to_bytes(8, "big") + part for part in (label.encode(), *parts))
    return hashlib.sha256(framed).hexdigest()


def opened(envelope: bytes, kind: str, keys: list[bytes]) -> tuple[bytes, bytes]:
    """(the signer's key, the payload)."""
    require(envelope[:5] == b"LDPE\x01", "magic")
    key_id, signature, rest = envelope[5:37], envelope[37:101], envelope[101:]
    require(rest[: 1 + len(kind)] == bytes([len(kind)]) + kind.encode(), "type")
    payload = rest[1 + len(kind) :]
    signers = [key for key in keys if hashlib.sha256(b"ldp-glow/key/v1" + key).digest() == key_id]
    require(signers, "signer")
    message = b"DSSEv1 %d %s %d %s" % (len(kind), kind.encode(), len(payload), payload)
    try:
        Ed25519PublicKey.from_public_bytes(signers[0]).verify(signature, message)
    except InvalidSignature:
        raise Refused("signature") from None
    return signers[0], payload


def canonical(body: bytes) -> dict[str, Any]:
    value = json.loads(body)
    written = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()
    require(written == body, "canonical bytes")
    found: dict[str, Any] = value
    return found


class Site:
    """One site's chain, read entry by entry."""

    def __init__(self, site: str, ledger_id: str) -> None:
        self.site, self.ledger_id = site, ledger_id
        self.heads = ["0" * 64]
        self.genesis: dict[str, Any] = {}
        self.policy: dict[str, Any] = {}
        self.policy_id = ""
        self.approvals: dict[int, tuple[str, str]] = {}
        self.open: set[int] = set()
        self.charged: dict[str, int] = {}
        self.sealed = 0

    def add(self, sequence: int, body: bytes, head: str, campaigns: dict[str, dict[str, Any]]) -> None:
        place, before = sequence.to_bytes(8, "big"), bytes.fromhex(self.heads[-1])
        require(sequence == len(self.heads), "sequence")
        require(head == digest("ldp-glow/entry", bytes.fromhex(self.ledger_id), place, before, body), "head")
        self.heads.append(head)
        entry = canonical(body)["entry"]
        kind = entry["kind"]
        require((kind == "genesis") == (sequence == 1), "genesis")
        if kind == "genesis":
            require((entry["site"], entry["ledger_id"]) == (self.site, self.ledger_id), "genesis")
            self.genesis = entry
        elif kind in ("policy", "approval"):
            envelope = base64.urlsafe_b64decode(entry["envelope"])
            officers = [bytes.fromhex(key) for key in self.genesis["officer_keys"]]
            payload = opened(envelope, f"ldp-glow/{kind}/v1", officers)[1]
            document = canonical(payload)
            require(document["site"] == self.site, kind)
            if kind == "policy":
                require(document["serial"] > self.policy.get("serial", 0), "serial")
                self.policy, self.policy_id = document, digest("ldp-glow/policy", payload)
            else:
                require((document["ledger_id"], document["policy"]) == (self.ledger_id, self.policy_id), "approval")
                self.approvals[sequence] = (document["campaign"], document["policy"])
        elif kind == "charge":
            campaign = campaigns[entry["campaign"]]
            require(entry["micro_epsilon"] == campaign["micro_epsilon_per_record"], "loss")
            require(self.approvals.get(entry["approval"]) == (entry["campaign"], self.policy_id), "approval")
            self.spend(sequence, entry["campaign"], campaign["cap"] * campaign["micro_epsilon_per_record"])
        elif kind == "query":
            require(entry["campaign"] not in self.charged, "repeated")
            require(entry["micro_epsilon"] == campaigns[entry["campaign"]]["micro_epsilon_per_unit"], "loss")
            require(self.approvals.get(entry["approval"]) == (entry["campaign"], self.policy_id), "approval")
            self.spend(sequence, entry["campaign"], entry["micro_epsilon"])
        else:
            require(entry["charge"] in self.open, "settled")
            self.open.remove(entry["charge"])
            self.sealed += kind == "seal"

    def spend(self, sequence: int, campaign: str, bound: int) -> None:
        self.charged[campaign] = bound
        require(sum(self.charged.values()) <= self.policy["lifetime_micro_epsilon"], "budget")
        self.open.add(sequence)


def read_site_export(path: Path) -> Site:
    """A site's export, if everything holds.

    Raises:
        Refused: it does not.
    """
    lines = []
    for line in path.read_bytes().splitlines(keepends=True):
        fields = json.loads(line)
        written = json.dumps(fields, sort_keys=True, separators=(",", ":")).encode() + b"\n"
        require(written == line, "line")
        lines.append(fields)
    head, *middle, last = lines
    require((head["type"], head["side"], head["format"], last["type"]) == ("ledger", "site", 1, "checkpoint"), "ends")
    key, centre = (bytes.fromhex(head[name]) for name in ("signing_key", "centre_signing_key"))
    site = Site(head["site"], head["ledger_id"])
    campaigns: dict[str, dict[str, Any]] = {}
    documents: dict[str, list[dict[str, Any]]] = {"header": [], "receipt": []}
    for fields in middle:
        body = base64.b64decode(fields["body"], validate=True)
        if fields["type"] == "entry":
            site.add(fields["sequence"], body, fields["head"], campaigns)
            continue
        kind = fields["kind"]
        payload = opened(body, f"ldp-glow/{kind}/v1", [key if kind == "header" else centre])[1]
        if kind in ("campaign", "evaluation"):
            campaigns[digest(f"ldp-glow/{kind}", payload)] = canonical(payload)
        else:
            documents[kind].append(canonical(payload))
    require(site.genesis["signing_key"] == head["signing_key"], "key")
    at = 1
    for header in sorted(documents["header"], key=lambda document: document["first"]):
        found = (header["first"], header["previous_head"], header["head"])
        require(found == (at + 1, site.heads[at], site.heads[header["last"]]), "header")
        at = header["last"]
    at = 1
    for receipt in sorted(documents["receipt"], key=lambda document: document["first"]):
        require((receipt["first"], receipt["head"]) == (at + 1, site.heads[receipt["sequence"]]), "receipt")
        at = receipt["sequence"]
    end = canonical(opened(base64.b64decode(last["body"]), "ldp-glow/checkpoint/v1", [key])[1])
    require((end["sequence"], end["head"]) == (len(site.heads) - 1, site.heads[-1]), "checkpoint")
    return site
