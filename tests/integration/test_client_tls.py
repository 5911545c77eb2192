"""TLS: the pinned authority is trusted, and nobody else."""

import asyncio
import datetime
import ipaddress
import ssl

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from fsm_miner.coordinator import port
from fsm_miner.coordinator.http import HttpCoordinator
from tests.support.scripted_coordinator import ScriptedCoordinator, answer

DAY = datetime.timedelta(days=1)


def _builder(name, issuer, key, issuer_key):
    now = datetime.datetime.now(datetime.UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)]))
        .issuer_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, issuer)]))
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - DAY)
        .not_valid_after(now + DAY)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer_key.public_key()), critical=False
        )
    )


class Authority:
    """An authority of the test's own, and servers' certificates signed by it."""

    def __init__(self, folder, name):
        self._folder, self._name = folder, name
        self._key = ec.generate_private_key(ec.SECP256R1())
        usage = x509.KeyUsage(
            digital_signature=True, key_cert_sign=True, crl_sign=True, content_commitment=False,
            key_encipherment=False, data_encipherment=False, key_agreement=False, encipher_only=False,
            decipher_only=False,
        )  # fmt: skip
        certificate = (
            _builder(name, name, self._key, self._key)
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .add_extension(usage, critical=True)
            .sign(self._key, hashes.SHA256())
        )
        self.file = folder / f"{name}.pem"
        self.file.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))

    def server(self, *addresses):
        key = ec.generate_private_key(ec.SECP256R1())
        names = [x509.IPAddress(ipaddress.ip_address(address)) for address in addresses]
        certificate = (
            _builder("server", self._name, key, self._key)
            .add_extension(x509.SubjectAlternativeName(names), critical=False)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
            .sign(self._key, hashes.SHA256())
        )
        path = self._folder / f"{self._name}-{addresses[0]}.pem"
        path.write_bytes(
            certificate.public_bytes(serialization.Encoding.PEM)
            + key.private_bytes(
                serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
            )
        )
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.load_cert_chain(path)
        return context


async def _register(server_tls, **options):
    async with asyncio.timeout(30), ScriptedCoordinator(tls=server_tls) as server:
        server.on("/nodes/register", answer({"node_token": "node-token"}))
        client = HttpCoordinator(server.base_url, "node-1", lambda: "boot-token", timeout_s=10.0, **options)
        try:
            return await client.register({}), server.requests
        finally:
            await client.close()


@pytest.fixture
def authority(tmp_path):
    return Authority(tmp_path, "lab")


def test_the_pinned_authority_is_trusted(authority):
    got, requests = asyncio.run(_register(authority.server("127.0.0.1"), ca_file=authority.file))

    assert isinstance(got, port.Registered)
    assert requests[0].headers["authorization"] == "Bearer boot-token"


def test_another_authority_is_refused_before_the_token_is_sent(authority, tmp_path):
    other = Authority(tmp_path, "other")

    got, requests = asyncio.run(_register(authority.server("127.0.0.1"), ca_file=other.file))

    assert isinstance(got, port.Unknown)
    assert "certificate is not trusted" in got.reason
    assert "ca_file" in got.reason
    assert requests == []


def test_the_systems_authorities_do_not_know_the_labs(authority):
    got, requests = asyncio.run(_register(authority.server("127.0.0.1")))

    assert isinstance(got, port.Unknown)
    assert requests == []


def test_a_certificate_for_another_host_is_refused(authority):
    got, requests = asyncio.run(_register(authority.server("127.0.0.2"), ca_file=authority.file))

    assert isinstance(got, port.Unknown)
    assert "certificate is not trusted" in got.reason
    assert requests == []


def test_verification_can_be_switched_off(authority):
    got, _ = asyncio.run(_register(authority.server("127.0.0.2"), tls_verify=False))

    assert isinstance(got, port.Registered)


def test_a_file_that_holds_no_certificate_is_said_at_once(tmp_path):
    (tmp_path / "empty.pem").write_text("no certificate")

    with pytest.raises(OSError, match=r"(?i)certificate|PEM|x509"):
        HttpCoordinator("https://127.0.0.1", "node-1", lambda: "boot", ca_file=tmp_path / "empty.pem")
