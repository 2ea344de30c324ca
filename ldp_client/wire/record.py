"""A privatized record: noised integers in the fewest words that say what they are.

    magic "LDPR" | version 1 | kind 1 (integer vector) | dimension, uint32 | dimension values, int64, little-endian

A record holds no index, date, label or site: those stand in the ledger entries around it.
"""

from __future__ import annotations

import struct

import numpy as np
from numpy.typing import NDArray

from ldp_client.errors import FormatError, ParameterError
from ldp_client.privacy.laplace import Noised
from ldp_client.privacy.spec import ReleaseSpec
from ldp_client.wire.canonical import digest

_HEAD = struct.Struct("<4sBBI")
_MAGIC, _VERSION, _VECTOR = b"LDPR", 1, 1


def pack(noised: Noised) -> list[bytes]:
    """One record for each row.

    Raises:
        ParameterError: anything but what a mechanism noised.
    """
    if not isinstance(noised, Noised):
        raise ParameterError(f"only Noised vectors can be packed; found {type(noised).__name__}")
    head = _HEAD.pack(_MAGIC, _VERSION, _VECTOR, noised.spec.dimension)
    return [head + row.astype("<i8").tobytes() for row in noised.steps]


def unpack(payload: bytes, release: ReleaseSpec) -> NDArray[np.int64]:
    """The integers of one record, checked against the spec. Shape (d,).

    Raises:
        FormatError: another kind of record, another dimension, bytes missing or left over, or values out of range.
    """
    dimension = release.laplace.dimension
    expected = _HEAD.size + 8 * dimension
    if len(payload) != expected:
        raise FormatError(f"a record of {dimension} coordinates has {expected} bytes; found {len(payload)}")
    magic, version, kind, found = _HEAD.unpack_from(payload)
    if (magic, version, kind) != (_MAGIC, _VERSION, _VECTOR) or found != dimension:
        raise FormatError(f"expected a version {_VERSION} vector of {dimension} coordinates; found another record")
    steps = np.frombuffer(payload, dtype="<i8", offset=_HEAD.size).astype(np.int64)
    # Noise beyond 2^7 scales has probability e^-128: such a value was not drawn by this mechanism.
    limit = release.laplace.clip.radius_steps + 2**7 * (int(release.laplace.scale) + 1)
    if np.any(steps > limit) or np.any(steps < -limit):
        raise FormatError("a coordinate lies further out than this mechanism can ever put it")
    return steps


def record_digest(campaign: str, charge_sequence: int, payload: bytes) -> str:
    """Binds a payload to its campaign and to the charge that paid for it."""
    return digest("ldp-glow/record", campaign.encode(), charge_sequence.to_bytes(8, "big"), payload)
