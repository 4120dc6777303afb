"""Read the files of a project, and find the places in them that name artifacts of MAR."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Final, NamedTuple

from ..files import storage_error
from ..project.adopt import MAX_SIZE, search
from ..project.forms.forms import Place, Registries, short
from ..reference import OFFICIAL_HOSTS
from .walk import Listed, walk

LOCKS: Final = {
    "marfetch.yaml": ("marfetch.lock", "marfetch lock --file {file}"),
    "Chart.yaml": ("Chart.lock", "helm dependency update {directory}"),
    "requirements.yaml": ("requirements.lock", "helm dependency update {directory}"),
    "helmfile.yaml": ("helmfile.lock", "helmfile --file {file} deps"),
    "vendir.yml": ("vendir.lock.yml", "vendir sync --file {file}"),
}
"""File → its lock file, and the command that writes the lock file."""

_LOCK_FILES: Final = frozenset(lock for lock, _ in LOCKS.values())
_BOM: Final = b"\xef\xbb\xbf"
_LOOPBACK: Final = (b"localhost", b"127.", b"[::1]")
_BESIDE: Final = (b"oci:", b"chart", b"repo", b"dependencies", b"oras", b"marfetch", b"mar-get")
"""Words without which a host is only that of container images."""
_WORDS: Final = (b"mar://", b"br/", b"br:", b"helmrelease", b"helmrepository", b"ocirepository", b"helmchart")
"""Words of files that name an artifact, or sources of Flux, with or without a host."""
_HINTS: Final = (b"releases", b"repositories", b"artifacts", b"marfetch")
_SEPARATE: Final = re.compile(rb"(?:releases|repositories|artifacts)[\"']?[ \t]*:|\bmarfetch\s")
"""A pattern that shows that a file may name an artifact without its registry."""


@dataclass(frozen=True, slots=True)
class SourceFile:
    """A file of the project.

    Attributes:
        path: the path as shown, relative to the current directory.
        real: the path with links resolved, where the file is written.
        data: the content.
        text: the content as text, without a byte order mark. Bytes that are not UTF-8 become surrogates.
    """

    path: Path
    real: Path
    data: bytes = field(repr=False)
    text: str = field(repr=False)

    def bytes_of(self, text: str) -> bytes:
        """Return the bytes of a changed text, with the byte order mark of the file, if it has one."""
        return (_BOM if self.data.startswith(_BOM) else b"") + text.encode("utf-8", "surrogateescape")


class FoundPlace(NamedTuple):
    """A place in a file."""

    file: SourceFile
    place: Place


class Unread(NamedTuple):
    """A place with a reference whose version could not be read.

    Attributes:
        reference: the reference, or the part of it that could be read.
        reason: why it could not be read.
    """

    file: SourceFile
    line: int
    form: str
    reference: str
    reason: str


class Survey(NamedTuple):
    """The result of searching a project.

    Attributes:
        places: the places with a version, in the order of the files.
        unread: the places without a readable version.
        notes: files that were skipped, with the reason.
    """

    places: tuple[FoundPlace, ...]
    unread: tuple[Unread, ...]
    notes: tuple[str, ...]


def survey(paths: Sequence[Path], registries: Registries, check: Callable[[], None] = lambda: None) -> Survey:
    """Search a project. Each file is read once.

    Args:
        check: called repeatedly; it raises when the timeout has passed.

    Raises:
        StorageError: a file cannot be read.
    """
    notes: list[str] = []
    files = {file.path: file for file in _files(paths, registries, check, notes)}
    places: list[FoundPlace] = []
    unread: list[Unread] = []
    for path, one in search({path: file.text for path, file in files.items()}, registries, check):
        if isinstance(one, Place):
            if one.is_certain:
                places.append(FoundPlace(files[path], one))
        elif one.reference is not None:
            unread.append(Unread(files[path], one.line, one.form, one.reference, one.reason))
    return Survey(tuple(_real_places(places)), tuple(dict.fromkeys(unread)), tuple(notes))


def _files(paths: Sequence[Path], registries: Registries, check: Callable[[], None], notes: list[str]) -> Iterator[SourceFile]:
    hosts = [*_LOOPBACK, *(host.encode() for host in (*OFFICIAL_HOSTS, *([registries.own] if registries.own else [])))]
    for listed in walk(paths, check):
        if listed.path.name in _LOCK_FILES:
            continue
        check()
        data = _read(listed)
        if len(data) > MAX_SIZE:
            notes.append(f"skipped `{listed.path}`: it has more than {MAX_SIZE} bytes")
        elif _may_name(data, hosts) and b"\0" not in data:
            yield SourceFile(
                Path(os.path.relpath(listed.path)), listed.real, data, data.removeprefix(_BOM).decode("utf-8", "surrogateescape")
            )


def _may_name(data: bytes, hosts: Sequence[bytes]) -> bool:
    """Return whether a file may name an artifact. Searching for single words is much faster than a regular expression."""
    text = data.lower()
    if any(word in text for word in _WORDS) or (any(host in text for host in hosts) and any(word in text for word in _BESIDE)):
        return True
    return any(word in text for word in _HINTS) and _SEPARATE.search(text) is not None


def _read(listed: Listed) -> bytes:
    """Return the content of a file; nothing if only its first line could show that it is a script, and does not."""
    try:
        with listed.real.open("rb") as file:
            first = file.read(2)
            return b"" if listed.is_script and first != b"#!" else first + file.read(MAX_SIZE - 1)
    except OSError as error:
        raise storage_error(error, listed.path) from error


def _real_places(places: Sequence[FoundPlace]) -> Iterator[FoundPlace]:
    """Yield each place once. Skip places without a version that name only the parent of another artifact's repository."""
    above = {
        (one.file.real, one.place.reference.host, str(parent))
        for one in places
        for parent in PurePosixPath(one.place.reference.repository).parents
    }
    seen: set[object] = set()
    for one in places:
        place = one.place
        is_address = place.problem is not None and (one.file.real, place.reference.host, place.reference.repository) in above
        key = (one.file.real, place.line, place.version, place.reference, place.form if place.version is None else "")
        if not is_address and key not in seen:
            seen.add(key)
            yield one


def repository_of(place: Place) -> str:
    """Return the repository of a place, for messages: with its host, unless that is the default one."""
    return short(place.reference).full_repository
