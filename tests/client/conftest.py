"""Fresh sites for the tests that ask for them; their files are closed afterwards."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.client.world import MakeWorld, World, make_world


@pytest.fixture
def new_world(tmp_path: Path) -> Iterator[MakeWorld]:
    """Makes sites; `make_world` says what of."""
    made: list[World] = []

    def make(*campaigns: object, folder: Path = tmp_path / "north", **fields: object) -> World:
        made.append(make_world(folder, *campaigns, **fields))  # type: ignore[arg-type]
        return made[-1]

    yield make
    for world in made:
        world.site.close()


@pytest.fixture
def world(new_world: MakeWorld) -> World:
    """A site with thirty phantoms, a pinned centre and a policy in force; no campaign was offered yet."""
    return new_world()
