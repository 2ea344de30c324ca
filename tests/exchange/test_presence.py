"""A program that ends is noticed, however it ends; what is watched here is a process of its own."""

import fcntl
import multiprocessing
import os
import signal
import sys
import threading
from collections.abc import Callable
from multiprocessing.synchronize import Event
from pathlib import Path

import pytest

from ldp_client.courier import CourierConfig
from ldp_client.presence import LOOK_SECONDS, on_departure, present
from ldp_client.processes import Program, Supervised, free_port
from ldp_client.spool import Inbox, Outbox
from ldp_client.supernode import SuperNodeConfig, courier_running, create_node_key, create_secret, supernode_running
from server.certificates import create_authority


@pytest.fixture
def secret(tmp_path: Path) -> Path:
    path = tmp_path / "secret"
    path.write_bytes(b"s" * 32)
    path.chmod(0o440)
    return path


def be_present(path: Path, here: Event) -> None:
    with present(path):
        here.set()
        signal.pause()


def somebody(path: Path) -> int:
    workers = multiprocessing.get_context("fork")
    here = workers.Event()
    process = workers.Process(target=be_present, args=(path, here), daemon=True)
    process.start()
    assert here.wait(30)
    assert process.pid is not None
    return process.pid


def test_each_departure_is_noticed_even_by_sigkill(secret: Path) -> None:
    departures = threading.Semaphore(0)
    with on_departure(secret, departures.release):
        for _ in range(2):
            pid = somebody(secret)
            assert not departures.acquire(timeout=0.8)
            os.kill(pid, signal.SIGKILL)
            assert departures.acquire(timeout=30)


def test_nothing_is_called_after_the_block(secret: Path) -> None:
    departures, pid = threading.Semaphore(0), somebody(secret)
    with on_departure(secret, departures.release):
        assert not departures.acquire(timeout=0.8)
    os.kill(pid, signal.SIGKILL)
    assert not departures.acquire(timeout=0.8)


@pytest.mark.parametrize("deaf", [False, True])
def test_a_program_is_renewed_though_it_may_not_listen(deaf: bool, tmp_path: Path) -> None:
    ignore = "signal.signal(signal.SIGTERM, signal.SIG_IGN);" if deaf else ""
    ready = tmp_path / "ready"
    script = f"import signal, pathlib; {ignore} pathlib.Path({str(ready)!r}).touch(); signal.pause()"
    program = Program([sys.executable, "-c", script], dict(os.environ), tmp_path / "log")
    supervised = Supervised(program, first_seconds=0.1)
    try:
        first = supervised.current.pid
        wait_until(ready.exists)
        supervised.renew(patience_seconds=0.3)
        wait_until(lambda: supervised.current.pid != first and supervised.current.alive())
    finally:
        supervised.stop()


def test_a_supernode_whose_courier_is_killed_is_started_anew(tmp_path: Path) -> None:
    """Both are the stock program and ours; the centre is away, which neither minds."""
    authority = create_authority(tmp_path / "tls").certificate
    create_node_key(tmp_path / "node")
    create_secret(tmp_path / "secret")
    for box in (Outbox(tmp_path / "spool"), Inbox(tmp_path / "spool")):
        box.create()
    edge = f"127.0.0.1:{free_port()}"
    config = SuperNodeConfig(tmp_path / "state", edge, authority, tmp_path / "node", tmp_path / "secret", free_port())
    courier = CourierConfig(tmp_path / "spool", f"127.0.0.1:{config.port}", config.secret)
    with supernode_running(config) as node, courier_running(courier, tmp_path / "courier") as running:
        first = node.current.pid
        wait_until(lambda: somebody_is_present(config.secret))
        # It has asked for nothing before.
        threading.Event().wait(2 * LOOK_SECONDS)
        os.kill(running.current.pid, signal.SIGKILL)
        wait_until(lambda: node.current.pid != first)


def somebody_is_present(path: Path) -> bool:
    with path.open("rb") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False


def wait_until(holds: Callable[[], bool]) -> None:
    for _ in range(600):
        if holds():
            return
        threading.Event().wait(0.05)
    raise AssertionError("it did not come to hold within 30 seconds")
