"""The one door to the database: `transaction()` to write, `snapshot()` to read."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from importlib.resources import files
from typing import Any

from alembic import command
from alembic.config import Config
from alembic.util import CommandError
from sqlalchemy import Connection, Engine, create_engine, event, make_url, text
from sqlalchemy.exc import ArgumentError, DBAPIError, SQLAlchemyError

from ldp_client.damage import is_damage
from ldp_client.errors import ConfigurationError, DamagedError

LOCK_SECONDS = 30
_READING = "ldp_reading"
_UPGRADE_LOCK = 0x6C64702D676C6F77  # "ldp-glow"


class Database:
    """A database whose tables are up to date. Make one with `open_database`."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    @contextmanager
    def transaction(self) -> Iterator[Connection]:
        """All of it is durable when the block ends, or none of it is there.

        One writer at a time in SQLite; in PostgreSQL (READ COMMITTED), rows that must not move are locked with SELECT
        ... FOR UPDATE.
        """
        with self._engine.connect() as connection, _one_of(connection):
            yield connection

    @contextmanager
    def snapshot(self) -> Iterator[Connection]:
        """One unchanging view of everything, that holds up no writer."""
        options: dict[str, Any] = {_READING: True}
        if self._engine.dialect.name == "postgresql":
            # READ COMMITTED would show each statement another state.
            options |= {"isolation_level": "REPEATABLE READ", "postgresql_readonly": True}
        reading = self._engine.execution_options(**options)
        with reading.connect() as connection, _one_of(connection):
            yield connection

    def close(self) -> None:
        """Let go of all connections."""
        self._engine.dispose()


@contextmanager
def _one_of(connection: Connection) -> Iterator[None]:
    transaction = connection.begin()
    try:
        yield
    except BaseException as error:
        # A rollback that fails too (the disk is gone) must not hide what went wrong first.
        with suppress(SQLAlchemyError):
            transaction.rollback()
        if _is_damage(error):
            raise DamagedError("the centre's database is damaged") from error
        raise
    transaction.commit()


def _is_damage(error: BaseException) -> bool:
    return is_damage(error.orig or error if isinstance(error, DBAPIError) else error)


def open_database(url: str) -> Database:
    """Open the database and bring its tables up to date; the migrations come with this package.

    Raises:
        ConfigurationError: no such kind of database, it cannot be opened, or a newer version has written it. The text
            never shows a password.
    """
    try:
        parsed = make_url(url)
        # Tried before each use: a connection that PostgreSQL's restart has cut is replaced, not handed out.
        engine = create_engine(parsed, pool_pre_ping=True)
    except (ArgumentError, ImportError):
        # Not chained: the cause quotes the URL, and a URL holds a password.
        raise ConfigurationError(
            "the database URL cannot be used; expected sqlite:///FILE, "
            "or postgresql+psycopg://USER@HOST/NAME with the extra `postgres` installed"
        ) from None
    if engine.dialect.name == "sqlite":
        _use_sqlite_safely(engine)
    elif engine.dialect.name == "postgresql":
        _use_postgresql_safely(engine)
    database = Database(engine)
    shown = parsed.render_as_string(hide_password=True)
    try:
        with database.transaction() as connection:
            _upgrade(connection)
    except (DBAPIError, UnicodeDecodeError) as error:
        database.close()
        if _is_damage(error):
            raise DamagedError(f"the database {shown} is damaged") from None
        raise ConfigurationError(
            f"the database {shown} cannot be opened ({type(error).__name__}); "
            "check that it exists, that this user may write it and that it is a database"
        ) from None
    except CommandError as error:
        database.close()
        raise ConfigurationError(
            f"the tables in {shown} are not of this version; install the version that wrote them, or a later one"
        ) from error
    return database


def _use_sqlite_safely(engine: Engine) -> None:
    @event.listens_for(engine, "connect")
    def _on_connect(dbapi_connection: Any, _record: Any) -> None:
        # The driver would begin a transaction of its own at the first INSERT, after balances were already read.
        dbapi_connection.isolation_level = None
        for pragma in (
            "journal_mode = WAL",
            "synchronous = FULL",
            "foreign_keys = ON",
            # INSERT OR REPLACE deletes without asking the triggers that forbid it, unless told so.
            "recursive_triggers = ON",
            f"busy_timeout = {LOCK_SECONDS * 1000}",
            # 64 MiB of pages, and a write-ahead log of 32 MiB, so that a page is copied once for many batches.
            "cache_size = -65536",
            "wal_autocheckpoint = 8000",
        ):
            dbapi_connection.execute(f"PRAGMA {pragma}")

    @event.listens_for(engine, "begin")
    def _on_begin(connection: Connection) -> None:
        reading = connection.get_execution_options().get(_READING, False)
        connection.exec_driver_sql("BEGIN" if reading else "BEGIN IMMEDIATE")


def _use_postgresql_safely(engine: Engine) -> None:
    @event.listens_for(engine, "connect")
    def _on_connect(dbapi_connection: Any, _record: Any) -> None:
        with dbapi_connection.cursor() as cursor:
            # Whatever the server's default is: the centre commits before it answers, and a commit is on the disk.
            cursor.execute("SET synchronous_commit = on")
            cursor.execute(f"SET lock_timeout = '{LOCK_SECONDS}s'")
            cursor.execute("SHOW fsync")
            durable = cursor.fetchone()[0] == "on"
        dbapi_connection.commit()
        if not durable:
            raise ConfigurationError(
                "the PostgreSQL server runs with fsync = off: a power cut could take back what was receipted; "
                "set fsync = on in postgresql.conf"
            )


def _upgrade(connection: Connection) -> None:
    if connection.dialect.name == "postgresql":
        # Two processes that open a new database at once would both make its tables.
        connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _UPGRADE_LOCK})
    config = Config()
    # The option is a template: a % in the installation's path would be read as one.
    config.set_main_option("script_location", str(files("server.store") / "migrations").replace("%", "%%"))
    config.set_main_option("path_separator", "os")
    config.attributes["connection"] = connection
    command.upgrade(config, "head")
