"""The centre: what it offers a site, what it makes of the answer, which batches it wants, and when it is done.

Everything here is decided from the database. Flower, which carries it, decides nothing and is believed in one thing
only: which SuperNode delivered a message.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from itertools import takewhile
from pathlib import Path
from typing import TypeVar

from sqlalchemy import Connection

from ldp_client.errors import (
    CloneError,
    ConfigurationError,
    ForkError,
    FormatError,
    NotGrantedError,
    OutOfOrderError,
    RollbackError,
    SignerError,
    VerificationError,
)
from ldp_client.wire.campaign import Campaign
from ldp_client.wire.canonical import canonical_bytes, parse
from ldp_client.wire.document import MAX_BATCH_BYTES, UP_KINDS, Document, within_limits
from ldp_client.wire.envelope import HEADER, STATE, WITNESS, OneKey, close_envelope, open_envelope
from ldp_client.wire.evaluation import Asked, Evaluation
from ldp_client.wire.exchange import (
    BatchHeader,
    CampaignCode,
    IncidentCode,
    SiteCode,
    SiteState,
    Witness,
    sealed_digest,
)
from server import intake
from server.config import CentreKeys, ServerConfig, read_config, read_keys
from server.store import batches, campaigns, central, incidents, sites
from server.store.database import Database, open_database
from server.store.sites import Site, SiteKeyring

AnySpoken = TypeVar("AnySpoken", SiteState, BatchHeader)


@dataclass(frozen=True)
class Centre:
    """An opened centre. Each method is one transaction or several small ones; all of them can be repeated safely."""

    config: ServerConfig
    database: Database
    keys: CentreKeys
    # (site, digest) of granted bytes that can never be committed. Forgotten with this object: a later version of this
    # software may read what this one cannot.
    _hopeless: set[tuple[str, str]] = field(default_factory=set, repr=False, compare=False)

    def close(self) -> None:
        """Let go of the database."""
        self.database.close()

    @property
    def signer(self) -> OneKey:
        """The centre's own public key, as the only one that its documents may bear."""
        return OneKey("the centre", self.keys.signing.public_key)

    def find_campaign(self, which: str) -> Campaign:
        """A published campaign by its name or the beginning of its id.

        Raises:
            ConfigurationError: none, or more than one, is called so; or it is an evaluation.
        """
        found = self.find_asked(which)
        if not isinstance(found, Campaign):
            raise ConfigurationError(
                f"{found.name} is an evaluation, which has no records; `ldp-server evaluate report {found.name}` "
                "says what sites have answered"
            )
        return found

    def find_evaluation(self, which: str) -> Evaluation:
        """A published evaluation by its name or the beginning of its id.

        Raises:
            ConfigurationError: none, or more than one, is called so; or it is a campaign.
        """
        found = self.find_asked(which)
        if not isinstance(found, Evaluation):
            raise ConfigurationError(
                f"{found.name} is a campaign; an evaluation is made by `ldp-server evaluate publish`"
            )
        return found

    def find_asked(self, which: str) -> Asked:
        """A published campaign or evaluation by its name or the beginning of its id.

        Raises:
            ConfigurationError: none, or more than one, is called so.
        """
        with self.database.snapshot() as connection:
            published = campaigns.every(connection, self.signer)
        fits = [
            campaign
            for name, campaign in published.items()
            if campaign.name == which or (len(which) >= 6 and name.startswith(which))
        ]
        if len(fits) != 1:
            known = ", ".join(f"{campaign.name} ({name[:12]})" for name, campaign in published.items()) or "none"
            raise ConfigurationError(f"{len(fits)} campaigns are called {which!r}; published are: {known}")
        return fits[0]

    def site_of(self, node_public_key: str) -> str | None:
        """The site whose SuperNode has this public key; None for a stranger's and for a suspended site's."""
        with self.database.snapshot() as connection:
            return sites.behind_node(connection, node_public_key)

    def offer(self, site: str) -> list[Document]:
        """What the site should now hold: campaigns, a witness for its nonce, grants, and receipts it has not filed."""
        with self.database.snapshot() as connection:
            known = sites.find(connection, site)
            heard = sites.last_state(connection, known)
            state = None if heard is None else heard[1]
            offered = [Document("campaign", body) for body in campaigns.open_ones(connection).values()]
            offered += self._witness(known, state)
            offered += [Document("grant", leave) for _, leave in batches.outstanding(connection, known)]
            filed = 0 if state is None else state.acknowledged
            offered += [Document("receipt", body) for body in batches.receipts_after(connection, site, filed)]
        return within_limits(offered)

    def answer(self, site: str, documents: Iterable[Document]) -> None:
        """Hear the site's state and grant its headers; whatever is not what it claims to be becomes an incident."""
        headers: list[tuple[BatchHeader, bytes]] = []
        for document in sorted(documents, key=lambda document: UP_KINDS.index(document.kind)):
            try:
                if document.kind == "state":
                    self._hear(site, document.body)
                else:
                    headers.append((self._read_header(site, document.body), document.body))
            except VerificationError as error:
                self._incident(site, error, document.body)
        # In the order of the chain, whatever the order of the files they came from: each continues the one before.
        for header, envelope in sorted(headers, key=lambda announced: announced[0].first):
            try:
                with self.database.transaction() as connection:
                    batches.grant(connection, sites.lock(connection, site), header, envelope, self.keys.signing)
            except VerificationError as error:
                self._incident(site, error, envelope)

    def wanted(self, site: str) -> list[str]:
        """SHA-256 of the sealed bytes of each batch granted and not committed yet, in the order of the chain.

        The list ends before one that did not verify: the same bytes never will, and what follows would be out of order.
        """
        with self.database.snapshot() as connection:
            names = [name for name, _ in batches.outstanding(connection, sites.find(connection, site))]
        return list(takewhile(lambda name: (site, name) not in self._hopeless, names))

    def submit(self, site: str, sealed: bytes) -> None:
        """Intake of one batch. What does not verify leaves an incident; the receipt goes down with the next offer."""
        try:
            intake.accept(sealed, site, self.database, signer=self.keys.signing, sealing_key=self.keys.sealing)
        except VerificationError as error:
            self._incident(site, error, sealed)
            if not isinstance(error, OutOfOrderError | NotGrantedError):
                self._hopeless.add((site, sealed_digest(sealed)))

    def finished(self) -> bool:
        """Whether no site that is enrolled and not suspended has anything left to send or to hear."""
        with self.database.snapshot() as connection:
            asked = set(campaigns.open_ones(connection))
            return all(
                _settled(known, sites.last_state(connection, known), asked)
                for known in sites.every(connection)
                if not known.suspended
            )

    def _witness(self, known: Site, state: SiteState | None) -> list[Document]:
        """How far the site's ledger is known here, for its last nonce: a ledger that is behind sees that it is."""
        if state is None or state.nonce is None:
            return []
        witness = Witness(
            nonce=state.nonce, site=known.site, ledger_id=known.ledger_id, sequence=known.sequence, head=known.head
        )
        return [Document("witness", close_envelope(WITNESS, canonical_bytes(witness), self.keys.signing))]

    def _hear(self, site: str, envelope: bytes) -> None:
        with self.database.transaction() as connection:
            known = sites.lock(connection, site)
            heard = sites.last_state(connection, known)
            # A courier repeats the last file until the agent writes another: no news, and no rollback if a batch that
            # it speaks of was committed meanwhile.
            if heard is not None and heard[0] == envelope:
                return
            state = _spoken(connection, known, envelope, STATE, SiteState)
            sites.keep_state(connection, site, envelope)
        # The state stays even if it contradicts: the witness for its nonce tells the site what is known here.
        if state.sequence < known.sequence:
            raise RollbackError(
                f"site {site} says that its ledger ends at entry {state.sequence}; {known.sequence} are known here. "
                "Ask whether it was restored from a backup"
            )
        if state.sequence == known.sequence and state.head != known.head:
            raise ForkError(
                f"site {site} has another entry {known.sequence} than the one known here. "
                "Ask whether its ledger was copied or restored"
            )

    def _read_header(self, site: str, envelope: bytes) -> BatchHeader:
        with self.database.snapshot() as connection:
            header = _spoken(connection, sites.find(connection, site), envelope, HEADER, BatchHeader)
        entries = header.last - header.first + 1
        if not (1 <= entries <= intake.MAX_ENTRIES and header.records <= entries):
            raise FormatError(f"a batch has 1 to {intake.MAX_ENTRIES} entries; the header announces another number")
        if header.sealed_bytes > MAX_BATCH_BYTES:
            raise FormatError(f"a sealed batch has at most {MAX_BATCH_BYTES} bytes; the header announces more")
        return header

    def _incident(self, site: str, error: VerificationError, found: bytes) -> None:
        with self.database.transaction() as connection:
            incidents.record(connection, site, IncidentCode(error.code), found)


