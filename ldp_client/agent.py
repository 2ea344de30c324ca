"""The agent: a loop around the desk and the release spine. It has no network; it reads and writes files."""

from __future__ import annotations

import datetime
import logging
import threading
from collections.abc import Callable
from dataclasses import dataclass, field

from ldp_client import desk
from ldp_client.errors import LdpError
from ldp_client.flow.encoder import Encoder
from ldp_client.flow.installed import open_bundle
from ldp_client.privacy.noise import ByteSource, SystemSource
from ldp_client.release import Clock, Released, release
from ldp_client.site import Site, data_set
from ldp_client.submission import Sealer, make_batches
from ldp_client.wire.campaign import Campaign, campaign_id
from ldp_client.wire.exchange import CampaignCode, SiteCode
from ldp_client.wire.signing import seal

log = logging.getLogger("ldp_client.agent")
Report = Callable[[Campaign, int, int], None]


def _today() -> datetime.date:
    return datetime.datetime.now(datetime.UTC).date()


@dataclass
class Agent:
    """Works for one site until told to stop. A nonce lives only as long as this object: a copied disk has none."""

    site: Site
    source: ByteSource = field(default_factory=SystemSource)
    today: Clock = _today
    sealer: Sealer = seal
    report: Report = lambda campaign, done, total: None
    encoder: Encoder | None = None
    released: dict[str, Released] = field(default_factory=dict)
    _nonce: str | None = None
    _told: set[str] = field(default_factory=set)

    def step(self) -> SiteCode:
        """Read the mail, release what is approved and witnessed, lay out what may go; what the site says of itself."""
        mail = desk.read_mail(self.site)
        due = [] if mail.conflict else self._due()
        if due and self._witnessed(mail):
            for campaign in due:
                try:
                    self._release(campaign)
                except LdpError as refusal:
                    # One campaign that cannot be released does not stop the others, nor what is sealed already.
                    self._tell(refusal)
            due = []
        if due and self._nonce is None:
            self._nonce = self.source(32).hex()
        if not mail.conflict:
            self._make_batches()
        sending = self.site.ledger.acknowledged() < self.site.ledger.head().sequence
        code = SiteCode.NEEDS_WITNESS if due else SiteCode.SENDING if sending else SiteCode.READY
        return desk.lay_out(self.site, mail, code, self._nonce).code

    def run(self, stop: threading.Event, interval_seconds: float = 1.0) -> None:
        """Step until told to stop. A refusal is logged and the loop goes on."""
        before: SiteCode | None = None
        while not stop.is_set():
            try:
                code = self.step()
                if code is not before:
                    log.info("site is %s", code.value)
                before = code
            except LdpError as refusal:
                self._tell(refusal)
                before = None
            stop.wait(interval_seconds)

    def _due(self) -> list[Campaign]:
        """Campaigns with a standing approval whose work list was not worked off."""
        due = []
        for campaign in desk.campaigns(self.site):
            if desk.answer(self.site, campaign) is CampaignCode.APPROVED:
                try:
                    self.site.ledger.standing_approval(campaign, self.today().isoformat())
                except LdpError as refusal:
                    self._tell(refusal)
                else:
                    due.append(campaign)
        return due

    def _tell(self, refusal: LdpError) -> None:
        """Log a refusal once: it stands at every step until somebody acts."""
        if str(refusal) not in self._told:
            log.warning("%s", refusal)
            self._told.add(str(refusal))

    def _witnessed(self, mail: desk.Mail) -> bool:
        """Whether the centre answered our nonce; a nonce serves once."""
        answered = any(witness.nonce == self._nonce for witness in mail.witnesses)
        if answered:
            self._nonce = None
        return answered

    def _release(self, campaign: Campaign) -> None:
        name = campaign_id(campaign)
        self.released[name] = release(
            campaign,
            data_set(self.site, campaign),
            ledger=self.site.ledger,
            encoder=self._encoder(),
            source=self.source,
            today=self.today,
            chunk=self.site.config.release.chunk,
            # What a crash left of the first run is the rest of one shuffled list, not a late arrival.
            late_batch=self.site.config.release.late_batch if self.site.ledger.was_complete(name) else 1,
            progress=lambda done, total: self.report(campaign, done, total),
        )
        self.site.ledger.decide(name, CampaignCode.COMPLETE)

    def _encoder(self) -> Encoder:
        if self.encoder is None:
            self.encoder = open_bundle(self.site.config.encoder.bundle, self.site.folder)
        return self.encoder

    def _make_batches(self) -> None:
        make_batches(
            self.site.ledger,
            self.site.signer,
            self.site.centre,
            self.today(),
            records_per_batch=self.site.config.release.records_per_batch,
            sealer=self.sealer,
        )
