"""Keys of the exchange: Ed25519 to sign, X25519 HPKE to seal. Private keys are files that only their owner can read."""

from __future__ import annotations

import hashlib
import os
import stat
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Protocol

from cryptography.exceptions import InvalidSignature, InvalidTag
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.hpke import AEAD, KDF, KEM, Suite

from ldp_client.errors import ConfigurationError, EnvelopeError
from ldp_client.new_file import sync_folder

SEAL_INFO = b"ldp-glow/batch/v1"
_SUITE = Suite(KEM.X25519, KDF.HKDF_SHA256, AEAD.CHACHA20_POLY1305)


def key_id(public_key: bytes) -> bytes:
    """SHA-256 of a raw public key: 32 bytes that name it in an envelope."""
    return hashlib.sha256(b"ldp-glow/key/v1" + public_key).digest()


def fingerprint(public_key: bytes) -> str:
    """Sixteen hex digits in groups of four, short enough to read out by telephone."""
    return in_groups(key_id(public_key))


def in_groups(name: bytes) -> str:
    """The same of a key that is known by its id alone."""
    text = name.hex()[:16]
    return "-".join(text[start : start + 4] for start in range(0, 16, 4))


class Signer(Protocol):
    """Something that signs in one name."""

    @property
    def public_key(self) -> bytes: ...

    def sign(self, message: bytes) -> bytes: ...


@dataclass(frozen=True, repr=False)
class SigningKey:
    """An Ed25519 private key. Its text form never shows it."""

    secret: bytes

    @property
    def public_key(self) -> bytes:
        return Ed25519PrivateKey.from_private_bytes(self.secret).public_key().public_bytes_raw()

    def sign(self, message: bytes) -> bytes:
        """A 64-byte signature; deterministic, as Ed25519 is."""
        return Ed25519PrivateKey.from_private_bytes(self.secret).sign(message)


@dataclass(frozen=True, repr=False)
class SealingKey:
    """The centre's X25519 private key, to which batches are sealed."""

    secret: bytes

    @property
    def public_key(self) -> bytes:
        return X25519PrivateKey.from_private_bytes(self.secret).public_key().public_bytes_raw()


_SMALL = 1 << 13


def _verify(public_key: bytes, signature: bytes, message: bytes) -> None:
    Ed25519PublicKey.from_public_bytes(public_key).verify(signature, message)


# The policy and the approval that stand are read for every batch of charges. What is not good is never remembered.
_verify_small = lru_cache(maxsize=64)(_verify)


def check_signature(public_key: bytes, signature: bytes, message: bytes) -> None:
    """Return if the signature is good.

    Raises:
        EnvelopeError: it is not.
    """
    try:
        verify = _verify_small if len(message) <= _SMALL else _verify
        verify(public_key, signature, message)
    except (InvalidSignature, ValueError) as error:
        raise EnvelopeError(
            "the signature does not belong to these bytes and this key; they were altered or signed by somebody else"
        ) from error


def seal(plaintext: bytes, centre_sealing_key: bytes) -> bytes:
    """HPKE (RFC 9180: X25519, HKDF-SHA256, ChaCha20-Poly1305) to the centre: Flower and the network carry only this.

    Raises:
        EnvelopeError: the key is not 32 bytes, or a point that gives every sender the same secret.
    """
    try:
        return _SUITE.encrypt(plaintext, X25519PublicKey.from_public_bytes(centre_sealing_key), info=SEAL_INFO)
    except ValueError as error:
        raise EnvelopeError(
            "the centre's sealing key is no key that can be sealed to; compare the centre's card with its publisher"
        ) from error


def unseal(sealed: bytes, key: SealingKey) -> bytes:
    """Open what `seal` closed.

    Raises:
        EnvelopeError: not sealed to this key, or altered.
    """
    try:
        return _SUITE.decrypt(sealed, X25519PrivateKey.from_private_bytes(key.secret), info=SEAL_INFO)
    except (InvalidTag, ValueError) as error:
        raise EnvelopeError(
            "the sealed bytes do not open with the centre's key; they were altered or meant for another"
        ) from error


def create_secret(path: Path, secret: bytes) -> None:
    """Write a secret into a new file of mode 0600, durably.

    Raises:
        ConfigurationError: the file exists already (a key is never overwritten), or the folder cannot be written.
    """
    try:
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
    except FileExistsError as error:
        raise ConfigurationError(
            f"{path} exists already and is not overwritten; move it away to make a new one"
        ) from error
    except OSError as error:
        raise ConfigurationError(
            f"the key file {path} cannot be made ({error.strerror}); make its folder first, as the user who reads it"
        ) from error
    with os.fdopen(handle, "wb") as file:
        file.write(secret)
        file.flush()
        os.fsync(file.fileno())
    sync_folder(path.parent)


def create_signing_key(path: Path) -> SigningKey:
    """A new Ed25519 key from the operating system's randomness, in a new file of mode 0600.

    Raises:
        ConfigurationError: the file exists already.
    """
    secret = os.urandom(32)
    create_secret(path, secret)
    return SigningKey(secret)


def read_shared_secret(path: Path, most: int = 1 << 12) -> bytes:
    """Read a secret that its owner and one group share: two programs of one machine under two users.

    Raises:
        OSError: it cannot be opened.
        ConfigurationError: not a plain file, readable by everybody, or writable by others than its owner.
    """
    handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    try:
        status = os.fstat(handle)
        if not stat.S_ISREG(status.st_mode) or status.st_mode & 0o027:
            raise ConfigurationError(
                f"the file {path} must be a plain file that only its owner and one group can read: chmod 640 {path}"
            )
        return os.read(handle, most)
    finally:
        os.close(handle)


def read_secret(path: Path, length: int = 32) -> bytes:
    """Read a secret that nobody but its owner can read.

    Raises:
        ConfigurationError: missing, not a plain file, readable by others, or of another length.
    """
    try:
        # Without O_NONBLOCK, opening a pipe would wait for ever for somebody to write to it.
        handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError as error:
        raise ConfigurationError(
            f"the key file {path} cannot be opened ({error.strerror}); create it, or run as its owner"
        ) from error
    try:
        status = os.fstat(handle)
        if not stat.S_ISREG(status.st_mode) or status.st_mode & 0o077:
            raise ConfigurationError(
                f"the key file {path} must be a plain file that only its owner can read: chmod 600 {path}"
            )
        secret = os.read(handle, length + 1)
    finally:
        os.close(handle)
    if len(secret) != length:
        raise ConfigurationError(
            f"the key file {path} must hold {length} bytes; found another length. Restore it from its backup"
        )
    return secret
