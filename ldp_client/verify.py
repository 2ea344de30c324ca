"""Verify a ledger's export offline: `python -m ldp_client.verify FILE...`, with neither torch nor flwr nor a database.

Works on the exports of both sides. What is recomputed, from the bytes alone:

1. chain: every entry's hash, from the genesis entry to the signed checkpoint
2. signatures: policies, approvals and rotations of keys by an officer, campaigns, receipts and the centre's checkpoint
   by the centre, enrolments, batch headers and the site's checkpoint by the site, with the key that was in force
3. losses: each charge against the mechanism specs of its campaign
4. approvals: each charge cites one that came before it and stood under the policy in force
5. budgets: cap * epsilon over all campaigns against the lifetime budget
6. receipts: the centre acknowledged this history and no other, batch after batch as the site announced them, and each
   receipt says what the central ledger says; the report tells how far

The keys are those named in the export: compare the printed fingerprints with what you were told by another channel.
"""

from __future__ import annotations

import gc
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from ldp_client.errors import ChainError, ConfigurationError, FormatError, LdpError, VerificationError
from ldp_client.wire.canonical import parse
from ldp_client.wire.chain import ZERO, link
from ldp_client.wire.document import file_name
from ldp_client.wire.envelope import (
    CHECKPOINT,
    ENROLMENT,
    HEADER,
    RECEIPT,
    OneKey,
    Signers,
    open_envelope,
    open_introduction,
    signer_of,
)
from ldp_client.wire.evaluation import Asked, Evaluation, asked_id, open_asked
from ldp_client.wire.exchange import BatchHeader, CentralEntry, Checkpoint, Enrolment, Receipt, header_id
from ldp_client.wire.export_lines import EntryLine, Line, lines
from ldp_client.wire.history import SiteHistory
from ldp_client.wire.signing import fingerprint, key_id
from ldp_client.wire.taken_in import TakenIn


@dataclass(frozen=True)
class Verified:
    """What held, for people."""

    side: str
    party: str
    key: str
    sequence: int
    head: str
    histories: tuple[SiteHistory, ...]
    held: tuple[Receipt, ...]
    reached: dict[str, int]
    """The last entry of each site that a receipt covers. What comes after it may not have been sent yet, or its
    receipts may have been left out of the export: the reader who expects them must ask."""

    @property
    def receipts(self) -> int:
        """How many receipts agree with the entries."""
        return len(self.held)

    def lines(self) -> list[str]:
        """The report."""
        text = [f"{self.side} ledger of {self.party}: verified. Key fingerprint {self.key}, head {self.head[:16]}"]
        for history in self.histories:
            text.append(
                f"  {history.site}: {history.sequence} entries, {history.sealed} records, {len(history.open)} open "
                f"charges, {len(history.charged)} campaigns; "
                f"epsilon per unit at most {history.bound} of {history.budget}"
            )
            if history.faults:
                text.append(f"  {history.site}: {len(history.faults)} entries contradict; their records were refused")
            text.append(f"  {history.site}: receipts reach entry {self.reached[history.site]} of {history.sequence}")
        text.append(f"  {self.receipts} receipts agree with these entries")
        return text


def verify_export(path: Path) -> Verified:
    """Check one export, of a site or of the centre.

    Raises:
        VerificationError: the first thing that does not hold, by line or entry.
        ConfigurationError: the file cannot be read.
    """
    try:
        with path.open("rb") as file, _keeping():
            return _verify(path.name, lines(file))
    except OSError as error:
        raise ConfigurationError(f"{path} cannot be read ({error.strerror}); name an export") from error


@contextmanager
def _keeping() -> Iterator[None]:
    """Without the search for cycles: a million heads are kept, and time and again it would go through all of them."""
    collects = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if collects:
            gc.enable()


def entry_bodies(path: Path) -> Iterator[tuple[int, bytes]]:
    """(sequence, body) of the entries of a site's export that was verified before."""
    with path.open("rb") as file:
        for line in lines(file):
            if isinstance(line, EntryLine):
                yield line.sequence, line.body


def _verify(name: str, found: Iterator[EntryLine | Line]) -> Verified:
    check = _opened(name, next(found, None))
    closed: Line | None = None
    for line in found:
        if closed is not None:
            raise FormatError(f"line {closed.place + 1}: an export ends with its checkpoint")
        if isinstance(line, EntryLine):
            check.take_entry(line)
        elif line.kind == "entry":
            check.take_entry(line.entry())
        elif line.kind == "checkpoint":
            check.close(line)
            closed = line
        else:
            check.take(line)
    if closed is None:
        raise FormatError(f"{name} has no checkpoint at its end; it is cut off")
    return check.verified()


