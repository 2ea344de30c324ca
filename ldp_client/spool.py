"""Two folders between the agent, which sees X-rays, and the courier, which sees the network.

    outbox/{state,header,batch}                 written by the agent, read by the courier
    inbox/{campaign,receipt,witness,grant}      written by the courier, read by the agent

Each side may be hostile to the other. A writer makes a file whole or leaves nothing that a reader would look at; a
reader follows no link, opens nothing but plain files, reads no more than the limit, and believes a name only when it
is the SHA-256 of the content. Folders are 2750 and files 0640: the other side reads through the folder's group.
"""

from __future__ import annotations

import os
import stat
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from itertools import islice
from pathlib import Path
from typing import ClassVar

from ldp_client.errors import ConfigurationError, ParameterError
from ldp_client.wire.canonical import MAX_DOCUMENT_BYTES
from ldp_client.wire.document import (
    DOWN_KINDS,
    MAX_BATCH_BYTES,
    MAX_DOCUMENTS,
    MAX_OFFER_BYTES,
    UP_KINDS,
    Document,
    file_name,
)

FOLDER_MODE = 0o2750
FILE_MODE = 0o640
# A hostile neighbour can make millions of names; more than this many are not even listed.
MAX_ENTRIES = 4 * MAX_DOCUMENTS
_ANOTHER_USER = (
    "is missing or belongs to another user; run `ldp-client site permissions` as root, and this as its own user"
)
_HEX = frozenset("0123456789abcdef")


class Skip(StrEnum):
    """Why a file in the spool was not read. Nothing more is ever said about it."""

    NAME = "name"
    UNREADABLE = "unreadable"
    NOT_A_FILE = "not_a_file"
    TOO_LARGE = "too_large"
    DIGEST = "digest"
    TOO_MANY = "too_many"


@dataclass(frozen=True)
class Reading:
    """What a look into a box found, and how often each fault was met."""

    documents: list[Document]
    skipped: Mapping[Skip, int] = field(default_factory=dict)


class Disk:
    """The calls whose order decides what a crash leaves behind; an argument, so that a test can watch or cut them."""

    def write(self, path: Path, body: bytes) -> None:
        """Write and fsync a file that no reader looks at yet."""
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, FILE_MODE)
        with os.fdopen(descriptor, "wb") as file:
            os.fchmod(descriptor, FILE_MODE)
            file.write(body)
            file.flush()
            os.fsync(descriptor)

    def rename(self, source: Path, target: Path) -> None:
        """Put the file where readers look, in one step."""
        source.rename(target)

    def remove(self, path: Path) -> None:
        """Take a file away; it is no fault if it is gone already."""
        path.unlink(missing_ok=True)

    def sync_folder(self, folder: Path) -> None:
        """Make the names in a folder survive a power failure."""
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


