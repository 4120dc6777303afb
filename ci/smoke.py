"""Run the main commands of an installed marfetch against its own look-alike of MAR: `python ci/smoke.py PROGRAM…`.

It needs nothing but Python, no network and no shell, so it runs in the same way on Linux, macOS and Windows.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tempfile
import urllib.request
from collections.abc import Sequence
from pathlib import Path

CHART = "application-lb/charts/alb-controller"
PROJECT = f"schema: 1\nartifacts:\n  - {{reference: {CHART}, version: ~1.7, untar: true}}\n"


class Smoke:
    """A program under test, in a directory of its own."""

    def __init__(self, program: Sequence[str], place: Path) -> None:
        self.program = list(program)
        self.place = place
        self.environment = {**os.environ, "MARFETCH_CACHE_DIR": str(place / "cache"), "XDG_STATE_HOME": str(place / "state")}

    def run(self, *words: str, code: int = 0) -> str:
        """Run a command to its end, and return its stdout.

        Raises:
            SystemExit: it ends with another exit code.
        """
        done = subprocess.run([*self.program, *words], cwd=self.place, env=self.environment, capture_output=True, text=True, check=False)
        if done.returncode != code or "Traceback" in done.stderr:
            sys.exit(f"smoke: {' '.join(words)}: exit code {done.returncode}, expected {code}\n{done.stdout}{done.stderr}")
        print(f"ok  {' '.join(words)}", flush=True)
        return done.stdout

    def start(self, *words: str) -> tuple[subprocess.Popen[str], str]:
        """Start a command that serves, and return it with its first line."""
        process = subprocess.Popen([*self.program, *words], cwd=self.place, env=self.environment, stdout=subprocess.PIPE, text=True)
        assert process.stdout is not None
        return process, process.stdout.readline().strip()

    def commands(self) -> None:
        """Run each main command once."""
        here, pinned = self.place, f"{CHART}:1.7.12"
        file = f"{CHART.rpartition('/')[2]}-1.7.12.tgz"
        self.run("version")
        assert self.run("pull", pinned).startswith(f"{file}\t")
        assert json.loads(self.run("pull", pinned, "--json"))["data"]["files"][0]["status"] == "unchanged"
        (here / file).write_text("mine")
        self.run("pull", pinned, code=9)
        self.run("pull", pinned, "--force")
        for reference in (pinned, pinned, f"{CHART}:1.7.9"):  # new, unchanged, replaced
            self.run("pull", reference, "--untar", "--force", "-d", "unpacked")
        self.run("pull", pinned, "-o", "mine.tgz")
        assert (here / "mine.tgz").read_bytes() == (here / file).read_bytes()
        (here / "marfetch.yaml").write_text(PROJECT)
        self.run("lock")
        self.run("sync", "--locked")
        assert (here / "alb-controller" / "Chart.yaml").is_file()
        self.run("sync", "--prune")
        self.run("images", pinned)
        self.run("bundle", "create", "-o", "all.tar")
        self.run("bundle", "verify", "all.tar")
        self.run("bundle", "overlay", "all.tar", "--registry", "registry.example.com/mar")
        self.run("bump", "--check", "marfetch.yaml", code=1)
        self.run("bundle", "load", "all.tar", "--to", "layout")
        self.run("show", "values", pinned)
        self.run("search", "alb")
        self.run("diff", f"{CHART}:1.7.9", pinned, code=1)
        self.serve("all.tar")
        for words in ("info", "verify", "prune --unused-days 0", "clear"):
            self.run("cache", *words.split())
        assert not (here / "cache").exists()
        left = [path.name for path in here.rglob(".marfetch-*")]
        assert left == [], left

    def serve(self, bundle: str) -> None:
        """Serve a bundle, and ask it for a manifest and a blob."""
        process, address = self.start("serve", bundle, "--port", "0")
        try:
            with urllib.request.urlopen(f"{address}/v2/{CHART}/manifests/1.7.12") as answer:
                layer = json.load(answer)["layers"][0]
            with urllib.request.urlopen(f"{address}/v2/{CHART}/blobs/{layer['digest']}") as answer:
                assert len(answer.read()) == layer["size"]
        finally:
            process.terminate()
            process.communicate()
        print("ok  serve", flush=True)


def main(program: Sequence[str]) -> int:
    with tempfile.TemporaryDirectory(prefix="marfetch-smoke-", ignore_cleanup_errors=True) as directory:
        smoke = Smoke(program, Path(directory))
        smoke.run("demo")
        registry, line = smoke.start("demo", "--serve")
        try:
            found = re.findall(r"(MARFETCH_\w+)=(\S+)", line)
            assert found, line
            smoke.environment.update(found)
            smoke.commands()
        finally:
            registry.terminate()
            registry.communicate()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:] or [sys.executable, "-m", "marfetch"]))
