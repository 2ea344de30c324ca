"""The only door of the centre: TLS, and nothing behind it but the Fleet operations that a SuperNode needs.

A stock SuperLink serves three interfaces on one port, and two of them (Control and Runtime) start runs for whoever
reaches them. It therefore listens on loopback, and this passes on ten operations, by name, with a limit on the body.
It also refuses a reply in another node's name: the SuperLink checks who pushes, not whose name the reply bears.
"""

from __future__ import annotations

import argparse
import logging
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
import uvicorn
from flwr.proto.fleet_pb2 import PushMessagesRequest
from flwr.proto.message_pb2 import ObjectTree
from google.protobuf.message import DecodeError  # type: ignore[import-untyped]
from starlette.applications import Starlette
from starlette.background import BackgroundTask
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route

PUSH = "/v1/fleet/push-messages"
FORWARDED = frozenset(
    {
        "/v1/fleet/activate-node",
        "/v1/fleet/deactivate-node",
        "/v1/fleet/send-node-heartbeat",
        "/v1/fleet/pull-messages",
        PUSH,
        "/v1/fleet/get-run",
        "/v1/fleet/get-fab",
        "/v1/fleet/push-object",
        "/v1/fleet/pull-object",
        "/v1/fleet/confirm-message-received",
    }
)
# Flower cuts arrays into objects of 5 MiB; an answer's documents (8 MiB at most) are one object.
MAX_BODY_BYTES = 12 << 20
# A pull of 32 batches and 64 MiB is at most 80 objects; without a limit one reply could fill the centre's disk.
MAX_OBJECTS = 96
MAX_CONNECTIONS = 512
UPSTREAM_SECONDS = 60.0

# What the SuperLink needs to authenticate a node. Nothing else that a peer sends reaches it.
_REQUEST_HEADERS = (
    "content-type",
    "accept",
    "flwr-public-key",
    "flwr-signature",
    "flwr-timestamp",
    "flwr-package-name",
    "flwr-package-version",
    "flwr-component-name",
)
_RESPONSE_HEADERS = ("content-type", "flwr-version-incompatibility-message")
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class EdgeConfig:
    """Where the edge listens, with which certificate, and where its SuperLink is."""

    host: str
    port: int
    certificate: Path
    key: Path
    superlink: str
    """host:port"""
    authority: Path
    """The certificate authority that the SuperLink's own certificate is checked against."""


def edge_app(client: httpx.AsyncClient) -> Starlette:
    """The door as an ASGI application; `client` has the SuperLink as its base URL and is closed at shutdown."""

    async def forward(request: Request) -> Response:
        path = request.url.path
        if path not in FORWARDED:
            return _nothing_here(request)
        body = await _limited_body(request)
        if body is None:
            return _refused(413, "the body is larger than the edge passes on")
        if path == PUSH and (refusal := _check_push(body)) is not None:
            return refusal
        headers = {name: request.headers[name] for name in _REQUEST_HEADERS if name in request.headers}
        try:
            answer = await client.send(
                # Our own spelling of the path, and no compression: a size seen here is a size.
                client.build_request("POST", path, content=body, headers={**headers, "accept-encoding": "identity"}),
                stream=True,
            )
        except httpx.HTTPError as error:
            _log.warning("the SuperLink did not answer: %s", type(error).__name__)
            return _refused(503, "the SuperLink does not answer; try again later")
        return StreamingResponse(
            answer.aiter_raw(),
            status_code=answer.status_code,
            headers={name: answer.headers[name] for name in _RESPONSE_HEADERS if name in answer.headers},
            background=BackgroundTask(answer.aclose),
        )

    @asynccontextmanager
    async def lifespan(_app: Starlette) -> AsyncIterator[None]:
        async with client:
            yield

    return Starlette(
        routes=[Route("/{path:path}", forward, methods=["POST"])],
        exception_handlers={404: _nothing, 405: _nothing},
        lifespan=lifespan,
    )


def run(config: EdgeConfig) -> None:
    """Serve until SIGTERM or SIGINT."""
    context = ssl.create_default_context(cafile=str(config.authority))
    client = httpx.AsyncClient(
        base_url=f"https://{config.superlink}",
        verify=context,
        timeout=UPSTREAM_SECONDS,
        # A proxy named in the environment would put somebody between the edge and its own SuperLink.
        trust_env=False,
        limits=httpx.Limits(max_connections=MAX_CONNECTIONS),
    )
    uvicorn.run(
        edge_app(client),
        host=config.host,
        port=config.port,
        ssl_certfile=config.certificate,
        ssl_keyfile=str(config.key),
        limit_concurrency=MAX_CONNECTIONS,
        access_log=False,
        log_level="warning",
        server_header=False,
        timeout_graceful_shutdown=5,
    )


async def _limited_body(request: Request) -> bytes | None:
    """The body, or None as soon as it is known to be too large: it is never held in full then."""
    announced = request.headers.get("content-length", "0")
    if not announced.isdecimal() or int(announced) > MAX_BODY_BYTES:
        return None
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > MAX_BODY_BYTES:
            return None
    return bytes(body)


def _check_push(body: bytes) -> Response | None:
    """A reply must bear the name of the node that pushes it, and list no more objects than a reply can have."""
    try:
        push = PushMessagesRequest.FromString(body)
    except DecodeError:
        return _refused(400, "this is no PushMessagesRequest")
    if any(message.metadata.src_node_id != push.node.node_id for message in push.messages_list):
        _log.warning("a reply in another node's name was refused")
        return _refused(403, "a node pushes only replies of its own")
    if _more_objects_than(list(push.message_object_trees), MAX_OBJECTS):
        return _refused(413, "the reply lists more objects than the edge passes on")
    return None


def _more_objects_than(trees: list[ObjectTree], limit: int) -> bool:
    seen = 0
    while trees:
        tree = trees.pop()
        seen += 1
        if seen > limit:
            return True
        trees.extend(tree.children)
    return False


def _refused(status: int, reason: str) -> Response:
    return Response(reason, status_code=status, media_type="text/plain")


def _nothing_here(_request: Request) -> Response:
    return _refused(404, "nothing here")


async def _nothing(request: Request, _error: Exception) -> Response:
    return _nothing_here(request)


def main(arguments: list[str] | None = None) -> None:
    """`python -m server.edge`: the edge as a program of its own."""
    parser = argparse.ArgumentParser(prog="python -m server.edge", description=run.__doc__)
    parser.add_argument("--host", required=True)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--certificate", type=Path, required=True)
    parser.add_argument("--key", type=Path, required=True)
    parser.add_argument("--superlink", required=True, help="host:port of the SuperLink")
    parser.add_argument("--authority", type=Path, required=True)
    run(EdgeConfig(**vars(parser.parse_args(arguments))))


if __name__ == "__main__":
    main()