class _Box:
    """One owner's folder with a sub-folder per kind. Only the owner calls the writing methods."""

    name: ClassVar[str]
    document_kinds: ClassVar[tuple[str, ...]]
    sizes: ClassVar[Mapping[str, int]]

    def __init__(self, root: Path, disk: Disk | None = None) -> None:
        self.folder = root / self.name
        self._disk = Disk() if disk is None else disk

    # The owner's hand.

    def create(self) -> None:
        """Make the folders with mode 2750; harmless when they are there. The group is the parent's (setgid)."""
        for folder in (self.folder, *(self.folder / kind for kind in self.sizes)):
            folder.mkdir(parents=True, exist_ok=True)
            folder.chmod(FOLDER_MODE)

    def check_writable(self) -> None:
        """For the owner, before the first look at an X-ray or at the network.

        Raises:
            ConfigurationError: a folder is missing or is not this user's to write.
        """
        for kind in self.sizes:
            if not os.access(self.folder / kind, os.W_OK | os.X_OK):
                raise ConfigurationError(f"the {self.name} {self.folder} {_ANOTHER_USER}")

    def put(self, kind: str, body: bytes) -> str:
        """Store one document or batch durably and return its name; the same bytes again change nothing.

        Temporary file and its fsync, rename, fsync of the folder: a crash between any two leaves no half file that a
        reader would accept.

        Raises:
            ParameterError: an unknown kind, or more bytes than its limit.
            ConfigurationError: the folder is missing, or its disk is full or cannot be written.
        """
        limit = self._limit(kind)
        if len(body) > limit:
            raise ParameterError(f"a {kind} in the {self.name} has at most {limit} bytes; found {len(body)}")
        folder, name = self._owned(kind), file_name(body)
        if self._read(kind, [name], limit=limit).bodies:
            return name
        # The process id keeps two writers of the same bytes apart; readers pass over names with a dot.
        temporary = folder / f".{name}.{os.getpid()}"
        try:
            self._disk.remove(temporary)
            self._disk.write(temporary, body)
            self._disk.rename(temporary, folder / name)
            self._disk.sync_folder(folder)
        except OSError as error:
            raise ConfigurationError(
                f"the {self.name} {self.folder} cannot be written ({error.strerror}); make room on its disk, "
                "or mount it writable. What was laid out before stays"
            ) from error
        return name

    def remove(self, kind: str, digest: str) -> None:
        """Take one file away, durably."""
        self._limit(kind)
        if not _is_name(digest):
            raise ParameterError("a file of the spool is named by 64 hexadecimal digits; found another name")
        folder = self._owned(kind)
        self._disk.remove(folder / digest)
        self._disk.sync_folder(folder)

    def replace(self, kind: str, bodies: Iterable[bytes]) -> None:
        """Make the folder hold exactly these: the new ones are added before the old ones go.

        So a crash in between leaves both, never neither; remains of earlier crashes are cleared as well.
        """
        wanted = {self.put(kind, body) for body in bodies}
        folder = self._owned(kind)
        stale = sorted(entry.name for entry in folder.iterdir() if entry.name not in wanted)
        for name in stale:
            self._disk.remove(folder / name)
        if stale:
            self._disk.sync_folder(folder)

    # The other side's hand: nothing that the owner put there can make these raise.

    def check_readable(self) -> None:
        """For the reader, once at its start: later, what cannot be read is passed over in silence.

        Raises:
            ConfigurationError: a folder is missing or is not this user's to read.
        """
        for kind in self.sizes:
            if not os.access(self.folder / kind, os.R_OK | os.X_OK):
                raise ConfigurationError(f"the {self.name} {self.folder} {_ANOTHER_USER}")

    def look(self) -> Reading:
        """Read all documents (no batches), kind by kind and sorted by name, up to the limits of one exchange."""
        documents: list[Document] = []
        skipped: Counter[Skip] = Counter()
        left = MAX_OFFER_BYTES
        for kind in self.document_kinds:
            found = self._read(kind, None, limit=self.sizes[kind], most=MAX_DOCUMENTS - len(documents), total=left)
            documents += [Document(kind, body) for body in found.bodies]
            left -= sum(len(body) for body in found.bodies)
            skipped += found.skipped
        return Reading(documents, dict(skipped))

    def documents(self) -> list[Document]:
        """What `look` found, without the faults."""
        return self.look().documents

    def _limit(self, kind: str) -> int:
        if kind not in self.sizes:
            raise ParameterError(f"the {self.name} holds {', '.join(self.sizes)}; found another kind")
        return self.sizes[kind]

    def _owned(self, kind: str) -> Path:
        folder = self.folder / kind
        if folder.is_symlink() or not folder.is_dir():
            raise ConfigurationError(
                f"the {self.name} needs its folder {kind!r}; found none; create the spool as its owner first"
            )
        return folder

    def _read(
        self, kind: str, names: list[str] | None, *, limit: int, most: int = 1, total: int | None = None
    ) -> _Found:
        """Read the named files, or all; every step is relative to a descriptor, so no path is looked up twice."""
        found = _Found([], Counter())
        try:
            folder = _open_folder(self.folder, kind)
        except OSError:
            found.skipped[Skip.UNREADABLE] += 1
            return found
        left = limit if total is None else total
        try:
            for name in _names(folder, found.skipped) if names is None else names:
                body = _read_file(folder, name, limit)
                if isinstance(body, Skip):
                    found.skipped[body] += 1
                    # Read in vain: thousands of wrong files would cost gigabytes of reading at every look.
                    left -= limit if body is Skip.DIGEST else 0
                    if left < 0:
                        found.skipped[Skip.TOO_MANY] += 1
                        break
                elif len(found.bodies) == most or len(body) > left:
                    found.skipped[Skip.TOO_MANY] += 1
                    break
                else:
                    found.bodies.append(body)
                    left -= len(body)
        finally:
            os.close(folder)
        return found


