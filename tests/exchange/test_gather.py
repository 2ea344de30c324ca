"""The gathering against couriers that are called directly: a grid without processes, a clock that sleeping moves."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import pytest
from flwr.app import Array, ArrayRecord, ConfigRecord, Context, Error, Message, RecordDict
from flwr.clientapp import ClientApp
from flwr.proto.node_pb2 import NodeInfo
from flwr.serverapp import Grid
from flwr.supercore.inflatable.inflatable_utils import inflate_object_from_contents, validate_object_content
from flwr.supercore.run import Run
from google.protobuf.message import DecodeError

from ldp_client.courier import answer, courier_app
from ldp_client.errors import ConfigurationError
from ldp_client.spool import Inbox, Outbox
from ldp_client.wire.document import Document, file_name
from server.gather import Pace, gather, server_app, somebody_gathers

Mangle = Callable[[Message, Message], Message]


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        assert seconds > 0
        self.now += seconds


@dataclass
class Node:
    app: ClientApp
    mangle: Mangle = lambda _request, reply: reply
    silent: bool = False
    broken: Exception | None = None
    stuck: threading.Event | None = None
    """Its first reply is announced and does not come before this is set."""


@dataclass
class SmallGrid(Grid):
    """Nodes whose replies are there two seconds after the request, as with a real SuperNode."""

    clock: Clock
    nodes: dict[int, Node]
    pushes: list[list[Message]] = field(default_factory=list)
    pulls: int = 0
    _ready: dict[str, tuple[float, Node, Message]] = field(default_factory=dict)

    def set_run(self, run: Run) -> None: ...

    @property
    def run(self) -> Run:
        raise NotImplementedError

    def create_message(self, *_: object, **__: object) -> Message:
        raise NotImplementedError

    def get_node_ids(self) -> Iterable[int]:
        return list(self.nodes)

    def get_nodes(self) -> Iterable[NodeInfo]:
        return [NodeInfo(node_id=number, public_key=f"key {number}".encode()) for number in self.nodes]

    def push_messages(self, messages: Iterable[Message]) -> Iterable[str]:
        batch = list(messages)
        self.pushes.append(batch)
        ids = []
        for message in batch:
            message_id = f"m{sum(len(push) for push in self.pushes)}-{len(ids)}"
            message.metadata.__dict__["_message_id"] = message_id
            ids.append(message_id)
            node = self.nodes[message.metadata.dst_node_id]
            context = Context(run_id=1, node_id=1, node_config={}, state=RecordDict(), run_config={})
            if not node.silent:
                reply = node.mangle(message, answer(node.app, message, context))
                self._ready[message_id] = (self.clock() + 2.0, node, reply)
        return ids

    def pull_messages(self, message_ids: Iterable[str]) -> Iterable[Message]:
        self.pulls += 1
        replies = []
        for message_id in message_ids:
            if message_id in self._ready and self._ready[message_id][0] <= self.clock():
                _, node, reply = self._ready.pop(message_id)
                if node.stuck is not None:
                    stuck, node.stuck = node.stuck, None
                    assert stuck.wait(60)
                if node.broken is not None:
                    raise node.broken
                replies.append(reply)
        return replies

    def send_and_receive(self, messages: Iterable[Message], *, timeout: float | None = None) -> Iterable[Message]:
        raise NotImplementedError

    def offers_to(self, node: int) -> list[Message]:
        return [m for push in self.pushes for m in push if m.metadata.dst_node_id == node and "offer" in m.content]


@dataclass
class MemoryCentre:
    """Knows `key N` as site-N; a header's body is the name of its batch."""

    sites: tuple[int, ...]
    answers: dict[str, list[Document]] = field(default_factory=dict)
    batches: dict[str, list[bytes]] = field(default_factory=dict)
    expected: int = 1

    def site_of(self, node_public_key: str) -> str | None:
        number = int(node_public_key.removeprefix("key "))
        return f"site-{number}" if number in self.sites else None

    def offer(self, site: str) -> list[Document]:
        return [Document("campaign", b"campaign for " + site.encode())] + [
            Document("receipt", file_name(body).encode()) for body in self.batches.get(site, [])
        ]

    def answer(self, site: str, documents: list[Document]) -> None:
        self.answers[site] = documents

    def wanted(self, site: str) -> list[str]:
        names = [document.body.decode() for document in self.answers.get(site, []) if document.kind == "header"]
        stored = {file_name(body) for body in self.batches.get(site, [])}
        return [name for name in names if name not in stored]

    def submit(self, site: str, sealed: bytes) -> None:
        self.batches.setdefault(site, []).append(sealed)

    def finished(self) -> bool:
        return all(len(self.batches.get(f"site-{number}", [])) >= self.expected for number in self.sites)


