"""What went out and what came in: batches made, documents of the centre, the site's answers to campaigns."""

from __future__ import annotations

from ldp_client.errors import ChainError, WaitingError
from ldp_client.ledger.chain_file import Head
from ldp_client.ledger.rotations import Rotations


class Correspondence(Rotations):
    """The part of a site's ledger that deals with the centre."""

    def batched(self) -> Head:
        """The last entry that is in a batch signed with the key in force, or that the centre had when it took that key
        in; the genesis entry travels in the enrolment.

        Raises:
            WaitingError: the centre has not said yet what it has, so no batch can begin there.
        """
        signer = self.signer()
        begun = self.resumed_at(signer)
        if begun is None:
            raise WaitingError(
                "the key was replaced, and the centre has not witnessed this ledger under the new one; it is asked as "
                "soon as the centre's administrator has entered the rotation with `ldp-server site rotate-key`"
            )
        query = "SELECT coalesce(max(last), ?) FROM batches WHERE signer = ?"
        row = self._connection.execute(query, (begun, signer)).fetchone()
        head = self.head_at(row[0])
        if head is None:
            raise ChainError("a batch was made of entries that are gone; restore the ledger from its backup")
        return Head(row[0], head)

    def file_batch(self, first: int, last: int, header: str, envelope: bytes, sealed: bytes) -> None:
        """Keep a batch's bytes: asked again, the site sends these.

        Raises:
            WaitingError: another process has made a batch of these entries meanwhile; this one is not kept.
        """
        with self._transaction() as connection:
            if first != self.batched().sequence + 1:
                raise WaitingError("another process has made this batch already; let one agent run at a time")
            row = (first, last, header, envelope, sealed, self.signer())
            connection.execute("INSERT INTO batches VALUES (?, ?, ?, ?, ?, ?)", row)

    def unacknowledged(self, acknowledged: int) -> list[tuple[str, bytes]]:
        """(header id, signed header) of the batches after an entry, in order, as far as their key is in force."""
        query = "SELECT header, envelope FROM batches WHERE first > ? AND signer = ? ORDER BY first"
        return list(self._connection.execute(query, (acknowledged, self.signer())))

    def headers(self) -> list[bytes]:
        """The signed headers, in the order of the chain: those with a receipt, and what may still be sent."""
        query = """SELECT b.envelope FROM batches b
                   WHERE b.signer = ? OR EXISTS (SELECT 1 FROM documents WHERE kind = 'receipt' AND digest = b.header)
                   ORDER BY b.first, b.signer"""
        return [bytes(row[0]) for row in self._connection.execute(query, (self.signer(),))]

    def sealed_batch(self, header: str) -> bytes | None:
        """The sealed bytes behind a header."""
        row = self._connection.execute("SELECT sealed FROM batches WHERE header = ?", (header,)).fetchone()
        return None if row is None else bytes(row[0])

    def file_document(self, kind: str, digest: str, body: bytes, reference: int = 0) -> None:
        """Keep what the centre signed; the same document again changes nothing."""
        with self._transaction() as connection:
            connection.execute("INSERT OR IGNORE INTO documents VALUES (?, ?, ?, ?)", (kind, digest, body, reference))

    def documents(self, kind: str) -> list[tuple[str, bytes]]:
        """(digest, body) of the filed documents of a kind, in the order of their reference."""
        query = "SELECT digest, body FROM documents WHERE kind = ? ORDER BY reference, digest"
        return list(self._connection.execute(query, (kind,)))

    def acknowledged(self) -> int:
        """The last entry that the centre's receipts cover without a gap; the enrolment covers the genesis entry.

        A receipt that a courier dropped is asked for again: what lies behind a gap does not count yet.
        """
        query = """SELECT b.first, b.last FROM batches b JOIN documents d ON d.kind = 'receipt' AND d.digest = b.header
                   ORDER BY b.first"""
        at = 1
        for first, last in self._connection.execute(query):
            if first != at + 1:
                break
            at = int(last)
        return at

    def decide(self, campaign: str, code: str) -> None:
        """Note the site's answer to a campaign (refused, complete)."""
        if self.decision(campaign) != code:
            with self._transaction() as connection:
                connection.execute("INSERT INTO decisions (campaign, code) VALUES (?, ?)", (campaign, code))

    def complete(self, campaign: str) -> None:
        """Note that the campaign's work list is worked off, unless the officer has refused it meanwhile."""
        with self._transaction() as connection:
            if self.decision(campaign) == "approved":
                connection.execute("INSERT INTO decisions (campaign, code) VALUES (?, 'complete')", (campaign,))

    def was_complete(self, campaign: str) -> bool:
        """Whether a run has ever worked off the campaign's whole work list: what comes now is a late arrival."""
        query = "SELECT 1 FROM decisions WHERE campaign = ? AND code = 'complete'"
        return self._connection.execute(query, (campaign,)).fetchone() is not None

    def decision(self, campaign: str) -> str | None:
        """The last answer noted, if any."""
        query = "SELECT code FROM decisions WHERE campaign = ? ORDER BY id DESC LIMIT 1"
        row = self._connection.execute(query, (campaign,)).fetchone()
        return None if row is None else str(row[0])
