"""A second reader of ledger exports, written from docs/ledger_format.md alone: the standard library and Ed25519.

It imports nothing of the product. It knows chains, envelopes, documents' digests, receipts and what a release costs.
"""

from __future__ import annotations

import base64
import hashlib
import json
import math
from decimal import Decimal, localcontext
from fractions import Fraction
from pathlib import Path
from typing import Any

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

FIELDS = {
    "ledger": {"type", "side", "format", "site", "ledger_id", "signing_key", "centre_signing_key"},
    "document": {"type", "kind", "body"},
    "entry": {"type", "sequence", "body", "head"},
    "checkpoint": {"type", "body"},
}


class Refused(Exception):  # noqa: N818
    """Something does not hold."""


def require(condition: object, what: str) -> None:
    if not condition:
        raise Refused(what)


def digest(label: str, *parts: bytes) -> str:
    framed = b"".join(len(part).to_bytes(8, "big") + part for part in (label.encode(), *parts))
    return hashlib.sha256(framed).hexdigest()


def opened(envelope: bytes, kind: str, keys: list[str]) -> tuple[str, bytes]:
    """(the signer's key, the payload)."""
    require(envelope[:5] == b"LDPE\x01", "magic")
    key_id, signature, rest = envelope[5:37], envelope[37:101], envelope[101:]
    require(rest[: 1 + len(kind)] == bytes([len(kind)]) + kind.encode(), "type")
    payload = rest[1 + len(kind) :]
    signers = [key for key in keys if hashlib.sha256(b"ldp-glow/key/v1" + bytes.fromhex(key)).digest() == key_id]
    require(signers, "signer")
    message = b"DSSEv1 %d %s %d %s" % (len(kind), kind.encode(), len(payload), payload)
    try:
        Ed25519PublicKey.from_public_bytes(bytes.fromhex(signers[0])).verify(signature, message)
    except InvalidSignature:
        raise Refused("signature") from None
    return signers[0], payload


def canonical(body: bytes) -> dict[str, Any]:
    value = json.loads(body)
    written = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()
    require(written == body, "canonical bytes")
    found: dict[str, Any] = value
    return found


def cost(release: dict[str, Any]) -> int:
    """Millionths of epsilon of one record."""
    kind = release["kind"]
    if kind == "image":
        return cost(release["noised"])
    if kind == "joint_codebook":
        book = release["codebook"]
        return _logarithm(book["threshold"], book["codewords"], book["subset"])
    laplace, clip = release["laplace"], release["laplace"]["clip"]
    moved = clip["radius_steps"] if clip["kind"] == "l1" else clip["bound_steps"] * laplace["dimension"]
    spent = math.ceil(10**6 * 2 * moved / Fraction(laplace["scale"]))
    if kind == "joint_discrete_laplace":
        return spent
    require(kind in ("latent", "dp_glow"), "release")
    return spent + _logarithm(release["label"]["threshold"], release["label"]["classes"], 1)


def _logarithm(threshold: int, outputs: int, chosen: int) -> int:
    with localcontext() as context:
        context.prec = 80
        likelier = Decimal(threshold * (outputs - chosen)) / Decimal((2**64 - threshold) * chosen)
        return math.ceil(10**6 * likelier.ln())


