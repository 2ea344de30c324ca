"""What the centre offers, grants, wants and notes, and when it is done."""

from __future__ import annotations

import dataclasses

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from hospital import Hospital, a_campaign
from world import World

from ldp_client.errors import ConfigurationError, EnvelopeError, FormatError, SignerError
from ldp_client.privacy.release_design import joint_laplace
from ldp_client.wire.campaign import Campaign, campaign_id
from ldp_client.wire.canonical import canonical_bytes, parse
from ldp_client.wire.document import Document
from ldp_client.wire.envelope import BATCH, CAMPAIGN, GRANT, HEADER, WITNESS, OneKey, close_envelope, open_envelope
from ldp_client.wire.exchange import CampaignCode, Grant, IncidentCode, SiteCode, Witness, header_id
from ldp_client.wire.signing import SigningKey, seal
from server.centre import close_campaign, enrol, open_centre, publish, replace_node, resume_site, suspend_site

Ready = tuple[Hospital, int]
NONCE = "a" * 64


def offered(world: World, hospital: Hospital, kind: str) -> list[bytes]:
    return [document.body for document in world.centre.offer(hospital.site) if document.kind == kind]


def witnesses(world: World, hospital: Hospital) -> list[Witness]:
    owner = OneKey("the centre", world.centre.keys.signing.public_key)
    return [parse(Witness, open_envelope(body, WITNESS, owner)[1]) for body in offered(world, hospital, "witness")]


def grants(world: World, hospital: Hospital) -> list[str]:
    owner = OneKey("the centre", world.centre.keys.signing.public_key)
    bodies = offered(world, hospital, "grant")
    return [parse(Grant, open_envelope(body, GRANT, owner)[1]).header for body in bodies]


# --- who is who


def test_a_node_is_known_by_its_key_whatever_its_spelling(world: World, anne: Hospital) -> None:
    assert world.centre.site_of(anne.node_key_pem) == "anne"
    assert world.centre.site_of(anne.node_key_ssh) == "anne"
    assert world.centre.site_of(anne.node_key_ssh.rsplit(" ", 1)[0] + " another comment") == "anne"


def test_strangers_and_nonsense_are_no_site(world: World, anne: Hospital) -> None:
    assert world.centre.site_of(Hospital("bert", bytes(32)).node_key_pem) is None
    assert world.centre.site_of("no key at all") is None
    assert world.centre.site_of("ecdsa-sha2-nistp384 AAAA") is None


def test_a_suspended_site_is_not_spoken_to(world: World, anne: Hospital) -> None:
    suspend_site(world.centre, "anne")
    assert world.centre.site_of(anne.node_key_pem) is None


def test_a_resumed_site_is_spoken_to_again(world: World, anne: Hospital) -> None:
    suspend_site(world.centre, "anne")
    resume_site(world.centre, "anne")
    assert world.centre.site_of(anne.node_key_pem) == "anne"
    with pytest.raises(ConfigurationError, match="no site carl is enrolled here"):
        resume_site(world.centre, "carl")


def test_a_site_is_known_by_its_new_node_and_no_longer_by_the_old_one(world: World, ready: Ready) -> None:
    anne, approval = ready
    anne.release(world.campaign, approval, 1)
    old = anne.node_key_pem
    anne.node = ec.generate_private_key(ec.SECP384R1())
    assert replace_node(world.centre, anne.enrolment()).site == "anne"
    assert (world.centre.site_of(anne.node_key_pem), world.centre.site_of(old)) == ("anne", None)
    # Its ledger goes on as it was.
    assert world.deliver(anne).sequence == anne.sequence


def test_a_new_node_is_named_by_the_site_itself(world: World, anne: Hospital) -> None:
    stranger = Hospital("anne", bytes(32))
    with pytest.raises(
        SignerError, match="of another ledger or key than site anne was enrolled with; only its own key"
    ):
        replace_node(world.centre, stranger.enrolment())
    with pytest.raises(EnvelopeError, match="found another signer"):
        replace_node(world.centre, anne.enrolment(signer=stranger.signer))
    with pytest.raises(ConfigurationError, match="no site carl is enrolled here"):
        replace_node(world.centre, Hospital("carl", bytes(32)).enrolment())
    bert = world.join("bert")
    with pytest.raises(ConfigurationError, match="the node key is that of site bert already; every site has its own"):
        replace_node(world.centre, anne.enrolment(node_key=bert.node_key_ssh))
    assert world.centre.site_of(anne.node_key_pem) == "anne"


