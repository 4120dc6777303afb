"""Verifies Helm provenance files, which contain a signed package name and digest (Helm, "Helm Provenance and Integrity").

pysequoia, from the extra `prov`, verifies the OpenPGP signature. marfetch trusts only the bytes that pysequoia returns.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from ..document import Json, parse_yaml
from ..errors import Error, InputError, SignatureError
from ..oci import Digest
from .verdict import Provenance

MAX_SIZE: Final = 1 << 20
"""Maximum bytes of a provenance file."""
MAX_KEYRING: Final = 64 << 20
"""Maximum bytes of a keyring."""

_LINES: Final = [b"-----BEGIN PGP SIGNED MESSAGE-----", b"-----BEGIN PGP SIGNATURE-----", b"-----END PGP SIGNATURE-----"]
_HASH: Final = re.compile(rb"Hash: [A-Za-z0-9, -]+")


def check(data: bytes, keyring: Path, *, name: str, digest: Digest, now: datetime) -> Provenance:
    """Verify a provenance file with a keyring, and compare it with a package.

    The file may list the package under its expected name, or under the name that `helm package` gave it. The names can differ, because
    publishers push charts to repositories and tags with other names (helm 32546).

    Args:
        data: the provenance file.
        keyring: the file of trusted OpenPGP keys.
        name: the expected file name of the package, from its repository and tag.
        digest: the digest of the package.
        now: the time at which the key must be valid.

    Returns:
        The signing key, and the name under which the file lists the package.

    Raises:
        SignatureError: `PROV_MALFORMED`, `PROV_SIGNATURE_INVALID`, `PROV_FILE_NOT_LISTED`, `PROV_DIGEST_MISMATCH`.
        InputError: `KEYRING_INVALID`; `usage`: pysequoia is not installed.
    """
    sequoia = _sequoia()
    _check_form(data)
    text, certificate = _verified(sequoia, data, _keys(sequoia, keyring), keyring)
    expires = certificate.expiration
    users = tuple(str(user) for user in certificate.user_ids)
    shown = f"`{', '.join(users)}` ({certificate.fingerprint})"
    if certificate.is_revoked or (expires is not None and _aware(expires) <= now):
        why = "is revoked" if certificate.is_revoked else f"expired at {_aware(expires):%Y-%m-%d %H:%M:%SZ}"
        raise SignatureError(f"the provenance is signed with a key that {why}: {shown}", code="PROV_SIGNATURE_INVALID")
    own, listed = _content(text)
    file = next((one for one in (name, own) if one is not None and listed.get(one) == str(digest)), None)
    if file is not None:
        return Provenance(str(certificate.fingerprint), users, file, digest)
    wrong = next((one for one in (name, own) if one in listed), None)
    if wrong is not None:
        raise SignatureError(
            f"the provenance lists `{wrong}` with the digest `{str(listed[wrong])[:100]}`, but the package has the digest `{digest}`",
            code="PROV_DIGEST_MISMATCH",
            file=wrong,
        )
    missing = " or ".join(f"`{one[:200]}`" for one in dict.fromkeys((name, own)) if one is not None)
    raise SignatureError(
        f"the provenance does not list {missing}; it lists {', '.join(f'`{one[:80]}`' for one in listed) or 'nothing'}",
        code="PROV_FILE_NOT_LISTED",
        file=name,
    )


def _sequoia() -> Any:
    try:
        import pysequoia  # late: an optional dependency, only needed to check provenance
    except ImportError as error:
        raise InputError(
            "checking provenance needs pysequoia, which is not installed",
            code="usage",
            hint="install it with `pip install 'marfetch[prov]'`",
        ) from error
    return pysequoia


def _check_form(data: bytes) -> None:
    """Require exactly one block and nothing around it. Text outside the block is unsigned, but a reader may take it for signed."""
    lines = [line.rstrip(b"\r") for line in data.split(b"\n")]
    while lines and not lines[-1].strip():
        lines.pop()
    marks = [line.rstrip() for line in lines if line.startswith(b"-----")]
    if len(data) > MAX_SIZE or marks != _LINES or lines[0].rstrip() != _LINES[0] or lines[-1].rstrip() != _LINES[2]:
        raise SignatureError("the provenance is not one OpenPGP clear-signed block with nothing around it", code="PROV_MALFORMED")
    blank = next((number for number, line in enumerate(lines) if not line.strip()), len(lines))
    if not all(_HASH.fullmatch(line.rstrip()) for line in lines[1:blank]):
        raise SignatureError("the provenance has a header other than `Hash`", code="PROV_MALFORMED")


def _keys(sequoia: Any, keyring: Path) -> Sequence[Any]:
    try:
        if keyring.stat().st_size > MAX_KEYRING:
            raise InputError(f"the keyring `{keyring}` has more than {MAX_KEYRING} bytes", code="KEYRING_INVALID", path=str(keyring))
        raw = keyring.read_bytes()
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise InputError(f"the keyring `{keyring}` cannot be read: {reason}", code="KEYRING_INVALID", path=str(keyring)) from error
    try:
        keys: Sequence[Any] = sequoia.Cert.split_bytes(raw)
    except Exception as error:
        raise InputError(f"the keyring `{keyring}` has no keys: {_first_line(error)}", code="KEYRING_INVALID", path=str(keyring)) from error
    if not keys:
        raise InputError(f"the keyring `{keyring}` has no keys", code="KEYRING_INVALID", path=str(keyring))
    return keys


def _verified(sequoia: Any, data: bytes, keys: Sequence[Any], keyring: Path) -> tuple[bytes, Any]:
    try:
        result = sequoia.verify(data, lambda _: list(keys))
        signers = {str(one.certificate).lower() for one in result.valid_sigs}
    except Exception as error:
        raise SignatureError(
            f"the provenance is not signed by a key of `{keyring}`: {_first_line(error)}",
            code="PROV_SIGNATURE_INVALID",
            path=str(keyring),
        ) from error
    for key in keys:
        if str(key.fingerprint).lower() in signers:
            return bytes(result.bytes).replace(b"\r\n", b"\n"), key
    raise SignatureError(f"the provenance is not signed by a key of `{keyring}`", code="PROV_SIGNATURE_INVALID", path=str(keyring))


def _content(text: bytes) -> tuple[str | None, dict[str, Json]]:
    """Parse the signed text. Its first part is the metadata of the chart, and its second part lists files.

    Returns:
        The file name that `helm package` gives a chart with this metadata, and file name → digest. The file name is None if the metadata
        has no name or version.
    """
    parts = text.split(b"\n...\n")
    try:
        metadata, document = (parse_yaml(part, "the provenance") for part in parts) if len(parts) == 2 else (None, None)
    except Error as error:
        raise SignatureError(error.message, code="PROV_MALFORMED") from error
    files = document.get("files") if isinstance(document, dict) else None
    if not isinstance(files, dict):
        raise SignatureError("the provenance lists no files", code="PROV_MALFORMED")
    chart, version = (metadata.get(key) if isinstance(metadata, dict) else None for key in ("name", "version"))
    return (f"{chart}-{version}.tgz" if isinstance(chart, str) and isinstance(version, str) else None), files


def _aware(moment: datetime) -> datetime:
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def _first_line(error: Exception) -> str:
    """Return the first line of an error, without a Rust backtrace."""
    return (str(error).splitlines() or [type(error).__name__])[0][:200]
