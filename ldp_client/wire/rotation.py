"""A key is replaced by another: what the officer signs, and which keys are in force after it.

A site has one key that signs for it and some that its officers sign with, all named by its genesis entry. A rotation
puts a new key in the place of one of them. It is an entry of the site's ledger, and it is three signatures over the
same bytes: an officer's always, for the officers are who answers for the site; the new key's, or one could claim a key
that is another's; and the old key's, unless it is lost.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

from ldp_client.errors import EnvelopeError, SignerError, VerificationError
from ldp_client.wire.canonical import Digest, Position, SiteId, Wire, canonical_bytes, parse
from ldp_client.wire.chain import Genesis, KeyRotation, PublicKey
from ldp_client.wire.envelope import ROTATION, Keys, OneKey, close_envelope, open_envelope, payload_of
from ldp_client.wire.signing import Signer


class Rotation(Wire):
    """From entry `sequence` of this ledger on, `new_key` stands in the place of `old_key`.

    The place is part of what is signed: the same rotation can't be put anywhere else, nor a second time.
    """

    schema_version: Literal[1] = 1
    site: SiteId
    ledger_id: Digest
    sequence: Position
    role: Literal["site", "officer"]
    old_key: PublicKey
    new_key: PublicKey


@dataclass(frozen=True)
class KeysInForce:
    """The keys, in hex, that speak for a site at one place of its ledger; `used` holds every key that ever did."""

    signing: str
    officers: tuple[str, ...]
    used: frozenset[str]

    @classmethod
    def of(cls, genesis: Genesis) -> KeysInForce:
        """The keys that a ledger begins with."""
        return cls(genesis.signing_key, genesis.officer_keys, frozenset((genesis.signing_key, *genesis.officer_keys)))

    @property
    def officer_ring(self) -> Keys:
        """Who may sign this site's policies, approvals and rotations."""
        keys = {f"officer {number}": bytes.fromhex(key) for number, key in enumerate(self.officers, start=1)}
        return Keys(keys, "an officer of this site; use a key whose public half `ldp-client site keys` lists")

    def after(self, rotation: Rotation) -> KeysInForce:
        """The keys in force after a rotation that was opened with these."""
        used = self.used | {rotation.new_key}
        if rotation.role == "site":
            return replace(self, signing=rotation.new_key, used=used)
        officers = tuple(rotation.new_key if key == rotation.old_key else key for key in self.officers)
        return replace(self, officers=officers, used=used)


def rotate(rotation: Rotation, officer: Signer, new: Signer, old: Signer | None) -> KeyRotation:
    """The entry that puts a rotation into force; `old` is None where that key is lost or no longer to be believed."""
    body = canonical_bytes(rotation)
    return KeyRotation(
        by_officer=close_envelope(ROTATION, body, officer),
        by_new=close_envelope(ROTATION, body, new),
        by_old=None if old is None else close_envelope(ROTATION, body, old),
    )


def site_named_in(entry: KeyRotation) -> str:
    """The site that a rotation says it is of: to look up by whose keys to open it, not to believe it."""
    return parse(Rotation, payload_of(entry.by_officer, ROTATION)).site


def open_rotation(entry: KeyRotation, keys: KeysInForce, site: str, ledger_id: str, sequence: int | None) -> Rotation:
    """What an entry puts into force, if it may: the keys in force before it are `keys`.

    Args:
        sequence: the entry's place; None where it is not known yet and the rotation's own word is taken.

    Raises:
        FormatError, EnvelopeError: not a rotation, or not signed by an officer in force, by the new key, and by the old
            one where its signature is there.
        SignerError: it is of another site, ledger or place.
        VerificationError: it replaces a key that is not in force, or brings back one that was.
    """
    _, body = open_envelope(entry.by_officer, ROTATION, keys.officer_ring)
    rotation = parse(Rotation, body)
    place = rotation.sequence if sequence is None else sequence
    if (rotation.site, rotation.ledger_id, rotation.sequence) != (site, ledger_id, place):
        raise SignerError("the rotation was signed for another site, ledger or place in it")
    new = OneKey("the new key", bytes.fromhex(rotation.new_key))
    old = OneKey("the old key", bytes.fromhex(rotation.old_key))
    for envelope, key in ((entry.by_new, new), (entry.by_old, old)):
        if envelope is not None and open_envelope(envelope, ROTATION, key)[1] != body:
            raise EnvelopeError(f"{key.name} has signed another rotation than the officer")
    in_force = (keys.signing,) if rotation.role == "site" else keys.officers
    if rotation.old_key not in in_force:
        raise VerificationError("the rotation replaces a key that is not in force at its place")
    if rotation.new_key in keys.used:
        raise VerificationError("the rotation puts a key into force that this ledger has known before; make a new one")
    return rotation
