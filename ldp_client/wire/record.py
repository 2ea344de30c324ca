"""A privatized record: what a mechanism drew, in the fewest words that say what it is.

    magic "LDPR" | version 1 | kind, uint8 | size, uint32 | body, little-endian

    kind 1, a vector           size = d    d values, int64
    kind 2, a codeword         size = d    the index, uint32, and the 32 bytes of the public seed
    kind 3, vector and label   size = d    the label, uint16, and d values, int64
    kind 4, image and label    size = s    the label, uint16, and s x s grey values, uint8, row by row

A record holds no date, label or site in clear: those stand in the ledger entries around it.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from hashlib import sha256
from itertools import compress
from typing import overload

import numpy as np
from numpy.typing import NDArray

from ldp_client.errors import FormatError, ParameterError
from ldp_client.privacy.codebook import SEED_BYTES, NoisedIndices
from ldp_client.privacy.drawing import Drawn, NoisedPair
from ldp_client.privacy.image_spec import ImageSpec
from ldp_client.privacy.images import NoisedImages
from ldp_client.privacy.laplace import Noised
from ldp_client.privacy.release_spec import DpGlowSpec, JointCodebookSpec, JointLaplaceSpec, LatentSpec, ReleaseSpec
from ldp_client.privacy.spec import DiscreteLaplaceSpec
from ldp_client.wire.canonical import framed, raw_digest

_HEAD = struct.Struct("<4sBBI")
_INDEX, _LABEL = struct.Struct("<I"), struct.Struct("<H")
_MAGIC, _VERSION = b"LDPR", 1
_VECTOR, _CODEWORD, _LABELLED, _IMAGE = 1, 2, 3, 4
NOISE_LIMIT = 2**7
"""Noise beyond so many scales has probability e^-128: such a value was not drawn by this mechanism."""
_NAMES = {_VECTOR: "vector", _CODEWORD: "codeword", _LABELLED: "labelled vector", _IMAGE: "labelled image"}


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


@dataclass(frozen=True, eq=False)
class ImageRecord:
    """What an image release says: grey values, shape (side, side), and a label."""

    pixels: NDArray[np.uint8]
    label: int


Contents = NDArray[np.int64] | IndexRecord | LabelledRecord
"""What a mechanism drew."""


def pack(drawn: Drawn | NoisedImages) -> list[bytes]:
    """One record for each row.

    Raises:
        ParameterError: anything but what a mechanism noised, or pictures made of it.
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
    if isinstance(drawn, NoisedImages):
        head = _head(_IMAGE, drawn.spec.side)
        return [
            head + _LABEL.pack(int(label)) + image.tobytes()
            for image, label in zip(drawn.pixels, drawn.labels, strict=True)
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
@overload
def unpack(payload: bytes, release: ImageSpec) -> ImageRecord: ...
@overload
def unpack(payload: bytes, release: ReleaseSpec | ImageSpec) -> Contents | ImageRecord: ...
def unpack(payload: bytes, release: ReleaseSpec | ImageSpec) -> Contents | ImageRecord:
    """What one record says, checked against the spec.

    Returns:
        Noised steps (d,) of a joint Laplace release, an index, noised steps and a label, or a picture and a label.

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
    if isinstance(release, ImageSpec):
        body = _body(payload, _IMAGE, release.side, _LABEL.size + release.side**2)
        pixels = np.frombuffer(body, dtype=np.uint8, offset=_LABEL.size).reshape(release.side, release.side)
        return ImageRecord(pixels, _label(body, release.classes))
    size = 8 * release.laplace.dimension
    if isinstance(release, JointLaplaceSpec):
        return _steps(_body(payload, _VECTOR, release.laplace.dimension, size), release.laplace)
    body = _body(payload, _LABELLED, release.laplace.dimension, _LABEL.size + size)
    label = _label(body, release.classes)
    return LabelledRecord(_steps(body[_LABEL.size :], release.laplace), label)


def check_contents(payload: bytes, release: ReleaseSpec | ImageSpec, seed: bytes) -> None:
    """Return if the mechanism can have drawn this record, and with these public codewords.

    Raises:
        FormatError: as `unpack`; or the record counts codewords of another seed than `codebook_seed` gives.
    """
    contents = unpack(payload, release)
    if isinstance(contents, IndexRecord) and contents.seed != seed:
        raise FormatError("the record counts codewords of another seed than that of its campaign, site and charge")


def drawable(payloads: Sequence[bytes], release: ReleaseSpec | ImageSpec, seeds: Iterable[bytes]) -> NDArray[np.bool_]:
    """Of many records of one release, which ones `check_contents` accepts; all looked at in one go. Shape (N,).

    `seeds` gives one for each record, and is asked only where the release counts codewords.
    """
    layout = _layout(release)
    whole = np.array([len(payload) == layout.itemsize for payload in payloads], dtype=np.bool_)
    rows = np.frombuffer(b"".join(compress(payloads, whole)), layout)
    if isinstance(release, JointCodebookSpec):
        kind, dimension = _CODEWORD, release.codebook.dimension
        given = np.frombuffer(b"".join(compress(seeds, whole)), np.uint8).reshape(-1, SEED_BYTES)
        right = (rows["index"] < release.codebook.codewords) & (rows["seed"] == given).all(axis=1)
    elif isinstance(release, ImageSpec):
        kind, dimension, right = _IMAGE, release.side, rows["label"] < release.classes
    else:
        kind, dimension = _VECTOR, release.laplace.dimension
        limit, steps = _limit(release.laplace), np.ascontiguousarray(rows["steps"])
        right = ((steps <= limit) & (steps >= -limit)).all(axis=1)
        if not isinstance(release, JointLaplaceSpec):
            kind, right = _LABELLED, right & (rows["label"] < release.classes)
    right &= (rows["head"] == np.frombuffer(_head(kind, dimension), np.uint8)).all(axis=1)
    whole[whole] = right
    return whole


def _layout(release: ReleaseSpec | ImageSpec) -> np.dtype[np.void]:
    """The bytes of one record of a release, as a row of an array."""
    head = ("head", np.uint8, (_HEAD.size,))
    if isinstance(release, JointCodebookSpec):
        return np.dtype([head, ("index", "<u4"), ("seed", np.uint8, (SEED_BYTES,))])
    if isinstance(release, ImageSpec):
        return np.dtype([head, ("label", "<u2"), ("pixels", np.uint8, (release.side**2,))])
    steps = ("steps", "<i8", (release.laplace.dimension,))
    return np.dtype([head, steps] if isinstance(release, JointLaplaceSpec) else [head, ("label", "<u2"), steps])


def codebook_seed(campaign: str, site: str, charge_sequence: int) -> bytes:
    """The public seed of a record's codewords: fixed by campaign, site and charge, and by nothing about the X-ray.

    So nobody can choose codewords to suit a record, and whoever reads the ledger can make them again.
    """
    return raw_digest("ldp-glow/codebook", campaign.encode(), site.encode(), charge_sequence.to_bytes(8, "big"))


def _head(kind: int, size: int) -> bytes:
    return _HEAD.pack(_MAGIC, _VERSION, kind, size)


def _body(payload: bytes, kind: int, size: int, length: int) -> bytes:
    expected, unit = _HEAD.size + length, "pixels a side" if kind == _IMAGE else "coordinates"
    if len(payload) != expected:
        raise FormatError(f"a record of {size} {unit} has {expected} bytes; found {len(payload)}")
    if payload[: _HEAD.size] != _head(kind, size):
        raise FormatError(f"expected a version {_VERSION} {_NAMES[kind]} of {size} {unit}; found another record")
    return payload[_HEAD.size :]


def _label(body: bytes, classes: int) -> int:
    (label,) = _LABEL.unpack_from(body)
    if label >= classes:
        raise FormatError(f"there are {classes} labels; found label {label}")
    return int(label)


def _steps(body: bytes, laplace: DiscreteLaplaceSpec) -> NDArray[np.int64]:
    steps = np.frombuffer(body, dtype="<i8").astype(np.int64)
    limit = _limit(laplace)
    if steps.max() > limit or steps.min() < -limit:
        raise FormatError("a coordinate lies further out than this mechanism can ever put it")
    return steps


def _limit(laplace: DiscreteLaplaceSpec) -> int:
    """No coordinate lies further out than this many steps."""
    return laplace.clip.largest_steps + NOISE_LIMIT * (int(laplace.scale) + 1)


@lru_cache(maxsize=64)
def _of_campaign(campaign: str) -> bytes:
    """What the digests of one campaign's records have in common."""
    return framed(b"ldp-glow/record") + framed(campaign.encode()) + (8).to_bytes(8, "big")


def record_digest(campaign: str, charge_sequence: int, payload: bytes) -> str:
    """Binds a payload to its campaign and to the charge that paid for it."""
    return sha256(
        b"".join((_of_campaign(campaign), charge_sequence.to_bytes(8, "big"), len(payload).to_bytes(8, "big"), payload))
    ).hexdigest()
