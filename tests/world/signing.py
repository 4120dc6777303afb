"""Create certificates, envelopes, timestamps and revocation lists for tests, either valid or with a single error.

They are made with cbor2 and asn1crypto, not with marfetch's own parsers, which they test.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path
from typing import Any

import cbor2
from asn1crypto import algos, cms, core, tsp
from asn1crypto import x509 as asn1_x509
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa, utils
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import AuthorityInformationAccessOID, ExtendedKeyUsageOID, NameOID

from marfetch.oci import Descriptor, Digest

NOW = datetime(2026, 11, 23, 20, tzinfo=UTC)
N = "io.cncf.notary."
PAYLOAD_TYPE = "application/vnd.cncf.notary.payload.v1+json"
SUBJECT = {"C": "US", "ST": "Washington", "O": "Example Test Corporation"}
_OIDS = {
    "CN": NameOID.COMMON_NAME,
    "C": NameOID.COUNTRY_NAME,
    "ST": NameOID.STATE_OR_PROVINCE_NAME,
    "L": NameOID.LOCALITY_NAME,
    "O": NameOID.ORGANIZATION_NAME,
    "OU": NameOID.ORGANIZATIONAL_UNIT_NAME,
    "DC": NameOID.DOMAIN_COMPONENT,
}
_USAGES = ("digital_signature", "content_commitment", "key_encipherment", "data_encipherment", "key_agreement", "key_cert_sign", "crl_sign", "encipher_only", "decipher_only")  # fmt: skip
ALGORITHMS = {2048: ("PS256", -37), 3072: ("PS384", -38), 4096: ("PS512", -39), "secp256r1": ("ES256", -7), "secp384r1": ("ES384", -35), "secp521r1": ("ES512", -36)}  # fmt: skip
_HASHES = {"256": hashes.SHA256(), "384": hashes.SHA384(), "512": hashes.SHA512()}
CURVES = {"secp256r1": ec.SECP256R1(), "secp384r1": ec.SECP384R1(), "secp521r1": ec.SECP521R1(), "secp256k1": ec.SECP256K1()}


@cache
def new_key(kind: int | str = "secp256r1", number: int = 0) -> Any:
    """Return a key of this size or curve. Creating a key is slow, so equal arguments return the same key."""
    del number
    return rsa.generate_private_key(65537, kind) if isinstance(kind, int) else ec.generate_private_key(CURVES[kind])


def name(attributes: Mapping[str, str] | Sequence[tuple[str, str]]) -> x509.Name:
    pairs = attributes.items() if isinstance(attributes, Mapping) else attributes
    return x509.Name([x509.NameAttribute(_OIDS[key], value) for key, value in pairs])


@dataclass
class Identity:
    """A certificate with its key, and the certificates above it."""

    key: Any
    certificate: x509.Certificate
    above: tuple[Identity, ...] = ()

    @property
    def der(self) -> bytes:
        return self.certificate.public_bytes(Encoding.DER)

    @property
    def chain(self) -> list[bytes]:
        return [self.der, *(one.der for one in self.above)]

    @property
    def kind(self) -> int | str:
        return self.key.key_size if isinstance(self.key, rsa.RSAPrivateKey) else self.key.curve.name


def issue(
    subject: Mapping[str, str] | Sequence[tuple[str, str]] | str,
    issuer: Identity | None = None,
    *,
    key: Any = None,
    ca: bool = False,
    path_length: int | None = None,
    usage: Iterable[str] | None = None,
    usage_critical: bool = True,
    basic_critical: bool = True,
    basic: bool = True,
    purposes: Sequence[x509.ObjectIdentifier] | None = None,
    purposes_critical: bool = False,
    begin: datetime = NOW - timedelta(days=400),
    end: datetime = NOW + timedelta(days=36_500),
    crl: Sequence[str] = (),
    ocsp: str | None = None,
    more: Sequence[tuple[x509.ExtensionType, bool]] = (),
) -> Identity:
    """Issue a certificate. Without an issuer, it is self-signed."""
    key = key or new_key("secp256r1", 0 if ca else 1)
    subject_name = name({"CN": subject, **SUBJECT} if isinstance(subject, str) else subject)
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject_name)
        .issuer_name(issuer.certificate.subject if issuer else subject_name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(begin)
        .not_valid_after(end)
    )
    if basic:
        builder = builder.add_extension(x509.BasicConstraints(ca, path_length), basic_critical)
    usages = set(usage if usage is not None else (("key_cert_sign", "crl_sign") if ca else ("digital_signature",)))
    if usages:
        builder = builder.add_extension(x509.KeyUsage(**{one: one in usages for one in _USAGES}), usage_critical)
    if purposes is not None:
        builder = builder.add_extension(x509.ExtendedKeyUsage(purposes), purposes_critical)
    if crl:
        points = [x509.DistributionPoint([x509.UniformResourceIdentifier(url)], None, None, None) for url in crl]
        builder = builder.add_extension(x509.CRLDistributionPoints(points), False)
    if ocsp:
        access = x509.AccessDescription(AuthorityInformationAccessOID.OCSP, x509.UniformResourceIdentifier(ocsp))
        builder = builder.add_extension(x509.AuthorityInformationAccess([access]), False)
    for extension, critical in more:
        builder = builder.add_extension(extension, critical)
    signer = issuer.key if issuer else key
    certificate = builder.sign(signer, hashes.SHA256())
    return Identity(key, certificate, (issuer, *issuer.above) if issuer else ())


@dataclass
class Authority:
    """A root certificate for signing with an intermediate certificate, and a root certificate for timestamps."""

    root: Identity = field(default_factory=lambda: issue("Test Root", ca=True))
    middle: Identity = field(init=False)
    tsa_root: Identity = field(default_factory=lambda: issue("Test TSA Root", ca=True, key=new_key("secp256r1", 2)))
    tsa: Identity = field(init=False)

    def __post_init__(self) -> None:
        self.middle = issue("Test Intermediate", self.root, ca=True, path_length=0, key=new_key("secp256r1", 3))
        self.tsa = issue(
            "Test TSA", self.tsa_root, key=new_key("secp256r1", 4), purposes=[ExtendedKeyUsageOID.TIME_STAMPING], purposes_critical=True
        )

    def signer(self, subject: Any = "Test Signer", kind: int | str = "secp256r1", **options: Any) -> Identity:
        return issue(
            subject, self.middle, key=new_key(kind, 5), purposes=options.pop("purposes", [ExtendedKeyUsageOID.CODE_SIGNING]), **options
        )

    def write(self, directory: Path) -> Path:
        """Write the trust stores `ca:test`, `signingAuthority:test` and `tsa:test` below the directory."""
        for kind, root in (("ca", self.root), ("signingAuthority", self.root), ("tsa", self.tsa_root)):
            store = directory / "x509" / kind / "test"
            store.mkdir(parents=True)
            (store / "root.crt").write_bytes(root.der)
        return directory


def policy(**changes: Any) -> dict[str, Any]:
    """Return a trust policy with one statement. `changes` are fields of the statement."""
    statement: dict[str, Any] = {
        "name": "test",
        "registryScopes": ["*"],
        "signatureVerification": {"level": "strict"},
        "trustStores": ["ca:test", "signingAuthority:test"],
        "trustedIdentities": ["x509.subject: C=US, ST=Washington, O=Example Test Corporation"],
        **changes,
    }
    return {"version": "1.0", "trustPolicies": [{key: value for key, value in statement.items() if value is not None}]}


# -- envelopes


def payload(artifact: Descriptor, **more: Any) -> bytes:
    target = {"mediaType": artifact.media_type, "digest": str(artifact.digest), "size": artifact.size, **more}
    return json.dumps({"targetArtifact": target}).encode()


def raw_signature(signer: Identity, data: bytes, *, salt: int | None = None) -> bytes:
    algorithm = _HASHES[ALGORITHMS.get(signer.kind, ("ES256", 0))[0][2:]]
    if isinstance(signer.key, rsa.RSAPrivateKey):
        return bytes(signer.key.sign(data, padding.PSS(padding.MGF1(algorithm), salt or algorithm.digest_size), algorithm))
    r, s = utils.decode_dss_signature(signer.key.sign(data, ec.ECDSA(algorithm)))
    size = (signer.key.curve.key_size + 7) // 8
    return bytes(r.to_bytes(size, "big") + s.to_bytes(size, "big"))


def cose(
    signer: Identity,
    content: bytes,
    *,
    protected: Mapping[Any, Any] | None = None,
    drop: Sequence[Any] = (),
    unprotected: Mapping[Any, Any] | None = None,
    chain: Sequence[bytes] | None = None,
    encoded: bytes | None = None,
    stamp: Stamp | None = None,
) -> bytes:
    """Return a COSE envelope.

    Args:
        protected: protected headers to add or change; `drop` removes headers.
        encoded: the whole protected header as bytes, instead of `protected` and `drop`.
    """
    header = {1: ALGORITHMS.get(signer.kind, ("", -7))[1], 2: [f"{N}signingScheme"], 3: PAYLOAD_TYPE, f"{N}signingScheme": "notary.x509", f"{N}signingTime": cbor2.CBORTag(1, int(NOW.timestamp()) - 3600)}  # fmt: skip
    header = {key: value for key, value in {**header, **(protected or {})}.items() if key not in drop}
    head = cbor2.dumps(header) if encoded is None else encoded
    signature = raw_signature(signer, cbor2.dumps(["Signature1", head, b"", content]))
    rest: dict[Any, Any] = {33: list(chain if chain is not None else signer.chain), **(unprotected or {})}
    if stamp is not None:
        rest[f"{N}timestampSignature"] = stamp.token(signature)
    return bytes(
        cbor2.dumps(cbor2.CBORTag(18, [head, {key: value for key, value in rest.items() if value is not None}, content, signature]))
    )


def url64(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def jws(
    signer: Identity,
    content: bytes,
    *,
    protected: Mapping[str, Any] | None = None,
    drop: Sequence[str] = (),
    header: Mapping[str, Any] | None = None,
    encoded: bytes | None = None,
    stamp: Stamp | None = None,
    members: Mapping[str, Any] | None = None,
) -> bytes:
    """Return a JWS envelope."""
    head = {"alg": ALGORITHMS.get(signer.kind, ("ES256", 0))[0], "crit": [f"{N}signingScheme"], "cty": PAYLOAD_TYPE, f"{N}signingScheme": "notary.x509", f"{N}signingTime": "2026-11-23T19:00:00Z"}  # fmt: skip
    head = {key: value for key, value in {**head, **(protected or {})}.items() if key not in drop}
    first, second = url64(encoded if encoded is not None else json.dumps(head).encode()), url64(content)
    signature = raw_signature(signer, f"{first}.{second}".encode())
    rest: dict[str, Any] = {"x5c": [base64.b64encode(one).decode() for one in signer.chain], **(header or {})}
    if stamp is not None:
        rest[f"{N}timestampSignature"] = base64.b64encode(stamp.token(signature)).decode()
    return json.dumps({"payload": second, "protected": first, "header": rest, "signature": url64(signature), **(members or {})}).encode()


# -- timestamps


@dataclass
class Stamp:
    """Options for creating a timestamp. The defaults give a valid timestamp."""

    tsa: Identity
    time: datetime = NOW - timedelta(hours=1)
    accuracy: int | None = 1
    policy: str = "1.3.6.1.4.1.99999.1"
    digest: str = "sha256"
    chain: Sequence[bytes] | None = None
    ess: bool = True
    ess_of: bytes | None = None
    imprint_of: bytes | None = None
    break_signature: bool = False
    version: str = "v3"

    def answer(self, asked: Any) -> bytes:
        """Return an authority's response to a request (RFC 3161), with the current time."""
        self.digest = asked["message_imprint"]["hash_algorithm"]["algorithm"].native
        token = self.token(b"", imprint=asked["message_imprint"]["hashed_message"].native, nonce=asked["nonce"].native)
        status = tsp.PKIStatusInfo({"status": "granted"})
        return bytes(tsp.TimeStampResp({"status": status, "time_stamp_token": cms.ContentInfo.load(token)}).dump())

    def token(self, signature: bytes, *, imprint: bytes | None = None, nonce: int | None = None) -> bytes:
        message = self.imprint_of if self.imprint_of is not None else signature
        algorithm = hashes.SHA1() if self.digest == "sha1" else _HASHES[self.digest[3:]]
        info = tsp.TSTInfo(
            {
                "version": "v1",
                "policy": self.policy,
                "message_imprint": {"hash_algorithm": {"algorithm": self.digest}, "hashed_message": imprint or _digest(algorithm, message)},
                "serial_number": 7,
                "gen_time": self.time,
                **({"accuracy": {"seconds": self.accuracy}} if self.accuracy is not None else {}),
                **({"nonce": nonce} if nonce is not None else {}),
            }
        )
        content = info.dump()
        certificate = asn1_x509.Certificate.load(self.tsa.der)
        attributes = [
            {"type": "content_type", "values": ["tst_info"]},
            {"type": "message_digest", "values": [_digest(algorithm, content)]},
        ]
        if self.ess:
            ess = tsp.ESSCertIDv2(
                {"hash_algorithm": {"algorithm": "sha256"}, "cert_hash": _digest(hashes.SHA256(), self.ess_of or self.tsa.der)}
            )
            attributes.append({"type": "signing_certificate_v2", "values": [tsp.SigningCertificateV2({"certs": [ess]})]})
        signed = cms.CMSAttributes(attributes)
        value = self.tsa.key.sign(signed.dump(), ec.ECDSA(algorithm))
        if self.break_signature:
            value = self.tsa.key.sign(b"something else", ec.ECDSA(algorithm))
        info_of_signer = cms.SignerInfo(
            {
                "version": "v1",
                "sid": cms.SignerIdentifier(
                    {
                        "issuer_and_serial_number": cms.IssuerAndSerialNumber(
                            {"issuer": certificate.issuer, "serial_number": certificate.serial_number}
                        )
                    }
                ),
                "digest_algorithm": algos.DigestAlgorithm({"algorithm": self.digest}),
                "signed_attrs": signed,
                "signature_algorithm": {"algorithm": f"{self.digest}_ecdsa"},
                "signature": value,
            }
        )
        data = cms.SignedData(
            {
                "version": self.version,
                "digest_algorithms": [{"algorithm": self.digest}],
                "encap_content_info": {"content_type": "tst_info", "content": core.ParsableOctetString(content)},
                "certificates": [
                    asn1_x509.Certificate.load(one) for one in (self.chain if self.chain is not None else self.tsa.chain[:-1])
                ],
                "signer_infos": [info_of_signer],
            }
        )
        return bytes(cms.ContentInfo({"content_type": "signed_data", "content": data}).dump())


