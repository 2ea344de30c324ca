"""What breaks besides processes: a disk that is full, a disk that cannot be written, a clock, a database."""

from __future__ import annotations

import contextlib
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path


class NoMountError(RuntimeError):
    """This machine does not let us mount a file system of our own."""


@dataclass(frozen=True)
class SmallDisk:
    """A file system in memory, mounted over a folder: small enough to fill, and one's own to make read-only."""

    folder: Path

    def fill(self) -> None:
        """Write until nothing more fits."""
        with contextlib.suppress(OSError), self._filler.open("ab", buffering=0) as file:
            while True:
                # Blocks of ever smaller size: the last byte counts.
                try:
                    file.write(bytes(1 << 16))
                except OSError:
                    break
            while True:
                file.write(bytes(512))

    def free(self) -> None:
        """Take away what `fill` wrote."""
        self._filler.unlink(missing_ok=True)

    def read_only(self, yes: bool) -> bool:
        """Remount; False where somebody has a file open to write just now."""
        mode = "ro" if yes else "rw"
        done = subprocess.run(["mount", "-o", f"remount,{mode}", str(self.folder)], capture_output=True, check=False)
        return done.returncode == 0

    @property
    def _filler(self) -> Path:
        return self.folder / "filler"


@contextlib.contextmanager
def small_disk(folder: Path, megabytes: int) -> Iterator[SmallDisk]:
    """Move a folder onto a small disk during the block; what is on it afterwards is moved back.

    Raises:
        NoMountError: only root can mount, and not in every container.
    """
    with tempfile.TemporaryDirectory() as aside:
        kept = Path(aside) / "kept"
        shutil.copytree(folder, kept, symlinks=True)
        options = f"size={megabytes}m,mode=755"
        done = subprocess.run(
            ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(folder)], capture_output=True, check=False
        )
        if done.returncode != 0:
            raise NoMountError("a small disk has to be mounted, which this machine does not allow: run this as root")
        try:
            shutil.copytree(kept, folder, symlinks=True, dirs_exist_ok=True)
            yield SmallDisk(folder)
        finally:
            SmallDisk(folder).read_only(False)
            SmallDisk(folder).free()
            shutil.rmtree(kept)
            shutil.copytree(folder, kept, symlinks=True)
            subprocess.run(["umount", "--lazy", str(folder)], check=True, capture_output=True)
            shutil.copytree(kept, folder, symlinks=True, dirs_exist_ok=True)


def jump(clock: Path, days: int) -> None:
    """Set a site's clock wrong by so many days, in one step."""
    beside = clock.with_suffix(".new")
    beside.write_text(str(days))
    beside.replace(clock)
