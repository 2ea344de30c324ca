"""`ldp-server centre`: create the centre, show what hospitals pin."""

from __future__ import annotations

from typing import Annotated

import typer

from ldp_client.cli.console import say
from ldp_client.wire.signing import fingerprint
from server.certificates import TLS_FOLDER
from server.cli.opened import HERE, State, opened
from server.config import CARD_NAME, ExchangeSection
from server.service import create_centre

app = typer.Typer(no_args_is_help=True)


@app.command()
def init(
    name: Annotated[str, typer.Option(help="The name that hospitals see.")],
    host: Annotated[list[str], typer.Option(help="Names or addresses by which hospitals reach the edge.")],
    listen: Annotated[str, typer.Option(help="Address that the edge listens on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="The edge's port.")] = 8443,
    superlink_port: Annotated[int, typer.Option(help="The SuperLink's port on loopback.")] = 9091,
    database: Annotated[
        str | None,
        typer.Option(
            help="An empty PostgreSQL database, postgresql+psycopg://USER@HOST/NAME, its password in ~/.pgpass; "
            "without it, a SQLite file in the centre's folder."
        ),
    ] = None,
    state: State = HERE,
) -> None:
    """Make keys, TLS certificates, an empty central ledger, and the card that hospitals pin."""
    exchange = ExchangeSection(host=listen, port=port, superlink_port=superlink_port)
    create_centre(state, name, host, exchange, database)
    say(
        [
            f"centre created in {state}",
            f"hospitals need {state / CARD_NAME} and {state / TLS_FOLDER / 'ca.crt'},",
            "and this fingerprint by telephone:",
        ]
    )
    card(state)


@app.command()
def card(state: State = HERE) -> None:
    """The fingerprint that a hospital compares before it pins this centre."""
    with opened(state) as centre:
        say(f"{centre.config.centre.name}: {fingerprint(centre.keys.signing.public_key)}")
