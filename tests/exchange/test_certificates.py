"""The centre's authority: certificates that a strict TLS client accepts, keys that only their owner reads."""

import datetime
import ssl
import stat
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ed25519

from ldp_client.errors import ConfigurationError
from server.certificates import CertificateFiles, create_authority, issue_server_certificate


def handshake(authority: Path, server: CertificateFiles, host: str) -> None:
    """A TLS handshake in memory, with all of X.509's rules."""
    ours = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    ours.load_cert_chain(server.certificate, server.key)
    theirs = ssl.create_default_context(cafile=str(authority))
    theirs.verify_flags |= ssl.VERIFY_X509_STRICT
    up, down = ssl.MemoryBIO(), ssl.MemoryBIO()
    server_side = ours.wrap_bio(up, down, server_side=True)
    client_side = theirs.wrap_bio(down, up, server_hostname=host)
    for _ in range(4):
        for side in (client_side, server_side):
            try:
                side.do_handshake()
            except ssl.SSLWantReadError:
                continue
    client_side.do_handshake()


@pytest.fixture
def authority(tmp_path: Path) -> CertificateFiles:
    return create_authority(tmp_path / "tls")


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "centre.example"])
def test_a_client_of_the_authority_accepts_its_server(authority: CertificateFiles, tmp_path: Path, host: str) -> None:
    server = issue_server_certificate(authority, tmp_path, "edge", ["127.0.0.1", "localhost", "centre.example"])
    handshake(authority.certificate, server, host)


def test_a_client_refuses_another_host_and_another_authority(authority: CertificateFiles, tmp_path: Path) -> None:
    server = issue_server_certificate(authority, tmp_path, "edge", ["127.0.0.1"])
    with pytest.raises(ssl.SSLCertVerificationError, match="IP address mismatch"):
        handshake(authority.certificate, server, "127.0.0.2")
    with pytest.raises(ssl.SSLCertVerificationError, match=r"unable to get local issuer|self-signed|signature"):
        handshake(create_authority(tmp_path / "other").certificate, server, "127.0.0.1")


def test_keys_are_readable_by_their_owner_only(authority: CertificateFiles, tmp_path: Path) -> None:
    server = issue_server_certificate(authority, tmp_path, "edge", ["127.0.0.1"])
    for key in (authority.key, server.key):
        assert stat.S_IMODE(key.stat().st_mode) == 0o600


def test_a_server_certificate_signs_no_others_and_ends_within_398_days(
    authority: CertificateFiles, tmp_path: Path
) -> None:
    server = issue_server_certificate(authority, tmp_path, "edge", ["127.0.0.1"])
    certificate = x509.load_pem_x509_certificate(server.certificate.read_bytes())
    assert not certificate.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    life = certificate.not_valid_after_utc - certificate.not_valid_before_utc
    assert life < datetime.timedelta(days=398)


def test_nothing_that_is_there_is_replaced(authority: CertificateFiles) -> None:
    before = authority.key.read_bytes()
    with pytest.raises(ConfigurationError, match=r"ca\.crt and ca\.key were to be made and are there already"):
        create_authority(authority.key.parent)
    assert authority.key.read_bytes() == before


def test_a_certificate_for_no_host_is_refused(authority: CertificateFiles, tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="needs at least one host name or address; found none"):
        issue_server_certificate(authority, tmp_path, "edge", [])


def test_an_authority_with_another_kind_of_key_is_refused(authority: CertificateFiles, tmp_path: Path) -> None:
    authority.key.write_bytes(
        ed25519.Ed25519PrivateKey.generate().private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
    )
    with pytest.raises(ConfigurationError, match="must be an elliptic curve key; found another"):
        issue_server_certificate(authority, tmp_path, "edge", ["127.0.0.1"])
