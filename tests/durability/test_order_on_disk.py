"""What reaches the disk, and in which order, as the kernel sees it: every step is on the disk before it is answered.

`make test-durability`; needs strace. What it cannot show is a disk that says it has written and has not.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

pytestmark = pytest.mark.strace
CALL = re.compile(r"^\d+ +(\w+)\((.*)$")
CALLS = "write,pwrite64,fsync,fdatasync,rename"


@dataclass(frozen=True)
class Call:
    """One system call: its name, and the rest of its line, in which -y names the file behind a descriptor."""

    name: str
    text: str

    def on(self, part: str) -> bool:
        """Whether its first argument is a file with this in its path."""
        return part in self.text.partition(",")[0]

    @property
    def syncs(self) -> bool:
        return self.name in ("fsync", "fdatasync")


def traced(folder: Path, *arguments: str) -> dict[str, list[Call]]:
    """The calls of each step, by its mark."""
    strace = shutil.which("strace")
    assert strace is not None, "these tests need strace: apt-get install strace"
    out = folder / "calls"
    command = [strace, "-f", "-y", "-s", "80", "-o", str(out), "-e", f"trace={CALLS}"]
    program = str(Path(__file__).parent / "writes_in_order.py")
    subprocess.run(
        [*command, sys.executable, program, str(folder), *arguments], check=True, env={"PYTHONPATH": "."}, timeout=120
    )
    steps: dict[str, list[Call]] = {}
    step: list[Call] = []
    for line in out.read_text().splitlines():
        found = CALL.match(line)
        if found is None:
            continue
        if found[1] == "write" and '"MARK ' in found[2]:
            step = steps.setdefault(found[2].partition('"MARK ')[2].partition("\\n")[0], [])
        else:
            step.append(Call(found[1], found[2]))
    return steps


@pytest.fixture(scope="module")
def steps(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[Call]]:
    return traced(tmp_path_factory.mktemp("careful"))


def place(calls: list[Call], what: Callable[[Call], bool]) -> int:
    """The place of the last call that fits; -1 for none."""
    return max((number for number, call in enumerate(calls) if what(call)), default=-1)


def is_on_disk(calls: list[Call], file: str) -> bool:
    """Whether the file was written to, and synced after the last write."""
    written = place(calls, lambda call: call.name in ("write", "pwrite64") and call.on(file))
    return 0 <= written < place(calls, lambda call: call.syncs and call.on(file))


@pytest.mark.parametrize("step", ["charge", "seal"])
def test_a_step_of_the_site_is_on_the_disk_before_it_returns(steps: dict[str, list[Call]], step: str) -> None:
    assert is_on_disk(steps[step], "ledger.sqlite3-wal")


def test_a_batch_is_on_the_centres_disk_before_its_receipt_exists(steps: dict[str, list[Call]]) -> None:
    assert is_on_disk(steps["commit"], "centre.sqlite3-wal")


def test_a_file_of_the_spool_is_synced_renamed_and_its_folder_synced(steps: dict[str, list[Call]]) -> None:
    calls = [call for call in steps["put"] if "/spool/" in call.text]
    assert [call.name for call in calls] == ["write", "fsync", "rename", "fsync"]
    assert calls[0].on("outbox/header/.")
    assert calls[1].on("outbox/header/.")
    assert calls[3].on("outbox/header>")


def test_a_ledger_that_does_not_wait_for_its_disk_is_noticed(tmp_path: Path) -> None:
    careless = traced(tmp_path, "careless")
    assert not is_on_disk(careless["charge"], "ledger.sqlite3-wal")
