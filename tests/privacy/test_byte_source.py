"""The keystream: what it is, and that no two readers ever share a part of it."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace

import pytest
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms

from ldp_client.privacy.noise import REKEY_BYTES, SystemSource

BLOCK = 16

FORKED = """
import os, sys
from ldp_client.privacy.noise import SystemSource, discrete_laplace
from fractions import Fraction

source = SystemSource()
source(1000)  # in the middle of a buffer
before = source(1 << 14)
streams = [before]
for worker in range(8):
    reading, writing = os.pipe()
    if {fork} == 0:
        os.close(reading)
        with os.fdopen(writing, "wb") as pipe:
            pipe.write(source(1 << 15))
        os._exit(0)
    os.close(writing)
    with os.fdopen(reading, "rb") as pipe:
        streams.append(pipe.read())
    os.wait()
streams.append(source(1 << 14))
blocks = [stream[at : at + 16] for stream in streams for at in range(0, len(stream), 16)]
print(len(blocks), len(set(blocks)))
"""


def blocks(*streams: bytes) -> list[bytes]:
    return [stream[start : start + BLOCK] for stream in streams for start in range(0, len(stream), BLOCK)]


@pytest.mark.parametrize(
    "fork",
    # The second runs none of Python's hooks, as a fork made by a C library would.
    ["os.fork()", "__import__('ctypes').PyDLL(None).fork()"],
    ids=["python", "c"],
)
def test_eight_workers_forked_in_mid_buffer_share_no_block(fork: str) -> None:
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", FORKED.replace("{fork}", fork)],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.stderr == ""
    total, distinct = done.stdout.split()
    assert total == distinct == str((8 * (1 << 15) + 2 * (1 << 14)) // BLOCK)


def test_a_twin_that_forgets_about_forks_would_be_noticed() -> None:
    """The same script with the resets taken out: the workers all continue their parent's keystream."""
    blinded = FORKED.replace("{fork}", "os.fork()").replace(
        "source = SystemSource()",
        "source = SystemSource(); SystemSource._reset = lambda self: None; os.getpid = lambda pid=os.getpid(): pid",
    )
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", blinded], capture_output=True, text=True, check=True, timeout=60
    )
    total, distinct = map(int, done.stdout.split())
    assert distinct < total / 4


def test_a_worker_forked_while_another_thread_draws_does_not_wait_for_ever() -> None:
    """The lock is held at the moment of the fork, by a thread that the child does not have."""
    script = """
import os
from ldp_client.privacy.noise import SystemSource
source = SystemSource()
source(10)
source._lock.acquire()
child = os.fork()
if child == 0:
    os._exit(0 if len(source(16)) == 16 else 1)
print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=30)
    assert done.stdout == "0\n"


def test_threads_share_no_block() -> None:
    source = SystemSource()
    with ThreadPoolExecutor(8) as pool:
        streams = list(pool.map(lambda _: source(BLOCK * 64), range(800)))
    everything = blocks(*streams)
    assert len(everything) == len(set(everything)) == 800 * 64


def test_one_thread_waits_while_another_reads_the_keystream(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the lock they meet inside: the keystream is read by two at once and counted wrongly."""
    source, inside = SystemSource(), threading.Lock()
    stream = Cipher(algorithms.ChaCha20(bytes(32), bytes(16)), mode=None).encryptor()

    def update(data: bytes) -> bytes:
        assert inside.acquire(blocking=False), "two threads in one keystream"
        time.sleep(0.002)
        inside.release()
        return stream.update(data)

    source(1)
    monkeypatch.setattr(source, "_stream", SimpleNamespace(update=update))
    with ThreadPoolExecutor(8) as pool:
        everything = blocks(*pool.map(lambda _: source(BLOCK), range(32)))
    assert len(set(everything)) == 32


def test_two_sources_share_no_block() -> None:
    everything = blocks(SystemSource()(1 << 16), SystemSource()(1 << 16))
    assert len(everything) == len(set(everything))


def test_a_source_takes_a_new_key_after_every_mebibyte(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int] = []

    def counted(count: int) -> bytes:
        asked.append(count)
        return bytes([len(asked)]) * count

    monkeypatch.setattr("ldp_client.privacy.noise.os.urandom", counted)
    source = SystemSource()
    first = source(REKEY_BYTES)
    assert sorted(asked) == [12, 32]
    second = source(1)
    assert sorted(asked) == [12, 12, 32, 32]
    across = source(2 * REKEY_BYTES)
    assert sorted(asked) == [12] * 4 + [32] * 4
    everything = blocks(first, (second + across)[: 2 * REKEY_BYTES])
    assert len(everything) == len(set(everything)) == 3 * REKEY_BYTES // BLOCK


def test_the_keystream_is_chacha20_from_block_0(monkeypatch: pytest.MonkeyPatch) -> None:
    """RFC 8439, appendix A.1, test vectors 1 and 2: an all-zero key and nonce, blocks 0 and 1."""
    monkeypatch.setattr("ldp_client.privacy.noise.os.urandom", lambda count: bytes(count))
    stream = SystemSource()(128)
    assert stream[:32].hex() == "76b8e0ada0f13d90405d6ae55386bd28bdd219b8a08ded1aa836efcc8b770dc7"
    assert stream[64:96].hex() == "9f07e7be5551387a98ba977c732d080dcb0f29a048e3656912c6533e32ee7aed"


def test_pieces_of_any_size_join_to_one_keystream(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ldp_client.privacy.noise.os.urandom", lambda count: bytes(count))
    whole = SystemSource()(1000)
    source = SystemSource()
    assert b"".join(source(size) for size in (0, 1, 63, 64, 65, 7, 300, 500)) == whole


def test_the_keys_come_from_the_operating_system_and_nothing_can_seed_them() -> None:
    with pytest.raises(TypeError):
        SystemSource(seed=1)  # type: ignore[call-arg]
    assert os.urandom(16) != os.urandom(16)
    assert SystemSource()(32) != SystemSource()(32)
