"""The chain on disk: SQLite, insert-only, one writer at a time, durable before anything depends on it."""

from __future__ import annotations

import fcntl
import os
import re
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import repeat
from pathlib import Path
from typing import IO, Self

from ldp_client.damage import is_damage
from ldp_client.errors import ChainError, ConfigurationError, DamagedError, LdpError
from ldp_client.ledger.migrations import migrate, schema
from ldp_client.ledger.odometer import Odometer
from ldp_client.new_file import sync_folder
from ldp_client.wire.chain import ZERO, Genesis, LedgerEntry, entry_body, link, parse_entry, walk

# 64 MiB, in units of -1 KiB: the pages that random keys land on stay in memory. SQLite's own 2 MiB hold 10,000 charges.
CACHE = -65536
# Pages of the write-ahead log before they are copied into the file: the same page is written once for many batches.
CHECKPOINT_PAGES = 4000
_HEAD = re.compile("[0-9a-f]{64}")


@dataclass(frozen=True)
class Head:
    """Where a ledger stands: its last sequence number and the chain's hash there."""

    sequence: int
    head: str


@dataclass(frozen=True)
class Row:
    """One entry as it lies on disk."""

    sequence: int
    kind: str
    body: bytes
    head: str


@contextmanager
def locked(lock: IO[bytes]) -> Iterator[None]:
    """Queue writers fairly: BEGIN IMMEDIATE alone lets one process starve the others."""
    fcntl.flock(lock, fcntl.LOCK_EX)
    try:
        yield
    finally:
        fcntl.flock(lock, fcntl.LOCK_UN)


def _in_words(error: BaseException) -> LdpError | None:
    """What the disk holds no more, or refused to write, in words; None of an error that is not the disk's."""
    if is_damage(error):
        return DamagedError()
    if isinstance(error, sqlite3.OperationalError | OSError):
        reason = error.strerror if isinstance(error, OSError) else str(error)
        return ConfigurationError(
            f"the ledger cannot be written ({reason}), so nothing is charged or released; "
            "make room on its disk, or mount it writable. What it holds is whole"
        )
    return None


def _is_blank(connection: sqlite3.Connection) -> bool:
    """Whether nothing was ever committed to this file."""
    return connection.execute("SELECT 1 FROM sqlite_schema LIMIT 1").fetchone() is None


