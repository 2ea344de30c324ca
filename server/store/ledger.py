"""A site's ledger as the centre holds it: its entries, what they say, and what they add up to."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import astuple, dataclass, field
from functools import lru_cache
from itertools import count, repeat
from typing import Any, TypeVar

from sqlalchemy import Connection, Select, Table, bindparam, delete, exists, select, update

from ldp_client.errors import LdpError, PolicyRefusedError
from ldp_client.privacy.loss import MAX_MICRO_EPSILON
from ldp_client.wire.campaign import Approval, Campaign, Policy, policy_id
from ldp_client.wire.canonical import canonical_bytes, parse
from ldp_client.wire.chain import Abandon, ApprovalEntry, ChargeTerms, KeyRotation, PolicyEntry, Query, Said, SealTerms
from ldp_client.wire.envelope import APPROVAL, POLICY, OneKey, open_envelope
from ldp_client.wire.evaluation import Asked
from ldp_client.wire.exchange import Refusal
from ldp_client.wire.rotation import KeysInForce, open_rotation
from server.store import campaigns, keys, rows, tables
from server.store.records import Record
from server.store.sites import Site

Name = TypeVar("Name", int, str)


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


def _parts(wanted: Iterable[Name]) -> Iterator[list[Name]]:
    """Some at a time, in order: databases limit how many values one query can name."""
    names = sorted(wanted)
    for start in range(0, len(names), 500):
        yield names[start : start + 500]


def _saturated(micro_epsilon: int) -> int:
    return min(micro_epsilon, MAX_MICRO_EPSILON)


def _paid_query() -> Select[Any]:
    charges, settlements = tables.charges.c, tables.settlements
    both = tables.charges.outerjoin(
        settlements, (settlements.c.site == charges.site) & (settlements.c.charge == charges.sequence)
    )
    return (
        select(
            charges.sequence,
            charges.campaign,
            charges.approval,
            charges.micro_epsilon,
            charges.bound,
            settlements.c.sequence.label("settled"),
        )
        .select_from(both)
        .where(charges.site == bindparam("site"), charges.sequence.in_(bindparam("numbers", expanding=True)))
    )


def _bodies(table: Table) -> Select[Any]:
    return select(table.c.sequence, table.c.body).where(table.c.site == bindparam("site")).order_by(table.c.sequence)


# Built once: building a statement takes longer than running it.
_PAID = _paid_query()
_POLICIES, _APPROVALS = _bodies(tables.policies), _bodies(tables.approvals)
_TERMS = select(tables.campaigns.c.micro_epsilon_per_record, tables.campaigns.c.unit, tables.campaigns.c.kind).where(
    exists().where(
        tables.totals.c.site == bindparam("of_site"), tables.totals.c.campaign == tables.campaigns.c.campaign
    )
)
_SPENT = select(tables.sites.c.spent).where(tables.sites.c.site == bindparam("site"))
_TOTALS = select(tables.totals).where(
    tables.totals.c.site == bindparam("site"), tables.totals.c.campaign.in_(bindparam("names", expanding=True))
)
_NO_TOTALS = delete(tables.totals).where(
    tables.totals.c.site == bindparam("of_site"), tables.totals.c.campaign.in_(bindparam("names", expanding=True))
)
_MOVE = update(tables.sites).where(tables.sites.c.site == bindparam("of_site"))


def read_account(connection: Connection, site: Site, first: int, entries: Sequence[Said], centre: OneKey) -> Account:
    """The account as the committed chain leaves it, with the charges and campaigns that the next entries speak of."""
    cited = {entry.charge for entry in entries if isinstance(entry, SealTerms | Abandon) and entry.charge < first}
    policies = {number: _policy(body) for number, body in connection.execute(_POLICIES, {"site": site.site})}
    charges = _paid(connection, site.site, cited, policies)
    if cited - charges.keys():
        charges |= _queried(connection, site.site, cited, policies)
    spoken_of = {entry.campaign for entry in entries if isinstance(entry, ChargeTerms | Query)}
    spoken_of |= {charge.campaign for charge in charges.values()}
    totals = _totals(connection, site.site, spoken_of)
    return Account(
        site=site,
        campaigns=campaigns.published(connection, spoken_of, centre),
        policies=policies,
        approvals={number: _approval(body) for number, body in connection.execute(_APPROVALS, {"site": site.site})},
        charges=charges,
        totals=totals,
        written=frozenset(totals),
        bound=connection.execute(_SPENT, {"site": site.site}).scalar_one(),
        keys=keys.said(connection, site),
    )


def extend(
    connection: Connection,
    account: Account,
    first: int,
    entries: Sequence[Said],
    bodies: Sequence[bytes],
    heads: Sequence[str],
) -> None:
    """Write the entries from `first` on that the account has followed, and what they say."""
    site = account.site.site
    kinds = [entry.kind for entry in entries]
    rows.write(connection, tables.entries, list(zip(repeat(site), count(first), kinds, bodies, heads, strict=False)))
    rows.write(
        connection,
        tables.policies,
        [
            (site, sequence, policy.serial, canonical_bytes(policy))
            for sequence, policy in account.policies.items()
            if sequence >= first
        ],
    )
    rows.write(
        connection,
        tables.approvals,
        [
            (site, sequence, canonical_bytes(approval))
            for sequence, approval in account.approvals.items()
            if sequence >= first
        ],
    )
    rows.write(
        connection,
        tables.charges,
        [
            (site, sequence, paid.campaign, paid.approval, paid.micro_epsilon, paid.bound)
            for sequence, paid in account.charges.items()
            if sequence >= first and not paid.of_a_set
        ],
    )
    rows.write(
        connection,
        tables.queries,
        [
            (site, sequence, paid.campaign, paid.approval, paid.micro_epsilon, paid.bound, int(paid.repeated))
            for sequence, paid in account.charges.items()
            if sequence >= first and paid.of_a_set
        ],
    )
    rows.write(
        connection,
        tables.settlements,
        [(site, charge, sequence) for charge, sequence in account.settlements.items()],
    )
    _write_totals(connection, account)
    connection.execute(
        _MOVE,
        {
            "of_site": site,
            "sequence": first + len(entries) - 1,
            "head": heads[-1],
            "officer_keys": " ".join(account.keys.officers),
            **_sums(connection, account),
        },
    )


def _sums(connection: Connection, account: Account) -> dict[str, int | str]:
    """What the site's row says of its budget, so that a question about it reads one row and no entry."""
    charged = connection.execute(_TERMS, {"of_site": account.site.site}).all()
    policy = account.policy
    # With one campaign that protects images only, nothing is promised about a patient.
    units = {row.unit for row in charged} or set(policy.units if policy is not None else ("patient",))
    return {
        "per_record": max((row.micro_epsilon_per_record for row in charged if row.kind == "campaign"), default=0),
        "spent": account.bound,
        "agreed": 0 if policy is None else policy.lifetime_micro_epsilon,
        "unit": "image" if "image" in units else "patient",
    }