@dataclass
class World:
    clock: Clock
    grid: SmallGrid
    centre: MemoryCentre
    outboxes: dict[int, Outbox]
    inboxes: dict[int, Inbox]

    def gather(self, seconds: float = 120.0, pace: Pace | None = None) -> None:
        gather(
            self.grid,
            self.centre,
            pace=pace,
            stop=lambda: self.clock() > seconds,
            clock=self.clock,
            sleep=self.clock.sleep,
        )


@pytest.fixture
def world(tmp_path: Path) -> World:
    """Two sites with one batch each."""
    clock, outboxes, inboxes, nodes = Clock(), {}, {}, {}
    for number in (1, 2):
        outboxes[number], inboxes[number] = Outbox(tmp_path / str(number)), Inbox(tmp_path / str(number))
        outboxes[number].create()
        inboxes[number].create()
        name = outboxes[number].put("batch", f"sealed {number}".encode())
        outboxes[number].put("header", name.encode())
        nodes[number] = Node(courier_app(outboxes[number], inboxes[number]))
    return World(clock, SmallGrid(clock, nodes), MemoryCentre((1, 2)), outboxes, inboxes)


def swapped_nonce(_request: Message, reply: Message) -> Message:
    for record in reply.content.config_records.values():
        record["nonce"] = bytes(32)
    return reply


def test_offers_go_down_and_batches_come_up(world: World) -> None:
    world.gather()
    assert world.centre.batches == {"site-1": [b"sealed 1"], "site-2": [b"sealed 2"]}
    assert world.inboxes[1].documents() == [Document("campaign", b"campaign for site-1")]
    assert world.clock() < 10


def test_all_sites_are_asked_in_one_push(world: World) -> None:
    world.gather()
    assert [message.metadata.dst_node_id for message in world.grid.pushes[0]] == [1, 2]


def test_all_pulls_of_a_site_are_pushed_at_once(world: World) -> None:
    world.centre.sites, world.centre.expected = (1,), 70
    for number in range(69):
        name = world.outboxes[1].put("batch", f"more {number}".encode())
        world.outboxes[1].put("header", name.encode())
    world.gather()
    assert len(world.centre.batches["site-1"]) == 70
    pulls = [push for push in world.grid.pushes if "pull" in push[0].content]
    assert [len(push) for push in pulls] == [3]


def test_a_finished_centre_asks_nothing(world: World) -> None:
    world.centre.expected = 0
    world.gather()
    assert world.grid.pushes == []


def test_requests_bear_fresh_nonces_and_an_end(world: World) -> None:
    world.centre.expected = 2
    world.gather(seconds=30, pace=Pace(ttl=77.0))
    messages = [message for push in world.grid.pushes for message in push]
    nonces = {next(iter(message.content.config_records.values()))["nonce"] for message in messages}
    assert len(nonces) == len(messages)
    assert {message.metadata.ttl for message in messages} == {77.0}


def test_a_node_that_is_not_enrolled_is_asked_nothing(world: World) -> None:
    world.centre.sites = (1,)
    world.gather()
    assert world.grid.offers_to(2) == []


def test_an_idle_service_asks_ever_more_rarely(world: World) -> None:
    world.centre.expected = 2
    world.gather(seconds=600)
    # One round trip of 2 s and a wait of 10 s: 50 in 600 s, and a few more at the beginning.
    assert 45 <= len(world.grid.offers_to(1)) <= 60
    assert world.grid.pulls < 2 * 60 * 21


