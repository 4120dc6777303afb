"""Find references to MAR in charts, helmfiles, Argo CD, Flux, pipelines and scripts, for a first project file.

Known document types are parsed, because they keep the name, the registry and the range in separate fields. All other files are searched
line by line. Container images are skipped: other tools pull them.
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
"""Bytes; a larger file is skipped."""

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
    """A reference to an artifact, found in a file.

    Attributes:
        reference: without a host if the host is `mcr.microsoft.com`.
        version: a range; None if the reference has a tag or digest.
        where: the file and the line, or only the file.
        is_chart: whether the context shows that it is a chart.
    """

    reference: Reference
    version: str | None
    where: str
    is_chart: bool = False


class Adoption:
    """Collects the references of the files that it searches.

    Attributes:
        found: the references, without duplicates, in the order of the files.
        notes: what was skipped, and why.
    """

    def __init__(self) -> None:
        self.found: list[FoundReference] = []
        self.notes: list[str] = []
        self._known: set[tuple[Reference, str | None]] = set()

    def search(self, path: Path) -> None:
        """Search one file.

        Raises:
            StorageError: the file cannot be read.
        """
        try:
            with path.open("rb") as file:
                data = file.read(MAX_SIZE + 1)
        except OSError as error:
            raise storage_error(error, path) from error
        if len(data) > MAX_SIZE:
            self.notes.append(f"skipped `{path}`: it has more than {MAX_SIZE} bytes")
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
        """Add a chart whose name and registry are separate fields."""
        if not isinstance(name, str) or not isinstance(repository, str):
            return
        base = re.sub(r"^(?:oci|mar|https)://", "", repository.strip(), flags=re.IGNORECASE).rstrip("/")
        if base.partition("/")[0].lower() not in OFFICIAL_HOSTS:
            return
        self.add(f"{base}/{name}", version if isinstance(version, (str, int, float)) else None, where, is_chart=True)

    def add(self, text: str, version: str | float | None, where: str, *, is_chart: bool = False) -> None:
        """Add a reference, or a note if it cannot be parsed."""
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
                    f"{where}: `{wanted[:80]}` is not a version range, so the newest release of `{reference.repository}` is used"
                )
                wanted = None
        plain = Reference(reference.repository, None, reference.tag, reference.digest)
        first = reference.repository.partition("/")[0]
        # Omit the default host, unless the first part of the repository would then be read as a host.
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
                self.notes.append(f"{where}: skipped a container image")
                continue
            option = _VERSION.search(line)
            version = next((one for one in option.groups() if one), None) if option else None
            for one in texts:
                plain = _VARIABLE.sub("", one).rstrip(".:/")
                if plain != one.rstrip(".:/"):
                    self.notes.append(f"{where}: `{one[:200]}` contains a variable, so its tag is ignored")
                if "/" not in plain.removeprefix("https://").removeprefix("oci://").removeprefix("mar://"):
                    self.notes.append(f"{where}: `{one[:200]}` has no repository")
                    continue
                if version is not None and re.search(r"[$%{]", version):
                    self.notes.append(f"{where}: the version of `{plain[:200]}` is a variable, so it is ignored")
                    version = None
                self.add(plain.removeprefix("br:"), version, where, is_chart=plain.startswith("oci://") and "helm" in line)


def _joined(text: str, start: int) -> Iterator[tuple[int, str]]:
    """Yield the number of each line and its text; continued lines (ending in `\\` or PowerShell's backtick) are joined."""
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
    """Search files for references to MAR.

    Raises:
        InputError: `usage`: no file has a reference to MAR.
        StorageError: a file cannot be read.
    """
    adoption = Adoption()
    names = list(paths)
    for path in names:
        adoption.search(path)
    if not adoption.found:
        raise InputError(
            f"no reference to a MAR artifact in {', '.join(f'`{path}`' for path in names[:5])}",
            code="usage",
            hint=f"references start with {' or '.join(f'`{host}/`' for host in OFFICIAL_HOSTS)}",
            notes=adoption.notes[:20],
        )
    return adoption