def test_an_enrolment_signed_by_another_key_is_refused(world: World) -> None:
    bert = Hospital("bert", bytes(32))
    with pytest.raises(EnvelopeError, match="expected a document signed by site bert; found another signer"):
        enrol(world.centre, bert.enrolment(signer=SigningKey(bytes(32))))


def test_an_enrolment_that_is_none_is_refused(world: World) -> None:
    with pytest.raises(FormatError, match="no Enrolment that this version can read"):
        enrol(world.centre, b"nothing of the kind")


def test_an_enrolment_for_another_site_than_its_ledger_is_refused(world: World) -> None:
    with pytest.raises(SignerError, match="for site carl, its ledger belongs to site bert"):
        enrol(world.centre, Hospital("bert", bytes(32)).enrolment(site="carl"))


def test_a_site_without_an_officer_is_refused(world: World) -> None:
    bert = Hospital("bert", bytes(32))
    genesis = bert.genesis.model_copy(update={"officer_keys": ()})
    with pytest.raises(ConfigurationError, match="names no privacy officer"):
        enrol(world.centre, bert.enrolment(genesis=genesis))


def test_a_node_key_that_is_no_elliptic_curve_key_is_refused(world: World) -> None:
    with pytest.raises(ConfigurationError, match="NIST elliptic curve public key"):
        enrol(world.centre, Hospital("bert", bytes(32)).enrolment(node_key="ssh-ed25519 AAAA"))


@pytest.mark.parametrize("shared", ["site", "ledger_id", "signer", "node"])
def test_a_site_shares_nothing_with_one_that_is_enrolled(world: World, anne: Hospital, shared: str) -> None:
    bert = Hospital(**{"site": "bert", "sealing_key": bytes(32), shared: getattr(anne, shared)})
    with pytest.raises(ConfigurationError, match="already that of site anne"):
        enrol(world.centre, bert.enrolment())


def test_an_unknown_site_is_named_with_the_way_out(world: World) -> None:
    with pytest.raises(ConfigurationError, match="no site carl is enrolled here"):
        world.centre.offer("carl")
    with pytest.raises(ConfigurationError, match="no site carl is enrolled here"):
        suspend_site(world.centre, "carl")


# --- campaigns


def test_open_campaigns_are_offered_in_the_centres_envelope(world: World, anne: Hospital) -> None:
    second = a_campaign("second")
    publish(world.centre, second)
    owner = OneKey("the centre", world.centre.keys.signing.public_key)
    found = [parse(Campaign, open_envelope(body, CAMPAIGN, owner)[1]) for body in offered(world, anne, "campaign")]
    assert found == [world.campaign, second]
    close_campaign(world.centre, campaign_id(second))
    assert len(offered(world, anne, "campaign")) == 1


def test_a_campaigns_name_is_used_once(world: World) -> None:
    with pytest.raises(ConfigurationError, match="named pneumonia was published before"):
        publish(world.centre, a_campaign(cap=1))


def test_a_campaign_beyond_every_budget_is_not_published(world: World) -> None:
    release = joint_laplace(epsilon=10**6, classes=2, bottleneck_dimension=2, radius=1)
    with pytest.raises(ValueError, match=r"cap \* epsilon is beyond what any ledger can hold"):
        publish(world.centre, a_campaign("mad", release=release))


def test_closing_a_campaign_that_is_none_is_refused(world: World) -> None:
    with pytest.raises(ConfigurationError, match="has published no campaign 000000000000"):
        close_campaign(world.centre, "0" * 64)


def test_a_campaign_is_found_by_its_name_or_the_beginning_of_its_id(world: World) -> None:
    assert world.centre.find_campaign("pneumonia") == world.campaign
    assert world.centre.find_campaign(campaign_id(world.campaign)[:6]) == world.campaign
    with pytest.raises(ConfigurationError, match=r"0 campaigns are called 'pneu'; published are: pneumonia \("):
        world.centre.find_campaign("pneu")