class ChainFile:
    """A SQLite file with a chain of entries. Open it with `open`, make one with `create`; close it or use `with`."""

    def __init__(self, connection: sqlite3.Connection, lock: IO[bytes]) -> None:
        self._connection, self._lock, self._odometer = connection, lock, Odometer()
        genesis = parse_entry(self._one("SELECT body FROM entries WHERE sequence = 1")[0])
        if not isinstance(genesis, Genesis):
            raise ChainError("the ledger does not begin with a genesis entry; restore it from its backup")
        self.genesis = genesis

    @classmethod
    def create(cls, path: Path, genesis: Genesis) -> Self:
        """A new ledger holding its genesis entry; also in the file of one that a crash kept from being begun.

        Raises:
            ConfigurationError: there is something in the file already; a ledger is never overwritten.
        """
        taken = f"{path} exists already; a ledger is never overwritten or begun anew"
        try:
            connection, lock = cls._connect(path)
        except sqlite3.DatabaseError as error:
            raise ConfigurationError(taken) from error
        try:
            with locked(lock):
                if not _is_blank(connection):
                    raise ConfigurationError(taken)
                # One transaction: after a crash in the middle of it the file is blank, and can be begun again.
                connection.executescript("BEGIN IMMEDIATE;\n" + schema())
                body = entry_body(genesis)
                connection.execute(
                    "INSERT INTO entries VALUES (1, 'genesis', ?, ?)", (body, link(genesis.ledger_id, 1, ZERO, body))
                )
                connection.execute("COMMIT")
            sync_folder(path.parent)
            return cls(connection, lock)
        except BaseException:
            connection.close()
            lock.close()
            raise

    @classmethod
    def open(cls, path: Path) -> Self:
        """An existing ledger.

        Raises:
            ConfigurationError: no ledger there, one that was never begun, or one of another version.
        """
        if not path.exists():
            raise ConfigurationError(f"there is no ledger at {path}; create the site with `ldp-client site init`")
        try:
            connection, lock = cls._connect(path)
        except PermissionError as error:
            raise ConfigurationError(
                f"the ledger {path} belongs to another user of this machine; run this as its owner, "
                "or give it back with `ldp-client site permissions`"
            ) from error
        except (sqlite3.DatabaseError, UnicodeDecodeError, OSError) as error:
            if getattr(error, "sqlite_errorcode", None) == sqlite3.SQLITE_NOTADB:
                raise ConfigurationError(f"{path} is not a ledger; restore it from its backup") from error
            words = _in_words(error)
            if words is not None:
                raise words from error
            raise
        try:
            with locked(lock):
                if _is_blank(connection):
                    raise ConfigurationError(
                        f"the file {path} holds no ledger: if the site was being made when the machine stopped, give "
                        "`ldp-client site init` again as before; if it has ever worked, restore it from its backup"
                    )
                migrate(connection)
            return cls(connection, lock)
        except BaseException as error:
            connection.close()
            lock.close()
            words = _in_words(error)
            if words is not None:
                raise words from error
            raise

    @staticmethod
    def _connect(path: Path) -> tuple[sqlite3.Connection, IO[bytes]]:
        os.close(os.open(path, os.O_CREAT | os.O_RDWR, 0o600))
        # isolation_level=None: sqlite3's own transaction would start at the INSERT, after the balance was already read.
        connection = sqlite3.connect(path, isolation_level=None, timeout=30, check_same_thread=False)
        try:
            connection.execute("PRAGMA journal_mode = WAL")
            connection.execute("PRAGMA synchronous = FULL")
            connection.execute("PRAGMA foreign_keys = ON")
            connection.execute(f"PRAGMA cache_size = {CACHE}")
            connection.execute(f"PRAGMA wal_autocheckpoint = {CHECKPOINT_PAGES}")
            # INSERT OR REPLACE deletes without asking the triggers that forbid it, unless told so.
            connection.execute("PRAGMA recursive_triggers = ON")
        except BaseException:
            connection.close()
            raise
        return connection, path.with_suffix(".lock").open("ab")

    def close(self) -> None:
        """Let go of the file."""
        self._connection.close()
        self._lock.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        """All or nothing, durable when it returns; rollback never hides the first error.

        Raises:
            ConfigurationError: the disk is full or cannot be written; nothing was.
            DamagedError: what lies on the disk is damaged; nothing was written.
        """
        with locked(self._lock):
            try:
                self._connection.execute("BEGIN IMMEDIATE")
                yield self._connection
                self._connection.execute("COMMIT")
            except BaseException as error:
                # A full disk makes SQLite roll back by itself: doing it twice would hide that error.
                if self._connection.in_transaction:
                    self._connection.execute("ROLLBACK")
                # What else a transaction does on a disk speaks for itself.
                words = None if isinstance(error, OSError) else _in_words(error)
                if words is not None:
                    raise words from error
                raise

    def _one(self, query: str, *parameters: object) -> tuple[bytes, ...]:
        row: tuple[bytes, ...] | None = self._connection.execute(query, parameters).fetchone()
        if row is None:
            raise ChainError("the ledger has no such entry; restore it from its backup and verify it")
        return row

    def _append(self, entry: LedgerEntry) -> int:
        """Chain one entry to the end, inside the caller's transaction; its sequence number."""
        return self._chain(entry.kind, [entry_body(entry)])[0]

    def _chain(self, kind: str, bodies: Sequence[bytes]) -> range:
        """Chain entries of one kind, by their canonical bytes, inside the caller's transaction; their numbers."""
        at = self.head()
        numbers = range(at.sequence + 1, at.sequence + 1 + len(bodies))
        heads = walk(self.genesis.ledger_id, numbers.start, at.head, bodies)
        self._connection.executemany(
            "INSERT INTO entries VALUES (?, ?, ?, ?)", zip(numbers, repeat(kind), bodies, heads, strict=False)
        )
        return numbers

    def head(self) -> Head:
        """Where the ledger stands."""
        row = self._connection.execute("SELECT sequence, head FROM entries ORDER BY sequence DESC LIMIT 1").fetchone()
        if not _HEAD.fullmatch(row[1]):
            raise DamagedError(f"the hash of entry {row[0]} is damaged")
        return Head(*row)

    def head_at(self, sequence: int) -> str | None:
        """The chain's hash at an entry, or None beyond the end."""
        row = self._connection.execute("SELECT head FROM entries WHERE sequence = ?", (sequence,)).fetchone()
        return None if row is None else str(row[0])

    def rows(self, first: int = 1, last: int | None = None) -> Iterator[Row]:
        """Entries in order."""
        end = self.head().sequence if last is None else last
        query = "SELECT sequence, kind, body, head FROM entries WHERE sequence BETWEEN ? AND ? ORDER BY sequence"
        for row in self._connection.execute(query, (first, end)):
            yield Row(*row)
