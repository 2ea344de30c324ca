"""The ServerApp: offers every site what it should hold, asks for what is wanted, hands on what comes back.

It decides nothing: what to offer, what is wanted and what a submission is worth is the `Centre`'s to say. Flower
delivers a message once and never again, so every reply is handled when it arrives, and asking again is always safe.
"""

from __future__ import annotations

import contextlib
import fcntl
import logging
import os
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import takewhile
from pathlib import Path
from typing import Protocol

import httpx
from flwr.app import Array, ConfigRecord, Context, Message, RecordDict
from flwr.serverapp import Grid, ServerApp

from ldp_client.errors import ConfigurationError, EnvelopeError, ExchangeError, FormatError, LdpError
from ldp_client.wire.document import (
    DOWN_KINDS,
    EXCHANGE_VERSION,
    MAX_BATCH_BYTES,
    MAX_DOCUMENTS,
    UP_KINDS,
    Document,
    file_name,
    within_limits,
)
from server.pulling import Pull, Pulling, await_all

OFFER, PULL = "query.offer", "query.pull"
SERVER_CONFIG, UNTIL_FINISHED = "server-config", "until-finished"
LOCK_NAME = "gather.lock"
_log = logging.getLogger(__name__)


class Centre(Protocol):
    """What the gathering asks and tells; implemented over the database."""

    def site_of(self, node_public_key: str) -> str | None:
        """The site enrolled with this node key (PEM), or None."""

    def offer(self, site: str) -> list[Document]:
        """Everything that this site should now hold in its inbox."""

    def answer(self, site: str, documents: list[Document]) -> None:
        """Take in what a site says of itself: states and headers."""

    def wanted(self, site: str) -> list[str]:
        """Names (SHA-256 of the sealed bytes) of granted batches that are not committed yet."""

    def submit(self, site: str, sealed: bytes) -> None:
        """Intake of one batch, durable when it returns; a site's fault never raises."""

    def finished(self) -> bool:
        """Whether every site says that it has nothing more to send."""


@dataclass(frozen=True)
class Pace:
    """How often, how much and how long. Times in seconds."""

    poll: float = 0.1
    nodes: float = 1.0
    """Between two looks for nodes that came or went."""
    first_wait: float = 0.5
    """Before a site that had nothing new is asked again; doubles up to `longest_wait`."""
    longest_wait: float = 10.0
    ttl: float = 300.0
    """How long a request stays valid."""
    patience: float = 20.0
    """After this silence a site that is online is offered anew, whatever it still owes: Flower delivers once, and what
    a killed courier or SuperNode had been asked is gone."""
    batches_per_pull: int = 32
    fetching: float = 0.5
    """For so long all wait for the replies of one; after that it is fetched beside the others'."""
    fetches: int = 4
    """Of one site at once."""


@dataclass
class _Visit:
    """How things stand with one site."""

    site: str
    node: int
    due: float
    wait: float
    online: bool = True
    quiet_since: float = float("-inf")
    """When it was asked, or answered, last."""
    pending: dict[str, _Request] = field(default_factory=dict)
    pulls: list[Pull] = field(default_factory=list)
    last: list[Document] | None = None
    progress: bool = False
    failed: bool = False


@dataclass(frozen=True)
class _Request:
    kind: str
    nonce: bytes
    until: float
    names: tuple[str, ...] = ()


def gather(
    grid: Grid,
    centre: Centre,
    *,
    pace: Pace | None = None,
    stop: Callable[[], bool] = lambda: False,
    until_finished: bool = True,
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
    source: Callable[[int], bytes] = os.urandom,
) -> None:
    """Exchange with all sites that are online, each at its own pace, until `stop` says so.

    With `until_finished` also until the centre is finished; a service goes on, for what comes later.
    """
    gathering = _Gathering(grid, centre, Pace() if pace is None else pace, clock, source)
    try:
        gathering.run(stop, sleep, until_finished)
    finally:
        gathering.end()