# --- witness


def test_a_new_site_is_witnessed_at_its_genesis(world: World, anne: Hospital) -> None:
    assert witnesses(world, anne) == []
    world.centre.answer("anne", [anne.state(nonce=NONCE, code=SiteCode.NEEDS_WITNESS)])
    (witness,) = witnesses(world, anne)
    assert (witness.nonce, witness.site, witness.ledger_id) == (NONCE, "anne", anne.ledger_id)
    assert (witness.sequence, witness.head) == (1, anne.heads[1])
    assert world.codes() == []


def test_a_rolled_back_site_is_noted_and_sees_what_is_known_of_it(world: World, ready: Ready) -> None:
    anne, _ = ready
    world.deliver(anne)
    old = anne.state(sequence=1, head=anne.heads[1], nonce=NONCE)
    world.centre.answer("anne", [old])
    assert world.codes() == [IncidentCode.ROLLBACK]
    (witness,) = witnesses(world, anne)
    assert (witness.sequence, witness.head) == (anne.sequence, anne.heads[-1])


def test_another_head_at_the_same_entry_is_a_fork(world: World, ready: Ready) -> None:
    anne, _ = ready
    world.deliver(anne)
    world.centre.answer("anne", [anne.state(head="f" * 64, nonce=NONCE)])
    assert world.codes() == [IncidentCode.FORK]
    assert len(witnesses(world, anne)) == 1


def test_a_clone_is_noted_and_gets_no_witness(world: World, anne: Hospital) -> None:
    world.centre.answer("anne", [anne.state(ledger_id="c" * 64, nonce=NONCE)])
    assert world.codes() == [IncidentCode.CLONE]
    assert witnesses(world, anne) == []


def test_a_state_that_a_courier_repeats_is_no_rollback(world: World, ready: Ready) -> None:
    anne, approval = ready
    early = anne.state()
    world.centre.answer("anne", [early])
    anne.release(world.campaign, approval, 1)
    world.deliver(anne)
    world.centre.answer("anne", [early])
    assert world.codes() == []


def test_a_state_of_another_site_is_an_incident_of_the_one_who_delivered_it(world: World, anne: Hospital) -> None:
    world.join("bert")
    world.centre.answer("bert", [anne.state()])
    (incident,) = world.incidents()
    assert (incident.site, incident.code) == ("bert", IncidentCode.SIGNER)


def test_a_document_with_a_broken_signature_is_an_incident(world: World, anne: Hospital) -> None:
    body = bytearray(anne.state().body)
    body[40] ^= 1
    world.centre.answer("anne", [Document("state", bytes(body))])
    assert world.codes() == [IncidentCode.SIGNATURE]


def test_a_document_that_cannot_be_read_is_an_incident(world: World, anne: Hospital) -> None:
    world.centre.answer("anne", [Document("state", b"scribble"), Document("header", b"scribble")])
    # The same bytes for the same reason: once.
    assert world.codes() == [IncidentCode.PARSE]


def test_an_incident_is_noted_once_with_its_evidence(world: World, anne: Hospital) -> None:
    strange = anne.state(ledger_id="c" * 64)
    for _ in range(3):
        world.centre.answer("anne", [strange])
    (incident,) = world.incidents()
    assert incident.evidence == strange.body


# --- grants


def test_several_headers_in_a_row_are_granted_at_once_whatever_their_order(world: World, ready: Ready) -> None:
    anne, approval = ready
    one = anne.pack_up()
    anne.release(world.campaign, approval, 1)
    two = anne.pack_up()
    world.announce(anne, two, one)
    assert grants(world, anne) == [header_id(one.header), header_id(two.header)]
    assert world.centre.wanted("anne") == [one.header.sealed_digest, two.header.sealed_digest]
    assert world.codes() == []


def test_a_header_ahead_of_the_chain_waits_without_an_incident(world: World, ready: Ready) -> None:
    anne, approval = ready
    one = anne.pack_up()
    anne.release(world.campaign, approval, 1)
    two = anne.pack_up()
    world.announce(anne, two)
    assert (grants(world, anne), world.codes()) == ([], [])
    world.announce(anne, one, two)
    assert len(grants(world, anne)) == 2


