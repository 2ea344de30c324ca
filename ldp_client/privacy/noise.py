"""Exact discrete Laplace noise from the operating system's randomness, on integers from end to end.

Y with P(Y = y) = (1-q)/(1+q) q^|y|, q = exp(-1/scale), is drawn as

    Y = N S (1 + G),   N ~ Bernoulli(2q/(1+q)),   S = +-1 fairly,   G ~ Geometric: P(G = g) = (1-q) q^g.

The binary digits of G are independent, digit i being 1 with probability r/(1+r), r = q^(2^i). Digits are drawn up to
the first m with q^(2^m) < 2^-32; what lies above is 2^m H with H ~ Geometric(q^(2^m)), drawn as a run of successes.

Each Bernoulli(p) compares 32 random bits with the first 32 binary digits of p and, on a tie, the next 32 with the next,
for as long as it takes: its probability is p itself, not an approximation. The digits come from `decimal` with interval
bounds, and more precision is asked for until both bounds agree.

There is no seed. Tests pass a scripted byte source as an argument. Reference: docs/privacy.md, "The sampler".
"""

from __future__ import annotations

import decimal
import os
import threading
import weakref
from collections.abc import Callable
from dataclasses import dataclass, field
from fractions import Fraction
from functools import lru_cache
from typing import Any, Protocol

import numpy as np
from cryptography.hazmat.primitives.ciphers import Cipher, CipherContext, algorithms
from numpy.typing import NDArray

from ldp_client.errors import ParameterError
from ldp_client.privacy.spec import MAX_SCALE

WORD_BITS = 32
REKEY_BYTES = 1 << 20


class ByteSource(Protocol):
    """Uniform random bytes. `SystemSource` in production, a script in tests."""

    def __call__(self, count: int) -> bytes: ...


class SystemSource:
    """Uniform bytes from a ChaCha20 keystream, keyed by the operating system and re-keyed every MiB.

    Safe in threads (one lock) and across fork (a child never continues its parent's keystream). Not across a copy of
    the whole memory: a machine restored from a snapshot goes on with the keystream of the snapshot, up to one MiB.
    """

    def __init__(self) -> None:
        self._reset()
        _SOURCES.add(self)

    def _reset(self) -> None:
        self._lock = threading.Lock()
        self._stream: CipherContext | None = None
        self._left = 0
        self._process = os.getpid()

    def __call__(self, count: int) -> bytes:
        """Return `count` fresh bytes; none is ever given out twice."""
        parts: list[bytes] = []
        with self._lock:
            if self._process != os.getpid():
                # A fork made in C, which runs no Python hook.
                self._process, self._left = os.getpid(), 0
            while count > 0:
                if self._stream is None or self._left == 0:
                    # ChaCha20's 16-byte nonce begins with the block counter: start at block 0 of a fresh nonce.
                    nonce = bytes(4) + os.urandom(12)
                    self._stream = Cipher(algorithms.ChaCha20(os.urandom(32), nonce), mode=None).encryptor()
                    self._left = REKEY_BYTES
                take = min(count, self._left)
                parts.append(self._stream.update(bytes(take)))
                self._left -= take
                count -= take
        return b"".join(parts)


_SOURCES: weakref.WeakSet[SystemSource] = weakref.WeakSet()


def _forget_parents_keystream() -> None:
    for source in _SOURCES:
        source._reset()


os.register_at_fork(after_in_child=_forget_parents_keystream)


@dataclass
class BinaryExpansion:
    """The binary digits of a probability p in (0, 1), 32 at a time, each block certain.

    `bounds(precision)` returns p's lower and upper bound, computed with that many decimal digits.
    """

    bounds: Callable[[int], tuple[decimal.Decimal, decimal.Decimal]]
    _words: list[int] = field(default_factory=list)

    def word(self, index: int) -> int:
        """Digits 32*index+1 .. 32*index+32 after the binary point, as an integer."""
        words = self._words
        while len(words) <= index:
            words = self._extended(len(words) + 1)
            # Threads share this object: whoever is slower writes the same digits, and only the longest list is read.
            if len(words) > len(self._words):
                self._words = words
        return words[index]

    def _extended(self, count: int) -> list[int]:
        precision = 20 + 10 * count
        while True:
            low, high = self.bounds(precision)
            with decimal.localcontext() as context:
                context.prec = precision + 20 * count + 40
                shift = decimal.Decimal(1 << (WORD_BITS * count))
                first, last = int(low * shift), int(high * shift)
            if first == last:
                return [(first >> (WORD_BITS * (count - 1 - index))) & (2**WORD_BITS - 1) for index in range(count)]
            precision *= 2


def _exp_bounds(exponent: Fraction, precision: int) -> tuple[decimal.Decimal, decimal.Decimal]:
    """Bounds of exp(-exponent) with about `precision` digits."""
    with decimal.localcontext() as context:
        context.prec = precision
        # e^-x underflows long before any sampler meets it, but never to something that looks certain.
        context.Emin = decimal.MIN_EMIN
        context.rounding = decimal.ROUND_CEILING
        steeper = decimal.Decimal(exponent.numerator) / decimal.Decimal(exponent.denominator)
        context.rounding = decimal.ROUND_FLOOR
        flatter = decimal.Decimal(exponent.numerator) / decimal.Decimal(exponent.denominator)
        # decimal's exp is correctly rounded to nearest whatever the context says: one unit outwards is a bound.
        return (-steeper).exp().next_minus(), (-flatter).exp().next_plus()