def test_new_documents_are_asked_for_at_once_again(world: World) -> None:
    world.gather()
    assert world.clock() < 6


def test_one_site_that_is_silent_holds_up_no_other(world: World) -> None:
    world.grid.nodes[1].silent = True
    world.gather(seconds=60)
    assert world.centre.batches == {"site-2": [b"sealed 2"]}


def test_a_reply_that_never_comes_whole_holds_up_no_other_site_and_its_own_for_a_while_only(world: World) -> None:
    """What a SuperNode that is killed half-way leaves: Flower waits for the rest of its reply for minutes."""
    stuck = world.grid.nodes[1].stuck = threading.Event()
    arrived: dict[str, float] = {}
    submit = world.centre.submit

    def submit_at(site: str, sealed: bytes) -> None:
        arrived[site] = world.clock()
        submit(site, sealed)

    world.centre.submit = submit_at  # type: ignore[method-assign]
    try:
        world.gather(pace=Pace(fetching=0.05))
        assert world.centre.batches == {"site-1": [b"sealed 1"], "site-2": [b"sealed 2"]}
        assert arrived["site-2"] < 10 < 20 < arrived["site-1"] < 40
    finally:
        stuck.set()


def test_a_site_that_never_ends_a_reply_is_fetched_from_so_often_only(world: World) -> None:
    waiting, never = threading.Semaphore(0), threading.Event()

    def pull(message_ids: Iterable[str]) -> Iterable[Message]:
        waiting.release()
        assert never.wait(60)
        return []

    world.grid.pull_messages = pull  # type: ignore[method-assign]
    try:
        world.gather(seconds=100, pace=Pace(fetching=0.01, fetches=3, ttl=1000.0))
        begun = 0
        while waiting.acquire(blocking=False):
            begun += 1
        assert begun == 2 * 3  # of two sites
    finally:
        never.set()


@pytest.mark.parametrize(
    "fault", [ValueError, TypeError, KeyError, AttributeError, DecodeError, IndexError, RecursionError, MemoryError]
)
def test_one_site_whose_reply_cannot_be_inflated_holds_up_no_other(
    world: World, fault: type[Exception], caplog: pytest.LogCaptureFixture
) -> None:
    """Flower raises DecodeError for a garbage ConfigRecord, IndexError for a Message without a child."""
    world.grid.nodes[1].broken = fault("PATIENT")
    world.gather(seconds=60)
    assert world.centre.batches == {"site-2": [b"sealed 2"]}
    assert f"site site-1: to be asked again ({fault.__name__})" in caplog.text
    assert "PATIENT" not in caplog.text


@pytest.mark.parametrize(("kind", "error"), [("ConfigRecord", DecodeError), ("Message", IndexError)])
def test_flower_raises_what_no_courier_sends(kind: str, error: type[Exception]) -> None:
    """Why the gathering catches everything: these bytes pass Flower's own check of an object."""
    body = b"\xff garbage" if kind == "ConfigRecord" else b""
    content = f"{kind}  {len(body)}".encode() + b"\0" + body
    validate_object_content(content)
    with pytest.raises(error):
        inflate_object_from_contents("id", {"id": content})


@pytest.mark.parametrize("fault", [httpx.ConnectError, httpx.ReadTimeout])
def test_a_superlink_that_does_not_answer_ends_the_gathering(world: World, fault: type[httpx.TransportError]) -> None:
    """It is no site's fault; the service sees the run end and starts another."""
    world.grid.nodes[1].broken = fault("down")
    with pytest.raises(fault, match="down"):
        world.gather(seconds=60)


def test_a_fault_in_handling_one_site_holds_up_no_other(world: World, caplog: pytest.LogCaptureFixture) -> None:
    class Touchy(MemoryCentre):
        def answer(self, site: str, documents: list[Document]) -> None:
            if site == "site-1":
                raise RuntimeError("PATIENT")
            super().answer(site, documents)

    world.centre = Touchy((1, 2))
    world.gather(seconds=30)
    assert world.centre.batches == {"site-2": [b"sealed 2"]}
    assert "site site-1: to be asked again (RuntimeError)" in caplog.text
    assert "PATIENT" not in caplog.text


