"""Reading files without repeating their text: decoders quote tag values in their warnings and debug logs."""

from __future__ import annotations

import contextlib
import logging
import warnings
from collections.abc import Iterator

# The loggers of the decoders; a child (pydicom.pixels...) takes its level from here.
_LOUD = ("pydicom", "PIL", "pylibjpeg", "openjpeg", "rle")


@contextlib.contextmanager
def discreet() -> Iterator[None]:
    """Silence warnings and logs of the file decoders while the block runs; errors still come through.

    Process-wide while it lasts: other threads' warnings are silenced too.
    """
    loggers = [logging.getLogger(name) for name in _LOUD]
    levels = [logger.level for logger in loggers]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for logger in loggers:
            logger.setLevel(logging.CRITICAL + 1)
        try:
            yield
        finally:
            for logger, level in zip(loggers, levels, strict=True):
                logger.setLevel(level)
