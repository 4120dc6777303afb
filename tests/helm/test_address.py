"""Addresses of indexes and charts, as Helm passes them to the getter."""

from __future__ import annotations

import pytest

from marfetch.errors import InputError, PolicyError
from marfetch.helm.address import ChartAddress, IndexAddress, parse
from marfetch.oci import Digest
from marfetch.reference import Reference

DIGEST = Digest.of(b"x")


@pytest.mark.parametrize(
    ("url", "path"),
    [
        ("mar://mcr.microsoft.com/index.yaml", ""),
        ("mar://mcr.microsoft.com/aks/index.yaml", "aks"),
        ("MAR://mcr.microsoft.com/a/b/c/index.yaml", "a/b/c"),
    ],
)
def test_addresses_of_indexes(url: str, path: str) -> None:
    assert parse(url) == IndexAddress("mcr.microsoft.com", path)


CHARTS: list[tuple[str, list[str], str | None, bool]] = [
    ("aks/toy:1.2.3/toy-1.2.3.tgz", ["aks/toy:1.2.3"], None, False),
    ("aks/toy:v1.2.3/toy-v1.2.3.tgz.prov", ["aks/toy:v1.2.3"], None, True),
    (f"aks/toy@{DIGEST}/toy-1.2.3.tgz", [f"aks/toy@{DIGEST}"], None, False),
    ("aks/toy:1.2.3_b.5/toy-1.2.3+b.5.tgz", ["aks/toy:1.2.3_b.5"], None, False),
    ("aks/toy/toy-1.2.3.tgz", ["aks/toy", "aks/toy/toy"], "1.2.3", False),
    ("aks/toy-1.2.3.tgz", ["aks/toy"], "1.2.3", False),
    ("aks/my-2-toy-1.2.3-rc.1+b.tgz", ["aks/my-2-toy"], "1.2.3-rc.1+b", False),
    ("toy-1.2.3.tgz", ["toy"], "1.2.3", False),
    ("aks/toy:1.2.3", ["aks/toy:1.2.3"], None, False),
    (f"aks/toy@{DIGEST}", [f"aks/toy@{DIGEST}"], None, False),
    ("aks/toy", ["aks/toy"], None, False),
    ("aks/toy?version=^1", ["aks/toy"], "^1", False),
    ("aks/toy?version=%5E1.prov", ["aks/toy"], "^1", True),
    ("aks/toy?version=2.0.0+build.5", ["aks/toy"], "2.0.0+build.5", False),
    ("aks/toy?version=%3E%3D1%20%3C3", ["aks/toy"], ">=1 <3", False),
]


@pytest.mark.parametrize(("path", "references", "version", "provenance"), CHARTS, ids=[one[0] for one in CHARTS])
def test_addresses_of_charts(path: str, references: list[str], version: str | None, provenance: bool) -> None:
    expected = tuple(Reference.parse(f"mcr.microsoft.com/{one}") for one in references)
    assert parse(f"mar://mcr.microsoft.com/{path}") == ChartAddress(expected, version, provenance)


@pytest.mark.parametrize(
    "url",
    [
        "",
        "oci://mcr.microsoft.com/aks/toy",
        "mar://mcr.microsoft.com",
        "mar://mcr.microsoft.com/",
        "mar:///aks/toy",
        "mar://mcr.microsoft.com/aks//toy",
        "mar://mcr.microsoft.com/aks/../toy",
        "mar://mcr.microsoft.com/Aks/toy:1",
        "mar://mcr.microsoft.com/aks/toy.tgz",
        "mar://mcr.microsoft.com/aks/toy-latest.tgz",
        "mar://mcr.microsoft.com/aks/toy?tag=1",
        "mar://mcr.microsoft.com/aks/toy?version=1&version=2",
        "mar://mcr.microsoft.com/aks/toy-1.2.3.tgz?version=1",
        "mar://mcr.microsoft.com/aks/%2e%2e/toy:1",
        "mar://u:p@mcr.microsoft.com/aks/toy:1",
        "mar://mcr.microsoft.com/a b/index.yaml",
    ],
)
def test_invalid_addresses_are_refused(url: str) -> None:
    with pytest.raises((InputError, PolicyError)):
        parse(url)
