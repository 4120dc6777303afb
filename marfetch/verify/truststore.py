"""Reads and writes notation's trust policies and trust stores on disk (notation, "directory structure")."""

from __future__ import annotations

import json
import os
import re
import stat
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, TypeAlias

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from ..destination.destination import write_file
from ..errors import InputError, StorageError
from ..files import home
from .chain import Certificate, guarded
from .policy import Policy, StoreName, parse_policy
from .verdict import RefusalError

StoreContent: TypeAlias = tuple[tuple[Certificate, ...], InputError | None]
"""The certificates of a trust store, and the error if the store cannot be used."""

POLICY_FILES: Final = ("trustpolicy.oci.json", "trustpolicy.json")
"""The names of the policy file. The first file that exists is used."""
STORE_DIRECTORY: Final = "truststore"
MAX_FILE: Final = 4 << 20
"""Maximum bytes of a policy file or certificate file."""

_PEM = re.compile(rb"-----BEGIN ([A-Z0-9 ]+)-----.*?-----END \1-----", re.DOTALL)


def config_directory() -> Path:
    """Return notation's configuration directory.

    Raises:
        InputError: `usage`: `XDG_CONFIG_HOME` is relative.
    """
    return _directory("NOTATION_CONFIG", "XDG_CONFIG_HOME", ".config", "Library/Application Support", "APPDATA")


def cache_directory() -> Path:
    """Return notation's cache directory.

    Raises:
        InputError: `usage`: `XDG_CACHE_HOME` is relative.
    """
    return _directory("NOTATION_CACHE", "XDG_CACHE_HOME", ".cache", "Library/Caches", "LOCALAPPDATA")


def _directory(own: str, xdg: str, plain: str, mac: str, windows: str) -> Path:
    named = os.environ.get(own)
    if named:
        return Path(named)
    if sys.platform == "win32":
        return Path(os.environ.get(windows) or home()) / "notation"
    if sys.platform == "darwin":
        return home() / mac / "notation"
    base = os.environ.get(xdg)
    if base and not Path(base).is_absolute():
        raise InputError(
            f"`{xdg}` is `{base}`, which is not absolute", code="usage", hint="set it to an absolute path, or unset it", path=base
        )
    return (Path(base) if base else home() / plain) / "notation"


@dataclass(frozen=True, slots=True)
class Places:
    """The location of the trust policy and the trust stores.

    Attributes:
        policy: the policy file; None for the first existing file of `POLICY_FILES` in notation's configuration directory.
        stores: the directory that contains `x509`; None for the one in notation's configuration directory.
    """

    policy: Path | None = None
    stores: Path | None = None

    def load_policy(self) -> Policy:
        """Read and parse the trust policy.

        Raises:
            InputError: `POLICY_MISSING`, `POLICY_INVALID`.
        """
        candidates = [self.policy] if self.policy is not None else [config_directory() / name for name in POLICY_FILES]
        for path in candidates:
            try:
                mode = path.lstat().st_mode
            except FileNotFoundError:
                continue
            except OSError as error:
                raise InputError(
                    f"the trust policy `{path}` cannot be read: {error.strerror}", code="POLICY_INVALID", path=str(path)
                ) from error
            if not stat.S_ISREG(mode):
                kind = "a symbolic link" if stat.S_ISLNK(mode) else "not a regular file"
                raise InputError(
                    f"the trust policy `{path}` is {kind}, which notation and marfetch do not read",
                    code="POLICY_INVALID",
                    hint="use the path of the file itself",
                    path=str(path),
                )
            return parse_policy(_read(path, "POLICY_INVALID"), str(path))
        raise InputError(
            f"there is no trust policy at `{candidates[0]}`",
            code="POLICY_MISSING",
            hint="create one for Microsoft's artifacts with `marfetch trust add-microsoft`, or use `--trust-policy FILE`",
            path=str(candidates[0]),
        )

    @property
    def store_root(self) -> Path:
        """The directory of all trust stores, which contains `x509`."""
        return self.stores if self.stores is not None else config_directory() / STORE_DIRECTORY

    def store_path(self, store: StoreName) -> Path:
        """Return the directory of one trust store."""
        return self.store_root / "x509" / store.kind / store.name

    def certificates(self, stores: Sequence[StoreName]) -> tuple[Certificate, ...]:
        """Return all certificates in some trust stores.

        Raises:
            InputError: `TRUST_STORE_INVALID`: a store is missing, or contains other files than certificates.
        """
        return tuple(one for store in stores for one in self._load(store))

    def _load(self, store: StoreName) -> list[Certificate]:
        path = self.store_path(store)
        try:
            if not stat.S_ISDIR(path.lstat().st_mode):
                raise _invalid(store, path, "it is not a directory (symbolic links are not followed)")
            entries = sorted(path.iterdir())
        except FileNotFoundError as error:
            raise _invalid(store, path, "it does not exist") from error
        except OSError as error:
            raise _invalid(store, path, f"it cannot be read: {error.strerror}") from error
        found: list[Certificate] = []
        for entry in entries:
            if not stat.S_ISREG(entry.lstat().st_mode):
                raise _invalid(store, entry, "a trust store may contain only regular files")
            try:
                certificates = read_certificates(_read(entry, "TRUST_STORE_INVALID"))
            except RefusalError as error:
                raise _invalid(store, entry, error.message) from error
            for one in certificates:
                _check_anchor(store, entry, one)
            found += certificates
        return found


