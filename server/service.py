"""The centre as a service: stock SuperLink on loopback, the edge before it, and the gathering kept going."""

from __future__ import annotations

import contextlib
import fcntl
import logging
import socket
import tempfile
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from sqlalchemy.exc import OperationalError

from ldp_client.errors import ExchangeError, WaitingError
from ldp_client.processes import Running
from ldp_client.wire.document import file_name
from server.centre import Centre
from server.certificates import TLS_FOLDER, CertificateFiles, create_authority, issue_server_certificate
from server.config import ExchangeSection, initialise
from server.edge import EdgeConfig
from server.gather import SERVER_CONFIG, UNTIL_FINISHED, somebody_gathers
from server.store import sites
from server.superlink import (
    SuperLinkConfig,
    edge_running,
    register_supernode,
    run_status,
    start_run,
    stop_run,
    superlink_running,
    unfinished_runs,
)

log = logging.getLogger(__name__)
LOOK_SECONDS = 2.0
STATUS_SECONDS = 20.0


@dataclass
class Service:
    """A running SuperLink and edge. `run` lets enrolled nodes in and keeps one gathering alive."""

    config_path: Path
    centre: Centre
    superlink: SuperLinkConfig
    parts: dict[str, Running] = field(default_factory=dict)
    """What this service started, by name: without one of them it is no service."""
    _run: int | None = None
    _gathers: bool = False
    _registered: set[str] = field(default_factory=set)

    def run(self, stop: threading.Event) -> None:
        """Work until told to stop. A gathering that ended is started again: it goes on where it was.

        Raises:
            ExchangeError: the SuperLink or the edge has ended, or the SuperLink does not answer. Whoever supervises
                this program starts it again, and all of it begins anew.
        """
        waited = STATUS_SECONDS
        try:
            while not stop.is_set():
                self._check_parts()
                try:
                    self.register_nodes()
                    died = self._gathering_died()
                    if died or waited >= STATUS_SECONDS:
                        self._keep_gathering(died)
                        waited = 0.0
                except OperationalError as error:
                    # A database that restarts is no reason to let go of the hospitals' connections.
                    log.warning("the database does not answer (%s); it is asked again", type(error.orig).__name__)
                stop.wait(LOOK_SECONDS)
                waited += LOOK_SECONDS
        finally:
            if self._run is not None:
                with contextlib.suppress(ExchangeError):
                    stop_run(self.superlink, self._run)

    def _gathering_died(self) -> bool:
        """Whether the gathering's process was at work and is gone: Flower would say so when a heartbeat has run out."""
        before, self._gathers = self._gathers, somebody_gathers(self.config_path.parent)
        return before and not self._gathers

    def _check_parts(self) -> None:
        for name, process in self.parts.items():
            if not process.alive():
                raise ExchangeError(
                    f"the {name} ended by itself with status {process.wait()}; its log is {process.program.log}. "
                    "Start the centre again: everything goes on where it was"
                )

    def register_nodes(self) -> None:
        """Let the node of every enrolled site connect. The SuperLink remembers them; so does a file per site here."""
        folder = self.superlink.folder / "registered"
        folder.mkdir(parents=True, exist_ok=True)
        with self.centre.database.snapshot() as connection:
            enrolled = [site for site in sites.every(connection) if not site.suspended]
        for site in enrolled:
            mark, key_digest = folder / site.site, file_name(site.node_key.encode())
            # An empty mark is of an earlier version, when a site's node could not be replaced.
            if mark.exists() and mark.read_text() in ("", key_digest):
                continue
            with tempfile.NamedTemporaryFile("wb", suffix=".pub") as key:
                key.write(sites.openssh_node_key(site) + b"\n")
                key.flush()
                register_supernode(self.superlink, Path(key.name), site.site)
            mark.write_text(key_digest)
            log.info("the node of %s may connect", site.site)

    def _keep_gathering(self, died: bool) -> None:
        if self._run is None or died:
            # A centre that was killed leaves its gathering behind, and the SuperLink would take it up beside the new.
            for run in unfinished_runs(self.superlink):
                with contextlib.suppress(ExchangeError):
                    stop_run(self.superlink, run)
        else:
            status = run_status(self.superlink, self._run)
            if not status.startswith("finished"):
                return
            log.warning("the gathering ended (%s) and is started again", status)
        self._run = start_run(self.superlink, {SERVER_CONFIG: str(self.config_path.resolve()), UNTIL_FINISHED: False})


def create_centre(
    folder: Path, name: str, hosts: list[str], exchange: ExchangeSection, database_url: str | None = None
) -> Path:
    """A new centre with keys, an empty ledger, TLS certificates for the edge's `hosts`; the path of its server.toml.

    Raises:
        ConfigurationError: the folder holds a centre already.
    """
    folder.mkdir(parents=True, exist_ok=True)
    path = initialise(folder, name, exchange=exchange, database_url=database_url)
    authority = create_authority(folder / TLS_FOLDER, name)
    issue_server_certificate(authority, folder / TLS_FOLDER, "edge", hosts)
    issue_server_certificate(authority, folder / TLS_FOLDER, "superlink", ["127.0.0.1", "localhost"])
    return path


@contextlib.contextmanager
def serving(config_path: Path, centre: Centre) -> Iterator[Service]:
    """SuperLink and edge run during the block.

    Raises:
        WaitingError: another service runs for this centre.
        ExchangeError: a port is taken, or one of them does not come up; the message names its log.
    """
    folder, exchange = config_path.parent, centre.config.exchange
    tls = folder / TLS_FOLDER
    authority = tls / "ca.crt"
    superlink = SuperLinkConfig(
        folder / "superlink",
        exchange.superlink_port,
        authority,
        CertificateFiles(tls / "superlink.crt", tls / "superlink.key"),
    )
    edge = EdgeConfig(
        host=exchange.host,
        port=exchange.port,
        certificate=tls / "edge.crt",
        key=tls / "edge.key",
        superlink=superlink.address,
        authority=authority,
    )
    with _alone(folder):
        for key, host, port in (
            ("port", exchange.host, exchange.port),
            ("superlink_port", "127.0.0.1", superlink.port),
        ):
            _check_free(key, host, port)
        with superlink_running(superlink) as one, edge_running(edge, superlink.folder) as other:
            yield Service(config_path, centre, superlink, {"SuperLink": one, "edge": other})


@contextlib.contextmanager
def _alone(folder: Path) -> Iterator[None]:
    with (folder / "serve.lock").open("ab") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise WaitingError("this centre is served already, by another process; stop that one first") from error
        yield


def _check_free(key: str, host: str, port: int) -> None:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            raise ExchangeError(
                f"{host}:{port} cannot be listened on ({error.strerror}); "
                f"stop what uses it, or set another [exchange] {key} in server.toml"
            ) from error
