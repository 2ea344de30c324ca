"""`ldp-client node`: the stock Flower SuperNode of this site, network-facing. Run it as its own user."""

from __future__ import annotations

import contextlib
import threading
from pathlib import Path
from typing import Annotated

import typer

from ldp_client.cli.console import say
from ldp_client.errors import ConfigurationError
from ldp_client.processes import end_on_signals
from ldp_client.supernode import SuperNodeConfig, create_node_key, create_secret, supernode_running

app = typer.Typer(no_args_is_help=True)
Folder = Annotated[Path, typer.Option(help="The node's own folder, not the agent's.", readable=False)]


@app.command()
def key(folder: Folder) -> None:
    """Make the node's key and the secret it shares with the courier; print the public key's file."""
    public = create_node_key(folder / "node")
    # Readable by the group that the courier and the node share, and by nobody else.
    create_secret(folder / "courier.secret", 0o640)
    say([f"public key: {public}", f"secret for the courier: {folder / 'courier.secret'}"])


@app.command()
def run(
    folder: Folder,
    edge: Annotated[str, typer.Option(help="host:port of the centre's edge.")],
    authority: Annotated[Path, typer.Option(help="The centre's ca.crt.", readable=False)],
    port: Annotated[int, typer.Option(help="Port on loopback for the courier.")] = 9400,
) -> None:
    """Run the SuperNode until stopped; it is started again when it ends."""
    if not edge.rpartition(":")[0] or not edge.rpartition(":")[2].isdecimal():
        raise ConfigurationError(f"the centre's edge is host:port, such as centre.example.org:8443; found {edge!r}")
    config = SuperNodeConfig(folder, edge, authority, folder / "node", folder / "courier.secret", port)
    end_on_signals()
    with contextlib.suppress(KeyboardInterrupt), supernode_running(config):
        say(f"node is running towards {edge}; the courier reaches it at 127.0.0.1:{port}")
        threading.Event().wait()
