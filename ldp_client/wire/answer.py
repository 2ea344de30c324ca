"""A site's answer to an evaluation: its noised histogram, in the fewest words that say what it is.

    magic "LDPH" | version 1 | rows, uint32 | bins, uint32 | rows * bins counts, int64, little-endian, row by row

It holds no date and no site: those stand in the ledger entries around it. A `Seal` names it by the digest of a record
(`record.record_digest`), with the query in the place of the charge.
"""

from __future__ import annotations

import struct

import numpy as np
from numpy.typing import NDArray

from ldp_client.errors import FormatError, ParameterError
from ldp_client.privacy.histogram import NoisedHistogram
from ldp_client.privacy.spec import HistogramSpec

_HEAD = struct.Struct("<4sBII")
_MAGIC, _VERSION = b"LDPH", 1
# More X-rays than any hospital has; what lies further out was not counted.
MOST_COUNTED = 2**32


def pack_answer(drawn: NoisedHistogram) -> bytes:
    """The bytes that leave.

    Raises:
        ParameterError: anything but what the mechanism noised.
    """
    if not isinstance(drawn, NoisedHistogram):
        raise ParameterError(f"only a noised histogram can be packed; found {type(drawn).__name__}")
    return _head(drawn.spec) + drawn.counts.astype("<i8").tobytes()


def unpack_answer(payload: bytes, spec: HistogramSpec) -> NDArray[np.int64]:
    """The noised counts (rows, bins), checked against the spec.

    Raises:
        FormatError: another shape, bytes missing or left over, or a count that the mechanism cannot have given.
    """
    head = _head(spec)
    expected = len(head) + 8 * spec.classes * spec.bins
    if len(payload) != expected:
        raise FormatError(
            f"an answer of {spec.classes} rows and {spec.bins} bins has {expected} bytes; found {len(payload)}"
        )
    if payload[: len(head)] != head:
        raise FormatError(f"expected a version {_VERSION} answer of {spec.classes} x {spec.bins} counts; found another")
    counts = np.frombuffer(payload, dtype="<i8", offset=len(head)).astype(np.int64).reshape(spec.classes, spec.bins)
    # Noise beyond 2^7 scales has probability e^-128: such a value was not drawn by this mechanism.
    noise = 2**7 * (int(spec.scale) + 1)
    if counts.max() > MOST_COUNTED + noise or counts.min() < -noise:
        raise FormatError("a count lies further out than this mechanism can ever put it")
    return counts


def _head(spec: HistogramSpec) -> bytes:
    return _HEAD.pack(_MAGIC, _VERSION, spec.classes, spec.bins)
