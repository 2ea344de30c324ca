"""Runs the stock `flower-supernode` of a site: network-facing, with process isolation, without any key of the agent."""

from __future__ import annotations

import contextlib
import os
import secrets
import socket
import ssl
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from ldp_client.courier import CourierConfig
from ldp_client.errors import ConfigurationError, ExchangeError
from ldp_client.presence import on_departure
from ldp_client.processes import (
    Program,
    Supervised,
    flower_environment,
    flower_program,
    supervised,
    wait_for_port,
)
from ldp_client.wire.signing import read_shared_secret

SECRET_BYTES = 32
CHECK_SECONDS = 5.0


@dataclass(frozen=True)
class SuperNodeConfig:
    """A site's SuperNode: its own folder, the centre's edge, and the key by which the centre knows the node."""

    folder: Path
    edge: str
    """host:port"""
    authority: Path
    node_key: Path
    secret: Path
    port: int
    """Where its courier reaches it, on loopback. Each SuperNode of one machine needs its own port and folder."""
    user: str | None = None


def create_node_key(path: Path) -> Path:
    """Make the node's P-384 key pair in OpenSSH format: `path` (0600) and `path.pub`, which the centre registers.

    Returns:
        The public key's path.

    Raises:
        ConfigurationError: there is a key already; the centre knows the site by it.
    """
    public = path.with_name(path.name + ".pub")
    key = ec.generate_private_key(ec.SECP384R1())
    _write_new(
        path,
        key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.OpenSSH, serialization.NoEncryption()
        ),
        0o600,
    )
    public.write_bytes(
        key.public_key().public_bytes(serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH) + b"\n"
    )
    return public


def create_secret(path: Path, mode: int = 0o600) -> None:
    """Make the secret against which a SuperNode gives tasks; with two users, 0640 and a group of the two.

    Raises:
        ConfigurationError: there is one already.
    """
    _write_new(path, secrets.token_bytes(SECRET_BYTES), mode)


def supernode_program(config: SuperNodeConfig) -> Program:
    """The stock command. It never inherits this process's environment, so nothing of the agent's reaches it."""
    return Program(
        [
            flower_program("flower-supernode"),
            *("--superlink", config.edge),
            *("--root-certificates", str(config.authority.resolve())),
            *("--auth-supernode-private-key", str(config.node_key.resolve())),
            *("--host", "127.0.0.1"),
            *("--port", str(config.port)),
            # With `subprocess`, the default, it would import the code that the server sends.
            *("--isolation", "process"),
            *("--superexec-auth-secret-file", str(config.secret.resolve())),
        ],
        flower_environment(config.folder.resolve()),
        config.folder / "supernode.log",
        config.user,
    )


def courier_program(config: CourierConfig, folder: Path, user: str | None = None) -> Program:
    """The courier as a program of its own, with its log and Flower's state in `folder`."""
    return Program(
        [
            *(sys.executable, "-m", "ldp_client.courier"),
            *("--spool", str(config.spool.resolve())),
            *("--supernode", config.supernode),
            *("--secret", str(config.secret.resolve())),
        ],
        flower_environment(folder.resolve()),
        folder / "courier.log",
        user,
    )


def check_authority(edge: str, authority: Path) -> None:
    """Return if the edge shows a certificate of this authority, or cannot be reached now: it may come up later.

    Raises:
        ConfigurationError: the file holds no certificate.
        ExchangeError: the edge's certificate is another authority's, or bears another name.
    """
    try:
        context = ssl.create_default_context(cafile=str(authority))
    except ssl.SSLError as error:
        raise ConfigurationError(
            f"{authority} holds no certificate; name the ca.crt that the centre handed over"
        ) from error
    host, _, port = edge.rpartition(":")
    try:
        with (
            socket.create_connection((host, int(port)), CHECK_SECONDS) as plain,
            context.wrap_socket(plain, server_hostname=host),
        ):
            return
    except ssl.SSLCertVerificationError as error:
        raise ExchangeError(
            f"the certificate of {edge} is not one that {authority} vouches for ({error.verify_message}); "
            "compare the ca.crt and the host's name with the centre's"
        ) from error
    except OSError:
        return


@contextlib.contextmanager
def supernode_running(config: SuperNodeConfig) -> Iterator[Supervised]:
    """Keep a SuperNode running during the block; entered when its courier can reach it.

    It is started anew when its courier has ended: of an answer that was half handed over, it would wait for the rest
    without an end, and ask the centre for nothing meanwhile.

    Raises:
        ConfigurationError: one of its three files cannot be read, is no certificate, or is a secret that everybody can
            read; the stock program would say so in its log only, or not at all.
        ExchangeError: the edge has another authority, or the SuperNode does not come up; the message names its log.
    """
    for what, path in (("key", config.node_key), ("secret", config.secret), ("centre's ca.crt", config.authority)):
        if not os.access(path, os.R_OK):
            raise ConfigurationError(
                f"the node needs its {what} and cannot read {path}; name another file, or let the node's user read it "
                "with `ldp-client site permissions`"
            )
    read_shared_secret(config.secret)
    read_shared_secret(config.node_key)
    check_authority(config.edge, config.authority)
    program = supernode_program(config)
    with supervised(program) as node:
        # A first start that fails is left to the supervisor: the centre may come up later than the site.
        wait_for_port(config.port, lambda: True, log=program.log)
        with on_departure(config.secret, node.renew):
            yield node


@contextlib.contextmanager
def courier_running(config: CourierConfig, folder: Path, user: str | None = None) -> Iterator[Supervised]:
    """Keep a courier running during the block."""
    with supervised(courier_program(config, folder, user)) as courier:
        yield courier


def _write_new(path: Path, body: bytes, mode: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, mode)
    except FileExistsError as error:
        raise ConfigurationError(f"{path} was to be made and is there already; move it away to replace it") from error
    with os.fdopen(descriptor, "wb") as file:
        os.fchmod(descriptor, mode)
        file.write(body)
