"""Whether a ledger's file is damaged, or something else kept SQLite from reading or writing it."""

from __future__ import annotations

import sqlite3


def is_damage(error: BaseException) -> bool:
    """Whether SQLite has met a database that is not what was written, or the driver a text in it that is no text.

    A file that is no database at all is not damaged, but another one than was meant.
    """
    if isinstance(error, UnicodeDecodeError):
        return True
    if not isinstance(error, sqlite3.DatabaseError):
        return False
    # The driver's own errors have no code of SQLite's.
    code: int | None = getattr(error, "sqlite_errorcode", None)
    if code is None:
        return str(error).startswith("Could not decode")
    return code & 0xFF == sqlite3.SQLITE_CORRUPT
