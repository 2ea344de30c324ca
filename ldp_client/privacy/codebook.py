"""The codebook mechanism: one index says which public random codeword lies near a private direction.

Codewords come from a public seed, one seed for each record, as integers from a fixed table, and are scored in integers:
every platform finds the same ones nearest, and whoever holds the seed makes a single codeword again in O(d).

No privacy rests on any of this. Whatever the codewords and the scores are, exactly s indices are "near", so every index
has probability p/s or (1-p)/(M-s) and no two directions differ by more than e^eps (docs/privacy.md, Theorem 5).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms
from numpy.typing import NDArray

from ldp_client.errors import ParameterError
from ldp_client.privacy.clipping import Clipped, integer_root
from ldp_client.privacy.codebook_design import decode_constant
from ldp_client.privacy.noise import ByteSource, coins, uniform_below
from ldp_client.privacy.proof import MADE, Made
from ldp_client.privacy.spec import CodebookSpec

SEED_BYTES = 32
_BLOCK = 64  # bytes of keystream for one step of ChaCha20's counter
_BATCH = 1 << 17  # coordinates of codewords held at once: they stay in the processor's cache
_TABLE = 1 << 22  # near or not near, of so many codewords at once
_SCORE_BITS = 12

# round(1024 Phi^-1((i + 1/2) / 256)) for i = 128 .. 255: the standard normal distribution in 256 equally likely steps.
_NORMAL = np.array(
    (
        *(5, 15, 25, 35, 45, 55, 65, 75, 85, 95, 105, 116, 126, 136, 146, 156, 166, 176, 187, 197, 207, 217, 227, 238),
        *(248, 258, 269, 279, 290, 300, 311, 321, 332, 342, 353, 363, 374, 385, 396, 406, 417, 428, 439, 450, 461, 472),
        *(484, 495, 506, 518, 529, 540, 552, 564, 575, 587, 599, 611, 623, 635, 647, 660, 672, 684, 697, 710, 722, 735),
        *(748, 762, 775, 788, 802, 816, 829, 843, 858, 872, 886, 901, 916, 931, 946, 962, 977, 993, 1009, 1026, 1043),
        *(1060, 1077, 1094, 1112, 1131, 1149, 1168, 1188, 1208, 1228, 1249, 1270, 1292, 1315, 1338, 1362, 1386, 1412),
        *(1438, 1466, 1494, 1524, 1555, 1587, 1622, 1658, 1696, 1737, 1781, 1828, 1880, 1937, 2000, 2073, 2157, 2260),
        *(2391, 2581, 2955),
    ),
    dtype=np.int16,
)


def _table() -> NDArray[np.int16]:
    """A coordinate for each 16-bit word: the sum of two such normals, doubled, and one off 0.

    Odd, so that no codeword is the zero vector, and symmetric, so that none of its directions is preferred.
    """
    normal = np.concatenate([-_NORMAL[::-1], _NORMAL])
    away = np.where(np.arange(256) < 128, -1, 1)
    table: NDArray[np.int16] = (2 * (normal[:, None] + normal[None, :]) + away[:, None]).astype(np.int16).reshape(-1)
    return table


_COORDINATE = _table()


@dataclass(frozen=True, eq=False)
class NoisedIndices(Made):
    """What the codebook mechanism returned: one index for each record, shape (N,), and the seed of its codewords."""

    what: ClassVar[str] = "noised indices come from a mechanism; nothing else can be packed into a record"
    indices: NDArray[np.int64]
    seeds: tuple[bytes, ...]
    spec: CodebookSpec


@dataclass(frozen=True)
class Codebook:
    """An index j of M: uniform among the s nearest codewords with probability p, else uniform among the others.

    epsilon = ln(p (M-s) / ((1-p) s)) for any two directions, whatever the codewords. E[v_j] = m u over mechanism and
    codewords (`codebook_design`), so v_j / m estimates the direction u without bias.

    Reference: docs/privacy.md, Theorem 5.
    """

    spec: CodebookSpec

    def __call__(self, value: Clipped, seeds: Sequence[bytes], source: ByteSource) -> NoisedIndices:
        """Draw one index for each row of (N, d) steps; `seeds` are public, one of 32 bytes for each row.

        Raises:
            ParameterError: the value is not `Clipped`, was clipped by another rule, has another dimension than the spec
                says, or has not one seed for each row.
        """
        if not isinstance(value, Clipped):
            raise ParameterError(f"only Clipped vectors can be noised; found {type(value).__name__}")
        if value.clip != self.spec.clip:
            raise ParameterError(f"the vector was clipped by {value.clip}, the mechanism expects {self.spec.clip}")
        if value.steps.shape[1] != self.spec.dimension:
            raise ParameterError(
                f"the vector has {value.steps.shape[1]} coordinates, the mechanism expects {self.spec.dimension}"
            )
        if len(seeds) != len(value.steps):
            raise ParameterError(f"{len(value.steps)} records need as many seeds; found {len(seeds)}")
        if not all(type(seed) is bytes and len(seed) == SEED_BYTES for seed in seeds):
            raise ParameterError(f"a codebook's seed has {SEED_BYTES} bytes; found another length or kind")
        count, outside = self.spec.subset, self.spec.codewords - self.spec.subset
        inside = coins(self.spec.threshold, len(seeds), source)
        # A rank for either side, whichever the coin chose: how many bytes are read says nothing of it.
        rank = np.where(inside, *(uniform_below(np.full(len(seeds), side), source) for side in (count, outside)))
        indices = np.zeros(len(seeds), dtype=np.int64)
        # So many rows at a time that the memory does not grow with the number of records.
        rows = max(1, _TABLE // self.spec.codewords)
        for part in (slice(start, start + rows) for start in range(0, len(seeds), rows)):
            near = nearest(self.spec, value.steps[part], seeds[part])  # (n, M)
            # The rank-th index of the chosen side, in the order of the indices.
            chosen = near == inside[part, None]
            indices[part] = np.argmax(np.cumsum(chosen, axis=1) == rank[part, None] + 1, axis=1)
        return NoisedIndices(indices, tuple(seeds), self.spec, proof=MADE)


def nearest(spec: CodebookSpec, steps: NDArray[np.int64], seeds: Sequence[bytes]) -> NDArray[np.bool_]:
    """Which codewords are near: exactly s of each row. (N, d) directions to (N, M).

    By score (inner product over the codeword's length, in whole parts of 2^-12 steps); of equal scores the lower index
    is the nearer.
    """
    near = np.empty((len(steps), spec.codewords), dtype=np.bool_)
    rows = max(1, _BATCH // (spec.codewords * spec.dimension))
    for start in range(0, len(steps), rows):
        words = np.stack([codewords(spec, seed) for seed in seeds[start : start + rows]]).astype(np.int64)  # (n, M, d)
        product = np.matmul(words, steps[start : start + rows, :, None])[:, :, 0]  # (n, M)
        # |u| <= 2^14 and |v| < 2^20: no product passes 2^34 and no score 2^27 (roots are rounded down, at most to
        # half), so score and index fit one int64.
        score = (product << _SCORE_BITS) // integer_root(np.einsum("nmd,nmd->nm", words, words))
        key = score * spec.codewords - np.arange(spec.codewords)
        # Keys are all different, so exactly s of a row reach its s-th largest.
        bar = np.partition(key, spec.codewords - spec.subset, axis=1)[:, spec.codewords - spec.subset, None]
        near[start : start + rows] = key >= bar
    return near


def codewords(spec: CodebookSpec, seed: bytes) -> NDArray[np.int16]:
    """All codewords of a seed, as integers of no particular length. Shape (M, d)."""
    if spec.dimension == 1:
        return np.array([[1], [-1]], dtype=np.int16)
    words = np.frombuffer(_keystream(seed, 0, 2 * spec.codewords * spec.dimension), dtype="<u2")
    return _COORDINATE.take(words).reshape(spec.codewords, spec.dimension)


def codeword(spec: CodebookSpec, seed: bytes, index: int) -> NDArray[np.int16]:
    """One codeword of a seed, made alone in O(d). Shape (d,).

    Raises:
        ParameterError: there is no codeword of this index.
    """
    if not 0 <= index < spec.codewords:
        raise ParameterError(f"a codebook of {spec.codewords} codewords has no codeword {index}")
    if spec.dimension == 1:
        return codewords(spec, seed)[index : index + 1, 0]
    words = np.frombuffer(_keystream(seed, 2 * index * spec.dimension, 2 * spec.dimension), dtype="<u2")
    return _COORDINATE.take(words)


def decode(spec: CodebookSpec, indices: Sequence[int], seeds: Sequence[bytes]) -> NDArray[np.float64]:
    """Unbiased estimates of the directions, v_j / (|v_j| m). Shape (N, d).

    Raises:
        ParameterError: an index or a seed that this codebook cannot have, or not as many of the one as of the other.
    """
    if len(indices) != len(seeds):
        raise ParameterError(f"{len(indices)} indices need as many seeds; found {len(seeds)}")
    words = np.array(
        [codeword(spec, seed, int(index)) for index, seed in zip(indices, seeds, strict=True)], dtype=float
    )
    words = words.reshape(-1, spec.dimension)
    estimates: NDArray[np.float64] = words / (np.linalg.norm(words, axis=1, keepdims=True) * decode_constant(spec))
    return estimates


def noise_variance(spec: CodebookSpec) -> float:
    """Variance of one coordinate of a decoded direction, on average over the d coordinates: (1/m^2 - 1) / d."""
    return (1 / decode_constant(spec) ** 2 - 1) / spec.dimension


def _keystream(seed: bytes, first: int, count: int) -> bytes:
    """Bytes first .. first + count - 1 of the ChaCha20 keystream of a public seed (RFC 8439, nonce 0)."""
    if len(seed) != SEED_BYTES:
        raise ParameterError(f"a codebook's seed has {SEED_BYTES} bytes; found {len(seed)}")
    block, skipped = divmod(first, _BLOCK)
    nonce = block.to_bytes(4, "little") + bytes(12)
    stream = Cipher(algorithms.ChaCha20(seed, nonce), mode=None).encryptor()
    return stream.update(bytes(skipped + count))[skipped:]