def _opened(name: str, head: EntryLine | Line | None) -> _SiteExport | _CentreExport:
    if isinstance(head, Line) and head.kind == "ledger" and head.fields.get("format") == 1:
        if head.fields.get("side") == "site":
            return _SiteExport(head)
        if head.fields.get("side") == "centre":
            return _CentreExport(head)
    raise FormatError(f"line 1: {name} is not a ledger export of a format that this version reads")


class _Export:
    """What the exports of both sides have in common."""

    def __init__(self, head: Line, centre_key: bytes) -> None:
        self.ledger_id = head.text("ledger_id")
        if len(self.ledger_id) != 64 or any(digit not in "0123456789abcdef" for digit in self.ledger_id):
            raise FormatError("line 1 of the export holds no ledger id")
        self.signing_key, self.centre_key = head.public_key("signing_key"), centre_key
        self.name = head.text("name" if "name" in head.fields else "site")
        self.campaigns: dict[str, Asked] = {}
        self.receipts: list[Receipt] = []
        # Opened at the end, when the entries have said whose keys there are.
        self.announced: list[tuple[Line, bytes]] = []
        self.headers: dict[str, list[tuple[int, BatchHeader]]] = {}
        self.reached: dict[str, int] = {}

    def take_document(self, line: Line) -> None:
        """A document that the centre signed, or a header that a site signed."""
        centre = OneKey("the centre", self.centre_key)
        kind, body = line.text("kind"), line.body()
        try:
            if kind in ("campaign", "evaluation"):
                asked = open_asked(body, centre)
                if isinstance(asked, Evaluation) is not (kind == "evaluation"):
                    raise FormatError("the line's kind is not its document's")
                self.campaigns[asked_id(asked)] = asked
            elif kind == "receipt":
                self.receipts.append(parse(Receipt, open_envelope(body, RECEIPT, centre)[1]))
            elif kind == "header":
                self.announced.append((line, body))
            else:
                raise FormatError("a document of an unknown kind")
        except VerificationError as error:
            raise VerificationError(f"line {line.place} of the export ({kind}): {error}") from error

    def open_headers(self, signers: dict[str, list[bytes]]) -> None:
        """Find out which site signed each header, and with which of its keys, counted from the first one.

        Args:
            signers: every site's keys, the first one first.
        """
        known = {key_id(key): number for keys in signers.values() for number, key in enumerate(keys)}
        ring = Signers.of((site, key) for site, keys in signers.items() for key in keys)
        for line, body in self.announced:
            try:
                site, payload = open_envelope(body, HEADER, ring)
                header = parse(BatchHeader, payload)
            except VerificationError as error:
                raise VerificationError(f"line {line.place} of the export (header): {error}") from error
            self.headers.setdefault(site, []).append((known[signer_of(body)], header))

    def announced_batches(self) -> dict[tuple[str, int], BatchHeader]:
        """The headers by their site and first entry."""
        return {(site, header.first): header for site, found in self.headers.items() for _, header in found}

    def check_headers(self, history: SiteHistory) -> int:
        """A site's signed headers follow one another from its genesis entry and end where its history does; the end.

        A key that was replaced signs nothing that comes after what its successor has signed.
        """
        at, head, signer = 1, history.heads.get(1), 0
        for number, header in sorted(self.headers.get(history.site, []), key=lambda announced: announced[1].first):
            if number < signer:
                raise ChainError(f"site {history.site}, entry {header.first}: the header is signed with a replaced key")
            signer = number
            if (header.site, header.ledger_id) != (history.site, history.ledger_id):
                raise ChainError(f"site {history.site}, entry {header.first}: a header speaks of another ledger")
            found = (header.first, header.previous_head, history.heads.get(header.last))
            if found != (at + 1, head, header.head):
                raise ChainError(f"site {history.site}, entry {header.first}: the site signed another history")
            at, head = header.last, header.head
        return at

    def check_receipts(self, histories: dict[str, SiteHistory]) -> dict[str, int]:
        """Each receipt has the hash that the history has at its place and is of the batch that the site announced, and
        they follow one another without a gap.

        Returns the last entry covered, for each site; 1, the genesis entry, which the enrolment brought, without any.
        """
        reached, announced = dict.fromkeys(histories, 1), self.announced_batches()
        for receipt in sorted(self.receipts, key=lambda receipt: receipt.first):
            history = histories.get(receipt.site)
            if history is None or history.ledger_id != receipt.ledger_id:
                raise ChainError(f"a receipt speaks of another ledger than those exported (site {receipt.site})")
            if history.heads.get(receipt.sequence) != receipt.head:
                raise ChainError(
                    f"site {receipt.site}, entry {receipt.sequence}: the centre's receipt names another history"
                )
            if receipt.first != reached[receipt.site] + 1 or receipt.sequence < receipt.first:
                raise ChainError(
                    f"site {receipt.site}, entry {receipt.first}: the centre's receipt does not follow the one that "
                    f"ends at entry {reached[receipt.site]}; one is missing or stands there twice"
                )
            header = announced.get((receipt.site, receipt.first))
            if header is None or (header_id(header), header.sealed_digest) != (receipt.header, receipt.batch_digest):
                raise ChainError(
                    f"site {receipt.site}, entry {receipt.first}: the centre's receipt is of another batch than the "
                    "one that the site's signed header announced"
                )
            reached[receipt.site] = receipt.sequence
        return reached

    def check_checkpoint(self, line: Line, sequence: int, head: str) -> str:
        """The signed checkpoint stands at the end of the chain; the party that signed."""
        try:
            payload = open_envelope(line.body(), CHECKPOINT, OneKey("the exporting party", self.signing_key))[1]
            checkpoint = parse(Checkpoint, payload)
        except VerificationError as error:
            raise VerificationError(f"line {line.place} of the export (checkpoint): {error}") from error
        if (checkpoint.ledger_id, checkpoint.sequence, checkpoint.head) != (self.ledger_id, sequence, head):
            raise ChainError(
                f"entry {sequence}: the signed checkpoint stands at entry {checkpoint.sequence} of another history"
            )
        if checkpoint.party != self.name:
            raise VerificationError("line 1 of the export names another party than its signed checkpoint")
        return checkpoint.party