def _spoken(
    connection: Connection, known: Site, envelope: bytes, payload_type: str, kind: type[AnySpoken]
) -> AnySpoken:
    """What a site says of itself: signed by the site that delivered it, about the ledger that was enrolled."""
    author, payload = open_envelope(envelope, payload_type, SiteKeyring(connection))
    document = parse(kind, payload)
    if not author == document.site == known.site:
        raise SignerError(
            f"site {known.site} delivered a document of site {document.site} signed by {author}; a site sends its own"
        )
    if document.ledger_id != known.ledger_id:
        raise CloneError(
            f"site {known.site} was enrolled with ledger {known.ledger_id[:12]} and speaks of "
            f"{document.ledger_id[:12]}. Ask whether a second agent runs"
        )
    return document


def _settled(known: Site, heard: tuple[bytes, SiteState] | None, asked: set[str]) -> bool:
    if heard is None:
        return False
    state = heard[1]
    answered = {
        answer.campaign for answer in state.campaigns if answer.code in (CampaignCode.COMPLETE, CampaignCode.REFUSED)
    }
    # The genesis entry has no receipt: the enrolment brought it.
    same = max(state.acknowledged, 1) == state.sequence == known.sequence
    return state.code is SiteCode.READY and asked <= answered and same


def open_centre(config_path: Path) -> Centre:
    """The centre that a server.toml describes.

    Raises:
        ConfigurationError: the file, a key or the database cannot be used as it stands.
    """
    config = read_config(config_path)
    keys = read_keys(config)
    database = open_database(config.database.url)
    try:
        with database.snapshot() as connection:
            central.stands_at(connection)
    except BaseException:
        database.close()
        raise
    return Centre(config, database, keys)


