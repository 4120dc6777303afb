"""A look-alike of MAR under MAR's host names, reached through a proxy, and functions that record and replay there."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any, NamedTuple

from ..world.command import line, surroundings
from ..world.proxy import Proxy
from ..world.registry import Registry

ASKER = Path(__file__).parent / "asker.py"
CHART = "application-lb/charts/alb-controller"


class Scene(NamedTuple):
    """A registry, the proxy that leads to it, and the directory of the test."""

    mar: Registry
    proxy: Proxy
    place: Path
    ca_file: str
    module: str = "marfetch"

    def environment(self, **more: str) -> dict[str, str]:
        """The environment of the caller."""
        cache = more.pop("cache", str(self.place / "cache"))
        proxy = f"http://user:secret@127.0.0.1:{self.proxy.port}"
        return surroundings(cache=Path(cache), HTTPS_PROXY=proxy, SSL_CERT_FILE=self.ca_file) | more

    def run(self, *words: object, **more: str) -> subprocess.CompletedProcess[str]:
        """Run marfetch to its end."""
        return subprocess.run(
            line(*words, module=self.module),
            cwd=self.place,
            env=self.environment(**more),
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )

    def record(
        self, *command: object, options: tuple[object, ...] = (), output: str = "x.tar", **more: str
    ) -> subprocess.CompletedProcess[str]:
        return self.run("record", "-o", output, *options, "--", *command, **more)

    def replay(
        self, *command: object, options: tuple[object, ...] = (), file: str = "x.tar", **more: str
    ) -> subprocess.CompletedProcess[str]:
        """Replay without a network: the caller's proxy cannot be reached."""
        environment = {"HTTPS_PROXY": "http://127.0.0.1:9", **more}
        return subprocess.run(
            line("replay", *options, file, "--", *command, module=self.module),
            cwd=self.place,
            env={**self.environment(), **environment},
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )

    def document(self, file: str = "x.tar") -> dict[str, Any]:
        """The answers in a recording."""
        done = subprocess.run(["tar", "-xOf", file, "recording.json"], cwd=self.place, capture_output=True, check=True)
        found: dict[str, Any] = json.loads(done.stdout)
        return found


def asking(*requests: object) -> list[object]:
    """A command that sends these requests."""
    return [sys.executable, str(ASKER), json.dumps(requests)]


def answers(done: subprocess.CompletedProcess[str]) -> list[Any]:
    """What `asking` printed."""
    found: list[Any] = json.loads(done.stdout)
    return found
