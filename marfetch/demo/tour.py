"""The guided tour. It runs real commands against the embedded registry, needs no network, and leaves no files."""

from __future__ import annotations

import os
import shlex
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from ..artifact.kinds import HELM_CHART
from ..endpoint import DATA_ENVIRONMENT, ENVIRONMENT
from ..layout.cache import CACHE_ENVIRONMENT
from ..oci import Manifest
from ..reference import Reference
from .embedded import Embedded, embedded

__all__ = ["embedded", "tour"]

CHART = "application-lb/charts/alb-controller"
MODULE = "bicep/avm/res/storage/storage-account"
CORRUPTED = "azure-application-gateway/charts/ingress-azure"

_STEPS: Final = 6
_NEXT: Final = (
    (f"versions {CHART}", "The same list, from MAR itself"),
    ("demo --serve", "This registry, for use from another terminal"),
    ("pull --help", "All options, with examples"),
)
"""Commands to try after the tour, with what each shows."""

Run = Callable[[Sequence[str]], tuple[int, list[str]]]


def tour(show: Callable[[str], None], run: Run) -> int:
    """Run the tour.

    Args:
        show: prints a line.
        run: runs marfetch with arguments, and returns the exit code and the lines of stdout and stderr.

    Returns:
        0 if every step had the expected result, otherwise 1.
    """
    with tempfile.TemporaryDirectory(prefix="marfetch-demo-", ignore_cleanup_errors=True) as directory:
        root = Path(directory)
        with embedded(root / "registry") as running:
            return _Tour(root, running, show, run).run_steps()


class _Tour:
    """Runs the steps of the tour. Each step is a command with an expected exit code."""

    def __init__(self, root: Path, running: Embedded, show: Callable[[str], None], run: Run) -> None:
        self._root = root
        self._running = running
        self._show = show
        self._run = run
        self._program = _program()
        self._number = 0
        self._failures = 0

    def run_steps(self) -> int:
        show = self._show
        show("A look-alike of the Microsoft Artifact Registry (MAR) runs on this machine.")
        show("It needs no network, and its content is invented. Each command warns that")
        show("this registry is not an official endpoint; the tour hides these warnings.")
        with _environment(self._root, self._running):
            self._step("List the versions of a chart", "Newest first, with the tag of each version.", "versions", CHART)
            self._step(
                "Resolve a version range",
                "The newest version in the range, pinned by digest, so that it never changes.",
                "resolve",
                CHART,
                "--version",
                "~1.7",
            )
            self._step("Download the chart", "Every byte is checked before the file gets its name.", "pull", CHART, "--version", "~1.7")
            self._step(
                "Download a Bicep module",
                "MAR has more than charts: layers are chosen by media type.",
                "pull",
                MODULE,
                "--media-type",
                "*bicep.module.layer*",
            )
            Path("alb-controller-1.7.12.tgz").unlink()
            self._step(
                "Download the chart again",
                "The file was deleted. Its content comes from the cache: no blob is requested.",
                "pull",
                CHART,
                "--version",
                "~1.7",
            )
            self._corrupt(CORRUPTED, "1.9.1")
            self._step(
                "Download altered content",
                "One byte in the registry was changed. The download fails and leaves no file.",
                "pull",
                CORRUPTED,
                "--version",
                "1.9.1",
                expected=5,
            )
            files = sorted(path.name for path in Path().iterdir())
            show(f"Files in this directory: {', '.join(files)}")
            self._expect(files == ["alb-controller-1.7.12.tgz", "storage-account-0.14.0.json"])
        show("")
        if self._failures:
            show("A step failed, see above.")
            return 1
        show("Three things to try:")
        for command, why in _NEXT:
            show(f"  # {why}")
            show(f"  {self._program} {command}")
        return 0

    def _step(self, title: str, shows: str, *arguments: str, expected: int = 0) -> None:
        self._number += 1
        self._show("")
        self._show(f"[{self._number}/{_STEPS}] {title}")
        self._show(f"$ marfetch {shlex.join(arguments)}")
        self._running.requests.clear()
        code, lines = self._run(arguments)
        for line in lines:
            if not line.startswith("warning:"):
                self._show(f"  {line}")
        counts = ", ".join(f"{number} for {kind}" for kind, number in sorted(self._running.requests.items())) or "none"
        self._show(f"  (requests: {counts}; exit code {code})")
        self._show(shows)
        self._expect(code == expected)

    def _expect(self, correct: bool) -> None:
        if not correct:
            self._failures += 1
            self._show("  unexpected result")

    def _corrupt(self, repository: str, tag: str) -> None:
        manifest = self._running.layout.manifest(Reference(repository, self._running.host, tag))
        assert isinstance(manifest, Manifest), "the recipe has a chart under this tag"
        chart = next(layer for layer in manifest.layers if layer.media_type == HELM_CHART)
        path = self._running.layout.path(chart.digest)
        data = bytearray(path.read_bytes())
        data[len(data) // 2] ^= 1
        path.write_bytes(data)


def _program() -> str:
    """Return the command that runs marfetch from the current directory: its name if it is on the `PATH`, otherwise its path."""
    if shutil.which("marfetch"):
        return "marfetch"
    script = Path(sys.executable).with_name("marfetch")
    if not script.is_file():
        return shlex.join([sys.executable, "-m", "marfetch"])
    here = Path.cwd()
    return shlex.quote(str(script.relative_to(here) if script.is_relative_to(here) else script))


@contextmanager
def _environment(root: Path, running: Embedded) -> Iterator[None]:
    """Set up a directory, a cache, a state directory and the endpoint for the tour, so that its commands need no options."""
    previous = Path.cwd()
    own = {
        CACHE_ENVIRONMENT: str(root / "cache"),
        "XDG_STATE_HOME": str(root / "state"),
        ENVIRONMENT: running.endpoint,
        DATA_ENVIRONMENT: running.data,
        # The tour indents the output of its commands by two columns, so the lines must be shorter. Colors are turned off.
        "NO_COLOR": "1",
        "COLUMNS": str(max(40, shutil.get_terminal_size().columns - 2)),
    }
    values = {name: os.environ.get(name) for name in own}
    directory = root / "here"
    directory.mkdir()
    os.environ.update(own)
    os.chdir(directory)
    try:
        yield
    finally:
        os.chdir(previous)
        for name, value in values.items():
            os.environ.pop(name, None)
            if value is not None:
                os.environ[name] = value
