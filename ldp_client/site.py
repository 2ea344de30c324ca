"""A site as it lies on disk, and how one is made.

agent.toml        IT's configuration                       keys/site.key      signs for the site
centre.json       the centre's public keys, pinned         keys/secret.key    hashes patient ids; never rotates
ledger.sqlite3    the site ledger                          keys/officer.key   the officer's, on their machine
spool/            outbox (the agent writes), inbox (the courier writes)
"""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from pydantic import ValidationError

from ldp_client.config import AgentConfig, SiteSection, read_toml
from ldp_client.errors import ConfigurationError, FormatError, WaitingError
from ldp_client.imaging.dataset import DataSet, read_dataset
from ldp_client.imaging.xray import PatientKey
from ldp_client.ledger.store import SiteLedger
from ldp_client.new_file import sync_folder
from ldp_client.spool import Inbox, Outbox
from ldp_client.wire.canonical import canonical_bytes, digest, parse
from ldp_client.wire.chain import Genesis
from ldp_client.wire.envelope import ENROLMENT, close_envelope
from ldp_client.wire.evaluation import Asked
from ldp_client.wire.exchange import CentreCard, Enrolment
from ldp_client.wire.signing import SigningKey, create_secret, read_secret

SITE_KEY, NEW_KEY = "site.key", "site.key.new"
NODE_KEY_KIND = "ecdsa-sha2-nistp384 "
COMMITMENT_LABEL = "ldp-glow/patient-secret"


