"""Released pictures as a folder: PNG files and a labels.csv, as a hospital's own folder looks."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

from ldp_client.errors import ConfigurationError
from ldp_client.imaging.png import png_bytes
from server.learning.image_training import PictureSet

LABELS_FILE = "labels.csv"


def write_pictures(pictures: PictureSet, folder: Path) -> None:
    """Write `000001.png`, ... in the order of the records, and `file,label` rows in labels.csv; all or nothing.

    Raises:
        ConfigurationError: the folder exists, or its place cannot be written.
    """
    if folder.exists():
        raise ConfigurationError(f"asked to write pictures to {folder.name!r}, which exists; name a new folder")
    digits = max(6, len(str(len(pictures.labels))))
    names = [f"{number:0{digits}}.png" for number in range(1, len(pictures.labels) + 1)]
    label_names = pictures.campaign.label_names
    rows = [f"{name},{label_names[label]}" for name, label in zip(names, pictures.labels.tolist(), strict=True)]
    temporary: Path | None = None
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
        for name, image in zip(names, pictures.pixels, strict=True):
            (temporary / name).write_bytes(png_bytes(image))
        (temporary / LABELS_FILE).write_text("\n".join(["file,label", *rows]) + "\n", encoding="utf-8")
        temporary.chmod(0o755)  # mkdtemp makes it private; what it holds is no secret
        temporary.rename(folder)
    except BaseException as error:
        if temporary is not None:
            shutil.rmtree(temporary, ignore_errors=True)
        if isinstance(error, OSError):
            raise ConfigurationError(
                f"{folder} cannot be written ({error.strerror}); name a new folder where you may write"
            ) from error
        raise
