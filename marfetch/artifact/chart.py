"""Which chart an archive must hold to be the one that was asked for."""

from __future__ import annotations

from typing import Final, NamedTuple

from ..constraint import read_version
from ..document import Json, parse_yaml
from ..errors import IntegrityError, PolicyError

CHART_FILE: Final = "Chart.yaml"
"""What makes a directory a chart, and names it (Helm, "The Chart.yaml File")."""


class ExpectedChart(NamedTuple):
    """The chart that was asked for.

    Attributes:
        name: of the chart. The one directory in its archive may have another one, and so may the directory that it becomes.
        tag: where it is a version, the chart has that version; None: any.
    """

    name: str
    tag: str | None = None

    def check(self, raw: bytes, archive: str) -> None:
        """Compare with the `Chart.yaml` of an archive.

        Args:
            raw: its bytes.
            archive: the name of the archive, for messages.

        Raises:
            PolicyError: `chart-refused`: it is another chart, or another version.
            IntegrityError: `malformed`.
        """
        what = f"`{CHART_FILE}` of `{archive}`"
        document = parse_yaml(raw, what)
        if not isinstance(document, dict):
            raise IntegrityError(f"{what} is malformed: it is no mapping", code="malformed", what=what, archive=archive)
        for name, wanted, is_it in (("name", self.name, self._is_name), ("version", self.tag, self._is_version)):
            found = document.get(name)
            if not is_it(found):
                raise PolicyError(
                    f"{what} says the {name} `{str(found)[:120]}`, not `{wanted}`",
                    code="chart-refused",
                    archive=archive,
                    expected=wanted,
                    actual=str(found)[:300],
                    rule=f"the {name} in `{CHART_FILE}` is the one that was asked for",
                )

    def _is_name(self, found: Json) -> bool:
        return found == self.name

    def _is_version(self, found: Json) -> bool:
        """Whether it is the version of the tag; build metadata counts where both have some (SemVer 2.0.0, clause 10)."""
        wanted = read_version(self.tag) if self.tag is not None else None
        if wanted is None:
            return True
        version = read_version(found) if isinstance(found, str) else None
        if version is None or version.key != wanted.key:
            return False
        return None in (version.version.build, wanted.version.build) or version.version.build == wanted.version.build


class Unpacking(NamedTuple):
    """How a payload becomes a directory.

    Attributes:
        archive: the file name that it would have, for messages.
        chart: what the archive must hold; None: whatever it likes.
        top: of what is no chart, the one directory that everything is in, which becomes the directory itself; None: there is none.
        is_stripped: of what is no chart, whether the one directory that everything is in is left out, whatever its name.
    """

    archive: str
    chart: ExpectedChart | None = None
    top: str | None = None
    is_stripped: bool = False
