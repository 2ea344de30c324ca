"""A folder that a command is going to write: looked at before anything is computed, and then written all or nothing."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ldp_client.errors import ConfigurationError


def require_new(folder: Path, what: str) -> None:
    """Return if a bundle may be written there; asked before anything is computed. Nothing stays made.

    Args:
        what: is to be written, as in "an encoder".

    Raises:
        ConfigurationError: the folder exists, for none is ever overwritten, or cannot be made.
    """
    try:
        exists = folder.exists() or folder.is_symlink()
    except OSError as error:
        raise _unwritable(folder, what, str(error.strerror)) from error
    if exists:
        raise ConfigurationError(f"asked to write {what} to {folder.name!r}, which exists; name a new folder")
    why = obstacle(folder.parent)
    if why:
        raise _unwritable(folder, what, why)


@contextmanager
def new_folder(folder: Path, what: str) -> Iterator[Path]:
    """A folder to write to, which takes `folder`'s name when all went well and is taken away when not.

    Raises:
        ConfigurationError: the folder exists, cannot be made, or cannot hold what is written.
    """
    require_new(folder, what)
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
    except OSError as error:
        raise _unwritable(folder, what, str(error.strerror)) from error
    try:
        temporary.chmod(0o755)  # mkdtemp makes it private; a bundle is public
        yield temporary
        temporary.rename(folder)
    except OSError as error:
        shutil.rmtree(temporary)
        raise _unwritable(folder, what, str(error.strerror or error)) from error
    except BaseException:
        shutil.rmtree(temporary)
        raise


def obstacle(folder: Path) -> str:
    """Why nothing can be written to a folder that is there or yet to be made; empty if it can. Nothing stays made."""
    try:
        above = next(place for place in (folder.absolute(), *folder.absolute().parents) if place.exists())
        if not above.is_dir():
            return f"{above.name} is a file"
        # Tried, not asked for: to the superuser everything looks writable.
        Path(tempfile.mkdtemp(prefix=".", dir=above)).rmdir()
    except OSError as error:
        return str(error.strerror)
    return ""


def _unwritable(folder: Path, what: str, why: str) -> ConfigurationError:
    return ConfigurationError(
        f"asked to write {what} to {folder}, which cannot be made ({why}); name a new folder in one that you may "
        "write to"
    )