class Outbox(_Box):
    """The agent writes state, headers and sealed batches; the courier reads them."""

    name = "outbox"
    document_kinds = UP_KINDS
    sizes: ClassVar[Mapping[str, int]] = {**dict.fromkeys(UP_KINDS, MAX_DOCUMENT_BYTES), "batch": MAX_BATCH_BYTES}

    def batch(self, digest: str) -> bytes | None:
        """One sealed batch, or None when there is none by that name that can be trusted to be it."""
        if not _is_name(digest):
            return None
        bodies = self._read("batch", [digest], limit=MAX_BATCH_BYTES).bodies
        return bodies[0] if bodies else None


class Inbox(_Box):
    """The courier mirrors the last offer; the agent reads it."""

    name = "inbox"
    document_kinds = DOWN_KINDS
    sizes: ClassVar[Mapping[str, int]] = dict.fromkeys(DOWN_KINDS, MAX_DOCUMENT_BYTES)

    def mirror(self, documents: Iterable[Document]) -> None:
        """Make the inbox hold exactly these documents.

        Raises:
            ParameterError: a kind that does not come down, before anything is written.
        """
        bodies: dict[str, list[bytes]] = {kind: [] for kind in DOWN_KINDS}
        for document in documents:
            self._limit(document.kind)
            bodies[document.kind].append(document.body)
        for kind, content in bodies.items():
            self.replace(kind, content)


@dataclass(frozen=True)
class _Found:
    bodies: list[bytes]
    skipped: Counter[Skip]


def _is_name(name: str) -> bool:
    return len(name) == 64 and _HEX.issuperset(name)


def _open_folder(box: Path, kind: str) -> int:
    flags = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
    outer = os.open(box, flags)
    try:
        return os.open(kind, flags, dir_fd=outer)
    finally:
        os.close(outer)


def _names(folder: int, skipped: Counter[Skip]) -> list[str]:
    """The names in a folder that could be documents, sorted: the folder's own order says nothing."""
    with os.scandir(folder) as entries:
        seen = [entry.name for entry in islice(entries, MAX_ENTRIES + 1)]
    if len(seen) > MAX_ENTRIES:
        skipped[Skip.TOO_MANY] += 1
    names = sorted(name for name in seen[:MAX_ENTRIES] if _is_name(name))
    faults = sum(1 for name in seen[:MAX_ENTRIES] if not _is_name(name) and not name.startswith("."))
    if faults:
        skipped[Skip.NAME] += faults
    return names


def _read_file(folder: int, name: str, limit: int) -> bytes | Skip:
    try:
        # O_NONBLOCK: opening a pipe would wait for a writer that never comes.
        descriptor = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=folder)
    except OSError:
        return Skip.UNREADABLE
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            return Skip.NOT_A_FILE
        if status.st_size > limit:
            return Skip.TOO_LARGE
        with os.fdopen(descriptor, "rb", closefd=False) as file:
            # One byte more than was announced: the file may still be growing.
            body = file.read(status.st_size + 1)
    except OSError:
        return Skip.UNREADABLE
    finally:
        os.close(descriptor)
    return body if file_name(body) == name else Skip.DIGEST
