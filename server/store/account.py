"""What a site's chain adds up to: charges, totals by campaign, the bound per unit. Rules alone, without a database."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field

from ldp_client.errors import LdpError, PolicyRefusedError
from ldp_client.privacy.loss import MAX_MICRO_EPSILON
from ldp_client.wire.campaign import Approval, Campaign, Policy, policy_id
from ldp_client.wire.canonical import parse
from ldp_client.wire.chain import Abandon, ApprovalEntry, ChargeTerms, KeyRotation, PolicyEntry, Query, Said, SealTerms
from ldp_client.wire.envelope import APPROVAL, POLICY, open_envelope
from ldp_client.wire.evaluation import Asked
from ldp_client.wire.exchange import Refusal
from ldp_client.wire.rotation import KeysInForce, open_rotation
from server.store.records import Record
from server.store.sites import Site


@dataclass(slots=True)
class Paid:
    """A charge or a query, as far as its record or answer is judged by it.

    `policy` is the entry of the policy in force when the unit was charged, None if there was none; `bound` the most
    that one unit can have spent by then, this charge included, in millionths of epsilon; `settled` says whether a seal
    or an abandonment has used the charge.
    """

    campaign: str
    approval: int
    micro_epsilon: int
    policy: int | None
    bound: int
    settled: bool = False
    of_a_set: bool = False
    """A query, which charges a whole evaluation set."""
    repeated: bool = False
    """A query of an evaluation that the site was charged for before."""


@dataclass
class Total:
    """One campaign at one site. What it took of one unit is at most `agreed_bound + beyond`, in millionths of epsilon.

    `agreed_bound` is cap * epsilon as soon as one charge costs what the campaign says. Every other charge (the campaign
    is unknown, or the loss is not its own) might be of the same unit, so it counts in full.
    """

    charges: int = 0
    records: int = 0
    refused: int = 0
    agreed_bound: int = 0
    beyond: int = 0


@dataclass
class Account:
    """What a site's chain says, up to the entry that was followed last. Nothing is in it that is not in the entries."""

    site: Site
    campaigns: dict[str, Asked]
    policies: dict[int, Policy]
    approvals: dict[int, Approval]
    charges: dict[int, Paid]
    totals: dict[str, Total]
    """Of the campaigns that the next entries speak of: a site may have been charged for any number of others."""
    bound: int
    """The most that one unit can have spent over all campaigns, in millionths of epsilon.

    It saturates where no privacy is left to speak of, so that no hostile sum overflows a column.
    """
    written: frozenset[str]
    """The campaigns whose totals the database has a row of."""
    keys: KeysInForce
    settlements: dict[int, int] = field(default_factory=dict)
    _losses: dict[str, int] = field(default_factory=dict)

    def follow(self, sequence: int, entry: Said) -> None:
        """Take in the next entry. What an officer did not sign stays evidence and changes nothing."""
        match entry:
            case ChargeTerms():
                self._count(sequence, entry)
            case SealTerms() | Abandon():
                self._settle(sequence, entry.charge)
            case PolicyEntry():
                try:
                    self.policies[sequence] = self._policy(entry)
                except LdpError:
                    return
            case ApprovalEntry():
                try:
                    self.approvals[sequence] = self._approval(entry)
                except LdpError:
                    return
            case Query():
                self._count_query(sequence, entry)
            case KeyRotation():
                try:
                    self._rotate(entry, sequence)
                except LdpError:
                    return
            case _:
                return

    @property
    def policy_number(self) -> int | None:
        """The entry of the policy in force now."""
        return next(reversed(self.policies), None)

    @property
    def policy(self) -> Policy | None:
        """The policy in force now."""
        number = self.policy_number
        return None if number is None else self.policies[number]

    def loss(self, campaign: str) -> int:
        """What one record of a published campaign, or an evaluation's answer, costs, recomputed from its specs; once,
        as a batch has thousands."""
        if campaign not in self._losses:
            asked = self.campaigns[campaign]
            cost = asked.release.loss if isinstance(asked, Campaign) else asked.histogram.loss
            self._losses[campaign] = cost.micro_epsilon
        return self._losses[campaign]

    def paid_for(self, sequence: int, charge: int) -> Paid | None:
        """The charge that the seal in entry `sequence` has used up; None if it is unknown or was used before."""
        return self.charges[charge] if self.settlements.get(charge) == sequence else None

    def count(self, accepted: Iterable[Record], refused: Iterable[Refusal]) -> None:
        """Add to the totals what became of the records of the seals that were followed."""
        campaign_of = {sequence: self.charges[charge].campaign for charge, sequence in self.settlements.items()}
        for campaign, records in Counter(record.campaign for record in accepted).items():
            self.totals[campaign].records += records
        for refusal in refused:
            # A seal without a charge of its own says nothing about any campaign.
            if refusal.seal in campaign_of:
                self.totals[campaign_of[refusal.seal]].refused += 1

    def _settle(self, sequence: int, charge: int) -> None:
        # A charge that is unknown, or used already, is left as it is.
        paid = self.charges.get(charge)
        if paid is not None and not paid.settled:
            paid.settled = True
            self.settlements[charge] = sequence

    def _policy(self, entry: PolicyEntry) -> Policy:
        policy = parse(Policy, open_envelope(entry.envelope, POLICY, self.keys.officer_ring)[1])
        current = self.policy
        if policy.site != self.site.site or (current is not None and policy.serial <= current.serial):
            raise PolicyRefusedError("the policy is another site's, or its serial is not above the one in force")
        return policy

    def _approval(self, entry: ApprovalEntry) -> Approval:
        approval = parse(Approval, open_envelope(entry.envelope, APPROVAL, self.keys.officer_ring)[1])
        current = self.policy
        if (approval.site, approval.ledger_id) != (self.site.site, self.site.ledger_id):
            raise PolicyRefusedError("the approval is for another site or ledger")
        if current is None or approval.policy != policy_id(current):
            raise PolicyRefusedError("the approval was given under another policy than the one in force")
        return approval

    def _rotate(self, entry: KeyRotation, sequence: int) -> None:
        """An officer's new key signs from here on. The site's own is taken in before it is believed (`store.keys`)."""
        rotation = open_rotation(entry, self.keys, self.site.site, self.site.ledger_id, sequence)
        self.keys = self.keys.after(rotation)

    def _count(self, sequence: int, charge: ChargeTerms) -> None:
        name, cost = charge.campaign, charge.micro_epsilon
        total = self.totals.get(name)
        if total is None:
            total = self.totals[name] = Total()
        total.charges += 1
        asked = self.campaigns.get(name)
        if not isinstance(asked, Campaign) or cost != self.loss(name):
            total.beyond = _saturated(total.beyond + cost)
            self.bound = _saturated(self.bound + cost)
        elif total.agreed_bound == 0:
            total.agreed_bound = asked.bound_per_unit.micro_epsilon
            self.bound = _saturated(self.bound + total.agreed_bound)
        self.charges[sequence] = Paid(name, charge.approval, cost, self.policy_number, self.bound)

    def _count_query(self, sequence: int, query: Query) -> None:
        repeated = query.campaign in self.totals
        total = self.totals.setdefault(query.campaign, Total())
        total.charges += 1
        asked = self.campaigns.get(query.campaign)
        right = (
            asked is not None and not isinstance(asked, Campaign) and query.micro_epsilon == self.loss(query.campaign)
        )
        if right and not repeated:
            total.agreed_bound = query.micro_epsilon
        else:
            total.beyond = _saturated(total.beyond + query.micro_epsilon)
        self.bound = _saturated(self.bound + query.micro_epsilon)
        self.charges[sequence] = Paid(
            query.campaign,
            query.approval,
            query.micro_epsilon,
            self.policy_number,
            self.bound,
            of_a_set=True,
            repeated=repeated,
        )


def _saturated(micro_epsilon: int) -> int:
    return min(micro_epsilon, MAX_MICRO_EPSILON)
