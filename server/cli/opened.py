"""What the centre's commands share: the centre's folder, opened."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer

from ldp_client.wire.campaign import Campaign, campaign_id
from server.centre import Centre, open_centre
from server.config import CONFIG_NAME
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


def payloads_of(centre: Centre, campaign: Campaign) -> list[bytes]:
    """The stored records of a campaign, of all sites."""
    with centre.database.snapshot() as connection:
        return [record.payload for record in records_of(connection, campaign_id(campaign))]
