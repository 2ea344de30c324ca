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
from typing import NamedTuple

from ldp_client.errors import (
    ChainError,
    CloneError,
    DigestError,
    EnvelopeError,
    ForkError,
    FormatError,
    NotGrantedError,
    OutOfOrderError,
    PolicyRefusedError,
    SealError,
    SignerError,
)
from ldp_client.privacy.spec import HistogramSpec
from ldp_client.wire.answer import unpack_answer
from ldp_client.wire.campaign import Campaign, policy_id
from ldp_client.wire.canonical import parse
from ldp_client.wire.chain import Genesis, Said, SealTerms, read_entry, walk
from ldp_client.wire.document import MAX_BATCH_BYTES
from ldp_client.wire.envelope import BATCH, OneKey, open_envelope
from ldp_client.wire.evaluation import Asked, check_policy
from ldp_client.wire.exchange import Batch, BatchHeader, Refusal, RefusalCode, sealed_digest
from ldp_client.wire.record import codebook_seed, drawable, record_digest
from ldp_client.wire.signing import SealingKey, Signer, unseal
from server.store import batches, ledger, records, sites
from server.store.account import Account
from server.store.database import Database
from server.store.records import Record
from server.store.sites import Site, SiteKeyring

# A receipt can name every one of them as refused and still fit into one document.
MAX_ENTRIES = 20_000


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
        for sequence, entry in enumerate(entries, start=batch.first):
            account.follow(sequence, entry)
        accepted, refused = _judge(batch, entries, account, header.day)
        account.count(accepted, refused)

        # (10) Entries, records, refusals, totals, the central line and the receipt: durable together when this block
        # ends, or not at all.
        ledger.extend(connection, account, batch.first, entries, batch.entries, heads)
        records.store(connection, site, accepted, refused)
        receipt = batches.commit(connection, known, header, tuple(refused), signer)
    # Only now that the block has ended is it durable, so only now does the receipt exist for anybody else.
    return receipt  # noqa: RET504


class _Terms(NamedTuple):
    """What a charge is judged by, but for its record: thousands of charges have the same."""

    campaign: str
    approval: int
    approved_before: bool
    policy: int | None
    micro_epsilon: int
    of_a_set: bool
    repeated: bool


def _judge(batch: Batch, entries: Sequence[Said], account: Account, day: str) -> tuple[list[Record], list[Refusal]]:
    """What becomes of each sealed record or answer: stored, or refused with the code of the first rule against it.

    Every rule is the one that was in force when the unit was charged.
    """
    site, payloads = account.site.site, _payloads_by_seal(batch)
    terms_judged: dict[_Terms, RefusalCode | None] = {}
    codes: dict[int, RefusalCode] = {}
    sealed: defaultdict[str, list[tuple[Record, int]]] = defaultdict(list)
    for sequence, seal in enumerate(entries, start=batch.first):
        if not isinstance(seal, SealTerms):
            continue
        # (6) An unused charge, for a campaign of this centre, that the site's officer had agreed to, in time.
        charge = account.paid_for(sequence, seal.charge)
        if charge is None:
            codes[sequence] = RefusalCode.NO_CHARGE
            continue
        # (7) The charge is the loss of the mechanism that made the record, recomputed from its parameters.
        terms = _Terms(
            charge.campaign,
            charge.approval,
            charge.approval < seal.charge,
            charge.policy,
            charge.micro_epsilon,
            charge.of_a_set,
            charge.repeated,
        )
        if terms not in terms_judged:
            terms_judged[terms] = _against(terms, account, day)
        # (8) One payload, and the one that was sealed;
        code = terms_judged[terms] or _against_payloads(payloads[sequence], charge.campaign, seal)
        if code is not None:
            codes[sequence] = code
            continue
        sealed[charge.campaign].append((Record(site, sequence, charge.campaign, payloads[sequence][0]), seal.charge))

    accepted: list[Record] = []
    for name, several in sealed.items():
        # and nothing in it that the mechanism could not have drawn: looked at for all records of a campaign in one go.
        for (record, number), drawn in zip(several, _possible(account.campaigns[name], several), strict=True):
            charge = account.charges[number]
            if not drawn:
                codes[record.seal] = RefusalCode.CONTENTS
            # (9) With this charge, no unit could have spent more than the site's own policy allows.
            elif charge.policy is None or charge.bound > account.policies[charge.policy].lifetime_micro_epsilon:
                codes[record.seal] = RefusalCode.BUDGET
            else:
                accepted.append(record)
    return sorted(accepted), [Refusal(seal=seal, code=code) for seal, code in sorted(codes.items())]


