"""Parse the `mar://` addresses of indexes and charts that Helm passes to the getter.

| address | meaning |
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
    """The address of an index.

    Attributes:
        host: the host as written in the address.
        path: the path of a repository or a namespace; empty for the whole registry.
    """

    host: str
    path: str


@dataclass(frozen=True, slots=True)
class ChartAddress:
    """The address of a chart.

    Attributes:
        references: the repositories that may contain the chart, most likely first.
        version: a version or a range; None for the newest version, or if the reference has a tag or digest.
        provenance: whether the address names the provenance file instead of the chart.
    """

    references: tuple[Reference, ...]
    version: str | None
    provenance: bool


def parse(url: str) -> IndexAddress | ChartAddress:
    """Parse an address.

    Raises:
        InputError: `reference-invalid`.
        PolicyError: `address-refused`.
    """
    if url[: len(SCHEME)].lower() != SCHEME:
        _fail(url, f"it does not start with `{SCHEME}`")
    text = url[len(SCHEME) :]
    # Helm appends `.prov` after the query.
    provenance = text.endswith(_PROVENANCE)
    text, _, query = text.removesuffix(_PROVENANCE).partition("?")
    host, slash, path = text.partition("/")
    path = unquote(path)
    if not host or not slash or not path.strip("/"):
        _fail(url, "it has no path; write `mar://HOST/index.yaml` or `mar://HOST/REPOSITORY`")
    parent, _, last = path.rpartition("/")
    if last == _INDEX and not provenance:
        Reference.parse(f"{host}/{parent or 'x'}")  # raise if the host or the path is invalid in a reference
        return IndexAddress(host, parent)
    version = _version(url, query)
    if not last.endswith(".tgz"):
        return ChartAddress((Reference.parse(f"{host}/{path}"),), version, provenance)
    if version is not None:
        _fail(url, "a file name cannot be combined with `?version=`")
    if ":" in parent.rpartition("/")[2] or "@" in parent:
        return ChartAddress((Reference.parse(f"{host}/{parent}"),), None, provenance)
    references, version = _by_file_name(url, host, parent, last.removesuffix(".tgz"))
    return ChartAddress(references, version, provenance)


def _version(url: str, query: str) -> str | None:
    if not query:
        return None
    name, _, version = query.partition("=")
    if name != "version" or "&" in version:
        _fail(url, "the query may only contain one `version=`")
    return unquote(version)  # not `unquote_plus`: a version may contain `+`


def _by_file_name(url: str, host: str, parent: str, stem: str) -> tuple[tuple[Reference, ...], str]:
    """Split `NAME-VERSION` at the first `-` before a version. Return the possible repositories and the version.

    Args:
        parent: the path above the file name, which is either the repository or the path above the repository.
        stem: the file name without `.tgz`.
    """
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
        f"`{redacted(url)}` is not a chart address: {reason}",
        code="reference-invalid",
        hint="write `mar://HOST/REPOSITORY:TAG/NAME-VERSION.tgz`, or `mar://HOST/NAMESPACE` for `helm repo add`",
        text=redacted(url),
    )
