"""What survives a kill: arrays written whole or not at all."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray


def write_array(file: Path, values: NDArray[Any]) -> None:
    """Write an array beside its place and rename it: a file that is there is whole."""
    beside = file.with_suffix(f".{os.getpid()}.part")
    with beside.open("wb") as handle:
        np.save(handle, values, allow_pickle=False)
        handle.flush()
        os.fsync(handle.fileno())
    beside.replace(file)


def write_text(file: Path, text: str) -> None:
    """The same for text."""
    beside = file.with_suffix(f".{os.getpid()}.part")
    beside.write_text(text, encoding="utf-8")
    beside.replace(file)