# --- what must hold for the batch as a whole


def _unsealed(sealed: bytes, key: SealingKey) -> bytes:
    if len(sealed) > MAX_BATCH_BYTES:
        raise FormatError(f"a sealed batch has at most {MAX_BATCH_BYTES} bytes; found {len(sealed)}. Send smaller ones")
    try:
        return unseal(sealed, key)
    except EnvelopeError as error:
        raise SealError(str(error)) from error


def _entries(batch: Batch) -> list[Said]:
    if not 1 <= len(batch.entries) <= MAX_ENTRIES:
        raise FormatError(f"a batch has 1 to {MAX_ENTRIES} entries; found {len(batch.entries)}. Send smaller ones")
    entries = [read_entry(body) for body in batch.entries]
    seals = {sequence for sequence, entry in enumerate(entries, start=batch.first) if isinstance(entry, SealTerms)}
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


def _check_continues(known: Site, batch: Batch, entries: Sequence[Said]) -> None:
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


def _against(terms: _Terms, account: Account, day: str) -> RefusalCode | None:
    """The first of rules (6) and (7) that stands against these terms."""
    campaign, approval = account.campaigns.get(terms.campaign), account.approvals.get(terms.approval)
    # A charge pays for a campaign's record, a query for an evaluation's answer, and neither for the other.
    if campaign is None or isinstance(campaign, Campaign) is terms.of_a_set:
        return RefusalCode.UNKNOWN_CAMPAIGN
    if terms.repeated:
        return RefusalCode.REPEATED
    # The policy in force at the charge, and the approval that the charge cites, given under it and before.
    if terms.policy is None or approval is None or not terms.approved_before:
        return RefusalCode.NOT_APPROVED
    policy = account.policies[terms.policy]
    if (approval.campaign, approval.policy) != (terms.campaign, policy_id(policy)):
        return RefusalCode.NOT_APPROVED
    try:
        check_policy(policy, campaign)
    except PolicyRefusedError:
        return RefusalCode.NOT_APPROVED
    # Days are written YYYY-MM-DD, so their order is that of their texts.
    if day > min(approval.expires, campaign.ends):
        return RefusalCode.EXPIRED
    return None if terms.micro_epsilon == account.loss(terms.campaign) else RefusalCode.LOSS_MISMATCH


def _against_payloads(payloads: Sequence[bytes], campaign: str, seal: SealTerms) -> RefusalCode | None:
    if len(payloads) != 1:
        return RefusalCode.CONTENTS
    same = record_digest(campaign, seal.charge, payloads[0]) == seal.record
    return None if same else RefusalCode.RECORD_DIGEST


def _possible(asked: Asked, several: Sequence[tuple[Record, int]]) -> list[bool]:
    """Which of these records, each with the number of its charge, the mechanism of their campaign can have drawn."""
    if isinstance(asked, Campaign):
        seeds = (codebook_seed(record.campaign, record.site, charge) for record, charge in several)
        return list(map(bool, drawable([record.payload for record, _ in several], asked.release, seeds)))
    return [_is_answer(record.payload, asked.histogram) for record, _ in several]


def _is_answer(payload: bytes, histogram: HistogramSpec) -> bool:
    try:
        unpack_answer(payload, histogram)
    except FormatError:
        return False
    return True
