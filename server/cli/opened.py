"""What the centre's commands share: the centre's folder, opened."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer

from server.centre import Centre, open_centre
from server.config import CONFIG_NAME

State = Annotated[Path, typer.Option("--state", envvar="LDP_CENTRE", help="The centre's folder.")]
HERE = Path()


@contextmanager
def opened(state: Path) -> Iterator[Centre]:
    """The centre in a folder, closed afterwards."""
    centre = open_centre(state / CONFIG_NAME)
    try:
        yield centre
    finally:
        centre.close()
