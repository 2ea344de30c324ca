"""The courier's runner on the stock SuperNode's own API and loop; the SuperLink behind it is scripted."""

import hashlib
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import uvicorn
from flwr.app import ConfigRecord, Context, Message, RecordDict
from flwr.proto.message_pb2 import ObjectTree
from flwr.supercore.corestate import in_memory_corestate
from flwr.supercore.fab import Fab
from flwr.supercore.inflatable.inflatable_object import get_all_nested_objects, get_object_tree
from flwr.supercore.object_store import ObjectStoreFactory
from flwr.supercore.run import Run, RunNotRunningException
from flwr.supernode import start_client_internal as stock
from flwr.supernode.main import create_app
from flwr.supernode.nodestate import NodeStateFactory

from ldp_client import courier
from ldp_client.courier import CourierConfig, Tasks
from ldp_client.processes import free_port
from ldp_client.spool import Inbox, Outbox

RUN, NODE, SECRET = 7, 11, b"s" * 32


@dataclass(frozen=True)
class Request:
    """A message on its way to a site: without its content, and the parts that this travels in."""

    message: Message
    tree: ObjectTree
    parts: dict[str, bytes]

    @property
    def name(self) -> str:
        return self.message.metadata.message_id


def request(tree: ObjectTree, parts: dict[str, bytes]) -> Request:
    message = Message(RecordDict(), dst_node_id=NODE, message_type="query.offer")
    message.metadata.__dict__.update(_run_id=RUN, _message_id=tree.object_id)
    return Request(message, tree, parts)


def offer(number: int) -> Request:
    record = ConfigRecord({"version": 1, "nonce": bytes([number]) * 32})
    message = Message(RecordDict({"offer": record}), dst_node_id=NODE, message_type="query.offer")
    message.metadata.__dict__["_run_id"] = RUN
    parts = {name: part.deflate() for name, part in get_all_nested_objects(message).items()}
    return request(get_object_tree(message), parts)


def unreadable() -> Request:
    """Whole, and nothing that Flower could make a message of."""
    body = b"Message  4\x00oops"
    name = hashlib.sha256(body).hexdigest()
    return request(ObjectTree(object_id=name), {name: body})


class Link:
    """A SuperLink that hands out messages, each with what becomes of its parts, and keeps the replies."""

    def __init__(self, *requests: tuple[Request, Callable[[bytes], bytes]]) -> None:
        self.waiting, self.replies = list(requests), list[Message]()
        self._parts: dict[str, tuple[bytes, Callable[[bytes], bytes]]] = {}

    def receive(self) -> tuple[Message, ObjectTree] | None:
        if not self.waiting:
            return None
        request, fate = self.waiting.pop(0)
        self._parts |= {name: (part, fate) for name, part in request.parts.items()}
        return request.message, request.tree

    def pull_object(self, _run: int, name: str) -> bytes:
        part, fate = self._parts[name]
        return fate(part)

    def send(self, message: Message, _tree: ObjectTree, _seconds: float) -> tuple[set[str], str]:
        self.replies.append(message)
        return set(), "session"

    def await_replies(self, count: int, seconds: float = 20.0) -> list[str]:
        """Which requests have been answered, when that many have, or all that have in that time."""
        end = time.monotonic() + seconds
        while len(self.replies) < count and time.monotonic() < end:
            time.sleep(0.05)
        return [reply.metadata.reply_to_message_id for reply in self.replies]


def comes(part: bytes) -> bytes:
    return part


def is_forgotten(_part: bytes) -> bytes:
    raise RunNotRunningException


