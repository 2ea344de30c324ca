"""`ldp-server serve`: SuperLink, edge and the gathering, until stopped."""

from __future__ import annotations

import contextlib
import threading

import typer

from ldp_client.cli.console import say
from ldp_client.processes import end_on_signals
from server.cli.opened import HERE, State, opened
from server.config import CONFIG_NAME
from server.service import serving

app = typer.Typer()


@app.command()
def serve(state: State = HERE) -> None:
    """Run the centre until stopped (Ctrl-C or SIGTERM). Sites enrolled meanwhile are let in; stopping is safe."""
    end_on_signals()
    with (
        contextlib.suppress(KeyboardInterrupt),
        opened(state) as centre,
        serving(state / CONFIG_NAME, centre) as service,
    ):
        say(f"serving on {centre.config.exchange.host}:{centre.config.exchange.port}")
        service.run(threading.Event())
