"""A privatized record: what a mechanism drew, in the fewest words that say what it is.

    magic "LDPR" | version 1 | kind, uint8 | size, uint32 | body, little-endian

    kind 1, a vector           size = d    d values, int64
    kind 2, a codeword         size = d    the index, uint32, and the 32 bytes of the public seed
    kind 3, vector and label   size = d    the label, uint16, and d values, int64

A record holds no date, label or site in clear: those stand in the ledger entries around it.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import overload

import numpy as np
from numpy.typing import NDArray

from ldp_client.errors import FormatError, ParameterError
from ldp_client.privacy.codebook import SEED_BYTES, NoisedIndices
from ldp_client.privacy.drawing import Drawn, NoisedPair
from ldp_client.privacy.laplace import Noised
from ldp_client.privacy.release_spec import DpGlowSpec, JointCodebookSpec, JointLaplaceSpec, LatentSpec, ReleaseSpec
from ldp_client.privacy.spec import DiscreteLaplaceSpec
from ldp_client.wire.canonical import digest, raw_digest

_HEAD = struct.Struct("<4sBBI")
_INDEX, _LABEL = struct.Struct("<I"), struct.Struct("<H")
_MAGIC, _VERSION = b"LDPR", 1
_VECTOR, _CODEWORD, _LABELLED = 1, 2, 3
NOISE_LIMIT = 2**7
"""Noise beyond so many scales has probability e^-128: such a value was not drawn by this mechanism."""
_NAMES = {_VECTOR: "vector", _CODEWORD: "codeword", _LABELLED: "labelled vector"}


@dataclass(frozen=True)
class IndexRecord:
    """What a codebook release says: an index, and the public seed of the codewords that it counts."""

    index: int
    seed: bytes


@dataclass(frozen=True, eq=False)
class LabelledRecord:
    """What a release in two parts says: noised steps, shape (d,), and a randomized label."""

    steps: NDArray[np.int64]
    label: int


Contents = NDArray[np.int64] | IndexRecord | LabelledRecord


def pack(drawn: Drawn) -> list[bytes]:
    """One record for each row.

    Raises:
        ParameterError: anything but what a mechanism noised.
    """
    if isinstance(drawn, Noised):
        head = _head(_VECTOR, drawn.spec.dimension)
        return [head + row.astype("<i8").tobytes() for row in drawn.steps]
    if isinstance(drawn, NoisedIndices):
        head = _head(_CODEWORD, drawn.spec.dimension)
        return [head + _INDEX.pack(int(index)) + seed for index, seed in zip(drawn.indices, drawn.seeds, strict=True)]
    if isinstance(drawn, NoisedPair):
        head = _head(_LABELLED, drawn.vectors.spec.dimension)
        return [
            head + _LABEL.pack(int(label)) + row.astype("<i8").tobytes()
            for row, label in zip(drawn.vectors.steps, drawn.labels.values, strict=True)
        ]
    raise ParameterError(f"only what a mechanism noised can be packed; found {type(drawn).__name__}")


@overload
def unpack(payload: bytes, release: JointLaplaceSpec) -> NDArray[np.int64]: ...
@overload
def unpack(payload: bytes, release: JointCodebookSpec) -> IndexRecord: ...
@overload
def unpack(payload: bytes, release: LatentSpec | DpGlowSpec) -> LabelledRecord: ...
@overload
def unpack(payload: bytes, release: ReleaseSpec) -> Contents: ...
def unpack(payload: bytes, release: ReleaseSpec) -> Contents:
    """What one record says, checked against the spec.

    Returns:
        Noised steps (d,) of a joint Laplace release, an index, or noised steps and a label.

    Raises:
        FormatError: another kind of record, another dimension, bytes missing or left over, or values out of range.
    """
    if isinstance(release, JointCodebookSpec):
        book = release.codebook
        body = _body(payload, _CODEWORD, book.dimension, _INDEX.size + SEED_BYTES)
        (index,) = _INDEX.unpack_from(body)
        if index >= book.codewords:
            raise FormatError(f"a codebook of {book.codewords} codewords has no codeword {index}")
        return IndexRecord(index, body[_INDEX.size :])
    size = 8 * release.laplace.dimension
    if isinstance(release, JointLaplaceSpec):
        return _steps(_body(payload, _VECTOR, release.laplace.dimension, size), release.laplace)
    body = _body(payload, _LABELLED, release.laplace.dimension, _LABEL.size + size)
    (label,) = _LABEL.unpack_from(body)
    if label >= release.classes:
        raise FormatError(f"there are {release.classes} labels; found label {label}")
    return LabelledRecord(_steps(body[_LABEL.size :], release.laplace), label)


def check_contents(payload: bytes, release: ReleaseSpec, seed: bytes) -> None:
    """Return if the mechanism can have drawn this record, and with these public codewords.

    Raises:
        FormatError: as `unpack`; or the record counts codewords of another seed than `codebook_seed` gives.
    """
    contents = unpack(payload, release)
    if isinstance(contents, IndexRecord) and contents.seed != seed:
        raise FormatError("the record counts codewords of another seed than that of its campaign, site and charge")


def codebook_seed(campaign: str, site: str, charge_sequence: int) -> bytes:
    """The public seed of a record's codewords: fixed by campaign, site and charge, and by nothing about the X-ray.

    So nobody can choose codewords to suit a record, and whoever reads the ledger can make them again.
    """
    return raw_digest("ldp-glow/codebook", campaign.encode(), site.encode(), charge_sequence.to_bytes(8, "big"))


def _head(kind: int, dimension: int) -> bytes:
    return _HEAD.pack(_MAGIC, _VERSION, kind, dimension)


def _body(payload: bytes, kind: int, dimension: int, size: int) -> bytes:
    expected = _HEAD.size + size
    if len(payload) != expected:
        raise FormatError(f"a record of {dimension} coordinates has {expected} bytes; found {len(payload)}")
    if payload[: _HEAD.size] != _head(kind, dimension):
        raise FormatError(
            f"expected a version {_VERSION} {_NAMES[kind]} of {dimension} coordinates; found another record"
        )
    return payload[_HEAD.size :]


def _steps(body: bytes, laplace: DiscreteLaplaceSpec) -> NDArray[np.int64]:
    steps = np.frombuffer(body, dtype="<i8").astype(np.int64)
    limit = laplace.clip.largest_steps + NOISE_LIMIT * (int(laplace.scale) + 1)
    if steps.max() > limit or steps.min() < -limit:
        raise FormatError("a coordinate lies further out than this mechanism can ever put it")
    return steps


def record_digest(campaign: str, charge_sequence: int, payload: bytes) -> str:
    """Binds a payload to its campaign and to the charge that paid for it."""
    return digest("ldp-glow/record", campaign.encode(), charge_sequence.to_bytes(8, "big"), payload)
