"""Read the repositories, tags and digests that the cache knows, for completion.

This replaces `reference`, `endpoint`, `cache` and `layout`, which take too long to load. A mistake here only adds or hides a candidate.
`tests/completion/test_complete.py` compares the results with those of the real modules.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Mapping
from typing import Final

from .. import records
from ..document import Json, parse_json
from ..errors import Error

MAX_INDEX_SIZE: Final = 16 << 20
"""Largest `index.json` that is read, in bytes; a larger one takes too long for a completion."""

MAX_CATALOG_SIZE: Final = 4 << 20
"""Largest cached catalog that is read, in bytes: about 70,000 names."""

_OFFICIAL: Final = {"global": "mcr.microsoft.com", "china": "mcr.azure.cn"}
_CACHES: Final = {"linux": "~/.cache/marfetch", "darwin": "~/Library/Caches/marfetch"}
_REF_NAME: Final = "org.opencontainers.image.ref.name"
_SCHEMES: Final = ("oci://", "mar://", "https://")
_ENDPOINT = re.compile(r"(https?)://([a-z0-9.-]+)(?::([0-9]{1,5}))?/?")


class KnownRegistries:
    """The cached repositories, tags and digests of the registries that a command line can use.

    Args:
        endpoint: value of `--endpoint`, or None.
        cache_dir: value of `--cache-dir`, or None.

    Attributes:
        hosts: hosts to offer in front of a repository.
    """

    def __init__(self, endpoint: str | None, cache_dir: str | None, environment: Mapping[str, str]) -> None:
        self._root = _directory(cache_dir, environment)
        self._names: dict[str, str] | None = None
        self._is_chosen = endpoint is not None
        self._host = endpoint_host(environment.get("MARFETCH_ENDPOINT") or "global" if endpoint is None else endpoint)
        allowed = (self._host, *(() if self._is_chosen else _OFFICIAL.values()))
        self.hosts = tuple(dict.fromkeys(host for host in allowed if host is not None))

    def split(self, word: str) -> tuple[str, str, str] | None:
        """Split a reference into prefix (scheme and host as typed), host and rest; None if its registry is not allowed."""
        head = next((word[: len(scheme)] for scheme in _SCHEMES if word.lower().startswith(scheme)), "")
        rest = word[len(head) :]
        first, slash, path = rest.partition("/")
        if not slash or not (first.lower() == "localhost" or "." in first or ":" in first):
            return (head, self._host, rest) if self._host is not None else None
        host = first.lower()
        is_loopback = host.partition(":")[0] == "localhost" or host.startswith("127.")
        if host not in self.hosts and not (is_loopback and not self._is_chosen):
            return None
        return f"{head}{first}/", host, path

    def repositories(self, host: str) -> list[str]:
        """Return the known repositories of a host, without the host."""
        names = {name.rpartition(":")[0] for name in self._index()} | set(records.repositories(self._root))
        used = {name[len(host) + 1 :] for name in names if name.startswith(f"{host}/")}
        catalog = records.read_catalog(self._root, host, limit=MAX_CATALOG_SIZE)
        return sorted(used.union(catalog[0] if catalog is not None else ()))

    def tags(self, host: str, repository: str) -> list[str]:
        """Return the tags of a repository that were listed or fetched."""
        full = f"{host}/{repository}"
        fetched = {name[len(full) + 1 :] for name in self._index() if name.startswith(f"{full}:")}
        return sorted(fetched.union(records.read(self._root, full) or ()))

    def digests(self, host: str, repository: str, tag: str | None) -> list[tuple[str, str]]:
        """Return the known digests of a repository, each with its tags."""
        full = f"{host}/{repository}"
        found: dict[str, list[str]] = {}
        for name, digest in self._index().items():
            if name == f"{full}:{tag}" if tag is not None else name.startswith(f"{full}:"):
                found.setdefault(digest, []).append(name[len(full) + 1 :])
        return [(digest, " ".join(tags)) for digest, tags in sorted(found.items())]

    def _index(self) -> dict[str, str]:
        """Return name → digest from the cache's index (image-spec, image layout, "index.json file")."""
        if self._names is None:
            self._names = {}
            for one in _entries(f"{self._root}/index.json"):
                annotations = one.get("annotations") if isinstance(one, dict) else None
                name = annotations.get(_REF_NAME) if isinstance(annotations, dict) else None
                if isinstance(one, dict) and isinstance(name, str) and ":" in name.rpartition("/")[2]:
                    self._names[name] = str(one.get("digest"))
        return self._names


def _entries(path: str) -> list[Json]:
    data = records.read_file(path, limit=MAX_INDEX_SIZE)
    if data is None:
        return []
    try:
        document = parse_json(data, "the index of the cache")
    except Error:
        return []
    entries = document.get("manifests") if isinstance(document, dict) else None
    return entries if isinstance(entries, list) else []


def _directory(option: str | None, environment: Mapping[str, str]) -> str:
    """Return the cache directory, or the null device if another user may have changed it."""
    root = cache_directory(option, environment)
    try:
        is_safe = records.unsafe(root) is None
    except ValueError:  # a null byte in the name
        is_safe = False
    return root if is_safe else os.devnull


def endpoint_host(text: str) -> str | None:
    """Return the host of an endpoint, in the form that names in the cache have; None if the text is not an endpoint."""
    match = _ENDPOINT.fullmatch(text.lower())
    if match is None:
        return _OFFICIAL.get(text)
    scheme, name, port = match[1], match[2], int(match[3] or 0)
    return f"{name}:{port}" if port and port != (443 if scheme == "https" else 80) else name


def cache_directory(option: str | None, environment: Mapping[str, str]) -> str:
    """Return the cache directory as `layout.cache.cache_root` does, without `platformdirs` if possible."""
    if option:
        return os.path.expanduser(option)  # noqa: PTH111 - the shell has not expanded `~` yet
    named = environment.get("MARFETCH_CACHE_DIR")
    if named:
        return named
    usual = _CACHES.get(sys.platform)
    if usual and not environment.get("XDG_CACHE_HOME"):
        return os.path.expanduser(usual)  # noqa: PTH111
    from ..layout.cache import cache_root  # late: only an unusual directory needs platformdirs

    return str(cache_root(None))
