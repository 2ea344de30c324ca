"""The centre's own gathering, timed from the first offer to the last batch; its intake can be left out."""

from __future__ import annotations

import time
from pathlib import Path

from flwr.app import Context
from flwr.serverapp import Grid, ServerApp

from ldp_client.wire.document import Document, file_name
from server.centre import Centre, open_centre
from server.gather import gather

SITES = 2


class Measured:
    """A centre that is finished when every site's granted batches have come, and writes the seconds that took."""

    def __init__(self, centre: Centre, file: Path, empty: bool) -> None:
        self._centre, self._file, self._empty = centre, file, empty
        self._started, self._taken = 0.0, set[str]()
        self._left: dict[str, list[str]] = {}

    def site_of(self, node_public_key: str) -> str | None:
        return self._centre.site_of(node_public_key)

    def offer(self, site: str) -> list[Document]:
        self._started = self._started or time.perf_counter()
        return self._centre.offer(site)

    def answer(self, site: str, documents: list[Document]) -> None:
        self._centre.answer(site, documents)

    def wanted(self, site: str) -> list[str]:
        self._left[site] = [name for name in self._centre.wanted(site) if name not in self._taken]
        return self._left[site]

    def submit(self, site: str, sealed: bytes) -> None:
        if not self._empty:
            self._centre.submit(site, sealed)
        self._taken.add(file_name(sealed))

    def finished(self) -> bool:
        ended = len(self._left) == SITES and all(self._taken.issuperset(names) for names in self._left.values())
        if ended:
            self._file.write_text(repr(time.perf_counter() - self._started), encoding="utf-8")
        return ended


app = ServerApp()


@app.main()
def main(grid: Grid, context: Context) -> None:
    """One gathering; the run's settings name server.toml and the file for the figure."""
    settings = context.run_config
    centre = open_centre(Path(str(settings["server-config"])))
    try:
        gather(grid, Measured(centre, Path(str(settings["measured"])), bool(settings["empty-intake"])))
    finally:
        centre.close()