@pytest.fixture
def serve(tmp_path: Path) -> Iterator[Callable[[Link], None]]:
    """Run the stock SuperNode's loop and API on a scripted SuperLink, and the courier on them."""
    for box in (Outbox(tmp_path), Inbox(tmp_path)):
        box.create()
    secret = tmp_path / "secret"
    secret.write_bytes(SECRET)
    secret.chmod(0o600)
    port, stop = free_port(), threading.Event()
    states = NodeStateFactory(ObjectStoreFactory())
    state, store = states.state(), states.objectstore_factory.store()
    state.set_node_id(NODE)
    run, bundle = Run.create_empty(RUN), b"never opened"
    run.fab_hash = hashlib.sha256(bundle).hexdigest()
    state.store_run(run)
    state.store_fab(Fab(run.fab_hash, bundle, {}))
    state.set_run_series_context(run.series_id, Context(RUN, NODE, {}, RecordDict(), {}))
    server = uvicorn.Server(
        uvicorn.Config(create_app(states, SECRET), host="127.0.0.1", port=port, log_level="critical", ws="none")
    )

    def loop(link: Link) -> None:
        while not stop.is_set():
            pulled = stock._pull_and_store_message(
                state=state,
                object_store=store,
                node_config={},
                receive=link.receive,
                get_run=lambda _run: run,
                get_fab=lambda name, _run: Fab(name, bundle, {}),
                pull_object=link.pull_object,
                confirm_message_received=lambda _run, _name: None,
                trusted_entities=None,
            )
            if pulled is None:
                time.sleep(0.05)
            else:
                stock._push_messages(state, store, link.send, lambda *_: None)

    def begin(link: Link) -> None:
        config = CourierConfig(tmp_path, f"127.0.0.1:{port}", secret, poll_seconds=0.05)
        for work in (server.run, lambda: loop(link), lambda: courier.run(config, stop)):
            threading.Thread(target=work, daemon=True).start()

    yield begin
    stop.set()
    server.should_exit = True


def test_a_message_that_the_supernode_forgets_holds_up_no_other(serve: Callable[[Link], None]) -> None:
    forgotten, second, third = offer(1), offer(2), offer(3)
    link = Link((forgotten, is_forgotten), (second, comes), (third, comes))
    serve(link)
    assert link.await_replies(2) == [second.name, third.name]
    assert not any(reply.has_error() for reply in link.replies)


def test_a_message_that_comes_late_is_answered(serve: Callable[[Link], None]) -> None:
    here = threading.Event()

    def comes_late(part: bytes) -> bytes:
        here.wait(30)
        return part

    link = Link((offer(1), comes_late), (offer(2), comes))
    serve(link)
    assert link.await_replies(1, seconds=2.0) == []
    here.set()
    assert len(link.await_replies(2)) == 2
    assert not any(reply.has_error() for reply in link.replies)


def test_after_a_message_that_cannot_be_read_the_next_is_answered(
    serve: Callable[[Link], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The SuperNode hears nothing, answers with an error when the task's time is over, and goes on."""
    monkeypatch.setattr(in_memory_corestate, "HEARTBEAT_DEFAULT_INTERVAL", 1)
    first, second = unreadable(), offer(2)
    link = Link((first, comes), (second, comes))
    serve(link)
    assert link.await_replies(2) == [first.name, second.name]
    assert [reply.has_error() for reply in link.replies] == [True, False]


def test_no_more_tasks_are_asked_for_while_too_many_wait() -> None:
    release, stop, rested = threading.Event(), threading.Event(), threading.Event()
    tasks = Tasks(lambda _token: (release.wait(10), None)[1], most=2)
    for token in ("a", "b"):
        tasks.begin(token)

    def rest() -> None:
        tasks.rest(0.01, stop)
        rested.set()

    threading.Thread(target=rest, daemon=True).start()
    assert not rested.wait(0.3)
    release.set()
    assert rested.wait(10)


def test_a_courier_that_ends_waits_for_what_can_finish_and_for_nothing_else() -> None:
    never, done = threading.Event(), list[str]()
    tasks = Tasks(lambda token: never.wait(60) if token == "never" else done.append(token), grace_seconds=0.2)
    tasks.begin("never")
    tasks.begin("soon")
    tasks.end()
    assert done == ["soon"]
