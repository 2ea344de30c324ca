"""Sites as the centre knows them: whose keys they are, and how far their ledgers have been committed."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePublicKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    PublicFormat,
    load_pem_public_key,
    load_ssh_public_key,
)
from sqlalchemy import Connection, RowMapping, bindparam, insert, or_, select, update

from ldp_client.errors import ConfigurationError, EnvelopeError, SignerError
from ldp_client.wire.canonical import parse
from ldp_client.wire.chain import ZERO, entry_body, link
from ldp_client.wire.document import file_name
from ldp_client.wire.envelope import ENROLMENT, STATE, Keys, OneKey, open_envelope, open_introduction
from ldp_client.wire.exchange import CentralEntry, Enrolment, SiteState
from ldp_client.wire.signing import key_id
from server.store import central, tables


@dataclass(frozen=True)
class Site:
    """One enrolled site: `sequence` and `head` are the last of its entries that the centre has committed."""

    site: str
    name: str
    ledger_id: str
    signing_key: bytes
    officer_keys: tuple[bytes, ...]
    node_key: str
    sequence: int
    head: str
    suspended: bool

    @property
    def signer(self) -> OneKey:
        """The site's own key and no other."""
        return OneKey(self.site, self.signing_key)

    @property
    def officers(self) -> Keys:
        """The keys that may sign this site's policies and approvals."""
        return Keys({f"officer {number}": key for number, key in enumerate(self.officer_keys, start=1)})


@dataclass(frozen=True)
class SiteKeyring:
    """The signing keys of all enrolled sites."""

    connection: Connection

    def owner(self, key: bytes) -> tuple[str, bytes]:
        row = self.connection.execute(_OWNER, {"key": key.hex()}).one_or_none()
        if row is None:
            raise EnvelopeError("the signer is not an enrolled site; enrol it first, or compare its key's fingerprint")
        return row.site, bytes.fromhex(row.signing_key)


# Built once: building a statement takes longer than running it.
_OWNER = select(tables.sites.c.site, tables.sites.c.signing_key).where(tables.sites.c.key_id == bindparam("key"))
_LOCKED = select(tables.sites).where(tables.sites.c.site == bindparam("name")).with_for_update()


def enrol(connection: Connection, envelope: bytes) -> Site:
    """Take a site in: its genesis entry becomes the first of its entries here.

    Raises:
        FormatError, EnvelopeError: not an enrolment, or not signed by the key that its genesis names.
        SignerError: the enrolment speaks for another site than its genesis.
        ConfigurationError: no officer, an unusable node key, or a site, ledger or key that is enrolled already.
    """
    enrolment = parse(Enrolment, open_introduction(envelope, ENROLMENT, _named_signer))
    genesis = enrolment.genesis
    if genesis.site != enrolment.site:
        raise SignerError(f"the enrolment is for site {enrolment.site}, its ledger belongs to site {genesis.site}")
    if not genesis.officer_keys:
        raise ConfigurationError(f"site {enrolment.site} names no privacy officer; nobody could approve a campaign")
    node_key = canonical_node_key(enrolment.node_key)
    _refuse_known(connection, enrolment, node_key)
    body = entry_body(genesis)
    head = link(genesis.ledger_id, 1, ZERO, body)
    connection.execute(
        insert(tables.sites).values(
            site=enrolment.site,
            name=enrolment.name,
            enrolment=envelope,
            ledger_id=genesis.ledger_id,
            signing_key=genesis.signing_key,
            key_id=key_id(bytes.fromhex(genesis.signing_key)).hex(),
            officer_keys=" ".join(genesis.officer_keys),
            node_key=node_key,
            sequence=1,
            head=head,
            records=0,
            refused=0,
            suspended=0,
        )
    )
    connection.execute(
        insert(tables.entries).values(site=enrolment.site, sequence=1, kind=genesis.kind, body=body, head=head)
    )
    central.append(
        connection,
        CentralEntry(
            kind="enrolment",
            site=enrolment.site,
            ledger_id=genesis.ledger_id,
            first=1,
            sequence=1,
            head=head,
            reference=file_name(envelope),
        ),
    )
    return find(connection, enrolment.site)


def _named_signer(payload: bytes) -> tuple[str, bytes]:
    enrolment = parse(Enrolment, payload)
    return f"site {enrolment.site}", bytes.fromhex(enrolment.genesis.signing_key)


def _refuse_known(connection: Connection, enrolment: Enrolment, node_key: str) -> None:
    columns = tables.sites.c
    known = select(columns.site).where(
        or_(
            columns.site == enrolment.site,
            columns.ledger_id == enrolment.genesis.ledger_id,
            columns.signing_key == enrolment.genesis.signing_key,
            columns.node_key == node_key,
        )
    )
    row = connection.execute(known).first()
    if row is not None:
        raise ConfigurationError(
            f"site {enrolment.site} cannot be enrolled: its name, its ledger or one of its keys is already that of "
            f"site {row.site}. Every site has its own"
        )


