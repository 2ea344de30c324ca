"""The commands that the stock Flower programs are started with, and the key that a centre knows a site's node by."""

import contextlib
import socket
import ssl
import stat
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from ldp_client.courier import CourierConfig
from ldp_client.errors import ConfigurationError, ExchangeError
from ldp_client.processes import flower_program
from ldp_client.supernode import (
    SuperNodeConfig,
    check_authority,
    courier_program,
    create_node_key,
    create_secret,
    supernode_program,
)
from ldp_client.wire.signing import read_shared_secret
from server.certificates import CertificateFiles, create_authority, issue_server_certificate
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


def test_a_secret_that_everybody_can_read_is_refused(tmp_path: Path) -> None:
    for name, mode in (("secret", 0o644), ("secret", 0o660), ("node", 0o604)):
        path = tmp_path / f"{name}{mode}"
        path.write_bytes(b"s" * 32)
        path.chmod(mode)
        with pytest.raises(ConfigurationError, match="only its owner and one group can read: chmod 640"):
            read_shared_secret(path)
    path.chmod(0o640)
    assert read_shared_secret(path) == b"s" * 32
    (tmp_path / "link").symlink_to(path)
    with pytest.raises(OSError, match="symbolic link"):
        read_shared_secret(tmp_path / "link")


@contextlib.contextmanager
def listening(certificate: CertificateFiles) -> Iterator[str]:
    """Something that speaks TLS with this certificate."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate.certificate, certificate.key)
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            while True:
                try:
                    plain, _ = server.accept()
                except OSError:
                    return
                with contextlib.suppress(OSError), context.wrap_socket(plain, server_side=True) as tls:
                    tls.recv(1)

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield f"127.0.0.1:{server.getsockname()[1]}"
        server.shutdown(socket.SHUT_RDWR)
    thread.join(5)


def test_an_edge_of_another_authority_is_named(tmp_path: Path) -> None:
    ours, theirs = create_authority(tmp_path / "ours"), create_authority(tmp_path / "theirs")
    server = issue_server_certificate(ours, tmp_path / "tls", "edge", ["127.0.0.1"])
    with listening(server) as edge:
        check_authority(edge, ours.certificate)
        with pytest.raises(
            ExchangeError, match=r"is not one that .* vouches for .*; compare the ca\.crt and the host's"
        ):
            check_authority(edge, theirs.certificate)
    # A centre that is not up yet is no fault of the file's.
    check_authority(edge, theirs.certificate)


def test_a_file_that_is_no_certificate_is_refused(tmp_path: Path) -> None:
    (tmp_path / "ca.crt").write_text("not a certificate")
    with pytest.raises(ConfigurationError, match=r"holds no certificate; name the ca\.crt that the centre handed over"):
        check_authority("127.0.0.1:1", tmp_path / "ca.crt")


def test_a_command_that_is_not_installed_is_named() -> None:
    with pytest.raises(ConfigurationError, match=r"flower-nothing was expected beside .*; found none; install flwr"):
        flower_program("flower-nothing")
