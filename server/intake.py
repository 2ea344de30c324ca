"""The second spine: what the centre does with a sealed batch, from its bytes to its receipt.

Evidence and records are kept apart. A batch that is authentic and continues its site's ledger is committed whole,
whatever becomes of its records, and its charges count as spent: they were. Each record is then stored or refused with a
code, and the receipt says which. So one refused record never blocks a site, and nothing that was spent is forgotten.

| the power fails | and then |
|---|---|
| before 10 | nothing happened; the site has no receipt and sends the same bytes again |
| after 10 | all of it is there; the same bytes again get the same receipt, and nothing is counted twice |
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence

from ldp_client.errors import (
    ChainError,
    CloneError,
    DigestError,
    EnvelopeError,
    ForkError,
    FormatError,
    LdpError,
    NotGrantedError,
    OutOfOrderError,
    PolicyRefusedError,
    SealError,
    SignerError,
)
from ldp_client.wire.answer import unpack_answer
from ldp_client.wire.campaign import Approval, Campaign, Policy, policy_id
from ldp_client.wire.canonical import parse
from ldp_client.wire.chain import Genesis, LedgerEntry, Seal, parse_entry, walk
from ldp_client.wire.document import MAX_BATCH_BYTES
from ldp_client.wire.envelope import BATCH, OneKey, open_envelope
from ldp_client.wire.evaluation import Asked, check_policy
from ldp_client.wire.exchange import Batch, BatchHeader, Refusal, RefusalCode, sealed_digest
from ldp_client.wire.record import check_contents, codebook_seed, record_digest
from ldp_client.wire.signing import SealingKey, Signer, unseal
from server.store import batches, ledger, records, sites
from server.store.database import Database
from server.store.ledger import Account, Paid
from server.store.records import Record
from server.store.sites import Site, SiteKeyring

# A receipt can name every one of them as refused and still fit into one document.
MAX_ENTRIES = 20_000


class _RefusedError(LdpError):
    """One record is not stored; its code goes into the receipt."""

    def __init__(self, refusal: RefusalCode) -> None:
        self.refusal = refusal
        super().__init__(f"the record is not stored: {refusal}")


def accept(sealed: bytes, site: str, database: Database, *, signer: Signer, sealing_key: SealingKey) -> bytes:
    """Commit what a site proves, store or refuse each of its records, answer with a receipt.

    1. open   2. parse   3. signer   4. chain   5. digest        any of these fails: nothing is committed
    6. campaign   7. loss   8. contents   9. budget              for each record: stored, or refused with a code
    10. commit                                                   and only then the receipt

    Args:
        sealed: the bytes as Flower carried them.
        site: whose SuperNode delivered them.
        signer: the centre's signing key.
        sealing_key: the centre's key that batches are sealed to.

    Returns:
        The receipt in the centre's envelope; for identical bytes always the same.

    Raises:
        VerificationError: steps 1 to 5, with the code of the incident; nothing was committed.
    """
    arrived = sealed_digest(sealed)
    with database.transaction() as connection:
        known = sites.lock(connection, site)
        # (1) Identical bytes again are no news. Of new ones, exactly what was signed is read.
        earlier = batches.receipt_for(connection, site, arrived)
        if earlier is not None:
            return earlier
        author, body = open_envelope(_unsealed(sealed, sealing_key), BATCH, SiteKeyring(connection))
        # (2) A batch of entries that this version knows, each in its canonical bytes.
        batch = parse(Batch, body, limit=MAX_BATCH_BYTES)
        entries = _entries(batch)
        # (3) Who delivered it, who signed it and whose ledger it is are one and the same site.
        _check_signer(known, author, batch)
        # (4) It begins where that ledger ends here.
        _check_continues(known, batch, entries)
        # (5) It is what was announced and granted, entry for entry: the chain is recomputed from the bytes. A suspended
        # site has no leave, whatever was granted before: a person has to look first.
        _check_not_suspended(known)
        heads = walk(known.ledger_id, batch.first, batch.previous_head, batch.entries)
        header = _announced(batches.granted(connection, known, batch.first), batch, heads, arrived)

        # From here on the batch is evidence: it will be committed and its charges counted, whatever follows.
        account = ledger.read_account(connection, known, batch.first, entries, OneKey("the centre", signer.public_key))
        payloads = _payloads_by_seal(batch)
        accepted: list[Record] = []
        refused: list[Refusal] = []
        for sequence, entry in enumerate(entries, start=batch.first):
            account.follow(sequence, entry)
            if isinstance(entry, Seal):
                try:
                    accepted.append(_judge(entry, sequence, payloads[sequence], account, header.day))
                    account.settle(sequence, entry.charge, records=1)
                except _RefusedError as reason:
                    refused.append(Refusal(seal=sequence, code=reason.refusal))
                    account.settle(sequence, entry.charge, refused=1)

        # (10) Entries, records, refusals, totals, the central line and the receipt: durable together when this block
        # ends, or not at all.
        ledger.extend(connection, account, batch.first, entries, batch.entries, heads)
        records.store(connection, site, accepted, refused)
        receipt = batches.commit(connection, known, header, tuple(refused), signer)
    # Only now that the block has ended is it durable, so only now does the receipt exist for anybody else.
    return receipt  # noqa: RET504


def _judge(seal: Seal, sequence: int, payloads: Sequence[bytes], account: Account, day: str) -> Record:
    """What one Seal names, a record or an evaluation's answer; or `_RefusedError` with the first rule against it.

    Every rule is the one that was in force when the unit was charged.
    """
    # (6) An unused charge, for a campaign of this centre, that the site's officer had agreed to, in time.
    charge = _unused_charge(account, seal)
    campaign = _published(account, charge)
    _check_asked_once(charge)
    policy, approval = _agreed(account, seal.charge, charge, campaign)
    _check_in_time(day, approval, campaign)
    # (7) The charge is the loss of the mechanism that made the record, recomputed from its parameters.
    if charge.micro_epsilon != account.loss(charge.campaign):
        raise _RefusedError(RefusalCode.LOSS_MISMATCH)
    # (8) One payload, the one that was sealed, and nothing in it that the mechanism could not have drawn.
    payload = _only(payloads)
    if record_digest(charge.campaign, seal.charge, payload) != seal.record:
        raise _RefusedError(RefusalCode.RECORD_DIGEST)
    _check_contents(payload, campaign, codebook_seed(charge.campaign, account.site.site, seal.charge))
    # (9) With this charge, no unit could have spent more than the site's own policy allows.
    if charge.bound > policy.lifetime_micro_epsilon:
        raise _RefusedError(RefusalCode.BUDGET)
    return Record(account.site.site, sequence, charge.campaign, payload)


# --- what must hold for the batch as a whole


def _unsealed(sealed: bytes, key: SealingKey) -> bytes:
    if len(sealed) > MAX_BATCH_BYTES:
        raise FormatError(f"a sealed batch has at most {MAX_BATCH_BYTES} bytes; found {len(sealed)}. Send smaller ones")
    try:
        return unseal(sealed, key)
    except EnvelopeError as error:
        raise SealError(str(error)) from error


def _entries(batch: Batch) -> list[LedgerEntry]:
    if not 1 <= len(batch.entries) <= MAX_ENTRIES:
        raise FormatError(f"a batch has 1 to {MAX_ENTRIES} entries; found {len(batch.entries)}. Send smaller ones")
    entries = [parse_entry(body) for body in batch.entries]
    seals = {sequence for sequence, entry in enumerate(entries, start=batch.first) if isinstance(entry, Seal)}
    if any(payload.seal not in seals for payload in batch.payloads):
        raise FormatError("a payload belongs to no Seal of this batch; nobody would ever account for it")
    return entries


def _check_signer(known: Site, author: str, batch: Batch) -> None:
    if not author == batch.site == known.site:
        raise SignerError(
            f"site {known.site} delivered a batch of site {batch.site} signed by {author}; a site sends only its own"
        )
    if batch.ledger_id != known.ledger_id:
        raise CloneError(
            f"site {known.site} was enrolled with ledger {known.ledger_id[:12]}, the batch is from "
            f"{batch.ledger_id[:12]}. Ask the site whether a second agent runs"
        )


def _check_continues(known: Site, batch: Batch, entries: Sequence[LedgerEntry]) -> None:
    if batch.first > known.sequence + 1:
        raise OutOfOrderError(
            f"the centre has {known.sequence} entries of site {known.site}, the batch begins at {batch.first}; "
            "send the one before it first"
        )
    if batch.first <= known.sequence or batch.previous_head != known.head:
        raise ForkError(
            f"the centre has {known.sequence} entries of site {known.site}, and these others from {batch.first} on do "
            "not continue them: there are two histories. Ask the site whether its ledger was copied or restored"
        )
    if any(isinstance(entry, Genesis) for entry in entries):
        raise ChainError(f"the batch from entry {batch.first} on holds a second genesis entry; a ledger begins once")


def _check_not_suspended(known: Site) -> None:
    if known.suspended:
        raise NotGrantedError(
            f"site {known.site} is suspended, and what was granted to it before no longer holds; nothing of it is taken"
        )


def _announced(header: BatchHeader | None, batch: Batch, heads: Sequence[str], arrived: str) -> BatchHeader:
    if header is None:
        raise NotGrantedError(f"no batch from entry {batch.first} on was granted; announce it by its header first")
    announced = (header.sealed_digest, header.first, header.last, header.previous_head, header.head, header.records)
    last = batch.first + len(batch.entries) - 1
    if announced != (arrived, batch.first, last, batch.previous_head, heads[-1], len(batch.payloads)):
        raise DigestError(f"the batch from entry {batch.first} on is not the one that its signed header announced")
    return header


def _payloads_by_seal(batch: Batch) -> Mapping[int, list[bytes]]:
    payloads: defaultdict[int, list[bytes]] = defaultdict(list)
    for payload in batch.payloads:
        payloads[payload.seal].append(payload.record)
    return payloads


# --- what must hold for one record


def _unused_charge(account: Account, seal: Seal) -> Paid:
    charge = account.charges.get(seal.charge)
    if charge is None or charge.settled:
        raise _RefusedError(RefusalCode.NO_CHARGE)
    return charge


def _published(account: Account, charge: Paid) -> Asked:
    campaign = account.campaigns.get(charge.campaign)
    # A charge pays for a campaign's record, a query for an evaluation's answer, and neither for the other.
    if campaign is None or isinstance(campaign, Campaign) is charge.of_a_set:
        raise _RefusedError(RefusalCode.UNKNOWN_CAMPAIGN)
    return campaign


def _check_asked_once(charge: Paid) -> None:
    if charge.repeated:
        raise _RefusedError(RefusalCode.REPEATED)


def _agreed(account: Account, number: int, charge: Paid, campaign: Asked) -> tuple[Policy, Approval]:
    """The policy in force at the charge, and the approval that the charge cites, given under it and before."""
    policy, approval = account.policy_number_at(number), account.approvals.get(charge.approval)
    if policy is None or approval is None or charge.approval >= number:
        raise _RefusedError(RefusalCode.NOT_APPROVED)
    terms = (charge.campaign, charge.approval, policy)
    if terms not in account.agreements:
        account.agreements[terms] = _agree(account.policies[policy], approval, campaign, charge.campaign)
    if not account.agreements[terms]:
        raise _RefusedError(RefusalCode.NOT_APPROVED)
    return account.policies[policy], approval


def _agree(policy: Policy, approval: Approval, campaign: Asked, name: str) -> bool:
    if (approval.campaign, approval.policy) != (name, policy_id(policy)):
        return False
    try:
        check_policy(policy, campaign)
    except PolicyRefusedError:
        return False
    return True


def _check_in_time(day: str, approval: Approval, campaign: Asked) -> None:
    # Days are written YYYY-MM-DD, so their order is that of their texts.
    if day > min(approval.expires, campaign.ends):
        raise _RefusedError(RefusalCode.EXPIRED)


def _only(payloads: Sequence[bytes]) -> bytes:
    if len(payloads) != 1:
        raise _RefusedError(RefusalCode.CONTENTS)
    return payloads[0]


def _check_contents(payload: bytes, campaign: Asked, seed: bytes) -> None:
    try:
        if isinstance(campaign, Campaign):
            check_contents(payload, campaign.release, seed)
        else:
            unpack_answer(payload, campaign.histogram)
    except FormatError as error:
        raise _RefusedError(RefusalCode.CONTENTS) from error
