"""The centre's own certificate authority, which its sites' SuperNodes trust, and certificates for its two servers."""

from __future__ import annotations

import datetime
import ipaddress
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from ldp_client.errors import ConfigurationError

AUTHORITY_DAYS = 3650
SERVER_DAYS = 397
TLS_FOLDER = "tls"
# A site's clock may be a little behind the centre's.
_BACKDATE = datetime.timedelta(hours=1)


@dataclass(frozen=True)
class CertificateFiles:
    """A certificate (PEM) and its private key (PEM, readable by its owner only)."""

    certificate: Path
    key: Path


def create_authority(folder: Path, name: str = "ldp-glow centre") -> CertificateFiles:
    """Make a certificate authority: `ca.crt`, which every site gets, and `ca.key`, which stays here.

    Raises:
        ConfigurationError: one is there already; replacing it would cut off every site.
    """
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    certificate = (
        _builder(subject, subject, key.public_key(), AUTHORITY_DAYS)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_usage(signs_certificates=True), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .sign(key, hashes.SHA256())
    )
    return _save(folder, "ca", certificate, key)


def issue_server_certificate(
    authority: CertificateFiles, folder: Path, name: str, hosts: Sequence[str]
) -> CertificateFiles:
    """Make `<name>.crt` and `<name>.key` for a TLS server that is reached under these host names or addresses.

    Raises:
        ConfigurationError: no host was given, or the files are there already.
    """
    if not hosts:
        raise ConfigurationError("a server certificate needs at least one host name or address; found none")
    issuer_key = serialization.load_pem_private_key(authority.key.read_bytes(), None)
    if not isinstance(issuer_key, ec.EllipticCurvePrivateKey):
        raise ConfigurationError(
            "the authority's key must be an elliptic curve key; found another; make the authority again"
        )
    issuer = x509.load_pem_x509_certificate(authority.certificate.read_bytes())
    key = ec.generate_private_key(ec.SECP256R1())
    certificate = (
        _builder(
            x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)]), issuer.subject, key.public_key(), SERVER_DAYS
        )
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_usage(signs_certificates=False), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(x509.SubjectAlternativeName([_general_name(host) for host in hosts]), critical=False)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer_key.public_key()), critical=False)
        .sign(issuer_key, hashes.SHA256())
    )
    return _save(folder, name, certificate, key)


def _builder(
    subject: x509.Name, issuer: x509.Name, public_key: ec.EllipticCurvePublicKey, days: int
) -> x509.CertificateBuilder:
    now = datetime.datetime.now(datetime.UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(public_key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _BACKDATE)
        .not_valid_after(now + datetime.timedelta(days=days))
    )


def _usage(*, signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs_certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        encipher_only=False,
        decipher_only=False,
    )


def _general_name(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        return x509.DNSName(host)


def _save(folder: Path, name: str, certificate: x509.Certificate, key: ec.EllipticCurvePrivateKey) -> CertificateFiles:
    files = CertificateFiles(folder / f"{name}.crt", folder / f"{name}.key")
    folder.mkdir(parents=True, exist_ok=True)
    if files.certificate.exists() or files.key.exists():
        raise ConfigurationError(
            f"{name}.crt and {name}.key were to be made and are there already; move them away to replace them"
        )
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    with os.fdopen(os.open(files.key, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600), "wb") as file:
        file.write(private)
    files.certificate.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    files.certificate.chmod(0o644)
    return files
