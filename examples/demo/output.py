"""The demo's own folder: known by a marker file, so that `--out` never removes what no demo has made."""

from __future__ import annotations

import shutil
from pathlib import Path

from ldp_client.errors import ConfigurationError

MARKER = ".ldp-glow-demo"
# Everything that a run writes, and all that the next one removes.
MADE = ("state", "export", "summary.json", "report.html", "xrays.png", "budget.png", "roc.png")


def begin(out: Path) -> None:
    """Make `out` ready for a run: new, or without what an earlier demo left. Other files in it stay.

    Raises:
        ConfigurationError: `out` is no folder, holds something and no demo's marker, or cannot be written.
    """
    marker = out / MARKER
    try:
        out.mkdir(parents=True, exist_ok=True)
        if any(out.iterdir()) and (marker.is_symlink() or not marker.is_file()):
            raise ConfigurationError(
                f"asked to write the demo to {out}; it holds files that no demo has made (there is no {MARKER} in it), "
                "and a demo removes what an earlier one left; name an empty or a new folder with --out"
            )
        marker.write_text("A demo of ldp-glow writes to this folder; the next one removes what it left here.\n")
        for name in MADE:
            _remove(out / name)
    except OSError as error:
        raise ConfigurationError(
            f"asked to write the demo to {out}; it cannot be used ({error.strerror}); name another folder with --out"
        ) from error


def _remove(path: Path) -> None:
    # A link is removed itself; what it leads to is no demo's.
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
