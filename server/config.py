"""server.toml: who the centre is, where its database and keys lie, where it listens. Unknown keys are errors.

Every value can be overridden by the environment: LDP_DATABASE__URL stands for [database] url.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tomli_w
from pydantic import Field, StringConstraints, ValidationError
from sqlalchemy import make_url
from sqlalchemy.exc import ArgumentError

from ldp_client.config import Section, read_toml
from ldp_client.errors import ConfigurationError
from ldp_client.wire.canonical import PlainText, canonical_bytes
from ldp_client.wire.exchange import CentreCard
from ldp_client.wire.signing import SealingKey, SigningKey, create_secret, read_secret
from server.store import central
from server.store.database import open_database

CONFIG_NAME, CARD_NAME = "server.toml", "centre.json"
_SIGNING, _SEALING = "signing.key", "sealing.key"
Port = Annotated[int, Field(ge=1, le=65535)]


class CentreSection(Section):
    """[centre]: the name that hospitals see."""

    name: Annotated[PlainText, StringConstraints(min_length=1, max_length=100)]


class DatabaseSection(Section):
    """[database]: an SQLAlchemy URL. A relative SQLite file lies beside the TOML file."""

    url: str = "sqlite:///centre.sqlite3"


class KeysSection(Section):
    """[keys]: the folder of the centre's private keys, relative to the TOML file."""

    folder: Path = Path("keys")


class ExchangeSection(Section):
    """[exchange]: where the edge listens for hospitals, and the SuperLink's port on loopback behind it."""

    host: str = "127.0.0.1"
    port: Port = 8443
    superlink_port: Port = 9091


class ServerConfig(Section):
    """The centre's whole configuration."""

    centre: CentreSection
    database: DatabaseSection = DatabaseSection()
    keys: KeysSection = KeysSection()
    exchange: ExchangeSection = ExchangeSection()


@dataclass(frozen=True)
class CentreKeys:
    """The centre's private keys: one signs what it says, one opens what is sealed to it."""

    signing: SigningKey
    sealing: SealingKey


def read_config(path: Path, environment: Mapping[str, str] | None = None) -> ServerConfig:
    """A checked server.toml, with paths made absolute.

    Raises:
        ConfigurationError: unreadable, not TOML, or a key that is unknown, missing or of a wrong kind; the text names
            the file, the key and what was expected, and never a value: a URL may hold a password.
    """
    config = read_toml(path, ServerConfig, environment)
    folder = path.resolve().parent
    return config.model_copy(
        update={
            "database": DatabaseSection(url=_beside(folder, config.database.url)),
            "keys": KeysSection(folder=folder / config.keys.folder),
        }
    )


def read_keys(config: ServerConfig) -> CentreKeys:
    """The centre's private keys.

    Raises:
        ConfigurationError: one is missing, damaged or readable by others.
    """
    folder = config.keys.folder
    return CentreKeys(SigningKey(read_secret(folder / _SIGNING)), SealingKey(read_secret(folder / _SEALING)))


def initialise(
    folder: Path, name: str, *, exchange: ExchangeSection | None = None, database_url: str | None = None
) -> Path:
    """A new centre: keys, an empty ledger under a random id, the card that hospitals pin; the path of its server.toml.

    The ledger lies in a SQLite file beside server.toml, or in an empty database behind `database_url`.

    Raises:
        ConfigurationError: the folder or the database holds a centre already, or a name that no centre can have.
    """
    path = folder / CONFIG_NAME
    if path.exists():
        raise ConfigurationError(f"{folder} holds a centre already; choose another folder")
    keys = CentreKeys(SigningKey(os.urandom(32)), SealingKey(os.urandom(32)))
    try:
        card = CentreCard(
            name=name, signing_key=keys.signing.public_key.hex(), sealing_key=keys.sealing.public_key.hex()
        )
    except ValidationError:
        raise ConfigurationError(
            f"a centre's name has 1 to 100 characters without line breaks; found {len(name)}"
        ) from None
    (folder / "keys").mkdir(parents=True, mode=0o700, exist_ok=True)
    create_secret(folder / "keys" / _SIGNING, keys.signing.secret)
    create_secret(folder / "keys" / _SEALING, keys.sealing.secret)
    (folder / CARD_NAME).write_bytes(canonical_bytes(card))
    listens = (exchange or ExchangeSection()).model_dump(mode="json")
    sections = {"centre": {"name": name}, "exchange": listens}
    if database_url is not None:
        sections["database"] = {"url": database_url}
    database = open_database(_beside(folder.resolve(), database_url or DatabaseSection().url))
    try:
        with database.transaction() as connection:
            central.begin(connection, name, os.urandom(32).hex())
    finally:
        database.close()
    # Last, so that what has a server.toml is whole. Its URL may hold a password.
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as file:
        file.write(tomli_w.dumps(sections))
    return path


def _beside(folder: Path, url: str) -> str:
    """The URL, with a relative SQLite file made absolute. One that cannot be read is refused when it is opened."""
    try:
        parsed = make_url(url)
    except ArgumentError:
        return url
    if parsed.get_backend_name() != "sqlite" or not parsed.database or parsed.database == ":memory:":
        return url
    return parsed.set(database=str(folder / parsed.database)).render_as_string(hide_password=False)
