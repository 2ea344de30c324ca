"""A site's signing key at the centre: taken in anew, or believed no more."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace

from sqlalchemy import Connection, delete, insert, or_, select, union_all, update

from ldp_client.errors import ChainError, ConfigurationError, FormatError, SignerError, VerificationError
from ldp_client.wire.chain import Genesis, KeyRotation, parse_entry
from ldp_client.wire.document import file_name
from ldp_client.wire.exchange import CentralEntry
from ldp_client.wire.rotation import KeysInForce, Rotation, open_rotation, site_named_in
from ldp_client.wire.signing import key_id
from server.store import central, sites, tables
from server.store.sites import Site


def take_in(connection: Connection, body: bytes) -> Site:
    """Believe a site's new signing key, and its old one no more, as a rotation of the site's ledger says.

    The entry itself arrives with the ledger; it is handed over before, because nothing that the new key has signed is
    believed until then. The same one again changes nothing. What the old key had announced and never sent is set aside:
    the site signs it anew.

    Raises:
        FormatError, EnvelopeError: not a rotation, or not signed by an officer of the site and the new key.
        SignerError: of another ledger than the one that was enrolled, or of an officer's key.
        VerificationError: it replaces another key than the one in force.
        ConfigurationError: no such site, or a key that was somebody's here before.
    """
    entry = parse_entry(body)
    if not isinstance(entry, KeyRotation):
        raise FormatError("this file is no rotation of a key; ask the site for what `ldp-client site rotation` writes")
    known = sites.lock(connection, site_named_in(entry))
    rotations = tables.rotations.c
    taken = select(rotations.site).where(rotations.site == known.site, rotations.body == body)
    if connection.execute(taken).first() is not None:
        return known
    # Its ledger's entries may say less than was taken in already: the key in force is the one that was.
    in_force = replace(said(connection, known), signing=known.signing_key.hex())
    rotation = open_rotation(entry, in_force, known.site, known.ledger_id, None)
    if rotation.role != "site":
        raise SignerError("the rotation is of an officer's key: it is taken in when its entry arrives with the ledger")
    _refuse_known(connection, rotation)
    place, _ = central.append(
        connection,
        CentralEntry(
            kind="rotation",
            site=known.site,
            ledger_id=known.ledger_id,
            sequence=known.sequence,
            head=known.head,
            reference=file_name(body),
        ),
    )
    connection.execute(
        insert(tables.rotations).values(
            central_sequence=place,
            site=known.site,
            sequence=known.sequence,
            old_key=rotation.old_key,
            new_key=rotation.new_key,
            body=body,
        )
    )
    _set_aside(connection, known, place)
    # What the site last said of itself, it said under the old key.
    connection.execute(delete(tables.states).where(tables.states.c.site == known.site))
    connection.execute(
        update(tables.sites)
        .where(tables.sites.c.site == known.site)
        .values(signing_key=rotation.new_key, key_id=key_id(bytes.fromhex(rotation.new_key)).hex(), revoked=0)
    )
    return sites.find(connection, known.site)


def revoke(connection: Connection, site: str) -> Site:
    """Believe nothing any more that a site's signing key has signed; a rotation puts another key in its place.

    Revoking it again changes nothing.

    Raises:
        ConfigurationError: no such site.
    """
    known = sites.lock(connection, site)
    if not known.revoked:
        central.append(
            connection,
            CentralEntry(
                kind="revocation",
                site=known.site,
                ledger_id=known.ledger_id,
                sequence=known.sequence,
                head=known.head,
                reference=key_id(known.signing_key).hex(),
            ),
        )
        connection.execute(update(tables.sites).where(tables.sites.c.site == site).values(revoked=1))
    return sites.find(connection, site)


def bodies(connection: Connection) -> Iterator[bytes]:
    """The rotations taken in, in their order."""
    query = select(tables.rotations.c.body).order_by(tables.rotations.c.central_sequence)
    yield from connection.execute(query).scalars()


def ever(connection: Connection) -> list[tuple[str, bytes]]:
    """(site, key) of every signing key that is or was in force."""
    former, columns = tables.rotations.c, tables.sites.c
    both = union_all(select(former.site, former.old_key), select(columns.site, columns.signing_key))
    return [(site, bytes.fromhex(key)) for site, key in connection.execute(both)]


def said(connection: Connection, known: Site) -> KeysInForce:
    """The keys in force as the site's committed entries say, which every reader of them finds."""
    columns = tables.entries.c
    first = select(columns.body).where(columns.site == known.site, columns.sequence == 1)
    genesis = parse_entry(connection.execute(first).scalar_one())
    if not isinstance(genesis, Genesis):
        raise ChainError(f"entry 1 of site {known.site} is no genesis; restore the centre's database from its backup")
    in_force = KeysInForce.of(genesis)
    rotated = select(columns.sequence, columns.body).where(columns.site == known.site, columns.kind == "key_rotation")
    for row in connection.execute(rotated.order_by(columns.sequence)):
        entry = parse_entry(row.body)
        if isinstance(entry, KeyRotation):
            # An entry that no officer has signed is evidence, and no rotation.
            with suppress(VerificationError):
                in_force = in_force.after(open_rotation(entry, in_force, known.site, known.ledger_id, row.sequence))
    return in_force


def _refuse_known(connection: Connection, rotation: Rotation) -> None:
    columns, rotations = tables.sites.c, tables.rotations.c
    new = rotation.new_key
    owner = connection.execute(select(columns.site).where(columns.signing_key == new)).first()
    used = connection.execute(select(rotations.site).where(or_(rotations.old_key == new, rotations.new_key == new)))
    if owner is not None or used.first() is not None:
        raise ConfigurationError(
            f"the new key of site {rotation.site} was a site's key here before; every site has its own, and none twice"
        )


def _set_aside(connection: Connection, known: Site, rotation: int) -> None:
    columns = tables.headers.c
    waiting = (columns.site == known.site) & (columns.last > known.sequence)
    kept = select(columns.site, columns.header, columns.first, columns.last, columns.envelope).where(waiting)
    for row in connection.execute(kept).all():
        connection.execute(insert(tables.superseded).values(**row._asdict(), rotation=rotation))
    connection.execute(delete(tables.headers).where(waiting))
