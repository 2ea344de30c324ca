"""The network between hospitals and centre, when it is bad: it loses requests, loses replies, and says things twice.

It stands before the edge with the edge's own certificate, as no stranger on a real network could: TLS keeps a stranger
from doing more than losing bytes, and what is lost or repeated here is whole requests and whole replies.
"""

from __future__ import annotations

import contextlib
import random
import ssl
import threading
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import uvicorn
from starlette.requests import Request
from starlette.responses import Response

# What Flower's nodes send and read; the edge decides what passes.
_HOP = frozenset({"host", "content-length", "transfer-encoding", "connection", "accept-encoding"})


@dataclass
class Weather:
    """The share of requests that each thing happens to, and how often each has happened."""

    dice: random.Random
    lost_requests: float = 0.0
    lost_replies: float = 0.0
    doubled: float = 0.0
    counts: Counter[str] = field(default_factory=Counter)

    def storm(self, share: float) -> None:
        """Each of the three happens to this share of the requests; 0 is fair weather."""
        self.lost_requests = self.lost_replies = self.doubled = share

    def strikes(self, what: str, share: float) -> bool:
        """Whether it happens now."""
        struck = self.dice.random() < share
        self.counts[what] += struck
        return struck


class Network:
    """An ASGI application that hands every request to the edge, or does not."""

    def __init__(self, edge: str, authority: Path, weather: Weather) -> None:
        self._weather = weather
        self._client = httpx.AsyncClient(
            base_url=f"https://{edge}",
            verify=ssl.create_default_context(cafile=str(authority)),
            timeout=60.0,
            trust_env=False,
        )

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            return
        request = Request(scope, receive)
        body = await request.body()
        if self._weather.strikes("requests lost", self._weather.lost_requests):
            await _break_off(send)
            return
        try:
            answer = await self._pass_on(request, body)
            if self._weather.strikes("requests doubled", self._weather.doubled):
                # The sender sees one of the two answers, as if the other had come too late.
                answer = self._weather.dice.choice([answer, await self._pass_on(request, body)])
        except httpx.HTTPError:
            # The edge is down.
            await _break_off(send)
            return
        if self._weather.strikes("replies lost", self._weather.lost_replies):
            await _break_off(send)
            return
        headers = {name: value for name, value in answer.headers.items() if name not in _HOP}
        await Response(answer.content, answer.status_code, headers)(scope, receive, send)

    async def _pass_on(self, request: Request, body: bytes) -> httpx.Response:
        headers = {name: value for name, value in request.headers.items() if name not in _HOP}
        return await self._client.request(request.method, request.url.path, content=body, headers=headers)


async def _break_off(send: Any) -> None:
    """Begin an answer that never comes: the server below closes the connection."""
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"1000000")]})


@contextlib.contextmanager
def bad_network(port: int, edge: str, tls: Path, weather: Weather) -> Iterator[None]:
    """The network listens on a port of loopback during the block; `tls` is the centre's folder of certificates."""
    config = uvicorn.Config(
        Network(edge, tls / "ca.crt", weather),
        host="127.0.0.1",
        port=port,
        ssl_certfile=tls / "edge.crt",
        ssl_keyfile=str(tls / "edge.key"),
        log_level="critical",
        lifespan="off",
    )
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, name="network", daemon=True)
    thread.start()
    while not server.started and thread.is_alive():
        time.sleep(0.05)
    try:
        yield
    finally:
        server.should_exit = True
        thread.join(10)
