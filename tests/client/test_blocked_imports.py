"""An auditor's laptop is enough: verification, ledger, plan and budget run where torch and flwr cannot be imported."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from ldp_client.export import write_export
from tests.client.world import World, make_world

# Stands before every other finder; what is named here might as well not be installed.
BLOCKED = """
import importlib.abc, sys

class Blocker(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in {blocked}:
            raise ImportError(name + " is blocked")
        return None

sys.meta_path.insert(0, Blocker())
sys.argv = {argv}
"""
HEAVY = ("torch", "flwr", "safetensors")
# What the base install does not bring.
EXTRAS = (*HEAVY, "typer", "rich", "click", "pydicom", "PIL", "tomli_w", "httpx", "sqlalchemy", "starlette")
RUN = {
    "verify": "import runpy; runpy.run_module('ldp_client.verify', run_name='__main__')",
    "client": "from ldp_client.cli.main import main; main()",
}


def run(program: str, *arguments: str, blocked: tuple[str, ...] = HEAVY) -> subprocess.CompletedProcess[str]:
    """A fresh interpreter in which some packages cannot be imported."""
    code = BLOCKED.format(blocked=blocked, argv=["program", *arguments]) + RUN.get(program, program)
    return subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code], capture_output=True, text=True, timeout=60, check=False
    )


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A site that has released, with an export beside it."""
    world: World = make_world(tmp_path_factory.mktemp("site") / "north", count=3)
    world.release()
    write_export(world.site, world.folder / "export.jsonl")
    world.site.close()
    return world.folder


def test_the_block_blocks() -> None:
    """The twin: what must be blocked is, and the agent, which needs it, does not start."""
    for package in HEAVY:
        assert f"{package} is blocked" in run(f"import {package}").stderr
    assert run("import ldp_client.agent").returncode == 1


def test_verifier_runs_with_the_base_install_alone(folder: Path) -> None:
    ended = run("verify", str(folder / "export.jsonl"), blocked=EXTRAS)
    assert (ended.returncode, ended.stderr) == (0, "")
    assert "site ledger of north: verified" in ended.stdout


@pytest.mark.parametrize(
    ("command", "says"),
    [
        (("ledger", "head"), "entry 9: "),
        (("ledger", "verify"), "site ledger of north: verified"),
        (("campaign", "plan", "pneumonia", "--format", "json"), '"records": 0'),
        (("campaign", "list", "--format", "json"), '"answer": "complete"'),
        (("campaign", "show", "pneumonia"), "policy: allows it"),
        (("budget", "show", "--format", "json"), '"bound_per_unit": "2 of 8, 6 left"'),
        (("policy", "show", "--format", "json"), '"lifetime_epsilon_per_unit": "8"'),
    ],
)
def test_command_runs_without_torch_and_flower(folder: Path, command: tuple[str, ...], says: str) -> None:
    ended = run("client", *command, "--state", str(folder))
    assert (ended.returncode, ended.stderr) == (0, "")
    assert says in ended.stdout
    if "json" in command:
        assert isinstance(json.loads(ended.stdout), list)


def test_ledger_itself_runs_with_the_base_install_alone(folder: Path) -> None:
    ended = run(
        "from pathlib import Path; from ldp_client.ledger.store import SiteLedger; "
        f"print(SiteLedger.open(Path({str(folder)!r}) / 'ledger.sqlite3').head().sequence)",
        blocked=EXTRAS,
    )
    assert (ended.returncode, ended.stdout) == (0, "9\n")


def test_audit_runs_without_torch_and_flower() -> None:
    ended = run("client", "audit", "--help")
    assert (ended.returncode, ended.stderr) == (0, "")
    assert "--quick" in ended.stdout


def test_audit_itself_runs_with_the_base_install_alone() -> None:
    ended = run(
        "from ldp_client.audit.run import audit; from ldp_client.audit.findings import Effort; "
        "print(audit(effort=Effort('least', 4000, 400, 50, 16), tried=()).failures)",
        blocked=(*EXTRAS, "scipy"),
    )
    assert (ended.returncode, ended.stderr, ended.stdout) == (0, "", "()\n")