def _check_anchor(store: StoreName, path: Path, one: Certificate) -> None:
    if store.kind == "tsa" and not one.is_self_signed:
        raise _invalid(store, path, f"`{one.subject}` is not a self-signed root, as a `tsa` store requires")
    if not one.is_authority and not one.is_self_signed:
        raise _invalid(store, path, f"`{one.subject}` is neither a CA certificate nor self-signed")


def read_certificates(data: bytes) -> list[Certificate]:
    """Parse the certificates in a PEM or DER file.

    Raises:
        RefusalError: `TRUST_STORE_INVALID`: the file has no certificate, or a certificate cannot be parsed.
    """
    blocks = list(_PEM.finditer(data))
    if not blocks:
        return [Certificate.parse(data, "TRUST_STORE_INVALID")]
    found = []
    for block in blocks:
        if block[1] != b"CERTIFICATE":
            raise RefusalError("TRUST_STORE_INVALID", f"it contains a `{block[1].decode()[:40]}`, which is not a certificate")
        with guarded("TRUST_STORE_INVALID", "a certificate"):
            parsed = x509.load_pem_x509_certificate(block[0])
        from_pem = parsed.public_bytes(Encoding.DER)
        found.append(Certificate.parse(from_pem, "TRUST_STORE_INVALID"))
    return found


def _read(path: Path, code: str) -> bytes:
    try:
        with path.open("rb") as file:
            data = file.read(MAX_FILE + 1)
    except OSError as error:
        raise InputError(f"`{path}` cannot be read: {(error.strerror or str(error)).lower()}", code=code, path=str(path)) from error
    if len(data) > MAX_FILE:
        raise InputError(f"`{path}` has more than {MAX_FILE} bytes", code=code, path=str(path))
    return data


def _invalid(store: StoreName, path: Path, reason: str) -> InputError:
    return InputError(f"the trust store `{store}` at `{path}` cannot be used: {reason}", code="TRUST_STORE_INVALID", path=str(path))


# -- Microsoft's signing roots (by SHA-256) and identities, as in the documentation of .NET and Azure IoT Operations


STORE_NAME: Final = "microsoft"


@dataclass(frozen=True, slots=True)
class Root:
    """A root certificate of Microsoft.

    Attributes:
        store: the trust store that the certificate belongs in.
        sha256: the SHA-256 of the certificate.
        url: the address at Microsoft to download the certificate from.
        file: the name of its file in the trust store.
    """

    store: StoreName
    subject: str
    sha256: str
    url: str
    file: str


ROOTS: Final = (
    Root(
        StoreName("ca", STORE_NAME),
        "CN=Microsoft Supply Chain RSA Root CA 2022",
        "23ffe2b8bdb9a1711515d4cffda04bc7f793d513c76c243f1020507d8669b7db",
        "https://www.microsoft.com/pkiops/certs/Microsoft%20Supply%20Chain%20RSA%20Root%20CA%202022.crt",
        "microsoft-supply-chain-rsa-root-ca-2022.crt",
    ),
    Root(
        StoreName("tsa", STORE_NAME),
        "CN=Microsoft Root Certificate Authority 2010",
        "df545bf919a2439c36983b54cdfc903dfa4f37d3996d8d84b4c31eec6f3c163e",
        "http://www.microsoft.com/pki/certs/MicRooCerAut_2010-06-23.crt",
        "microsoft-root-certificate-authority-2010.crt",
    ),
)
IDENTITIES: Final = (
    "x509.subject: CN=Microsoft SCD Products RSA Signing,O=Microsoft Corporation,L=Redmond,ST=Washington,C=US",
    "x509.subject: CN=Azure IoT Operations,O=Microsoft Corporation,L=Redmond,ST=Washington,C=US",
)


