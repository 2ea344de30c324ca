"""Notice at once that a program of this machine has ended, however it ended: the kernel lets go of its locks."""

from __future__ import annotations

import fcntl
import logging
import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

LOOK_SECONDS = 0.5
"""Who is present for a shorter time may not be noticed."""
_log = logging.getLogger(__name__)


@contextmanager
def present(path: Path) -> Iterator[None]:
    """Hold a shared lock of a file during the block; to be able to read it is enough.

    Raises:
        OSError: it cannot be opened.
    """
    handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    try:
        fcntl.flock(handle, fcntl.LOCK_SH)
        yield
    finally:
        os.close(handle)


@contextmanager
def on_departure(path: Path, departed: Callable[[], None]) -> Iterator[None]:
    """During the block, call `departed`, in a thread of its own, each time that nobody is `present` at a file any more.

    Raises:
        OSError: it cannot be opened.
    """
    over = threading.Event()
    handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    threading.Thread(target=_watch, args=(handle, departed, over), name="presence", daemon=True).start()
    try:
        yield
    finally:
        over.set()


def _watch(handle: int, departed: Callable[[], None], over: threading.Event) -> None:
    try:
        while not over.is_set():
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                fcntl.flock(handle, fcntl.LOCK_UN)
                time.sleep(LOOK_SECONDS)
            except BlockingIOError:
                # Wait in the kernel: whoever ends and is back within one look would not be missed otherwise.
                fcntl.flock(handle, fcntl.LOCK_EX)
                fcntl.flock(handle, fcntl.LOCK_UN)
                if not over.is_set():
                    departed()
    except OSError as error:
        _log.warning("this file system has no locks (%s): a courier that is killed may not be noticed", error.strerror)
    finally:
        os.close(handle)
