"""The commands that the stock Flower programs are started with, and the key that a centre knows a site's node by."""

import stat
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from ldp_client.courier import CourierConfig
from ldp_client.errors import ConfigurationError
from ldp_client.processes import flower_program
from ldp_client.supernode import (
    SuperNodeConfig,
    courier_program,
    create_node_key,
    create_secret,
    supernode_program,
)
from server.certificates import CertificateFiles
from server.superlink import SuperLinkConfig, superlink_program


def value(command: list[str], option: str) -> str:
    return command[command.index(option) + 1]


@pytest.fixture
def config(tmp_path: Path) -> SuperNodeConfig:
    return SuperNodeConfig(
        tmp_path / "state", "centre.example:443", tmp_path / "ca.crt", tmp_path / "node", tmp_path / "secret", 9094
    )


def test_a_supernode_runs_with_process_isolation_over_tls(config: SuperNodeConfig) -> None:
    command = list(supernode_program(config).command)
    assert value(command, "--isolation") == "process"
    assert value(command, "--host") == "127.0.0.1"
    assert value(command, "--superexec-auth-secret-file") == str(config.secret)
    assert value(command, "--root-certificates") == str(config.authority)
    assert "--insecure" not in command


def test_a_superlink_listens_on_loopback_with_node_authentication(tmp_path: Path) -> None:
    files = CertificateFiles(tmp_path / "s.crt", tmp_path / "s.key")
    program = superlink_program(SuperLinkConfig(tmp_path, 8000, tmp_path / "ca.crt", files))
    command = list(program.command)
    assert value(command, "--host") == "127.0.0.1"
    assert "--enable-supernode-auth" in command
    assert "--disable-runtime-dependency-installation" in command
    assert "--insecure" not in command
    assert program.environment["FLWR_HOME"] == str(tmp_path)


def test_nothing_of_our_environment_reaches_flower_or_the_courier(
    config: SuperNodeConfig, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("LDP_AGENT__SECRET", "x")
    courier = courier_program(CourierConfig(tmp_path, "127.0.0.1:9094", config.secret), tmp_path)
    for program in (supernode_program(config), courier):
        assert "LDP_AGENT__SECRET" not in program.environment
        assert program.environment["FLWR_TELEMETRY_ENABLED"] == "0"
        assert program.environment["FLWR_DISABLE_UPDATE_CHECK"] == "1"


def test_a_node_key_is_a_p384_key_in_openssh_format_for_its_owner_only(tmp_path: Path) -> None:
    public = create_node_key(tmp_path / "site" / "node")
    private = serialization.load_ssh_private_key((tmp_path / "site" / "node").read_bytes(), None)
    assert isinstance(private, ec.EllipticCurvePrivateKey)
    assert isinstance(private.curve, ec.SECP384R1)
    assert stat.S_IMODE((tmp_path / "site" / "node").stat().st_mode) == 0o600
    assert serialization.load_ssh_public_key(public.read_bytes()) == private.public_key()


def test_a_key_or_secret_that_is_there_is_not_replaced(tmp_path: Path) -> None:
    create_node_key(tmp_path / "node")
    create_secret(tmp_path / "secret", 0o640)
    before = [(tmp_path / name).read_bytes() for name in ("node", "secret")]
    with pytest.raises(ConfigurationError, match="node was to be made and is there already"):
        create_node_key(tmp_path / "node")
    with pytest.raises(ConfigurationError, match="secret was to be made and is there already"):
        create_secret(tmp_path / "secret")
    assert [(tmp_path / name).read_bytes() for name in ("node", "secret")] == before
    assert stat.S_IMODE((tmp_path / "secret").stat().st_mode) == 0o640


def test_a_command_that_is_not_installed_is_named() -> None:
    with pytest.raises(ConfigurationError, match=r"flower-nothing was expected beside .*; found none; install flwr"):
        flower_program("flower-nothing")
