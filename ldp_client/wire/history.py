"""What a site's chain says, entry by entry: one reading for the site, the centre's auditor and everybody else."""

from __future__ import annotations

from dataclasses import dataclass, field

from ldp_client.errors import ChainError, LdpError, VerificationError
from ldp_client.privacy.loss import MAX_MICRO_EPSILON, NOTHING, PrivacyLoss
from ldp_client.wire.campaign import Approval, Campaign, Policy, policy_id
from ldp_client.wire.canonical import parse
from ldp_client.wire.chain import (
    ZERO,
    Abandon,
    Chain,
    Charge,
    Genesis,
    KeyRotation,
    LedgerEntry,
    PolicyEntry,
    Query,
    Seal,
    charge_terms,
    parse_entry,
    sealed_charge,
)
from ldp_client.wire.envelope import APPROVAL, POLICY, Keys, open_envelope
from ldp_client.wire.evaluation import Asked, Evaluation, check_policy
from ldp_client.wire.rotation import KeysInForce, open_rotation


@dataclass
class SiteHistory:
    """Reads a site's entries in order. `campaigns` are those that the reader knows, evaluations among them, by id.

    A break in the chain is always refused. An authentic entry that contradicts what came before (a loss that is not
    the specs', a charge without approval) is refused when `strict`, as a site's own ledger never holds one; otherwise
    it is noted in `faults`, and in `faulty_seals` the records that hang on it: the centre keeps such entries as
    evidence, counts them as spent, and must have refused those records.
    """

    site: str
    ledger_id: str
    campaigns: dict[str, Asked]
    strict: bool
    sequence: int = 0
    head: str = ZERO
    genesis: Genesis | None = None
    # (entry, keys in force after it): the genesis, and every rotation that held.
    keys: list[tuple[int, KeysInForce]] = field(default_factory=list)
    policy: Policy | None = None
    approvals: dict[int, tuple[str, str]] = field(default_factory=dict)
    open: dict[int, str] = field(default_factory=dict)
    charged: dict[str, int] = field(default_factory=dict)
    sealed: int = 0
    faults: dict[int, str] = field(default_factory=dict)
    faulty_seals: list[int] = field(default_factory=list)
    heads: dict[int, str] = field(default_factory=dict)
    # What `bound` says, before it saturates, and the campaigns whose cap * epsilon is in it.
    _spent: int = 0
    _agreed: set[str] = field(default_factory=set)
    # (campaign, approval, loss) of charges found right under what is in force now: the next such one is right too.
    _right: set[tuple[str, int, int]] = field(default_factory=set)
    _chain: Chain = field(init=False)

    def __post_init__(self) -> None:
        self._chain = Chain(self.ledger_id, self.head)

    def add(self, sequence: int, body: bytes, head: str) -> None:
        """Take the next entry.

        Raises:
            VerificationError: it does not follow, or says what cannot be; the text names the entry.
        """
        try:
            if sequence != self.sequence + 1:
                raise ChainError(f"follows entry {self.sequence}")
            if head != self._chain.add(sequence, body):
                raise ChainError("its hash does not match its bytes and the entry before it")
            entry = None if self._is_more_of_the_same(sequence, body) else parse_entry(body)
            if entry is not None and (sequence == 1) != isinstance(entry, Genesis):
                raise ChainError("a ledger begins with its genesis entry and has no other")
        except VerificationError as error:
            raise ChainError(f"site {self.site}, entry {sequence}: {error}") from error
        if entry is not None:
            try:
                self._interpret(sequence, entry)
            except LdpError as error:
                if self.strict:
                    raise VerificationError(f"site {self.site}, entry {sequence}: {error}") from error
                self.faults[sequence] = str(error)
        self.sequence, self.head = sequence, head
        self.heads[sequence] = head

    def _is_more_of_the_same(self, sequence: int, body: bytes) -> bool:
        """Take a charge on terms found right before, or the seal of a faultless open charge; False for anything else.

        Nearly every entry is one of the two, and nothing about it is left to judge.
        """
        charge = sealed_charge(body)
        if charge is not None:
            if charge not in self.open or charge in self.faults:
                return False
            del self.open[charge]
            self.sealed += 1
            return True
        terms = charge_terms(body)
        if terms is None or terms not in self._right:
            return False
        self.open[sequence] = terms[0]
        self.charged[terms[0]] += terms[2]
        return True

    def _interpret(self, sequence: int, entry: LedgerEntry) -> None:
        if isinstance(entry, Charge):
            self._charge(sequence, entry)
        elif isinstance(entry, Query):
            self._query(sequence, entry)
        elif isinstance(entry, Seal | Abandon):
            self._settle(sequence, entry)
        elif isinstance(entry, Genesis):
            if (entry.site, entry.ledger_id) != (self.site, self.ledger_id):
                raise ChainError("the genesis entry is of another site or ledger")
            self.genesis = entry
            self.keys.append((sequence, KeysInForce.of(entry)))
        elif isinstance(entry, PolicyEntry):
            policy = parse(Policy, open_envelope(entry.envelope, POLICY, self._officers())[1])
            if policy.site != self.site or (self.policy and policy.serial <= self.policy.serial):
                raise VerificationError("the policy is of another site or not newer than the one in force")
            self.policy = policy
            self._right.clear()
        elif isinstance(entry, KeyRotation):
            self._rotate(sequence, entry)
        else:
            self._approve(sequence, parse(Approval, open_envelope(entry.envelope, APPROVAL, self._officers())[1]))

    def _officers(self) -> Keys:
        return self.keys[-1][1].officer_ring if self.keys else Keys({})

    def keys_at(self, sequence: int) -> KeysInForce:
        """The keys in force after an entry; those of the genesis for the place before it."""
        return next((keys for at, keys in reversed(self.keys) if at <= sequence), self.keys[0][1])

    def signing_keys(self) -> list[bytes]:
        """Every key that signed for the site, the first one first."""
        signing = dict.fromkeys(keys.signing for _, keys in self.keys)
        return [bytes.fromhex(key) for key in signing]

    def _rotate(self, sequence: int, entry: KeyRotation) -> None:
        keys = self.keys[-1][1]
        self.keys.append((sequence, keys.after(open_rotation(entry, keys, self.site, self.ledger_id, sequence))))

    def _approve(self, sequence: int, approval: Approval) -> None:
        if (approval.site, approval.ledger_id) != (self.site, self.ledger_id):
            raise VerificationError("the approval is for another site or ledger")
        if self.policy is None or approval.policy != policy_id(self.policy):
            raise VerificationError("the approval was given under another policy than the one in force")
        self.approvals[sequence] = (approval.campaign, approval.policy)

    def _settle(self, sequence: int, entry: Seal | Abandon) -> None:
        if isinstance(entry, Seal) and (entry.charge in self.faults or entry.charge not in self.open):
            self.faulty_seals.append(sequence)
        if entry.charge not in self.open:
            raise VerificationError(f"charge {entry.charge} does not exist or was settled before")
        del self.open[entry.charge]
        self.sealed += isinstance(entry, Seal)

    def _charge(self, sequence: int, charge: Charge) -> None:
        asked = self.campaigns.get(charge.campaign)
        campaign = asked if isinstance(asked, Campaign) else None
        self._spend(sequence, charge, None if campaign is None else campaign.release.loss)
        self._right.add((charge.campaign, charge.approval, charge.micro_epsilon))

    def _query(self, sequence: int, query: Query) -> None:
        asked = self.campaigns.get(query.campaign)
        evaluation = asked if isinstance(asked, Evaluation) else None
        repeated = query.campaign in self.charged
        self._spend(sequence, query, None if evaluation is None else evaluation.histogram.loss, repeated=repeated)

    def _spend(self, sequence: int, paid: Charge | Query, cost: PrivacyLoss | None, *, repeated: bool = False) -> None:
        """Count what was charged, then hold it against its campaign (`cost` is None where that is unknown)."""
        # Counted before it is judged: what was charged is spent, whether or not it should have been.
        self.open[sequence] = paid.campaign
        self.charged[paid.campaign] = self.charged.get(paid.campaign, 0) + paid.micro_epsilon
        # What follows may add a campaign to the bound, which every charge is held against.
        self._right.clear()
        if repeated or cost is None or paid.micro_epsilon != cost.micro_epsilon:
            self._spent += paid.micro_epsilon
        elif paid.campaign not in self._agreed:
            self._agreed.add(paid.campaign)
            self._spent += self.campaigns[paid.campaign].bound_per_unit.micro_epsilon
        if cost is None:
            raise VerificationError(f"the campaign {paid.campaign[:12]} that it was charged for is not in the export")
        if repeated:
            raise VerificationError("the evaluation was answered before: a site's set is queried once")
        if paid.micro_epsilon != cost.micro_epsilon:
            raise VerificationError(f"charged epsilon {PrivacyLoss(paid.micro_epsilon)}, the specs cost {cost}")
        if self.policy is None or self.approvals.get(paid.approval) != (paid.campaign, policy_id(self.policy)):
            raise VerificationError(f"entry {paid.approval} is no approval of this campaign under the policy in force")
        check_policy(self.policy, self.campaigns[paid.campaign])
        if self.bound > self.policy.lifetime_budget:
            raise VerificationError(
                f"the bound per unit over all campaigns is {self.bound}, "
                f"the lifetime budget {self.policy.lifetime_budget}"
            )

    @property
    def bound(self) -> PrivacyLoss:
        """The most that one unit can have spent: the sum of cap * epsilon over the campaigns charged, and of each
        evaluation's epsilon.

        A charge of a campaign that the reader does not know, or of another loss than its specs cost, is outside that
        agreement: all such charges may have been one unit's, so they are added. The bound saturates at 10^6 epsilon,
        where there is no privacy left to speak of, so that no hostile sum stops a reader.
        """
        return PrivacyLoss(min(self._spent, MAX_MICRO_EPSILON))

    @property
    def budget(self) -> PrivacyLoss:
        """The lifetime budget per unit of the policy in force."""
        return self.policy.lifetime_budget if self.policy else NOTHING
