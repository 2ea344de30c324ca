"""`ldp-server serve`: SuperLink, edge and the gathering, until stopped."""

from __future__ import annotations

import signal
import threading

import typer

from ldp_client.cli.console import say
from server.cli.opened import HERE, State, opened
from server.config import CONFIG_NAME
from server.service import serving

app = typer.Typer()


@app.command()
def serve(state: State = HERE) -> None:
    """Run the centre until stopped (Ctrl-C or SIGTERM). Sites enrolled meanwhile are let in; stopping is safe."""
    stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.set())
    with opened(state) as centre, serving(state / CONFIG_NAME, centre) as service:
        say(f"serving on {centre.config.exchange.host}:{centre.config.exchange.port}")
        service.run(stop)
