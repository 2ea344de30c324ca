"""Runs the stock `flower-superlink` on loopback, knows its sites' SuperNodes, and starts the gathering on it."""

from __future__ import annotations

import contextlib
import json
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from ldp_client.errors import ExchangeError
from ldp_client.processes import Program, Running, flower_environment, flower_program, running, wait_for_port
from server.certificates import CertificateFiles
from server.edge import EdgeConfig

GATHER_APP = Path(__file__).parent / "flower_app"
_CONNECTION = "centre"
_COMMAND_SECONDS = 120.0


@dataclass(frozen=True)
class SuperLinkConfig:
    """The centre's SuperLink: its folder, its port on loopback, and its TLS files (for 127.0.0.1)."""

    folder: Path
    port: int
    authority: Path
    server: CertificateFiles

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"


def superlink_program(config: SuperLinkConfig) -> Program:
    """The stock command. Loopback only: its Control interface obeys whoever reaches it, so sites reach the edge."""
    return Program(
        [
            flower_program("flower-superlink"),
            *("--ssl-ca-certfile", str(config.authority.resolve())),
            *("--ssl-certfile", str(config.server.certificate.resolve())),
            *("--ssl-keyfile", str(config.server.key.resolve())),
            "--enable-supernode-auth",
            *("--host", "127.0.0.1"),
            *("--port", str(config.port)),
            # What passes through this file is sealed before Flower sees it.
            *("--database", str((config.folder / "superlink.sqlite3").resolve())),
            "--disable-runtime-dependency-installation",
        ],
        flower_environment(config.folder.resolve()),
        config.folder / "superlink.log",
    )


def edge_program(config: EdgeConfig, folder: Path) -> Program:
    """The edge as a program of its own, with its log in `folder`."""
    return Program(
        [
            *(flower_program("python"), "-m", "server.edge"),
            *("--host", config.host),
            *("--port", str(config.port)),
            *("--certificate", str(config.certificate.resolve())),
            *("--key", str(config.key.resolve())),
            *("--superlink", config.superlink),
            *("--authority", str(config.authority.resolve())),
        ],
        flower_environment(folder.resolve()),
        folder / "edge.log",
    )


@contextlib.contextmanager
def superlink_running(config: SuperLinkConfig) -> Iterator[Running]:
    """Run the SuperLink during the block; entered when it listens.

    Raises:
        ExchangeError: it does not come up; the message names its log.
    """
    config.folder.mkdir(parents=True, exist_ok=True)
    # Read by the `flwr` commands below, which have the same FLWR_HOME.
    (config.folder / "config.toml").write_text(
        f'[superlink]\ndefault = "{_CONNECTION}"\n\n[superlink.{_CONNECTION}]\naddress = "{config.address}"\n'
        f"root-certificates = {json.dumps(str(config.authority.resolve()))}\n"
    )
    program = superlink_program(config)
    with running(program) as process:
        wait_for_port(config.port, process.alive, log=program.log)
        yield process


@contextlib.contextmanager
def edge_running(config: EdgeConfig, folder: Path) -> Iterator[Running]:
    """Run the edge during the block; entered when it listens."""
    program = edge_program(config, folder)
    with running(program) as process:
        wait_for_port(config.port, process.alive, log=program.log)
        yield process


def register_supernode(config: SuperLinkConfig, public_key: Path, name: str) -> int:
    """Let a node with this public key (OpenSSH format) connect, and return its id."""
    answer = _flwr(config, "supernode", "register", str(public_key), _CONNECTION, "--name", name, "--format", "json")
    return int(str(answer["node-id"]))


def start_run(config: SuperLinkConfig, settings: dict[str, str | bool], app: Path = GATHER_APP) -> int:
    """Start a ServerApp, by default the gathering, with these run settings, and return the run's id.

    The gathering wants {"server-config": path of server.toml}, and {"until-finished": False} to go on for ever.
    """
    pairs = " ".join(f"{key}={json.dumps(value)}" for key, value in settings.items())
    chosen = ["--run-config", pairs] if settings else []
    answer = _flwr(config, "run", str(app), _CONNECTION, *chosen, "--format", "json")
    return int(str(answer["run-id"]))


def stop_run(config: SuperLinkConfig, run_id: int) -> None:
    """Stop a run; what it has committed stays, and another run goes on from there."""
    _flwr(config, "stop", str(run_id), _CONNECTION, "--format", "json")


def run_status(config: SuperLinkConfig, run_id: int) -> str:
    """Flower's word for how a run is doing: `pending`, `starting`, `running`, `finished:completed` and the like."""
    answer = _flwr(config, "list", "--run-id", str(run_id), _CONNECTION, "--format", "json")
    runs = answer.get("runs")
    if not isinstance(runs, list) or not runs or not isinstance(runs[0], dict):
        raise ExchangeError(f"the SuperLink was asked for run {run_id} and knows of none")
    return str(runs[0].get("status"))


def unfinished_runs(config: SuperLinkConfig) -> list[int]:
    """Runs that the SuperLink would still go on with: after a hard stop, those of an earlier life."""
    found = _flwr(config, "list", _CONNECTION, "--format", "json").get("runs")
    runs = [run for run in found if isinstance(run, dict)] if isinstance(found, list) else []
    return [int(str(run["run-id"])) for run in runs if not str(run.get("status")).startswith("finished")]


def _flwr(config: SuperLinkConfig, *arguments: str) -> dict[str, object]:
    """Run a `flwr` command and read its JSON.

    Raises:
        ExchangeError: it failed or said something else.
    """
    name = " ".join(arguments[:2]) if arguments[0] == "supernode" else arguments[0]
    try:
        done = subprocess.run(
            [flower_program("flwr"), *arguments],
            env=flower_environment(config.folder.resolve()),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=_COMMAND_SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise ExchangeError(
            f"`flwr {name}` gave no answer within {_COMMAND_SECONDS:g} s; is the SuperLink up?"
        ) from error
    try:
        answer = json.loads(done.stdout)
    except ValueError as error:
        raise ExchangeError(
            f"`flwr {name}` was to answer in JSON and ended with status {done.returncode} instead: "
            f"{(done.stderr or done.stdout).strip()[-500:]}"
        ) from error
    if not isinstance(answer, dict) or not answer.get("success", False):
        reason = answer.get("error-message", "no reason given") if isinstance(answer, dict) else "no reason given"
        raise ExchangeError(f"`flwr {name}` failed: {str(reason).strip()[:500]}")
    return answer
