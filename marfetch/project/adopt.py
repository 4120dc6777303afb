"""From what a project has to its first wanted file: references to MAR in charts, helmfiles, Argo CD, Flux, pipelines and scripts.

Documents whose form is known are read by it, since there the name, the registry and the range stand in different places. Everything else
is searched line by line. Container images are passed over: other tools pull them.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

from ..constraint import Constraint
from ..document import Json, parse_yaml
from ..errors import Error, InputError
from ..files import storage_error
from ..reference import OFFICIAL_HOSTS, Reference
from .forms.forms import Forms

MAX_SIZE: Final = 16 << 20
"""Bytes of a file that is searched."""

_HOSTS: Final = "|".join(map(re.escape, OFFICIAL_HOSTS))
_NAMED: Final = re.compile(rf"(?<![\w.@-])(?:(?:oci|mar|https)://|br:)?(?:{_HOSTS})/[^\s\"'`<>()\[\]{{}},;|\\]+", re.IGNORECASE)
_BICEP: Final = re.compile(r"(?<![\w/])br/public:([a-z0-9/_.-]+:[\w.-]+)")
_VERSION: Final = re.compile(r"--version[ =]+(?:\"([^\"]*)\"|'([^']*)'|(\S+))")
_IMAGE: Final = re.compile(
    r"^\s*(?:-\s+)?[\w.-]*image[\w.-]*\s*[:=]|^\s*FROM\s|^\s*(?:-\s+)?container:"
    r"|\b(?:docker|podman|nerdctl|buildah|skopeo|ctr|crictl)\b",
    re.IGNORECASE,
)
_VARIABLE: Final = re.compile(r"[:@]?[$%{].*$")


@dataclass(frozen=True, slots=True)
class FoundReference:
    """One reference that was found.

    Attributes:
        reference: without host where it is that of `mcr.microsoft.com`.
        version: a range; only where the reference has neither tag nor digest.
        where: file and line, or file alone.
        is_chart: whether its place says so.
    """

    reference: Reference
    version: str | None
    where: str
    is_chart: bool = False


class Adoption:
    """Searches files, and keeps what it found and what it could not use.

    Attributes:
        found: in the order in which it was found, each once.
        notes: what was passed over, and why.
    """

    def __init__(self) -> None:
        self.found: list[FoundReference] = []
        self.notes: list[str] = []
        self._known: set[tuple[Reference, str | None]] = set()

    def search(self, path: Path) -> None:
        """Search one file.

        Raises:
            StorageError: it cannot be read.
        """
        try:
            with path.open("rb") as file:
                data = file.read(MAX_SIZE + 1)
        except OSError as error:
            raise storage_error(error, path) from error
        if len(data) > MAX_SIZE:
            self.notes.append(f"`{path}` has more than {MAX_SIZE} bytes and is passed over")
            return
        text = data.decode("utf-8", "replace")
        if path.suffix not in (".yaml", ".yml", ".gotmpl"):
            self._lines(text, str(path), 1)
            return
        line = 1
        documents: list[tuple[int, str, Any]] = []
        for part in re.split(r"(?m)^---(?=\s|$)", text):
            try:
                value: Json = parse_yaml(part.encode(), f"`{path}`", limit=MAX_SIZE)
            except Error:
                value = None
            documents.append((line, part, value))
            line += part.count("\n")
        readers = Forms(self, path, [value for _, _, value in documents])
        for start, part, value in documents:
            if not readers.read(value):
                self._lines(part, str(path), start)

    def chart(self, name: object, repository: object, version: object, where: str) -> None:
        """A chart whose name stands apart from its registry."""
        if not isinstance(name, str) or not isinstance(repository, str):
            return
        base = re.sub(r"^(?:oci|mar|https)://", "", repository.strip(), flags=re.IGNORECASE).rstrip("/")
        if base.partition("/")[0].lower() not in OFFICIAL_HOSTS:
            return
        self.add(f"{base}/{name}", version if isinstance(version, (str, int, float)) else None, where, is_chart=True)

    def add(self, text: str, version: str | float | None, where: str, *, is_chart: bool = False) -> None:
        """A reference as it stands somewhere; what cannot be used is noted."""
        try:
            reference = Reference.parse(text)
        except Error as error:
            self.notes.append(f"{where}: {error.message}")
            return
        wanted = str(version).strip() if version is not None else None
        if reference.tag or reference.digest:
            wanted = None
        elif wanted:
            try:
                Constraint.parse(wanted)
            except Error:
                self.notes.append(
                    f"{where}: `{wanted[:80]}` is no version range, so the newest release of `{reference.repository}` is taken"
                )
                wanted = None
        plain = Reference(reference.repository, None, reference.tag, reference.digest)
        first = reference.repository.partition("/")[0]
        # The official host goes without saying, unless a repository would be taken for a host without it.
        if reference.host is not None and (reference.host.name != OFFICIAL_HOSTS[0] or "." in first or first == "localhost"):
            plain = replace(plain, host=reference.host)
        if (plain, wanted or None) not in self._known:
            self._known.add((plain, wanted or None))
            self.found.append(FoundReference(plain, wanted or None, where, is_chart))

    def _lines(self, text: str, name: str, start: int) -> None:
        for number, line in _joined(text, start):
            where = f"{name}:{number}"
            texts = [match[0] for match in _NAMED.finditer(line)]
            texts += [f"{OFFICIAL_HOSTS[0]}/bicep/{match[1]}" for match in _BICEP.finditer(line)]
            if not texts or line.lstrip().startswith(("#", "//", "<!--")):
                continue
            if _IMAGE.search(line):
                self.notes.append(f"{where}: a container image is passed over")
                continue
            option = _VERSION.search(line)
            version = next((one for one in option.groups() if one), None) if option else None
            for one in texts:
                plain = _VARIABLE.sub("", one).rstrip(".:/")
                if plain != one.rstrip(".:/"):
                    self.notes.append(f"{where}: a variable stands in `{one[:200]}`, so no tag is taken from there")
                if "/" not in plain.removeprefix("https://").removeprefix("oci://").removeprefix("mar://"):
                    self.notes.append(f"{where}: `{one[:200]}` names no repository")
                    continue
                if version is not None and re.search(r"[$%{]", version):
                    self.notes.append(f"{where}: a variable stands for the version of `{plain[:200]}`")
                    version = None
                self.add(plain.removeprefix("br:"), version, where, is_chart=plain.startswith("oci://") and "helm" in line)


def _joined(text: str, start: int) -> Iterator[tuple[int, str]]:
    """Lines, with those that go on in the next one (`\\`, backtick of PowerShell) as one; each with the number of its first."""
    held, first = "", start
    for number, line in enumerate(text.splitlines(), start=start):
        if not held:
            first = number
        stripped = line.rstrip()
        if stripped.endswith(("\\", " `")) and len(held) < 16_384:
            held += stripped[:-1] + " "
            continue
        yield first, held + line
        held = ""
    if held:
        yield first, held


def collect(paths: Iterable[Path]) -> Adoption:
    """Search files.

    Raises:
        InputError: `usage`: nothing of MAR is in any of them.
        StorageError: one cannot be read.
    """
    adoption = Adoption()
    names = list(paths)
    for path in names:
        adoption.search(path)
    if not adoption.found:
        raise InputError(
            f"no reference to an artifact of MAR is in {', '.join(f'`{path}`' for path in names[:5])}",
            code="usage",
            hint=f"references are looked for behind {' and '.join(f'`{host}/`' for host in OFFICIAL_HOSTS)}",
            notes=adoption.notes[:20],
        )
    return adoption
