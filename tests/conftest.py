"""What every test may ask for, and which tests run when nobody asks."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

_DATA_FILES = ("pneumoniamnist.npz", "cxr64.npz", "dicom", "jpeg")


def pytest_configure(config: pytest.Config) -> None:
    """Let typer 0.20, which Flower pins, import: it asks Click 8.4 for names that Click is about to drop."""
    config.addinivalue_line("filterwarnings", r"ignore:'click\.:DeprecationWarning")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out the tests on real X-rays unless `-m` names them: a plain run needs no data."""
    if "real" in str(config.getoption("markexpr")).split():
        return
    left_out = [item for item in items if item.get_closest_marker("real") is not None]
    if left_out:
        config.hook.pytest_deselected(items=left_out)
        items[:] = [item for item in items if item.get_closest_marker("real") is None]


@pytest.fixture(scope="session")
def data_dir() -> Path:
    """The folder of real X-rays; its absence fails the test, since a skipped test proves nothing."""
    named = os.environ.get("LDP_DATA")
    if not named:
        pytest.fail("tests on real X-rays need LDP_DATA, the folder that docs/data.md describes")
    folder = Path(named)
    missing = [name for name in _DATA_FILES if not (folder / name).exists()]
    if missing:
        pytest.fail(f"LDP_DATA lacks {', '.join(missing)}; docs/data.md says what belongs there")
    return folder