def _ratio_bounds(exponent: Fraction, times: int, precision: int) -> tuple[decimal.Decimal, decimal.Decimal]:
    """Bounds of times * r / (1 + r), r = exp(-exponent): increasing in r."""
    low, high = _exp_bounds(exponent, precision)
    with decimal.localcontext() as context:
        context.prec = precision
        context.rounding = decimal.ROUND_CEILING
        below, above = low + 1, times * high
        context.rounding = decimal.ROUND_FLOOR
        lower = times * low / below
        denominator = high + 1
        context.rounding = decimal.ROUND_CEILING
        return lower, above / denominator


def _random(kind: str, size: int, count: int, source: ByteSource) -> NDArray[Any]:
    numbers = np.frombuffer(source(size * count), dtype=kind)
    if numbers.size != count:
        # One number short and NumPy would repeat the first one for everybody.
        raise ParameterError(f"a byte source returned {numbers.size} numbers of {size} bytes; {count} were asked for")
    return numbers


def bernoulli(probability: BinaryExpansion, count: int, source: ByteSource) -> NDArray[np.bool_]:
    """`count` independent coins, each heads with exactly the given probability. Shape (count,)."""
    words = _random("<u4", 4, count, source)
    threshold = probability.word(0)
    heads = words < threshold
    tied = np.flatnonzero(words == threshold)
    index = 1
    while tied.size:
        words = _random("<u4", 4, tied.size, source)
        threshold = probability.word(index)
        heads[tied] = words < threshold
        tied = tied[words == threshold]
        index += 1
    return heads


def coins(threshold: int, count: int, source: ByteSource) -> NDArray[np.bool_]:
    """`count` independent coins, each heads with probability threshold / 2^64 exactly. Shape (count,).

    Raises:
        ParameterError: the threshold does not lie in 0 .. 2^64 - 1.
    """
    if not 0 <= threshold < 2**64:
        raise ParameterError(f"a threshold is a number of 64 bits; found {threshold}")
    heads: NDArray[np.bool_] = _random("<u8", 8, count, source) < np.uint64(threshold)
    return heads


def uniform_below(bounds: NDArray[np.int64], source: ByteSource) -> NDArray[np.int64]:
    """One uniform integer of 0 .. b-1 for each bound b, exactly: words beyond the last multiple of b are drawn again.

    Raises:
        ParameterError: a bound does not lie in 1 .. 2^31.
    """
    if bounds.size and not 1 <= int(bounds.min()) <= int(bounds.max()) <= 2**31:
        raise ParameterError("a uniform integer needs a bound of 1 to 2^31")
    drawn = np.zeros(bounds.shape, dtype=np.int64)
    pending = np.arange(bounds.size)
    while pending.size:
        words = _random("<u4", 4, pending.size, source).astype(np.int64)
        usable = words < (2**WORD_BITS // bounds[pending]) * bounds[pending]
        drawn[pending[usable]] = words[usable] % bounds[pending[usable]]
        pending = pending[~usable]
    return drawn


def shuffled(count: int, source: ByteSource) -> NDArray[np.int64]:
    """A uniformly random order of 0 .. count-1.

    Sorts by random 64-bit keys and starts again if two are equal, so that every order is equally likely.
    """
    while True:
        keys = _random("<u8", 8, count, source)
        order = np.argsort(keys, kind="stable").astype(np.int64)
        if np.unique(keys).size == count:
            return order


@dataclass(frozen=True)
class _Tables:
    """The coins of one scale: N, the m digits of G from the lowest, and one step of H."""

    nonzero: BinaryExpansion
    digits: tuple[BinaryExpansion, ...]
    beyond: BinaryExpansion


@lru_cache(maxsize=64)
def _tables(scale: Fraction) -> _Tables:
    rate = 1 / scale
    # q^(2^m) < 2^-32  <=>  2^m / scale > 32 ln 2; 23 > 32 ln 2 = 22.18 keeps this line exact.
    count = 0
    while 2**count * rate <= 23:
        count += 1

    def digit(index: int) -> BinaryExpansion:
        return BinaryExpansion(lambda precision: _ratio_bounds(2**index * rate, 1, precision))

    return _Tables(
        nonzero=BinaryExpansion(lambda precision: _ratio_bounds(rate, 2, precision)),
        digits=tuple(digit(index) for index in range(count)),
        beyond=BinaryExpansion(lambda precision: _exp_bounds(2**count * rate, precision)),
    )


def discrete_laplace(scale: Fraction, count: int, source: ByteSource) -> NDArray[np.int64]:
    """`count` independent draws of P(Y = y) proportional to exp(-|y| / scale), in grid steps. Shape (count,).

    The work depends on `scale` and `count` alone, but for ties of probability 2^-32 that no datum influences.

    Raises:
        ParameterError: the scale is not positive, or so large that a draw might not fit an int64.
    """
    if not 0 < scale < MAX_SCALE:
        raise ParameterError(f"a Laplace scale lies between 0 and 2^48 grid steps; found {scale}")
    tables = _tables(scale)
    nonzero = bernoulli(tables.nonzero, count, source)
    negative = np.unpackbits(_random("u1", 1, -(-count // 8), source), count=count).astype(np.bool_)
    magnitude = np.ones(count, dtype=np.int64)
    for index, digit in enumerate(tables.digits):
        magnitude += bernoulli(digit, count, source).astype(np.int64) << index
    rare = np.flatnonzero(bernoulli(tables.beyond, count, source))
    while rare.size:
        magnitude[rare] += 1 << len(tables.digits)
        rare = rare[bernoulli(tables.beyond, rare.size, source)]
    magnitude[~nonzero] = 0
    return np.where(negative, -magnitude, magnitude)
