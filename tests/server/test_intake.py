"""The numbered checks of intake, each by what it refuses."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from hospital import Hospital, a_campaign, noised
from sqlalchemy import select
from world import World

from ldp_client.errors import (
    ChainError,
    CloneError,
    DigestError,
    EnvelopeError,
    ForkError,
    FormatError,
    NotGrantedError,
    OutOfOrderError,
    SealError,
    SignerError,
)
from ldp_client.privacy.release_design import joint_laplace
from ldp_client.wire.campaign import Campaign, campaign_id
from ldp_client.wire.canonical import canonical_bytes
from ldp_client.wire.chain import Abandon, ApprovalEntry, PolicyEntry, Seal, entry_body, parse_entry
from ldp_client.wire.envelope import BATCH, close_envelope
from ldp_client.wire.exchange import Payload, RefusalCode
from ldp_client.wire.signing import SigningKey, seal
from server import intake
from server.centre import close_campaign, publish, suspend_site
from server.store import tables

Ready = tuple[Hospital, int]


def submit(world: World, hospital: Hospital, sealed: bytes, site: str | None = None) -> bytes:
    keys = world.centre.keys
    return intake.accept(
        sealed, site or hospital.site, world.centre.database, signer=keys.signing, sealing_key=keys.sealing
    )


def wrapped(world: World, body: bytes, signer: SigningKey) -> bytes:
    return seal(close_envelope(BATCH, body, signer), world.centre.keys.sealing.public_key)


def nothing_was_committed(world: World) -> bool:
    return world.budget().entries == 1 and world.budget().records == 0


# --- the whole road


def test_an_approved_release_is_stored_counted_and_receipted(world: World, ready: Ready) -> None:
    anne, approval = ready
    seals = anne.release(world.campaign, approval, 3)
    receipt = world.deliver(anne)
    assert (receipt.first, receipt.sequence, receipt.head) == (2, anne.sequence, anne.heads[-1])
    assert receipt.refused == ()
    assert [record.seal for record in world.records()] == seals
    budget = world.budget()
    assert (budget.entries, budget.records, budget.refused, budget.unit) == (anne.sequence, 3, 0, "patient")
    assert (str(budget.per_record), str(budget.spent), str(budget.agreed), str(budget.remaining)) == (
        "2",
        "4",
        "10",
        "6",
    )


def test_charges_of_one_batch_are_sealed_in_another(world: World, ready: Ready) -> None:
    anne, approval = ready
    charges = [anne.charge(world.campaign, approval) for _ in range(2)]
    world.deliver(anne)
    assert world.budget().spent.micro_epsilon == 4_000_000
    for charge in charges:
        anne.seal(world.campaign, charge)
    assert world.deliver(anne).refused == ()
    assert len(world.records()) == 2


def test_records_of_a_closed_campaign_are_still_taken(world: World, ready: Ready) -> None:
    anne, approval = ready
    anne.release(world.campaign, approval, 1)
    close_campaign(world.centre, campaign_id(world.campaign))
    assert world.deliver(anne).refused == ()


# --- 1. open


def test_identical_bytes_get_the_same_receipt_and_count_once(world: World, ready: Ready) -> None:
    anne, approval = ready
    anne.release(world.campaign, approval, 2)
    sent = anne.pack_up()
    world.announce(anne, sent)
    first = submit(world, anne, sent.sealed)
    before = world.budget()
    assert submit(world, anne, sent.sealed) == first
    assert world.budget() == before
    assert len(world.records()) == 2


def test_bytes_sealed_to_another_key_are_refused(world: World, anne: Hospital) -> None:
    with pytest.raises(SealError, match="do not open with the centre's key"):
        submit(world, anne, b"no seal at all")


def test_a_changed_byte_breaks_the_seal(world: World, ready: Ready) -> None:
    anne, _ = ready
    sealed = bytearray(anne.pack_up().sealed)
    sealed[-1] ^= 1
    with pytest.raises(SealError, match="altered"):
        submit(world, anne, bytes(sealed))


def test_a_batch_beyond_the_size_cap_is_not_even_opened(world: World, anne: Hospital) -> None:
    with pytest.raises(FormatError, match="at most 67108864 bytes; found 67108865"):
        submit(world, anne, bytes(67_108_865))


def test_a_wrong_signature_is_refused(world: World, ready: Ready) -> None:
    anne, _ = ready
    inner = bytearray(close_envelope(BATCH, canonical_bytes(anne.batch()), anne.signer))
    inner[40] ^= 1
    with pytest.raises(EnvelopeError, match="does not belong to these bytes"):
        submit(world, anne, seal(bytes(inner), anne.sealing_key))
    assert nothing_was_committed(world)


def test_a_signer_that_nobody_enrolled_is_refused(world: World, ready: Ready) -> None:
    anne, _ = ready
    with pytest.raises(EnvelopeError, match="not an enrolled site"):
        submit(world, anne, wrapped(world, canonical_bytes(anne.batch()), SigningKey(bytes(32))))


# --- 2. parse


def test_a_body_that_is_no_batch_is_refused(world: World, anne: Hospital) -> None:
    with pytest.raises(FormatError, match="no Batch that this version can read"):
        submit(world, anne, wrapped(world, b'{"site":"anne"}', anne.signer))


def test_an_entry_of_an_unknown_kind_is_refused(world: World, anne: Hospital) -> None:
    batch = anne.batch(entries=(b'{"entry":{"kind":"refund"}}',))
    with pytest.raises(FormatError, match="that this version can read"):
        submit(world, anne, wrapped(world, canonical_bytes(batch), anne.signer))


@pytest.mark.parametrize("count", [0, intake.MAX_ENTRIES + 1])
def test_a_batch_of_too_few_or_too_many_entries_is_refused(world: World, anne: Hospital, count: int) -> None:
    batch = anne.batch(entries=(b"x",) * count)
    with pytest.raises(FormatError, match=f"1 to 20000 entries; found {count}"):
        submit(world, anne, wrapped(world, canonical_bytes(batch), anne.signer))


@pytest.mark.parametrize("number", [{"micro_epsilon": 10**12 + 1}, {"approval": 2**63}])
def test_a_charge_that_no_column_could_hold_is_refused(world: World, anne: Hospital, number: dict[str, int]) -> None:
    given = {"kind": "charge", "subject": "0" * 64, "campaign": "0" * 64, "approval": 1, "micro_epsilon": 1}
    body = json.dumps({"entry": {**given, **number}}, sort_keys=True, separators=(",", ":")).encode()
    with pytest.raises(FormatError, match="that this version can read"):
        submit(world, anne, wrapped(world, canonical_bytes(anne.batch(entries=(body,))), anne.signer))


def test_a_payload_without_a_seal_is_refused(world: World, ready: Ready) -> None:
    anne, _ = ready
    anne.payloads.append(Payload(seal=2, record=b"stray"))
    with pytest.raises(FormatError, match="belongs to no Seal"):
        submit(world, anne, wrapped(world, canonical_bytes(anne.batch()), anne.signer))


# --- 3. signer


def test_a_batch_that_another_site_delivers_is_refused(world: World, ready: Ready) -> None:
    anne, _ = ready
    world.join("bert")
    sent = anne.pack_up()
    with pytest.raises(SignerError, match="site bert delivered a batch of site anne signed by anne"):
        submit(world, anne, sent.sealed, site="bert")


def test_a_site_cannot_sign_for_another(world: World, ready: Ready) -> None:
    anne, _ = ready
    bert = world.join("bert")
    with pytest.raises(SignerError, match="delivered a batch of site anne signed by bert"):
        submit(world, anne, wrapped(world, canonical_bytes(anne.batch()), bert.signer))


def test_another_ledger_id_is_a_clone(world: World, ready: Ready) -> None:
    anne, _ = ready
    with pytest.raises(CloneError, match="enrolled with ledger"):
        submit(world, anne, wrapped(world, canonical_bytes(anne.batch(ledger_id="c" * 64)), anne.signer))
    assert nothing_was_committed(world)


# --- 4. chain


def test_a_batch_before_its_predecessor_is_out_of_order_and_welcome_later(world: World, ready: Ready) -> None:
    anne, approval = ready
    one = anne.pack_up()
    anne.release(world.campaign, approval, 1)
    two = anne.pack_up()
    world.announce(anne, one, two)
    with pytest.raises(OutOfOrderError, match="send the one before it first"):
        submit(world, anne, two.sealed)
    submit(world, anne, one.sealed)
    submit(world, anne, two.sealed)
    assert world.budget().entries == anne.sequence


def test_other_bytes_for_a_place_that_is_taken_are_a_fork(world: World, ready: Ready) -> None:
    anne, approval = ready
    copy = anne.copy()
    anne.release(world.campaign, approval, 1)
    world.deliver(anne)
    copy.release(world.campaign, approval, 1)
    with pytest.raises(ForkError, match="two histories"):
        submit(world, copy, copy.pack_up().sealed)
    assert len(world.records()) == 1


def test_entries_that_follow_another_history_are_a_fork(world: World, ready: Ready) -> None:
    anne, _ = ready
    batch = anne.batch(previous_head="9" * 64)
    with pytest.raises(ForkError, match="do not continue them"):
        submit(world, anne, wrapped(world, canonical_bytes(batch), anne.signer))


def test_a_second_genesis_entry_breaks_the_chain(world: World, anne: Hospital) -> None:
    anne.append(anne.genesis)
    with pytest.raises(ChainError, match="second genesis entry"):
        submit(world, anne, wrapped(world, canonical_bytes(anne.batch()), anne.signer))


# --- 5. digest


def test_a_batch_that_was_not_granted_is_refused(world: World, ready: Ready) -> None:
    anne, _ = ready
    with pytest.raises(NotGrantedError, match="from entry 2 on was granted; announce it"):
        submit(world, anne, anne.pack_up().sealed)
    assert nothing_was_committed(world)


def test_a_grant_ends_when_its_site_is_suspended(world: World, ready: Ready) -> None:
    anne, approval = ready
    anne.release(world.campaign, approval, 2)
    sent = anne.pack_up()
    world.announce(anne, sent)
    suspend_site(world.centre, "anne")
    with pytest.raises(NotGrantedError, match="site anne is suspended, and what was granted to it before"):
        submit(world, anne, sent.sealed)
    assert nothing_was_committed(world)
    world.centre.submit("anne", sent.sealed)
    assert world.codes() == ["not_granted"]
    assert nothing_was_committed(world)


def test_a_suspended_site_still_gets_the_receipt_of_what_was_committed_before(world: World, ready: Ready) -> None:
    anne, approval = ready
    anne.release(world.campaign, approval, 1)
    sent = anne.pack_up()
    world.announce(anne, sent)
    receipt = submit(world, anne, sent.sealed)
    suspend_site(world.centre, "anne")
    assert submit(world, anne, sent.sealed) == receipt
    assert len(world.records()) == 1


@pytest.mark.parametrize(
    "lie",
    [{"sealed_digest": "d" * 64}, {"last": 9}, {"head": "d" * 64}, {"records": 1}],
    ids=lambda lie: next(iter(lie)),
)
def test_a_batch_unlike_its_header_is_refused(world: World, ready: Ready, lie: dict[str, object]) -> None:
    anne, _ = ready
    sent = anne.pack_up(**lie)
    world.announce(anne, sent)
    with pytest.raises(DigestError, match="not the one that its signed header announced"):
        submit(world, anne, sent.sealed)
    assert nothing_was_committed(world)


# --- 6 to 9: one record is refused, its evidence and its charge stay


def refused(world: World, hospital: Hospital, code: RefusalCode, seals: int = 1) -> None:
    """The batch is committed and the charges count, but no record of it is stored."""
    receipt = world.deliver(hospital)
    assert [refusal.code for refusal in receipt.refused] == [code] * seals
    assert world.records() == []
    assert world.budget(hospital.site).entries == hospital.sequence
    assert world.budget(hospital.site).refused == seals


def test_a_campaign_of_another_centre_is_refused_and_counted_in_full(world: World, anne: Hospital) -> None:
    other = a_campaign("not-ours")
    approval = anne.approve(other, anne.adopt())
    anne.release(other, approval, 3)
    refused(world, anne, RefusalCode.UNKNOWN_CAMPAIGN, 3)
    assert str(world.budget().spent) == "6"


def test_a_charge_without_any_policy_is_not_approved(world: World, anne: Hospital) -> None:
    anne.release(world.campaign, 1, 1)
    refused(world, anne, RefusalCode.NOT_APPROVED)
    assert str(world.budget().spent) == "4"


def test_an_approval_by_nobodys_officer_is_none(world: World, anne: Hospital) -> None:
    approval = anne.approve(world.campaign, anne.adopt(), signer=anne.signer)
    anne.release(world.campaign, approval, 1)
    refused(world, anne, RefusalCode.NOT_APPROVED)


@pytest.mark.parametrize(
    "other",
    [{"site": "bert"}, {"ledger_id": "b" * 64}, {"campaign": "b" * 64}, {"policy": "b" * 64}],
    ids=lambda other: next(iter(other)),
)
def test_an_approval_of_something_else_is_none(world: World, anne: Hospital, other: dict[str, str]) -> None:
    approval = anne.approve(world.campaign, anne.adopt(), **other)
    anne.release(world.campaign, approval, 1)
    refused(world, anne, RefusalCode.NOT_APPROVED)


def test_an_approval_after_the_charge_is_none(world: World, anne: Hospital) -> None:
    policy = anne.adopt()
    charge = anne.charge(world.campaign, anne.sequence + 2)
    assert anne.approve(world.campaign, policy) == charge + 1
    anne.seal(world.campaign, charge)
    refused(world, anne, RefusalCode.NOT_APPROVED)


def test_a_newer_policy_ends_the_approvals_given_before(world: World, ready: Ready) -> None:
    anne, approval = ready
    anne.adopt(2)
    anne.release(world.campaign, approval, 1)
    refused(world, anne, RefusalCode.NOT_APPROVED)


def test_a_record_charged_before_the_newer_policy_is_taken(world: World, ready: Ready) -> None:
    anne, approval = ready
    charge = anne.charge(world.campaign, approval)
    anne.adopt(2)
    anne.seal(world.campaign, charge)
    assert world.deliver(anne).refused == ()


def test_a_campaign_that_the_policy_forbids_is_not_approved(world: World, anne: Hospital) -> None:
    approval = anne.approve(world.campaign, anne.adopt(max_micro_epsilon_per_record=1_000_000))
    anne.release(world.campaign, approval, 1)
    refused(world, anne, RefusalCode.NOT_APPROVED)


@pytest.mark.parametrize(
    "policy",
    [
        {"serial": 1, "lifetime_micro_epsilon": 90_000_000},
        {"serial": 2, "lifetime_micro_epsilon": 90_000_000, "signer": SigningKey(bytes(32))},
        {"serial": 2, "lifetime_micro_epsilon": 90_000_000, "site": "bert"},
    ],
    ids=["same serial", "not an officer", "another site"],
)
def test_a_policy_that_does_not_count_is_kept_as_evidence_only(
    world: World, ready: Ready, policy: dict[str, object]
) -> None:
    anne, approval = ready
    anne.adopt(**policy)  # type: ignore[arg-type]
    anne.release(world.campaign, approval, 1)
    assert world.deliver(anne).refused == ()
    assert str(world.budget().agreed) == "10"
    assert world.budget().entries == anne.sequence


def test_evidence_that_no_officer_could_have_written_changes_nothing(world: World, ready: Ready) -> None:
    anne, approval = ready
    anne.append(PolicyEntry(envelope=b"not an envelope"))
    anne.append(ApprovalEntry(envelope=b"not an envelope"))
    anne.append(Abandon(charge=999))
    anne.release(world.campaign, approval, 1)
    assert world.deliver(anne).refused == ()


@pytest.mark.parametrize(
    ("expires", "day", "codes"),
    [
        ("2030-06-30", "2030-06-30", []),
        ("2030-06-30", "2030-07-01", [RefusalCode.EXPIRED]),
        ("2031-06-30", "2030-12-31", []),
        ("2031-06-30", "2031-01-01", [RefusalCode.EXPIRED]),
    ],
    ids=["last day of the approval", "a day late", "last day of the campaign", "a day after"],
)
def test_a_batch_after_the_approval_or_the_campaign_ended_is_expired(
    world: World, anne: Hospital, expires: str, day: str, codes: list[RefusalCode]
) -> None:
    approval = anne.approve(world.campaign, anne.adopt(), expires=expires)
    anne.release(world.campaign, approval, 1)
    sent = anne.pack_up(day=day)
    world.announce(anne, sent)
    assert [refusal.code for refusal in world.accept(anne, sent).refused] == codes
    assert len(world.records()) == 1 - len(codes)


def test_a_loss_that_is_not_the_mechanisms_is_refused_and_counted_beside_the_bound(world: World, ready: Ready) -> None:
    anne, approval = ready
    charge = anne.charge(world.campaign, approval, micro_epsilon=1_500_000)
    anne.seal(world.campaign, charge)
    refused(world, anne, RefusalCode.LOSS_MISMATCH)
    anne.release(world.campaign, approval, 1)
    assert world.deliver(anne).refused == ()
    assert str(world.budget().spent) == "5.5"


def test_a_seal_without_a_payload_is_refused(world: World, ready: Ready) -> None:
    anne, approval = ready
    anne.release(world.campaign, approval, 1)
    anne.payloads.clear()
    refused(world, anne, RefusalCode.CONTENTS)


def test_two_payloads_for_one_seal_are_refused(world: World, ready: Ready) -> None:
    anne, approval = ready
    anne.release(world.campaign, approval, 1)
    anne.payloads *= 2
    refused(world, anne, RefusalCode.CONTENTS)


def test_a_payload_of_another_dimension_is_refused(world: World, ready: Ready) -> None:
    anne, approval = ready
    wide = a_campaign("wide", release=joint_laplace(epsilon=2, classes=2, bottleneck_dimension=3, radius=1))
    anne.seal(world.campaign, anne.charge(world.campaign, approval), noised(wide))
    refused(world, anne, RefusalCode.CONTENTS)


def test_a_value_that_the_mechanism_cannot_draw_is_refused(world: World, ready: Ready) -> None:
    anne, approval = ready
    payload = noised(world.campaign)[:-8] + (2**62).to_bytes(8, "little")
    anne.seal(world.campaign, anne.charge(world.campaign, approval), payload)
    refused(world, anne, RefusalCode.CONTENTS)


def test_another_payload_than_the_one_sealed_is_refused(world: World, ready: Ready) -> None:
    anne, approval = ready
    (number,) = anne.release(world.campaign, approval, 1)
    anne.payloads = [Payload(seal=number, record=noised(world.campaign))]
    refused(world, anne, RefusalCode.RECORD_DIGEST)


def test_a_record_of_another_charge_is_refused(world: World, ready: Ready) -> None:
    anne, approval = ready
    one, two = anne.charge(world.campaign, approval), anne.charge(world.campaign, approval)
    anne.seal(world.campaign, one)
    first = parse_entry(anne.bodies[-1])
    assert isinstance(first, Seal)
    number = anne.append(Seal(charge=two, record=first.record))
    anne.payloads.append(Payload(seal=number, record=anne.payloads[0].record))
    receipt = world.deliver(anne)
    assert [(refusal.seal, refusal.code) for refusal in receipt.refused] == [(number, RefusalCode.RECORD_DIGEST)]


def test_a_seal_of_no_charge_is_refused(world: World, ready: Ready) -> None:
    anne, _ = ready
    anne.seal(world.campaign, 999)
    refused(world, anne, RefusalCode.NO_CHARGE)


@pytest.mark.parametrize("later", [False, True], ids=["same batch", "next batch"])
def test_a_charge_pays_for_one_record_only(world: World, ready: Ready, later: bool) -> None:
    anne, approval = ready
    charge = anne.charge(world.campaign, approval)
    anne.seal(world.campaign, charge)
    if later:
        world.deliver(anne)
    anne.seal(world.campaign, charge)
    assert [refusal.code for refusal in world.deliver(anne).refused] == [RefusalCode.NO_CHARGE]
    assert len(world.records()) == 1


def test_an_abandoned_charge_pays_for_nothing_and_stays_spent(world: World, ready: Ready) -> None:
    anne, approval = ready
    charge = anne.charge(world.campaign, approval)
    anne.append(Abandon(charge=charge))
    anne.seal(world.campaign, charge)
    refused(world, anne, RefusalCode.NO_CHARGE)
    assert str(world.budget().spent) == "4"


def test_what_passes_the_agreed_budget_is_refused_and_what_came_before_is_kept(world: World, anne: Hospital) -> None:
    second = a_campaign("second")
    publish(world.centre, second)
    policy = anne.adopt(lifetime_micro_epsilon=6_000_000)
    before = anne.charge(world.campaign, anne.approve(world.campaign, policy))
    anne.release(second, anne.approve(second, policy), 1)
    anne.seal(world.campaign, before)
    receipt = world.deliver(anne)
    assert [refusal.code for refusal in receipt.refused] == [RefusalCode.BUDGET]
    assert len(world.records()) == 1
    assert world.records(second) == []
    assert str(world.budget().spent) == "8"
    assert str(world.budget().remaining) == "0"


def test_hostile_sums_saturate_instead_of_overflowing(world: World, ready: Ready) -> None:
    anne, approval = ready
    for _ in range(3):
        anne.charge(a_campaign("not-ours"), approval, micro_epsilon=10**12)
    world.deliver(anne)
    assert world.budget().spent.micro_epsilon == 10**12


def test_one_refused_batch_does_not_block_the_next(world: World, anne: Hospital) -> None:
    policy = anne.adopt()
    anne.release(world.campaign, 1, 2)
    assert len(world.deliver(anne).refused) == 2
    anne.release(world.campaign, anne.approve(world.campaign, policy), 2)
    assert world.deliver(anne).refused == ()
    assert len(world.records()) == 2


def test_verdicts_do_not_depend_on_how_a_chain_is_cut_into_batches(world: World) -> None:
    def entries(site: str, cut: bool) -> list[tuple[str, int]]:
        hospital = world.join(site)
        codes: list[tuple[str, int]] = []

        def maybe(last: bool = False) -> None:
            if cut or last:
                codes.extend((str(one.code), one.seal) for one in world.deliver(hospital).refused)

        policy = hospital.adopt(lifetime_micro_epsilon=5_000_000)
        approval = hospital.approve(world.campaign, policy)
        maybe()
        early = hospital.charge(world.campaign, approval)
        maybe()
        hospital.charge(a_campaign("not-ours"), approval)
        late = hospital.charge(world.campaign, approval)
        maybe()
        hospital.seal(world.campaign, early)
        maybe()
        hospital.seal(world.campaign, late)
        maybe(last=True)
        return codes

    whole = entries("whole", cut=False)
    assert whole == entries("pieces", cut=True)
    assert [code for code, _ in whole] == ["budget_exceeded"]


# --- 10. commit


@pytest.mark.parametrize(("when", "there"), [("before", False), ("after", True)])
def test_a_kill_around_the_commit_leaves_all_or_nothing(
    world: World, ready: Ready, tmp_path: Path, when: str, there: bool
) -> None:
    anne, approval = ready
    anne.release(world.campaign, approval, 2)
    sent = anne.pack_up()
    world.announce(anne, sent)
    (tmp_path / "sealed").write_bytes(sent.sealed)
    script = Path(__file__).with_name("dying_intake.py")
    died = subprocess.run(
        [sys.executable, script, world.config, anne.site, tmp_path / "sealed", when], capture_output=True, check=False
    )
    assert (died.returncode, died.stdout, died.stderr) == (9, b"", b"")
    assert (world.budget().entries == anne.sequence) is there
    receipt = world.accept(anne, sent)
    assert receipt.refused == ()
    assert submit(world, anne, sent.sealed) == submit(world, anne, sent.sealed)
    assert len(world.records()) == 2
    assert str(world.budget().spent) == "4"
    with world.centre.database.snapshot() as connection:
        assert len(connection.execute(select(tables.central)).all()) == 3


def test_every_receipt_names_the_central_line_that_it_stands_for(world: World, ready: Ready) -> None:
    anne, _ = ready
    receipt = world.deliver(anne)
    with world.centre.database.snapshot() as connection:
        line = connection.execute(
            select(tables.central).where(tables.central.c.sequence == receipt.central_sequence)
        ).one()
    assert line.head == receipt.central_head
    assert receipt.batch_digest.encode() in line.body


def test_entries_are_kept_byte_for_byte(world: World, ready: Ready) -> None:
    anne, approval = ready
    anne.release(world.campaign, approval, 1)
    world.deliver(anne)
    with world.centre.database.snapshot() as connection:
        kept = connection.execute(select(tables.entries).order_by(tables.entries.c.sequence)).all()
    assert [row.body for row in kept] == anne.bodies
    assert [row.head for row in kept] == anne.heads[1:]
    assert kept[0].body == entry_body(anne.genesis)


def test_the_campaign_of_the_tests_is_what_it_says(world: World) -> None:
    campaign: Campaign = world.campaign
    assert str(campaign.loss_per_record) == "2"
    assert str(campaign.bound_per_unit) == "4"
