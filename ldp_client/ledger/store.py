"""The site ledger on disk: SQLite, insert-only, one writer at a time, durable before anything depends on it.

What a crash leaves behind, and what a restart makes of it:

| the power fails | on disk | the restart |
|---|---|---|
| before `charge` returns | nothing | charges again |
| between `charge` and `seal` | a charge without a seal | draws for that charge; it is never refunded |
| after `seal` | the record | sends those bytes, whatever happens, and never draws again |
"""

from __future__ import annotations

import fcntl
import os
import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import IO

from ldp_client.errors import (
    BudgetExceededError,
    ChainError,
    ConfigurationError,
    PolicyRefusedError,
    WaitingError,
)
from ldp_client.privacy.accountant import PrivacyFilter
from ldp_client.privacy.loss import NOTHING, PrivacyLoss
from ldp_client.wire.campaign import Approval, Campaign, Policy, campaign_id, policy_id
from ldp_client.wire.canonical import parse
from ldp_client.wire.chain import (
    ZERO,
    Abandon,
    ApprovalEntry,
    Charge,
    Genesis,
    LedgerEntry,
    PolicyEntry,
    Seal,
    entry_body,
    link,
    parse_entry,
    subject_commitment,
)
from ldp_client.wire.envelope import APPROVAL, POLICY, Keys, open_envelope
from ldp_client.wire.record import record_digest

SCHEMA_VERSION = 1


@dataclass(frozen=True)
class Head:
    """Where a ledger stands: its last sequence number and the chain's hash there."""

    sequence: int
    head: str


@dataclass(frozen=True)
class Row:
    """One entry as it lies on disk."""

    sequence: int
    kind: str
    body: bytes
    head: str


@dataclass(frozen=True)
class ChargeRequest:
    """One X-ray of one unit that is about to be drawn for; `salt` is 32 fresh random bytes."""

    unit: bytes
    xray: bytes
    salt: bytes


@dataclass(frozen=True)
class OpenCharge:
    """A charge that is paid and waits for its record."""

    sequence: int
    campaign: str
    xray: bytes


@dataclass(frozen=True)
class StandingApproval:
    """An approval that holds today, with the policy that it was given under."""

    sequence: int
    approval: Approval
    policy: Policy