class _Gathering:
    def __init__(
        self, grid: Grid, centre: Centre, pace: Pace, clock: Callable[[], float], source: Callable[[int], bytes]
    ) -> None:
        self._grid, self._centre, self._pace, self._clock, self._source = grid, centre, pace, clock, source
        self._visits: dict[str, _Visit] = {}
        self._next_look = float("-inf")
        self._pulling = Pulling(grid)

    def run(self, stop: Callable[[], bool], sleep: Callable[[float], None], until_finished: bool) -> None:
        ended = until_finished and self._centre.finished()
        while not ended and not stop():
            self._look_for_nodes()
            self._push(self._offers())
            ended = self._collect() and until_finished and self._centre.finished()
            if not ended:
                sleep(self._rest())

    def end(self) -> None:
        """Let go of what is still on its way."""
        self._pulling.end()

    def _look_for_nodes(self) -> None:
        """Visit the enrolled sites whose node is online; nothing is asked of the others."""
        now = self._clock()
        if now < self._next_look:
            return
        self._next_look = now + self._pace.nodes
        online: dict[str, int] = {}
        for node in self._grid.get_nodes():
            site = self._centre.site_of(node.public_key.decode("ascii", "replace"))
            if site is not None:
                online.setdefault(site, node.node_id)
        for site, node_id in online.items():
            known = self._visits.get(site)
            if known is None or known.node != node_id:
                self._visits[site] = _Visit(site, node_id, due=now, wait=self._pace.first_wait)
        for site, visit in self._visits.items():
            visit.online = site in online
        # A site that goes keeps its pending requests until they end: its reply may be on its way already.
        for site in [site for site, visit in self._visits.items() if site not in online and not visit.pending]:
            del self._visits[site]

    def _offers(self) -> list[tuple[_Visit, _Request, RecordDict]]:
        """An offer to every site that is due and has nothing pending, or has been silent for too long."""
        now, patience = self._clock(), self._pace.patience
        return [
            self._compose_offer(visit)
            for visit in self._visits.values()
            if (visit.online and visit.quiet_since + patience <= now if visit.pending else visit.due <= now)
        ]

    def _compose_offer(self, visit: _Visit) -> tuple[_Visit, _Request, RecordDict]:
        documents = within_limits(self._centre.offer(visit.site))
        lists: dict[str, list[bytes]] = {kind: [] for kind in DOWN_KINDS}
        for document in documents:
            lists[document.kind].append(document.body)
        request = self._request(OFFER)
        record = ConfigRecord({"version": EXCHANGE_VERSION, "nonce": request.nonce, **lists})
        return visit, request, RecordDict({"offer": record})

    def _pulls(self, visit: _Visit, wanted: list[str]) -> list[tuple[_Visit, _Request, RecordDict]]:
        """All that is wanted of a site at once, in messages of a few batches: Flower is slow between messages.

        A courier ends a reply at 64 MiB; what it left out is wanted again after the next offer.
        """
        step = self._pace.batches_per_pull
        pulls = []
        for start in range(0, min(len(wanted), MAX_DOCUMENTS), step):
            request = self._request(PULL, wanted[start : start + step])
            record = ConfigRecord({"version": EXCHANGE_VERSION, "nonce": request.nonce, "batch": list(request.names)})
            pulls.append((visit, request, RecordDict({"pull": record})))
        return pulls

    def _request(self, kind: str, names: Iterable[str] = ()) -> _Request:
        # Fresh for each request: it makes the message's id, a hash of its content, one that no other site can guess.
        return _Request(kind, self._source(32), self._clock() + self._pace.ttl, tuple(names))

    def _push(self, requests: list[tuple[_Visit, _Request, RecordDict]]) -> None:
        if not requests:
            return
        messages = [
            Message(content, dst_node_id=visit.node, message_type=request.kind, ttl=self._pace.ttl)
            for visit, request, content in requests
        ]
        ids: list[str | None] = list(self._grid.push_messages(messages))
        for (visit, request, _), message_id in zip(requests, ids, strict=True):
            visit.quiet_since = self._clock()
            if message_id is not None:
                visit.pending[message_id] = request
            else:
                self._failed(visit, "not_pushed")
                if request.kind == OFFER:
                    self._settle(visit)

    def _collect(self) -> bool:
        """Handle what has come, site by site; returns whether anything came."""
        came = False
        visits = list(self._visits.values())
        await_all([pull for visit in visits for pull in self._fetch(visit)], self._pace.fetching)
        for visit in visits:
            waited = bool(visit.pending)
            for pull in [pull for pull in visit.pulls if pull.done]:
                visit.pulls.remove(pull)
                for reply in self._fetched(visit, pull):
                    came = True
                    self._handle(visit, reply)
            now = self._clock()
            self._forget(visit, [key for key, request in visit.pending.items() if request.until < now], "expired")
            if waited and not visit.pending:
                self._settle(visit)
        return came

    def _fetch(self, visit: _Visit) -> list[Pull]:
        """Begin to fetch what is asked of one site and not being fetched: none costs another site its replies."""
        fetched = {message_id for pull in visit.pulls for message_id in pull.message_ids}
        wanted = [message_id for message_id in visit.pending if message_id not in fetched]
        if not wanted or len(visit.pulls) >= self._pace.fetches:
            return []
        pull = self._pulling.begin(wanted)
        visit.pulls.append(pull)
        return [pull]

    def _fetched(self, visit: _Visit, pull: Pull) -> list[Message]:
        try:
            return pull.replies.result()
        except httpx.HTTPError:
            # The SuperLink itself does not answer: no site's doing.
            raise
        except Exception as error:
            # What Flower cannot inflate can raise anything: DecodeError, IndexError, RecursionError have been seen.
            self._forget(visit, [key for key in visit.pending if key in pull.message_ids], type(error).__name__)
            return []

    def _handle(self, visit: _Visit, reply: Message) -> None:
        # Replies that the SuperLink makes itself (a node is gone, a time ran out) bear its own node id: only the id of
        # the request tells whose they are. An id that was never sent to this site is nobody's.
        message_id = reply.metadata.reply_to_message_id
        earlier = list(takewhile(lambda asked: asked != message_id, visit.pending))
        request = visit.pending.pop(message_id, None)
        visit.quiet_since = self._clock()
        if request is None:
            _log.warning("site %s: a reply to no request of ours was passed over", visit.site)
            return
        try:
            if reply.has_error():
                raise ExchangeError(f"no answer, Flower error {reply.error.code}")
            if reply.metadata.src_node_id != visit.node:
                raise EnvelopeError("the reply bears another node's name")
            if request.kind == OFFER:
                record = _record(reply, "answer", request.nonce)
                # A courier answers one question after the other: what was asked before this is lost, and asked anew.
                self._forget(visit, earlier, "unanswered")
                self._take_answer(visit, record)
            else:
                self._take_batches(visit, request, reply)
        except LdpError as error:
            self._failed(visit, error.code)
        except Exception as error:
            # Whatever one site sent, the others go on; its text may hold what must not be logged.
            self._failed(visit, type(error).__name__)

    def _take_answer(self, visit: _Visit, record: ConfigRecord) -> None:
        documents = [Document(kind, body) for kind in UP_KINDS for body in _bodies(record, kind)]
        if len(within_limits(documents)) < len(documents):
            raise FormatError("the answer holds more than one answer may")
        self._centre.answer(visit.site, documents)
        if documents != visit.last:
            visit.last, visit.progress = documents, True
        self._push(self._pulls(visit, self._centre.wanted(visit.site)))

    def _take_batches(self, visit: _Visit, request: _Request, reply: Message) -> None:
        _record(reply, "batches", request.nonce)
        arrays: Mapping[str, Array] = reply.content.array_records.get("sealed") or {}
        for name in request.names:
            array = arrays.get(name)
            if array is None:
                continue
            if len(array.data) > MAX_BATCH_BYTES or file_name(array.data) != name:
                raise FormatError("a batch is not the one that was asked for")
            # Durable before the next: what a crash leaves out is asked for again.
            self._centre.submit(visit.site, array.data)
            visit.progress = True

    def _settle(self, visit: _Visit) -> None:
        """A round has ended: at once again while things move, ever more rarely while they do not or while they fail."""
        if visit.progress and not visit.failed:
            visit.wait = self._pace.first_wait
            visit.due = self._clock()
        else:
            visit.due = self._clock() + visit.wait
            visit.wait = min(2 * visit.wait, self._pace.longest_wait)
        visit.progress = visit.failed = False

    def _forget(self, visit: _Visit, message_ids: list[str], reason: str) -> None:
        for message_id in message_ids:
            del visit.pending[message_id]
            self._failed(visit, reason)

    def _failed(self, visit: _Visit, reason: str) -> None:
        _log.warning("site %s: to be asked again (%s)", visit.site, reason)
        visit.failed = True

    def _rest(self) -> float:
        if any(visit.pending for visit in self._visits.values()):
            return self._pace.poll
        nearest = min([self._next_look, *(visit.due for visit in self._visits.values())])
        return max(nearest - self._clock(), self._pace.poll)