class _SiteExport(_Export):
    def __init__(self, head: Line) -> None:
        super().__init__(head, head.public_key("centre_signing_key"))
        self.history = SiteHistory(head.text("site"), self.ledger_id, self.campaigns, strict=True)
        self.party = ""

    def take(self, line: Line) -> None:
        if line.kind != "document":
            raise FormatError(f"line {line.place} of the export is of an unknown kind")
        self.take_document(line)

    def take_entry(self, line: EntryLine) -> None:
        if line.site is not None:
            raise FormatError(f"entry {line.sequence} of the export has a field that lines of its type have not")
        self.history.add(line.sequence, line.body, line.head)

    def close(self, checkpoint: Line) -> None:
        history = self.history
        if not history.keys or history.keys[-1][1].signing != self.signing_key.hex():
            at = history.keys[-1][0] if history.keys else 1
            kind = "genesis" if at == 1 else "last rotation"
            raise VerificationError(f"entry {at}: the {kind} entry names another signing key than the export")
        self.open_headers({history.site: history.signing_keys()})
        # What is in no batch yet is under the checkpoint's signature.
        self.check_headers(history)
        self.reached = self.check_receipts({self.history.site: self.history})
        self.party = self.check_checkpoint(checkpoint, self.history.sequence, self.history.head)

    def verified(self) -> Verified:
        key, history, held = fingerprint(self.signing_key), self.history, tuple(self.receipts)
        return Verified("site", self.party, key, history.sequence, history.head, (history,), held, self.reached)


