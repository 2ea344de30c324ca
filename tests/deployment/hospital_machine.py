"""A hospital's machine: three users, and their programs, started as systemd would start them."""

from __future__ import annotations

import json
import os
import pwd
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

from ldp_client.processes import Program

REPOSITORY = Path(__file__).parents[2]
BIN = Path(sys.executable).parent
# With this process's id: two runs of the tests on one machine must not take away each other's users.
PREFIX = "ldp-test-"
AGENT, COURIER, NODE = USERS = [f"{PREFIX}{name}-{os.getpid()}" for name in ("agent", "courier", "node")]

# Tries each path as the user it runs as: what opening it to read and to write comes to, in the kernel's words.
PROBE = """
import errno, json, os, sys
def tried(act):
    try:
        act()
        return "OK"
    except OSError as error:
        return errno.errorcode[error.errno]
def make(folder):
    new = os.path.join(folder, ".probe")
    os.close(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL))
    os.unlink(new)
def shut(path, flags):
    os.close(os.open(path, flags | os.O_NONBLOCK))
def probe(path, folder):
    if folder:
        return tried(lambda: os.scandir(path).close()), tried(lambda: make(path))
    return tried(lambda: shut(path, os.O_RDONLY)), tried(lambda: shut(path, os.O_WRONLY))
json.dump({path: probe(path, folder) for path, folder in json.load(sys.stdin)}, sys.stdout)
"""


def need_root() -> None:
    if os.geteuid() != 0:
        pytest.fail(
            "this test makes three users of the operating system and needs root; run it as root, "
            'or leave it out with -m "not root"'
        )


def make_users() -> None:
    for name in [entry.pw_name for entry in pwd.getpwall()]:
        # What a run that was killed has left.
        if name.startswith(PREFIX) and not Path("/proc", name.rpartition("-")[2]).exists():
            _userdel(name)
    for user in USERS:
        command = ["useradd", "--system", "--user-group", "--no-create-home", "--home-dir", "/nonexistent"]
        subprocess.run([*command, "--shell", "/usr/sbin/nologin", user], check=True, capture_output=True)


def remove_users() -> None:
    for user in USERS:
        _userdel(user)


def _userdel(user: str) -> None:
    # The group of the same name goes along.
    subprocess.run(["userdel", user], check=False, capture_output=True)


@dataclass
class Machine:
    """Folders as docs/install.md names them, under one that is thrown away."""

    folder: Path

    @classmethod
    def make(cls) -> Machine:
        # pytest's own folders are closed to other users, as a hospital's /var/lib is not.
        folder = Path(tempfile.mkdtemp(prefix="ldp-hospital-"))
        folder.chmod(0o755)
        (folder / "hold").mkdir()
        return cls(folder)

    @property
    def site(self) -> Path:
        return self.folder / "site"

    @property
    def node(self) -> Path:
        return self.folder / "node"

    @property
    def centre(self) -> Path:
        return self.folder / "centre"

    def remove(self) -> None:
        shutil.rmtree(self.folder)

    def environment(self) -> dict[str, str]:
        return {
            "PATH": f"{BIN}:/usr/sbin:/usr/bin:/sbin:/bin",
            "LANG": "C.UTF-8",
            "HOME": "/nonexistent",
            "OMP_NUM_THREADS": "1",
            "FLWR_TELEMETRY_ENABLED": "0",
            "FLWR_DISABLE_UPDATE_CHECK": "1",
            "LDP_STATE": str(self.site),
            "LDP_CENTRE": str(self.centre),
        }

    def as_user(self, user: str, command: Sequence[str], *, offline: bool = False) -> list[str]:
        """A command as one of the three: User=, UMask=, NoNewPrivileges=, no capability, and with `offline`
        PrivateNetwork=. What a developer's machine closes to others (a Python below /root) is bound in, as
        ProtectHome=tmpfs with BindReadOnlyPaths= would."""
        drop = f"setpriv --reuid={user} --regid={user} --init-groups --no-new-privs --bounding-set=-all --inh-caps=-all"
        script = "\n".join(["set -e", *self._mounts(), "umask 0077", f'exec {drop} "$@"'])
        spaces = ["--mount", "--net"] if offline else ["--mount"]
        return ["unshare", *spaces, "--", "/bin/sh", "-c", script, "sh", *command]

    def _mounts(self) -> list[str]:
        wanted = [Path(sys.base_prefix).resolve(), Path(sys.prefix).resolve(), REPOSITORY]
        closed = {path: shut for path in wanted if (shut := _closed_above(path)) is not None}
        lines = []
        for number, path in enumerate(closed):
            (self.folder / "hold" / str(number)).mkdir(exist_ok=True)
            lines.append(f"mount --bind '{path}' '{self.folder}/hold/{number}'")
        lines += [f"mount -t tmpfs -o mode=755 tmpfs '{shut}'" for shut in sorted(set(closed.values()))]
        for number, path in enumerate(closed):
            lines.append(f"mkdir -p '{path}' && mount --bind -o ro '{self.folder}/hold/{number}' '{path}'")
        return lines

    def run(self, *command: str, user: str | None = None, expect: int = 0) -> str:
        """Run a command to its end; what it printed. As root, or as one of the three."""
        words = [str(BIN / command[0]), *command[1:]]
        done = subprocess.run(
            words if user is None else self.as_user(user, words),
            env=self.environment(),
            cwd="/",
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=100,
            check=False,
        )
        assert done.returncode == expect, f"{command} ended with {done.returncode}: {done.stdout}{done.stderr}"
        return done.stdout if expect == 0 else done.stderr

    def program(self, name: str, *command: str, user: str | None = None, offline: bool = False) -> Program:
        """A service, with its log under the machine's folder."""
        words = [str(BIN / command[0]), *command[1:]]
        words = words if user is None else self.as_user(user, words, offline=offline)
        return Program(words, self.environment(), self.folder / "logs" / f"{name}.log")

    def probe(self, user: str, paths: Sequence[Path]) -> dict[Path, tuple[str, str]]:
        """What reading and writing each path comes to for a real process of this user: OK, or the kernel's word."""
        done = subprocess.run(
            self.as_user(user, [sys.executable, "-c", PROBE]),
            input=json.dumps([(str(path), path.is_dir()) for path in paths]),
            env=self.environment(),
            cwd="/",
            capture_output=True,
            text=True,
            check=True,
        )
        return {Path(path): (read, write) for path, (read, write) in json.loads(done.stdout).items()}


def everything_in(folder: Path) -> list[Path]:
    """A folder and all below it, as root sees them."""
    return [folder, *sorted(folder.rglob("*"))]


def user_id(user: str) -> int:
    return pwd.getpwnam(user).pw_uid


def _closed_above(path: Path) -> Path | None:
    """The topmost folder on the way to a path that other users cannot pass through."""
    for folder in [*reversed(path.parents), path]:
        if not folder.stat().st_mode & 0o001:
            return folder
    return None
