"""Files that appear whole or not at all."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ldp_client.errors import ConfigurationError


@contextmanager
def appearing_whole(path: Path) -> Iterator[Path]:
    """Where to write a new file, which is at `path`, and on the disk, when the block has been left.

    Before that, and if the block fails, nothing is at `path`, so that a mistake can be made again.

    Raises:
        ConfigurationError: the file exists already or cannot be written.
    """
    beside = path.with_name(path.name + ".part")
    try:
        if path.exists():
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST))
        try:
            # Here and not later: a mistyped folder is found before the work is done.
            beside.write_bytes(b"")
            yield beside
            with beside.open("rb") as file:
                os.fsync(file.fileno())
            beside.replace(path)
        except BaseException:
            beside.unlink(missing_ok=True)
            raise
        sync_folder(path.resolve().parent)
    except OSError as error:
        raise ConfigurationError(f"{path} cannot be made ({error.strerror}); name a new file") from error


def sync_folder(folder: Path) -> None:
    """Make the names in a folder durable: a new file's bytes alone are not its name."""
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
