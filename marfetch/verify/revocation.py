"""Checks certificates against revocation lists (RFC 5280, 5 and 6.3) from files, caches or the network.

If the status of a certificate cannot be determined, it is `unknown`, never `good`.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import itertools
import posixpath
import re
import urllib.parse
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.x509.oid import AuthorityInformationAccessOID, CRLEntryExtensionOID, ExtensionOID

from ..document import parse_json
from ..errors import Error, InputError
from ..records import read_file
from .chain import Certificate, guarded, is_weak
from .verdict import RefusalError

MAX_CRL_BYTES: Final = 32 << 20
"""Maximum bytes of a revocation list. A longer list is not used."""
MAX_FILES: Final = 1000
"""Maximum number of files that are read from a directory."""
MAX_DIRECTORY: Final = 256 << 20
"""Maximum bytes of all files in a directory together. A file that would exceed this limit is ignored."""
MAX_URLS: Final = 8
"""Maximum number of list addresses in a certificate. With more, its status is unknown. Real certificates have one or two."""
MAX_DOWNLOADS: Final = 32
"""Maximum number of lists that are downloaded for one artifact, for all its signatures together."""
_MAX_REMEMBERED: Final = 64 << 20
"""Maximum bytes of downloaded lists that are kept in memory, because other certificates may need the same lists."""

_BEGIN: Final = b"-----BEGIN X509 CRL-----"
_PEM: Final = re.compile(_BEGIN + rb"([A-Za-z0-9+/=\s]+)-----END X509 CRL-----")
_EVERY_REASON: Final = frozenset(x509.ReasonFlags) - {x509.ReasonFlags.unspecified, x509.ReasonFlags.remove_from_crl}
_TEMPORARY: Final = (x509.ReasonFlags.certificate_hold, x509.ReasonFlags.remove_from_crl)
_LIST_EXTENSIONS: Final = frozenset((ExtensionOID.ISSUING_DISTRIBUTION_POINT,))


class RevocationState(StrEnum):
    """The revocation state of a certificate. `NOT_REVOCABLE`: its issuer publishes no revocation information."""

    GOOD = "good"
    REVOKED = "revoked"
    UNKNOWN = "unknown"
    NOT_REVOCABLE = "not-revocable"


@dataclass(frozen=True, slots=True)
class Status:
    """The revocation status of a certificate.

    Attributes:
        subject: the subject of the certificate.
        state: the revocation state.
        note: the reason for the state, as the end of a message.
    """

    subject: str
    state: RevocationState
    note: str


@dataclass(slots=True)
class Lists:
    """The sources of revocation lists, in order of precedence.

    Attributes:
        directories: the user's directories or files. Lists are in DER or PEM, and file names do not matter.
        caches: directories in the format of notation's cache. A file is named by the SHA-256 of the list's address, and contains JSON.
        ask: downloads the list at an address; None for no downloads.
        keep: caches a list after it was downloaded and found valid; None to cache nothing.
    """

    directories: Sequence[Path] = ()
    caches: Sequence[Path] = ()
    ask: Callable[[str], bytes] | None = None
    keep: Callable[[str, bytes], None] | None = None
    _read: dict[Path, list[tuple[str, bytes]]] = field(default_factory=dict)
    _downloaded: dict[str, list[bytes] | Error] = field(default_factory=dict)
    _downloads: int = 0
    _remembered: int = 0

    def named(self, url: str) -> list[bytes]:
        """Return the lists in the user's directories whose file name matches an address."""
        names = {hashlib.sha256(url.encode()).hexdigest(), urllib.parse.unquote(posixpath.basename(urllib.parse.urlsplit(url).path))} - {""}
        return [data for name, data in self._files() if name in names or Path(name).stem in names]

    def all(self) -> list[bytes]:
        """Return all lists in the user's directories."""
        return [data for _, data in self._files()]

    def cached(self, url: str) -> list[list[bytes]]:
        """Return the cached lists for an address: per cache, the base list and, if there is one, the delta list."""
        name = hashlib.sha256(url.encode()).hexdigest()
        found = []
        for cache in self.caches:
            raw = read_file(cache / name, limit=2 * MAX_CRL_BYTES) or b""
            with suppress(Error, binascii.Error, ValueError):
                document = parse_json(raw, "a cached revocation list")
                if isinstance(document, dict):
                    texts = [document[key] for key in ("baseCRL", "deltaCRL") if document.get(key)]
                    found.append([base64.b64decode(text, validate=True) for text in texts if isinstance(text, str)])
        return [one for one in found if one]

    def download(self, url: str) -> list[bytes]:
        """Download the lists at an address. Later calls with the same address normally reuse the result.

        Raises:
            RefusalError: `REVOCATION_UNKNOWN`: too many lists were downloaded already.
            Error: the download failed.
        """
        found = self._downloaded.get(url)
        if found is None:
            if self.ask is None or self._downloads >= MAX_DOWNLOADS:
                raise RefusalError("REVOCATION_UNKNOWN", f"it was not downloaded, because {MAX_DOWNLOADS} lists were already downloaded")
            self._downloads += 1
            try:
                data = self.ask(url)
            except Error as error:
                self._downloaded[url] = error
                raise
            found = split_lists(data)
            self._remembered += len(data)
            if self._remembered <= _MAX_REMEMBERED:
                self._downloaded[url] = found
        if isinstance(found, Error):
            raise found
        return found

    def _files(self) -> Iterable[tuple[str, bytes]]:
        for directory in self.directories:
            if directory not in self._read:
                self._read[directory] = list(_files(directory))
            yield from self._read[directory]


