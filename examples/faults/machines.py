"""The processes of three hospitals and a centre, each kept running as systemd would keep it."""

from __future__ import annotations

import contextlib
import datetime
import fcntl
import os
import signal
import sqlite3
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from examples.demo.network import Network
from ldp_client.processes import Program, Supervised, family_members

KINDS = ("agent", "courier", "supernode", "serverapp", "superlink", "centre")
# Which program of the family of a service it is; None: the service itself.
_PROGRAMS = {"supernode": "flower-supernode", "serverapp": "flwr-serverapp", "superlink": "flower-superlink"}
BEFORE_RELEASE = 3
"""Entries of a ledger that nothing was charged in: its genesis, a policy, an approval."""
_SERVICES = {"agent": "agent", "courier": "courier", "supernode": "node"}


@dataclass
class Machines:
    """All services by name: "centre", and "SITE-agent", "SITE-courier", "SITE-node" for each site."""

    folder: Path
    services: dict[str, Supervised]
    programs: dict[str, Program]
    sites: tuple[str, ...]
    killed: dict[str, int] = field(default_factory=lambda: dict.fromkeys(KINDS, 0))
    _entries_before: dict[str, int] = field(default_factory=dict)
    """Where a site's ledger was when its agent was killed last."""

    def kill(self, kind: str, site: str | None = None) -> bool:
        """Kill one process of a kind with SIGKILL, if one runs now."""
        victims = self._victims(kind, site)
        if not victims:
            return False
        with contextlib.suppress(ProcessLookupError):
            os.kill(victims[0], signal.SIGKILL)
            self.killed[kind] += 1
            if kind == "agent" and site is not None:
                self._entries_before[site] = self._entries(site)
            return True
        return False

    def useful(self, kind: str, site: str) -> bool:
        """Whether a process of a kind runs and has been of use since it began: killed earlier, it would only be killed
        on the doorstep, and nothing would ever move.
        """
        if kind not in _SERVICES:
            # The three are of use together, and only to the gathering.
            if not (self._victims("centre", None) and self._victims("superlink", None)):
                return False
            kind = "serverapp"
        victims = self._victims(kind, site)
        if not victims:
            return False
        began = _began(victims[0])
        if kind == "agent":
            agent = self.folder / site / "agent"
            before = self._entries_before.get(site, BEFORE_RELEASE)
            return _is_held(agent / "agent.lock") and self._entries(site) > before
        if kind in ("courier", "supernode"):
            return bool(self._answers(site, began))
        answers = [answer for name in self.sites for answer in self._answers(name, began)]
        return "query.pull" in answers or len(answers) >= 4

    def _entries(self, site: str) -> int:
        """How many entries the site's ledger has; 0 while its disk is broken."""
        path = self.folder / site / "agent" / "ledger.sqlite3"
        try:
            with contextlib.closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as ledger:
                return int(ledger.execute("SELECT max(sequence) FROM entries").fetchone()[0])
        except sqlite3.Error:
            return 0

    def _answers(self, site: str, since: float) -> list[str]:
        """What the site's courier has answered since a time."""
        found = []
        for line in (self.folder / "logs" / f"{site}-courier.log").read_text().splitlines():
            at, _, what = line.partition(" INFO ldp_client.courier answered ")
            if what and datetime.datetime.fromisoformat(at).timestamp() > since:
                found.append(what)
        return found

    def _victims(self, kind: str, site: str | None) -> list[int]:
        name = f"{site}-{_SERVICES[kind]}" if kind in _SERVICES else "centre"
        wanted = _PROGRAMS.get(kind)
        pids = [self.services[name].current.pid] if wanted is None else self._of_family(name, wanted)
        return [pid for pid in pids if _running(pid)]

    def _of_family(self, name: str, wanted: str) -> list[int]:
        return [pid for pid in family_members(self.programs[name].family) if wanted in _command(pid)]


def _running(pid: int) -> bool:
    """Whether the process is there and not dead already: a zombie can be killed as often as one likes."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def _began(pid: int) -> float:
    """When a process began, in seconds since 1970; infinity if it has ended."""
    try:
        started = int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19])
    except OSError:
        return float("inf")
    age = time.clock_gettime(time.CLOCK_BOOTTIME) - started / os.sysconf("SC_CLK_TCK")
    return time.time() - age


def _is_held(lock: Path) -> bool:
    """Whether somebody holds a lock file: an agent does while it works."""
    try:
        with lock.open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return False
    return False


def _command(pid: int) -> list[str]:
    """The names of the program and of its script."""
    try:
        return [Path(os.fsdecode(part)).name for part in Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")[:2]]
    except OSError:
        return []


@contextlib.contextmanager
def machines(network: Network, edge_port: int, clock: dict[str, Path]) -> Iterator[Machines]:
    """Start everything; stop all of it however the block is left.

    Args:
        edge_port: where the hospitals' nodes reach the centre.
        clock: for some sites, the file that their agent's clock is read from (clocked_agent.py).
    """
    folder, programs = network.folder, {}

    def service(name: str, *command: str) -> None:
        environment = {key: os.environ[key] for key in ("PATH", "HOME", "LANG") if key in os.environ}
        environment["OMP_NUM_THREADS"] = "1"
        program = str(Path(sys.executable).parent / command[0])
        programs[name] = Program([program, *command[1:]], environment, folder / "logs" / f"{name}.log")

    service("centre", "ldp-server", "serve", "--state", str(folder / "centre"))
    for site in network.sites:
        home, port = folder / site, network.node_port(site)
        node = ("--folder", str(home / "node"), "--edge", f"127.0.0.1:{edge_port}", "--port", str(port))
        service(
            f"{site}-node", "ldp-client", "node", "run", *node, "--authority", str(folder / "centre" / "tls" / "ca.crt")
        )
        spool = ("--spool", str(home / "agent" / "spool"), "--secret", str(home / "node" / "courier.secret"))
        service(f"{site}-courier", "ldp-client", "courier", "run", *spool, "--supernode", f"127.0.0.1:{port}")
        state = ("--state", str(home / "agent"))
        if site in clock:
            service(f"{site}-agent", "python", "-m", "examples.faults.clocked_agent", *state, str(clock[site]))
        else:
            service(f"{site}-agent", "ldp-client", "agent", "run", *state, "--interval", "0.5")
    kept: dict[str, Supervised] = {}
    try:
        for name, program in programs.items():
            kept[name] = Supervised(program, first_seconds=0.5, most_seconds=2.0)
        yield Machines(folder, kept, programs, tuple(network.sites))
    finally:
        for one in kept.values():
            one.ask()
        for one in kept.values():
            one.stop()