def test_a_request_without_a_reply_is_made_again_after_its_end(world: World) -> None:
    world.grid.nodes[1].silent = True
    pace = Pace(ttl=5.0)

    class Waking(Clock):
        def sleep(self, seconds: float) -> None:
            super().sleep(seconds)
            world.grid.nodes[1].silent = self.now < 4

    world.clock = world.grid.clock = Waking()
    world.gather(pace=pace)
    assert world.centre.batches["site-1"] == [b"sealed 1"]
    assert 5 < world.clock() < 15


@pytest.mark.parametrize("lost", ["offer", "pull"])
def test_a_question_that_died_with_a_courier_is_asked_anew_long_before_its_end(
    world: World, lost: str, caplog: pytest.LogCaptureFixture
) -> None:
    """The node stays online; the first question of a kind is delivered to nobody, the ones after it are answered."""
    dying, push = iter([lost]), world.grid.push_messages

    def push_messages(messages: Iterable[Message]) -> Iterable[str]:
        kept = list(messages)
        node = world.grid.nodes[1]
        ids: list[str] = []
        for message in kept:
            mine = message.metadata.dst_node_id == 1 and message.metadata.message_type == f"query.{lost}"
            node.silent = mine and next(dying, None) == lost
            ids += push([message])
            node.silent = False
        return ids

    world.grid.push_messages = push_messages  # type: ignore[method-assign]
    world.gather(pace=Pace(ttl=300.0, patience=20.0))
    assert world.centre.batches["site-1"] == [b"sealed 1"]
    assert 20 < world.clock() < 40
    assert caplog.text.count("site site-1: to be asked again (unanswered)") == 1


def test_a_site_that_stays_silent_is_offered_anew_and_its_questions_end(world: World) -> None:
    world.grid.nodes[1].silent = True
    world.gather(seconds=600, pace=Pace(ttl=60.0, patience=20.0))
    assert 25 <= len(world.grid.offers_to(1)) <= 31


def test_a_site_that_is_offline_is_asked_nothing_new(world: World) -> None:
    world.grid.nodes[1].silent = True
    nodes = world.grid.get_nodes

    def get_nodes() -> Iterable[NodeInfo]:
        return [node for node in nodes() if node.node_id != 1 or world.clock() < 5]

    world.grid.get_nodes = get_nodes  # type: ignore[method-assign]
    world.gather(seconds=200)
    assert len(world.grid.offers_to(1)) == 1