def split_lists(data: bytes) -> list[bytes]:
    """Return the lists in a file, in DER. A PEM file may contain several. If one of them is broken, return the whole file."""
    blocks = [] if data[:1] == b"0" and data[1:2] >= b"\x80" else _PEM.findall(data)  # a file in DER begins with a long SEQUENCE
    if not blocks or len(blocks) != data.count(_BEGIN):
        return [data]
    try:
        return [base64.b64decode(b"".join(block.split()), validate=True) for block in blocks]
    except binascii.Error:
        return [data]


def cache_entry(data: bytes) -> bytes:
    """Encode a list as a file in notation's cache."""
    return b'{"baseCRL":"' + base64.b64encode(data) + b'"}'


def _files(directory: Path) -> Iterable[tuple[str, bytes]]:
    try:
        paths = [directory] if directory.is_file() else sorted(directory.iterdir())[:MAX_FILES]
        left = MAX_DIRECTORY
        for path in paths:
            size = path.stat().st_size if path.is_file() else MAX_CRL_BYTES + 1
            if size <= min(MAX_CRL_BYTES, left):
                left -= size
                for data in split_lists(path.read_bytes()):
                    yield path.name, data
    except OSError as error:
        raise InputError(
            f"the revocation lists of `{directory}` cannot be read: {(error.strerror or str(error)).lower()}",
            code="usage",
            hint="`--crl` takes a directory of revocation lists in DER or PEM",
            path=str(directory),
        ) from error


def check(chain: Sequence[Certificate], lists: Lists, now: datetime, *, authentic: datetime | None = None) -> tuple[Status, ...]:
    """Return the revocation status of every certificate in a chain except the root.

    Args:
        chain: the certificates, leaf first. Their order and signatures must be verified already.
        lists: the sources of revocation lists.
        now: the time at which the lists must be valid.
        authentic: the trustworthy signing time, if any. A certificate that became invalid after this time counts as good.
    """
    found = []
    for certificate, issuer in itertools.pairwise(chain):
        try:
            with guarded("REVOCATION_UNKNOWN", "its revocation information"):
                found.append(_status(certificate, issuer, lists, now, authentic))
        except RefusalError as error:
            found.append(Status(certificate.subject, RevocationState.UNKNOWN, error.message))
    return tuple(found)


