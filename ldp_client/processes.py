"""Start the programs that the exchange needs and leave none of them behind.

Flower's SuperLink starts further programs in sessions of their own, which a signal to its process group does not
reach. So every program started here, and all that it starts, carries one mark in its environment; stopping looks for
the mark in /proc.
"""

from __future__ import annotations

import contextlib
import logging
import os
import pwd
import secrets
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType

from ldp_client.errors import ConfigurationError, ExchangeError

FAMILY_VARIABLE = "LDP_PROCESS_FAMILY"
STOP_SECONDS = 10.0
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Program:
    """What to start: the command, its whole environment (nothing is inherited), its log, and the user it runs as."""

    command: Sequence[str]
    environment: Mapping[str, str]
    log: Path
    user: str | None = None
    family: str = field(default_factory=lambda: secrets.token_hex(16))


class Running:
    """One started program with all that it starts."""

    def __init__(self, program: Program) -> None:
        self.program = program
        self._family = program.family
        program.log.parent.mkdir(parents=True, exist_ok=True)
        account = _account(program.user)
        with program.log.open("ab") as log:
            self._process = subprocess.Popen(
                list(program.command),
                env={**program.environment, FAMILY_VARIABLE: _lineage(program.family)},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                # Out of the terminal's group: Ctrl-C reaches us alone, and we stop what we started, in order.
                start_new_session=True,
                user=account.uid,
                group=account.gid,
                extra_groups=account.groups,
            )

    @property
    def pid(self) -> int:
        return self._process.pid

    def alive(self) -> bool:
        return self._process.poll() is None

    def wait(self, timeout_seconds: float | None = None) -> int:
        """Its exit status; raises subprocess.TimeoutExpired."""
        return self._process.wait(timeout_seconds)

    def ask(self) -> None:
        """Ask it with SIGTERM to end, and do not wait."""
        if self.alive():
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGTERM)

    def stop(self, patience_seconds: float = STOP_SECONDS) -> None:
        """Ask with SIGTERM, wait, then kill whatever of the family is left. Calling it again is harmless."""
        if self.alive():
            self.ask()
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(patience_seconds)
        # The first round asks the ones left over, the second does not ask.
        for number, patience in ((signal.SIGTERM, patience_seconds / 4), (signal.SIGKILL, patience_seconds)):
            for pid in family_members(self._family):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, number)
            deadline = time.monotonic() + patience
            while family_members(self._family) and time.monotonic() < deadline:
                self._process.poll()
                time.sleep(0.05)
        self._process.wait(patience_seconds)


def family_members(family: str) -> list[int]:
    """The ids of all live processes that carry this mark."""
    name, wanted = f"{FAMILY_VARIABLE}=".encode(), family.encode()
    members = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal():
            # Processes end while we look, and those of other users are not ours to read; a zombie's is empty.
            with contextlib.suppress(OSError):
                for variable in (entry / "environ").read_bytes().split(b"\0"):
                    if variable.startswith(name) and wanted in variable.removeprefix(name).split(b":"):
                        members.append(int(entry.name))
    return members


def _lineage(family: str) -> str:
    """Our own families' marks and this one: whoever kills our family finds what we started too."""
    return ":".join(filter(None, (os.environ.get(FAMILY_VARIABLE), family)))


def end_on_signals() -> None:
    """From now on the first SIGINT or SIGTERM raises KeyboardInterrupt wherever this program is; later ones do not.

    An exception and not a flag: a program can be stopped while it still waits for another to come up, and every `with`
    above the interrupted line still stops what it started.
    """
    numbers = (signal.SIGINT, signal.SIGTERM)

    def leave(_number: int, _frame: FrameType | None) -> None:
        for number in numbers:
            signal.signal(number, signal.SIG_IGN)
        raise KeyboardInterrupt

    for number in numbers:
        signal.signal(number, leave)


@contextlib.contextmanager
def running(program: Program) -> Iterator[Running]:
    """Start a program and stop it, with all that it started, however the block is left."""
    process = Running(program)
    try:
        yield process
    finally:
        process.stop()


