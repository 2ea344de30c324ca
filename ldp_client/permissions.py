"""Three users of the operating system, and what each of them may touch: set as root, then tried out as each of them.

    site folder   agent   0710, group of the courier: it passes through to the spool and can list nothing
      everything else in it   agent   0700 and 0600
      spool/outbox            agent   2750 and 0640, group of the courier: it reads
      spool/inbox             courier 2750 and 0640, group of the agent: it reads
    node folder   node    0710, group of the courier: it passes through to the secret
      courier.secret          node    0640, group of the courier
      everything else in it   node    0700 and 0600

Each user needs its own primary group and no other: nobody has to be made a member of anything.
"""

from __future__ import annotations

import json
import os
import pwd
import stat
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from ldp_client.config import AgentConfig, read_toml
from ldp_client.errors import ConfigurationError
from ldp_client.spool import FILE_MODE, FOLDER_MODE, Inbox, Outbox

SHARED_NAME = "courier.secret"
"""In the node's folder: the secret that node and courier share."""
PASSAGE = 0o710
_NOT_ONE_FILE = "is a link, or has a second name; remove it and try again"


@dataclass(frozen=True)
class Account:
    """A user of this machine."""

    name: str
    uid: int
    gid: int


@dataclass(frozen=True)
class Accounts:
    """The three users of a site."""

    agent: Account
    courier: Account
    node: Account


@dataclass(frozen=True)
class Places:
    """A site's folder, its node's folder, and where its X-rays and labels are (which may lie elsewhere)."""

    site: Path
    node: Path
    xrays: Path
    labels: Path


def find_accounts(agent: str, courier: str, node: str) -> Accounts:
    """The three users by their names.

    Raises:
        ConfigurationError: one does not exist or is root, or two of them are one or share their primary group.
    """
    found = [_account(name) for name in (agent, courier, node)]
    if len({account.uid for account in found}) < 3 or len({account.gid for account in found}) < 3:
        raise ConfigurationError(
            f"agent, courier and node are three users with three primary groups; found {agent}, {courier} and {node}, "
            "of which two are one or share a group. Make each with `useradd --system --user-group`"
        )
    return Accounts(*found)


def find_places(site: Path, node: Path) -> Places:
    """Where a site's things are, from its agent.toml.

    Raises:
        ConfigurationError: there is no site or no node's secret there, or one folder lies in the other.
    """
    site, node = site.resolve(), node.resolve()
    config = read_toml(site / "agent.toml", AgentConfig)
    if site.is_relative_to(node) or node.is_relative_to(site):
        raise ConfigurationError(f"the site's folder {site} and the node's {node} must lie apart; move one of them")
    for box in (Outbox(site / "spool"), Inbox(site / "spool")):
        if not box.folder.is_dir():
            raise ConfigurationError(f"{box.folder} is missing; make it, as `ldp-client site init` once did")
    if not (node / SHARED_NAME).is_file():
        raise ConfigurationError(f"{node} holds no {SHARED_NAME}; make it with `ldp-client node key`")
    return Places(site, node, (site / config.data_set.folder).resolve(), (site / config.data_set.labels).resolve())


def set_permissions(places: Places, accounts: Accounts) -> None:
    """Give every file its owner, group and mode. X-rays that lie outside the site's folder are left as they are.

    Raises:
        ConfigurationError: not root, or a name that is no plain file or folder of its own.
    """
    if os.geteuid() != 0:
        raise ConfigurationError("only root can give files to other users; run the command with sudo")
    agent, courier, node = accounts.agent, accounts.courier, accounts.node
    spool = places.site / "spool"
    outbox, inbox = Outbox(spool).folder, Inbox(spool).folder
    # First, and refused if it is a link: what follows goes through it.
    _give_one(spool, agent, courier.gid, PASSAGE)
    _give(places.site, agent, agent.gid, 0o700, 0o600, leave_out=spool)
    _give(outbox, agent, courier.gid, FOLDER_MODE, FILE_MODE)
    _give(inbox, courier, agent.gid, FOLDER_MODE, FILE_MODE)
    _give(places.node, node, node.gid, 0o700, 0o600)
    _give_one(places.node / SHARED_NAME, node, courier.gid, FILE_MODE)
    _give_one(places.site, agent, courier.gid, PASSAGE)
    _give_one(places.node, node, courier.gid, PASSAGE)


