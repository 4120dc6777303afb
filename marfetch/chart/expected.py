"""Check that an archive contains the requested chart."""

from __future__ import annotations

import re
from typing import Final, NamedTuple

from ..constraint import read_version
from ..document import Json, parse_yaml
from ..errors import IntegrityError, PolicyError

CHART_FILE: Final = "Chart.yaml"
"""The metadata file of a chart (Helm, "The Chart.yaml File")."""


class ExpectedChart(NamedTuple):
    """The requested chart.

    Attributes:
        name: the requested name; None: any chart. The chart's directory, in the archive or on disk, may have another name.
        tag: the requested version; None: any version.
        is_named: whether the manifest states the name; otherwise the chart may have any name that Helm accepts.
    """

    name: str | None
    tag: str | None = None
    is_named: bool = True

    def check(self, raw: bytes, archive: str) -> None:
        """Check the `Chart.yaml` of an archive.

        Args:
            raw: the content of `Chart.yaml`.
            archive: the name of the archive, for messages.

        Raises:
            PolicyError: `chart-refused`: the archive contains another chart or another version.
            IntegrityError: `malformed`: `Chart.yaml` cannot be parsed or is not a mapping.
        """
        if self.name is None and self.tag is None:
            return
        what = f"`{CHART_FILE}` of `{archive}`"
        document = parse_yaml(raw, what)
        if not isinstance(document, dict):
            raise IntegrityError(f"{what} is malformed: it is not a mapping", code="malformed", what=what, archive=archive)
        for name, wanted, is_it in (("name", self.name, self._is_name), ("version", self.tag, self._is_version)):
            found = document.get(name)
            if not is_it(found):
                told = "which Helm does not accept" if name == "name" and not self.is_named else f"not `{wanted}`"
                raise PolicyError(
                    f"{what} has the {name} `{str(found)[:120]}`, {told}",
                    code="chart-refused",
                    archive=archive,
                    expected=wanted,
                    actual=str(found)[:300],
                    rule=f"the {name} in `{CHART_FILE}` is the requested one",
                )

    def _is_name(self, found: Json) -> bool:
        if self.name is None or self.is_named:
            return self.name is None or found == self.name
        return isinstance(found, str) and found not in ("", ".", "..") and not re.search(r"[/\\]", found)

    def _is_version(self, found: Json) -> bool:
        """Return whether a version equals that of the tag. Build metadata is compared only if both have it (SemVer 2.0.0, clause 10)."""
        wanted = read_version(self.tag) if self.tag is not None else None
        if wanted is None:
            return True
        version = read_version(found) if isinstance(found, str) else None
        if version is None or version.key != wanted.key:
            return False
        return None in (version.build, wanted.build) or version.build == wanted.build


class Unpacking(NamedTuple):
    """How to unpack a payload to a directory.

    Attributes:
        archive: the file name of the archive, for messages.
        chart: the chart that the archive must contain; None: any content.
        top: the top-level directory that every path in the archive starts with. It becomes the target directory. None: no such directory.
            Not used for charts.
        is_stripped: whether to drop the top-level directory if there is only one. Not used for charts.
    """

    archive: str
    chart: ExpectedChart | None = None
    top: str | None = None
    is_stripped: bool = False
