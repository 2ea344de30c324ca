"""A site's export beside what the centre has: what each knows of the other, in words."""

from __future__ import annotations

from pathlib import Path

from sqlalchemy import Connection, select

from ldp_client.errors import ChainError, CloneError, ForkError, SignerError
from ldp_client.verify import Verified, verify_export
from ldp_client.wire.canonical import parse
from ldp_client.wire.envelope import RECEIPT, OneKey, open_envelope
from ldp_client.wire.exchange import Receipt
from ldp_client.wire.history import SiteHistory
from server.store import sites, tables
from server.store.sites import Site


def compare(connection: Connection, export: Path, signing_key: bytes) -> list[str]:
    """Verify a site's export and hold it against the centre's tables; the report.

    That one side is behind the other is no contradiction: what was not sent, or not heard yet, is said and is well.

    Raises:
        VerificationError: the export does not hold by itself, or contradicts what the centre has; the text names the
            first entry that differs.
        ConfigurationError: the file cannot be read, or no such site is enrolled.
    """
    verified = verify_export(export)
    if verified.side != "site":
        raise SignerError("a site's export is compared with this ledger; this file is a centre's")
    (history,) = verified.histories
    known = sites.find(connection, history.site)
    if known.ledger_id != history.ledger_id:
        raise CloneError(
            f"site {known.site} was enrolled with ledger {known.ledger_id[:12]}, the export is of "
            f"{history.ledger_id[:12]}: another ledger. Ask the site whether a second agent runs"
        )
    _check_entries(connection, known, history)
    return [
        f"site {known.site}: the export has {history.sequence} entries, the centre {known.sequence}; "
        f"all that both have are the same",
        *_ahead(known, history),
        *_receipts(connection, known, verified, OneKey("the centre", signing_key)),
    ]


def _check_entries(connection: Connection, known: Site, history: SiteHistory) -> None:
    columns = tables.entries.c
    query = select(columns.sequence, columns.head).where(columns.site == known.site).order_by(columns.sequence)
    with connection.execute(query.execution_options(yield_per=5000)) as rows:
        for row in rows:
            head = history.heads.get(row.sequence)
            if head is None:
                return
            if head != row.head:
                raise ForkError(
                    f"site {known.site}, entry {row.sequence}: the export has another entry than the centre committed; "
                    "there are two histories. Ask the site whether its ledger was copied or restored"
                )


def _ahead(known: Site, history: SiteHistory) -> list[str]:
    if history.sequence > known.sequence:
        return [f"  entries {known.sequence + 1} to {history.sequence} have not reached the centre"]
    if history.sequence < known.sequence:
        return [
            f"  entries {history.sequence + 1} to {known.sequence} are not in the export: it is older than what the "
            "centre has, or the site's ledger was restored from a backup. Ask which"
        ]
    return []


def _receipts(connection: Connection, known: Site, verified: Verified, centre: OneKey) -> list[str]:
    columns = tables.batches.c
    query = select(columns.first, columns.receipt).where(columns.site == known.site).order_by(columns.first)
    given = {
        row.first: parse(Receipt, open_envelope(row.receipt, RECEIPT, centre)[1]) for row in connection.execute(query)
    }
    for receipt in verified.held:
        if given.get(receipt.first) != receipt:
            raise ChainError(
                f"site {known.site}, entry {receipt.first}: the site holds a receipt that this centre has no trace of; "
                "this ledger was restored from a backup, or the receipt was signed by a copy of its key"
            )
    missing = sorted(given.keys() - {receipt.first for receipt in verified.held})
    report = [f"  {len(verified.held)} receipts are the same on both sides"]
    report += [
        f"  the site has not filed the receipt of entries {first} to {given[first].sequence}" for first in missing
    ]
    refused = [refusal for receipt in given.values() for refusal in receipt.refused]
    if refused:
        codes = ", ".join(sorted({str(refusal.code) for refusal in refused}))
        report.append(f"  {len(refused)} records were refused and their charges stay spent ({codes})")
    return report
