"""Byte sources that say what they are told to say."""

from __future__ import annotations

import hashlib


class Script:
    """Hands out the given bytes in order and refuses to hand out more; `asked` lists the requests."""

    def __init__(self, *parts: bytes) -> None:
        self.left = b"".join(parts)
        self.asked: list[int] = []

    def __call__(self, count: int) -> bytes:
        self.asked.append(count)
        if count > len(self.left):
            raise AssertionError(f"the script holds {len(self.left)} bytes; {count} were asked for")
        taken, self.left = self.left[:count], self.left[count:]
        return taken


class Counter:
    """A fixed stream for golden draws: SHA-256 of a label and a counter."""

    def __init__(self, label: str) -> None:
        self._label, self._block, self._rest = label.encode(), 0, b""

    def __call__(self, count: int) -> bytes:
        while len(self._rest) < count:
            self._rest += hashlib.sha256(self._label + self._block.to_bytes(8, "big")).digest()
            self._block += 1
        taken, self._rest = self._rest[:count], self._rest[count:]
        return taken


def word(value: int) -> bytes:
    """One 32-bit word as the sampler reads it."""
    return value.to_bytes(4, "little")