def test_the_same_header_again_is_granted_once(world: World, ready: Ready) -> None:
    anne, _ = ready
    sent = anne.pack_up()
    world.announce(anne, sent)
    world.announce(anne, sent)
    assert (len(grants(world, anne)), world.codes()) == (1, [])


def test_a_second_header_for_a_granted_place_is_a_fork_and_its_data_never_leaves(world: World, ready: Ready) -> None:
    anne, approval = ready
    copy = anne.copy()
    anne.release(world.campaign, approval, 1)
    copy.release(world.campaign, approval, 1)
    mine, theirs = anne.pack_up(), copy.pack_up()
    world.announce(anne, mine)
    world.announce(copy, theirs)
    (incident,) = world.incidents()
    assert (incident.code, incident.evidence) == (IncidentCode.FORK, theirs.announcement)
    assert grants(world, anne) == [header_id(mine.header)]
    assert world.centre.wanted("anne") == [mine.header.sealed_digest]


def test_a_header_that_follows_another_history_is_a_fork(world: World, ready: Ready) -> None:
    anne, _ = ready
    world.announce(anne, anne.pack_up(previous_head="9" * 64))
    assert (grants(world, anne), world.codes()) == ([], [IncidentCode.FORK])


def test_a_header_of_another_ledger_is_a_clone(world: World, ready: Ready) -> None:
    anne, _ = ready
    world.announce(anne, anne.pack_up(ledger_id="c" * 64))
    assert (grants(world, anne), world.codes()) == ([], [IncidentCode.CLONE])


@pytest.mark.parametrize("size", [{"last": 20_002}, {"last": 1}, {"records": 10}, {"sealed_bytes": 2**26 + 1}], ids=str)
def test_a_header_beyond_the_caps_is_not_granted(world: World, ready: Ready, size: dict[str, int]) -> None:
    anne, _ = ready
    world.announce(anne, anne.pack_up(**size))
    assert (grants(world, anne), world.codes()) == ([], [IncidentCode.PARSE])


# --- submissions and receipts


def test_a_receipt_is_offered_until_the_site_has_filed_it(world: World, ready: Ready) -> None:
    anne, _ = ready
    sent = anne.pack_up()
    world.announce(anne, sent)
    world.centre.submit("anne", sent.sealed)
    assert world.centre.wanted("anne") == []
    assert grants(world, anne) == []
    (receipt,) = offered(world, anne, "receipt")
    assert world.read(receipt).sequence == anne.sequence
    world.centre.answer("anne", [anne.state(acknowledged=anne.sequence)])
    assert offered(world, anne, "receipt") == []


@pytest.mark.parametrize(
    "code",
    ["seal", "signature", "parse", "signer", "digest", "not_granted", "out_of_order", "chain", "fork", "clone"],
)
def test_a_bad_submission_leaves_an_incident_with_its_code_and_nothing_else(
    world: World, ready: Ready, code: str
) -> None:
    anne, _ = ready
    bert = world.join("bert")
    if code == "chain":
        anne.append(anne.genesis)
    batch = anne.batch()
    changes = {
        "out_of_order": {"first": 3},
        "fork": {"previous_head": "9" * 64},
        "clone": {"ledger_id": "c" * 64},
        "parse": {"entries": (b"{}",)},
    }
    body = canonical_bytes(batch.model_copy(update=changes.get(code, {})))
    signer = {"signature": SigningKey(bytes(32)), "signer": bert.signer}.get(code, anne.signer)
    sealed = seal(close_envelope(BATCH, body, signer), anne.sealing_key)
    if code == "digest":
        world.announce(anne, anne.pack_up())
    world.centre.submit("anne", b"scribble" if code == "seal" else sealed)
    assert world.codes() == [IncidentCode(code)]
    assert (world.budget().entries, world.budget().records) == (1, 0)


