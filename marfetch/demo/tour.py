"""The tour: real commands against the embedded registry, in front of the user. Needs no network and leaves nothing behind."""

from __future__ import annotations

import os
import shlex
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from ..artifact.kinds import HELM_CHART
from ..endpoint import DATA_ENVIRONMENT, ENVIRONMENT
from ..layout.cache import CACHE_ENVIRONMENT
from ..oci import Manifest
from ..reference import Reference
from .embedded import Embedded, embedded

__all__ = ["embedded", "tour"]

CHART = "application-lb/charts/alb-controller"
MODULE = "bicep/avm/res/storage/storage-account"
OTHER = "azure-application-gateway/charts/ingress-azure"


Run = Callable[[Sequence[str]], tuple[int, list[str]]]


def tour(show: Callable[[str], None], run: Run) -> int:
    """Go the whole way.

    Args:
        show: takes the lines that the user sees.
        run: runs a command line as the shell would; gives its exit code and what it said on both streams.

    Returns:
        0 when every step did what it promises, 1 otherwise.
    """
    with tempfile.TemporaryDirectory(prefix="marfetch-demo-", ignore_cleanup_errors=True) as directory:
        root = Path(directory)
        with embedded(root / "registry") as running:
            return _Guide(root, running, show, run).lead()


class _Guide:
    """Leads through the steps, each a command and the exit code that it must have."""

    def __init__(self, root: Path, running: Embedded, show: Callable[[str], None], run: Run) -> None:
        self._root = root
        self._running = running
        self._show = show
        self._run = run
        self._said: set[str] = set()
        self._wrong = 0

    def lead(self) -> int:
        show = self._show
        show("A look-alike of the Microsoft Artifact Registry runs on this machine; no network is needed.")
        with _environment(self._root, self._running):
            self._step("Which versions are there?", "versions", CHART)
            self._step("What does a range mean today? The answer is pinned by its digest.", "resolve", CHART, "--version", "~1.7")
            self._step("Fetch it. Every byte is checked before the file gets its name.", "pull", CHART, "--version", "~1.7")
            self._step("Layers are chosen by media type: a Bicep module.", "pull", MODULE, "--media-type", "*bicep.module.layer*")
            Path("alb-controller-1.7.12.tgz").unlink()
            self._step("A second time the content comes from the cache.", "pull", CHART, "--version", "~1.7")
            self._spoil(OTHER, "1.9.1")
            self._step("Somebody changes one byte in the registry's store:", "pull", OTHER, "--version", "1.9.1", expected=5)
            files = sorted(path.name for path in Path().iterdir())
            show(f"Here are now: {', '.join(files)}. The wrong bytes never got a name.")
            self._expect(files == ["alb-controller-1.7.12.tgz", "storage-account-0.14.0.json"])
        show("")
        show("That was all real but the registry. Next: marfetch versions " + CHART if not self._wrong else "Something went wrong above.")
        return 1 if self._wrong else 0

    def _step(self, why: str, *arguments: str, expected: int = 0) -> None:
        self._show("")
        self._show(why)
        self._show(f"$ marfetch {shlex.join(arguments)}")
        self._running.asked.clear()
        code, lines = self._run(arguments)
        for line in lines:
            # The notice about the endpoint is the same for each command; it is shown once.
            if not line.startswith("warning:") or line not in self._said:
                self._show(f"  {line.expandtabs(2)}")
            self._said.add(line)
        counts = ", ".join(f"{number} for {kind}" for kind, number in sorted(self._running.asked.items())) or "none"
        self._show(f"  (requests: {counts}; exit code {code})")
        self._expect(code == expected)

    def _expect(self, right: bool) -> None:
        if not right:
            self._wrong += 1
            self._show("  this is not what was to come")

    def _spoil(self, repository: str, tag: str) -> None:
        manifest = self._running.layout.manifest(Reference(repository, self._running.host, tag))
        assert isinstance(manifest, Manifest), "the recipe has a chart there"
        chart = next(layer for layer in manifest.layers if layer.media_type == HELM_CHART)
        path = self._running.layout.path(chart.digest)
        data = bytearray(path.read_bytes())
        data[len(data) // 2] ^= 1
        path.write_bytes(data)


@contextmanager
def _environment(root: Path, running: Embedded) -> Iterator[None]:
    """A directory, a cache, a state and an endpoint of the tour's own, so that commands look as they do elsewhere."""
    before = Path.cwd()
    own = {
        CACHE_ENVIRONMENT: str(root / "cache"),
        "XDG_STATE_HOME": str(root / "state"),
        ENVIRONMENT: running.endpoint,
        DATA_ENVIRONMENT: running.data,
    }
    values = {name: os.environ.get(name) for name in own}
    place = root / "here"
    place.mkdir()
    os.environ.update(own)
    os.chdir(place)
    try:
        yield
    finally:
        os.chdir(before)
        for name, value in values.items():
            os.environ.pop(name, None)
            if value is not None:
                os.environ[name] = value