def faults(places: Places, accounts: Accounts) -> list[str]:
    """What each user can touch and must not, or must and cannot; tried as that user, so the kernel answers.

    Raises:
        ConfigurationError: not root.
    """
    if os.geteuid() != 0:
        raise ConfigurationError("only root can try what other users may touch; run the command with sudo")
    agent, courier, node = accounts.agent, accounts.courier, accounts.node
    outbox, inbox = Outbox(places.site / "spool"), Inbox(places.site / "spool")
    outgoing, incoming = ([box.folder / kind for kind in box.sizes] for box in (outbox, inbox))
    # Listed as root, before anybody else asks.
    inside = [path for path in places.site.iterdir() if path.name != "spool"]
    site_own = list(dict.fromkeys([*inside, places.xrays, places.labels]))
    folders = [path for path in site_own if path.is_dir()]
    node_own = [path for path in places.node.iterdir() if path.name != SHARED_NAME]
    secret = places.node / SHARED_NAME
    ledger = [path for path in inside if path.name.startswith("ledger.")]
    key_files = [places.site / "agent.toml", *(places.site / "keys").iterdir()]
    # X-rays may come later, or from a share that is not mounted yet.
    data = [path for path in (places.xrays, places.labels) if path.exists()]

    def as_agent() -> Iterator[str]:
        yield from _must(agent, "write", [places.site, *ledger, *outgoing])
        yield from _must(agent, "read", [*key_files, *incoming, *data])
        yield from _must_not(agent, "write", incoming)
        yield from _must_not(agent, "read", [*node_own, secret])

    def as_courier() -> Iterator[str]:
        yield from _must(courier, "write", incoming)
        yield from _must(courier, "read", [*outgoing, secret])
        yield from _must_not(courier, "write", [places.site, *outgoing])
        yield from _must_not(courier, "read", [places.site, *site_own, *node_own])
        yield from _must_not(courier, "enter", folders)

    def as_node() -> Iterator[str]:
        yield from _must(node, "write", [places.node])
        yield from _must(node, "read", [*node_own, secret])
        yield from _must_not(node, "read", [*site_own, *outgoing, *incoming])
        yield from _must_not(node, "enter", [places.site, places.xrays])

    return [*_as(agent, as_agent), *_as(courier, as_courier), *_as(node, as_node)]


def _account(name: str) -> Account:
    try:
        entry = pwd.getpwnam(name)
    except KeyError:
        raise ConfigurationError(
            f"there is no user {name} on this machine; make it with `useradd --system --user-group {name}`"
        ) from None
    if entry.pw_uid == 0:
        raise ConfigurationError("root can touch everything; give agent, courier and node users of their own")
    return Account(name, entry.pw_uid, entry.pw_gid)


def _give(
    folder: Path, owner: Account, group: int, folder_mode: int, file_mode: int, *, leave_out: Path | None = None
) -> None:
    """A folder and all below it. Every step goes through a descriptor: the owner of a folder may be hostile, and root
    must not be led to another file by a link that appears in between."""
    _give_one(folder, owner, group, folder_mode)
    for parent, folders, files, descriptor in os.fwalk(folder, follow_symlinks=False):
        if leave_out is not None:
            folders[:] = [name for name in folders if Path(parent) / name != leave_out]
        for name, mode in (*((name, folder_mode) for name in folders), *((name, file_mode) for name in files)):
            _give_one(Path(parent) / name, owner, group, mode, descriptor)


def _give_one(path: Path, owner: Account, group: int, mode: int, parent: int | None = None) -> None:
    try:
        descriptor = os.open(
            path if parent is None else path.name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK, dir_fd=parent
        )
    except FileNotFoundError:
        # SQLite takes its side files away when the last reader leaves.
        return
    except OSError as error:
        raise ConfigurationError(f"{path} {_NOT_ONE_FILE}") from error
    try:
        status = os.fstat(descriptor)
        folder = stat.S_ISDIR(status.st_mode)
        if not folder and (not stat.S_ISREG(status.st_mode) or status.st_nlink != 1):
            raise ConfigurationError(f"{path} {_NOT_ONE_FILE}")
        os.fchown(descriptor, owner.uid, group)
        # After the owner: a change of owner may clear the bit that hands the group on.
        os.fchmod(descriptor, mode)
    finally:
        os.close(descriptor)


def _must(account: Account, verb: str, paths: list[Path]) -> Iterator[str]:
    for path in paths:
        if not _can(verb, path):
            yield f"{account.name} must be able to {verb} {path} and cannot"


def _must_not(account: Account, verb: str, paths: list[Path]) -> Iterator[str]:
    for path in paths:
        if _can(verb, path):
            yield f"{account.name} can {verb} {path} and must not"


def _can(verb: str, path: Path) -> bool:
    """Whether this process could; of a folder: list it, make a file in it, pass through it to a name it knows."""
    return os.access(path, {"read": os.R_OK, "write": os.W_OK, "enter": os.X_OK}[verb])


def _as(account: Account, ask: Callable[[], Iterator[str]]) -> list[str]:
    """Ask in a child process that has become the user for good."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        # Nothing of the parent's may run twice: the child leaves by _exit, whatever happens.
        with suppress(BaseException):
            os.close(reading)
            os.initgroups(account.name, account.gid)
            os.setgid(account.gid)
            os.setuid(account.uid)
            with os.fdopen(writing, "w") as answer:
                json.dump(list(ask()), answer)
            os._exit(0)
        os._exit(1)
    os.close(writing)
    with os.fdopen(reading) as answer:
        said = answer.read()
    if os.waitpid(child, 0)[1] != 0:
        raise ConfigurationError(f"nothing could be tried as user {account.name}; is this run as root?")
    found: list[str] = json.loads(said)
    return found