def _status(certificate: Certificate, issuer: Certificate, lists: Lists, now: datetime, authentic: datetime | None) -> Status:
    subject = certificate.subject
    points = certificate.extension(ExtensionOID.CRL_DISTRIBUTION_POINTS)
    if points is None or not list(points.value):
        if _has_ocsp(certificate):
            return Status(subject, RevocationState.UNKNOWN, "its status is only available by OCSP, which marfetch does not support")
        return Status(subject, RevocationState.NOT_REVOCABLE, "its issuer publishes no revocation information")
    if certificate.extension(ExtensionOID.FRESHEST_CRL) is not None:
        return Status(subject, RevocationState.UNKNOWN, "its issuer publishes separate delta lists, which marfetch does not support")
    count = sum(len(_urls(point)) for point in points.value)
    if count > MAX_URLS or len(points.value) > MAX_URLS:
        return Status(subject, RevocationState.UNKNOWN, f"it names {max(count, len(points.value))} lists, more than {MAX_URLS}")
    notes = []
    reasons: frozenset[x509.ReasonFlags] = frozenset()
    for point in points.value:
        state, note = _point(certificate, issuer, point, lists, now, authentic)
        if state is not RevocationState.GOOD:
            return Status(subject, state, note)
        notes.append(note)
        reasons |= _EVERY_REASON if point.reasons is None else point.reasons
    if not reasons >= _EVERY_REASON:
        return Status(subject, RevocationState.UNKNOWN, "its lists cover only some of the reasons for a revocation")
    return Status(subject, RevocationState.GOOD, "; ".join(notes))


def _urls(point: x509.DistributionPoint) -> list[str]:
    return [one.value for one in point.full_name or () if isinstance(one, x509.UniformResourceIdentifier)]


def _has_ocsp(certificate: Certificate) -> bool:
    found = certificate.extension(ExtensionOID.AUTHORITY_INFORMATION_ACCESS)
    return found is not None and any(one.access_method == AuthorityInformationAccessOID.OCSP for one in found.value)


def _point(
    certificate: Certificate, issuer: Certificate, point: x509.DistributionPoint, lists: Lists, now: datetime, authentic: datetime | None
) -> tuple[RevocationState, str]:
    """Return the state according to one distribution point, and the reason. The addresses of the point are alternatives."""
    own = x509.DirectoryName(issuer.parsed.subject)
    if any(one != own for one in point.crl_issuer or ()):
        return RevocationState.UNKNOWN, "another authority publishes its revocation list, which marfetch does not support"
    urls, reasons = _urls(point), list[str]()

    def listed(where: str, candidates: Iterable[Sequence[bytes]]) -> bool | None:
        """Return whether any of the lists revokes the certificate; None if no valid list covers the certificate."""
        revoked: list[bool] = []
        for candidate in candidates:
            try:
                read = [_list(data, certificate, issuer, point, now, is_delta=place > 0) for place, data in enumerate(candidate)]
                revoked.append(_is_revoked(certificate, read, authentic))
            except RefusalError as error:
                reasons.append(f"{where}: {error.message}")
        return any(revoked) if revoked else None

    def said(where: str, *, is_revoked: bool) -> tuple[RevocationState, str]:
        if is_revoked:
            return RevocationState.REVOKED, f"it is on the list from {where}"
        return RevocationState.GOOD, f"it is not on the list from {where}"

    for where, candidates in _candidates(urls, lists):
        if (found := listed(where, candidates)) is not None:
            return said(where, is_revoked=found)
    for url in urls if lists.ask is not None else ():
        try:
            downloaded = lists.download(url)
        except (Error, RefusalError) as error:
            reasons.append(f"{url}: {error.message}")
            continue
        if (found := listed(url, [[data] for data in downloaded])) is not None:
            if lists.keep is not None and len(downloaded) == 1:
                lists.keep(url, downloaded[0])
            return said(url, is_revoked=found)
    shown = ", ".join(urls) or "a distribution point without a URL"
    return RevocationState.UNKNOWN, "; ".join(reasons)[:600] or f"there is no local list for {shown}, and nothing was downloaded"


def _candidates(urls: Sequence[str], lists: Lists) -> Iterable[tuple[str, list[list[bytes]]]]:
    """Yield the local lists that may cover a certificate, best first. If a file is named like an address, ignore the other files."""
    named = [data for url in urls for data in lists.named(url)]
    yield "the files", [[data] for data in (named or lists.all())]
    for url in urls:
        for cached in lists.cached(url):
            yield f"the cache for {url}", [cached]


