"""`ldp-client site init` on a machine that stops: the same command again makes one whole site of what is there."""

from __future__ import annotations

import shutil
import sqlite3
from collections.abc import Callable
from pathlib import Path

import pytest

from ldp_client.errors import ConfigurationError
from ldp_client.ledger.migrations import schema
from ldp_client.ledger.store import SiteLedger
from ldp_client.site import Site, create_site, open_site
from tests.client.world import OFFICER


def made(folder: Path, site: str = "north") -> Site:
    return create_site(folder, site, "North Hospital", (OFFICER.public_key,))


def _before_the_ledger(folder: Path) -> None:
    (folder / "agent.toml").unlink()
    for file in folder.glob("ledger.*"):
        file.unlink()


def _first_key_without_bytes(folder: Path) -> None:
    _before_the_ledger(folder)
    (folder / "keys" / "site.key").write_bytes(b"")
    (folder / "keys" / "secret.key").unlink()


def _one_key(folder: Path) -> None:
    _before_the_ledger(folder)
    (folder / "keys" / "secret.key").unlink()


def _empty_ledger(folder: Path) -> None:
    _before_the_ledger(folder)
    (folder / "ledger.sqlite3").touch(mode=0o600)


def _half_written_ledger(folder: Path) -> None:
    """The files of a ledger whose first transaction was never committed."""
    _before_the_ledger(folder)
    begun = folder / "elsewhere.sqlite3"
    connection = sqlite3.connect(begun, isolation_level=None)
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA cache_size = 1")
    connection.executescript("BEGIN IMMEDIATE;\n" + schema())
    for end in ("", "-wal"):
        shutil.copy(f"{begun}{end}", f"{folder / 'ledger.sqlite3'}{end}")
    connection.execute("ROLLBACK")
    connection.close()
    begun.unlink()


def _half_written_settings(folder: Path) -> None:
    (folder / "agent.toml").rename(folder / "agent.toml.part")
    (folder / "agent.toml.part").write_text("[si", encoding="utf-8")


Stop = Callable[[Path], None]
STOPS: list[Stop] = [
    _first_key_without_bytes,
    _one_key,
    _before_the_ledger,
    _empty_ledger,
    _half_written_ledger,
    _half_written_settings,
]


@pytest.mark.parametrize("stop", STOPS)
def test_the_same_command_again_makes_the_site(tmp_path: Path, stop: Stop) -> None:
    folder = tmp_path / "north"
    first = made(folder)
    begun, key = first.ledger.genesis.ledger_id, first.signer.public_key
    first.close()
    stop(folder)
    with pytest.raises(ConfigurationError):
        open_site(folder)
    again = made(folder)
    assert again.ledger.head().sequence == 1
    assert again.ledger.genesis.signing_key == again.signer.public_key.hex()
    assert (again.signer.public_key == key) is (stop is not _first_key_without_bytes)
    # A ledger that was begun is kept, and none is begun a second time.
    assert (again.ledger.genesis.ledger_id == begun) is (stop is _half_written_settings)
    again.close()
    open_site(folder).close()
    assert not list(folder.glob("*.part"))


@pytest.mark.parametrize("stop", [_empty_ledger, _half_written_ledger])
def test_ledger_that_was_never_begun_says_what_to_do(tmp_path: Path, stop: Stop) -> None:
    made(tmp_path).close()
    stop(tmp_path)
    with pytest.raises(
        ConfigurationError, match=r"holds no ledger: .* `ldp-client site init` again .* restore it from its backup"
    ):
        SiteLedger.open(tmp_path / "ledger.sqlite3")


def test_a_site_that_worked_is_not_begun_anew_when_its_ledger_is_emptied(tmp_path: Path) -> None:
    made(tmp_path).close()
    for file in tmp_path.glob("ledger.sqlite3-*"):
        file.unlink()
    (tmp_path / "ledger.sqlite3").write_bytes(b"")
    with pytest.raises(ConfigurationError, match="holds a site already"):
        made(tmp_path)
    with pytest.raises(ConfigurationError, match="if it has ever worked, restore it from its backup"):
        open_site(tmp_path)


def test_ledger_of_another_site_is_not_taken_up(tmp_path: Path) -> None:
    made(tmp_path).close()
    (tmp_path / "agent.toml").unlink()
    with pytest.raises(ConfigurationError, match="exists already; a ledger is never overwritten or begun anew"):
        made(tmp_path, "south")


def test_file_that_is_no_ledger_is_not_overwritten(tmp_path: Path) -> None:
    (tmp_path / "ledger.sqlite3").write_bytes(b"something else" * 100)
    with pytest.raises(ConfigurationError, match="is not a ledger; restore it from its backup"):
        made(tmp_path)
    assert (tmp_path / "ledger.sqlite3").read_bytes() == b"something else" * 100
