"""What every test may ask for, and which tests run when nobody asks."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import settings

# A busy machine is no fault of the code: no example is timed.
settings.register_profile("untimed", deadline=None)
settings.load_profile("untimed")

_DATA_FILES = ("pneumoniamnist.npz", "cxr64.npz", "dicom", "jpeg")


def pytest_report_header() -> str:
    """Say it when something is left out: a silent gap looks like a pass."""
    if os.geteuid() == 0:
        return "user: root, so the tests that make OS users and network namespaces run too"
    return "user: not root; the tests that make OS users and network namespaces are left out (CI runs them)"


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out the tests on real X-rays unless `-m` names them, and those that only root can run."""
    unwanted = set() if "real" in str(config.getoption("markexpr")).split() else {"real"}
    if os.geteuid() != 0:
        unwanted.add("root")
    left_out = [item for item in items if any(item.get_closest_marker(name) for name in unwanted)]
    if left_out:
        config.hook.pytest_deselected(items=left_out)
        items[:] = [item for item in items if item not in left_out]


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
