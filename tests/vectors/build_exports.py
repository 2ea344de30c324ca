"""Golden and bad exports of a site's ledger: `python -m tests.vectors.build_exports [FOLDER]`.

`site.jsonl` verifies. Every other file is named after its fault, and `refused.json` says with which words it must be
refused. What is only wrong inside is signed and chained anew, so that nothing but the fault is wrong. Keys and bytes
here are fixed and protect nothing.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from ldp_client.wire.campaign import Approval, Policy, campaign_id, policy_id
from ldp_client.wire.canonical import canonical_bytes
from ldp_client.wire.chain import (
    ZERO,
    Abandon,
    ApprovalEntry,
    Charge,
    LedgerEntry,
    PolicyEntry,
    Seal,
    entry_body,
    subject_commitment,
    walk,
)
from ldp_client.wire.envelope import APPROVAL, CAMPAIGN, CHECKPOINT, HEADER, POLICY, RECEIPT, close_envelope
from ldp_client.wire.exchange import BatchHeader, Checkpoint, Receipt, header_id, sealed_digest
from ldp_client.wire.export_lines import written
from ldp_client.wire.record import record_digest
from ldp_client.wire.rotation import Rotation, rotate
from ldp_client.wire.signing import SigningKey
from tests.vectors.build_vectors import (
    APPROVAL_DOCUMENT,
    CAMPAIGN_DOCUMENT,
    CENTRE,
    ENTRIES,
    LEDGER,
    NEW,
    OFFICER,
    POLICY_DOCUMENT,
    RECORDS,
    SITE,
    STRANGER,
)

NAME = campaign_id(CAMPAIGN_DOCUMENT)


def agreed(policy: Policy, approval: Approval) -> tuple[LedgerEntry, LedgerEntry]:
    """A policy and an approval as the officer signs them."""
    return (
        PolicyEntry(envelope=close_envelope(POLICY, canonical_bytes(policy), OFFICER)),
        ApprovalEntry(envelope=close_envelope(APPROVAL, canonical_bytes(approval), OFFICER)),
    )


def charge(number: int, approval: int = 3, micro_epsilon: int = 2_000_000) -> Charge:
    subject = subject_commitment(b"patient %d" % number, bytes([number]) * 32)
    return Charge(subject=subject, campaign=NAME, approval=approval, micro_epsilon=micro_epsilon)


def seal(paid: int, record: int = 0) -> Seal:
    return Seal(charge=paid, record=record_digest(NAME, paid, RECORDS[record]))


def rotation(sequence: int) -> LedgerEntry:
    """The site's second key."""
    old, new = SITE.public_key.hex(), NEW.public_key.hex()
    asked = Rotation(site="site-a", ledger_id=LEDGER, sequence=sequence, role="site", old_key=old, new_key=new)
    return rotate(asked, OFFICER, NEW, SITE)


GENESIS = ENTRIES["genesis"]
BEGUN: tuple[LedgerEntry, ...] = (GENESIS, *agreed(POLICY_DOCUMENT, APPROVAL_DOCUMENT))


@dataclass(frozen=True)
class Story:
    """A site's ledger and what both sides signed of it: a charge sealed, one given up, a new key, one more sealed."""

    entries: tuple[LedgerEntry, ...] = (
        *BEGUN, charge(1), charge(2), seal(4), Abandon(charge=5), rotation(8), charge(3), seal(9, 1)
    )  # fmt: skip
    batches: tuple[tuple[int, int], ...] = ((2, 7), (8, 10))
    header_keys: tuple[SigningKey, ...] = (SITE, NEW)
    campaign_key: SigningKey = CENTRE
    receipt_key: SigningKey = CENTRE
    campaigns: int = 1
    checkpoint_at: int | None = None
    receipt_head: str | None = None
    party: str = "site-a"
    _bodies: list[bytes] = field(init=False)
    _heads: list[str] = field(init=False)

    def __post_init__(self) -> None:
        bodies = [entry_body(entry) for entry in self.entries]
        object.__setattr__(self, "_bodies", bodies)
        object.__setattr__(self, "_heads", walk(LEDGER, 1, ZERO, bodies))

    def lines(self) -> list[bytes]:
        """The export."""
        headers = [self._header(first, last) for first, last in self.batches]
        signed = [
            close_envelope(HEADER, canonical_bytes(header), key)
            for header, key in zip(headers, self.header_keys, strict=True)
        ]
        receipts = [
            close_envelope(RECEIPT, canonical_bytes(self._receipt(header)), self.receipt_key) for header in headers
        ]
        campaign = close_envelope(CAMPAIGN, canonical_bytes(CAMPAIGN_DOCUMENT), self.campaign_key)
        end = self.checkpoint_at or len(self.entries)
        checkpoint = Checkpoint(party=self.party, ledger_id=LEDGER, sequence=end, head=self._heads[end - 1])
        return [
            written(
                type="ledger",
                side="site",
                format=1,
                site="site-a",
                ledger_id=LEDGER,
                signing_key=NEW.public_key.hex(),
                centre_signing_key=CENTRE.public_key.hex(),
            ),
            *[written(type="document", kind="campaign", body=campaign)] * self.campaigns,
            *(written(type="document", kind="receipt", body=receipt) for receipt in receipts),
            *(written(type="document", kind="header", body=header) for header in signed),
            *(
                written(type="entry", sequence=sequence, body=body, head=head)
                for sequence, (body, head) in enumerate(zip(self._bodies, self._heads, strict=True), 1)
            ),
            written(type="checkpoint", body=close_envelope(CHECKPOINT, canonical_bytes(checkpoint), NEW)),
        ]

    def _header(self, first: int, last: int) -> BatchHeader:
        sealed = b"sealed batch from %d" % first
        return BatchHeader(
            site="site-a",
            ledger_id=LEDGER,
            first=first,
            last=last,
            previous_head=self._heads[first - 2],
            head=self._heads[last - 1],
            records=1,
            sealed_digest=sealed_digest(sealed),
            sealed_bytes=len(sealed),
            day="2026-03-01",
        )

    def _receipt(self, header: BatchHeader) -> Receipt:
        return Receipt(
            site="site-a",
            ledger_id=LEDGER,
            first=header.first,
            sequence=header.last,
            head=self.receipt_head or header.head,
            header=header_id(header),
            batch_digest=header.sealed_digest,
            central_sequence=3,
            central_head="cd" * 32,
            refused=(),
        )