class Supervised:
    """Keeps a program running: started again after each end, at growing intervals.

    A SuperNode that was killed cannot join again until its last heartbeat has expired (about 80 s), so its first
    attempts fail; the interval doubles from `first_seconds` to `most_seconds` and falls back after a minute's life.
    """

    LONG_LIFE_SECONDS = 60.0

    def __init__(self, program: Program, *, first_seconds: float = 1.0, most_seconds: float = 30.0) -> None:
        self._program, self._first, self._most = program, first_seconds, most_seconds
        self._ending = threading.Event()
        self.starts = 0
        self._current = self._start()
        self._thread = threading.Thread(target=self._watch, name="supervisor", daemon=True)
        self._thread.start()

    @property
    def current(self) -> Running:
        return self._current

    def ask(self) -> None:
        """Ask it to end, do not start it again, and do not wait."""
        self._ending.set()
        self._current.ask()

    def renew(self, patience_seconds: float = STOP_SECONDS) -> None:
        """End what runs now, by force where it does not listen; it is started again as after any other end."""
        process = self._current
        process.ask()
        try:
            process.wait(patience_seconds)
        except subprocess.TimeoutExpired:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)

    def stop(self) -> None:
        """End it, with all that it started."""
        self._ending.set()
        self._thread.join()
        self._current.stop()

    def _start(self) -> Running:
        self.starts += 1
        return Running(self._program)

    def _watch(self) -> None:
        delay = self._first
        born = time.monotonic()
        while not self._ending.wait(0.2):
            if self._current.alive():
                continue
            if time.monotonic() - born > self.LONG_LIFE_SECONDS:
                delay = self._first
            _log.warning("program ended and is started again: status=%s delay_seconds=%s", self._current.wait(), delay)
            self._current.stop()
            if self._ending.wait(delay):
                return
            delay = min(2 * delay, self._most)
            self._current = self._start()
            born = time.monotonic()


@contextlib.contextmanager
def supervised(program: Program, *, first_seconds: float = 1.0, most_seconds: float = 30.0) -> Iterator[Supervised]:
    """Keep a program running during the block."""
    supervisor = Supervised(program, first_seconds=first_seconds, most_seconds=most_seconds)
    try:
        yield supervisor
    finally:
        supervisor.stop()


@contextlib.contextmanager
def unwinding_on_sigterm() -> Iterator[None]:
    """Turn SIGTERM into an ordinary exit, so that every `with` above the interrupted line still stops its program."""

    def leave(_number: int, _frame: FrameType | None) -> None:
        raise SystemExit(128 + signal.SIGTERM)

    before = signal.signal(signal.SIGTERM, leave)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def wait_for_port(port: int, alive: Callable[[], bool], *, log: Path, timeout_seconds: float = 60.0) -> None:
    """Wait until something on loopback accepts connections.

    Raises:
        ExchangeError: the program ended or did not listen in time; the message names its log.
    """
    deadline = time.monotonic() + timeout_seconds
    while True:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1.0):
            return
        if not alive():
            raise ExchangeError(f"a program was to listen on port {port} and ended instead; its log is {log}")
        if time.monotonic() > deadline:
            raise ExchangeError(
                f"a program was to listen on port {port} within {timeout_seconds:g} s and did not; its log is {log}"
            )
        time.sleep(0.1)


def free_port() -> int:
    """A port on loopback that nobody listens on at this moment."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def flower_environment(home: Path) -> dict[str, str]:
    """The whole environment of a stock Flower program: its state in our folder, no telemetry, no look for updates."""
    return {
        "PATH": f"{Path(sys.executable).parent}:/usr/local/bin:/usr/bin:/bin",
        "HOME": str(home),
        "LANG": "C.UTF-8",
        "FLWR_HOME": str(home),
        "FLWR_TELEMETRY_ENABLED": "0",
        "FLWR_DISABLE_UPDATE_CHECK": "1",
    }


def flower_program(name: str) -> str:
    """The stock command that was installed beside this Python.

    Raises:
        ConfigurationError: it is not there.
    """
    path = Path(sys.executable).parent / name
    if not path.is_file():
        raise ConfigurationError(
            f"the command {name} was expected beside {sys.executable}; found none; install flwr there"
        )
    return str(path)


@dataclass(frozen=True)
class _Account:
    uid: int | None = None
    gid: int | None = None
    groups: list[int] | None = None


def _account(user: str | None) -> _Account:
    if user is None:
        return _Account()
    try:
        entry = pwd.getpwnam(user)
    except KeyError as error:
        raise ConfigurationError("a program was to run as an operating system user that does not exist") from error
    return _Account(entry.pw_uid, entry.pw_gid, os.getgrouplist(user, entry.pw_gid))
