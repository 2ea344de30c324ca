"""Replies fetched from the SuperLink beside the gathering, so that nobody waits for a site that is not done sending.

Flower announces a reply before its parts have come, and fetching it waits for the last of them: three minutes where a
SuperNode was killed half-way, longer where a line is slow or a site sends on purpose what never ends.
"""

from __future__ import annotations

from collections.abc import Iterable
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass

from flwr.app import Message
from flwr.serverapp import Grid

MOST = 1024
"""Threads that fetch at once. They are made when they are needed, and one fetches for many sites in turn."""


@dataclass(frozen=True, eq=False)
class Pull:
    """The replies to some requests, on their way."""

    message_ids: tuple[str, ...]
    replies: Future[list[Message]]

    @property
    def done(self) -> bool:
        """Whether the replies, or the reason why there are none, are here."""
        return self.replies.done()


class Pulling:
    """Fetches replies, each site's in a thread of its own."""

    def __init__(self, grid: Grid) -> None:
        self._grid, self._threads = grid, ThreadPoolExecutor(MOST, thread_name_prefix="pull")

    def begin(self, message_ids: Iterable[str]) -> Pull:
        """Fetch what has been announced of the replies to these requests."""
        asked = tuple(message_ids)
        return Pull(asked, self._threads.submit(lambda: list(self._grid.pull_messages(asked))))

    def end(self) -> None:
        """Wait for nothing that is still on its way."""
        self._threads.shutdown(wait=False, cancel_futures=True)


def await_all(pulls: Iterable[Pull], seconds: float) -> None:
    """Wait until all are done, or for so long."""
    wait([pull.replies for pull in pulls], timeout=seconds)