@dataclass(frozen=True)
class Site:
    """An opened site folder: everything that the agent holds and nobody else may read."""

    folder: Path
    config: AgentConfig
    ledger: SiteLedger
    signer: SigningKey
    secret: bytes
    outbox: Outbox
    inbox: Inbox

    @property
    def centre(self) -> CentreCard:
        """The centre's pinned keys.

        Raises:
            ConfigurationError: no centre was pinned yet, or the file is not a centre's card.
        """
        path = self.folder / "centre.json"
        try:
            return parse(CentreCard, path.read_bytes())
        except OSError as error:
            raise ConfigurationError(
                f"no centre is pinned: {path} cannot be read ({error.strerror}). "
                "Run `ldp-client site pin FILE --fingerprint ...` with what the centre reads out by telephone"
            ) from error
        except FormatError as error:
            raise ConfigurationError(f"{path} is not the centre's card as the centre wrote it: {error}") from error

    def path(self, configured: Path) -> Path:
        """A path of agent.toml, relative to its folder."""
        return configured if configured.is_absolute() else self.folder / configured

    def create_spool(self) -> None:
        """Make the spool's folders, where they are not there yet."""
        self.outbox.create()
        self.inbox.create()

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Nobody else works for this site during the block: one agent, or an officer who settles charges.

        Raises:
            WaitingError: somebody does.
        """
        with alone(self.folder, self.config.site.id):
            yield

    def close(self) -> None:
        """Let go of the ledger."""
        self.ledger.close()


@contextmanager
def alone(folder: Path, site: str) -> Iterator[None]:
    """Nobody else works for the site in a folder during the block.

    Raises:
        WaitingError: somebody does.
    """
    with (folder / "agent.lock").open("ab") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise WaitingError(f"an agent works for site {site} already; stop it first, or let it do this") from error
        yield


def create_site(folder: Path, site: str, name: str, officer_keys: tuple[bytes, ...]) -> Site:
    """A new site: keys, an empty ledger with its genesis entry, a spool, an agent.toml to edit.

    agent.toml comes last. Where a crash left a folder without one, the same call takes up what is there already.

    Raises:
        ConfigurationError: the folder already holds a site or another one's ledger, the id or the name cannot be one,
            or there is no officer.
    """
    try:
        SiteSection(id=site, name=name)
    except ValidationError:
        raise ConfigurationError(
            "a site's id is up to 63 of a-z, 0-9 and hyphens, its name 1 to 100 characters of one line; "
            f"found {site!r} and {name!r}"
        ) from None
    if not officer_keys:
        raise ConfigurationError(
            "a site needs at least one officer's public key; make one with `ldp-client officer key`"
        )
    if (folder / "agent.toml").exists():
        raise ConfigurationError(f"{folder} holds a site already; choose another folder")
    (folder / "keys").mkdir(parents=True, mode=0o700, exist_ok=True)
    key, secret = _secret(folder / "keys" / SITE_KEY), _secret(folder / "keys" / "secret.key")
    genesis = Genesis(
        site=site,
        ledger_id=os.urandom(32).hex(),
        signing_key=SigningKey(key).public_key.hex(),
        officer_keys=tuple(officer.hex() for officer in officer_keys),
        secret_commitment=digest(COMMITMENT_LABEL, secret),
    )
    _begin_ledger(folder / "ledger.sqlite3", genesis)
    # What JSON escapes in a text, TOML reads the same way.
    toml_name = json.dumps(name, ensure_ascii=False)
    part = folder / "agent.toml.part"
    with part.open("w", encoding="utf-8") as file:
        file.write(
            f'[site]\nid = "{site}"\nname = {toml_name}\n\n[data_set]\nfolder = "xrays"\nlabels = "xrays/labels.csv"\n'
        )
        file.flush()
        os.fsync(file.fileno())
    part.rename(folder / "agent.toml")
    sync_folder(folder)
    return open_site(folder)


def _secret(path: Path) -> bytes:
    """A new secret, or the one that was made here before a crash; an empty file is what is left of none."""
    if path.is_file() and path.stat().st_size:
        return read_secret(path)
    path.unlink(missing_ok=True)
    create_secret(path, os.urandom(32))
    return read_secret(path)


def _begin_ledger(path: Path, genesis: Genesis) -> None:
    """Begin the ledger, unless it was begun with these keys before a crash."""
    try:
        SiteLedger.create(path, genesis).close()
    except ConfigurationError:
        with SiteLedger.open(path) as ledger:
            begun = ledger.genesis
        if begun != genesis.model_copy(update={"ledger_id": begun.ledger_id}):
            raise


def open_site(folder: Path) -> Site:
    """The site that lies in a folder.

    Raises:
        ConfigurationError: something is missing, readable by others, or belongs to another site.
    """
    config = read_toml(folder / "agent.toml", AgentConfig)
    ledger = SiteLedger.open(folder / "ledger.sqlite3")
    try:
        signer = signing_key(folder / "keys", ledger)
        secret = read_secret(folder / "keys" / "secret.key")
        genesis = ledger.genesis
        if genesis.site != config.site.id or ledger.keys().signing != signer.public_key.hex():
            raise ConfigurationError(
                f"the ledger belongs to site {genesis.site} and its key; agent.toml or keys/site.key are another site's"
            )
        if genesis.secret_commitment != digest(COMMITMENT_LABEL, secret):
            raise ConfigurationError(
                "keys/secret.key is not the secret this ledger was begun with: patients would be counted anew. "
                "Restore it from its backup"
            )
    except BaseException:
        ledger.close()
        raise
    spool = folder / "spool"
    return Site(folder, config, ledger, signer, secret, Outbox(spool), Inbox(spool))


def signing_key(keys: Path, ledger: SiteLedger) -> SigningKey:
    """The key that lies there; after a crash between a rotation's entry and its key file, the new one, put in place."""
    new = keys / NEW_KEY
    if new.exists() and SigningKey(read_secret(new)).public_key.hex() == ledger.keys().signing:
        new.replace(keys / SITE_KEY)
        sync_folder(keys)
    return SigningKey(read_secret(keys / SITE_KEY))


def data_set(site: Site, campaign: Asked) -> DataSet:
    """The site's X-rays with a campaign's labels and unit; patients whose ids were merged are one unit."""
    read = read_dataset(
        site.path(site.config.data_set.folder),
        site.path(site.config.data_set.labels),
        unit=campaign.unit,
        secret=site.secret,
        label_names=campaign.label_names,
    )
    root = site.ledger.roots()
    merged = tuple(replace(item, patient=PatientKey(root(item.patient))) for item in read.items)
    return replace(read, items=merged)


def enrolment(site: Site, node_key: str) -> bytes:
    """The signed introduction that is handed to the centre by a trusted channel.

    Raises:
        ConfigurationError: `node_key` is no public key; the private one lies beside it and must not be handed over.
    """
    node_key = node_key.strip()
    if not node_key.startswith(NODE_KEY_KIND) or len(node_key) > 1000 or not node_key.isprintable():
        raise ConfigurationError(
            f"a node's public key is one line that begins with {NODE_KEY_KIND.strip()}; found something else. "
            "Name the .pub file that `ldp-client node key` made"
        )
    document = Enrolment(
        site=site.config.site.id, name=site.config.site.name, genesis=site.ledger.genesis, node_key=node_key
    )
    return close_envelope(ENROLMENT, canonical_bytes(document), site.signer)
