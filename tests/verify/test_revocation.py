"""Revocation lists: which certificates a list covers (RFC 5280, 6.3.3), several lists in a file, and limits on downloads."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.x509.oid import NameOID

from marfetch.errors import RemoteError
from marfetch.verify.chain import Certificate
from marfetch.verify.revocation import MAX_DOWNLOADS, MAX_URLS, Lists, RevocationState, Status, check, split_lists

from ..world.signing import NOW, Authority, Identity, issue, name, new_key, revocation_list

URL = "http://crl.test/a.crl"
RELATIVE = x509.RelativeDistinguishedName([x509.NameAttribute(NameOID.COMMON_NAME, "partition 7")])
DIRECTORY = x509.DirectoryName(name({"CN": "partition 7", "O": "Example"}))


def point(*urls: str, names: Sequence[x509.GeneralName] = (), **more: Any) -> x509.DistributionPoint:
    full = [*(x509.UniformResourceIdentifier(url) for url in urls), *names]
    parts = {"full_name": full or None, "relative_name": None, "reasons": None, "crl_issuer": None, **more}
    return x509.DistributionPoint(**parts)


def scope(**changes: Any) -> dict[str, Any]:
    """Return the scope extension of a revocation list, with these fields."""
    none = {"full_name": None, "relative_name": None, "only_some_reasons": None}
    kinds = dict.fromkeys(("only_contains_user_certs", "only_contains_ca_certs", "indirect_crl", "only_contains_attribute_certs"), False)
    return {"more": [(x509.IssuingDistributionPoint(**{**none, **kinds, **changes}), True)]}


def certified(authority: Authority, *points: x509.DistributionPoint, ca: bool = False) -> Identity:
    """Issue a certificate with these distribution points, signed by the intermediate certificate."""
    return issue("Test Subject", authority.middle, key=new_key("secp256r1", 5), ca=ca, more=[(x509.CRLDistributionPoints(points), False)])


def status(subject: Identity, lists: Lists) -> Status:
    chain = [Certificate.parse(one) for one in subject.chain]
    return check(chain[:2], lists, NOW)[0]


def in_files(directory: Path, *files: bytes) -> Lists:
    for number, data in enumerate(files):
        (directory / f"{number}.crl").write_bytes(data)
    return Lists([directory])


def pem(*lists: bytes) -> bytes:
    return b"".join(
        b"-----BEGIN X509 CRL-----\n" + base64.encodebytes(one) + b"-----END X509 CRL-----\n" for one in lists
    )  # fmt: skip


def uri(url: str) -> list[x509.GeneralName]:
    return [x509.UniformResourceIdentifier(url)]


COMPROMISE = frozenset({x509.ReasonFlags.key_compromise, x509.ReasonFlags.ca_compromise})
REST = frozenset(x509.ReasonFlags) - COMPROMISE - {x509.ReasonFlags.unspecified, x509.ReasonFlags.remove_from_crl}
ISSUER = name({"CN": "Test Intermediate", "C": "US", "ST": "Washington", "O": "Example Test Corporation"})

SCOPES: dict[str, tuple[dict[str, Any], x509.DistributionPoint, bool, bool]] = {
    # case → scope of the list, distribution point, whether the certificate is a CA certificate, whether the list covers the certificate
    "everything": ({}, point(URL), False, True),
    "this address": (scope(full_name=uri(URL)), point(URL), False, True),
    "one address of both": (scope(full_name=[*uri("http://x.test/"), *uri(URL)]), point("http://y.test/", URL), False, True),
    "another address": (scope(full_name=uri("http://crl.test/b.crl")), point(URL), False, False),
    "authorities, for a signer": (scope(only_contains_ca_certs=True), point(URL), False, False),
    "authorities, for one": (scope(only_contains_ca_certs=True), point(URL), True, True),
    "users, for a signer": (scope(only_contains_user_certs=True), point(URL), False, True),
    "users, for an authority": (scope(only_contains_user_certs=True), point(URL), True, False),
    "attribute certificates": (scope(only_contains_attribute_certs=True), point(URL), False, False),
    "some reasons": (scope(only_some_reasons=COMPROMISE), point(URL), False, False),
    "several issuers": (scope(indirect_crl=True), point(URL), False, False),
    "a relative name": (scope(relative_name=RELATIVE), point(URL), False, False),
    "a relative name on both sides": (scope(relative_name=RELATIVE), point(relative_name=RELATIVE), False, True),
    "a relative name, written in full": (
        scope(relative_name=RELATIVE),
        point(names=[x509.DirectoryName(x509.Name([*ISSUER.rdns, RELATIVE]))]),
        False,
        True,
    ),
    "a directory name": (scope(full_name=[DIRECTORY]), point(URL), False, False),
    "a directory name on both sides": (scope(full_name=[DIRECTORY]), point(URL, names=[DIRECTORY]), False, True),
    "another list issuer": ({}, point(URL, crl_issuer=[DIRECTORY]), False, False),
    "the issuer itself as list issuer": ({}, point(URL, crl_issuer=[x509.DirectoryName(ISSUER)]), False, True),
    "reasons that are not all": ({}, point(URL, reasons=COMPROMISE), False, False),
}


@pytest.mark.parametrize("case", SCOPES)
def test_only_a_list_whose_scope_covers_the_certificate_counts(authority: Authority, tmp_path: Path, case: str) -> None:
    options, where, ca, covers = SCOPES[case]
    subject = certified(authority, where, ca=ca)
    found = status(subject, in_files(tmp_path, revocation_list(authority.middle, **options)))
    assert found.state is (RevocationState.GOOD if covers else RevocationState.UNKNOWN), found.note
    if covers:
        (tmp_path / "0.crl").write_bytes(revocation_list(authority.middle, [subject], **options))
        assert status(subject, Lists([tmp_path])).state is RevocationState.REVOKED


def test_a_list_out_of_scope_hides_no_list_that_covers(authority: Authority, tmp_path: Path) -> None:
    subject = certified(authority, point(URL))
    other = revocation_list(authority.middle, **scope(only_contains_ca_certs=True))
    lists = in_files(tmp_path, other, revocation_list(authority.middle, [subject], **scope(only_contains_user_certs=True)), other)
    assert status(subject, lists).state is RevocationState.REVOKED


def test_distribution_points_may_share_the_reasons(authority: Authority, tmp_path: Path) -> None:
    subject = certified(authority, point(URL, reasons=COMPROMISE), point("http://crl.test/b.crl", reasons=REST))
    assert status(subject, in_files(tmp_path, revocation_list(authority.middle))).state is RevocationState.GOOD


# -- several lists in a file


@pytest.mark.parametrize("place", [0, 1, 2])
def test_every_list_of_a_pem_file_counts(authority: Authority, tmp_path: Path, place: int) -> None:
    subject = certified(authority, point(URL))
    lists = [revocation_list(authority.middle), revocation_list(authority.root)]
    lists.insert(place, revocation_list(authority.middle, [subject]))
    assert status(subject, in_files(tmp_path, b"# three lists\n" + pem(*lists))).state is RevocationState.REVOKED


@pytest.mark.parametrize("spoil", [lambda data: data[:-30], lambda data: data.replace(b"MII", b"M!I")])
def test_a_pem_file_with_a_broken_list_says_nothing(authority: Authority, tmp_path: Path, spoil: Any) -> None:
    subject = certified(authority, point(URL))
    good = revocation_list(authority.middle)
    found = status(subject, in_files(tmp_path, pem(good) + spoil(pem(revocation_list(authority.middle, [subject])))))
    assert found.state is RevocationState.UNKNOWN


def test_der_is_never_read_as_pem() -> None:
    data = b"0\x82\x00\x00" + pem(b"inside")
    assert split_lists(data) == [data]


def test_a_downloaded_pem_file_is_kept_in_the_form_of_the_cache(authority: Authority) -> None:
    subject, kept = certified(authority, point(URL)), list[bytes]()
    one = revocation_list(authority.middle)
    lists = Lists(ask=lambda _: pem(one), keep=lambda _, data: kept.append(data))
    assert status(subject, lists).state is RevocationState.GOOD
    assert kept == [one]
    several = Lists(ask=lambda _: pem(one, revocation_list(authority.middle, [subject])), keep=lambda _, data: kept.append(data))
    assert status(subject, several).state is RevocationState.REVOKED
    assert kept == [one]  # the cache keeps one list per address


# -- limits


class Asked:
    """A fake downloader that returns the same list for every address, or fails."""

    def __init__(self, data: bytes | None = None) -> None:
        self.data = data
        self.urls: list[str] = []

    def __call__(self, url: str) -> bytes:
        self.urls.append(url)
        if self.data is None:
            raise RemoteError("no answer", code="unreachable")
        return self.data


@pytest.mark.parametrize("together", [True, False], ids=["in one point", "in many points"])
def test_a_certificate_with_many_addresses_causes_no_request(authority: Authority, together: bool) -> None:
    urls = [f"http://crl.test/{number}.crl" for number in range(MAX_URLS + 1)]
    subject = certified(authority, *([point(*urls)] if together else map(point, urls)))
    asked = Asked(revocation_list(authority.middle))
    assert status(subject, Lists(ask=asked)).state is RevocationState.UNKNOWN
    assert asked.urls == []


def test_the_downloads_of_an_artifact_are_limited(authority: Authority) -> None:
    asked = Asked()
    lists = Lists(ask=asked)
    for number in range(2 * MAX_DOWNLOADS // MAX_URLS):
        subject = certified(authority, point(*(f"http://crl.test/{number}/{one}.crl" for one in range(MAX_URLS))))
        assert status(subject, lists).state is RevocationState.UNKNOWN
    assert len(asked.urls) == MAX_DOWNLOADS


@pytest.mark.parametrize("answers", [True, False])
def test_an_address_is_asked_once_for_all_certificates(authority: Authority, answers: bool) -> None:
    asked = Asked(revocation_list(authority.middle) if answers else None)
    lists = Lists(ask=asked)
    for _ in range(3):
        found = status(certified(authority, point(URL)), lists)
        assert found.state is (RevocationState.GOOD if answers else RevocationState.UNKNOWN)
    assert asked.urls == [URL]


def test_an_expired_list_in_a_pem_file_does_not_hide_a_valid_one(authority: Authority, tmp_path: Path) -> None:
    subject = certified(authority, point(URL))
    old = revocation_list(authority.middle, next_update=NOW - timedelta(days=1))
    assert status(subject, in_files(tmp_path, pem(old, revocation_list(authority.middle)))).state is RevocationState.GOOD