def test_an_error_made_by_the_superlink_is_told_apart_by_the_request(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    failures = iter([True])

    def unavailable(request: Message, reply: Message) -> Message:
        if next(failures, False):
            reply = Message(Error(5, "NODE_UNAVAILABLE"), reply_to=request)
            reply.metadata.__dict__["_src_node_id"] = 1
        return reply

    world.grid.nodes[2].mangle = unavailable
    world.gather()
    assert "site site-2: to be asked again (exchange)" in caplog.text
    assert world.centre.batches["site-2"] == [b"sealed 2"]


def test_a_reply_without_the_nonce_of_its_request_is_refused(world: World, caplog: pytest.LogCaptureFixture) -> None:
    world.grid.nodes[1].mangle = swapped_nonce
    world.gather(seconds=20)
    assert "site-1" not in world.centre.answers
    assert "site site-1: to be asked again (signature)" in caplog.text


def test_a_reply_in_another_nodes_name_is_refused(world: World) -> None:
    def forged(_request: Message, reply: Message) -> Message:
        reply.metadata.__dict__["_src_node_id"] = 1
        return reply

    world.grid.nodes[2].mangle = forged
    world.gather(seconds=20)
    assert set(world.centre.answers) == {"site-1"}


def test_a_reply_to_another_sites_request_is_passed_over(world: World, caplog: pytest.LogCaptureFixture) -> None:
    def stolen(_request: Message, reply: Message) -> Message:
        reply.metadata.__dict__["_reply_to_message_id"] = "m2-0"
        return reply

    world.grid.nodes[2].mangle = stolen
    world.gather(seconds=20)
    assert "site site-2: a reply to no request of ours was passed over" in caplog.text
    assert set(world.centre.answers) == {"site-1"}


def test_other_bytes_than_those_asked_for_are_not_submitted(world: World, caplog: pytest.LogCaptureFixture) -> None:
    def exchanged(request: Message, reply: Message) -> Message:
        if "pull" in request.content:
            name = next(iter(reply.content.array_records["sealed"]))
            reply.content["sealed"] = ArrayRecord({name: Array("uint8", (5,), "sealed", b"other")})
        return reply

    world.grid.nodes[1].mangle = exchanged
    world.gather(seconds=20)
    assert "site-1" not in world.centre.batches
    assert "site site-1: to be asked again (parse)" in caplog.text


def test_batches_that_nobody_asked_for_are_not_submitted(world: World) -> None:
    def more(request: Message, reply: Message) -> Message:
        if "pull" in request.content:
            arrays = dict(reply.content.array_records["sealed"])
            arrays[file_name(b"extra")] = Array("uint8", (5,), "sealed", b"extra")
            reply.content["sealed"] = ArrayRecord(arrays)
        return reply

    world.grid.nodes[1].mangle = more
    world.gather()
    assert world.centre.batches["site-1"] == [b"sealed 1"]


@pytest.mark.parametrize(
    "record",
    [
        {"version": 2},
        {"state": b"no list"},
        {"state": ["no bytes"]},
        {"header": [b"x" * (1 << 20)] * 9},
        {"header": [b"x" * ((1 << 20) + 1)]},
    ],
)
def test_a_malformed_answer_is_refused(
    world: World, record: dict[str, object], caplog: pytest.LogCaptureFixture
) -> None:
    def malformed(_request: Message, reply: Message) -> Message:
        for name, value in reply.content.config_records.items():
            reply.content[name] = ConfigRecord({**value, **record})  # type: ignore[dict-item]
        return reply

    world.grid.nodes[1].mangle = malformed
    world.gather(seconds=20)
    assert "site-1" not in world.centre.answers
    assert "site site-1: to be asked again (parse)" in caplog.text


def test_logs_name_sites_and_codes_only(world: World, caplog: pytest.LogCaptureFixture) -> None:
    world.outboxes[1].put("state", b"CONTENT")
    with caplog.at_level(logging.DEBUG):
        world.gather()
    assert "CONTENT" not in caplog.text


def test_a_node_that_comes_later_is_visited(world: World) -> None:
    late = world.grid.nodes.pop(2)

    class Later(Clock):
        def sleep(self, seconds: float) -> None:
            super().sleep(seconds)
            if self.now > 5:
                world.grid.nodes.setdefault(2, late)

    world.clock = world.grid.clock = Later()
    world.gather()
    assert world.centre.batches["site-2"] == [b"sealed 2"]


def test_the_server_app_opens_the_centre_of_its_run_setting(world: World, tmp_path: Path) -> None:
    opened: list[Path] = []

    def open_centre(path: Path) -> MemoryCentre:
        opened.append(path)
        world.centre.expected = 0
        assert somebody_gathers(path.parent)
        return world.centre

    app = server_app(open_centre)
    config = {"server-config": str(tmp_path / "server.toml")}
    app(world.grid, Context(run_id=1, node_id=1, node_config={}, state=RecordDict(), run_config=config))
    assert opened == [tmp_path / "server.toml"]
    assert not somebody_gathers(tmp_path)


def test_a_run_without_its_setting_is_refused(world: World) -> None:
    app = server_app(lambda _path: world.centre)
    with pytest.raises(ConfigurationError, match=r"run setting server-config must be the path of server\.toml"):
        app(world.grid, Context(run_id=1, node_id=1, node_config={}, state=RecordDict(), run_config={}))
