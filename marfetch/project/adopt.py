"""Collect references to MAR from files such as `Chart.yaml`, to generate a first project file. The parsers are in `forms`."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Final

from ..errors import InputError
from ..files import storage_error
from ..reference import OFFICIAL_HOSTS, Reference
from .forms.bicep import CONFIGURATION, aliases
from .forms.forms import Context, documents, find, objects
from .forms.places import OFFICIAL, Found, LeftOut, Registries, Sources, short

MAX_SIZE: Final = 16 << 20
"""The maximum size of a file in bytes; larger files are skipped."""

MAX_NOTES: Final = 1000
"""The maximum number of notes to keep; further notes are only counted."""


@dataclass(frozen=True, slots=True)
class FoundReference:
    """A reference to an artifact, found in a file.

    Attributes:
        reference: the reference; it has no host if the host is `mcr.microsoft.com`.
        version: a version range; None if the reference has a tag or digest, or if no version could be read.
        where: the file and line of the reference.
        is_chart: whether the context shows that the artifact is a chart.
        problem: why no version could be read; None if there is no problem. Without a version, the newest release is locked.
    """

    reference: Reference
    version: str | None
    where: str
    is_chart: bool = False
    problem: str | None = None


class Aliases:
    """Looks up the aliases of the nearest `bicepconfig.json`, which is the only one that Bicep reads. Each file is read once."""

    def __init__(self) -> None:
        self._known: dict[Path, dict[str, str]] = {}

    def of(self, path: Path) -> dict[str, str]:
        """Return the aliases for a file; empty if it is no Bicep file, or if the configuration cannot be read."""
        return self._in(path.resolve().parent) if path.suffix in (".bicep", ".bicepparam") else {}

    def _in(self, directory: Path) -> dict[str, str]:
        if directory not in self._known:
            try:
                with (directory / CONFIGURATION).open("rb") as file:
                    self._known[directory] = aliases(file.read(MAX_SIZE).decode("utf-8-sig", "replace"))
            except OSError:
                self._known[directory] = self._in(directory.parent) if directory != directory.parent else {}
        return self._known[directory]


def search(texts: Mapping[Path, str], registries: Registries, check: Callable[[], None]) -> Iterator[tuple[Path, Found]]:
    """Find the places in files that are searched together: one file may use a repository that another file defines.

    Args:
        texts: the files and their texts, without a byte order mark.
        check: called repeatedly during the search; it raises when the timeout has passed.
    """
    parts = {path: documents(path, text, check) for path, text in texts.items()}
    others = Sources([one for found in parts.values() for part in found for one in objects(part)])
    known = Aliases()
    for path, text in texts.items():
        for one in find(path, text, Context(check, others, registries, known.of(path)), parts[path]):
            yield path, one


def _key(repository: PurePosixPath | str, reference: Reference) -> tuple[str, str]:
    return str(reference.host), str(repository)


class Adoption:
    """Searches files and collects their references to MAR.

    Args:
        check: called repeatedly during the search; it raises when the timeout has passed.
        registries: the registries whose references are found.

    Attributes:
        found: the references without duplicates, in the order of the files.
    """

    def __init__(self, check: Callable[[], None] = lambda: None, registries: Registries = OFFICIAL) -> None:
        self.found: list[FoundReference] = []
        self._check, self._registries = check, registries
        self._notes: list[str] = []
        self._omitted = 0
        self._known: set[tuple[Reference, str | None]] = set()

    @property
    def notes(self) -> list[str]:
        """Notes on what was skipped, with the reason."""
        return [*self._notes, f"{self._omitted} more notes are not shown"] if self._omitted else list(self._notes)

    def search(self, *paths: Path) -> None:
        """Search files together, see `search`.

        Raises:
            StorageError: a file cannot be read.
        """
        texts = {path: text for path in paths if (text := self._read(path)) is not None}
        for path, one in search(texts, self._registries, self._check):
            self._add(one, f"{path}:{one.line}")

    def _read(self, path: Path) -> str | None:
        try:
            with path.open("rb") as file:
                data = file.read(MAX_SIZE + 1)
        except OSError as error:
            raise storage_error(error, path) from error
        if len(data) > MAX_SIZE:
            self._note(f"skipped `{path}`: it has more than {MAX_SIZE} bytes")
            return None
        return data.decode("utf-8", "replace").removeprefix("\ufeff")

    def _add(self, one: Found, where: str) -> None:
        if isinstance(one, LeftOut):
            self._note(f"{where}: {one.reason}")
            return
        if one.problem is not None:
            self._note(f"{where}: the version of `{one.reference.repository}` could not be read: {one.problem}")
        reference = short(one.reference)
        if (reference, one.range) not in self._known:
            self._known.add((reference, one.range))
            self.found.append(FoundReference(reference, one.range, where, one.is_chart, one.problem))

    def omit_addresses(self) -> None:
        """Remove references that have no version and are a parent path of another reference: they are repository addresses."""
        above = {_key(parent, one.reference) for one in self.found for parent in PurePosixPath(one.reference.repository).parents}
        for one in [one for one in self.found if one.problem is not None and _key(one.reference.repository, one.reference) in above]:
            self.found.remove(one)
            self._note(f"{one.where}: left out `{one.reference}`: it is the path above other artifacts")

    def _note(self, text: str) -> None:
        if len(self._notes) < MAX_NOTES:
            self._notes.append(text)
        else:
            self._omitted += 1


def collect(paths: Iterable[Path], check: Callable[[], None] = lambda: None, registries: Registries = OFFICIAL) -> Adoption:
    """Search files for references to MAR.

    Args:
        check: called repeatedly during the search; it raises when the timeout has passed.
        registries: the registries whose references are found.

    Raises:
        InputError: `usage`: no file has a reference to MAR.
        StorageError: a file cannot be read.
    """
    adoption = Adoption(check, registries)
    names = list(paths)
    adoption.search(*names)
    adoption.omit_addresses()
    if not adoption.found:
        raise InputError(
            f"no reference to a MAR artifact in {', '.join(f'`{path}`' for path in names[:5])}",
            code="usage",
            hint=f"references start with {' or '.join(f'`{host}/`' for host in OFFICIAL_HOSTS)}",
            notes=adoption.notes[:20],
        )
    return adoption
