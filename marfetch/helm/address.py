"""Addresses of `mar://` repositories and charts, as Helm hands them to the getter.

| address | means |
|---|---|
| `mar://HOST/[NAMESPACE/]index.yaml` | the index of the charts below a namespace |
| `mar://HOST/REPO/index.yaml` | the index of one repository |
| `mar://HOST/REPO:TAG/NAME-VERSION.tgz[.prov]` | a chart by its tag, or its provenance |
| `mar://HOST/REPO@sha256:…/NAME-VERSION.tgz[.prov]` | a chart by the digest of its manifest |
| `mar://HOST/REPO/NAME-VERSION.tgz[.prov]`, `mar://HOST/PARENT/NAME-VERSION.tgz[.prov]` | a chart by its version |
| `mar://HOST/REPO:TAG`, `mar://HOST/REPO@sha256:…` | a chart by its tag or digest |
| `mar://HOST/REPO[?version=RANGE]` | the newest chart in a range |
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final, NoReturn
from urllib.parse import unquote

from ..constraint import read_version
from ..errors import InputError
from ..reference import Reference
from ..text import redacted

SCHEME: Final = "mar://"
_INDEX: Final = "index.yaml"
_PROVENANCE: Final = ".prov"


@dataclass(frozen=True, slots=True)
class IndexAddress:
    """An index.

    Attributes:
        host: as it was written.
        path: a repository or a namespace; empty for the whole registry.
    """

    host: str
    path: str


@dataclass(frozen=True, slots=True)
class ChartAddress:
    """A chart.

    Attributes:
        references: where it may be, the likelier first.
        version: a version or a range; None where the reference says it, or the newest is meant.
        provenance: whether its provenance is asked for in place of the chart.
    """

    references: tuple[Reference, ...]
    version: str | None
    provenance: bool


def parse(url: str) -> IndexAddress | ChartAddress:
    """Read an address.

    Raises:
        InputError: `reference-invalid`.
        PolicyError: `address-refused`.
    """
    if url[: len(SCHEME)].lower() != SCHEME:
        _fail(url, f"it does not begin with `{SCHEME}`")
    text = url[len(SCHEME) :]
    # Helm appends `.prov` behind the query.
    provenance = text.endswith(_PROVENANCE)
    text, _, query = text.removesuffix(_PROVENANCE).partition("?")
    host, slash, path = text.partition("/")
    path = unquote(path)
    if not host or not slash or not path.strip("/"):
        _fail(url, "it has no path; write `mar://HOST/index.yaml` or `mar://HOST/REPOSITORY`")
    parent, _, last = path.rpartition("/")
    if last == _INDEX and not provenance:
        Reference.parse(f"{host}/{parent or 'x'}")  # its host and its path are read as strictly as any
        return IndexAddress(host, parent)
    version = _version(url, query)
    if not last.endswith(".tgz"):
        return ChartAddress((Reference.parse(f"{host}/{path}"),), version, provenance)
    if version is not None:
        _fail(url, "a file name and `?version=` do not go together")
    if ":" in parent.rpartition("/")[2] or "@" in parent:
        return ChartAddress((Reference.parse(f"{host}/{parent}"),), None, provenance)
    references, version = _by_file_name(url, host, parent, last.removesuffix(".tgz"))
    return ChartAddress(references, version, provenance)


def _version(url: str, query: str) -> str | None:
    if not query:
        return None
    name, _, version = query.partition("=")
    if name != "version" or "&" in version:
        _fail(url, "behind `?` only one `version=` may stand")
    return unquote(version)  # a `+` is one, as everywhere in these addresses: versions have it


def _by_file_name(url: str, host: str, parent: str, stem: str) -> tuple[tuple[Reference, ...], str]:
    """`NAME-VERSION` below a repository or below its parent; the first split that has a version is the one."""
    splits = [(stem[: match.start()], stem[match.end() :]) for match in re.finditer("-", stem)]
    found = next(((name, version) for name, version in splits if name and read_version(version.replace("+", "_"))), None)
    if found is None:
        _fail(url, f"`{stem[:100]}.tgz` is not of the form `NAME-VERSION.tgz`")
    name, version = found
    below = f"{parent}/{name}" if parent else name
    own = [parent] if parent.rpartition("/")[2] == name else []
    return tuple(Reference.parse(f"{host}/{repository}") for repository in [*own, below]), version


def _fail(url: str, reason: str) -> NoReturn:
    raise InputError(
        f"`{redacted(url)}` is not an address of a chart: {reason}",
        code="reference-invalid",
        hint="write `mar://HOST/REPOSITORY:TAG/NAME-VERSION.tgz`, or `mar://HOST/NAMESPACE` as a repository for `helm repo add`",
        text=redacted(url),
    )