def canonical_node_key(text: str) -> str:
    """A Flower node's public key in one spelling: SubjectPublicKeyInfo as PEM. OpenSSH keys lose their comment.

    Raises:
        ConfigurationError: not an elliptic curve public key in OpenSSH or PEM form.
    """
    raw = text.strip().encode()
    try:
        key = load_ssh_public_key(raw) if raw.startswith(b"ecdsa-") else load_pem_public_key(raw)
    except (ValueError, UnsupportedAlgorithm):
        key = None
    if not isinstance(key, EllipticCurvePublicKey):
        raise ConfigurationError(
            "a node key is a NIST elliptic curve public key in OpenSSH or PEM form; found something else. "
            "Make one with `ssh-keygen -t ecdsa -b 384`"
        )
    return key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()


def openssh_node_key(site: Site) -> bytes:
    """The site's node key in the form that Flower registers."""
    return load_pem_public_key(site.node_key.encode()).public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH)


def find(connection: Connection, site: str) -> Site:
    """An enrolled site.

    Raises:
        ConfigurationError: there is none of that name.
    """
    return _site(connection.execute(select(tables.sites).where(tables.sites.c.site == site)).mappings().first(), site)


def lock(connection: Connection, site: str) -> Site:
    """As `find`, and nobody else moves it until the transaction ends."""
    return _site(connection.execute(_LOCKED, {"name": site}).mappings().first(), site)


def every(connection: Connection) -> Iterator[Site]:
    """All sites, by name."""
    for row in connection.execute(select(tables.sites).order_by(tables.sites.c.site)).mappings().all():
        yield _site(row, row["site"])


def behind_node(connection: Connection, node_key: str) -> str | None:
    """The site whose SuperNode has this key; None for a stranger's, and for a suspended site's."""
    try:
        canonical = canonical_node_key(node_key)
    except ConfigurationError:
        return None
    query = select(tables.sites.c.site).where(tables.sites.c.node_key == canonical, tables.sites.c.suspended == 0)
    return connection.execute(query).scalar_one_or_none()


def suspend(connection: Connection, site: str) -> None:
    """Stop talking to a site until a person has looked. What it has sent stays."""
    lock(connection, site)
    connection.execute(update(tables.sites).where(tables.sites.c.site == site).values(suspended=1))


def resume(connection: Connection, site: str) -> None:
    """Talk to a suspended site again: a person has looked."""
    lock(connection, site)
    connection.execute(update(tables.sites).where(tables.sites.c.site == site).values(suspended=0))


def replace_node(connection: Connection, envelope: bytes) -> Site:
    """Know a site by another SuperNode, as a new enrolment says that the site's own key has signed.

    Raises:
        FormatError, EnvelopeError: not an enrolment, or not signed by the key that its genesis names.
        SignerError: the enrolment is of another ledger or key than the site that is enrolled.
        ConfigurationError: no such site, an unusable node key, or one that is another site's.
    """
    enrolment = parse(Enrolment, open_introduction(envelope, ENROLMENT, _named_signer))
    known = lock(connection, enrolment.site)
    genesis = enrolment.genesis
    if (genesis.site, genesis.ledger_id, genesis.signing_key) != (known.site, known.ledger_id, known.signing_key.hex()):
        raise SignerError(
            f"the enrolment is of another ledger or key than site {known.site} was enrolled with; "
            "only its own key can name its new node"
        )
    node_key = canonical_node_key(enrolment.node_key)
    columns = tables.sites.c
    owner = connection.execute(select(columns.site).where(columns.node_key == node_key)).scalar_one_or_none()
    if owner is not None and owner != known.site:
        raise ConfigurationError(f"the node key is that of site {owner} already; every site has its own")
    connection.execute(update(tables.sites).where(columns.site == known.site).values(node_key=node_key))
    return find(connection, known.site)


def last_state(connection: Connection, site: Site) -> tuple[bytes, SiteState] | None:
    """What the site last said of itself, in its envelope and read."""
    query = select(tables.states.c.envelope).where(tables.states.c.site == site.site)
    envelope = connection.execute(query).scalar_one_or_none()
    if envelope is None:
        return None
    return envelope, parse(SiteState, open_envelope(envelope, STATE, site.signer)[1])


def keep_state(connection: Connection, site: str, envelope: bytes) -> None:
    """What the site says of itself now; what it said before is forgotten."""
    changed = connection.execute(update(tables.states).where(tables.states.c.site == site).values(envelope=envelope))
    if changed.rowcount == 0:
        connection.execute(insert(tables.states).values(site=site, envelope=envelope))


def _site(row: RowMapping | None, site: str) -> Site:
    if row is None:
        raise ConfigurationError(f"no site {site} is enrolled here; enrol it first, or compare the spelling")
    return Site(
        site=row["site"],
        name=row["name"],
        ledger_id=row["ledger_id"],
        signing_key=bytes.fromhex(row["signing_key"]),
        officer_keys=tuple(bytes.fromhex(key) for key in row["officer_keys"].split()),
        node_key=row["node_key"],
        sequence=row["sequence"],
        head=row["head"],
        suspended=bool(row["suspended"]),
    )
