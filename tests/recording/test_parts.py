"""The parts of a recording: the authority, the document, the environment."""

from __future__ import annotations

import ssl
from contextlib import suppress
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.x509.verification import PolicyBuilder, Store

from marfetch.bundle.recorded import RecordedRepository, Recording, parse_recording, recording_bytes
from marfetch.endpoint import GLOBAL, Endpoint
from marfetch.errors import IntegrityError
from marfetch.oci import OCI_MANIFEST, Descriptor, Digest
from marfetch.recording.authority import ThrowAwayAuthority
from marfetch.recording.seen import names_endpoint
from marfetch.reference import Host
from marfetch.remote.certificates import trusted_pem


def shaken(authority: ThrowAwayAuthority, name: str) -> bytes:
    """Return the certificate that a client gets for a name, if it trusts only this authority."""
    client_context = ssl.create_default_context(cadata=authority.pem.decode())
    client_context.verify_flags |= ssl.VERIFY_X509_STRICT
    ends = [ssl.MemoryBIO() for _ in range(4)]
    client = client_context.wrap_bio(ends[0], ends[1], server_hostname=name)
    server = authority.context(Host.parse(f"[{name}]" if ":" in name else name)).wrap_bio(ends[2], ends[3], server_side=True)
    for _ in range(4):
        for one in (client, server):
            with suppress(ssl.SSLWantReadError):
                one.do_handshake()
            ends[2].write(ends[1].read())
            ends[0].write(ends[3].read())
    found = client.getpeercert(binary_form=True)
    assert found is not None
    return found


def test_the_authority_is_good_for_the_endpoint_only() -> None:
    authority = ThrowAwayAuthority(GLOBAL)
    for name in ("mcr.microsoft.com", "eastus.data.mcr.microsoft.com"):
        assert shaken(authority, name)
    with pytest.raises(ssl.SSLCertVerificationError, match="permitted subtree"):
        shaken(authority, "github.com")
    leaf = x509.load_der_x509_certificate(shaken(authority, "mcr.microsoft.com"))
    verifier = (
        PolicyBuilder()
        .store(Store([x509.load_pem_x509_certificate(authority.pem)]))
        .build_server_verifier(x509.DNSName("mcr.microsoft.com"))
    )
    assert len(verifier.verify(leaf, [])) == 2


def test_an_endpoint_with_an_ip_address_has_its_certificate() -> None:
    assert shaken(ThrowAwayAuthority(Endpoint.parse("https://10.1.2.3:5000")), "10.1.2.3")


def example() -> Recording:
    one, other = Digest.of(b"one"), Digest.of(b"other")
    manifest = Descriptor(OCI_MANIFEST, one, 3)
    repository = RecordedRepository(
        ("1.0.0", "2.0.0"),
        {"1.0.0": one},
        {one: manifest},
        {other: 5},
        {Digest.of(b"third"): 7},
        {one: (manifest,)},
        {"tags/list": "NAME_UNKNOWN"},
    )
    return Recording(GLOBAL, ("aks/foo",), {"aks/foo": repository, "aks/bar": RecordedRepository()})


def test_a_document_is_read_as_it_was_written() -> None:
    data = recording_bytes(example())
    found = parse_recording(data, "x.tar")
    assert recording_bytes(found) == data
    assert found.endpoint == GLOBAL
    assert [name for name, _ in found.entries()] == ["mcr.microsoft.com/aks/foo:1.0.0"]
    own = Recording(Endpoint.parse("https://own.test:8443", ["*.data.own.test"]))
    assert parse_recording(recording_bytes(own), "x.tar").endpoint == own.endpoint


def test_the_order_of_requests_does_not_matter() -> None:
    first, second = example(), example()
    second.repositories = dict(reversed(second.repositories.items()))
    assert recording_bytes(first) == recording_bytes(second)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b'"1.0.0": "sha256', b'"1.0.1": "sha256'),
        (b'"schema": 1', b'"schema": 2'),
        (b"NAME_UNKNOWN", b"TEAPOT"),
        (b": 5", b": -5"),
        (b'"aks/foo": {', b'"AKS": {'),
        (b"https://mcr.microsoft.com", b"http://127.0.0.1:5000"),
        (b'"catalog": [', b'"catalog": {"x": ['),
    ],
)
def test_a_changed_document_is_refused(old: bytes, new: bytes) -> None:
    data = recording_bytes(example())
    assert old in data
    with pytest.raises(IntegrityError):
        parse_recording(data.replace(old, new, 1), "x.tar")


def test_the_hosts_of_an_endpoint() -> None:
    own = Endpoint.parse("https://own.test:8443")
    assert names_endpoint(GLOBAL, Host("mcr.microsoft.com", 80))
    assert names_endpoint(GLOBAL, Host("x.data.mcr.microsoft.com"))
    assert not names_endpoint(GLOBAL, Host("microsoft.com"))
    assert names_endpoint(own, Host("own.test", 8443))
    assert names_endpoint(own, Host("own.test"))
    assert not names_endpoint(own, Host("own.test", 443))
    assert not names_endpoint(replace_registry(own), Host("own.test"))


def replace_registry(endpoint: Endpoint) -> Endpoint:
    return endpoint._replace(registry=endpoint.registry._replace(host=Host("other.test", 443)))


def test_the_certificates_of_the_caller(tmp_path: Path) -> None:
    pem = ThrowAwayAuthority(GLOBAL).pem.decode()
    (tmp_path / "a.pem").write_text(f"# a comment\n{pem}-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n")
    (tmp_path / "b.pem").write_text(ThrowAwayAuthority(GLOBAL).pem.decode())
    found = trusted_pem(None, {"SSL_CERT_FILE": str(tmp_path / "a.pem"), "REQUESTS_CA_BUNDLE": str(tmp_path / "b.pem")})
    assert found.count(b"BEGIN CERTIFICATE") == 2
    assert b"PRIVATE" not in found
    directory = trusted_pem(str(tmp_path / "a.pem"), {"SSL_CERT_DIR": str(tmp_path)})
    assert directory.count(b"BEGIN CERTIFICATE") == 2
    assert trusted_pem(None, {}).count(b"BEGIN CERTIFICATE") > 2