@dataclass(frozen=True, slots=True)
class Written:
    """A file that `marfetch trust add-microsoft` writes.

    Attributes:
        what: the content of the file, for messages.
        is_new: whether the file must be written; False if it already has this content.
    """

    path: Path
    data: bytes
    what: str
    is_new: bool = True


def plan(
    files: Sequence[Path], scopes: Sequence[str], places: Places, *, name: str = STORE_NAME, roots: Sequence[Root] = ROOTS
) -> tuple[Written, ...]:
    """Return the files that `marfetch trust add-microsoft` would write.

    Args:
        files: PEM or DER files with the two root certificates.
        scopes: the repositories that the statement covers, each with its registry; or `*`.
        name: the name of the trust stores and of the statement.
        roots: the expected root certificates.

    Raises:
        InputError: `root-mismatch`: a certificate is not one of the two roots; `usage`: a root is missing; `POLICY_INVALID`: the existing
            policy is invalid, or has a different statement with this name.
    """
    found: dict[str, Certificate] = {}
    for path in files:
        try:
            certificates = read_certificates(path.read_bytes())
        except OSError as error:
            raise InputError(f"`{path}` cannot be read: {(error.strerror or str(error)).lower()}", code="usage", path=str(path)) from error
        except RefusalError as error:
            raise InputError(f"`{path}` has no certificate: {error.message}", code="usage", path=str(path)) from error
        for one in certificates:
            if one.thumbprint not in {root.sha256 for root in roots}:
                raise InputError(
                    f"`{path}` contains `{one.subject}` with the SHA-256 {one.thumbprint}, which is not one of Microsoft's two roots",
                    code="root-mismatch",
                    path=str(path),
                    sha256=one.thumbprint,
                )
            found[one.thumbprint] = one
    missing = [root for root in roots if root.sha256 not in found]
    if missing:
        raise InputError(
            f"the certificate of `{missing[0].subject}` (SHA-256 {missing[0].sha256}) is missing",
            code="usage",
            hint=f"download it from {missing[0].url} and pass the file; marfetch checks its SHA-256",
        )
    planned = [
        _planned(
            places.store_path(StoreName(root.store.kind, name)) / root.file,
            found[root.sha256].raw,
            f"{root.subject}, SHA-256 {root.sha256}",
        )
        for root in roots
    ]
    return (*planned, _policy(places, scopes, name))


def _planned(path: Path, data: bytes, what: str) -> Written:
    try:
        return Written(path, data, what, is_new=path.read_bytes() != data)
    except OSError:
        return Written(path, data, what)


def _policy(places: Places, scopes: Sequence[str], name: str) -> Written:
    """Return the policy file with one more statement. The other statements do not change."""
    path = places.policy or next(
        (config_directory() / one for one in POLICY_FILES if (config_directory() / one).exists()), config_directory() / POLICY_FILES[-1]
    )
    statement = {
        "name": name,
        "registryScopes": list(scopes),
        "signatureVerification": {"level": "strict"},
        "trustStores": [f"{root.store.kind}:{name}" for root in ROOTS],
        "trustedIdentities": list(IDENTITIES),
    }
    document: dict[str, object] = {"version": "1.0", "trustPolicies": [statement]}
    what = f"a statement `{name}` for {', '.join(f'`{scope}`' for scope in scopes)}"
    if path.exists():
        before = Places(path).load_policy()
        listed = json.loads(path.read_bytes())
        known = next((one for one in before.statements if one.name == name), None)
        if known is not None:
            same = next(one for one in listed["trustPolicies"] if one["name"] == name)
            if same == statement:
                return Written(path, path.read_bytes(), what, is_new=False)
            raise InputError(
                f"the trust policy `{path}` already has a different statement `{name}`",
                code="POLICY_INVALID",
                hint="use another `--name`, or remove that statement first",
                path=str(path),
            )
        document = {**listed, "trustPolicies": [*listed["trustPolicies"], statement]}
    data = json.dumps(document, indent=4).encode() + b"\n"
    parse_policy(data, str(path))
    return Written(path, data, what)


def write(planned: Sequence[Written]) -> None:
    """Write the planned files. The policy is the last one, so that it never names a missing trust store.

    Raises:
        StorageError: a file cannot be written.
    """
    for one in planned:
        if one.is_new:
            if one.path.is_symlink():
                raise StorageError(
                    f"`{one.path}` is a symbolic link, which notation does not follow", code="file-unusable", path=str(one.path)
                )
            write_file(one.path, one.data)
