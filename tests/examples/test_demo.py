"""The demo as its user runs it: real processes, and what it leaves behind."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from ldp_client.verify import verify_export

KEYS = {"data", "sites", "epsilon", "auc", "auc_no_noise", "test_images", "ledgers_verified", "seconds"}
SITE_KEYS = {"site", "records", "epsilon_per_record", "unit", "unit_bound", "budget", "remaining"}
ROOT = Path(__file__).parents[2]


def demo(out: Path, *options: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "examples.demo", "--out", str(out), *options],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=400,
        check=False,
    )


def mentioning(text: str) -> list[int]:
    """Live processes whose command line names this path."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal() and int(entry.name) != os.getpid():
            try:
                line = (entry / "cmdline").read_bytes()
            except OSError:
                continue
            if text.encode() in line:
                found.append(int(entry.name))
    return found


@pytest.mark.processes
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_stopping_the_demo_stops_every_process_that_it_started(tmp_path: Path, number: signal.Signals) -> None:
    process = subprocess.Popen(
        [sys.executable, "-m", "examples.demo", "--data", "phantoms", "--out", str(tmp_path / "demo")],
        cwd=ROOT,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    deadline = time.monotonic() + 90
    # Three agents, three couriers, three nodes with their SuperNodes, the centre with SuperLink and edge.
    while len(mentioning(str(tmp_path))) < 13 and time.monotonic() < deadline:
        assert process.poll() is None
        time.sleep(0.2)
    assert len(mentioning(str(tmp_path))) >= 13
    process.send_signal(number)
    assert process.wait(timeout=60) != 0
    assert mentioning(str(tmp_path)) == []


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One run on real X-rays, then a second into the same folder: each begins afresh."""
    out = tmp_path_factory.mktemp("demo") / "out"
    (out / "state").mkdir(parents=True)
    (out / "state" / "leftover").touch()
    done = demo(out, "--data", "file")
    assert done.returncode == 0, done.stdout + done.stderr
    return out


def summary(out: Path) -> dict[str, Any]:
    found = json.loads((out / "summary.json").read_text())
    assert isinstance(found, dict)
    return found


@pytest.mark.real
@pytest.mark.processes
@pytest.mark.timeout(600)
def test_demo_on_real_xrays_reaches_its_figure_and_says_what_it_cost(finished: Path) -> None:
    told = summary(finished)
    assert set(told) == KEYS
    assert not (finished / "state" / "leftover").exists()
    assert told["auc"] >= 0.86
    assert told["test_images"] == 624
    assert told["ledgers_verified"] is True
    assert len(told["sites"]) == 3
    for site in told["sites"]:
        assert set(site) == SITE_KEYS
        assert (site["epsilon_per_record"], site["unit"], site["unit_bound"]) == (2, "image", 2)
        assert site["remaining"] == site["budget"] - 2
        assert site["records"] > 500


@pytest.mark.real
@pytest.mark.processes
@pytest.mark.timeout(600)
def test_demo_leaves_exports_that_anyone_verifies_and_pictures(finished: Path) -> None:
    exports = sorted((finished / "export").glob("*.jsonl"))
    assert [path.stem for path in exports] == ["centre", "lakeside", "north", "st-anna"]
    records = {verify_export(path).party: sum(h.sealed for h in verify_export(path).histories) for path in exports}
    assert (
        records.pop("Thoracic Network")
        == sum(records.values())
        == sum(s["records"] for s in summary(finished)["sites"])
    )
    for picture in ("xrays.png", "budget.png", "roc.png"):
        assert (finished / picture).stat().st_size > 10_000
    assert "patient" not in (finished / "report.html").read_text().lower()


@pytest.mark.real
@pytest.mark.processes
@pytest.mark.timeout(600)
def test_inverted_labels_turn_the_classifier_around(tmp_path: Path) -> None:
    done = demo(tmp_path / "out", "--data", "file", "--invert-labels")
    assert done.returncode == 0, done.stdout + done.stderr
    assert summary(tmp_path / "out")["auc"] < 0.2


def test_demo_says_which_file_it_misses(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LDP_DATA", str(tmp_path))
    done = demo(tmp_path / "out", "--data", "file")
    assert done.returncode == 2
    assert "pneumoniamnist.npz in the folder that LDP_DATA names; found none" in done.stderr
    done = demo(tmp_path / "out", "--patients")
    assert done.returncode == 2
    assert "cxr64.npz in the folder that LDP_DATA names; found none" in done.stderr
