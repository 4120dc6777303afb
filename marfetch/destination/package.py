"""Read the text files of a chart package into memory, with those of the packed sub-charts in it."""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping
from typing import BinaryIO, Final, NamedTuple

from ..chart.expected import ExpectedChart, Unpacking
from ..chart.images import is_packed_subchart, is_searched
from ..errors import IntegrityError, PolicyError
from ..oci import Descriptor, Digest
from ..tar import BLOCK
from . import packed
from .archive import Archive

MAX_PACKAGES: Final = 500
"""Maximum number of packed sub-charts in a chart, at all depths."""
MAX_NESTING: Final = 8
"""Maximum depth of packed sub-charts."""
MAX_TEXTS: Final = 32 << 20
"""Maximum size in bytes of the text files that are held in memory for one chart."""


class ChartFiles(NamedTuple):
    """The text files of a chart.

    Attributes:
        texts: path below the directory of the chart → content; the files of a packed sub-chart are below `charts/NAME.tgz/`.
        unread: path of a file or packed sub-chart that could not be read → why.
    """

    texts: dict[str, bytes]
    unread: dict[str, str]


def chart_files(
    blob: BinaryIO, descriptor: Descriptor, name: str, *, is_checked: bool = True, check: Callable[[], None] = lambda: None
) -> ChartFiles:
    """Read the text files of a chart and of its packed sub-charts.

    A sub-chart that is broken or exceeds a limit counts as unread; the rest is read.

    Args:
        name: the file name of the package, for messages.
        is_checked: whether to verify the digest; otherwise the caller does.
        check: called regularly; it may raise to cancel.

    Raises:
        IntegrityError, PolicyError: the chart itself is broken or exceeds a limit.
        OSError: it cannot be read.
    """
    return _ChartReader(check).files(blob, descriptor, name, is_checked=is_checked)


def with_subcharts(files: Mapping[str, bytes], check: Callable[[], None] = lambda: None) -> ChartFiles:
    """Add the text files of packed sub-charts to the files of a chart, as `chart_files` does."""
    reader, found = _ChartReader(check), ChartFiles(dict(files), {})
    for path, raw in files.items():
        if is_packed_subchart(path):
            reader.add(found, path, raw, 1)
    return found


class _ChartReader:
    """Reads a chart; all its packed sub-charts together may have the unpacked size of one chart."""

    def __init__(self, check: Callable[[], None]) -> None:
        self._check = check
        self._packages = 0
        self._unpacked = 0
        self._held = 0

    def files(self, blob: BinaryIO, descriptor: Descriptor, name: str, *, is_checked: bool = True, depth: int = 0) -> ChartFiles:
        found = ChartFiles({}, {})
        with Archive(blob, descriptor, Unpacking(name, ExpectedChart(None)), is_checked=is_checked) as archive:
            for member in archive:
                self._check()
                if depth:
                    self._unpacked += BLOCK + member.size
                    self._limit(name, "unpacked bytes of packed sub-charts", self._unpacked, packed.MAX_CHART)
                path = "/".join(node.name for node in member.way)
                if member.is_directory:
                    continue
                if is_packed_subchart(path):
                    self.add(found, path, b"".join(archive.pieces()), depth + 1)
                elif is_searched(path):
                    self._held += member.size
                    if self._held <= MAX_TEXTS:
                        found.texts[path] = b"".join(archive.pieces())
                    elif self._held - member.size <= MAX_TEXTS:
                        found.unread[path] = f"the chart has more than {MAX_TEXTS} bytes of text, so this and all later files are not read"
        return found

    def add(self, found: ChartFiles, path: str, raw: bytes, depth: int) -> None:
        """Add the files of a packed sub-chart under its path."""
        try:
            self._packages += 1
            self._limit(path, "packed sub-charts", self._packages, MAX_PACKAGES)
            self._limit(path, "levels of packed sub-charts", depth, MAX_NESTING)
            descriptor = Descriptor("application/gzip", Digest.of(raw), len(raw))
            below = self.files(io.BytesIO(raw), descriptor, path, is_checked=False, depth=depth)
        except (IntegrityError, PolicyError) as error:
            found.unread[path] = error.message
        else:
            found.texts.update({f"{path}/{name}": content for name, content in below.texts.items()})
            found.unread.update({f"{path}/{name}": reason for name, reason in below.unread.items()})

    def _limit(self, name: str, what: str, count: int, most: int) -> None:
        if count > most:
            raise PolicyError(f"cannot read `{name}`: the chart has more than {most} {what}", code="limit-passed", rule=f"{most} {what}")