GOLDEN = Story()
# By line: the ledger, a campaign, two receipts, two headers, ten entries, the checkpoint.
RECEIPTS, HEADERS, FIRST_ENTRY = 2, 4, 6


def altered(entries: tuple[LedgerEntry, ...], **changes: Any) -> Callable[[], list[bytes]]:
    """The story with other entries, one batch under the second key, everything signed anew."""
    told = replace(GOLDEN, entries=entries, batches=((2, len(entries)),), header_keys=(NEW,), **changes)
    return told.lines


def edited(edit: Callable[[list[bytes]], object]) -> Callable[[], list[bytes]]:
    """The golden file with its lines edited by hand."""

    def lines() -> list[bytes]:
        found = GOLDEN.lines()
        edit(found)
        return found

    return lines


def swapped(lines: list[bytes]) -> None:
    lines[FIRST_ENTRY + 3], lines[FIRST_ENTRY + 4] = lines[FIRST_ENTRY + 4], lines[FIRST_ENTRY + 3]


def replaced(number: int, old: bytes, new: bytes) -> Callable[[list[bytes]], None]:
    def edit(lines: list[bytes]) -> None:
        if old not in lines[number]:
            raise ValueError(f"line {number + 1} has no {old!r}")
        lines[number] = lines[number].replace(old, new, 1)

    return edit


def with_key(number: int, name: str) -> Callable[[list[bytes]], None]:
    def edit(lines: list[bytes]) -> None:
        fields = json.loads(lines[number])
        lines[number] = json.dumps({**fields, name: 1}, sort_keys=True, separators=(",", ":")).encode() + b"\n"

    return edit


def reordered(lines: list[bytes]) -> None:
    fields = json.loads(lines[-1])
    lines[-1] = json.dumps(dict(reversed(list(fields.items()))), separators=(",", ":")).encode() + b"\n"


LESS = POLICY_DOCUMENT.model_copy(update={"lifetime_micro_epsilon": 3_999_999})
NEWER = POLICY_DOCUMENT.model_copy(update={"serial": 2})
OTHER_SITE = APPROVAL_DOCUMENT.model_copy(update={"site": "site-b"})
SECOND_GENESIS = GENESIS.model_copy(update={"secret_commitment": "ab" * 32})
TURNED = (*BEGUN, charge(1), rotation(5))

