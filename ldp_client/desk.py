"""The site's desk: file what came in from the centre, lay out what may go to it.

Everything in the inbox was put there by the courier, who is not trusted: a document counts only if the pinned centre
signed it and it speaks of this site and this ledger. Everything else is passed over.
"""

from __future__ import annotations

from dataclasses import dataclass

from ldp_client.errors import PolicyRefusedError, SignerError, VerificationError, WaitingError
from ldp_client.site import Site
from ldp_client.wire.campaign import Campaign
from ldp_client.wire.canonical import AnyWire, canonical_bytes, parse
from ldp_client.wire.document import Document
from ldp_client.wire.envelope import GRANT, RECEIPT, STATE, WITNESS, OneKey, close_envelope, open_envelope
from ldp_client.wire.evaluation import Asked, Evaluation, asked_id, open_asked
from ldp_client.wire.exchange import (
    CampaignAnswer,
    CampaignCode,
    Grant,
    Receipt,
    SiteCode,
    SiteState,
    Witness,
)


@dataclass(frozen=True)
class Mail:
    """What the inbox held that is the centre's, about this ledger, and not yet acted upon."""

    witnesses: tuple[Witness, ...]
    granted: frozenset[str]
    conflict: SiteCode | None


def read_mail(site: Site) -> Mail:
    """File campaigns and receipts; return witnesses, the headers granted, and whether our ledger is contradicted.

    A receipt or witness of a place where our ledger has another hash, or none, means that this ledger was rolled back
    or copied: no release runs while such a document lies there, and the next true witness says it again.
    """
    witnesses: list[Witness] = []
    granted: set[str] = set()
    conflict: SiteCode | None = None
    for document in site.inbox.documents():
        try:
            if document.kind == "campaign":
                offered = open_asked(document.body, _centre(site))
                kind = "evaluation" if isinstance(offered, Evaluation) else "campaign"
                site.ledger.file_document(kind, asked_id(offered), document.body)
            elif document.kind == "receipt":
                receipt = _opened(site, document, RECEIPT, Receipt)
                found = _contradiction(site, receipt)
                if found is None:
                    site.ledger.file_document("receipt", receipt.header, document.body, receipt.sequence)
                conflict = conflict or found
            elif document.kind == "witness":
                witness = _opened(site, document, WITNESS, Witness)
                conflict = conflict or _contradiction(site, witness)
                witnesses.append(witness)
            elif document.kind == "grant":
                grant = _opened(site, document, GRANT, Grant)
                if grant.ledger_id == site.ledger.genesis.ledger_id:
                    granted.add(grant.header)
        except VerificationError:
            continue
    return Mail(tuple(witnesses), frozenset(granted), conflict)


def _opened(site: Site, document: Document, payload_type: str, kind: type[AnyWire]) -> AnyWire:
    opened = parse(kind, open_envelope(document.body, payload_type, _centre(site))[1])
    if isinstance(opened, Receipt | Witness | Grant) and opened.site != site.ledger.genesis.site:
        # Or a courier could stop this site with what the centre wrote to another.
        raise SignerError(f"the document is for site {opened.site}; this is {site.ledger.genesis.site}")
    return opened


def _centre(site: Site) -> OneKey:
    return OneKey("the centre", bytes.fromhex(site.centre.signing_key))


def _contradiction(site: Site, document: Receipt | Witness) -> SiteCode | None:
    if document.ledger_id != site.ledger.genesis.ledger_id:
        return SiteCode.CLONE
    return None if site.ledger.head_at(document.sequence) == document.head else SiteCode.ROLLBACK


def campaigns(site: Site) -> list[Campaign]:
    """The campaigns that the pinned centre has offered, by name."""
    return [one for one in asked(site) if isinstance(one, Campaign)]


def asked(site: Site) -> list[Asked]:
    """Campaigns and evaluations that the pinned centre has offered, by name."""
    centre = _centre(site)
    documents = [*site.ledger.documents("campaign"), *site.ledger.documents("evaluation")]
    return sorted((open_asked(envelope, centre) for _, envelope in documents), key=lambda one: one.name)


def lay_out(site: Site, mail: Mail, code: SiteCode, nonce: str | None) -> SiteState:
    """Lay out what may go now: our state, headers without a receipt, and the batches of granted headers."""
    head, acknowledged = site.ledger.head(), site.ledger.acknowledged()
    state = SiteState(
        site=site.ledger.genesis.site,
        ledger_id=site.ledger.genesis.ledger_id,
        sequence=head.sequence,
        head=head.head,
        acknowledged=acknowledged,
        code=mail.conflict or code,
        nonce=nonce,
        campaigns=tuple(CampaignAnswer(campaign=asked_id(one), code=answer(site, one)) for one in asked(site)),
    )
    site.outbox.replace("state", [close_envelope(STATE, canonical_bytes(state), site.signer)])
    pending = [] if mail.conflict else site.ledger.unacknowledged(acknowledged)
    site.outbox.replace("header", [envelope for _, envelope in pending])
    batches = [site.ledger.sealed_batch(header) for header, _ in pending if header in mail.granted]
    site.outbox.replace("batch", [sealed for sealed in batches if sealed is not None])
    return state


def answer(site: Site, campaign: Asked) -> CampaignCode:
    """The one word that the centre hears about a campaign."""
    name = asked_id(campaign)
    decision = site.ledger.decision(name)
    if decision is not None:
        return CampaignCode(decision)
    return CampaignCode.APPROVED if site.ledger.has_approval(name) else CampaignCode.OFFERED


def answer_in_words(site: Site, campaign: Asked, today: str) -> str:
    """The answer for the officer's eyes, who is told as well when an approval no longer holds."""
    code = answer(site, campaign)
    if code is not CampaignCode.APPROVED:
        return code.value
    try:
        site.ledger.standing_approval(campaign, today)
    except PolicyRefusedError:
        return "approved under an earlier policy; approve again"
    except WaitingError:
        return "approved; ended"
    return code.value
