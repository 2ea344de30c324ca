"""A PostgreSQL server of one's own, on loopback, in a temporary folder: for tests, benchmarks and fault drills.

Needs the server's programs and no rights: `apt-get install postgresql-15` on Debian. Started by root, which PostgreSQL
refuses to run as, it runs as the user `postgres` or `nobody`.
"""

from __future__ import annotations

import os
import pwd
import secrets
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg
from psycopg import sql

PLACES = ("/usr/lib/postgresql/*/bin", "/usr/local/pgsql/bin", "/opt/homebrew/opt/postgresql*/bin")
_INITDB = ("--auth=scram-sha-256", "--encoding=UTF8", "--locale=C")


class PostgresMissingError(RuntimeError):
    """No PostgreSQL server is installed."""


def find_programs(places: tuple[str, ...] = PLACES) -> Path:
    """The folder with initdb and postgres, the newest version first.

    Raises:
        PostgresMissingError: there is none; the text says how to install it.
    """
    found = shutil.which("initdb")
    candidates = [Path(found).resolve().parent] if found else []
    for pattern in places:
        candidates += sorted(Path("/").glob(pattern.lstrip("/")), reverse=True)
    for folder in candidates:
        if (folder / "initdb").exists() and (folder / "postgres").exists():
            return folder
    raise PostgresMissingError(
        "no PostgreSQL server is installed here, and these tests need one. "
        "On Debian or Ubuntu: apt-get install postgresql-15; it need not be started"
    )


@dataclass
class PrivatePostgres:
    """A server in `folder`. It can be stopped like a crash, and started again on the same data and port."""

    folder: Path
    programs: Path
    port: int
    password: str
    _process: subprocess.Popen[bytes] | None = None

    def url(self, database: str) -> str:
        """An SQLAlchemy URL of a database here."""
        return f"postgresql+psycopg://ldp:{self.password}@127.0.0.1:{self.port}/{database}"

    def create_database(self, name: str, template: str = "template0") -> str:
        """A new database, empty or a copy of another one; its URL."""
        with self._connected() as connection:
            connection.execute(
                sql.SQL("CREATE DATABASE {} TEMPLATE {}").format(sql.Identifier(name), sql.Identifier(template))
            )
        return self.url(name)

    def drop_database(self, name: str) -> None:
        """Remove a database and whoever is connected to it."""
        with self._connected() as connection:
            connection.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))

    def start(self) -> None:
        """Start, and return when it answers.

        Raises:
            RuntimeError: it ended instead; the text is the end of its log.
        """
        settings = {"listen_addresses": "127.0.0.1", "port": self.port, "unix_socket_directories": self.folder}
        options = [part for name, value in settings.items() for part in ("-c", f"{name}={value}")]
        with (self.folder / "log").open("ab") as log:
            self._process = subprocess.Popen(
                [self.programs / "postgres", "-D", self.folder / "data", *options], stdout=log, stderr=log, **_owner()
            )
        for _ in range(600):
            if self._process.poll() is not None:
                break
            try:
                self._connected().close()
            except psycopg.OperationalError:
                time.sleep(0.05)
            else:
                return
        raise RuntimeError("PostgreSQL did not start: " + (self.folder / "log").read_text()[-2000:])

    def stop(self, *, crash: bool = False) -> None:
        """Stop: in order, or at once as if the power had failed (what is committed is recovered at the next start)."""
        if self._process is not None:
            self._process.send_signal(3 if crash else 2)  # SIGQUIT: immediate; SIGINT: fast
            self._process.wait(60)
            self._process = None

    def _connected(self) -> psycopg.Connection[Any]:
        return psycopg.connect(
            host="127.0.0.1",
            port=self.port,
            user="ldp",
            password=self.password,
            dbname="postgres",
            autocommit=True,
            connect_timeout=5,
        )


@contextmanager
def private_postgres() -> Iterator[PrivatePostgres]:
    """A running server of one's own, removed afterwards.

    Raises:
        PostgresMissingError: as `find_programs`.
    """
    programs, password = find_programs(), secrets.token_hex(16)
    # Not below the caller's temporary folder: the name of a socket has at most 107 bytes.
    folder = Path(tempfile.mkdtemp(prefix="ldp-pg-"))
    server = PrivatePostgres(folder, programs, _free_port(), password)
    try:
        owner = _owner()
        if owner:
            shutil.chown(folder, owner["user"])
        secret = folder / "password"
        secret.write_text(password)
        secret.chmod(0o644)  # in a folder that only its owner enters
        subprocess.run(
            [str(programs / "initdb"), "-D", str(folder / "data"), "-U", "ldp", *_INITDB, f"--pwfile={secret}"],
            check=True,
            stdout=subprocess.DEVNULL,
            cwd=folder,
            **owner,
        )
        server.start()
        yield server
    finally:
        server.stop()
        shutil.rmtree(folder, ignore_errors=True)


def _owner() -> dict[str, Any]:
    if os.geteuid() != 0:
        return {}
    for name in ("postgres", "nobody"):
        try:
            account = pwd.getpwnam(name)
        except KeyError:
            continue
        return {"user": account.pw_uid, "group": account.pw_gid, "extra_groups": []}
    raise RuntimeError("PostgreSQL does not run as root, and this machine has neither a user postgres nor nobody")


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
