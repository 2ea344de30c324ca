"""A centre and its sites as real processes on loopback, for the tests marked `processes`."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from cryptography.hazmat.primitives import serialization

from ldp_client.courier import CourierConfig
from ldp_client.processes import free_port
from ldp_client.spool import Inbox, Outbox
from ldp_client.supernode import SuperNodeConfig, courier_running, create_node_key, create_secret, supernode_running
from server.certificates import create_authority, issue_server_certificate
from server.edge import EdgeConfig
from server.superlink import SuperLinkConfig, edge_running, register_supernode, superlink_running

FOLDER_APP = Path(__file__).parent / "folder_app"


@dataclass(frozen=True)
class Centre:
    root: Path
    superlink: SuperLinkConfig
    edge: EdgeConfig


@dataclass(frozen=True)
class Enrolled:
    folder: Path
    node_id: int
    config: SuperNodeConfig


@dataclass(frozen=True)
class Site:
    folder: Path
    node_id: int
    node_key: Path
    outbox: Outbox
    inbox: Inbox


@contextlib.contextmanager
def centre_running(root: Path) -> Iterator[Centre]:
    authority = create_authority(root / "tls")
    superlink = SuperLinkConfig(
        root / "superlink",
        free_port(),
        authority.certificate,
        issue_server_certificate(authority, root / "tls", "superlink", ["127.0.0.1"]),
    )
    with superlink_running(superlink):
        server = issue_server_certificate(authority, root / "tls", "edge", ["127.0.0.1", "localhost"])
        edge = EdgeConfig(
            "127.0.0.1", free_port(), server.certificate, server.key, superlink.address, authority.certificate
        )
        with edge_running(edge, root / "edge"):
            yield Centre(root, superlink, edge)


def enrol(centre: Centre, name: str) -> Enrolled:
    """A node that the SuperLink knows; nothing runs yet."""
    folder = centre.root / name
    public = create_node_key(folder / "node")
    create_secret(folder / "secret")
    edge = f"127.0.0.1:{centre.edge.port}"
    config = SuperNodeConfig(
        folder / "supernode", edge, centre.edge.authority, folder / "node", folder / "secret", free_port()
    )
    return Enrolled(folder, register_supernode(centre.superlink, public, name), config)


@contextlib.contextmanager
def site_running(centre: Centre, name: str) -> Iterator[Site]:
    """An enrolled site of the folder centre, with its spool, its SuperNode and its courier."""
    site = enrol(centre, name)
    public = serialization.load_ssh_public_key((site.folder / "node.pub").read_bytes())
    keys = centre.root / "folder" / "keys"
    keys.mkdir(parents=True, exist_ok=True)
    (keys / name).write_bytes(
        public.public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    )
    spool = site.folder / "spool"
    outbox, inbox = Outbox(spool), Inbox(spool)
    outbox.create()
    inbox.create()
    courier = CourierConfig(spool, f"127.0.0.1:{site.config.port}", site.config.secret)
    with supernode_running(site.config), courier_running(courier, site.folder / "courier"):
        yield Site(site.folder, site.node_id, site.config.node_key, outbox, inbox)


def until(condition: Callable[[], bool], what: str, timeout_seconds: float = 60.0) -> None:
    deadline = time.monotonic() + timeout_seconds
    while not condition():
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {timeout_seconds:g} s: {what}")
        time.sleep(0.2)
