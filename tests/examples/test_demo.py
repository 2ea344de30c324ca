"""The demo as its user runs it: real processes, and what it leaves behind."""

from __future__ import annotations

import contextlib
import io
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
from rich.console import Console

from examples.demo import __main__ as program
from examples.demo import hospitals
from examples.demo.output import MADE, MARKER, begin
from ldp_client.errors import ConfigurationError, ExchangeError
from ldp_client.export import write_export
from ldp_client.verify import verify_export
from tests.client.world import make_world

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
    """One run on real X-rays, into a folder where an earlier demo has left its state."""
    out = tmp_path_factory.mktemp("demo") / "out"
    begin(out)
    (out / "state").mkdir()
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


# --- the folder that it writes to


def refused_folder(out: Path) -> str:
    with pytest.raises(ConfigurationError) as refused:
        begin(out)
    assert refused.value.exit_code == 2
    return str(refused.value)


def test_folder_that_no_demo_made_is_left_as_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    thesis = tmp_path / "thesis.tex"
    thesis.write_text("three years")
    (tmp_path / "state").mkdir()
    monkeypatch.setattr(hospitals, "choose", lambda data, build: None)
    monkeypatch.setattr(sys, "argv", ["demo", "--out", str(tmp_path)])
    assert program.main() == 2
    told = capsys.readouterr().err
    assert f"demo: asked to write the demo to {tmp_path}; it holds files that no demo has made" in told
    assert "name an empty or a new folder with --out" in told
    assert sorted(path.name for path in tmp_path.iterdir()) == ["state", "thesis.tex"]


def test_a_link_is_no_marker(tmp_path: Path) -> None:
    (tmp_path / "else").touch()
    out = tmp_path / "out"
    out.mkdir()
    (out / MARKER).symlink_to(tmp_path / "else")
    assert f"there is no {MARKER} in it" in refused_folder(out)


def test_only_what_an_earlier_demo_made_is_removed(tmp_path: Path) -> None:
    kept = tmp_path / "kept"
    kept.mkdir()
    (kept / "ledger").touch()
    out = tmp_path / "new" / "out"
    begin(out)
    assert [path.name for path in out.iterdir()] == [MARKER]
    (out / "state" / "centre").mkdir(parents=True)
    (out / "export").symlink_to(kept)
    for name in MADE[2:]:
        (out / name).touch()
    (out / "notes.txt").touch()
    begin(out)
    assert sorted(path.name for path in out.iterdir()) == [MARKER, "notes.txt"]
    assert (kept / "ledger").exists()


def test_folder_that_cannot_be_used_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    assert "it cannot be used (File exists); name another folder with --out" in refused_folder(tmp_path / "file")
    begin(tmp_path / "out")
    (tmp_path / "out" / MARKER).unlink()
    begin(tmp_path / "out")  # empty again: nothing to lose


# --- what it says when a ledger does not verify


