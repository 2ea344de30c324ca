"""What stops a centre from being served before anything is started."""

from __future__ import annotations

import fcntl
import socket
from pathlib import Path

import pytest

from ldp_client.errors import ExchangeError, WaitingError
from ldp_client.processes import free_port
from server.centre import open_centre
from server.config import ExchangeSection
from server.service import create_centre, serving


def test_a_port_that_is_taken_is_named(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        exchange = ExchangeSection(port=port, superlink_port=free_port())
        path = create_centre(tmp_path / "centre", "Centre", ["127.0.0.1"], exchange)
        centre = open_centre(path)
        try:
            with (
                pytest.raises(
                    ExchangeError, match=rf"127\.0\.0\.1:{port} cannot be listened on .*\[exchange\] port in"
                ),
                serving(path, centre),
            ):
                pass
        finally:
            centre.close()


def test_a_centre_is_served_once(tmp_path: Path) -> None:
    path = create_centre(tmp_path / "centre", "Centre", ["127.0.0.1"], ExchangeSection())
    centre = open_centre(path)
    try:
        with (path.parent / "serve.lock").open("ab") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            with pytest.raises(WaitingError, match="served already, by another process"), serving(path, centre):
                pass
    finally:
        centre.close()
