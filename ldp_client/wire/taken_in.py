"""The keys that a centre says it has taken in or revoked, held against its sites' ledgers by a reader of its export."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from ldp_client.errors import ChainError, VerificationError
from ldp_client.wire.chain import KeyRotation, parse_entry
from ldp_client.wire.document import file_name
from ldp_client.wire.exchange import BatchHeader, CentralEntry
from ldp_client.wire.export_lines import Line
from ldp_client.wire.history import SiteHistory
from ldp_client.wire.rotation import Rotation, open_rotation
from ldp_client.wire.signing import key_id


@dataclass
class TakenIn:
    """Rotations handed over to the centre, each before its entry arrived with its ledger."""

    _handed_over: dict[str, KeyRotation] = field(default_factory=dict)
    # By site: (last entry committed under the key that went, what was put into force).
    _rotations: defaultdict[str, list[tuple[int, Rotation]]] = field(default_factory=lambda: defaultdict(list))

    def add(self, line: Line) -> None:
        """Take a rotation's line; it is opened when the entries have said who the officers are."""
        body = line.body()
        try:
            entry = parse_entry(body)
            if not isinstance(entry, KeyRotation):
                raise VerificationError("an entry of another kind")
        except VerificationError as error:
            raise VerificationError(f"line {line.place} of the export (rotation): {error}") from error
        self._handed_over[file_name(body)] = entry

    def follow(self, lines: Sequence[CentralEntry], histories: dict[str, SiteHistory]) -> dict[str, list[bytes]]:
        """Read the central ledger's lines in order; the keys that signed for each site, the first one first.

        Raises:
            VerificationError: a rotation that its site's officers did not sign, or that stands at another place than
                the line says; a batch that was committed although its key was revoked.
        """
        keys = {site: [bytes.fromhex(history.keys_at(1).signing)] for site, history in histories.items()}
        reached, revoked = dict.fromkeys(histories, 1), set()
        for number, line in enumerate(lines, 1):
            if line.site is None or line.site not in histories:
                continue
            history, signing = histories[line.site], keys[line.site]
            if line.kind in ("rotation", "revocation") and line.sequence != reached[line.site]:
                raise ChainError(f"central entry {number} replaces or revokes a key at another place than it says")
            if line.kind == "batch":
                if line.site in revoked:
                    raise VerificationError(f"central entry {number} commits a batch although its key was revoked")
                reached[line.site] = line.sequence
            elif line.kind == "revocation":
                if line.reference != key_id(signing[-1]).hex():
                    raise VerificationError(f"central entry {number} revokes a key that was not in force")
                revoked.add(line.site)
            elif line.kind == "rotation":
                rotation = self._opened(number, line, history, signing[-1])
                self._rotations[line.site].append((line.sequence, rotation))
                signing.append(bytes.fromhex(rotation.new_key))
                revoked.discard(line.site)
        return keys

    def _opened(self, number: int, line: CentralEntry, history: SiteHistory, signing: bytes) -> Rotation:
        entry = self._handed_over.get(line.reference)
        if entry is None:
            raise ChainError(f"central entry {number} names a rotation that is not in the export")
        # The ledger's own entries may say less than was handed over before.
        in_force = replace(history.keys_at(line.sequence), signing=signing.hex())
        try:
            rotation = open_rotation(entry, in_force, history.site, history.ledger_id, None)
        except VerificationError as error:
            raise VerificationError(f"central entry {number}: {error}") from error
        if rotation.role != "site" or rotation.sequence <= line.sequence:
            raise VerificationError(f"central entry {number} takes in a rotation that is no news of the site's own key")
        return rotation

    def check(self, history: SiteHistory, headers: Sequence[tuple[int, BatchHeader]]) -> None:
        """A site's ledger says what was taken in, and each header was signed with the key in force when it came.

        Args:
            headers: each with the number of the key that signed it, 0 for the first.
        """
        taken = self._rotations[history.site]
        for _, rotation in taken:
            arrived = any(at == rotation.sequence and keys.signing == rotation.new_key for at, keys in history.keys)
            if history.sequence >= rotation.sequence and not arrived:
                raise VerificationError(
                    f"site {history.site}, entry {rotation.sequence}: this is not the rotation that was handed over"
                )
        for number, header in headers:
            if number != sum(reached < header.first for reached, _ in taken):
                raise ChainError(
                    f"site {history.site}, entry {header.first}: the header is signed with a key that was not in force"
                )