def test_a_batch_that_can_never_be_committed_is_not_asked_for_again(world: World, ready: Ready) -> None:
    anne, approval = ready
    bad = anne.pack_up(records=1, last=3)
    anne.release(world.campaign, approval, 1)
    world.announce(anne, bad, anne.pack_up())
    assert len(world.centre.wanted("anne")) == 2
    world.centre.submit("anne", bad.sealed)
    assert world.centre.wanted("anne") == []
    again = open_centre(world.config)
    assert len(again.wanted("anne")) == 2
    again.close()


def test_a_batch_that_came_too_early_is_asked_for_again(world: World, ready: Ready) -> None:
    anne, approval = ready
    one = anne.pack_up()
    anne.release(world.campaign, approval, 1)
    two = anne.pack_up()
    world.announce(anne, one, two)
    world.centre.submit("anne", two.sealed)
    assert len(world.centre.wanted("anne")) == 2
    world.centre.submit("anne", one.sealed)
    world.centre.submit("anne", two.sealed)
    assert (world.centre.wanted("anne"), world.codes()) == ([], [IncidentCode.OUT_OF_ORDER])


def test_a_large_submission_leaves_only_its_digest_among_the_incidents(world: World, anne: Hospital) -> None:
    world.centre.submit("anne", bytes(100_000))
    (incident,) = world.incidents()
    assert (incident.code, incident.evidence) == (IncidentCode.SEAL, b"")


def test_a_fault_of_ours_is_not_taken_for_a_sites(world: World, ready: Ready) -> None:
    anne, _ = ready
    sent = anne.pack_up()
    world.announce(anne, sent)

    class Broken:
        public_key = world.centre.keys.signing.public_key

        def sign(self, message: bytes) -> bytes:
            raise OSError("the key's token is unplugged")

    keys = dataclasses.replace(world.centre.keys, signing=Broken())  # type: ignore[arg-type]
    with pytest.raises(OSError, match="unplugged"):
        dataclasses.replace(world.centre, keys=keys).submit("anne", sent.sealed)
    assert (world.codes(), world.budget().entries) == ([], 1)


# --- finished


def test_the_centre_is_finished_when_every_site_has_nothing_left(world: World, ready: Ready) -> None:
    anne, approval = ready
    assert not world.centre.finished()
    anne.release(world.campaign, approval, 1)
    world.deliver(anne)
    done = {world.campaign: CampaignCode.COMPLETE}

    def after(**changes: object) -> bool:
        world.centre.answer("anne", [anne.state(done, **{"acknowledged": anne.sequence, **changes})])
        return world.centre.finished()

    assert not after(code=SiteCode.SENDING)
    assert not after(code=SiteCode.NEEDS_WITNESS, nonce=NONCE)
    assert not after(acknowledged=1)
    assert not after(sequence=anne.sequence + 1)
    assert not after(campaigns=())
    assert after()
    publish(world.centre, a_campaign("second"))
    assert not world.centre.finished()


def test_a_site_that_refused_everything_is_settled_at_its_genesis(world: World, anne: Hospital) -> None:
    world.centre.answer("anne", [anne.state({world.campaign: CampaignCode.REFUSED})])
    assert world.centre.finished()


def test_nobody_waits_for_a_suspended_site(world: World, anne: Hospital) -> None:
    suspend_site(world.centre, "anne")
    assert world.centre.finished()


def test_a_reopened_centre_knows_what_it_knew(world: World, ready: Ready) -> None:
    anne, approval = ready
    anne.release(world.campaign, approval, 1)
    sent = anne.pack_up()
    world.announce(anne, sent)
    again = open_centre(world.config)
    assert again.wanted("anne") == [sent.header.sealed_digest]
    again.submit("anne", sent.sealed)
    again.close()
    assert len(world.records()) == 1


def test_a_header_is_read_only_from_the_type_of_envelope_that_it_is(world: World, ready: Ready) -> None:
    anne, _ = ready
    header = anne.pack_up().header
    wrong = close_envelope(BATCH, canonical_bytes(header), anne.signer)
    world.centre.answer("anne", [Document("header", wrong)])
    assert world.codes() == [IncidentCode.SIGNATURE]
    right = close_envelope(HEADER, canonical_bytes(header), anne.signer)
    world.centre.answer("anne", [Document("header", right)])
    assert len(grants(world, anne)) == 1