class SiteLedger:
    """A site's ledger. Open it with `SiteLedger.open`, make one with `SiteLedger.create`; close it or use `with`."""

    def __init__(self, connection: sqlite3.Connection, lock: IO[bytes]) -> None:
        self._connection, self._lock = connection, lock
        genesis = parse_entry(self._one("SELECT body FROM entries WHERE sequence = 1")[0])
        if not isinstance(genesis, Genesis):
            raise ChainError("the ledger does not begin with a genesis entry; restore it from its backup")
        self.genesis = genesis

    @classmethod
    def create(cls, path: Path, genesis: Genesis) -> SiteLedger:
        """A new ledger holding its genesis entry.

        Raises:
            ConfigurationError: there is a file already; a ledger is never overwritten.
        """
        if path.exists():
            raise ConfigurationError(f"{path} exists already; a ledger is never overwritten or begun anew")
        connection, lock = cls._connect(path)
        connection.executescript(resources.files("ldp_client.ledger").joinpath("schema.sql").read_text())
        body = entry_body(genesis)
        connection.execute(
            "INSERT INTO entries VALUES (1, 'genesis', ?, ?)", (body, link(genesis.ledger_id, 1, ZERO, body))
        )
        return cls(connection, lock)

    @classmethod
    def open(cls, path: Path) -> SiteLedger:
        """An existing ledger.

        Raises:
            ConfigurationError: no ledger there, or one of another version.
        """
        if not path.exists():
            raise ConfigurationError(f"there is no ledger at {path}; create the site with `ldp-client site init`")
        try:
            connection, lock = cls._connect(path)
        except sqlite3.DatabaseError as error:
            raise ConfigurationError(f"{path} is not a ledger; restore it from its backup") from error
        except PermissionError as error:
            raise ConfigurationError(
                f"the ledger {path} belongs to another user of this machine; run this as its owner, "
                "or give it back with `ldp-client site permissions`"
            ) from error
        try:
            version = connection.execute("PRAGMA user_version").fetchone()[0]
            if version != SCHEMA_VERSION:
                raise ConfigurationError(
                    f"the ledger has schema version {version}, this program reads {SCHEMA_VERSION}; "
                    "install the matching version"
                )
            return cls(connection, lock)
        except BaseException:
            connection.close()
            lock.close()
            raise

    @staticmethod
    def _connect(path: Path) -> tuple[sqlite3.Connection, IO[bytes]]:
        os.close(os.open(path, os.O_CREAT | os.O_RDWR, 0o600))
        # isolation_level=None: sqlite3's own transaction would start at the INSERT, after the balance was already read.
        connection = sqlite3.connect(path, isolation_level=None, timeout=30, check_same_thread=False)
        try:
            connection.execute("PRAGMA journal_mode = WAL")
            connection.execute("PRAGMA synchronous = FULL")
            connection.execute("PRAGMA foreign_keys = ON")
            # INSERT OR REPLACE deletes without asking the triggers that forbid it, unless told so.
            connection.execute("PRAGMA recursive_triggers = ON")
        except BaseException:
            connection.close()
            raise
        return connection, path.with_suffix(".lock").open("ab")

    def close(self) -> None:
        """Let go of the file."""
        self._connection.close()
        self._lock.close()

    def __enter__(self) -> SiteLedger:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        """All or nothing, durable when it returns; rollback never hides the first error."""
        # The file lock queues writers fairly: BEGIN IMMEDIATE alone lets one process starve the others.
        fcntl.flock(self._lock, fcntl.LOCK_EX)
        try:
            self._connection.execute("BEGIN IMMEDIATE")
            try:
                yield self._connection
                self._connection.execute("COMMIT")
            except BaseException:
                # A full disk makes SQLite roll back by itself: doing it twice would hide that error.
                if self._connection.in_transaction:
                    self._connection.execute("ROLLBACK")
                raise
        finally:
            fcntl.flock(self._lock, fcntl.LOCK_UN)

    def _one(self, query: str, *parameters: object) -> tuple[bytes, ...]:
        row: tuple[bytes, ...] | None = self._connection.execute(query, parameters).fetchone()
        if row is None:
            raise ChainError("the ledger has no such entry; restore it from its backup and verify it")
        return row

    def _append(self, entries: Sequence[LedgerEntry]) -> list[int]:
        """Chain entries to the end, inside the caller's transaction; their sequence numbers."""
        at = self.head()
        sequence, head, rows = at.sequence, at.head, []
        for entry in entries:
            body = entry_body(entry)
            sequence += 1
            head = link(self.genesis.ledger_id, sequence, head, body)
            rows.append((sequence, entry.kind, body, head))
        self._connection.executemany("INSERT INTO entries VALUES (?, ?, ?, ?)", rows)
        return [row[0] for row in rows]

    # --- reading

    def head(self) -> Head:
        """Where the ledger stands."""
        row = self._connection.execute("SELECT sequence, head FROM entries ORDER BY sequence DESC LIMIT 1").fetchone()
        return Head(*row)

    def head_at(self, sequence: int) -> str | None:
        """The chain's hash at an entry, or None beyond the end."""
        row = self._connection.execute("SELECT head FROM entries WHERE sequence = ?", (sequence,)).fetchone()
        return None if row is None else str(row[0])

    def rows(self, first: int = 1, last: int | None = None) -> Iterator[Row]:
        """Entries in order."""
        end = self.head().sequence if last is None else last
        query = "SELECT sequence, kind, body, head FROM entries WHERE sequence BETWEEN ? AND ? ORDER BY sequence"
        for row in self._connection.execute(query, (first, end)):
            yield Row(*row)

    def payloads(self, first: int, last: int) -> Iterator[tuple[int, bytes]]:
        """(Seal sequence, record) of the seals in a range."""
        query = (
            "SELECT sequence, payload FROM seals WHERE payload NOT NULL AND sequence BETWEEN ? AND ? ORDER BY sequence"
        )
        yield from self._connection.execute(query, (first, last))

    def spent(self, unit: bytes) -> PrivacyLoss:
        """The odometer of one unit: everything it was ever charged, sealed or not."""
        row = self._connection.execute("SELECT micro_epsilon FROM spent_by_unit WHERE unit = ?", (unit,)).fetchone()
        return NOTHING if row is None else PrivacyLoss(row[0])

    def charged_in(self, campaign: str, unit: bytes) -> int:
        """How many of a unit's X-rays this campaign has charged."""
        query = "SELECT count(*) FROM openings WHERE campaign = ? AND unit = ?"
        return int(self._connection.execute(query, (campaign, unit)).fetchone()[0])

    def room(self, campaign: Campaign, unit: bytes, budget: PrivacyLoss) -> int:
        """How many more X-rays of a unit the campaign's cap and a lifetime budget hold now; `charge` decides."""
        left = budget.micro_epsilon - self.spent(unit).micro_epsilon
        by_budget = max(0, left) // campaign.micro_epsilon_per_record
        return min(campaign.cap - self.charged_in(campaign_id(campaign), unit), by_budget)

    def charged_xrays(self, campaign: str) -> set[bytes]:
        """The X-rays that this campaign has drawn for or will."""
        return {row[0] for row in self._connection.execute("SELECT xray FROM openings WHERE campaign = ?", (campaign,))}

    def open_charges(self, campaign: str) -> list[OpenCharge]:
        """Charges left without a record by a crash, in order."""
        query = "SELECT charge, campaign, xray FROM unsettled WHERE campaign = ? ORDER BY charge"
        return [OpenCharge(*row) for row in self._connection.execute(query, (campaign,))]

    def records_by_xray(self, campaign: str) -> dict[bytes, bytes]:
        """The sealed records of a campaign by their X-ray's key: known to this site and to nobody else."""
        query = """SELECT o.xray, s.payload FROM openings o JOIN seals s ON s.charge = o.charge
                   WHERE o.campaign = ? AND s.payload NOT NULL"""
        return dict(self._connection.execute(query, (campaign,)))

    def counts(self, campaign: str) -> tuple[int, int]:
        """(records sealed, charges) of a campaign."""
        query = """SELECT count(s.payload), count(*) FROM openings o LEFT JOIN seals s ON s.charge = o.charge
                   WHERE campaign = ?"""
        sealed, charged = self._connection.execute(query, (campaign,)).fetchone()
        return int(sealed), int(charged)

    def campaigns_charged(self) -> list[str]:
        """Campaigns that have taken anything."""
        return [row[0] for row in self._connection.execute("SELECT DISTINCT campaign FROM openings ORDER BY campaign")]

    def largest_spent(self) -> PrivacyLoss:
        """The most that any unit has spent: for the officer's eyes, it does not leave the site."""
        row = self._connection.execute("SELECT coalesce(max(micro_epsilon), 0) FROM spent_by_unit").fetchone()
        return PrivacyLoss(row[0])

    # --- what the officer signed

    def _officers(self) -> Keys:
        return Keys({f"officer {index}": bytes.fromhex(key) for index, key in enumerate(self.genesis.officer_keys, 1)})

    def policy(self) -> tuple[int, Policy] | None:
        """The policy in force and its entry."""
        row = self._connection.execute(
            "SELECT sequence, body FROM entries WHERE kind = 'policy' ORDER BY sequence DESC LIMIT 1"
        ).fetchone()
        if row is None:
            return None
        entry = parse_entry(row[1])
        if not isinstance(entry, PolicyEntry):
            raise ChainError(f"entry {row[0]} is not the policy that its row says; verify the ledger")
        return row[0], parse(Policy, open_envelope(entry.envelope, POLICY, self._officers())[1])

    def file_policy(self, envelope: bytes) -> Policy:
        """Take a signed policy into force.

        Raises:
            EnvelopeError: not signed by an officer of this ledger.
            PolicyRefusedError: another site's, or a serial not above the one in force.
        """
        policy = parse(Policy, open_envelope(envelope, POLICY, self._officers())[1])
        if policy.site != self.genesis.site:
            raise PolicyRefusedError(
                f"the policy is for site {policy.site}; this ledger belongs to {self.genesis.site}"
            )
        with self._transaction():
            current = self.policy()
            if current is not None and policy.serial <= current[1].serial:
                raise PolicyRefusedError(
                    f"the policy has serial {policy.serial}; the one in force has {current[1].serial}. "
                    "Raise the serial: an older policy can't be put back"
                )
            self._append([PolicyEntry(envelope=envelope)])
        return policy

    def file_approval(self, envelope: bytes, campaign: Campaign) -> int:
        """Take a signed approval into the ledger; its sequence number.

        Raises:
            EnvelopeError: not signed by an officer of this ledger.
            PolicyRefusedError: it is for another site, ledger, campaign or policy, or the policy does not allow it.
            BudgetExceededError: with the campaigns charged before, one unit might spend more than its lifetime budget.
        """
        approval = parse(Approval, open_envelope(envelope, APPROVAL, self._officers())[1])
        with self._transaction() as connection:
            self._check_bound(campaign, self._check_approval(approval, campaign))
            # A new approval takes back an earlier refusal, and opens a completed campaign to late arrivals.
            connection.execute("INSERT INTO decisions (campaign, code) VALUES (?, 'approved')", (approval.campaign,))
            return self._append([ApprovalEntry(envelope=envelope)])[0]

    def _check_bound(self, campaign: Campaign, policy: Policy) -> None:
        """Return if the bounds of all campaigns charged, this one among them, fit into one unit's lifetime budget.

        Each unit is filtered by itself too; this sum is what others can verify, who cannot tell units apart.
        """
        query = "SELECT coalesce(sum(micro_epsilon), 0) FROM bounds WHERE campaign <> ?"
        (others,) = self._connection.execute(query, (campaign_id(campaign),)).fetchone()
        left = PrivacyFilter(policy.lifetime_budget, campaign.unit).remaining(PrivacyLoss(others))
        if campaign.bound_per_unit > left:
            raise BudgetExceededError(
                campaign.unit,
                str(campaign.bound_per_unit),
                str(left),
                "after the campaigns charged before; ask for a smaller epsilon or cap, "
                "or sign a policy with a larger budget",
            )

    def _check_approval(self, approval: Approval, campaign: Campaign) -> Policy:
        current = self.policy()
        if current is None:
            raise PolicyRefusedError("no policy is in force; the officer signs one with `ldp-client policy sign`")
        expected = (self.genesis.site, self.genesis.ledger_id, campaign_id(campaign), policy_id(current[1]))
        if (approval.site, approval.ledger_id, approval.campaign, approval.policy) != expected:
            raise PolicyRefusedError(
                "the approval was given for another site, ledger, campaign or policy; approve the campaign again"
            )
        current[1].check(campaign)
        return current[1]

    def has_approval(self, campaign: str) -> bool:
        """Whether an officer ever approved the campaign; `standing_approval` says whether that still holds."""
        return any(approval.campaign == campaign for _, approval in self._approvals())

    def _approvals(self) -> Iterator[tuple[int, Approval]]:
        """Approvals, the latest first."""
        query = "SELECT sequence, body FROM entries WHERE kind = 'approval' ORDER BY sequence DESC"
        for sequence, body in self._connection.execute(query).fetchall():
            entry = parse_entry(body)
            if not isinstance(entry, ApprovalEntry):
                raise ChainError(f"entry {sequence} is not the approval that its row says; verify the ledger")
            yield sequence, parse(Approval, open_envelope(entry.envelope, APPROVAL, self._officers())[1])

    def standing_approval(self, campaign: Campaign, today: str) -> StandingApproval:
        """The approval that a charge cites.

        Raises:
            WaitingError: no officer has approved it, or the approval or the campaign has run out.
            PolicyRefusedError: the policy changed since and must be approved under again.
        """
        wanted = campaign_id(campaign)
        for sequence, approval in self._approvals():
            if approval.campaign == wanted:
                policy = self._check_approval(approval, campaign)
                if today > min(approval.expires, campaign.ends):
                    raise WaitingError(f"campaign {campaign.name} or its approval has ended; nothing is drawn any more")
                return StandingApproval(sequence, approval, policy)
        raise WaitingError(
            f"campaign {campaign.name} has not been approved; "
            f"the officer runs `ldp-client campaign approve {wanted[:12]}`"
        )

    # --- charge, seal, abandon

    def charge(
        self, campaign: Campaign, requests: Sequence[ChargeRequest], today: str
    ) -> list[OpenCharge | BudgetExceededError]:
        """In one durable transaction: check approval, cap and budget, and charge each unit that they admit.

        For each request, in order: the charge, or the refusal if the unit's lifetime budget or the campaign's cap does
        not hold it. Nothing is drawn before this returns.

        Raises:
            WaitingError, PolicyRefusedError: as `standing_approval`; nothing is charged.
            BudgetExceededError: the bounds of all campaigns charged do not fit into the budget; nothing is charged.
            WaitingError: another process has charged one of these X-rays meanwhile; nothing is charged.
        """
        name, loss = campaign_id(campaign), campaign.loss_per_record
        answers: list[OpenCharge | BudgetExceededError] = []
        with self._transaction() as connection:
            standing = self.standing_approval(campaign, today)
            self._check_bound(campaign, standing.policy)
            budget = PrivacyFilter(standing.policy.lifetime_budget, campaign.unit)
            for request in requests:
                if connection.execute(
                    "SELECT 1 FROM openings WHERE campaign = ? AND xray = ?", (name, request.xray)
                ).fetchone():
                    raise WaitingError(
                        f"an X-ray is charged for campaign {campaign.name} already, by another process; "
                        "nothing was charged. Let one agent run at a time"
                    )
                try:
                    spent = self.spent(request.unit)
                    budget.admit(spent, loss)
                    if self.charged_in(name, request.unit) >= campaign.cap:
                        raise BudgetExceededError(campaign.unit, str(loss), "0")
                except BudgetExceededError as refusal:
                    answers.append(refusal)
                    continue
                entry = Charge(
                    subject=subject_commitment(request.unit, request.salt),
                    campaign=name,
                    approval=standing.sequence,
                    micro_epsilon=loss.micro_epsilon,
                )
                (sequence,) = self._append([entry])
                connection.execute(
                    "INSERT INTO openings VALUES (?, ?, ?, ?, ?, ?)",
                    (sequence, name, request.unit, request.salt, request.xray, loss.micro_epsilon),
                )
                answers.append(OpenCharge(sequence, name, request.xray))
            if any(isinstance(answer, OpenCharge) for answer in answers):
                bound = campaign.bound_per_unit.micro_epsilon
                connection.execute("INSERT OR IGNORE INTO bounds VALUES (?, ?)", (name, bound))
        return answers

    def seal(self, records: Iterable[tuple[OpenCharge, bytes]]) -> None:
        """In one durable transaction: each record's bytes and the Seal entry that names them.

        Raises:
            WaitingError: another process has settled one of these charges meanwhile; nothing is sealed.
        """
        with self._transaction() as connection:
            for charge, payload in records:
                self._check_unsettled(charge)
                digest = record_digest(charge.campaign, charge.sequence, payload)
                (sequence,) = self._append([Seal(charge=charge.sequence, record=digest)])
                connection.execute("INSERT INTO seals VALUES (?, ?, ?)", (charge.sequence, sequence, payload))

    def abandon(self, charge: OpenCharge) -> None:
        """Settle a charge without a record; what it cost stays spent.

        Raises:
            WaitingError: as `seal`.
        """
        with self._transaction() as connection:
            self._check_unsettled(charge)
            (sequence,) = self._append([Abandon(charge=charge.sequence)])
            connection.execute("INSERT INTO seals VALUES (?, ?, NULL)", (charge.sequence, sequence))

    def _check_unsettled(self, charge: OpenCharge) -> None:
        query = "SELECT 1 FROM unsettled WHERE charge = ?"
        if self._connection.execute(query, (charge.sequence,)).fetchone() is None:
            raise WaitingError(
                f"charge {charge.sequence} is settled already, by another process; what that one sealed is what is "
                "sent. Let one agent run at a time"
            )

    # --- batches and documents

    def batched(self) -> Head:
        """The last entry that is in a batch already; the genesis entry travels in the enrolment."""
        row = self._connection.execute("SELECT coalesce(max(last), 1) FROM batches").fetchone()
        head = self.head_at(row[0])
        if head is None:
            raise ChainError("a batch was made of entries that are gone; restore the ledger from its backup")
        return Head(row[0], head)

    def file_batch(self, first: int, last: int, header: str, envelope: bytes, sealed: bytes) -> None:
        """Keep a batch's bytes: asked again, the site sends these."""
        with self._transaction() as connection:
            connection.execute("INSERT INTO batches VALUES (?, ?, ?, ?, ?)", (first, last, header, envelope, sealed))

    def unacknowledged(self, acknowledged: int) -> list[tuple[str, bytes]]:
        """(header id, signed header) of the batches after an entry, in order."""
        query = "SELECT header, envelope FROM batches WHERE first > ? ORDER BY first"
        return list(self._connection.execute(query, (acknowledged,)))

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
        """The last entry that the centre's receipts cover; the genesis entry is covered by the enrolment."""
        query = "SELECT coalesce(max(reference), 1) FROM documents WHERE kind = 'receipt'"
        return int(self._connection.execute(query).fetchone()[0])

    def decide(self, campaign: str, code: str) -> None:
        """Note the site's answer to a campaign (refused, complete)."""
        if self.decision(campaign) != code:
            with self._transaction() as connection:
                connection.execute("INSERT INTO decisions (campaign, code) VALUES (?, ?)", (campaign, code))

    def was_complete(self, campaign: str) -> bool:
        """Whether a run has ever worked off the campaign's whole work list: what comes now is a late arrival."""
        query = "SELECT 1 FROM decisions WHERE campaign = ? AND code = 'complete'"
        return self._connection.execute(query, (campaign,)).fetchone() is not None

    def decision(self, campaign: str) -> str | None:
        """The last answer noted, if any."""
        query = "SELECT code FROM decisions WHERE campaign = ? ORDER BY id DESC LIMIT 1"
        row = self._connection.execute(query, (campaign,)).fetchone()
        return None if row is None else str(row[0])