def _write_totals(connection: Connection, account: Account) -> None:
    for part in _parts(account.written):
        connection.execute(_NO_TOTALS, {"of_site": account.site.site, "names": part})
    rows.write(
        connection,
        tables.totals,
        [(account.site.site, campaign, *astuple(total)) for campaign, total in account.totals.items()],
    )


# Every batch of a site reads the same few again.
@lru_cache(maxsize=256)
def _policy(body: bytes) -> Policy:
    return parse(Policy, body)


@lru_cache(maxsize=1024)
def _approval(body: bytes) -> Approval:
    return parse(Approval, body)


def _totals(connection: Connection, site: str, campaigns: set[str]) -> dict[str, Total]:
    found = {}
    for part in _parts(campaigns):
        for row in connection.execute(_TOTALS, {"site": site, "names": part}):
            found[row.campaign] = Total(row.charges, row.records, row.refused, row.agreed_bound, row.beyond)
    return found


def _paid(connection: Connection, site: str, cited: set[int], policies: Iterable[int]) -> dict[int, Paid]:
    """Charges of earlier batches, and whether they are settled."""
    found = {}
    for part in _parts(cited):
        for row in connection.execute(_PAID, {"site": site, "numbers": part}):
            policy = _in_force(policies, row.sequence)
            found[row.sequence] = Paid(
                row.campaign, row.approval, row.micro_epsilon, policy, row.bound, row.settled is not None
            )
    return found


def _in_force(policies: Iterable[int], sequence: int) -> int | None:
    """The entry of the policy that was in force at another entry."""
    return max((number for number in policies if number < sequence), default=None)


def _queried(connection: Connection, site: str, cited: set[int], policies: Iterable[int]) -> dict[int, Paid]:
    """Queries of earlier batches, and whether they are settled: a site has few."""
    queries, settlements = tables.queries.c, tables.settlements.c
    both = tables.queries.outerjoin(
        tables.settlements, (settlements.site == queries.site) & (settlements.charge == queries.sequence)
    )
    query = select(tables.queries, settlements.sequence.label("settled")).select_from(both).where(queries.site == site)
    return {
        row.sequence: Paid(
            row.campaign,
            row.approval,
            row.micro_epsilon,
            _in_force(policies, row.sequence),
            row.bound,
            row.settled is not None,
            of_a_set=True,
            repeated=bool(row.repeated),
        )
        for row in connection.execute(query)
        if row.sequence in cited
    }
