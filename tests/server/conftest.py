"""A centre on disk, and sites in memory that are enrolled in it.

Whatever uses `world` is one contract for both databases: it runs on SQLite, and again on PostgreSQL in the set marked
`postgres` (`make test-postgres`).
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import count
from pathlib import Path

import pytest
from hospital import Hospital, a_campaign
from world import World

from examples.private_postgres import PrivatePostgres, private_postgres
from server import centre as centres
from server.centre import open_centre
from server.config import initialise
from server.store.database import open_database

TEMPLATE = "template_of_a_centre"
_NUMBERS = count(1)


@pytest.fixture(scope="session")
def postgres() -> Iterator[PrivatePostgres]:
    """A server of our own; where none is installed, every test that asks for it fails and says how to install one."""
    with private_postgres() as server:
        # The tables are made once and copied.
        open_database(server.create_database(TEMPLATE)).close()
        yield server


@pytest.fixture(params=["sqlite", pytest.param("postgres", marks=pytest.mark.postgres)])
def database_url(request: pytest.FixtureRequest) -> Iterator[str | None]:
    """Where the centre keeps its tables; None stands for the default, a SQLite file beside its server.toml."""
    if request.param == "sqlite":
        yield None
        return
    server: PrivatePostgres = request.getfixturevalue("postgres")
    name = f"centre_{next(_NUMBERS)}"
    yield server.create_database(name, TEMPLATE)
    server.drop_database(name)


@pytest.fixture
def world(tmp_path: Path, database_url: str | None) -> Iterator[World]:
    config = initialise(tmp_path / "centre", "Aggregation centre", database_url=database_url)
    centre = open_centre(config)
    campaign = a_campaign()
    centres.publish(centre, campaign)
    yield World(config, centre, campaign)
    centre.close()


@pytest.fixture
def anne(world: World) -> Hospital:
    """An enrolled site."""
    return world.join("anne")


@pytest.fixture
def ready(world: World, anne: Hospital) -> tuple[Hospital, int]:
    """An enrolled site whose officer has approved the campaign, and the number of the approval."""
    return anne, anne.approve(world.campaign, anne.adopt())