@pytest.fixture(scope="module")
def exports(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Of two sites; somebody has changed the first."""
    paths = []
    for name in ("altered", "true"):
        world = make_world(tmp_path_factory.mktemp(name) / "north", count=2)
        world.release()
        paths.append(world.folder / f"{name}.jsonl")
        write_export(world.site, paths[-1])
        world.site.close()
    paths[0].write_bytes(paths[0].read_bytes().replace(b'"sequence":4', b'"sequence":5', 1))
    return paths


def test_every_export_is_verified_and_a_fault_in_one_is_told(exports: list[Path]) -> None:
    verdict = program.verify_all(exports)
    assert not verdict.holds
    assert verdict.lines[0].startswith("altered.jsonl: NOT verified: site north, entry 5: follows entry 3")
    assert verdict.lines[1].startswith("site ledger of north: verified.")
    assert program.verify_all(exports[1:]).holds


@pytest.mark.parametrize(("first", "holds"), [(0, False), (1, True)])
def test_the_report_is_written_whatever_the_verifier_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, exports: list[Path], first: int, holds: bool
) -> None:
    """The road without its processes; what matters here is the way from the verifier to the report."""
    written: list[tuple[Path, SimpleNamespace]] = []
    parties = SimpleNamespace(close=lambda: None)
    monkeypatch.setattr(program.network, "build", lambda state, country, encoder: parties)
    monkeypatch.setattr(program.network, "processes", lambda parties: contextlib.nullcontext())
    for name, double in {
        "open_bundle": lambda bundle, folder: None,
        "_encode": lambda encoder, country, stop: None,
        "_exchange": lambda parties, progress: None,
        "_export": lambda parties, folder: exports[first:],
        "_result": lambda parties, encoded, verdict, started: SimpleNamespace(
            ledgers_verified=verdict.holds, verifier_lines=verdict.lines
        ),
        "write_report": lambda folder, result: written.append((folder, result)),
    }.items():
        monkeypatch.setattr(program, name, double)
    country = cast(hospitals.Country, SimpleNamespace(description="nothing", unit="image", encoder="none"))
    program.run(country, tmp_path / "out", Console(file=io.StringIO()))
    ((folder, result),) = written
    assert folder == tmp_path / "out"
    assert result.ledgers_verified is holds
    assert any("NOT verified" in line for line in result.verifier_lines) is not holds


@pytest.mark.parametrize(("holds", "code"), [(True, 0), (False, 6)])
def test_a_ledger_that_does_not_verify_ends_the_demo_with_six(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], holds: bool, code: int
) -> None:
    monkeypatch.setattr(hospitals, "choose", lambda data, build: None)
    monkeypatch.setattr(program, "run", lambda country, out, console: SimpleNamespace(ledgers_verified=holds))
    monkeypatch.setattr(program, "screen", lambda result: "the screen")
    monkeypatch.setattr(sys, "argv", ["demo", "--out", str(tmp_path)])
    assert program.main() == code
    shown = capsys.readouterr().out
    assert "the screen" in shown
    assert "Report: " in shown


# --- whose X-rays


@pytest.fixture
def sources(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What `choose` tried, in order: the publisher is out of reach; reading a file or drawing is noted, not done."""
    tried: list[str] = []

    def unreachable(target: Path, *, timeout_seconds: float) -> Path:
        tried.append("fetch")
        raise ExchangeError("asked zenodo.org for PneumoniaMNIST; it cannot be reached")

    def read(path: Path, description: str) -> SimpleNamespace:
        tried.append("file")
        return SimpleNamespace(path=path, description=description)

    def drawn(*_: object) -> SimpleNamespace:
        tried.append("phantoms")
        return SimpleNamespace(description="synthetic")

    monkeypatch.setattr(hospitals, "synthetic", drawn)
    monkeypatch.setattr(hospitals, "fetch_pneumoniamnist", unreachable)
    monkeypatch.setattr(hospitals, "pneumonia_mnist", read)
    monkeypatch.delenv("LDP_DATA", raising=False)
    return tried


def test_auto_falls_from_a_file_to_its_publisher_to_phantoms(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, sources: list[str]
) -> None:
    monkeypatch.setenv("LDP_DATA", str(tmp_path))
    (tmp_path / "pneumoniamnist.npz").touch()
    assert hospitals.choose("auto", tmp_path / "build").description.endswith("from LDP_DATA)")
    assert sources == ["file"]
    (tmp_path / "pneumoniamnist.npz").unlink()
    assert hospitals.choose("auto", tmp_path / "build").description == "synthetic"
    assert sources == ["file", "fetch", "phantoms"]


def test_auto_uses_what_was_fetched_before(tmp_path: Path, sources: list[str]) -> None:
    fetched = tmp_path / "data" / "pneumoniamnist.npz"
    fetched.parent.mkdir()
    fetched.touch()
    country = hospitals.choose("auto", tmp_path)
    assert country.description.endswith("from its publisher)")
    assert sources == ["file"]


def test_what_was_asked_for_by_name_is_not_replaced(tmp_path: Path, sources: list[str]) -> None:
    with pytest.raises(ExchangeError, match="cannot be reached"):
        hospitals.choose("fetch", tmp_path)
    with pytest.raises(ConfigurationError, match="in the folder that LDP_DATA names; found none"):
        hospitals.choose("file", tmp_path)
    assert sources == ["fetch"]
    assert hospitals.choose("phantoms", tmp_path).description == "synthetic"
    assert sources == ["fetch", "phantoms"]
