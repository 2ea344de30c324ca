"""What a chain says: every contradiction, refused at the site and kept as evidence at the centre."""

from __future__ import annotations

import pytest
from site_story import (
    ENCODER,
    LEDGER,
    OFFICER,
    OTHER_LEDGER,
    STRANGER,
    approval,
    beginning,
    campaign,
    charge,
    genesis,
    policy,
    read,
    seal,
    signed_approval,
    signed_policy,
)

from ldp_client.errors import ChainError, VerificationError
from ldp_client.privacy.loss import MAX_MICRO_EPSILON, NOTHING, PrivacyLoss
from ldp_client.privacy.release_design import joint_laplace
from ldp_client.wire.campaign import Campaign, campaign_id
from ldp_client.wire.chain import ZERO, Abandon, ApprovalEntry, LedgerEntry, PolicyEntry, entry_body, link
from ldp_client.wire.envelope import APPROVAL, POLICY, close_envelope
from ldp_client.wire.history import SiteHistory

SECOND = campaign(name="second")
WHOLE = [*beginning(), charge(campaign(), 3), seal(4), charge(campaign(), 3), Abandon(charge=6), charge(campaign(), 3)]


def test_an_honest_history_reads_without_a_fault() -> None:
    for strict in (True, False):
        history = read(WHOLE, strict=strict)
        assert history.faults == {}
        assert history.faulty_seals == []
        assert (history.sequence, history.sealed) == (8, 1)
        assert history.open == {8: campaign_id(campaign())}
        assert history.charged == {campaign_id(campaign()): 6_000_000}
        assert history.bound == PrivacyLoss.of(4)
        assert history.budget == PrivacyLoss.of(5)
        assert history.heads[8] == history.head


def test_an_empty_history_has_spent_nothing_and_may_spend_nothing() -> None:
    history = read([], strict=True)
    assert (history.bound, history.budget, history.head) == (NOTHING, NOTHING, ZERO)


# --- breaks of the chain: refused, whoever reads


def broken_chains() -> dict[str, tuple[int, bytes, str, str]]:
    """A second entry that does not follow the first: its number, body and head, and the words."""
    first = link(LEDGER, 1, ZERO, entry_body(genesis()))
    body = entry_body(signed_policy(policy()))
    good = link(LEDGER, 2, first, body)
    junk = b'{"entry":{"kind":"refund"}}'
    again = entry_body(genesis())
    return {
        "gap": (3, body, link(LEDGER, 3, first, body), "entry 3: follows entry 1"),
        "overlap": (1, body, good, "entry 1: follows entry 1"),
        "changed body": (2, body + b" ", good, "entry 2: its hash does not match its bytes and the entry before it"),
        "changed head": (2, body, first, "entry 2: its hash does not match"),
        "other ledger": (2, body, link(OTHER_LEDGER, 2, first, body), "entry 2: its hash does not match"),
        "other history": (2, body, link(LEDGER, 2, ZERO, body), "entry 2: its hash does not match"),
        "unknown entry": (2, junk, link(LEDGER, 2, first, junk), "entry 2: these bytes are no "),
        "second genesis": (2, again, link(LEDGER, 2, first, again), "begins with its genesis entry and has no other"),
    }


@pytest.mark.parametrize("strict", [True, False])
@pytest.mark.parametrize("name", list(broken_chains()))
def test_a_break_in_the_chain_is_refused_and_changes_nothing(name: str, strict: bool) -> None:
    history = read([genesis()], strict=strict)
    before = (history.sequence, history.head, dict(history.heads), dict(history.faults))
    sequence, body, head, text = broken_chains()[name]
    with pytest.raises(ChainError, match=f"site site-a, .*{text}"):
        history.add(sequence, body, head)
    assert (history.sequence, history.head, history.heads, history.faults) == before


@pytest.mark.parametrize("strict", [True, False])
def test_a_ledger_begins_with_its_genesis(strict: bool) -> None:
    with pytest.raises(ChainError, match="entry 1: a ledger begins with its genesis entry and has no other"):
        read([signed_policy(policy())], strict=strict)


# --- contradictions: refused by the site, noted by the centre

