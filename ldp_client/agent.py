"""The agent: a loop around the desk and the release spine. It has no network; it reads and writes files."""

from __future__ import annotations

import datetime
import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from ldp_client import desk
from ldp_client.errors import ChainError, CloneError, LdpError, RollbackError, WaitingError
from ldp_client.evaluation import evaluate
from ldp_client.flow.encoder import Encoder
from ldp_client.flow.installed import open_bundle
from ldp_client.plan import make_plan
from ldp_client.privacy.noise import ByteSource, SystemSource
from ldp_client.release import Clock, Released, release
from ldp_client.site import Site, data_set
from ldp_client.submission import Sealer, make_batches
from ldp_client.wire.campaign import Campaign, campaign_id
from ldp_client.wire.evaluation import Asked, Evaluation, asked_id
from ldp_client.wire.exchange import CampaignCode, SiteCode, Witness
from ldp_client.wire.signing import seal

log = logging.getLogger("ldp_client.agent")
# A campaign that was refused at its release is tried again after this, or under a new approval.
HOLD_SECONDS = 300.0
Report = Callable[[Asked, int, int], None]


_CONTRADICTED = {SiteCode.ROLLBACK: RollbackError, SiteCode.CLONE: CloneError}


def _two_histories(code: SiteCode) -> ChainError:
    """What a person is told who has restored a ledger from a backup, or runs a copy."""
    return _CONTRADICTED[code](
        f"the centre has signed entries that this ledger does not hold ({code.value}): it was restored from a backup, "
        "or another copy of it works for this site. Nothing is released or sent. Stop the agent, put the newest "
        "ledger.sqlite3 of this machine back, or call the centre; docs/install.md, section 8, has the steps"
    )


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
    answered: set[str] = field(default_factory=set)
    clock: Callable[[], float] = time.monotonic
    _nonce: str | None = None
    _next_look: float = float("-inf")
    _late: set[str] = field(default_factory=set)
    _held: dict[tuple[str, int], float] = field(default_factory=dict)
    _told: set[str] = field(default_factory=set)

    def step(self) -> SiteCode:
        """Read the mail, release what is approved and witnessed, lay out what may go; what the site says of itself."""
        mail = desk.read_mail(self.site)
        if mail.conflict is not None:
            self._tell(_two_histories(mail.conflict))
        # A new key begins where the centre says that it is: until then nothing can be sent, so nothing is released.
        new_key = not mail.conflict and self.site.ledger.awaits_witness()
        due = [] if mail.conflict or new_key else self._due()
        witness = self._witness(mail) if due or new_key else None
        if witness is not None:
            if new_key:
                self.site.ledger.resume(*witness)
                new_key = False
            for campaign, approval in due:
                try:
                    if isinstance(campaign, Evaluation):
                        self._answer(campaign)
                    else:
                        self._release(campaign)
                except LdpError as refusal:
                    # One campaign that cannot be released does not stop the others, nor what is sealed already.
                    self._tell(refusal)
                    self._held[asked_id(campaign), approval] = self.clock() + HOLD_SECONDS
            due = []
        if (due or new_key) and self._nonce is None:
            self._nonce = self.source(32).hex()
        if not mail.conflict and not new_key:
            self._make_batches()
        sending = self.site.ledger.acknowledged() < self.site.ledger.head().sequence
        code = SiteCode.NEEDS_WITNESS if due or new_key else SiteCode.SENDING if sending else SiteCode.READY
        return desk.lay_out(self.site, mail, code, self._nonce).code

    def run(self, stop: threading.Event, interval_seconds: float = 1.0) -> None:
        """Step until told to stop. A refusal is logged and the loop goes on.

        Raises:
            WaitingError: another agent works for this site.
        """
        before: SiteCode | None = None
        with self.site.alone():
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

    def release(self, wait_seconds: float, interval_seconds: float = 1.0) -> None:
        """Step until every approved campaign is released; for a person who does not want to run the agent all day.

        Raises:
            WaitingError: the centre has not witnessed the ledger within the time, or another agent works for this site.
            ChainError: the centre has signed another history than this ledger's.
        """
        until = self.clock() + wait_seconds
        with self.site.alone():
            while (code := self.step()) is SiteCode.NEEDS_WITNESS:
                if self.clock() >= until:
                    raise WaitingError(
                        f"the centre has not witnessed this ledger within {wait_seconds:g} s, so nothing was released; "
                        "see that courier and node run, and wait longer with --wait"
                    )
                time.sleep(interval_seconds)
        if code in _CONTRADICTED:
            raise _two_histories(code)
        if not self.released and not self.answered and not self._told:
            log.info("nothing is approved that is not released already; `ldp-client campaign list` says what is asked")

    def _due(self) -> list[tuple[Asked, int]]:
        """What can be released or answered now, with the entry of the approval that stands for each."""
        due: list[tuple[Asked, int]] = []
        look = self.clock() >= self._next_look
        if look:
            self._next_look = self.clock() + self.site.config.release.look_for_late_seconds
        for campaign in desk.asked(self.site):
            answer = desk.answer(self.site, campaign)
            try:
                if answer is CampaignCode.COMPLETE and look and isinstance(campaign, Campaign):
                    self._look_for_late_arrivals(campaign)
                if answer is CampaignCode.APPROVED or asked_id(campaign) in self._late:
                    standing = self.site.ledger.standing_approval(campaign, self.today().isoformat())
                    if self._held.get((asked_id(campaign), standing.sequence), 0.0) <= self.clock():
                        due.append((campaign, standing.sequence))
            except LdpError as refusal:
                self._tell(refusal)
        return due

    def _look_for_late_arrivals(self, campaign: Campaign) -> None:
        """Note a completed campaign for which enough X-rays have come that can go together."""
        standing = self.site.ledger.standing_approval(campaign, self.today().isoformat())
        plan = make_plan(campaign, standing.policy, data_set(self.site, campaign), self.site.ledger)
        if plan.records >= self.site.config.release.late_batch:
            self._late.add(campaign_id(campaign))

    def _tell(self, refusal: LdpError) -> None:
        """Log a refusal once: it stands at every step until somebody acts."""
        if str(refusal) not in self._told:
            log.warning("%s", refusal)
            self._told.add(str(refusal))

    def _witness(self, mail: desk.Mail) -> tuple[Witness, bytes] | None:
        """The centre's answer to our nonce, in its envelope too; a nonce serves once."""
        for witness, envelope in mail.witnesses:
            if witness.nonce == self._nonce:
                self._nonce = None
                return witness, envelope
        return None

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
        self.site.ledger.complete(name)
        log.info("%d records sealed for campaign %s", self.released[name].sealed, campaign.name)
        self._late.discard(name)

    def _answer(self, evaluation: Evaluation) -> None:
        evaluate(
            evaluation,
            data_set(self.site, evaluation),
            ledger=self.site.ledger,
            encoder=self._encoder(),
            source=self.source,
            today=self.today,
            chunk=self.site.config.release.chunk,
            progress=lambda done, total: self.report(evaluation, done, total),
        )
        self.site.ledger.complete(asked_id(evaluation))
        self.answered.add(asked_id(evaluation))
        # No number: how large the set is stays in the ledger.
        log.info("evaluation %s is answered", evaluation.name)

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