def enrol(centre: Centre, envelope: bytes) -> Site:
    """Take a site in, by the enrolment that it handed over through a channel you trust.

    Raises:
        FormatError, EnvelopeError, SignerError, ConfigurationError: as `sites.enrol`; nothing was changed.
    """
    with centre.database.transaction() as connection:
        return sites.enrol(connection, envelope)


def suspend_site(centre: Centre, site: str) -> None:
    """Stop talking to a site until a person has looked.

    Raises:
        ConfigurationError: no such site.
    """
    with centre.database.transaction() as connection:
        sites.suspend(connection, site)


def resume_site(centre: Centre, site: str) -> None:
    """Talk to a suspended site again.

    Raises:
        ConfigurationError: no such site.
    """
    with centre.database.transaction() as connection:
        sites.resume(connection, site)


def replace_node(centre: Centre, envelope: bytes) -> Site:
    """Know a site by another SuperNode; the one before it is a stranger's from then on.

    Raises:
        FormatError, EnvelopeError, SignerError, ConfigurationError: as `sites.replace_node`; nothing was changed.
    """
    with centre.database.transaction() as connection:
        return sites.replace_node(connection, envelope)


def publish(centre: Centre, campaign: Asked) -> str:
    """Sign a campaign or an evaluation and offer it to every site; its id.

    Raises:
        ConfigurationError, ParameterError: as `campaigns.publish`; nothing was changed.
    """
    with centre.database.transaction() as connection:
        return campaigns.publish(connection, campaign, centre.keys.signing)


def close_campaign(centre: Centre, campaign: str) -> None:
    """Offer a campaign no longer. Records that were drawn for it are still taken.

    Raises:
        ConfigurationError: no such campaign.
    """
    with centre.database.transaction() as connection:
        campaigns.close(connection, campaign)
