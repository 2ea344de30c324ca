"""The keys that speak for the site, and where a new one takes over from an old one."""

from __future__ import annotations

from collections.abc import Iterator

from ldp_client.errors import ChainError
from ldp_client.ledger.chain_file import ChainFile
from ldp_client.wire.chain import KeyRotation, entry_body, parse_entry
from ldp_client.wire.exchange import Witness
from ldp_client.wire.rotation import KeysInForce, Rotation, open_rotation

_ROTATIONS = "SELECT sequence, body FROM entries WHERE kind = 'key_rotation' ORDER BY sequence"
_GENESIS = 1


class Rotations(ChainFile):
    """The part of a site's ledger that says which keys are in force."""

    def keys(self, before: int | None = None) -> KeysInForce:
        """The keys in force now, or for entry `before`."""
        keys = KeysInForce.of(self.genesis)
        for sequence, _, rotation in self._rotations():
            if before is not None and sequence >= before:
                break
            keys = keys.after(rotation)
        return keys

    def signer(self) -> int:
        """The entry that brought the key which signs for the site now: 1 is the genesis."""
        return max((at for at, _, rotation in self._rotations() if rotation.role == "site"), default=_GENESIS)

    def rotation(self) -> bytes | None:
        """The entry that brought the site's key, as it is handed to the centre; None for the key of the genesis."""
        bodies = [entry_body(entry) for _, entry, rotation in self._rotations() if rotation.role == "site"]
        return bodies[-1] if bodies else None

    def file_rotation(self, entry: KeyRotation) -> int:
        """Put a rotation into force; its sequence number.

        Raises:
            VerificationError: as `open_rotation`; the ledger is unchanged.
        """
        with self._transaction():
            place = self.head().sequence + 1
            open_rotation(entry, self.keys(), self.genesis.site, self.genesis.ledger_id, place)
            return self._append(entry)

    def resumed_at(self, signer: int) -> int | None:
        """The last entry that the centre had when it took a key in: batches signed with that key begin after it.

        None while the centre has not said so.
        """
        if signer == _GENESIS:
            return _GENESIS
        query = "SELECT reference FROM documents WHERE kind = 'witness' AND digest = ?"
        row = self._connection.execute(query, (self.head_at(signer),)).fetchone()
        return None if row is None else int(row[0])

    def awaits_witness(self) -> bool:
        """Whether the centre has yet to say where batches signed with the key in force begin."""
        return self.resumed_at(self.signer()) is None

    def resume(self, witness: Witness, envelope: bytes) -> None:
        """File what the centre says that it has, heard under the key in force: what comes after it is sent anew.

        What the old key had signed and the centre does not have, it will never take.
        """
        document = ("witness", self.head_at(self.signer()), envelope, witness.sequence)
        with self._transaction() as connection:
            connection.execute("INSERT OR IGNORE INTO documents VALUES (?, ?, ?, ?)", document)

    def _rotations(self) -> Iterator[tuple[int, KeyRotation, Rotation]]:
        keys = KeysInForce.of(self.genesis)
        for sequence, body in self._connection.execute(_ROTATIONS).fetchall():
            entry = parse_entry(body)
            if not isinstance(entry, KeyRotation):
                raise ChainError(f"entry {sequence} is not the rotation that its row says; verify the ledger")
            rotation = open_rotation(entry, keys, self.genesis.site, self.genesis.ledger_id, sequence)
            keys = keys.after(rotation)
            yield sequence, entry, rotation
