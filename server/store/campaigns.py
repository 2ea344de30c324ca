"""Campaigns and evaluations that this centre has published, in its own envelope."""

from __future__ import annotations

from functools import lru_cache

from sqlalchemy import Connection, bindparam, insert, select, update

from ldp_client.errors import ConfigurationError
from ldp_client.wire.campaign import Campaign
from ldp_client.wire.canonical import canonical_bytes
from ldp_client.wire.envelope import CAMPAIGN, EVALUATION, OneKey, close_envelope
from ldp_client.wire.evaluation import Asked, asked_id, open_asked
from ldp_client.wire.exchange import CentralEntry
from ldp_client.wire.signing import Signer
from server.store import central, tables

# Built once: building a statement takes longer than running it.
_NAMES = select(tables.campaigns.c.campaign)
_ENVELOPE = select(tables.campaigns.c.envelope).where(tables.campaigns.c.campaign == bindparam("name"))


def publish(connection: Connection, campaign: Asked, signer: Signer) -> str:
    """Sign a campaign or an evaluation and offer it from now on; its id.

    Raises:
        ConfigurationError: the name was used before. A name stands for one campaign, in every ledger, for good.
        ParameterError: cap * epsilon is more than any unit can spend.
    """
    name, is_campaign = asked_id(campaign), isinstance(campaign, Campaign)
    if connection.execute(select(tables.campaigns).where(tables.campaigns.c.name == campaign.name)).first() is not None:
        raise ConfigurationError(f"a campaign named {campaign.name} was published before; give this one another name")
    sequence, _ = central.append(connection, CentralEntry(kind="campaign", reference=name))
    connection.execute(
        insert(tables.campaigns).values(
            campaign=name,
            name=campaign.name,
            envelope=close_envelope(CAMPAIGN if is_campaign else EVALUATION, canonical_bytes(campaign), signer),
            unit=campaign.unit,
            micro_epsilon_per_record=_cost(campaign),
            micro_epsilon_per_unit=campaign.bound_per_unit.micro_epsilon,
            central_sequence=sequence,
            open=1,
            kind="campaign" if is_campaign else "evaluation",
        )
    )
    return name


def _cost(asked: Asked) -> int:
    """Of one record, or of one answer for each unit."""
    return asked.micro_epsilon_per_record if isinstance(asked, Campaign) else asked.micro_epsilon_per_unit


def close(connection: Connection, campaign: str) -> None:
    """Offer a campaign no longer. Records that were drawn for it are still taken: their charge is spent.

    Raises:
        ConfigurationError: no such campaign.
    """
    closed = connection.execute(update(tables.campaigns).where(tables.campaigns.c.campaign == campaign).values(open=0))
    if closed.rowcount == 0:
        raise ConfigurationError(f"this centre has published no campaign {campaign[:12]}; compare the id")


def open_ones(connection: Connection) -> dict[str, bytes]:
    """The envelopes of the campaigns on offer, by id, in the order of their publication."""
    columns = tables.campaigns.c
    query = select(columns.campaign, columns.envelope).where(columns.open == 1).order_by(columns.central_sequence)
    return {row.campaign: row.envelope for row in connection.execute(query)}


def every(connection: Connection, centre: OneKey) -> dict[str, Asked]:
    """All campaigns and evaluations ever published, by id."""
    names = set(connection.execute(_NAMES).scalars())
    return published(connection, names, centre)


def published(connection: Connection, wanted: set[str], centre: OneKey) -> dict[str, Asked]:
    """Those of the wanted campaigns that this centre has published, by id; its own signature is checked again.

    Raises:
        EnvelopeError: a row of the database is not what this centre signed.
    """
    found: dict[str, Asked] = {}
    # A site can name thousands that nobody ever published.
    for name in sorted(wanted & set(connection.execute(_NAMES).scalars())):
        found[name] = _opened(connection.execute(_ENVELOPE, {"name": name}).scalar_one(), centre)
    return found


@lru_cache(maxsize=256)
def _opened(envelope: bytes, centre: OneKey) -> Asked:
    """What exactly these bytes say; every batch asks for the same few."""
    return open_asked(envelope, centre)