class _CentreExport(_Export):
    def __init__(self, head: Line) -> None:
        super().__init__(head, head.public_key("signing_key"))
        self.histories: dict[str, SiteHistory] = {}
        self.entries: list[CentralEntry] = []
        self.heads: list[str] = []
        self.enrolments: dict[str, str] = {}
        self.sequence, self.head, self.party = 0, ZERO, ""
        self.taken_in = TakenIn()

    def take(self, line: Line) -> None:
        if line.kind == "central":
            self._central(line.number("sequence"), line.body(), line.text("head"))
        elif line.kind != "document":
            raise FormatError(f"line {line.place} of the export is of an unknown kind")
        elif line.text("kind") == "enrolment":
            self._enrol(line)
        elif line.text("kind") == "rotation":
            self.taken_in.add(line)
        else:
            self.take_document(line)

    def take_entry(self, line: EntryLine) -> None:
        history = self.histories.get(line.site or "")
        if history is None:
            raise FormatError(f"entry {line.sequence}: entries of a site that was not enrolled")
        history.add(line.sequence, line.body, line.head)

    def _enrol(self, line: Line) -> None:
        try:
            genesis = parse(Enrolment, open_introduction(line.body(), ENROLMENT, _introduced)).genesis
        except VerificationError as error:
            raise VerificationError(f"line {line.place} of the export (enrolment): {error}") from error
        self.enrolments[genesis.site] = file_name(line.body())
        self.histories[genesis.site] = SiteHistory(genesis.site, genesis.ledger_id, self.campaigns, strict=False)

    def _central(self, sequence: int, body: bytes, head: str) -> None:
        if sequence != self.sequence + 1 or head != link(self.ledger_id, sequence, self.head, body):
            raise ChainError(f"central entry {sequence} does not follow the one before it")
        try:
            self.entries.append(parse(CentralEntry, body))
        except FormatError as error:
            raise FormatError(f"central entry {sequence}: {error}") from error
        self.sequence, self.head = sequence, head
        self.heads.append(head)

    def close(self, checkpoint: Line) -> None:
        refused = {(entry.site, refusal.seal) for entry in self.entries for refusal in entry.refused}
        for history in self.histories.values():
            for seal in history.faulty_seals:
                if (history.site, seal) not in refused:
                    raise VerificationError(f"site {history.site}, entry {seal}: this record should have been refused")
        for sequence, entry in enumerate(self.entries, 1):
            if entry.kind == "campaign":
                known = entry.reference in self.campaigns
            else:
                named = self.histories.get(entry.site or "")
                known = (
                    named is not None
                    and named.ledger_id == entry.ledger_id
                    and named.heads.get(entry.sequence or 1) == entry.head
                )
            if not known:
                raise ChainError(f"central entry {sequence} names a campaign or a history that is not in the export")
        self.open_headers(self.taken_in.follow(self.entries, self.histories))
        for history in self.histories.values():
            self.taken_in.check(history, self.headers.get(history.site, []))
            signed = self.check_headers(history)
            if signed != history.sequence:
                raise ChainError(f"site {history.site}, entry {signed + 1}: no header that the site signed covers it")
        self.reached = self.check_receipts(self.histories)
        self._check_lines()
        self.party = self.check_checkpoint(checkpoint, self.sequence, self.head)

    def _check_lines(self) -> None:
        """A line cites the very enrolment or batch that the site signed, and each receipt says what its line says."""
        announced = self.announced_batches()
        for sequence, entry in enumerate(self.entries, 1):
            site = entry.site or ""
            header = announced.get((site, entry.first))
            signed = None if header is None else (header.last, header.sealed_digest)
            if (entry.kind == "enrolment" and entry.reference != self.enrolments[site]) or (
                entry.kind == "batch" and (entry.sequence, entry.reference) != signed
            ):
                raise ChainError(
                    f"central entry {sequence} cites another {entry.kind} than the one that the site signed"
                )
        for receipt in self.receipts:
            line = CentralEntry(
                kind="batch",
                site=receipt.site,
                ledger_id=receipt.ledger_id,
                first=receipt.first,
                sequence=receipt.sequence,
                head=receipt.head,
                reference=receipt.batch_digest,
                refused=receipt.refused,
            )
            at = receipt.central_sequence - 1
            if at >= len(self.entries) or (self.entries[at], self.heads[at]) != (line, receipt.central_head):
                raise ChainError(
                    f"central entry {receipt.central_sequence} is not what the receipt of site {receipt.site}, entry "
                    f"{receipt.first}, says of it"
                )

    def verified(self) -> Verified:
        key, histories, held = fingerprint(self.signing_key), tuple(self.histories.values()), tuple(self.receipts)
        return Verified("centre", self.party, key, self.sequence, self.head, histories, held, self.reached)


def _introduced(payload: bytes) -> tuple[str, bytes]:
    enrolment = parse(Enrolment, payload)
    return f"site {enrolment.site}", bytes.fromhex(enrolment.genesis.signing_key)


def main(arguments: list[str]) -> int:
    """Verify each export named; exit 6 at the first fault."""
    if not arguments or arguments[0] in ("-h", "--help"):
        print("usage: python -m ldp_client.verify EXPORT...")
        return 0 if arguments else 2
    for argument in arguments:
        try:
            print("\n".join(verify_export(Path(argument)).lines()))
        except LdpError as error:
            print(f"{argument}: NOT verified: {error}", file=sys.stderr)
            return error.exit_code
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
