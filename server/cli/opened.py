"""What the centre's commands share: the centre's folder, opened."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer
from sqlalchemy import Connection

from ldp_client.wire.campaign import Campaign, campaign_id
from ldp_client.wire.evaluation import Evaluation, asked_id
from server.centre import Centre, open_centre
from server.config import CONFIG_NAME
from server.store import sites
from server.store.queries import records_of

State = Annotated[Path, typer.Option("--state", envvar="LDP_CENTRE", help="The centre's folder.")]
HERE = Path()


@contextmanager
def opened(state: Path) -> Iterator[Centre]:
    """The centre in a folder, closed afterwards."""
    centre = open_centre(state / CONFIG_NAME)
    try:
        yield centre
    finally:
        centre.close()


def check_enrolled(connection: Connection, site: str | None) -> None:
    """Return if this is an enrolled site, or none was named: a mistyped one has no entries either.

    Raises:
        ConfigurationError: no such site.
    """
    if site is not None:
        sites.find(connection, site)


def payloads_of(centre: Centre, campaign: Campaign) -> list[bytes]:
    """The stored records of a campaign, of all sites."""
    return stored(centre, campaign)[0]


def stored(centre: Centre, campaign: Campaign) -> tuple[list[bytes], list[str]]:
    """The stored records of a campaign, and the site of each."""
    with centre.database.snapshot() as connection:
        found = [(record.payload, record.site) for record in records_of(connection, campaign_id(campaign))]
    return [payload for payload, _ in found], [site for _, site in found]


def answers_to(centre: Centre, evaluation: Evaluation) -> dict[str, bytes]:
    """The stored answer of each site that has answered."""
    with centre.database.snapshot() as connection:
        return {record.site: record.payload for record in records_of(connection, asked_id(evaluation))}
