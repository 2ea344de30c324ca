"""Replaces a key: of the site, which signs what leaves, or of an officer, who signs policies and approvals."""

from __future__ import annotations

from pathlib import Path

from ldp_client.config import AgentConfig, read_toml
from ldp_client.errors import ConfigurationError
from ldp_client.ledger.store import SiteLedger
from ldp_client.new_file import sync_folder
from ldp_client.site import NEW_KEY, SITE_KEY, Site, alone, signing_key
from ldp_client.wire.rotation import Rotation, rotate
from ldp_client.wire.signing import Signer, SigningKey, create_signing_key, read_secret


def rotate_key(folder: Path, officer: Signer, *, lost: bool) -> tuple[bytes, bytes]:
    """Give the site a new signing key; (what the centre is handed, the new public key).

    The ledger's entry comes first and then the key file, each durable: a crash in between is mended by the next look.

    Args:
        lost: the old key is gone, or no longer to be believed, and does not sign.

    Raises:
        ConfigurationError: something is missing, or keys/site.key is not the key in force and `lost` was not said.
        EnvelopeError: the key is no officer's of this site.
        WaitingError: an agent works for this site.
    """
    config = read_toml(folder / "agent.toml", AgentConfig)
    keys = folder / "keys"
    with SiteLedger.open(folder / "ledger.sqlite3") as ledger, alone(folder, config.site.id):
        in_force = ledger.keys()
        old = None if lost else signing_key(keys, ledger)
        if old is not None and old.public_key.hex() != in_force.signing:
            raise ConfigurationError("keys/site.key is not the key in force; say --lost if that one is gone")
        new = keys / NEW_KEY
        # One that a crash left here was never used.
        made = SigningKey(read_secret(new)) if new.exists() else create_signing_key(new)
        rotation = Rotation(
            site=ledger.genesis.site,
            ledger_id=ledger.genesis.ledger_id,
            sequence=ledger.head().sequence + 1,
            role="site",
            old_key=in_force.signing,
            new_key=made.public_key.hex(),
        )
        ledger.file_rotation(rotate(rotation, officer, made, old))
        new.replace(keys / SITE_KEY)
        sync_folder(keys)
        return ledger.rotation() or b"", made.public_key


def rotate_officer(site: Site, old_key: str, new: Signer, officer: Signer) -> None:
    """Put one officer's key into the place of another's: `officer` is any officer in force, the one who goes included.

    Policies and approvals that the old key signed before keep their force.

    Raises:
        EnvelopeError: the signing key is no officer's of this site.
        VerificationError: `old_key` is no officer's of this site, or the new key was known here before.
        WaitingError: an agent works for this site.
    """
    with site.alone():
        rotation = Rotation(
            site=site.ledger.genesis.site,
            ledger_id=site.ledger.genesis.ledger_id,
            sequence=site.ledger.head().sequence + 1,
            role="officer",
            old_key=old_key,
            new_key=new.public_key.hex(),
        )
        old = officer if officer.public_key.hex() == old_key else None
        site.ledger.file_rotation(rotate(rotation, officer, new, old))
