"""A public key that somebody types."""

from __future__ import annotations

from ldp_client.errors import ConfigurationError


def public_key(text: str) -> bytes:
    """The key behind 64 hex digits.

    Raises:
        ConfigurationError: something else was typed.
    """
    try:
        key = bytes.fromhex(text)
    except ValueError:
        key = b""
    if len(key) != 32:
        raise ConfigurationError("an officer's public key is 64 hex digits, as `ldp-client officer key` prints it")
    return key