_other_site = genesis(site="site-b")
_two = policy(serial=2)
_expensive = campaign(unit="image", cap=1)
STORIES: dict[str, tuple[list[LedgerEntry], str]] = {
    "genesis of another site": ([_other_site], "the genesis entry is of another site or ledger"),
    "genesis of another ledger": ([genesis(ledger_id=OTHER_LEDGER)], "the genesis entry is of another site or ledger"),
    "policy signed by a stranger": (
        [genesis(), signed_policy(policy(), STRANGER)],
        "the signer is not known here",
    ),
    "policy in an approval's envelope": (
        [genesis(), PolicyEntry(envelope=close_envelope(APPROVAL, b"{}", OFFICER))],
        "found an envelope of another type",
    ),
    "policy that is none": (
        [genesis(), PolicyEntry(envelope=close_envelope(POLICY, b"{}", OFFICER))],
        "these bytes are no Policy",
    ),
    "policy of another site": (
        [genesis(), signed_policy(policy(site="site-b"))],
        "the policy is of another site or not newer than the one in force",
    ),
    "same policy again": (
        [genesis(), signed_policy(policy()), signed_policy(policy())],
        "the policy is of another site or not newer than the one in force",
    ),
    "older, laxer policy": (
        [genesis(), signed_policy(_two), signed_policy(policy(lifetime_micro_epsilon=10**12))],
        "not newer than the one in force",
    ),
    "approval signed by a stranger": (
        [*beginning()[:2], signed_approval(approval(campaign(), policy()), STRANGER)],
        "the signer is not known here",
    ),
    "approval that is no envelope": (
        [*beginning()[:2], ApprovalEntry(envelope=b"junk")],
        "these bytes are not a signed envelope",
    ),
    "approval of another site": (
        [*beginning()[:2], signed_approval(approval(campaign(), policy(), site="site-b"))],
        "the approval is for another site or ledger",
    ),
    "approval of another ledger": (
        [*beginning()[:2], signed_approval(approval(campaign(), policy(), ledger_id=OTHER_LEDGER))],
        "the approval is for another site or ledger",
    ),
    "approval before any policy": (
        [genesis(), signed_approval(approval(campaign(), policy()))],
        "the approval was given under another policy than the one in force",
    ),
    "approval under another policy": (
        [*beginning()[:2], signed_approval(approval(campaign(), _two))],
        "the approval was given under another policy than the one in force",
    ),
    "charge for a campaign that nobody knows": (
        [*beginning(), charge(SECOND, 3)],
        f"the campaign {campaign_id(SECOND)[:12]} that it was charged for is not in the export",
    ),
    "charge below the specs": (
        [*beginning(), charge(campaign(), 3, 1_999_999)],
        r"charged epsilon 1\.999999, the specs cost 2",
    ),
    "charge above the specs": (
        [*beginning(), charge(campaign(), 3, 2_000_001)],
        r"charged epsilon 2\.000001, the specs cost 2",
    ),
    "charge without approval": (
        [*beginning()[:2], charge(campaign(), 3)],
        "entry 3 is no approval of this campaign under the policy in force",
    ),
    "charge that cites itself": (
        [*beginning(), charge(campaign(), 4)],
        "entry 4 is no approval of this campaign under the policy in force",
    ),
    "charge that cites an approval to come": (
        [*beginning(), charge(campaign(), 5), signed_approval(approval(campaign(), policy()))],
        "entry 5 is no approval of this campaign",
    ),
    "charge that cites a policy": (
        [*beginning(), charge(campaign(), 2)],
        "entry 2 is no approval of this campaign",
    ),
    "charge under an approval of an older policy": (
        [*beginning(), signed_policy(_two), charge(campaign(), 3)],
        "entry 3 is no approval of this campaign under the policy in force",
    ),
    "seal of nothing": ([*beginning(), seal(3)], "charge 3 does not exist or was settled before"),
    "seal of the future": ([*beginning(), seal(5), charge(campaign(), 3)], "charge 5 does not exist"),
    "sealed twice": (
        [*beginning(), charge(campaign(), 3), seal(4), seal(4)],
        "charge 4 does not exist or was settled before",
    ),
    "sealed after it was abandoned": (
        [*beginning(), charge(campaign(), 3), Abandon(charge=4), seal(4)],
        "charge 4 does not exist or was settled before",
    ),
    "abandoned after it was sealed": (
        [*beginning(), charge(campaign(), 3), seal(4), Abandon(charge=4)],
        "charge 4 does not exist or was settled before",
    ),
}


@pytest.mark.parametrize("name", list(STORIES))
def test_a_contradiction_is_refused_by_the_strict_reader_and_noted_by_the_other(name: str) -> None:
    entries, text = STORIES[name]
    with pytest.raises(VerificationError, match=rf"site site-a, entry \d+: .*{text}"):
        read(entries, strict=True)
    history = read(entries, strict=False)
    assert len(history.faults) == 1
    assert next(iter(history.faults.values())).startswith(("the ", "charge", "entry", "these", "expected"))
    assert history.sequence == len(entries)