def _list(
    data: bytes, certificate: Certificate, issuer: Certificate, point: x509.DistributionPoint, now: datetime, *, is_delta: bool
) -> x509.CertificateRevocationList:
    """Parse a revocation list, and check its issuer, signature, scope and validity."""
    with guarded("REVOCATION_UNKNOWN", "a revocation list"):
        if len(data) > MAX_CRL_BYTES:
            raise RefusalError("REVOCATION_UNKNOWN", f"the list has more than {MAX_CRL_BYTES} bytes")
        found = x509.load_der_x509_crl(data)
        if found.issuer != issuer.parsed.subject:
            raise RefusalError("REVOCATION_UNKNOWN", "the list was issued by another authority")
        usage = issuer.extension(ExtensionOID.KEY_USAGE)
        if is_weak(found):
            raise RefusalError("REVOCATION_UNKNOWN", "the list is signed with a weak hash")
        if usage is not None and not usage.value.crl_sign:
            raise RefusalError("REVOCATION_UNKNOWN", "its issuer is not allowed to sign lists")
        if not found.is_signature_valid(issuer.key):
            raise RefusalError("REVOCATION_UNKNOWN", "the signature of the list is invalid")
        if found.next_update_utc is None or found.next_update_utc < now:
            until = f"{found.next_update_utc:%Y-%m-%d %H:%M:%SZ}" if found.next_update_utc else "an unknown time"
            raise RefusalError("REVOCATION_UNKNOWN", f"the list expired: it was valid until {until}")
        for extension in found.extensions:
            delta = extension.oid == ExtensionOID.DELTA_CRL_INDICATOR
            if (delta and not is_delta) or (extension.critical and not delta and extension.oid not in _LIST_EXTENSIONS):
                raise RefusalError("REVOCATION_UNKNOWN", "the list is a delta list, or has an unsupported critical extension")
            if extension.oid == ExtensionOID.ISSUING_DISTRIBUTION_POINT:
                _check_scope(extension.value, certificate, issuer, point)
        return found


def _check_scope(value: x509.ExtensionType, certificate: Certificate, issuer: Certificate, point: x509.DistributionPoint) -> None:
    """Check that a list covers a certificate and its distribution point (RFC 5280, 6.3.3 (b) and (d))."""
    if not isinstance(value, x509.IssuingDistributionPoint):
        raise RefusalError("REVOCATION_UNKNOWN", "the scope of the list is malformed")
    names = _names(value, issuer)
    for is_outside, reason in (
        (value.only_contains_ca_certs and not certificate.is_authority, "the list covers only certificates of authorities"),
        (value.only_contains_user_certs and certificate.is_authority, "the list does not cover certificates of authorities"),
        (value.only_contains_attribute_certs, "the list covers only attribute certificates"),
        (value.only_some_reasons is not None, "the list covers only some of the reasons for a revocation"),
        (value.indirect_crl, "the list covers several issuers, which marfetch does not support"),
        (names and names.isdisjoint(_names(point, issuer) or point.crl_issuer or ()), "the list belongs to another distribution point"),
    ):
        if is_outside:
            raise RefusalError("REVOCATION_UNKNOWN", reason)


def _names(point: x509.DistributionPoint | x509.IssuingDistributionPoint, issuer: Certificate) -> set[x509.GeneralName]:
    """Return the names of a distribution point. A relative name is appended to the name of the issuer (RFC 5280, 4.2.1.13)."""
    if point.relative_name is not None:
        return {x509.DirectoryName(x509.Name([*issuer.parsed.subject.rdns, point.relative_name]))}
    return set(point.full_name or ())


def _is_revoked(certificate: Certificate, lists: Sequence[x509.CertificateRevocationList], authentic: datetime | None) -> bool:
    with guarded("REVOCATION_UNKNOWN", "an entry of the revocation list"):
        latest: tuple[datetime, bool] | None = None
        for one in lists:
            entry = one.get_revoked_certificate_by_serial_number(certificate.parsed.serial_number)
            if entry is None:
                continue
            reason, invalid_since = None, None
            for extension in entry.extensions:
                if extension.oid == CRLEntryExtensionOID.CRL_REASON:
                    reason = extension.value.reason
                elif extension.oid == CRLEntryExtensionOID.INVALIDITY_DATE:
                    invalid_since = extension.value.invalidity_date_utc
                elif extension.critical:
                    raise RefusalError("REVOCATION_UNKNOWN", "an entry of the list has an unsupported critical extension")
            if authentic is not None and invalid_since is not None and authentic < invalid_since:
                return False
            if reason not in _TEMPORARY:
                return True
            if latest is None or latest[0] < entry.revocation_date_utc:
                latest = entry.revocation_date_utc, reason is x509.ReasonFlags.certificate_hold
        return latest is not None and latest[1]