class Site:
    """One site's chain, read entry by entry."""

    def __init__(self, site: str, ledger_id: str) -> None:
        self.site, self.ledger_id = site, ledger_id
        self.heads = ["0" * 64]
        self.genesis: dict[str, Any] = {}
        self.officers: list[str] = []
        self.used: set[str] = set()
        # (entry, the site's key from there on)
        self.keys: list[tuple[int, str]] = []
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
            self.genesis, self.officers = entry, entry["officer_keys"]
            self.keys.append((sequence, entry["signing_key"]))
            self.used = {entry["signing_key"], *self.officers}
        elif kind == "key_rotation":
            self.rotate(sequence, entry)
        elif kind in ("policy", "approval"):
            envelope = base64.urlsafe_b64decode(entry["envelope"])
            payload = opened(envelope, f"ldp-glow/{kind}/v1", self.officers)[1]
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
            require(entry["micro_epsilon"] == cost(campaign["release"]), "loss")
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

    def rotate(self, sequence: int, entry: dict[str, Any]) -> None:
        kind = "ldp-glow/rotation/v1"
        payload = opened(base64.urlsafe_b64decode(entry["by_officer"]), kind, self.officers)[1]
        rotation = canonical(payload)
        found = (rotation["site"], rotation["ledger_id"], rotation["sequence"])
        require(found == (self.site, self.ledger_id, sequence), "rotation")
        for name in ("by_new", "by_old"):
            if entry[name] is not None:
                key = rotation[f"{name[3:]}_key"]
                require(opened(base64.urlsafe_b64decode(entry[name]), kind, [key])[1] == payload, "rotation")
        old, new = rotation["old_key"], rotation["new_key"]
        require(new not in self.used, "key used before")
        self.used.add(new)
        if rotation["role"] == "site":
            require(old == self.keys[-1][1], "key in force")
            self.keys.append((sequence, new))
        else:
            require(rotation["role"] == "officer" and old in self.officers, "key in force")
            self.officers = [new if key == old else key for key in self.officers]

    def spend(self, sequence: int, campaign: str, bound: int) -> None:
        self.charged[campaign] = bound
        require(sum(self.charged.values()) <= self.policy["lifetime_micro_epsilon"], "budget")
        self.open.add(sequence)


def check_headers(site: Site, envelopes: list[bytes]) -> None:
    """They follow one another, and once a new key has signed one, no older key signs the next."""
    keys = [key for _, key in site.keys]
    found = []
    for envelope in envelopes:
        key, payload = opened(envelope, "ldp-glow/header/v1", keys)
        found.append((canonical(payload), keys.index(key)))
    at, signer = 1, 0
    for header, number in sorted(found, key=lambda one: one[0]["first"]):
        named = (header["first"], header["previous_head"], header["head"])
        require(named == (at + 1, site.heads[at], site.heads[header["last"]]), "header")
        require(number >= signer, "replaced key")
        at, signer = header["last"], number


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
        require(fields.keys() == FIELDS[fields["type"]], "fields")
        lines.append(fields)
    head, *middle, last = lines
    require((head["type"], head["side"], head["format"], last["type"]) == ("ledger", "site", 1, "checkpoint"), "ends")
    key, centre = head["signing_key"], head["centre_signing_key"]
    site = Site(head["site"], head["ledger_id"])
    campaigns: dict[str, dict[str, Any]] = {}
    receipts: list[dict[str, Any]] = []
    # Which of the site's keys signed them, the entries say.
    headers: list[bytes] = []
    for fields in middle:
        body = base64.b64decode(fields["body"], validate=True)
        kind = fields.get("kind")
        if fields["type"] == "entry":
            site.add(fields["sequence"], body, fields["head"], campaigns)
        elif kind == "header":
            headers.append(body)
        else:
            payload = opened(body, f"ldp-glow/{kind}/v1", [centre])[1]
            if kind == "receipt":
                receipts.append(canonical(payload))
            else:
                require(kind in ("campaign", "evaluation"), "kind")
                campaigns[digest(f"ldp-glow/{kind}", payload)] = canonical(payload)
    require(site.keys[-1][1] == key, "key")
    check_headers(site, headers)
    at = 1
    for receipt in sorted(receipts, key=lambda document: document["first"]):
        require((receipt["first"], receipt["head"]) == (at + 1, site.heads[receipt["sequence"]]), "receipt")
        at = receipt["sequence"]
    end = canonical(opened(base64.b64decode(last["body"]), "ldp-glow/checkpoint/v1", [key])[1])
    require(end["party"] == site.site, "party")
    require((end["sequence"], end["head"]) == (len(site.heads) - 1, site.heads[-1]), "checkpoint")
    return site