def _record(reply: Message, name: str, nonce: bytes) -> ConfigRecord:
    record = reply.content.config_records.get(name)
    if record is None or record.get("version") != EXCHANGE_VERSION:
        raise FormatError(f"a {name} of version {EXCHANGE_VERSION} was expected; found another message")
    if record.get("nonce") != nonce:
        raise EnvelopeError("the reply does not bear the nonce of its request")
    return record


def _bodies(record: ConfigRecord, kind: str) -> list[bytes]:
    values = record.get(kind, [])
    if not isinstance(values, list) or len(values) > MAX_DOCUMENTS:
        raise FormatError(f"{kind} must be a list of at most {MAX_DOCUMENTS} entries; found something else")
    bodies = [value for value in values if isinstance(value, bytes)]
    if len(bodies) < len(values):
        raise FormatError(f"{kind} must be a list of bytes; found something else")
    return bodies


def server_app(open_centre: Callable[[Path], Centre]) -> ServerApp:
    """The ServerApp that a bundle names; its run setting `server-config` is the path of server.toml."""
    app = ServerApp()

    @app.main()
    def main(grid: Grid, context: Context) -> None:
        path = context.run_config.get(SERVER_CONFIG)
        if not isinstance(path, str) or not path:
            raise ConfigurationError(f"the run setting {SERVER_CONFIG} must be the path of server.toml; found none")
        until_finished = context.run_config.get(UNTIL_FINISHED) is not False
        with _alone(Path(path).parent):
            gather(grid, open_centre(Path(path)), until_finished=until_finished)

    return app


def somebody_gathers(folder: Path) -> bool:
    """Whether a gathering works for the centre in a folder.

    It holds a lock, of which the kernel lets go however its process ends; Flower takes minutes to notice a SIGKILL.
    """
    with (folder / LOCK_NAME).open("ab") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False


@contextlib.contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Gather beside nobody: one that an earlier life of the centre left behind ends first."""
    with (folder / LOCK_NAME).open("ab") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
