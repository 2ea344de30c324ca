"""The site ledger on disk: SQLite, insert-only, one writer at a time, durable before anything depends on it.

What a crash leaves behind, and what a restart makes of it:

| the power fails | on disk | the restart |
|---|---|---|
| before `charge` returns | nothing | charges again |
| between `charge` and `seal` | a charge without a seal | draws for that charge; it is never refunded |
| after `seal` | the record | sends those bytes, whatever happens, and never draws again |
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from ldp_client.errors import BudgetExceededError, ConfigurationError, WaitingError
from ldp_client.ledger.queries import Queries
from ldp_client.privacy.accountant import PrivacyFilter
from ldp_client.privacy.loss import PrivacyLoss
from ldp_client.wire.campaign import Campaign, campaign_id
from ldp_client.wire.chain import Abandon, charge_body, seal_body, subject_commitment
from ldp_client.wire.record import record_digest


@dataclass(frozen=True)
class ChargeRequest:
    """One X-ray of one unit that is about to be drawn for; `salt` is 32 fresh random bytes."""

    unit: bytes
    xray: bytes
    salt: bytes


@dataclass(frozen=True)
class OpenCharge:
    """A charge that is paid and waits for its record. `unit` is the one that paid."""

    sequence: int
    campaign: str
    xray: bytes
    unit: bytes


class SiteLedger(Queries):
    """A site's ledger: what each unit was charged, and the record drawn for it.

    Built in layers, one file each: the chain on disk, correspondence with the centre, agreements of the officer, what
    can be read back, queries of the evaluation set, and here charges and seals.
    """

    def spent(self, unit: bytes) -> PrivacyLoss:
        """The odometer of one unit: everything it was ever charged, sealed or not."""
        self._odometer.follow(self._connection)
        return PrivacyLoss(self._odometer.spent(unit))

    def charged_in(self, campaign: str, unit: bytes) -> int:
        """How many of a unit's X-rays this campaign has charged."""
        self._odometer.follow(self._connection)
        return self._odometer.charged_in(campaign, unit)

    def root(self, unit: bytes) -> bytes:
        """The unit that a unit is counted as: itself, or the one that it was merged into."""
        return self.roots()(unit)

    def roots(self) -> Callable[[bytes], bytes]:
        """`root` as it stands now, for many units."""
        self._odometer.follow(self._connection)
        return self._odometer.root

    def merge(self, kept: bytes, joined: bytes) -> PrivacyLoss:
        """Count two units as one from now on, for good; what both have spent together.

        Nothing of it leaves: to others, the charges of both were never any unit's.

        Raises:
            ConfigurationError: they are one already.
        """
        with self._transaction() as connection:
            first, second = self.root(kept), self.root(joined)
            if first == second:
                raise ConfigurationError("the two ids are counted as one patient already; nothing was changed")
            connection.execute("INSERT INTO merges (kept, joined) VALUES (?, ?)", (first, second))
        return self.spent(first)

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
        query = "SELECT charge, campaign, xray, unit FROM unsettled WHERE campaign = ? ORDER BY charge"
        root = self.roots()
        rows = self._connection.execute(query, (campaign,))
        return [OpenCharge(sequence, name, xray, root(unit)) for sequence, name, xray, unit in rows]

    def largest_spent(self) -> PrivacyLoss:
        """The most that any unit has spent: for the officer's eyes, it does not leave the site."""
        self._odometer.follow(self._connection)
        return PrivacyLoss(self._odometer.largest())

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
        answers: list[BudgetExceededError | None] = []
        with self._transaction() as connection:
            standing = self.standing_approval(campaign, today)
            self._check_bound(campaign, standing.policy)
            budget = PrivacyFilter(standing.policy.lifetime_budget, campaign.unit)
            odometer = self._odometer
            odometer.follow(connection)
            # By unit, with what this call itself has admitted: the loss and the number of X-rays.
            admitted: dict[bytes, tuple[PrivacyLoss, int]] = {}
            bodies: list[bytes] = []
            paying: list[ChargeRequest] = []
            for request in requests:
                unit = odometer.root(request.unit)
                spent, count = admitted.get(unit) or (
                    PrivacyLoss(odometer.spent(unit)),
                    odometer.charged_in(name, unit),
                )
                try:
                    total = budget.admit(spent, loss)
                    if count >= campaign.cap:
                        raise BudgetExceededError(campaign.unit, str(loss), "0")
                except BudgetExceededError as refusal:
                    # Or an X-ray that is charged already would be called one too many for its unit.
                    if connection.execute(_DRAWN_FOR, {"campaign": name, "xray": request.xray}).fetchone():
                        raise WaitingError(_charged_elsewhere(campaign)) from refusal
                    answers.append(refusal)
                    continue
                admitted[unit] = (total, count + 1)
                subject = subject_commitment(request.unit, request.salt)
                bodies.append(charge_body(subject, name, standing.sequence, loss.micro_epsilon))
                paying.append(request)
                answers.append(None)
            charges = [
                OpenCharge(sequence, name, request.xray, request.unit)
                for sequence, request in zip(self._chain("charge", bodies), paying, strict=True)
            ]
            opened = [
                (charge.sequence, name, request.unit, request.salt, request.xray, loss.micro_epsilon)
                for charge, request in zip(charges, paying, strict=True)
            ]
            with _only_once("openings_once", _charged_elsewhere(campaign)):
                connection.executemany("INSERT INTO openings VALUES (?, ?, ?, ?, ?, ?)", opened)
            if charges:
                bound = campaign.bound_per_unit.micro_epsilon
                connection.execute("INSERT OR IGNORE INTO bounds VALUES (?, ?)", (name, bound))
        paid = iter(charges)
        return [next(paid) if refusal is None else refusal for refusal in answers]

    def seal(self, records: Iterable[tuple[OpenCharge, bytes]], day: str) -> None:
        """In one durable transaction: each record's bytes, the day of its draw, and the Seal entry that names them.

        Raises:
            WaitingError: another process has settled one of these charges meanwhile; nothing is sealed.
        """
        drawn = list(records)
        with self._transaction() as connection:
            sequences = self._chain(
                "seal",
                [
                    seal_body(charge.sequence, record_digest(charge.campaign, charge.sequence, payload))
                    for charge, payload in drawn
                ],
            )
            sealed = [
                (charge.sequence, sequence, payload, day)
                for sequence, (charge, payload) in zip(sequences, drawn, strict=True)
            ]
            with _only_once("seals.charge", _SETTLED):
                connection.executemany("INSERT INTO seals VALUES (?, ?, ?, ?)", sealed)

    def abandon(self, charge: OpenCharge) -> None:
        """Settle a charge without a record; what it cost stays spent.

        Raises:
            WaitingError: as `seal`.
        """
        with self._transaction() as connection:
            sequence = self._append(Abandon(charge=charge.sequence))
            with _only_once("seals.charge", _SETTLED):
                connection.execute("INSERT INTO seals VALUES (?, ?, NULL, '')", (charge.sequence, sequence))


_DRAWN_FOR = """SELECT 1 FROM openings WHERE substr(xray, 1, 16) = substr(:xray, 1, 16)
                AND substr(campaign, 1, 16) = substr(:campaign, 1, 16)"""
_SETTLED = (
    "a charge is settled already, by another process; what that one sealed is what is sent. Let one agent run at a time"
)


def _charged_elsewhere(campaign: Campaign) -> str:
    return (
        f"an X-ray is charged for campaign {campaign.name} already, by another process; nothing was charged. "
        "Let one agent run at a time"
    )


@contextmanager
def _only_once(constraint: str, found: str) -> Iterator[None]:
    """Put the one constraint that two processes can run into, into words; nothing is written then."""
    try:
        yield
    except sqlite3.IntegrityError as error:
        if constraint not in str(error):
            raise
        raise WaitingError(found) from error
