"""Read files of a chart package, and of the packed sub-charts in it, into memory."""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping, Sequence
from typing import Any, BinaryIO, Final, NamedTuple

from ..chart.expected import ExpectedChart, Unpacking
from ..chart.images import FoundImages, find_images, is_packed_subchart, is_searched, is_used
from ..errors import Error, IntegrityError, PolicyError
from ..oci import Descriptor, Digest
from . import packed
from .archive import Archive, Member

MAX_PACKAGES: Final = 500
"""Maximum number of packed sub-charts in a chart, at all depths."""
MAX_NESTING: Final = 8
"""Maximum depth of packed sub-charts."""
MAX_TEXTS: Final = 32 << 20
"""Maximum total size in bytes of the files that are held in memory for one chart."""
MAX_PACKAGE: Final = 32 << 20
"""Maximum size in bytes of one packed sub-chart."""


class ChartFiles(NamedTuple):
    """Files of a chart. Paths are relative to the chart's directory; files of a packed sub-chart are below `charts/NAME.tgz/`.

    Attributes:
        texts: path → content of each file that the caller wants.
        unread: path of each wanted file or packed sub-chart that could not be read → the error.
        paths: the paths of all files, in the order of the package.
    """

    texts: dict[str, bytes]
    unread: dict[str, Error]
    paths: list[str]

    @property
    def reasons(self) -> dict[str, str]:
        """Path of each unread file → the reason."""
        return {path: error.message for path, error in self.unread.items()}

    def images(self, values: Sequence[Mapping[str, Any]] = (), check: Callable[[], None] = lambda: None) -> FoundImages:
        """Return the container images that the chart names (see `find_images`)."""
        return find_images(self.texts, self.reasons, values=values, check=check)


def chart_files(
    blob: BinaryIO,
    descriptor: Descriptor,
    name: str,
    *,
    is_wanted: Callable[[str], bool] = is_used,
    limit: int | None = None,
    is_checked: bool = True,
    check: Callable[[], None] = lambda: None,
) -> ChartFiles:
    """Read the wanted files of a chart and of its packed sub-charts into memory. Links are not followed.

    A sub-chart that is broken or exceeds a limit counts as unread. The other files are still read.

    Args:
        name: the file name of the package, for messages.
        is_wanted: returns whether to read the file with this path. By default, all that templates can use are read.
        limit: maximum total size of the wanted files in bytes, `MAX_TEXTS` by default. The file that exceeds the limit counts as unread.
        is_checked: whether to verify the digest; if False, the caller verifies it.
        check: called regularly; it may raise to cancel.

    Raises:
        IntegrityError, PolicyError: the chart itself is broken or exceeds a limit.
        OSError: the package cannot be read.
    """
    reader = _ChartReader(is_wanted, MAX_TEXTS if limit is None else limit, check)
    return reader.read(blob, descriptor, name, is_checked=is_checked)


def with_subcharts(files: Mapping[str, bytes]) -> ChartFiles:
    """Return the given files of a chart, plus the files of its packed sub-charts."""
    reader, found = _ChartReader(is_used, MAX_TEXTS, lambda: None), ChartFiles(dict(files), {}, list(files))
    for path, raw in files.items():
        if is_packed_subchart(path):
            reader.add(found, path, raw, 1)
    return found


class _ChartReader:
    """Reads a chart. All packed sub-charts together have the same limit on the unpacked size as one chart."""

    def __init__(self, is_wanted: Callable[[str], bool], limit: int, check: Callable[[], None]) -> None:
        self._is_wanted = is_wanted
        self._most = limit
        self._check = check
        self._packages = 0
        self._unpacked = 0
        self._held = 0

    def read(
        self, blob: BinaryIO, descriptor: Descriptor, name: str, *, is_checked: bool = True, above: str = "", depth: int = 0
    ) -> ChartFiles:
        """Read an archive, and prefix its paths with `above`, which is empty or ends with a slash."""
        found = ChartFiles({}, {}, [])
        unpacking = Unpacking(name, ExpectedChart(None))
        left = packed.MAX_CHART - self._unpacked
        with Archive(blob, descriptor, unpacking, is_checked=is_checked, read_limit=left) as archive:
            try:
                for member in archive:
                    self._check()
                    if not member.is_directory:
                        self._take(archive, member, found, above, depth)
            finally:  # the bytes of a broken sub-chart count too
                self._unpacked += archive.unpacked if depth else 0
        return found

    def _take(self, archive: Archive, member: Member, found: ChartFiles, above: str, depth: int) -> None:
        inner = "/".join(node.name for node in member.way)
        path, is_package = above + inner, is_packed_subchart(inner)
        found.paths.append(path)
        if not is_package and not self._is_wanted(path):
            return
        if member.is_link and self._is_wanted is is_used and not is_searched(path):
            return  # Helm reads it as an empty file
        try:
            if member.is_link:
                rule = "links in a package are not followed"
                raise PolicyError(f"cannot read `{path}`: it is a link", code="member-refused", member=path, rule=rule)
            if is_package:
                _limit(path, "bytes in a packed sub-chart", member.size, MAX_PACKAGE)
            else:
                before, self._held = self._held, self._held + member.size
                if before > self._most:
                    return
                _limit(path, "bytes in the files that are read", self._held, self._most)
        except PolicyError as error:
            found.unread[path] = error
            return
        raw = b"".join(archive.pieces())
        if is_package:
            self.add(found, path, raw, depth + 1)
        else:
            found.texts[path] = raw

    def add(self, found: ChartFiles, path: str, raw: bytes, depth: int) -> None:
        """Add the files of a packed sub-chart under its path."""
        try:
            self._packages += 1
            _limit(path, "packed sub-charts", self._packages, MAX_PACKAGES)
            _limit(path, "levels of packed sub-charts", depth, MAX_NESTING)
            descriptor = Descriptor("application/gzip", Digest.of(raw), len(raw))
            below = self.read(io.BytesIO(raw), descriptor, path, is_checked=False, above=f"{path}/", depth=depth)
        except (IntegrityError, PolicyError) as error:
            found.unread[path] = error
        else:
            found.texts.update(below.texts)
            found.unread.update(below.unread)
            found.paths.extend(below.paths)


def _limit(name: str, what: str, count: int, most: int) -> None:
    if count > most:
        raise PolicyError(f"cannot read `{name}`: the chart has more than {most} {what}", code="limit-passed", rule=f"{most} {what}")