def test_a_campaign_that_the_policy_forbids_is_a_contradiction_even_if_it_was_approved() -> None:
    forbidden = campaign(encoder="f" * 64)
    entries = [genesis(), signed_policy(policy()), signed_approval(approval(forbidden, policy())), charge(forbidden, 3)]
    with pytest.raises(VerificationError, match=f"asks for the encoder ffffffffffff; the policy allows {ENCODER[:12]}"):
        read(entries, strict=True, known=(forbidden,))
    assert list(read(entries, strict=False, known=(forbidden,)).faults) == [4]


def test_several_campaigns_add_up_against_the_lifetime_budget() -> None:
    """4 + 4 of 5: each campaign alone is within the policy."""
    entries = [
        *beginning(),
        signed_approval(approval(SECOND, policy())),
        charge(campaign(), 3),
        charge(SECOND, 4),
    ]
    known = (campaign(), SECOND)
    with pytest.raises(VerificationError, match="the bound per unit over all campaigns is 8, the lifetime budget 5"):
        read(entries, strict=True, known=known)
    history = read(entries, strict=False, known=known)
    assert list(history.faults) == [6]
    assert history.bound == PrivacyLoss.of(8)


def test_a_newer_policy_takes_over_and_needs_its_own_approvals() -> None:
    entries = [
        *beginning(),
        charge(campaign(), 3),
        signed_policy(_two),
        signed_approval(approval(campaign(), _two)),
        charge(campaign(), 6),
        seal(4),
    ]
    history = read(entries, strict=True)
    assert history.policy == _two
    assert history.sealed == 1


# --- what hangs on a faulty charge


@pytest.mark.parametrize("name", [name for name in STORIES if name.startswith("charge")])
def test_a_record_of_a_faulty_charge_is_marked_and_its_loss_stays_counted(name: str) -> None:
    entries, _ = STORIES[name]
    place = next(number for number, entry in enumerate(entries, 1) if entry.kind == "charge")
    history = read([*entries, seal(place)], strict=False)
    assert history.faulty_seals == [len(entries) + 1]
    assert sum(history.charged.values()) > 0
    assert history.bound > NOTHING


@pytest.mark.parametrize("name", ["seal of nothing", "sealed twice", "sealed after it was abandoned"])
def test_a_seal_without_its_own_open_charge_is_marked(name: str) -> None:
    entries, _ = STORIES[name]
    assert read(entries, strict=False).faulty_seals == [len(entries)]


def test_what_was_charged_beyond_the_specs_is_part_of_the_bound() -> None:
    """One unit may have had all of it: two wrong charges of 3 beside a campaign that agrees to 4."""
    wrong = [charge(campaign(), 3, 3_000_000), charge(campaign(), 3, 3_000_000)]
    assert read([*beginning(), *wrong], strict=False).bound == PrivacyLoss.of(6)
    assert read([*beginning(), *wrong, charge(campaign(), 3)], strict=False).bound == PrivacyLoss.of(10)


def test_what_was_charged_for_an_unknown_campaign_is_part_of_the_bound() -> None:
    entries = [*beginning(), charge(SECOND, 3, 7), charge(SECOND, 3, 8)]
    assert read(entries, strict=False).bound == PrivacyLoss(15)


def test_no_hostile_sum_stops_the_reader() -> None:
    entries = [*beginning(), *[charge(SECOND, 3, MAX_MICRO_EPSILON)] * 3]
    history = read(entries, strict=False)
    assert history.bound == PrivacyLoss(MAX_MICRO_EPSILON)
    assert history.charged[campaign_id(SECOND)] == 3 * MAX_MICRO_EPSILON
    assert list(history.faults) == [4, 5, 6]


def test_charges_beyond_what_any_ledger_holds_do_not_stop_the_reader() -> None:
    huge: Campaign = campaign(
        release=joint_laplace(epsilon=10**6, classes=2, bottleneck_dimension=2, radius=1),
        micro_epsilon_per_record=10**12,
        cap=1,
    )
    lax = policy(max_micro_epsilon_per_record=10**12, lifetime_micro_epsilon=10**12, accept_epsilon_above_8=True)
    entries: list[LedgerEntry] = [
        genesis(),
        signed_policy(lax),
        signed_approval(approval(huge, lax)),
        charge(huge, 3, 10**12),
        charge(campaign(name="unknown"), 3, 10**12),
    ]
    history = read(entries, strict=False, known=(huge,))
    assert list(history.faults) == [5]
    assert history.bound == PrivacyLoss(MAX_MICRO_EPSILON)


def test_the_strict_reader_stops_at_the_first_entry_that_does_not_hold() -> None:
    history = SiteHistory("site-a", LEDGER, {}, strict=True)
    body = entry_body(_other_site)
    with pytest.raises(VerificationError, match="entry 1"):
        history.add(1, body, link(LEDGER, 1, ZERO, body))
    assert (history.sequence, history.head) == (0, ZERO)
