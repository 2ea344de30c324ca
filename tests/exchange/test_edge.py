"""The edge as an ASGI application with a SuperLink made of one function; the real ones are in test_deployment.py."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable

import httpx
import pytest
from flwr.proto.fleet_pb2 import PushMessagesRequest
from flwr.proto.message_pb2 import Message, Metadata, ObjectTree
from flwr.proto.node_pb2 import Node

from server.edge import FORWARDED, MAX_BODY_BYTES, MAX_OBJECTS, PUSH, edge_app

SuperLink = Callable[[httpx.Request], httpx.Response]
HEARTBEAT = "/v1/fleet/send-node-heartbeat"


def streamed(status: int, body: bytes, media_type: str) -> httpx.Response:
    """As from a network: the body is still to come."""

    async def chunks() -> AsyncIterator[bytes]:
        yield body

    return httpx.Response(status, content=chunks(), headers={"content-type": media_type, "server": "uvicorn"})


class Behind:
    """Notes what came through."""

    def __init__(self) -> None:
        self.seen: list[httpx.Request] = []

    def __call__(self, request: httpx.Request) -> httpx.Response:
        self.seen.append(request)
        return streamed(200, b"answer", "application/protobuf")


def knock(superlink: SuperLink, method: str, path: str, content: object = b"", **headers: str) -> httpx.Response:
    async def go() -> httpx.Response:
        upstream = httpx.AsyncClient(transport=httpx.MockTransport(superlink), base_url="https://superlink")
        door = httpx.ASGITransport(edge_app(upstream))
        async with upstream, httpx.AsyncClient(transport=door, base_url="https://edge") as client:
            spelled = {name.replace("_", "-"): value for name, value in headers.items()}
            return await client.request(method, path, content=content, headers=spelled)  # type: ignore[arg-type]

    return asyncio.run(go())


def push(source: int, node: int, objects: int = 1) -> bytes:
    tree = ObjectTree(object_id="0", children=[ObjectTree(object_id=str(number)) for number in range(objects - 1)])
    return PushMessagesRequest(
        node=Node(node_id=node),
        messages_list=[Message(metadata=Metadata(src_node_id=node)), Message(metadata=Metadata(src_node_id=source))],
        message_object_trees=[tree],
    ).SerializeToString()


@pytest.mark.parametrize("path", sorted(FORWARDED - {PUSH}))
def test_a_fleet_operation_passes(path: str) -> None:
    behind = Behind()
    reply = knock(behind, "POST", path, b"request")
    assert (reply.status_code, reply.content) == (200, b"answer")
    assert [(str(request.url), request.content) for request in behind.seen] == [
        (f"https://superlink{path}", b"request")
    ]


@pytest.mark.parametrize(
    "path",
    [
        "/",
        "/v1/control/start-run",
        "/v1/control/register-node",
        "/v1/runtime/acquire-task",
        "/v1/runtime/push-messages",
        "/v1/fleet/register-node",
        "/v1/fleet/unregister-node",
        "/v1/fleet/get-run/",
        "/v1/fleet/../control/start-run",
        "/v1/fleet/%2e%2e/control/start-run",
        "/v1/fleet//get-run",
        "/V1/fleet/get-run",
        "/docs",
        "/openapi.json",
    ],
)
def test_everything_else_is_not_there(path: str) -> None:
    behind = Behind()
    reply = knock(behind, "POST", path)
    assert (reply.status_code, reply.text, behind.seen) == (404, "nothing here", [])


@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE", "HEAD", "OPTIONS", "PATCH"])
def test_only_post_passes(method: str) -> None:
    behind = Behind()
    assert knock(behind, method, HEARTBEAT).status_code == 404
    assert behind.seen == []


def test_only_the_headers_that_authenticate_a_node_pass() -> None:
    behind = Behind()
    reply = knock(
        behind, "POST", HEARTBEAT, b"x", flwr_public_key="k", flwr_task_token="t", x_forwarded_for="1.2.3.4", cookie="c"
    )
    passed = behind.seen[0].headers
    assert passed["flwr-public-key"] == "k"
    assert not {"flwr-task-token", "x-forwarded-for", "cookie"} & set(passed)
    assert passed["accept-encoding"] == "identity"
    assert "server" not in reply.headers


def test_a_body_that_is_announced_too_large_is_refused_unread() -> None:
    behind = Behind()
    reply = knock(behind, "POST", HEARTBEAT, b"", content_length=str(MAX_BODY_BYTES + 1))
    assert (reply.status_code, reply.text) == (413, "the body is larger than the edge passes on")
    assert behind.seen == []


def test_a_body_without_length_is_read_up_to_the_limit_only() -> None:
    behind = Behind()
    chunks: list[int] = []

    async def endless() -> AsyncIterator[dict[str, object]]:
        while True:
            chunks.append(1 << 20)
            yield {"type": "http.request", "body": bytes(1 << 20), "more_body": True}

    async def go() -> list[dict[str, object]]:
        upstream = httpx.AsyncClient(transport=httpx.MockTransport(behind), base_url="https://superlink")
        source, sent = endless(), []
        scope = {
            "type": "http",
            "method": "POST",
            "path": HEARTBEAT,
            "headers": [],
            "query_string": b"",
            "root_path": "",
        }

        async def send(message: dict[str, object]) -> None:
            sent.append(message)

        await edge_app(upstream)(scope, source.__anext__, send)  # type: ignore[arg-type]
        return sent

    sent = asyncio.run(go())
    assert sent[0]["status"] == 413
    assert sum(chunks) <= MAX_BODY_BYTES + (2 << 20)
    assert behind.seen == []


def test_a_reply_in_the_nodes_own_name_passes() -> None:
    behind = Behind()
    assert knock(behind, "POST", PUSH, push(7, 7)).status_code == 200
    assert behind.seen[0].content == push(7, 7)


def test_a_reply_in_another_nodes_name_is_refused_even_as_the_second_of_two() -> None:
    behind = Behind()
    reply = knock(behind, "POST", PUSH, push(8, 7))
    assert (reply.status_code, reply.text) == (403, "a node pushes only replies of its own")
    assert behind.seen == []


def test_a_reply_of_countless_objects_is_refused() -> None:
    behind = Behind()
    assert knock(behind, "POST", PUSH, push(7, 7, MAX_OBJECTS)).status_code == 200
    reply = knock(behind, "POST", PUSH, push(7, 7, MAX_OBJECTS + 1))
    assert (reply.status_code, reply.text) == (413, "the reply lists more objects than the edge passes on")


def test_a_push_that_cannot_be_read_is_refused() -> None:
    reply = knock(Behind(), "POST", PUSH, b"\xff\xff\xff")
    assert (reply.status_code, reply.text) == (400, "this is no PushMessagesRequest")


def test_a_silent_superlink_is_told_without_its_address() -> None:
    def gone(request: httpx.Request) -> httpx.Response:
        raise httpx.ConnectError("https://superlink:9 refused", request=request)

    reply = knock(gone, "POST", HEARTBEAT)
    assert (reply.status_code, reply.text) == (503, "the SuperLink does not answer; try again later")


def test_an_error_of_the_superlink_reaches_the_node() -> None:
    reply = knock(lambda _request: streamed(401, b'{"detail": "no"}', "application/json"), "POST", HEARTBEAT)
    assert (reply.status_code, reply.json()) == (401, {"detail": "no"})
