"""Runs intake and dies, like a power cut, right before or right after the commit. Arguments: toml, site, file, when."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sqlalchemy import Connection, create_engine

from server import intake
from server.centre import open_centre
from server.store.database import Database


class Dying(Database):
    """Ends the process where the transaction ends."""

    def __init__(self, database: Database, when: str) -> None:
        super().__init__(create_engine("sqlite://"))
        self.database, self.when = database, when

    @contextmanager
    def transaction(self) -> Iterator[Connection]:
        with self.database.transaction() as connection:
            yield connection
            if self.when == "before":
                os._exit(9)
        os._exit(9)


def main(config: str, site: str, sealed: str, when: str) -> None:
    centre = open_centre(Path(config))
    keys = centre.keys
    intake.accept(
        Path(sealed).read_bytes(),
        site,
        Dying(centre.database, when),
        signer=keys.signing,
        sealing_key=keys.sealing,
    )


if __name__ == "__main__":
    main(*sys.argv[1:])