BAD: dict[str, tuple[Callable[[], list[bytes]], str]] = {
    "cut_off": (edited(lambda lines: lines.pop()), "has no checkpoint at its end"),
    "cut_off_in_a_line": (
        edited(lambda lines: lines.__setitem__(-1, lines[-1][:40])),
        "line 17 of the export is damaged",
    ),
    "line_after_the_checkpoint": (edited(lambda lines: lines.append(lines[1])), "an export ends with its checkpoint"),
    "line_with_reordered_keys": (edited(reordered), "line 17 of the export is damaged"),
    "line_with_another_field": (edited(with_key(FIRST_ENTRY, "note")), "line 7 of the export has other fields"),
    "byte_of_an_entry": (edited(replaced(FIRST_ENTRY + 3, b'"body":"e', b'"body":"f')), "entry 4: its hash"),
    "hash_of_an_entry": (edited(replaced(FIRST_ENTRY + 3, b'"head":"', b'"head":"0')), "entry 4: its hash"),
    "entry_missing": (edited(lambda lines: lines.pop(FIRST_ENTRY + 4)), "entry 6: follows entry 4"),
    "entries_swapped": (edited(swapped), "entry 5: follows entry 3"),
    "campaign_of_a_stranger": (replace(GOLDEN, campaign_key=STRANGER).lines, "line 2 of the export (campaign)"),
    "campaign_missing": (replace(GOLDEN, campaigns=0).lines, "entry 4: the campaign"),
    "receipt_of_a_stranger": (replace(GOLDEN, receipt_key=STRANGER).lines, "line 3 of the export (receipt)"),
    "receipt_missing": (edited(lambda lines: lines.pop(RECEIPTS)), "does not follow the one that ends at entry 1"),
    "receipt_twice": (
        edited(lambda lines: lines.insert(RECEIPTS, lines[RECEIPTS])),
        "does not follow the one that ends at entry 7",
    ),
    "receipt_of_another_history": (replace(GOLDEN, receipt_head="ef" * 32).lines, "names another history"),
    "header_of_a_stranger": (replace(GOLDEN, header_keys=(STRANGER, NEW)).lines, "line 5 of the export (header)"),
    "header_missing": (edited(lambda lines: lines.pop(HEADERS)), "the site signed another history"),
    "header_signed_with_a_replaced_key": (
        replace(GOLDEN, header_keys=(NEW, SITE)).lines,
        "the header is signed with a replaced key",
    ),
    "checkpoint_of_an_earlier_place": (replace(GOLDEN, checkpoint_at=9).lines, "stands at entry 9 of another history"),
    "checkpoint_of_another_party": (replace(GOLDEN, party="site-b").lines, "another party than its signed checkpoint"),
    "charge_costs_less_than_its_specs": (
        altered((*BEGUN, charge(1, micro_epsilon=1_000_000), rotation(5))),
        "entry 4: charged epsilon 1, the specs cost 2",
    ),
    "charge_cites_no_approval": (
        altered((*BEGUN, charge(1, approval=2), rotation(5))),
        "entry 4: entry 2 is no approval of this campaign",
    ),
    "charge_before_its_approval": (
        altered((*BEGUN[:2], charge(1, approval=4), BEGUN[2], rotation(5))),
        "entry 3: entry 4 is no approval of this campaign",
    ),
    "charge_under_a_newer_policy": (
        altered((*BEGUN, agreed(NEWER, APPROVAL_DOCUMENT)[0], charge(1), rotation(6))),
        "entry 5: entry 3 is no approval of this campaign under the policy in force",
    ),
    "charges_beyond_the_lifetime_budget": (
        altered(
            (
                GENESIS,
                *agreed(LESS, APPROVAL_DOCUMENT.model_copy(update={"policy": policy_id(LESS)})),
                charge(1),
                rotation(5),
            )
        ),
        "entry 4: the campaign may take epsilon 4 of one patient; the policy's lifetime budget is 3.999999",
    ),
    "seal_of_no_charge": (altered((*TURNED, seal(3))), "entry 6: charge 3 does not exist or was settled before"),
    "seal_twice": (altered((*TURNED, seal(4), seal(4))), "entry 7: charge 4 does not exist or was settled before"),
    "abandon_after_the_seal": (
        altered((*TURNED, seal(4), Abandon(charge=4))),
        "entry 7: charge 4 does not exist or was settled before",
    ),
    "second_genesis": (altered((*TURNED, SECOND_GENESIS)), "entry 6: a ledger begins with its genesis entry"),
    "older_policy_put_back": (altered((*TURNED, BEGUN[1])), "entry 6: the policy is of another site or not newer"),
    "approval_of_another_site": (
        altered((*TURNED, agreed(POLICY_DOCUMENT, OTHER_SITE)[1])),
        "entry 6: the approval is for another site or ledger",
    ),
    "rotation_at_another_place": (
        altered((*BEGUN, charge(1), charge(2), rotation(5))),
        "entry 6: the rotation was signed for another site, ledger or place in it",
    ),
}


def main(folder: Path) -> None:
    """Write all files into a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "site.jsonl").write_bytes(b"".join(GOLDEN.lines()))
    for name, (lines, _) in BAD.items():
        (folder / f"bad_{name}.jsonl").write_bytes(b"".join(lines()))
    words = {f"bad_{name}": said for name, (_, said) in sorted(BAD.items())}
    (folder / "refused.json").write_text(json.dumps(words, indent=1) + "\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parent / "exports")
