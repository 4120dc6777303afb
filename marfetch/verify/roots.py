"""What Microsoft signs with, as it says itself: two roots by their SHA-256, two identities (.NET and Azure IoT Operations documentation).

The certificates themselves are not in this package: they are public files of Microsoft's, which the user gives.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from ..errors import InputError, StorageError
from ..place.file import write_file
from .chain import Certificate
from .policy import StoreName, parse_policy
from .truststore import POLICY_FILES, Places, config_directory, read_certificates
from .verdict import RefusalError

STORE_NAME: Final = "microsoft"


@dataclass(frozen=True, slots=True)
class Root:
    """A root of Microsoft's.

    Attributes:
        store: where it belongs.
        sha256: of its bytes.
        url: where Microsoft publishes it.
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
    """A file that would be written, or that is there already.

    Attributes:
        is_new: False where the same bytes are there.
    """

    path: Path
    data: bytes
    what: str
    is_new: bool = True


def plan(
    files: Sequence[Path], scopes: Sequence[str], places: Places, *, name: str = STORE_NAME, roots: Sequence[Root] = ROOTS
) -> tuple[Written, ...]:
    """What `add-microsoft` would write.

    Args:
        files: in which the two roots are, PEM or DER.
        scopes: repositories with their registry, or `*`.
        name: of the stores and of the statement.
        roots: that are expected.

    Raises:
        InputError: `root-mismatch`: a certificate is none of the two; `usage`: one of them is missing; `POLICY_INVALID`.
    """
    found: dict[str, Certificate] = {}
    for path in files:
        try:
            certificates = read_certificates(path.read_bytes())
        except OSError as error:
            raise InputError(f"`{path}` cannot be read: {(error.strerror or str(error)).lower()}", code="usage", path=str(path)) from error
        except RefusalError as error:
            raise InputError(f"`{path}` holds no certificate: {error.message}", code="usage", path=str(path)) from error
        for one in certificates:
            if one.thumbprint not in {root.sha256 for root in roots}:
                raise InputError(
                    f"`{path}` holds `{one.subject}` with the SHA-256 {one.thumbprint}, which is none of Microsoft's two roots",
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
            hint=f"fetch it from {missing[0].url} and name its file; what counts is the SHA-256, which is compared",
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
    """The policy with one statement more; what is there stays as it is."""
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
                f"the trust policy `{path}` has another statement `{name}` already",
                code="POLICY_INVALID",
                hint="give another `--name`, or take that statement out first",
                path=str(path),
            )
        document = {**listed, "trustPolicies": [*listed["trustPolicies"], statement]}
    data = json.dumps(document, indent=4).encode() + b"\n"
    parse_policy(data, str(path))
    return Written(path, data, what)


def write(planned: Sequence[Written]) -> None:
    """Write what was planned, the policy last: it must not name stores that are not there.

    Raises:
        StorageError: something cannot be written.
    """
    for one in planned:
        if one.is_new:
            if one.path.is_symlink():
                raise StorageError(f"`{one.path}` is a link, which notation does not follow", code="file-unusable", path=str(one.path))
            write_file(one.path, one.data)