def _digest(algorithm: Any, data: bytes) -> bytes:
    hasher = hashes.Hash(algorithm)
    hasher.update(data)
    return hasher.finalize()


# -- revocation lists


def revocation_list(
    issuer: Identity,
    revoked: Sequence[Identity] = (),
    *,
    key: Any = None,
    next_update: datetime = NOW + timedelta(days=7),
    reason: x509.ReasonFlags | None = None,
    invalid_since: datetime | None = None,
    more: Sequence[tuple[x509.ExtensionType, bool]] = (),
) -> bytes:
    builder = x509.CertificateRevocationListBuilder().issuer_name(issuer.certificate.subject).last_update(NOW - timedelta(days=30)).next_update(next_update)  # fmt: skip
    for one in revoked:
        entry = x509.RevokedCertificateBuilder().serial_number(one.certificate.serial_number).revocation_date(NOW - timedelta(days=2))
        if reason is not None:
            entry = entry.add_extension(x509.CRLReason(reason), False)
        if invalid_since is not None:
            entry = entry.add_extension(x509.InvalidityDate(invalid_since.replace(tzinfo=None)), False)
        builder = builder.add_revoked_certificate(entry.build())
    for extension, critical in more:
        builder = builder.add_extension(extension, critical)
    return builder.sign(key or issuer.key, hashes.SHA256()).public_bytes(Encoding.DER)


ARTIFACT = Descriptor("application/vnd.oci.image.manifest.v1+json", Digest.of(b"an artifact"), 11)
