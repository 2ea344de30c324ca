"""A centre on disk, and sites in memory that are enrolled in it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from hospital import Hospital, a_campaign
from world import World

from server import centre as centres
from server.centre import open_centre
from server.config import initialise


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    config = initialise(tmp_path / "centre", "Aggregation centre")
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
