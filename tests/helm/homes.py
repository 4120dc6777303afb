"""Users of Helm with a home of their own."""

from __future__ import annotations

import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from marfetch.demo.embedded import embedded
from marfetch.layout.layout import Layout

Tool = Callable[[str], Path]
"""The fixture `tool`."""


@dataclass
class Home:
    """A user of Helm with a home of their own, and a registry to ask."""

    helm: Path
    home: Path
    host: str
    data: str
    asked: Counter[str]
    layout: Layout | None = None

    @property
    def major(self) -> int:
        return int(self.helm.name[-1])

    @property
    def plugins(self) -> Path:
        return self.home / "data" / "plugins"

    def environment(self, **more: str) -> dict[str, str]:
        return {
            "PATH": "/usr/local/bin:/usr/bin:/bin",
            "HOME": str(self.home),
            "HELM_DATA_HOME": str(self.home / "data"),
            "HELM_CACHE_HOME": str(self.home / "helm-cache"),
            "HELM_CONFIG_HOME": str(self.home / "config"),
            "MARFETCH_PYTHON": sys.executable,
            "MARFETCH_CACHE_DIR": str(self.home / "cache"),
            "MARFETCH_DATA_HOSTS": self.data,
            **more,
        }

    def run(self, *words: object, code: int = 0, helm: Path | None = None, **more: str) -> subprocess.CompletedProcess[str]:
        line = [str(helm or self.helm), *map(str, words)]
        done = subprocess.run(line, cwd=self.home, env=self.environment(**more), capture_output=True, text=True, timeout=100, check=False)
        assert (done.returncode == 0) is (code == 0), f"{line}\n{done.stdout}{done.stderr}"
        return done

    def install(self, source: Path) -> subprocess.CompletedProcess[str]:
        verify = ["--verify=false"] if self.major == 4 else []
        return self.run("plugin", "install", *verify, f"file://{source}")


@contextmanager
def user(helm: Path, home: Path) -> Iterator[Home]:
    home.mkdir(exist_ok=True)
    with embedded(home / "registry") as running:
        yield Home(helm, home, str(running.host), running.data, running.requests, running.layout)
