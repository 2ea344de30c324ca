"""What the officer signed: the policy in force, and the approvals that stand under it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from ldp_client.errors import BudgetExceededError, ChainError, PolicyRefusedError, WaitingError
from ldp_client.ledger.correspondence import Correspondence
from ldp_client.privacy.accountant import PrivacyFilter
from ldp_client.privacy.loss import PrivacyLoss
from ldp_client.wire.campaign import Approval, Policy, policy_id
from ldp_client.wire.canonical import parse
from ldp_client.wire.chain import ApprovalEntry, PolicyEntry, parse_entry
from ldp_client.wire.envelope import APPROVAL, POLICY, Keys, open_envelope
from ldp_client.wire.evaluation import Asked, asked_id, check_policy

# Both repeat the condition of the partial index, word for word: only then does SQLite use it.
_POLICIES = """SELECT sequence, body FROM entries WHERE kind IN ('policy', 'approval') AND kind = 'policy'
               ORDER BY sequence DESC LIMIT 1"""
_APPROVALS = """SELECT sequence, body FROM entries WHERE kind IN ('policy', 'approval') AND kind = 'approval'
                ORDER BY sequence DESC"""


@dataclass(frozen=True)
class StandingApproval:
    """An approval that holds today, with the policy that it was given under."""

    sequence: int
    approval: Approval
    policy: Policy


class Agreements(Correspondence):
    """The part of a site's ledger that holds policies and approvals."""

    def _officers(self) -> Keys:
        keys = {f"officer {index}": bytes.fromhex(key) for index, key in enumerate(self.genesis.officer_keys, 1)}
        return Keys(keys, "an officer of this site; use the key whose public half `ldp-client site init` was given")

    def policy(self) -> tuple[int, Policy] | None:
        """The policy in force and its entry."""
        row = self._connection.execute(_POLICIES).fetchone()
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
            self._append(PolicyEntry(envelope=envelope))
        return policy

    def file_approval(self, envelope: bytes, campaign: Asked) -> int:
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
            return self._append(ApprovalEntry(envelope=envelope))

    def _check_bound(self, campaign: Asked, policy: Policy) -> None:
        """Return if the bounds of all campaigns charged, this one among them, fit into one unit's lifetime budget.

        Each unit is filtered by itself too; this sum is what others can verify, who cannot tell units apart.
        """
        query = "SELECT coalesce(sum(micro_epsilon), 0) FROM bounds WHERE campaign <> ?"
        (others,) = self._connection.execute(query, (asked_id(campaign),)).fetchone()
        left = PrivacyFilter(policy.lifetime_budget, campaign.unit).remaining(PrivacyLoss(others))
        if campaign.bound_per_unit > left:
            raise BudgetExceededError(
                campaign.unit,
                str(campaign.bound_per_unit),
                str(left),
                "after the campaigns charged before; ask for a smaller epsilon or cap, "
                "or sign a policy with a larger budget",
            )

    def _check_approval(self, approval: Approval, campaign: Asked) -> Policy:
        current = self.policy()
        if current is None:
            raise PolicyRefusedError("no policy is in force; the officer signs one with `ldp-client policy sign`")
        expected = (self.genesis.site, self.genesis.ledger_id, asked_id(campaign), policy_id(current[1]))
        if (approval.site, approval.ledger_id, approval.campaign, approval.policy) != expected:
            raise PolicyRefusedError(
                "the approval was given for another site, ledger, campaign or policy; approve the campaign again"
            )
        check_policy(current[1], campaign)
        return current[1]

    def has_approval(self, campaign: str) -> bool:
        """Whether an officer ever approved the campaign; `standing_approval` says whether that still holds."""
        return any(approval.campaign == campaign for _, approval in self._approvals())

    def _approvals(self) -> Iterator[tuple[int, Approval]]:
        """Approvals, the latest first."""
        for sequence, body in self._connection.execute(_APPROVALS).fetchall():
            entry = parse_entry(body)
            if not isinstance(entry, ApprovalEntry):
                raise ChainError(f"entry {sequence} is not the approval that its row says; verify the ledger")
            yield sequence, parse(Approval, open_envelope(entry.envelope, APPROVAL, self._officers())[1])

    def standing_approval(self, campaign: Asked, today: str) -> StandingApproval:
        """The approval that a charge cites.

        Raises:
            WaitingError: no officer has approved it, or the approval or the campaign has run out.
            PolicyRefusedError: the officer refused it since, or the policy changed and it must be approved again.
        """
        wanted = asked_id(campaign)
        if self.decision(wanted) == "refused":
            raise PolicyRefusedError(
                f"the officer has refused campaign {campaign.name}; nothing is drawn for it unless it is approved again"
            )
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
